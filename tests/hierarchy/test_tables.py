from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from espalier.errors import DataError
from espalier.files import read_npz, read_table, write_json, write_npz, write_text
from espalier.hierarchy.baselines import baselines
from espalier.hierarchy.distances import tree_distances
from espalier.hierarchy.tables import (
    summarise,
    write_baselines,
    write_distances,
    write_null_distances,
    write_rf,
)

CLASSES = ("ant", "bee", "cat", "dog", "eel")
TRUTH = "((ant,bee),(cat,dog),eel);"
OBSERVED = ["((ant,bee),(cat,dog,eel));", "(ant,bee,cat,dog,eel);", "((ant,cat),(bee,dog),eel);"]


@pytest.fixture
def nulls(tmp_path):
    write_npz(tmp_path / "data.npz", {"class_names": np.array(CLASSES)})
    write_text(tmp_path / "truth.nwk", TRUTH)
    path = tmp_path / "nulls.npz"
    write_null_distances(path, tmp_path / "data.npz", tmp_path / "truth.nwk", 50, "code")
    return path


def network_files(folder, seed, trees, checkpoint=None, sparsity=0.0, pruner="dense"):
    stem = folder / f"s{seed}c{checkpoint}p{sparsity}"
    write_text(stem.with_suffix(".nwk"), "\n".join(trees) + "\n")
    network = {
        "dataset": "pets",
        "model": "m",
        "pruner": pruner,
        "sparsity": sparsity,
        "seed": seed,
        "checkpoint": checkpoint,
    }
    record = {
        "network": network,
        "detector": "nested_sbm",
        "samples": [f"sample{k}" for k in range(len(trees))],
        "nodes": 9,
        "edges": 12,
        "constant_units": 1,
        "details": {"description_lengths": [1.5] * len(trees), "levels": [2] * len(trees)},
    }
    write_json(stem.with_suffix(".json"), record)
    return stem.with_suffix(".nwk"), stem.with_suffix(".json")


def metrics_file(folder, seed, sparsity, accuracies):
    entries = [
        {"checkpoint": k, "epoch": 2 * k, "test_accuracy": a, "validation_accuracy": a / 2}
        for k, a in enumerate(accuracies)
    ]
    path = folder / f"metrics{seed}_{sparsity}.json"
    write_json(path, {"sparsity": sparsity, "checkpoints": entries})
    return path


@pytest.fixture
def rf(tmp_path, nulls):
    parts = []
    for seed in (0, 1):
        files = [
            network_files(tmp_path, seed, OBSERVED[:2], checkpoint=0),
            network_files(tmp_path, seed, OBSERVED[seed : seed + 2], checkpoint=1),
        ]
        metrics = [metrics_file(tmp_path, seed, 0.0, [0.5, 0.75 + seed / 8])]
        trees, records = zip(*files, strict=True)
        parts.append(tmp_path / f"part{seed}.csv")
        write_distances(parts[-1], nulls, metrics, trees, records, "code")
    write_rf(tmp_path / "rf.csv", parts, {"seeds": [0, 1]}, "code")
    return read_table(tmp_path / "rf.csv")


def test_rows_hold_the_distances_and_the_accuracy_of_their_checkpoint(rf):
    assert len(rf) == 8
    row = rf[(rf["seed"] == 1) & (rf["checkpoint"] == 1)].iloc[1]
    assert (row["epoch"], row["test_accuracy"]) == (2, 0.875)
    expected = tree_distances(OBSERVED[2], TRUTH, rooted="both")
    for column, value in expected.items():
        np.testing.assert_allclose(row[column], value, rtol=1e-12)
    assert rf.attrs["provenance"]["seed"] == [0, 1]


def test_p_values_count_permuted_truths_at_least_as_good(rf, nulls):
    permuted = read_npz(nulls)[0]["permuted/rf_rooted"]
    for _, row in rf.iterrows():
        as_good = (permuted <= row["rf_rooted"]).sum()
        assert row["rf_rooted_p"] == pytest.approx((as_good + 1) / 51)


def test_a_pruned_network_takes_the_accuracy_of_its_only_checkpoint(tmp_path, nulls):
    tree, record = network_files(tmp_path, 0, OBSERVED, None, 0.5, "group_magnitude")
    entry = {"checkpoint": 10, "epoch": 30, "test_accuracy": 0.25, "validation_accuracy": 0.5}
    write_json(tmp_path / "m.json", {"sparsity": 0.5, "checkpoints": [entry]})
    write_distances(tmp_path / "d.csv", nulls, [tmp_path / "m.json"], [tree], [record], "code")
    table = read_table(tmp_path / "d.csv")
    assert set(table["checkpoint"]) == {10} and set(table["test_accuracy"]) == {0.25}


def test_trees_and_records_must_match(tmp_path, nulls):
    tree, record = network_files(tmp_path, 0, OBSERVED, 0)
    write_text(tree, OBSERVED[0] + "\n")
    with pytest.raises(DataError, match="holds 1 trees"):
        write_distances(
            tmp_path / "d.csv", nulls, [metrics_file(tmp_path, 0, 0.0, [1])], [tree], [record], "c"
        )
    assert not (tmp_path / "d.csv").exists()


def test_an_unknown_checkpoint_is_an_error(tmp_path, nulls):
    tree, record = network_files(tmp_path, 0, OBSERVED, 7)
    with pytest.raises(DataError, match="no accuracy is known for checkpoint 7"):
        write_distances(
            tmp_path / "d.csv", nulls, [metrics_file(tmp_path, 0, 0.0, [1])], [tree], [record], "c"
        )


def test_a_truth_with_other_leaves_is_refused(tmp_path):
    write_npz(tmp_path / "data.npz", {"class_names": np.array(CLASSES)})
    write_text(tmp_path / "truth.nwk", "((ant,bee),(cats,dog));")
    with pytest.raises(DataError, match=r"cats(.|\n)*eel|eel(.|\n)*cats"):
        write_null_distances(
            tmp_path / "n.npz", tmp_path / "data.npz", tmp_path / "truth.nwk", 5, "code"
        )
    assert not (tmp_path / "n.npz").exists()


def test_the_baselines_table_agrees_with_the_library(tmp_path, nulls):
    write_baselines(tmp_path / "b.csv", {"pets": nulls}, "code")
    table = read_table(tmp_path / "b.csv").set_index("measure")
    expected = baselines(TRUTH, "clustering_information", rooted=True, n=50, seed=0)
    row = table.loc["clustering_information_rooted"]
    for key in ("star", "permuted_mean", "permuted_sd", "random_mean", "random_sd", "n"):
        assert row[key] == pytest.approx(expected[key])
    assert np.isnan(row["permuted_exact"])
    exact = baselines(TRUTH, "rf", rooted=True, n=50)["permuted_exact"]
    assert table.loc["rf_rooted", "permuted_exact"] == pytest.approx(exact)


def test_the_summary_averages_converged_networks(tmp_path, nulls, rf):
    write_baselines(tmp_path / "b.csv", {"pets": nulls}, "code")
    summary = summarise(rf, read_table(tmp_path / "b.csv"))
    assert len(summary) == 1
    row = summary.iloc[0]
    assert (row["seeds"], row["trees"]) == (2, 4)
    assert row["test_accuracy_mean"] == pytest.approx((0.75 + 0.875) / 2)
    values = rf.loc[rf["checkpoint"] == 1, "rf_unrooted"]
    assert row["rf_unrooted_mean"] == pytest.approx(values.mean())
    assert row["rf_unrooted_sd"] == pytest.approx(values.std(ddof=1))
    assert row["rf_unrooted_star"] == tree_distances("(ant,bee,cat,dog,eel);", TRUTH)["rf"]


def test_summary_of_one_tree_has_no_sd(tmp_path, nulls, rf):
    write_baselines(tmp_path / "b.csv", {"pets": nulls}, "code")
    summary = summarise(rf.tail(1), read_table(tmp_path / "b.csv"))
    assert isinstance(summary, pd.DataFrame)
    assert np.isnan(summary.iloc[0]["rf_unrooted_sd"])
