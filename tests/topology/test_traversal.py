from __future__ import annotations

import igraph
import networkx as nx
import numpy as np
import pytest
from graphs_by_hand import (
    Hand,
    View,
    edges_by_definition,
    golden,
    golden_graph,
    needs_large_goldens,
    random_graph,
    random_hand,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from espalier.errors import DataError
from espalier.graphs.layer_graph import LayerGraph, Part
from espalier.topology.csr_kernels import low_link
from espalier.topology.neighbours import (
    breadth_first_forest,
    explicit,
    forests_as_csr,
    neighbours,
    spanning_forest_of_rest,
    total_degrees,
)
from espalier.topology.traversal import Connectivity, connectivity, connectivity_of_csr

TINY = ["tiny_s2_05", "tiny_odd_05", "tiny_pool_09", "tiny_res_s1_05", "tiny_res_s2_09"]


def assert_same(found: Connectivity, expected: Connectivity) -> None:
    assert (found.nodes, found.components, found.bridges, found.articulation_points) == (
        expected.nodes,
        expected.components,
        expected.bridges,
        expected.articulation_points,
    )
    np.testing.assert_array_equal(found.labels, expected.labels)
    np.testing.assert_array_equal(found.is_articulation_point, expected.is_articulation_point)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 100_000), st.sampled_from([None, 0.05, 0.1, 0.3]))
def test_implicit_traversal_equals_the_enumerated_edges(seed: int, density: float | None) -> None:
    hand = random_hand(seed, density)
    graph = hand.graph()
    edges = list(edges_by_definition(hand.raw_graph()))
    reference = nx.Graph(edges)
    reference.add_nodes_from(range(graph.nodes))

    written = explicit(graph)
    assert written.edges == len(edges)
    for node in range(graph.nodes):
        own = written.indices[written.indptr[node] : written.indptr[node + 1]]
        assert own.tolist() == sorted(reference[node])

    found = connectivity(graph)
    assert found.components == nx.number_connected_components(reference)
    expected = sorted((sorted(c) for c in nx.connected_components(reference)), key=min)
    assert found.component_sizes().tolist() == [len(c) for c in expected]
    assert [found.labels[c].tolist() for c in expected] == [
        [i] * len(c) for i, c in enumerate(expected)
    ]
    other = igraph.Graph(graph.nodes, edges)
    assert found.bridges == sum(1 for _ in nx.bridges(reference)) == len(other.bridges())
    points = np.flatnonzero(found.is_articulation_point).tolist()
    assert points == sorted(nx.articulation_points(reference))
    assert points == sorted(other.articulation_points())
    assert found.articulation_points == len(points)
    assert found.mean_component_size == graph.nodes / len(expected)
    assert_same(connectivity_of_csr(written), found)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 100_000), st.integers(0, 1_000_000))
def test_any_root_gives_two_disjoint_forests_that_certify(seed: int, root: int) -> None:
    graph = random_graph(seed, 0.3)
    adjacency, degree = neighbours(graph), total_degrees(graph)
    parent, queue = breadth_first_forest(adjacency, degree, root % graph.nodes)
    assert queue[0] == root % graph.nodes
    assert sorted(queue.tolist()) == list(range(graph.nodes))

    written = explicit(graph)
    whole = nx.Graph()
    whole.add_nodes_from(range(graph.nodes))
    ends = np.repeat(np.arange(graph.nodes), np.diff(written.indptr))
    whole.add_edges_from(zip(ends.tolist(), written.indices.tolist(), strict=True))
    tree = {(v, p) for v, p in enumerate(parent.tolist()) if v != p}
    assert all(whole.has_edge(*edge) for edge in tree)
    roots = [v for v in range(graph.nodes) if parent[v] == v]
    depth = nx.multi_source_dijkstra_path_length(whole, roots) if roots else {}
    assert all(depth[v] == depth[p] + 1 for v, p in tree)

    rest = spanning_forest_of_rest(adjacency, degree, parent)
    left = whole.copy()
    left.remove_edges_from(tree)
    forest = nx.Graph(rest.tolist())
    forest.add_nodes_from(range(graph.nodes))
    assert all(left.has_edge(u, v) for u, v in rest.tolist())
    assert nx.is_forest(forest)
    assert nx.number_connected_components(forest) == nx.number_connected_components(left)

    indptr, indices = forests_as_csr(parent, rest)
    assert len(indices) == 2 * (len(tree) + len(rest))
    trees = low_link(indptr, indices)[2]
    assert trees == len(roots) == nx.number_connected_components(whole)


@pytest.mark.parametrize("case", TINY)
def test_tiny_goldens(case: str) -> None:
    expected = golden(case)["metrics_on_correct_graph"]
    found = connectivity(golden_graph(case))
    assert found.components == expected["C"]
    assert found.mean_component_size == pytest.approx(expected["C_avg"], rel=1e-12)
    assert found.bridges == expected["cut_edges"]
    assert found.articulation_points == expected["cut_nodes"]


@needs_large_goldens
@pytest.mark.parametrize("case", ["resnet20_erk_098", "conv6_erk_098"])
def test_large_goldens(case: str) -> None:
    graph, expected = golden_graph(case), golden(case, "correct")
    found = connectivity(graph)
    assert found.nodes == expected["nodes"]
    assert found.components == expected["C"]
    assert found.bridges == expected["cut_edges"]
    assert found.articulation_points == expected["cut_nodes"]
    assert_same(connectivity_of_csr(explicit(graph)), found)


def test_windows_with_gaps_are_taken_apart() -> None:
    rng = np.random.default_rng(3)
    hand = Hand(2, 9, 8)
    gaps = View(0, 2, [[0, 2, 4], [1, 3], [5], [6, 8]], [[0, 3], [1, 2], [4, 6, 7]])
    mask = rng.random((3, 2, 2, 2)) < 0.6
    hand.conv(gaps, rng.normal(size=mask.shape), mask)
    graph = hand.raw_graph()
    edges = edges_by_definition(graph)
    written = explicit(graph)
    ends = np.repeat(np.arange(graph.nodes), np.diff(written.indptr)).tolist()
    found = {(u, v) for u, v in zip(ends, written.indices.tolist(), strict=True) if u < v}
    assert found == set(edges)
    assert_same(connectivity(graph), connectivity_of_csr(written))


def test_lists_take_eight_bytes_per_kept_weight() -> None:
    hand = Hand(4, 6, 6)
    mask = np.random.default_rng(0).random((8, 4, 3, 3)) < 0.5
    hand.conv(hand.input, np.ones(mask.shape), mask, padding=(1, 1))
    assert neighbours(hand.graph()).channels.nbytes == 8 * mask.sum()


def test_a_chain_of_hubs_has_every_kind_of_cut() -> None:
    hand = Hand(5, 1, 1)
    middle = hand.conv(hand.input, np.ones((1, 5, 1, 1)))
    hand.conv(middle, np.ones((2, 1, 1, 1)), np.array([True, False]).reshape(2, 1, 1, 1))
    found = connectivity(hand.graph())
    assert (found.nodes, found.components, found.bridges) == (8, 2, 6)
    assert found.labels.tolist() == [0, 0, 0, 0, 0, 0, 0, 1]
    assert np.flatnonzero(found.is_articulation_point).tolist() == [5]


def test_parts_without_blocks_are_isolated_nodes() -> None:
    found = connectivity(LayerGraph((Part("input", 2, 3, 3),), ()))
    assert (found.nodes, found.components, found.bridges, found.articulation_points) == (
        18,
        18,
        0,
        0,
    )
    assert connectivity_of_csr(sparse.csr_array((18, 18))).components == 18


def test_a_graph_without_blocks_for_its_layers_is_refused() -> None:
    with pytest.raises(DataError, match="'published' convention has no blocks"):
        connectivity(LayerGraph((Part("input", 1, 1, 1),), (), convention="published"))
