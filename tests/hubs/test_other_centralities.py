from __future__ import annotations

import itertools
import sys

import networkx as nx
import numpy as np
import pytest
import torch
from hub_graphs import layered_adjacency, random_weights
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from torch import nn

from espalier.errors import ConfigurationError, DataError, MissingDependencyError
from espalier.graphs import layer_graph
from espalier.hubs import betweenness, eigenvector, katz, strength
from espalier.hubs.weighted_graphs import network_graph


def flat(layers):
    return np.concatenate([layer.reshape(-1) for layer in layers])


def absolute_graph(weights):
    return nx.from_numpy_array(np.abs(layered_adjacency(weights)))


def wide_weights(seed=0, sizes=(40, 30, 20)):
    """More nodes than are handled by dense linear algebra."""
    rng = np.random.default_rng(seed)
    return [
        rng.standard_normal(shape) * (rng.random(shape) < 0.3)
        for shape in itertools.pairwise(sizes)
    ]


@pytest.fixture(scope="module")
def convolutions():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(3, 4, 3), nn.Flatten())
    model.append(nn.Linear(4 * 3 * 3, 5))
    return layer_graph(model, (2, 5, 5))


@settings(max_examples=25)
@given(st.integers(0, 10_000))
def test_strength_is_the_sum_of_a_nodes_weights(seed):
    weights = random_weights(seed)
    adjacency = layered_adjacency(weights)
    for signed in (True, False):
        matrix = adjacency if signed else np.abs(adjacency)
        np.testing.assert_allclose(
            flat(strength(weights, signed=signed)), matrix.sum(0) + matrix.sum(1), atol=1e-12
        )
        np.testing.assert_allclose(
            flat(strength(weights, "out", signed=signed)), matrix.sum(1), atol=1e-12
        )
    by_networkx = dict(absolute_graph(weights).degree(weight="weight"))
    np.testing.assert_allclose(flat(strength(weights)), list(by_networkx.values()), atol=1e-12)


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array, torch.tensor])
@pytest.mark.parametrize("weights", [random_weights(1, layers=4, density=1), wide_weights()])
def test_katz_solves_its_equation(weights, form):
    graph = absolute_graph(weights)
    largest = np.linalg.eigvalsh(nx.to_numpy_array(graph))[-1]
    found = flat(katz([form(w) for w in weights], attenuation=0.7))
    expected = nx.katz_centrality_numpy(graph, alpha=0.7 / largest, weight="weight")
    np.testing.assert_allclose(found, list(expected.values()), rtol=1e-8)
    same = flat(katz([form(w) for w in weights], alpha=0.7 / largest, beta=3.0))
    np.testing.assert_allclose(same, found, rtol=1e-8)


def test_katz_of_signed_weights_and_of_the_out_graph():
    weights = wide_weights(2)
    adjacency = layered_adjacency(weights)
    whole = adjacency + adjacency.T
    radius = np.abs(np.linalg.eigvalsh(whole)).max()
    for matrix, options in (
        (whole, {"signed": True}),
        (adjacency, {"graph": "out", "signed": True}),
    ):
        expected = np.linalg.solve(
            np.eye(len(matrix)) - 0.5 / radius * matrix, np.ones(len(matrix))
        )
        found = flat(katz(weights, **options))
        np.testing.assert_allclose(found, expected / np.linalg.norm(expected), rtol=1e-8)
    # The out-graph has no cycle: alpha has no upper end.
    expected = np.linalg.solve(np.eye(len(adjacency)) - 5 * adjacency, np.ones(len(adjacency)))
    found = flat(katz(weights, "out", alpha=5, signed=True))
    np.testing.assert_allclose(found, expected / np.linalg.norm(expected), rtol=1e-8)


def test_katz_without_edges_is_constant():
    found = flat(katz([np.zeros((3, 1))]))
    np.testing.assert_allclose(found, 0.5)


@pytest.mark.parametrize("weights", [random_weights(1, layers=4, density=1), wide_weights()])
def test_eigenvector_centrality(weights):
    graph = absolute_graph(weights)
    assert nx.is_connected(graph)
    expected = nx.eigenvector_centrality_numpy(graph, weight="weight")
    np.testing.assert_allclose(flat(eigenvector(weights)), list(expected.values()), atol=1e-8)


def test_eigenvector_centrality_of_components_is_that_of_the_heaviest():
    weights = [np.diag([1.0, 3.0])]
    np.testing.assert_allclose(flat(eigenvector(weights)), [0, 0.5**0.5, 0, 0.5**0.5], atol=1e-12)
    with pytest.raises(DataError, match="without edges"):
        eigenvector([np.zeros((2, 2))])


@pytest.mark.parametrize("kind", ["unrolled", "rolled-channel"])
def test_convolutions(convolutions, kind):
    matrix = network_graph(convolutions, kind, signed=False).adjacency().toarray()
    graph = nx.from_numpy_array(matrix)
    by_degree = list(dict(graph.degree(weight="weight")).values())
    np.testing.assert_allclose(flat(strength(convolutions, kind=kind)), by_degree, rtol=1e-9)
    whole = matrix + matrix.T
    values, vectors = np.linalg.eigh(whole)
    np.testing.assert_allclose(
        flat(eigenvector(convolutions, kind=kind)), np.abs(vectors[:, -1]), atol=1e-7
    )
    expected = np.linalg.solve(np.eye(len(whole)) - 0.5 / values[-1] * whole, np.ones(len(whole)))
    np.testing.assert_allclose(
        flat(katz(convolutions, kind=kind)), expected / np.linalg.norm(expected), rtol=1e-8
    )


@pytest.mark.parametrize("weighted", [True, False])
def test_betweenness(weighted, convolutions):
    pytest.importorskip("igraph")
    weights = random_weights(4, layers=4, density=0.7)
    graph = absolute_graph(weights)
    for _, _, data in graph.edges(data=True):
        data["length"] = 1 / data["weight"]
    expected = nx.betweenness_centrality(
        graph, normalized=False, weight="length" if weighted else None
    )
    np.testing.assert_allclose(
        flat(betweenness(weights, weighted=weighted)), list(expected.values()), atol=1e-9
    )
    shares = flat(betweenness(weights, weighted=weighted, normalised=True))
    expected = nx.betweenness_centrality(graph, weight="length" if weighted else None)
    np.testing.assert_allclose(shares, list(expected.values()), atol=1e-9)
    channels = betweenness(convolutions, weighted=weighted)
    assert [layer.shape for layer in channels] == [(2,), (3,), (4,), (5,)]
    assert flat(channels).max() > 0
    with pytest.raises(ConfigurationError, match="max_edges=3"):
        betweenness(weights, max_edges=3)


def test_betweenness_needs_igraph(monkeypatch):
    monkeypatch.setitem(sys.modules, "igraph", None)
    with pytest.raises(MissingDependencyError, match="pip install igraph"):
        betweenness([np.ones((2, 2))])


def test_bad_options(convolutions):
    weights = wide_weights()
    for attenuation in (0, 1, -1, float("nan")):
        with pytest.raises(ConfigurationError, match="attenuation is"):
            katz(weights, attenuation=attenuation)
    with pytest.raises(ConfigurationError, match="alpha must be below"):
        katz(weights, alpha=10)
    with pytest.raises(ConfigurationError, match="alpha is -1"):
        katz(weights, alpha=-1)
    with pytest.raises(ConfigurationError, match="beta is 0"):
        katz(weights, beta=0)
    with pytest.raises(ConfigurationError, match="unknown graph"):
        strength(weights, "both")
    with pytest.raises(ConfigurationError, match="unknown encoding"):
        strength(convolutions, kind="rolled")
    weights[0][0, 0] = np.nan
    for centrality in (strength, katz, eigenvector, betweenness):
        with pytest.raises(DataError, match="not finite"):
            centrality(weights)
