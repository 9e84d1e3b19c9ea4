"""The stages of the workflow on small networks, and their tables."""

from __future__ import annotations

import json

import numpy as np
import pytest

from espalier.errors import DataError
from espalier.files import read_json, read_npz, read_table
from espalier.sculpting.function_families import published_function
from espalier.sculpting.module_graph import module_hierarchy
from espalier.sculpting.modules import detect_modules
from espalier.sculpting.pruning import Grid
from espalier.sculpting.stages import (
    detect_sculpted_modules,
    export_hierarchy,
    graph_of,
    pruning_grid,
    sculpt_networks,
    separable_groups,
    structure_rows,
)
from espalier.sculpting.success import trial_successes
from espalier.sculpting.tables import (
    criterion_rows,
    trial_rows,
    write_module_tables,
)
from espalier.sculpting.trials import modules_of_trial, read_networks

RECIPE = {
    "learning_rate": 0.05,
    "batch_size": 8,
    "epochs": 20,
    "weight_decay": 1e-4,
    "input_noise": None,
    "accuracy_threshold": None,
    "checkpoint_loss": "published",
}
OPTIONS = {
    "seeds": [0, 1],
    "unit_steps": [40],
    "edge_steps": [2.5],
    "control": "none",
    "rules": "implemented",
    "engine": "edges",
    "images_per_pair": 5,
}


def run(folder, function="4-2-4", hidden=(8, 8), recipe=None, variant="sculpted", **options):
    """Return the files of one job of each stage: networks, record, modules."""
    folder.mkdir(exist_ok=True)
    files = [folder / name for name in ("networks.npz", "record.json", "modules.json")]
    sculpt_networks(
        *files[:2], variant, function, hidden, {**RECIPE, **(recipe or {})},
        {**OPTIONS, **options}, [], "cpu", "code",
    )  # fmt: skip
    detect_sculpted_modules(*files, function, 3, "code")
    return files


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return run(tmp_path_factory.mktemp("stages") / "all")


def test_networks_are_stored_whole(files):
    networks, facts = read_networks(files[0])
    record = read_json(files[1])
    assert facts["widths"] == [4, 8, 8, 4] and list(networks) == [0, 1]
    inputs, targets = published_function("4-2-4").truth_table
    for trial in record["trials"]:
        network, dense = networks[trial["seed"]]
        assert network.density == trial["density"] < 1
        assert [matrix.shape for matrix in dense] == [(8, 4), (8, 8), (4, 8)]
        assert all((matrix != 0).all() for matrix in dense)
        values = inputs.T.astype(np.float32)
        layers = zip(network.weight_matrices(), network.bias_vectors(), strict=True)
        for k, (weights, biases) in enumerate(layers):
            values = weights @ (values if k == 0 else values.clip(min=0)) + biases[:, None]
        assert ((values.T > 0) == targets).mean() == trial["accuracy"] == 1
        assert trial["density"] == min(pair["density"] for pair in trial["pairs"])


def test_modules_are_judged(files):
    record = read_json(files[2])
    for trial in record["trials"]:
        modules, _ = modules_of_trial(files[0], trial["seed"])
        assert trial["modules"] == modules.num_modules
        judged = {success["criterion"]: success["success"] for success in trial["successes"]}
        assert judged == {s.criterion: s.success for s in trial_successes("4-2-4", modules)}
        names = [node["name"] for node in trial["hierarchy"]["nodes"]]
        assert names == [node.name for node in module_hierarchy(modules).nodes]
        held = trial["subfunctions"]
        outcomes = [name for key in ("found", "merged", "split", "missed") for name in held[key]]
        assert sorted([*outcomes, *held["split and merged"]]) == ["first", "second"]
        assert trial["null"]["n"] == 3 and 0 <= trial["null"]["moved"] <= 1
    with pytest.raises(DataError, match="no trial of seed 7; it has 0, 1"):
        modules_of_trial(files[0], 7)


def test_the_hierarchy_is_exported(files, tmp_path):
    export_hierarchy(files[0], 1, tmp_path / "modules.graphml")
    text = (tmp_path / "modules.graphml").read_text()
    modules, _ = modules_of_trial(files[0], 1)
    assert text.count("<node ") == modules.num_modules


def test_equal_jobs_write_equal_networks(files, tmp_path):
    again = run(tmp_path / "again")
    assert again[0].read_bytes() == files[0].read_bytes()
    first, second = (read_json(paths[2]) for paths in (files, again))
    for record in (first, second):
        for key in ("seconds", "sculpting_seconds", "sculpting_cpu_seconds"):
            assert record.pop(key) >= 0
    assert json.dumps(first) == json.dumps(second)


def test_what_is_never_reached_is_marked_and_dense(tmp_path):
    hopeless = run(tmp_path / "hopeless", recipe={"epochs": 1}, hidden=(2,), seeds=[3])
    record = read_json(hopeless[2])
    row = trial_rows(record)[0]
    assert not row["reached"] and row["density"] == 1 and row["p_u"] is None
    assert record["trials"][0]["null"] is None and record["stability"] is None


def test_controls(tmp_path):
    edges = read_json(run(tmp_path / "edges", control="edge-only", seeds=[0])[2])
    row = trial_rows(edges)[0]
    assert row["p_u"] is None and row["p_e"] == 2.5 and row["density"] < 1
    networks = {part["network"] for part in edges["trials"][0]["structure"]}
    assert networks == {"dense", "edge-pruned"}
    dense = trial_rows(read_json(run(tmp_path / "dense", control="dense", seeds=[0])[2]))[0]
    assert dense["density"] == 1 and dense["p_e"] is None


def test_tables(files, tmp_path):
    names = ("modules", "success", "compared", "recipes", "densities", "structure", "stability",
             "null")  # fmt: skip
    paths = [tmp_path / f"{name}.csv" for name in names]
    write_module_tables([files[2]], *paths, {}, "code")
    tables = {name: read_table(path) for name, path in zip(names, paths, strict=True)}
    trials = tables["modules"]
    assert trials["seed"].tolist() == [0, 1] and (trials["family"] == "validation").all()
    assert tables["success"]["successes"].tolist() == [int(trials["hierarchy"].sum())]
    assert tables["compared"]["published_trials"].tolist() == [12]
    assert tables["recipes"]["trials"].tolist() == [2]
    assert tables["densities"]["density_mean"][0] == pytest.approx(100 * trials["density"].mean())
    assert tables["stability"]["networks"].tolist() == [2] and len(tables["null"]) == 2
    structure = tables["structure"]
    assert set(structure["statistic"]) == {
        "welch_t", "welch_p", "separable", "n90", "n90_published",
    }  # fmt: skip
    assert (structure.groupby(["seed", "network"]).size() == 2 + 2 + 1 + 2 + 2).all()


# -- small parts ---------------------------------------------------------------------------------


def test_groups_to_separate():
    assert separable_groups(published_function("4-2-4"), [4, 8, 4]) == [
        ([0, 1], [0, 1]),
        ([2, 3], [2, 3]),
    ]
    separable = separable_groups(published_function("8-2-4"), [8, 8, 4])
    assert separable == [([0, 1, 2, 3], [0, 2]), ([4, 5, 6, 7], [1, 3])]
    for name in ("4-1-2-16", "6-3-3-3", "4-1-4"):
        assert separable_groups(published_function(name), [4, 8, 4]) == []
    digits = separable_groups(None, [128, 8, 20])
    assert [len(inputs) for inputs, _ in digits] == [64, 64] and digits[1][1][0] == 10
    assert separable_groups(None, [128, 8, 3]) == []


def test_rows_of_structure():
    apart = [np.kron(np.eye(2), np.ones((2, 2))), np.kron(np.eye(2), np.ones((2, 2)))]
    rows = structure_rows("dense", apart, [([0, 1], [0, 1]), ([2, 3], [2, 3])])
    values = {(row["statistic"], row["part"]): row["value"] for row in rows}
    assert values["separable", 0] == 1 and values["welch_p", 2] == 0
    assert values["n90", 1] == 4 and {row["network"] for row in rows} == {"dense"}
    mixed = structure_rows("dense", [np.ones((4, 4))] * 2, [([0, 1], [0, 1]), ([2, 3], [2, 3])])
    assert {row["value"] for row in mixed if row["statistic"] == "separable"} == {0.0}
    assert {row["statistic"] for row in structure_rows("dense", apart, [])} == {
        "n90",
        "n90_published",
    }


def test_steps_left_out_are_the_published_ones():
    assert pruning_grid([], [], None) == Grid()
    assert pruning_grid([], [], "edge-only").edge_steps[-1] == 5
    assert pruning_grid([30], [1, 2], None) == Grid((30,), (1, 2))


def test_functions_have_graphs_and_digits_have_none(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("inputs: 2\noutputs:\n  y: {and: [x1, x2]}\n")
    assert graph_of("4-2-4") is published_function("4-2-4")
    assert graph_of(str(own)).name == "own" and graph_of("two-digits-mnist") is None


def test_digits_from_pool_to_table(tmp_path):
    stored = run(
        tmp_path / "digits", "two-digits-digits", (6,), variant="digits", seeds=[0],
        recipe={"epochs": 1, "batch_size": 100, "learning_rate": 0.01, "accuracy_threshold": 0.5},
        edge_steps=[50.0],
    )  # fmt: skip
    record = read_json(stored[2])
    row = trial_rows(record)[0]
    assert row["family"] == "digits" and row["reached"] and row["accuracy"] >= 0.5
    assert row["found"] == "" and row["exact"] is None
    judged = {entry["criterion"] for entry in criterion_rows(record)}
    assert judged == {"hierarchy", "inputs", "outputs"}
    facts = read_npz(stored[0])[1]
    assert (facts["modularity_threshold"], facts["merge_threshold"]) == (0.3, 0.6)
    modules, _ = modules_of_trial(stored[0], 0)
    network = read_networks(stored[0])[0][0][0]
    assert modules.num_modules == detect_modules(network.masks(), 0.3, 0.6).num_modules
