from __future__ import annotations

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

from espalier.errors import ConfigurationError, DataError
from espalier.topology.degrees import (
    degree_counts,
    degree_fields,
    degree_fields_of_csr,
    disconnected_mask,
    edge_count,
    local_counts,
    sink_mask,
    source_mask,
    strength_fields,
    strength_fields_of_csr,
    total_strength,
)
from espalier.topology.operators import adjacency_csr

TINY = ["tiny_s2_05", "tiny_odd_05", "tiny_pool_09", "tiny_res_s1_05", "tiny_res_s2_09"]


def flat(fields: tuple[np.ndarray, ...]) -> np.ndarray:
    return np.concatenate([field.reshape(-1) for field in fields])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_degrees_and_strengths_equal_those_of_the_enumerated_edges(seed: int) -> None:
    hand = random_hand(seed)
    graph = hand.graph()
    edges = edges_by_definition(hand.raw_graph())
    incoming, outgoing = np.zeros(graph.nodes, int), np.zeros(graph.nodes, int)
    into, out_of = np.zeros(graph.nodes), np.zeros(graph.nodes)
    for (u, v), weight in edges.items():
        outgoing[u] += 1
        incoming[v] += 1
        out_of[u] += weight
        into[v] += weight
    degrees, strengths = degree_fields(graph), strength_fields(graph)
    np.testing.assert_array_equal(flat(degrees.incoming), incoming)
    np.testing.assert_array_equal(flat(degrees.outgoing), outgoing)
    np.testing.assert_allclose(flat(strengths.incoming), into, rtol=1e-5, atol=1e-12)
    np.testing.assert_allclose(flat(strengths.outgoing), out_of, rtol=1e-5, atol=1e-12)
    assert edge_count(degrees) == len(edges)
    assert flat(degrees.incoming).dtype == np.int64
    np.testing.assert_array_equal(degree_counts(degrees), np.bincount(incoming + outgoing))
    both_ways = adjacency_csr(graph)
    of_csr = degree_fields_of_csr(graph, both_ways)
    np.testing.assert_array_equal(flat(of_csr.total), incoming + outgoing)
    np.testing.assert_allclose(
        flat(strength_fields_of_csr(graph, both_ways).total), into + out_of, rtol=1e-5, atol=1e-12
    )


@pytest.mark.parametrize("case", TINY)
def test_local_counts_equal_the_brute_force_of_the_goldens(case: str) -> None:
    graph = golden_graph(case)
    expected = golden(case)["metrics_on_correct_graph"]
    degrees = degree_fields(graph)
    own, published = local_counts(degrees), local_counts(degrees, "published")
    assert (own.nodes, own.edges) == (expected["nodes"], expected["edges"])
    assert own.sink_nodes == expected["sink_def(excl last layer)"]
    assert own.source_nodes == expected["source_def(excl first layer)"]
    assert own.disconnected_nodes == published.disconnected_nodes == expected["disc"]
    assert own.removable_out == expected["r_out_paper(sum outdeg of sources excl first)"]
    assert own.removable_in == expected["r_in_paper(sum indeg of sinks excl last)"]
    assert published.sink_nodes == expected["sink_ref_formula"]
    assert published.source_nodes == expected["source_ref_formula"]
    assert published.removable_out == expected["ref lost_out(sum indeg of sinks idx<N-1-dlast)"]
    assert published.removable_in == expected["ref lost_in(sum outdeg of sources idx>d0)"]
    mean = total_strength(strength_fields(graph)) / graph.nodes
    assert mean == pytest.approx(expected["avg_node_strength"], rel=1e-12)


@needs_large_goldens
@pytest.mark.parametrize("case", ["resnet20_erk_098", "conv6_erk_098"])
def test_local_counts_equal_the_large_goldens(case: str) -> None:
    graph, expected = golden_graph(case), golden(case, "correct")
    degrees = degree_fields(graph)
    counts = local_counts(degrees)
    assert [p.nodes for p in graph.parts] == expected["dimension"]
    assert counts.edges == expected["edges"]
    assert counts.sink_nodes == expected["sink_def"]
    assert counts.source_nodes == expected["source_def"]
    assert counts.disconnected_nodes == expected["disc"]
    assert counts.removable_out == expected["sum_outdeg_sources"]
    assert counts.removable_in == expected["sum_indeg_sinks"]
    mean = total_strength(strength_fields(graph)) / graph.nodes
    assert mean == pytest.approx(expected["avg_node_strength"], rel=1e-12)


def chain() -> Hand:
    """Two inputs, two middle nodes, one class; the second middle node has no outgoing edge."""
    hand = Hand(2, 1, 1)
    middle = hand.conv(
        hand.input, np.ones((2, 2, 1, 1)), np.array([[1, 0], [1, 0]])[..., None, None]
    )
    hand.linear(middle, np.ones((1, 2)), np.array([[1, 0]]))
    return hand


def test_masks_of_nodes_cover_every_part() -> None:
    degrees = degree_fields(chain().graph())
    np.testing.assert_array_equal(np.flatnonzero(sink_mask(degrees)), [3, 4])
    np.testing.assert_array_equal(np.flatnonzero(source_mask(degrees)), [0])
    np.testing.assert_array_equal(np.flatnonzero(disconnected_mask(degrees)), [1])
    counts = local_counts(degrees)
    assert (counts.sink_nodes, counts.source_nodes, counts.removable_in) == (1, 0, 1)
    # One dead input outweighs the absent sources, and the sinks lose the class.
    published = local_counts(degrees, "published")
    assert (published.sink_nodes, published.source_nodes) == (1, -1)


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    degrees = degree_fields(chain().graph())
    with pytest.raises(ConfigurationError, match="published"):
        local_counts(degrees, "publishd")
    with pytest.raises(ConfigurationError, match="incoming"):
        degree_counts(degrees, "in")


def test_blocks_that_do_not_fit_are_named() -> None:
    hand = chain()
    hand.conv(hand.input, np.ones((2, 2, 1, 1)), into=1, name="second")
    with pytest.raises(DataError, match="'op0' and 'second' join the same two parts"):
        degree_fields(hand.raw_graph())
    hand = Hand(1, 3, 3)
    hand.conv(hand.input, np.ones((1, 1, 1, 1)), name="narrow")
    hand.parts[0] = Hand(1, 4, 3).parts[0]
    with pytest.raises(DataError, match=r"'narrow'.*rows"):
        degree_fields(hand.raw_graph())
