"""The toy experiment from images to tables, and what reruns after which change."""

from __future__ import annotations

import os
import shutil
import time

import pytest

from espalier.files import read_table

TARGET = "results/tables/rf.csv"


@pytest.fixture
def copy(finished, tmp_path):
    """A copy of the finished experiment with its time stamps, to be changed."""
    folder = tmp_path / "copy"
    shutil.copytree(finished.folder, folder, symlinks=True)
    duplicate = object.__new__(type(finished))
    duplicate.folder = folder
    return duplicate


def test_every_tree_has_its_row(finished, toy_settings):
    rf = read_table(finished.path(TARGET))
    networks = rf[["pruner", "sparsity", "seed", "checkpoint"]].drop_duplicates()
    # Two seeds: three checkpoints of the dense network and one pruned network each.
    assert len(networks) == 2 * (3 + 1)
    assert set(toy_settings["detectors"]) <= set(rf["detector"])
    if "nested_sbm" in toy_settings["detectors"]:
        counts = rf[rf["detector"] == "nested_sbm"].groupby(
            ["pruner", "sparsity", "seed", "checkpoint"]
        )
        assert set(counts.size()) == {2}
        shuffled = rf[rf["detector"] == "nested_sbm_shuffled"]
        assert set(shuffled["checkpoint"]) == {2} and set(shuffled["seed"]) == {0, 1}
    assert rf["test_accuracy"].between(0, 1).all()
    converged = rf[(rf["pruner"] == "dense") & (rf["checkpoint"] == 2)]
    assert (converged["test_accuracy"] > 0.2).all(), "two epochs on the digits beat a guess"
    assert (rf["rf_rooted"] == rf["false_positives_rooted"] + rf["false_negatives_rooted"]).all()
    assert rf["rf_rooted_p"].between(0, 1, inclusive="right").all()
    assert rf.attrs["provenance"]["seed"] == [0, 1]


def test_pruned_units_have_left_the_graph(finished):
    rf = read_table(finished.path(TARGET))
    nodes = rf.groupby("pruner")["nodes"].unique()
    # Width 0.25: 8 + 16 + 16 + 8 hidden units and 10 outputs; half of each layer is removed.
    assert nodes["dense"].tolist() == [58]
    assert nodes["group_magnitude"].tolist() == [34]


def test_the_summary_has_one_row_per_network_and_detector(finished, toy_settings):
    summary = read_table(finished.path("results/tables/rf_summary.csv"))
    detectors = len(toy_settings["detectors"])
    shuffled = int(toy_settings.get("shuffled", True))
    assert len(summary) == 2 * detectors + shuffled
    assert (summary["seeds"] == 2).all()


def test_a_second_run_does_nothing(finished):
    assert not finished.jobs(TARGET)


def test_touching_every_file_reruns_nothing(copy):
    later = time.time() + 60
    for part in ("workflow", "src", "config", "Snakefile"):
        paths = [copy.path(part), *copy.path(part).rglob("*")] if part != "Snakefile" else []
        for path in paths:
            os.utime(path, (later, later))
    assert not copy.jobs(TARGET)


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_docstring_reruns_nothing(copy):
    path = copy.path("src/espalier/pruning/group_magnitude.py")
    edit(path, '"""Group magnitude: remove', '"""Group magnitude: take away')
    assert not copy.jobs(TARGET)


def test_editing_the_pruner_reruns_its_masks_and_what_follows(copy, toy_settings):
    edit(
        copy.path("src/espalier/pruning/group_magnitude.py"),
        "incoming + outgoing",
        "outgoing + incoming",
    )
    expected = {
        "prune_networks": 2,
        "finetune_pruned": 2,
        "build_pruned_graphs": 2,
        "detect_pruned_hierarchies": 2 * (len(toy_settings["detectors"]) - 1),
        "compare_hierarchies": 2,
        "tabulate_rf": 1,
    }
    if "nested_sbm" in toy_settings["detectors"]:
        expected["fit_pruned_block_models"] = 2
    else:
        expected["detect_pruned_hierarchies"] += 2
    assert copy.jobs(TARGET) == expected


def test_editing_a_distance_reruns_no_network(copy):
    edit(
        copy.path("src/espalier/hierarchy/tree_pairs.py"), "_ROUNDING = 1e-12", "_ROUNDING = 2e-12"
    )
    assert set(copy.jobs(TARGET)) == {"compute_baselines", "compare_hierarchies", "tabulate_rf"}


def test_a_new_seed_reruns_only_what_gathers(copy, toy_settings):
    copy.write_config({**toy_settings, "seeds": [0, 1, 2]})
    jobs = copy.jobs(TARGET)
    assert jobs["train_dense"] == jobs["train_regularised"] == 1
    assert jobs["compare_hierarchies"] == 2 and jobs["tabulate_rf"] == 1


def test_one_core_gives_the_same_bytes_as_two(finished, fresh):
    fresh.run("--cores", "1", TARGET)
    assert fresh.path(TARGET).read_bytes() == finished.path(TARGET).read_bytes()


def test_the_full_design_is_planned_in_seconds(root, fresh):
    experiment = str(root / "config/experiments/class_hierarchies.yaml")
    started = time.monotonic()
    output = fresh.run("-n", "--quiet", "rules", "--configfile", experiment)
    seconds = time.monotonic() - started
    total = next(line for line in output.splitlines() if line.startswith("total"))
    assert int(total.split()[1]) < 3000
    assert "fit_block_models" in output
    print(f"{total}, {seconds:.1f} s")
