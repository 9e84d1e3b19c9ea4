"""The hub study from images to tables."""

from __future__ import annotations

import shutil

import pytest

from espalier.files import read_json, read_npz, read_table

TABLES = (
    "hubs",
    "hub_training",
    "censet_accuracy",
    "hub_search",
    "hub_search_training",
    "censet_layout",
    "hub_formation",
    "hub_ablation",
)
SETTINGS = {
    "analyses": ["hubs"],
    "models": ["mlp-64-20-16-10"],
    "seeds": [0, 1],
    "hubs": {
        "methods": ["censet", "random", "static"],
        "method_options": {
            "censet": {"k": "wide", "preset": "cenbench"},
            "random": {"reference": "censet"},
        },
        "searches": {"wide": {"low": 1.5, "high": 2.0, "step": 0.5, "epochs": 2}},
        "search_options": {"preset": "cenbench"},
        "snapshot_every": 2,
        "training": {"epochs": 3, "batch_size": 50, "epsilon": 4, "kernel": "compiled"},
    },
}
TARGETS = [f"results/tables/{name}.csv" for name in TABLES]
STEM = "results/hubs/digits/mlp-64-20-16-10"


@pytest.fixture(scope="module")
def studied(make_workflow):
    workflow = make_workflow("hubs", SETTINGS)
    workflow.run("--cores", "2", *TARGETS)
    return workflow


@pytest.fixture
def copy(studied, tmp_path):
    duplicate = object.__new__(type(studied))
    duplicate.folder = tmp_path / "copy"
    shutil.copytree(studied.folder, duplicate.folder, symlinks=True)
    return duplicate


def test_every_run_has_its_rows(studied):
    tables = {name: read_table(studied.path(f"results/tables/{name}.csv")) for name in TABLES}
    runs = tables["censet_accuracy"]
    assert len(runs) == 2 * (3 + 2)
    assert set(runs["protocol"]) == {"comparison", "wide"}
    assert set(runs["selected_on"]) == {"validation"} and runs["accuracy"].between(0, 1).all()
    search = tables["hub_search"]
    assert search["k"].tolist() == [1.5, 2.0] and search["chosen"].sum() == 1
    chosen = read_json(studied.path(f"{STEM}/wide.threshold.json"))["k"]
    assert search.loc[search["chosen"], "k"].tolist() == [chosen]
    censet = runs[(runs["method"] == "censet") & (runs["protocol"] == "comparison")]
    assert set(censet["k"]) == {chosen}
    training = tables["hub_training"]
    assert len(training) == 2 * 3 * 4 and len(tables["hub_search_training"]) == 2 * 2 * 3
    compared = training.set_index(["seed", "epoch"])
    removed = {name: part["removed_edges"] for name, part in compared.groupby("method")}
    assert removed["random"].equals(removed["censet"]) and not removed["static"].any()
    assert set(tables["hubs"]["layer"]) == {-1, 0, 1, 2, 3}
    assert set(tables["hubs"]["epoch"]) == {0, 2, 3}
    ablation = tables["hub_ablation"]
    assert set(ablation["order"]) == {"top", "bottom", "random"}
    whole = ablation[ablation["removed"] == 0].groupby(["method", "seed"])["accuracy"].nunique()
    assert (whole == 1).all()
    formation = tables["hub_formation"]
    assert {"overlap_epochs", "overlap_seeds", "gini"} <= set(formation["statistic"])


def test_the_end_of_a_run_is_stored(studied):
    record = read_json(studied.path(f"{STEM}/static/seed1.json"))
    arrays, facts = read_npz(studied.path(f"{STEM}/static/seed1.centrality.npz"))
    assert facts["method"] == "static" and facts["seed"] in (1, "1")
    assert arrays["centrality"].shape == (3, 110) == (len(arrays["epochs"]), 64 + 20 + 16 + 10)
    weights, _ = read_npz(studied.path(f"{STEM}/static/seed1.weights.npz"))
    assert len(weights["values1"]) == record["epochs"][-1]["connections"][0]
    ablation = read_table(studied.path(f"{STEM}/static/seed1.ablation.csv"))
    whole = ablation.loc[ablation["removed"] == 0, "accuracy"].iloc[0]
    assert whole == pytest.approx(record["epochs"][-1]["test_accuracy"])


def test_a_second_run_does_nothing_and_options_rerun_their_method_only(copy):
    assert not copy.jobs(*TARGETS)
    copy.write_config({**SETTINGS, "device": "cpu", "jobs_per_gpu": 3})
    assert not copy.jobs(*TARGETS)
    options = {**SETTINGS["hubs"]["method_options"], "static": {"zeta": 0.1}}
    copy.write_config({**SETTINGS, "hubs": {**SETTINGS["hubs"], "method_options": options}})
    jobs = copy.jobs(*TARGETS)
    assert jobs["train_hub_network"] == jobs["ablate_hubs"] == 2
    assert "choose_threshold" not in jobs


def test_one_network_by_centrality_is_drawn_for_each_model(copy):
    assert copy.jobs()["draw_hub_network"] == 1
    stem = "results/figures/hub_network.digits.mlp-64-20-16-10.censet.seed0"
    copy.run("--cores", "1", f"{stem}.svg")
    assert copy.path(f"{stem}.svg").stat().st_size > 5000
    assert copy.path(f"{stem}.png").read_bytes().startswith(b"\x89PNG")
    hubs = {**SETTINGS["hubs"], "methods": ["static"], "method_options": {}, "searches": {}}
    copy.write_config({**SETTINGS, "hubs": hubs})
    plan = copy.run("-n")
    assert "hub_network.digits.mlp-64-20-16-10.static.seed0.svg" in plan


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": ["sett"]}, "Did you mean 'set'?"),
        ({"method_options": {"censet": {"k": "narrow"}}}, "unknown search that gives k"),
        ({"networks": {"digits": ["mlp-64-10"]}}, "unknown model of hubs.networks.digits"),
        ({"training": {"epsilonn": 3}}, "Did you mean 'epsilon'?"),
        ({"overrides": {"digits": {"epoch": 3}}}, "Did you mean 'epochs'"),
    ],
)
def test_bad_settings_are_refused(fresh, change, message):
    fresh.write_config({**SETTINGS, "hubs": {**SETTINGS["hubs"], **change}})
    assert message in fresh.run("-n", *TARGETS, check=False)


@pytest.mark.parametrize("experiment", ["hub_neurons", "hub_neurons_small"])
def test_the_experiments_are_planned(root, fresh, experiment):
    path = str(root / f"config/experiments/{experiment}.yaml")
    output = fresh.run("-n", "--quiet", "rules", "--configfile", path)
    total = next(line for line in output.splitlines() if line.startswith("total"))
    assert 50 < int(total.split()[1]) < 3000
