"""Tables of prediction and ranking, made by the workflow from published and own networks."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from espalier.files import read_json, read_table, write_npz, write_table
from espalier.topology.topometrics import TOPOMETRICS

PUBLISHED = "results/published/tables"
FEW = {
    "runs": 1,
    "control_runs": 1,
    "classification_runs": 1,
    "protocols": ["published"],
    "honest": ["leave-dataset-out"],
    "features": ["topometrics", "sparsity-level+dataset+architecture"],
    "regressors": ["linear", "ridge"],
    "learners": [],
    "class_features": ["local", "dataset"],
    "classifier": "logistic",
    "targets": ["category"],
    "shuffles": 1,
    "draws": 100,
    "levels": [0.5],
}


def published_mirror(root: Path) -> Path | None:
    places = [os.environ.get("ESPALIER_TEST_DATA"), root.parent / "shared" / "data"]
    return next((Path(p) for p in places if p and (Path(p) / "mge-snn").is_dir()), None)


def own_pool() -> tuple[pd.DataFrame, list[tuple[str, float, str, int]]]:
    """Synthetic networks whose drop depends on the spectral radius, and their names."""
    generator = np.random.default_rng(0)
    rows, networks = [], []
    for pruner in ("er", "snip", "grasp"):
        for sparsity in (0.6, 0.9):
            for dataset in ("digits", "mnist", "fashion_mnist"):
                for seed in (0, 1, 2):
                    values = dict(zip(TOPOMETRICS, generator.random(len(TOPOMETRICS)), strict=True))
                    drop = 0.3 * values["spectral_radius"] + 0.2 * sparsity
                    accuracy = 0.9 * (1 - drop)
                    name = {"pruning": pruner, "sparsity": sparsity, "model": "small_cnn"}
                    rows.append(
                        {
                            "accuracy": accuracy,
                            **name,
                            "dataset": dataset,
                            "seed": seed,
                            "nodes": 10,
                            "edges": 20,
                            **values,
                            "dense": 0.9,
                            "drop": drop,
                        }
                    )
                    networks.append((pruner, sparsity, dataset, seed))
    return pd.DataFrame(rows), networks


def test_own_networks_go_through_the_same_rules(make_workflow) -> None:
    settings = {
        "analyses": ["prediction"],
        "datasets": ["digits", "mnist", "fashion_mnist"],
        "models": ["small_cnn"],
        "pruners": ["er", "snip", "grasp"],
        "sparsities": [0.6, 0.9],
        "seeds": [0, 1, 2],
        "prediction": FEW,
    }
    workflow = make_workflow("prediction", settings)
    table, networks = own_pool()
    write_table(workflow.folder / "results/tables/topometrics.csv", table, {})
    for pruner, sparsity, dataset, seed in networks:
        path = f"results/masks/{dataset}/small_cnn/{pruner}/{sparsity}/seed{seed}.npz"
        shares = {"a.weight": 0.5, "b.weight": sparsity, "total": sparsity}
        write_npz(workflow.folder / path, {}, {"achieved_sparsity": shares})
    names = ("regression", "classification", "ranking", "importance", "honest", "calibration")
    targets = [f"results/tables/{name}.csv" for name in names]
    # The tables and masks are there: only what reads them is made.
    rules = ["tabulate_layers", "regress_drop", "tabulate_regression", "predict_out_of_fold"]
    rules += ["tabulate_predictions", "classify_pruners", "tabulate_classification"]
    rules += ["measure_importance", "tabulate_importance", "rank_strategies", "calibrate_intervals"]
    workflow.run(*targets, "--cores", "2", "--allowed-rules", *rules)
    found = {name: read_table(workflow.folder / f"results/tables/{name}.csv") for name in names}
    layers = read_table(workflow.folder / "results/tables/layers.csv")
    assert len(layers) == 2 * len(table)
    assert layers["layer_sparsity"].between(0, 1).all()
    regression = found["regression"]
    assert set(regression["regressor"]) == {"mean of 2"}
    assert set(regression["family"]) == {"topometrics", "no graph"}
    assert "published_adjusted_r2" not in regression
    assert {"random", "layer_density", "topometric mixture"} <= set(found["ranking"]["strategy"])
    # One model: ranks on other architectures cannot be had, and the table says so.
    alone = found["ranking"].set_index("strategy")
    assert "has one" in alone.loc["mean rank", "problem"]
    assert set(found["importance"]["kind"].dropna()) == {"pearson", "permutation", "shap"}
    assert found["classification"]["balanced_accuracy"].notna().any()
    again = workflow.run(*targets, "--cores", "1", "--allowed-rules", *rules)
    assert "Nothing to be done" in again


def test_published_tables_are_wanted_and_absent(make_workflow) -> None:
    settings = {
        "analyses": ["prediction"],
        "mirrors": ["nowhere"],
        "prediction": {"pools": ["published"]},
    }
    workflow = make_workflow("prediction", settings)
    output = workflow.run(f"{PUBLISHED}/ranking_tables.csv", "--cores", "1", check=False)
    assert "the published tables are in none of mge-snn, nowhere/mge-snn" in output
    assert "set prediction.published" in output
    assert "Traceback" not in output.split("the published tables are in none")[1][:400]


def test_published_tables_are_the_same_for_one_and_two_cores(make_workflow, root: Path) -> None:
    mirror = published_mirror(root)
    if mirror is None:
        pytest.skip("no folder mge-snn with the published tables: set ESPALIER_TEST_DATA")
    few = {**FEW, "pools": ["published"], "encodings": ["unrolled"], "regressors": ["linear"]}
    settings = {"analyses": ["prediction"], "mirrors": [str(mirror)], "prediction": few}
    workflow = make_workflow("prediction", settings)
    names = ("regression", "ranking_tables")
    targets = [f"{PUBLISHED}/{name}.csv" for name in names]
    workflow.run(*targets, "--cores", "2")
    first = {path: (workflow.folder / path).read_bytes() for path in targets}
    workflow.run(*targets, "--cores", "1", "--forceall")
    assert {path: (workflow.folder / path).read_bytes() for path in targets} == first
    report = read_json(workflow.folder / "results/published/reading.json")
    assert report["unrolled"]["rows"] == 2337 and report["unrolled"]["duplicate_rows"] == 47
    design = report["design of the TMLR paper, unrolled"]
    assert len(design["missing"]) == 9 and len(design["collapsed"]) == 4
    table = read_table(workflow.folder / f"{PUBLISHED}/ranking_tables.csv")
    cells = table[table["sparsity"].astype(str) != "Avg"]
    assert len(cells) == 300
    near = (cells["mean"] - cells["published"]).abs() <= 0.01 + 1e-9
    assert near.sum() >= 254
