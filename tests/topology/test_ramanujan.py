from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from graphs_by_hand import GOLDENS, LARGE_GOLDENS, needs_large_goldens
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from espalier.errors import ConfigurationError, DataError
from espalier.graphs.layer_graph import Layer, LayerGraph
from espalier.topology import ramanujan
from espalier.topology.ramanujan import (
    bipartite_spectrum,
    layer_density,
    network_ramanujan_metrics,
    ramanujan_metrics,
    ramanujan_metrics_by_layer,
)

RELATED = Path(__file__).parents[1] / "goldens" / "related"
SCORES = json.loads((RELATED / "ramanujan.json").read_text())
CASES = [case for case in SCORES if not case.startswith("_")]


def golden_layer(case: str) -> sparse.csr_array:
    with np.load(RELATED / "ramanujan.npz") as arrays:
        return sparse.csr_array(np.where(arrays[f"{case}/mask"] > 0, arrays[f"{case}/W"], 0.0))


def same(value: float, expected: float | None, tolerance: float) -> None:
    if expected is None:
        assert math.isnan(value)
    else:
        assert value == pytest.approx(expected, rel=tolerance, abs=tolerance)


@pytest.mark.parametrize("case", CASES)
def test_goldens_of_the_official_scores(case: str) -> None:
    metrics = ramanujan_metrics(golden_layer(case), "official")
    layer, iterative = SCORES[case]["reference"], SCORES[case]["reference_iterative"] or {}
    # The official code computes in single precision.
    same(metrics.difference_of_bound, layer["rm"], 2e-4)
    same(metrics.eigenvalue_difference, layer["sm"], 2e-4)
    same(metrics.expansion, layer["expansion"], 1e-6)
    same(metrics.random_bound, layer["random_bound"], 2e-4)
    same(metrics.imdb, iterative.get("irm"), 2e-4)
    same(metrics.imdb, SCORES[case]["imdb_absolute"], 1e-10)
    same(metrics.imdb_relative, SCORES[case]["imdb_relative"], 1e-10)
    same(metrics.iterative_eigenvalue_difference, iterative.get("ism"), 2e-4)
    same(metrics.iterative_eigenvalue_difference_relative, iterative.get("ism_norm"), 2e-4)
    assert metrics.subgraphs == iterative.get("n_subgraphs", 0)
    columns = metrics.published_columns()
    same(columns["iterative_degree_bound"], SCORES[case]["imdb_absolute"], 1e-10)


@pytest.mark.parametrize("case", CASES)
def test_goldens_of_the_published_form(case: str) -> None:
    expected = SCORES[case]["mge_form"]
    metrics = ramanujan_metrics(golden_layer(case), "published")
    columns = metrics.published_columns()
    same(columns["degree_bound"], expected["delta_r_relative"], 1e-10)
    same(columns["iterative_degree_bound"], expected["imdb_relative"], 1e-10)
    assert metrics.subgraphs == expected["n_subgraphs"]
    # This golden holds float64 weights; the published code rounds them to float16.
    same(columns["iterative_spectral_gap"], expected["lambda_imsg"], 2e-4)
    exact = ramanujan_metrics(golden_layer(case)).iterative_spectral_gap
    same(exact, expected["lambda_imsg"], 1e-10)


def golden_network(case: str, folder: Path) -> LayerGraph:
    with np.load(folder / f"{case}.npz") as arrays:
        layers = tuple(
            Layer(
                key.split("_", 2)[2],
                arrays[key].reshape(*arrays[key].shape, 1, 1)[..., :1, :1]
                if arrays[key].ndim == 2
                else arrays[key],
                arrays[f"mask_{key.split('_', 1)[1]}"].reshape(
                    arrays[key].shape if arrays[key].ndim == 4 else (*arrays[key].shape, 1, 1)
                )
                > 0,
            )
            for key in arrays
            if key.startswith("weight_")
        )
    return LayerGraph((), (), layers=layers)


def check_network(case: str, folder: Path) -> None:
    graph = golden_network(case, folder)
    expected = json.loads((folder / f"{case}_rolled_ramanujan.json").read_text())
    for kind in ("rolled", "rolled-channel"):
        found = ramanujan_metrics_by_layer(graph, kind, "published")
        assert list(found) == [row["layer"] for row in expected[kind]]
        for row in expected[kind]:
            columns = found[row["layer"]].published_columns()
            same(columns["layer_sparsity"], row["density"], 1e-6)
            same(columns["degree_bound"], row.get("delta_r(normalised)"), 1e-9)
            same(columns["iterative_degree_bound"], row["imdb(normalised)"], 1e-9)
            same(columns["iterative_spectral_gap"], row["iter_weighted_gap(lambda_imsg)"], 2e-4)
            assert found[row["layer"]].edges == row["edges"]
            # The public code skips a layer of three nodes or fewer.
            if "d_avg_l" in row:
                assert found[row["layer"]].mean_left_degree == pytest.approx(row["d_avg_l"])
                assert found[row["layer"]].mean_right_degree == pytest.approx(row["d_avg_r"])


@pytest.mark.parametrize("case", ["tiny_s2_05", "tiny_s2_09"])
def test_goldens_of_tiny_networks(case: str) -> None:
    check_network(case, GOLDENS)


@needs_large_goldens
def test_goldens_of_a_whole_network() -> None:
    check_network("resnet20_erk_098", LARGE_GOLDENS)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.booleans())
def test_spectrum_equals_that_of_the_adjacency_matrix(seed: int, weighted: bool) -> None:
    rng = np.random.default_rng(seed)
    shape = rng.integers(1, 9, size=2)
    matrix = rng.normal(size=shape) * (rng.random(shape) < rng.random())
    spectrum = bipartite_spectrum(matrix, weighted=weighted)
    block = np.abs(matrix) if weighted else (matrix != 0).astype(float)
    block = block[block.any(axis=1)][:, block.any(axis=0)]
    assert (spectrum.left, spectrum.right) == (block.shape if block.size else (0, 0))
    whole = np.block(
        [
            [np.zeros((len(block),) * 2), block],
            [block.T, np.zeros((block.shape[1],) * 2)],
        ]
    )
    values = [*np.sort(np.abs(np.linalg.eigvalsh(whole)))[::-1], 0.0, 0.0, 0.0]
    assert spectrum.largest == pytest.approx(values[0], abs=1e-12)
    assert spectrum.second == pytest.approx(values[2], abs=1e-7)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_the_iteration_agrees_with_the_dense_decomposition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    block = rng.random((70, 50)) * (rng.random((70, 50)) < 0.2)
    # Two equal components: the first singular value occurs twice.
    twice = sparse.csr_array(sparse.block_diag([block, block]))
    for matrix in (sparse.csr_array(block), twice):
        dense = bipartite_spectrum(matrix, weighted=True)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ramanujan, "DENSE_WORK", 0.0)
            patch.setattr(ramanujan, "_dense_values", None)
            iterated = bipartite_spectrum(matrix[:, np.unique(matrix.indices)], weighted=True)
        assert iterated.largest == pytest.approx(dense.largest, rel=1e-10)
        assert iterated.second == pytest.approx(dense.second, rel=1e-10)
    assert dense.second == pytest.approx(dense.largest, rel=1e-12)


def test_a_regular_graph_by_hand() -> None:
    # K_{4,4} minus a perfect matching: 3-regular, eigenvalues 3, 1, 1, 1 and their negatives.
    metrics = ramanujan_metrics(1 - np.eye(4))
    expected = 2 * math.sqrt(2) - 1
    assert metrics.difference_of_bound == pytest.approx(expected)
    assert metrics.imdb == pytest.approx(expected)
    assert metrics.difference_of_bound_relative == pytest.approx(expected / (2 * math.sqrt(2)))
    assert metrics.eigenvalue_difference == pytest.approx(expected)
    assert metrics.spectral_gap == pytest.approx(2)
    assert metrics.iterative_spectral_gap == pytest.approx(2)
    assert metrics.density == 12 / 16
    # Where every degree is the same, the bounds of all conventions are.
    for convention in ("official", "published"):
        other = ramanujan_metrics(1 - np.eye(4), convention)
        assert other.difference_of_bound == pytest.approx(expected)


def test_the_definition_takes_the_mean_degree_and_the_others_both_sides() -> None:
    dense = np.ones((3, 6))
    assert ramanujan_metrics(dense).difference_of_bound == pytest.approx(2 * math.sqrt(36 / 9 - 1))
    both = math.sqrt(5) + math.sqrt(2)
    assert ramanujan_metrics(dense, "official").difference_of_bound == pytest.approx(both)


@pytest.mark.parametrize(
    ("matrix", "convention", "reason"),
    [
        (np.zeros((4, 4)), "definition", "no edges"),
        (np.eye(5)[:1], "definition", "single edge"),
        (np.ones((2, 1)), "published", "more than 3 nodes"),
        (np.eye(4), "published", "bound is 0"),
        (np.eye(4) + np.eye(4)[::-1], "official", "below 3"),
    ],
)
def test_what_is_not_defined_is_nan_with_a_reason(
    matrix: np.ndarray, convention: str, reason: str
) -> None:
    metrics = ramanujan_metrics(matrix, convention)
    assert math.isnan(metrics.difference_of_bound)
    assert reason in metrics.reasons["difference_of_bound"]
    assert math.isnan(metrics.imdb)
    assert "imdb" in metrics.reasons
    nan_fields = {
        name
        for name in vars(metrics)
        if isinstance(getattr(metrics, name), float) and math.isnan(getattr(metrics, name))
    } - {"mean_left_degree", "mean_right_degree"}
    assert nan_fields == set(metrics.reasons)


def test_a_matching_has_no_relative_difference() -> None:
    metrics = ramanujan_metrics(np.eye(4))
    assert metrics.difference_of_bound == -1
    assert math.isnan(metrics.difference_of_bound_relative)
    assert "bound is 0" in metrics.reasons["difference_of_bound_relative"]


def test_network_means_say_over_how_many_layers() -> None:
    dense, empty = ramanujan_metrics(np.ones((4, 4))), ramanujan_metrics(np.zeros((4, 4)))
    network = network_ramanujan_metrics({"a": dense, "b": empty})
    assert network["imdb"] == dense.imdb
    assert network["imdb_layers"] == 0.5
    assert network["density"] == 0.5
    assert math.isnan(network_ramanujan_metrics([empty])["imdb"])


def test_density_is_of_weights_in_both_kinds() -> None:
    graph = golden_network("tiny_s2_05", GOLDENS)
    density = layer_density(graph)
    for kind in ("rolled", "rolled-channel"):
        found = ramanujan_metrics_by_layer(graph, kind)
        assert {name: metrics.density for name, metrics in found.items()} == density


def test_bad_input() -> None:
    with pytest.raises(ConfigurationError, match="convention"):
        ramanujan_metrics(np.ones((3, 3)), "publsihed")
    with pytest.raises(ConfigurationError, match="rolled-channel"):
        ramanujan_metrics_by_layer(LayerGraph((), ()), "unrolled")
    with pytest.raises(DataError, match="finite"):
        bipartite_spectrum(np.array([[np.nan, 1.0]]))
    with pytest.raises(DataError, match="matrix"):
        bipartite_spectrum(np.ones(3))
