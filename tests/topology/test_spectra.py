from __future__ import annotations

import numpy as np
import pytest
import torch
from graphs_by_hand import Hand, golden, golden_graph, needs_large_goldens, random_graph
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from espalier.errors import ConfigurationError, DataError, EspalierError
from espalier.topology import spectra
from espalier.topology.operators import Adjacency, adjacency_csr
from espalier.topology.spectra import lanczos, spectral_gap, spectral_radius

TINY = [
    "tiny_s2_05",
    "tiny_odd_05",
    "tiny_pool_05",
    "tiny_pool_09",
    "tiny_res_s1_05",
    "tiny_res_s2_09",
]


def dense_values(graph: sparse.csr_array) -> tuple[float, float, float]:
    """Gap by either convention, and Laplacian radius."""
    weights = abs(graph).toarray()
    weights = weights + weights.T
    values = np.linalg.eigvalsh(weights)
    below = values[values < values[-1] - 1e-9 * max(values[-1], 1e-300)]
    magnitude = np.sort(np.abs(values))
    radius = np.linalg.eigvalsh(np.diag(weights.sum(axis=1)) - weights)[-1]
    gap = values[-1] - below[-1] if below.size else 0.0
    return gap, magnitude[-1] - magnitude[-3], radius


@pytest.fixture(params=["dense", "edges", "convolutions"])
def route(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every way to the same value."""
    if request.param != "dense":
        monkeypatch.setattr(spectra, "DENSE_NODES", 2)
    if request.param == "convolutions":
        monkeypatch.setattr(spectra, "_DENSE_PER_EDGE", 1 << 60)
    return request.param


@pytest.mark.parametrize("seed", range(8))
def test_values_equal_dense_linear_algebra(seed: int, route: str) -> None:
    graph = random_graph(seed, density=0.6)
    gap, published, radius = dense_values(adjacency_csr(graph))
    scale = max(radius, 1.0)
    for found, expected in (
        (spectral_gap(graph), gap),
        (spectral_gap(graph, "published"), published),
        (spectral_radius(graph), radius),
    ):
        assert found.value == pytest.approx(expected, abs=1e-7 * scale)
        assert found.residual <= 2e-5 * scale


def test_the_same_graph_gives_the_same_bits(route: str) -> None:
    graph = random_graph(5, density=0.6)
    assert spectral_gap(graph) == spectral_gap(graph)
    assert spectral_radius(graph) == spectral_radius(graph)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_convolutions_multiply_as_the_edges_do(seed: int) -> None:
    graph = random_graph(seed)
    matrix = adjacency_csr(graph)
    x = np.random.default_rng(seed).normal(size=graph.nodes)
    operator = Adjacency(graph)
    vector = torch.from_numpy(x)
    np.testing.assert_allclose(operator.forward(vector).numpy(), matrix.T @ x, atol=1e-9)
    np.testing.assert_allclose(
        operator.multiply(vector).numpy(), matrix.T @ x + matrix @ x, atol=1e-9
    )
    unweighted = Adjacency(graph, weighted=False).multiply(torch.ones_like(vector))
    pattern = adjacency_csr(graph, weighted=False)
    np.testing.assert_array_equal(unweighted.numpy(), pattern.sum(axis=0) + pattern.sum(axis=1))


@pytest.mark.parametrize("case", TINY)
def test_tiny_goldens(case: str, route: str) -> None:
    graph, expected = golden_graph(case), golden(case)["metrics_on_correct_graph"]
    assert spectral_gap(graph).value == pytest.approx(
        expected["gap_paper mu0 - next distinct"], abs=2e-9
    )
    assert spectral_gap(graph, "published").value == pytest.approx(
        expected["gap_ref |l1|-|l3|"], abs=1e-9
    )
    assert spectral_radius(graph).value == pytest.approx(expected["lap_radius"], rel=1e-8)


@needs_large_goldens
def test_resnet20_golden() -> None:
    graph, expected = golden_graph("resnet20_erk_098"), golden("resnet20_erk_098", "correct")
    gap, radius = spectral_gap(graph), spectral_radius(graph)
    assert gap.value == pytest.approx(expected["spectral_gap_ref_style"], rel=1e-9)
    assert radius.value == pytest.approx(expected["spectral_radius"], rel=1e-8)
    assert gap.residual < 1e-5


def test_large_graphs_are_finished_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spectra, "LARGE_GRAPH", 1)
    monkeypatch.setattr(spectra, "DENSE_NODES", 2)
    monkeypatch.setattr(spectra, "_DENSE_PER_EDGE", 1 << 60)
    for case in ("tiny_pool_05", "tiny_res_s1_05"):
        expected = golden(case)["metrics_on_correct_graph"]
        found = spectral_gap(golden_graph(case))
        assert found.value == pytest.approx(expected["gap_paper mu0 - next distinct"], abs=1e-8)
        assert found.residual <= spectra.LARGE_TOLERANCE * expected["adj_top4_signed"][0]


def test_the_spectrum_is_that_of_the_union_of_components(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spectra, "DENSE_NODES", 1)
    # Two stars and an isolated node: eigenvalues +-sqrt(5), +-2 and 0.
    edges = sparse.lil_array((12, 12))
    edges[0, 1:6] = 1
    edges[6, 7:11] = 1
    matrix = sparse.csr_array(edges)
    assert spectral_gap(matrix).value == pytest.approx(np.sqrt(5) - 2, abs=1e-12)
    assert spectral_gap(matrix, "published").value == pytest.approx(np.sqrt(5) - 2, abs=1e-12)
    assert spectral_radius(matrix).value == pytest.approx(6, abs=1e-12)


def test_few_distinct_eigenvalues(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spectra, "DENSE_NODES", 1)
    star = sparse.csr_array(np.array([[0, 2.0, 2.0], [0, 0, 0], [0, 0, 0]]))
    assert spectral_gap(star).value == pytest.approx(np.sqrt(8), rel=1e-12)
    pair = sparse.csr_array(np.array([[0, -3.0], [0, 0]]))
    assert spectral_gap(pair).value == pytest.approx(6, rel=1e-12)
    hand = Hand(2, 3, 3)
    hand.linear(hand.input, np.ones((2, 18)), np.zeros((2, 18)))
    assert spectral_gap(hand.graph()).value == spectral_radius(hand.graph()).value == 0


def test_a_restarted_basis_gives_the_same_eigenvalues() -> None:
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(300, 300))
    matrix = torch.from_numpy(matrix + matrix.T)
    values = torch.linalg.eigvalsh(matrix)
    start = torch.ones(300, dtype=torch.float64)
    for wanted, expected in (
        (spectra._two_largest, values[-2:]),
        (spectra._three_by_magnitude, values[values.abs().argsort()[-3:].sort()[0]]),
    ):
        found = lanczos(matrix.mv, start, wanted, 1e-8, 2000, basis_bytes=20 * 300 * 8)
        np.testing.assert_allclose(found.values, expected.numpy(), rtol=1e-10)
        product = found.vectors @ matrix
        residual = product - torch.from_numpy(found.values)[:, None] * found.vectors
        np.testing.assert_allclose(
            torch.linalg.vector_norm(residual, dim=1).numpy(), found.residuals, atol=1e-9
        )


def test_errors_say_what_to_do() -> None:
    graph = random_graph(3, density=0.6)
    with pytest.raises(ConfigurationError, match="definition"):
        spectral_gap(graph, "paper")
    with pytest.raises(DataError, match="not square"):
        spectral_radius(sparse.csr_array(np.ones((2, 3))))
    matrix = torch.diag(torch.linspace(0, 1, 500, dtype=torch.float64))
    with pytest.raises(EspalierError, match="raise max_steps"):
        lanczos(matrix.mv, torch.ones(500, dtype=torch.float64), spectra._two_largest, 1e-10, 5)
