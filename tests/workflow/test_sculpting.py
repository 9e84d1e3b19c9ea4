"""Neural Sculpting from a function graph to tables and figures."""

from __future__ import annotations

import gzip
import shutil

import numpy as np
import pytest

from espalier.files import read_json, read_table
from espalier.sculpting.function_families import published_function
from espalier.sculpting.success import trial_successes
from espalier.sculpting.trials import modules_of_trial, read_networks

OWN = """
inputs: 4
outputs:
  y1: {xor: [x1, x2]}
  y2: {xor: [x3, x4]}
"""
SETTINGS = {
    "analyses": ["sculpting"],
    "sculpting": {
        "functions": ["4-2-4", "own.yaml"],
        "hidden_layers": [2],
        "widths": [8],
        "seeds": [0, 1],
        "learning_rate": 0.05,
        "batch_size": 8,
        "epochs": 20,
        "unit_steps": [20, 50],
        "edge_steps": [2.5],
        "null_networks": 5,
        "variants": {
            "sculpted": {},
            "edge_only": {"functions": ["4-2-4"], "control": "edge-only"},
            "hopeless": {"functions": ["4-2-4"], "hidden_layers": [1], "epochs": 1, "seeds": [3]},
        },
    },
}
TABLES = (
    "modules",
    "modules_success",
    "modules_compared",
    "modules_recipes",
    "modules_densities",
    "modules_structure",
    "modules_stability",
    "modules_null",
)
FIGURES = (
    "success_own",
    "pruned_densities",
    "function_graph.own",
    "pruned_network.sculpted.4-2-4.8-8.seed0",
)
TARGETS = [f"results/tables/{name}.csv" for name in TABLES]
TARGETS += [f"results/figures/{name}.svg" for name in FIGURES]


def prepared(workflow, settings=SETTINGS):
    (workflow.folder / "own.yaml").write_text(OWN)
    workflow.write_config(settings)
    return workflow


@pytest.fixture(scope="module")
def sculpted(make_workflow):
    workflow = prepared(make_workflow("sculpting", SETTINGS))
    workflow.run("--cores", "2", *TARGETS)
    return workflow


@pytest.fixture
def copy(sculpted, tmp_path):
    duplicate = object.__new__(type(sculpted))
    duplicate.folder = tmp_path / "copy"
    shutil.copytree(sculpted.folder, duplicate.folder, symlinks=True)
    return duplicate


def table(workflow, name):
    return read_table(workflow.path(f"results/tables/{name}.csv"))


def test_every_trial_has_its_rows(sculpted):
    trials = table(sculpted, "modules")
    keys = ["variant", "function", "hidden", "seed"]
    assert len(trials) == 2 * 2 + 2 + 1 and not trials.duplicated(keys).any()
    reached = trials["reached"]
    assert reached[trials["variant"] != "hopeless"].all()
    assert (trials.loc[reached, "density"] < 0.6).all() and (
        trials.loc[reached, "accuracy"] == 1
    ).all()
    hopeless = trials[trials["variant"] == "hopeless"].iloc[0]
    assert not hopeless["reached"] and hopeless["density"] == 1 and hopeless["accuracy"] < 1
    assert np.isnan(hopeless["p_u"]) and hopeless["modules"] >= 1
    success = table(sculpted, "modules_success")
    assert set(success["family"]) == {"validation", "own"}
    keys = ["variant", "function", "hidden_layers"]
    counts = trials.groupby(keys).size()
    assert success.set_index(keys)["trials"].eq(counts.reindex(success.set_index(keys).index)).all()
    compared = table(sculpted, "modules_compared")
    assert set(compared["function"]) == {"4-2-4"} and (compared["published_rate"] == 1).all()
    null = table(sculpted, "modules_null")
    assert len(null) == reached.sum() and null["modularity_p_higher"].between(1 / 6, 1).all()
    stability = table(sculpted, "modules_stability")
    assert set(stability["networks"]) == {2} and stability["inputs"].between(-1, 1).all()
    structure = table(sculpted, "modules_structure")
    assert set(structure["network"]) == {"dense", "unit-and-edge-pruned", "edge-pruned"}
    assert {"welch_p", "separable", "n90"} <= set(structure["statistic"])


def test_tables_agree_with_the_stored_networks(sculpted):
    path = sculpted.path("results/sculpting/sculpted/4-2-4/8-8.npz")
    networks, _ = read_networks(path)
    record = read_json(path.with_suffix(".json"))
    graph = published_function("4-2-4")
    inputs, targets = graph.truth_table
    trials = table(sculpted, "modules").query("variant == 'sculpted' and hidden == '8-8'")
    trials = trials[trials["function"] == "4-2-4"].set_index("seed")
    for trial in record["trials"]:
        network, _ = networks[trial["seed"]]
        modules, _ = modules_of_trial(path, trial["seed"])
        row = trials.loc[trial["seed"]]
        assert row["density"] == trial["density"] == network.density
        assert trial["density"] == min(p["density"] for p in trial["pairs"] if p["reached"])
        assert row["modules"] == modules.num_modules
        assert row["hierarchy"] == trial_successes("4-2-4", modules)[0].success
        values = inputs.astype(np.float32).T
        layers = zip(network.weight_matrices(), network.bias_vectors(), strict=True)
        for k, (weights, biases) in enumerate(layers):
            values = weights @ (values if k == 0 else np.maximum(values, 0)) + biases[:, None]
        assert ((values.T > 0) == targets).mean() == row["accuracy"] == 1


def test_hierarchies_are_exported(sculpted):
    target = "results/modules/sculpted/4-2-4/8-8.seed1.graphml.gz"
    sculpted.run("--cores", "1", target)
    assert b"<graphml" in gzip.decompress(sculpted.path(target).read_bytes())


def test_a_second_run_does_nothing_and_changes_rerun_their_variant_only(copy):
    assert not copy.jobs(*TARGETS)
    section = SETTINGS["sculpting"]
    variants = {**section["variants"], "hopeless": {**section["variants"]["hopeless"], "epochs": 2}}
    copy.write_config({**SETTINGS, "sculpting": {**section, "variants": variants}})
    jobs = copy.jobs(*TARGETS)
    assert jobs["sculpt_networks"] == jobs["detect_modules"] == 1
    copy.write_config(SETTINGS)
    copy.path("own.yaml").write_text(OWN.replace("xor: [x1, x2]", "and: [x1, x2]"))
    jobs = copy.jobs(*TARGETS)
    assert jobs["sculpt_networks"] == jobs["draw_function"] == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"functions": ["4-2-5"]}, "Did you mean '4-2-4'?"),
        ({"functions": ["two-digits-mnits"]}, "Did you mean 'two-digits-mnist'?"),
        ({"functions": ["8-2-2"], "hidden_layers": [5], "widths": []}, "no published network"),
        ({"functions": ["own.yaml"], "epochs": None, "variants": {"a": {}}}, "set epochs"),
        ({"widths": [0]}, "greater than or equal to 1"),
        ({"variants": {"a": {"rulez": "paper"}}}, "Did you mean 'rules'?"),
        ({"overrides": {"4-1-4": {"epochs": 3}}}, "unknown function of sculpting.overrides"),
        ({"seeds": [1, 1]}, "seed more than once"),
    ],
)
def test_bad_settings_are_refused(fresh, change, message):
    prepared(fresh, {**SETTINGS, "sculpting": {**SETTINGS["sculpting"], **change}})
    assert message in fresh.run("-n", *TARGETS, check=False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (OWN.replace("[x3, x4]", "[x3, a]") + "gates:\n  a: {and: [x4, b]}\n  b: {or: [a, x4]}\n",
         "form a cycle"),
        (OWN.replace("inputs: 4", "inputs: 5"), "no gate takes the input x5"),
        (OWN.replace("inputs: 4", "input: 4"), "Did you mean 'inputs'?"),
    ],
)  # fmt: skip
def test_bad_functions_are_refused_before_any_job(fresh, text, message):
    prepared(fresh).path("own.yaml").write_text(text)
    assert message in fresh.run("-n", *TARGETS, check=False)


@pytest.mark.parametrize(
    ("experiment", "networks"), [("neural_sculpting", 361), ("neural_sculpting_small", 36)]
)
def test_the_experiments_are_planned(root, fresh, experiment, networks):
    path = str(root / f"config/experiments/{experiment}.yaml")
    output = fresh.run("-n", "--quiet", "rules", "--configfile", path)
    jobs = next(line for line in output.splitlines() if line.startswith("sculpt_networks"))
    assert int(jobs.split()[1]) >= networks
