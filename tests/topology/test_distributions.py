from __future__ import annotations

import math
import warnings

import networkx as nx
import numpy as np
import pytest
from graphs_by_hand import Hand, edges_by_definition, golden_graph, random_graph
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from espalier.errors import ConfigurationError, DataError
from espalier.graphs.encodings import encode
from espalier.graphs.layer_graph import LayerGraph
from espalier.topology.degrees import degree_fields
from espalier.topology.distributions import (
    ENDS,
    clustering,
    clustering_of_csr,
    degree_assortativity,
    degree_assortativity_of_csr,
    degree_distributions,
    path_lengths,
    transitivity,
)


def networkx_graph(graph: LayerGraph) -> nx.DiGraph:
    network = nx.DiGraph()
    network.add_nodes_from(range(graph.nodes))
    network.add_edges_from(edges_by_definition(graph))
    return network


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["incoming", "outgoing", "total"]))
def test_degree_distributions(seed: int, direction: str) -> None:
    graph = random_graph(seed)
    network = networkx_graph(graph)
    degree = {
        "incoming": network.in_degree,
        "outgoing": network.out_degree,
        "total": network.degree,
    }[direction]
    found = degree_distributions(graph, direction)
    assert [item.name for item in found] == [part.name for part in graph.parts] + ["all"]
    bounds = [*zip(graph.offsets[:-1], graph.offsets[1:], strict=True), (0, graph.nodes)]
    for item, (start, stop) in zip(found, bounds, strict=True):
        values = np.array([degree(v) for v in range(start, stop)])
        np.testing.assert_array_equal(item.counts, np.bincount(values))
        assert item.nodes == stop - start
        assert item.mean == pytest.approx(values.mean())
        assert item.variance == pytest.approx(values.var(), abs=1e-9)
        assert item.shares.sum() == pytest.approx(1)
        for d, share in enumerate(item.at_least):
            assert share == pytest.approx((values >= d).mean())


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(ENDS))
def test_assortativity_equals_the_correlation_over_edges(seed: int, ends: str) -> None:
    graph = random_graph(seed)
    network = networkx_graph(graph)
    edges = np.array(list(network.edges), dtype=int).reshape(-1, 2)
    if ends == "undirected":
        edges = np.concatenate([edges, edges[:, ::-1]])
        first = second = dict(network.degree)
    else:
        by_name = {"in": dict(network.in_degree), "out": dict(network.out_degree)}
        first, second = (by_name[end] for end in ends.split("-"))
    x = np.array([first[u] for u, _ in edges])
    y = np.array([second[v] for _, v in edges])
    found = degree_assortativity(graph, ends)
    assert degree_assortativity_of_csr(encode(graph), ends) == pytest.approx(found, nan_ok=True)
    if len(x) == 0 or x.std() == 0 or y.std() == 0:
        assert math.isnan(found)
    else:
        assert found == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-9)
        assert abs(found) <= 1 + 1e-12


def test_assortativity_agrees_with_networkx() -> None:
    graph = golden_graph("tiny_pool_05")
    network = networkx_graph(graph)
    assert degree_assortativity(graph, "out-in") == pytest.approx(
        nx.degree_pearson_correlation_coefficient(network, x="out", y="in")
    )
    assert degree_assortativity(graph) == pytest.approx(
        nx.degree_pearson_correlation_coefficient(network.to_undirected())
    )


def test_equal_degrees_have_no_assortativity() -> None:
    hand = Hand(3, 1, 1)
    hand.linear(hand.input, np.ones((3, 3)))
    assert math.isnan(degree_assortativity(hand.graph()))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_clustering_equals_networkx(seed: int) -> None:
    graph = random_graph(seed)
    network = networkx_graph(graph).to_undirected()
    found = clustering(graph, adjacency=encode(graph))
    explicit = clustering_of_csr(encode(graph))
    triangles = sum(nx.triangles(network).values()) // 3
    assert found.triangles == explicit.triangles == triangles
    assert found.average == pytest.approx(nx.average_clustering(network))
    assert explicit.average == pytest.approx(found.average)
    assert explicit.transitivity == pytest.approx(found.transitivity, nan_ok=True)
    if any(d > 1 for _, d in network.degree):
        assert found.transitivity == pytest.approx(nx.transitivity(network))
    assert transitivity(graph) == pytest.approx(found.transitivity, nan_ok=True)


def test_clustering_asks_for_edges_only_where_triangles_may_be() -> None:
    chain = golden_graph("tiny_pool_05")
    assert clustering(chain) == (0.0, 0.0, 0)
    residual = golden_graph("tiny_res_s1_05")
    with pytest.raises(ConfigurationError, match=r"adjacency=espalier\.graphs\.encode"):
        clustering(residual)
    found = clustering(residual, adjacency=encode(residual))
    assert found.triangles > 0
    assert transitivity(residual) == pytest.approx(found.transitivity)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.booleans())
def test_path_lengths_equal_networkx(seed: int, directed: bool) -> None:
    graph = random_graph(seed)
    if graph.nodes > 200:
        return
    network = networkx_graph(graph)
    if not directed:
        network = network.to_undirected()
    lengths = [
        length
        for u, reached in nx.all_pairs_shortest_path_length(network)
        for v, length in reached.items()
        if u != v
    ]
    found = path_lengths(encode(graph), directed=directed)
    assert found.exact
    assert (found.sources, found.nodes) == (graph.nodes, graph.nodes)
    assert found.pairs == len(lengths)
    assert found.longest == max(lengths, default=0)
    assert found.mean == pytest.approx(np.mean(lengths) if lengths else math.nan, nan_ok=True)
    assert found.reachable == pytest.approx(len(lengths) / (graph.nodes * (graph.nodes - 1)))


def test_sampled_sources_are_named_as_sampled() -> None:
    adjacency = encode(golden_graph("tiny_pool_05"))
    whole = path_lengths(adjacency)
    some = path_lengths(adjacency, sources=100, seed=1)
    assert not some.exact
    assert some.sources == 100
    assert some == path_lengths(adjacency, sources=100, seed=1)
    assert some != path_lengths(adjacency, sources=100, seed=2)
    assert some.mean == pytest.approx(whole.mean, rel=0.1)
    # Every source once is the whole graph again.
    means = [path_lengths(adjacency, sources=100, seed=s).mean for s in range(30)]
    assert np.mean(means) == pytest.approx(whole.mean, rel=0.01)


def test_a_path_by_hand() -> None:
    path = sparse.csr_array(np.diag([1.0, 1.0, 1.0], 1))
    found = path_lengths(path)
    assert (found.mean, found.longest, found.pairs, found.reachable) == (10 / 6, 3, 12, 1.0)
    assert path_lengths(path, directed=True).pairs == 6


def test_bad_input() -> None:
    graph = golden_graph("tiny_pool_05")
    with pytest.raises(ConfigurationError, match="direction"):
        degree_distributions(graph, "in")
    with pytest.raises(ConfigurationError, match="ends"):
        degree_assortativity(graph, "in-out-in")
    with pytest.raises(ConfigurationError, match="ends"):
        degree_assortativity_of_csr(encode(graph), "both")
    with pytest.raises(ConfigurationError, match="sources is 0"):
        path_lengths(encode(graph), sources=0)
    with pytest.raises(DataError, match="no nodes"):
        path_lengths(sparse.csr_array((0, 0)))
    with pytest.raises(DataError, match="square CSR"):
        path_lengths(sparse.csr_array(np.ones((2, 3))))
    with pytest.raises(DataError, match="convention"):
        degree_assortativity(LayerGraph(graph.parts, (), convention="published"))


def test_degree_fields_can_be_given() -> None:
    graph = golden_graph("tiny_pool_05")
    degrees = degree_fields(graph)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mine = degree_distributions(graph, degrees=degrees)
    for first, second in zip(mine, degree_distributions(graph), strict=True):
        np.testing.assert_array_equal(first.counts, second.counts)
    assert degree_assortativity(graph, degrees=degrees) == degree_assortativity(graph)
