from __future__ import annotations

import igraph
import networkx as nx
import numpy as np
import pytest
from graphs_by_hand import (
    Hand,
    edges_by_definition,
    golden,
    golden_graph,
    needs_large_goldens,
    random_hand,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from espalier.errors import DataError
from espalier.graphs.layer_graph import LayerGraph, Part
from espalier.topology.cores import cores, cores_of_csr
from espalier.topology.neighbours import explicit, neighbours, total_degrees

TINY = ["tiny_s2_05", "tiny_odd_05", "tiny_pool_09", "tiny_res_s1_05", "tiny_res_s2_09"]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 100_000), st.sampled_from([None, 0.1, 0.3, 0.6]))
def test_core_numbers_equal_networkx_and_igraph(seed: int, density: float | None) -> None:
    hand = random_hand(seed, density)
    graph = hand.graph()
    edges = list(edges_by_definition(hand.raw_graph()))
    reference = nx.Graph(edges)
    reference.add_nodes_from(range(graph.nodes))
    found = cores(graph)
    assert found.coreness.tolist() == igraph.Graph(graph.nodes, edges).coreness()
    assert dict(enumerate(found.coreness.tolist())) == nx.core_number(reference)
    assert found.total == sum(found.coreness.tolist())
    assert found.degeneracy == max(found.coreness.tolist())
    np.testing.assert_array_equal(cores_of_csr(explicit(graph)).coreness, found.coreness)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 100_000), st.sampled_from([0.0, 0.001, 0.01, 0.1]))
def test_convolved_waves_give_the_same_cores(seed: int, wave_share: float) -> None:
    graph = random_hand(seed, 0.8).graph()
    expected = cores(graph, wave_share=1)
    found = cores(graph, wave_share=wave_share)
    np.testing.assert_array_equal(found.coreness, expected.coreness)


@pytest.mark.parametrize("case", TINY)
def test_tiny_goldens(case: str) -> None:
    expected = golden(case)["metrics_on_correct_graph"]
    assert cores(golden_graph(case)).mean == pytest.approx(expected["k-core"], rel=1e-14)


@needs_large_goldens
@pytest.mark.parametrize("case", ["resnet20_erk_098", "conv6_erk_098"])
def test_large_goldens(case: str) -> None:
    graph, expected = golden_graph(case), golden(case, "correct")
    found = cores(graph)
    assert found.mean == pytest.approx(expected["k-core"], rel=1e-14)
    np.testing.assert_array_equal(cores_of_csr(explicit(graph)).coreness, found.coreness)


def test_what_is_at_hand_is_not_changed() -> None:
    graph = random_hand(5, 0.6).graph()
    adjacency, degrees = neighbours(graph), total_degrees(graph)
    before = degrees.copy()
    found = cores(graph, adjacency=adjacency, degrees=degrees)
    np.testing.assert_array_equal(degrees, before)
    np.testing.assert_array_equal(found.coreness, cores(graph).coreness)


def test_a_dense_layer_is_a_complete_bipartite_graph() -> None:
    hand = Hand(3, 1, 1)
    hand.linear(hand.input, np.ones((7, 3)))
    found = cores(hand.graph())
    assert found.coreness.tolist() == [3] * 10
    assert (found.nodes, found.total, found.mean, found.degeneracy) == (10, 30, 3.0, 3)


def test_isolated_nodes_have_core_number_zero() -> None:
    found = cores(LayerGraph((Part("input", 2, 3, 3),), ()))
    assert (found.total, found.mean, found.degeneracy) == (0, 0.0, 0)
    assert cores_of_csr(sparse.csr_array((4, 4))).coreness.tolist() == [0] * 4


def test_a_graph_without_blocks_for_its_layers_is_refused() -> None:
    with pytest.raises(DataError, match="'published' convention has no blocks"):
        cores(LayerGraph((Part("input", 1, 1, 1),), (), convention="published"))
