from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from prediction_pools import large_goldens, published_folder

from espalier.errors import ConfigurationError, DataError
from espalier.prediction.features import KEYS, LAYERWISE
from espalier.prediction.published import (
    COLUMNS,
    RENAMED,
    TMLR_MODELS,
    TMLR_PRUNERS,
    aggregate_layers,
    combine_pools,
    ramanujan_baselines,
    read_layers,
    read_published,
    read_ramanujan,
    with_drop,
)
from espalier.topology.topometrics import TOPOMETRICS

LAYERS = pd.DataFrame(
    {
        "accuracy": [0.9, 0.9, 0.8, 0.8],
        "pruning": ["er", "er", "snip", "snip"],
        "sparsity": 0.9,
        "model": "CONV-6",
        "dataset": "CIFAR-10",
        "seed": 0,
        "layer_id": [0, 1, 0, 1],
        "layer_name": ["first", "second"] * 2,
        "layer_sparsity": [0.5, 0.25, 0.5, 0.0],
        "nodes": [10, 20, 10, 20],
        "edges": [40, 50, 40, 0],
        "cut-edges": [4, 5, 8, 0],
        "motif": [80.0, 50.0, 40.0, 0.0],
        "no_connected_components": [1, 2, 1, 20],
        "mean_connected_components": [10.0, 10.0, 10.0, 1.0],
        "avg_node_strength": [2.0, 5.0, 4.0, 0.0],
        "1-hop_nei": [5.0, 3.5, 5.0, 1.0],
        "cut-nodes": [0, 5, 0, 0],
        "k-core": [4.0, 5.0, 4.0, 0.0],
        "spectral_gap": [1.0, 3.0, 1.0, np.nan],
        "spectral_radius": [2.0, 4.0, 2.0, np.nan],
    }
)


def write_layers(folder: Path, table: pd.DataFrame, name: str, kind: str = "rolled") -> Path:
    path = folder / "graph_metrics" / kind / name
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, index=False)
    return path


def unrolled(folder: Path, table: pd.DataFrame) -> Path:
    path = folder / "graph_metrics" / "unrolled" / "unrolled.csv.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, index=False)
    return path


def network(**changes: object) -> dict[str, object]:
    row: dict[str, object] = {"accuracy": 0.9, "pruning": "er", "sparsity": 0.9, "model": "CONV-6"}
    row |= {"dataset": "CIFAR-10", "seed": 0, "nodes": 5, "edges": 9}
    return row | dict.fromkeys(TOPOMETRICS, 0.5) | changes


def test_layers_are_normalised_by_their_own_edges_and_averaged() -> None:
    table = aggregate_layers(LAYERS).set_index("pruning")
    er, snip = table.loc["er"], table.loc["snip"]
    assert er["motif"] == (80 / 40 + 50 / 50) / 2
    assert er["cut-edges"] == (4 / 40 + 5 / 50) / 2
    assert er["mean_connected_components"] == (10 / 10 + 10 / 20) / 2
    assert er["no_connected_components"] == 1.5
    assert er["spectral_gap"] == 2.0
    assert er["layer_density"] == 0.375
    assert (er["nodes"], er["edges"]) == (30, 90)
    assert snip["1-hop_nei"] == 5 / 40 / 2
    assert snip["spectral_radius"] == 1.0


def test_both_generations_of_column_names_read_alike(tmp_path: Path) -> None:
    back = {new: old for old, new in RENAMED.items()}
    write_layers(tmp_path / "new", LAYERS, "rolled-CIFAR-10-CONV-6.csv")
    write_layers(tmp_path / "old", LAYERS.rename(columns=back), "rolled-CIFAR-10-CONV-6.csv.gz")
    new, new_report = read_layers(tmp_path / "new", "rolled")
    old, old_report = read_layers(tmp_path / "old", "rolled")
    pd.testing.assert_frame_equal(new, old)
    assert new_report.older_names == []
    assert old_report.older_names == ["graph_metrics/rolled/rolled-CIFAR-10-CONV-6.csv.gz"]
    assert (old_report.empty_layers, old_report.undefined_spectra) == (1, 1)
    assert any("older column names" in line for line in old_report.lines())


def test_duplicates_blanks_and_collapsed_networks_are_counted(tmp_path: Path) -> None:
    rows = [network(seed=0), network(seed=0), network(seed=1, sink_nodes=np.nan)]
    rows += [dict.fromkeys(network(), np.nan), network(seed=2, **{"r-in": -1e-6})]
    rows += [network(pruning="erk", seed=0)]
    unrolled(tmp_path, pd.DataFrame(rows))
    table, report = read_published(tmp_path)
    assert list(table.columns) == list(COLUMNS)
    assert list(table[["pruning", "seed"]].itertuples(index=False, name=None)) == [
        ("er", 0),
        ("er", 2),
        ("erk", 0),
    ]
    assert (report.rows, report.duplicate_rows, report.blank_rows) == (6, 1, 1)
    assert report.collapsed == [("er", 0.9, "CONV-6", "CIFAR-10", 1)]
    assert [name[-1] for name in report.missing] == [1, 2]
    assert (report.negative_fractions, report.networks) == (1, 3)
    assert len(read_published(tmp_path, keep_collapsed=True).table) == 4
    assert np.allclose(table["drop"], (0.932 - 0.9) / 0.932)


def test_project_names_concatenate_with_the_project_table(tmp_path: Path) -> None:
    unrolled(tmp_path, pd.DataFrame([network(), network(pruning="itop")]))
    published = read_published(tmp_path, names="project").table
    assert set(published["model"]) == {"conv6"}
    assert set(published["pruning"]) == {"er", "set_itop"}
    own = published.assign(dataset="digits", dense=0.9)
    both = combine_pools({"published": published, "own": own})
    assert list(both.columns) == ["pool", *COLUMNS]
    assert list(both["pool"]) == ["published"] * 2 + ["own"] * 2
    with pytest.raises(DataError, match="repeated rows"):
        combine_pools({"twice": pd.concat([own, own])})
    with pytest.raises(ConfigurationError, match="no pool"):
        combine_pools({})


def test_bad_published_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="Did you mean 'rolled-channel'"):
        read_published(tmp_path, "rolled_channel")
    with pytest.raises(DataError, match="holds no "):
        read_published(tmp_path)
    path = unrolled(tmp_path, pd.DataFrame([network()]).rename(columns={"motif": "motifs"}))
    with pytest.raises(DataError, match=r"'motif' Did you mean 'motifs'\?"):
        read_published(tmp_path)
    unrolled(tmp_path, pd.DataFrame([network(), network(accuracy=0.1)]))
    with pytest.raises(DataError, match="1 repeated rows"):
        read_published(tmp_path)
    unrolled(tmp_path, pd.DataFrame([network(), network(seed=np.nan)]))
    with pytest.raises(DataError, match="lacks a value"):
        read_published(tmp_path)
    unrolled(tmp_path, pd.DataFrame([network()]))
    with pytest.raises(ConfigurationError, match="unknown published model"):
        read_published(tmp_path, models=["CONV-7"])
    with pytest.raises(ConfigurationError, match="unknown kind of names"):
        read_published(tmp_path, names="mine")
    path.write_bytes(gzip.compress(b"accuracy,x\n1,2\n" * 500)[:40])
    with pytest.raises(DataError, match="not a readable CSV"):
        read_published(tmp_path)
    with pytest.raises(DataError, match="no accuracy of dense networks"):
        with_drop(pd.DataFrame([network(model="mlp")]))
    with pytest.raises(DataError, match="differ in accuracy"):
        aggregate_layers(LAYERS.assign(accuracy=[0.1, 0.2, 0.3, 0.4]))


def test_ramanujan_rows_take_the_pruner_of_the_same_row(tmp_path: Path) -> None:
    write_layers(tmp_path, LAYERS, "rolled-CIFAR-10-CONV-6.csv")
    shared = LAYERS[["accuracy", "sparsity", "seed", "model", "dataset", "layer_id", "layer_name"]]
    measures = shared.assign(
        iterative_spectral_gap=[0.5, np.nan, 1.0, 2.0],
        iterative_degree_bound=[0.1, np.nan, 0.3, 0.5],
        degree_bound=[0.2, -np.inf, 0.4, 0.8],
        layer_sparsity=LAYERS["layer_sparsity"],
    )
    folder = tmp_path / "ramanunjan_results" / "CONV-6"
    folder.mkdir(parents=True)
    measures.to_csv(folder / "rolled-CIFAR-10-CONV-6.csv", index=False)
    layers = read_ramanujan(tmp_path).table
    assert list(layers["pruning"]) == ["er", "er", "snip", "snip"]
    baselines = ramanujan_baselines(layers).set_index("pruning")
    assert baselines.loc["er", "delta_r"] == 0.2
    assert baselines.loc["snip", "delta_r_imdb"] == pytest.approx(0.4)
    assert baselines.loc["snip", "layer_density"] == 0.25
    measures.iloc[::-1].to_csv(folder / "rolled-CIFAR-10-CONV-6.csv", index=False)
    with pytest.raises(DataError, match="same layers in the same order"):
        read_ramanujan(tmp_path)


@pytest.mark.parametrize(
    ("encoding", "file", "networks", "missing"),
    [
        ("unrolled", "features_unrolled.csv", 1247, 9),
        ("rolled", "features_rolled.csv", 1258, 2),
        ("rolled-channel", "features_rolled_channel.csv", 1258, 2),
    ],
)
def test_published_tables_give_the_recomputed_features(
    root: Path, encoding: str, file: str, networks: int, missing: int
) -> None:
    folder = published_folder(root)
    table, report = read_published(folder, encoding, models=TMLR_MODELS, pruners=TMLR_PRUNERS)
    expected = pd.read_csv(large_goldens(root) / file).set_index(list(KEYS)).sort_index()
    found = table.set_index(list(KEYS)).sort_index()
    assert found.index.equals(expected.index)
    columns = list(TOPOMETRICS) if encoding == "unrolled" else list(LAYERWISE)
    assert np.array_equal(found[columns], expected[columns])
    assert np.allclose(found["drop"], expected["drop"], rtol=0, atol=1e-15)
    assert (len(table), len(report.missing)) == (networks, missing)
    if encoding == "unrolled":
        assert (report.rows, report.duplicate_rows, len(report.collapsed)) == (2337, 47, 4)
        components, edges = table["no_connected_components"], table["edges"]
        assert np.allclose(table["mean_connected_components"], 1 / components, rtol=1e-9)
        assert np.allclose(table["1-hop_nei"], 1 / edges + 1 / table["nodes"], rtol=1e-9)
    else:
        assert (report.rows, len(report.older_names), report.empty_layers) == (46392, 11, 187)


def test_published_ramanujan_results_join_by_position(root: Path) -> None:
    layers, report = read_ramanujan(published_folder(root))
    assert (report.rows, report.networks) == (46392, 1975)
    assert layers["iterative_degree_bound"].isna().sum() == 8048
    assert np.isinf(layers["degree_bound"]).any()
    baselines = ramanujan_baselines(layers)
    assert np.isfinite(baselines["delta_r"].dropna()).all()
    assert baselines["layer_density"].between(0, 1).all()
