from __future__ import annotations

from itertools import combinations

import igraph
import networkx as nx
import numpy as np
import pytest
from graphs_by_hand import Hand, adaptive, golden, golden_graph, needs_large_goldens, random_graph
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from espalier.errors import DataError
from espalier.topology import motifs
from espalier.topology.motifs import (
    SubgraphCounts,
    four_adjacent_parts,
    motifs_of_csr,
    subgraph_counts,
    two_hop_of_csr,
)
from espalier.topology.operators import adjacency_csr

TINY = [
    "tiny_s2_05",
    "tiny_s2_09",
    "tiny_odd_05",
    "tiny_pool_05",
    "tiny_pool_09",
    "tiny_res_s1_05",
    "tiny_res_s2_05",
    "tiny_res_s2_09",
]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_counts_without_edges_equal_those_from_the_squared_matrix(seed: int) -> None:
    graph = random_graph(seed)
    expected = motifs_of_csr(adjacency_csr(graph))
    if four_adjacent_parts(graph):
        counts = subgraph_counts(graph, four=False)
        assert counts.four is None
    else:
        counts = subgraph_counts(graph)
        assert counts.four == expected.four
        # Channel by channel, as for layers that are too wide for one matrix.
        assert subgraph_counts(graph, class_bytes=1) == counts
        with pytest.MonkeyPatch.context() as patch:
            # Form by form, as for kernels as large as the map.
            patch.setattr(motifs, "_CALL", 0)
            assert subgraph_counts(graph) == counts
    assert (counts.path, counts.triangle) == (expected.path, expected.triangle)
    assert counts.two_hop_pairs == expected.two_hop_pairs
    assert (counts.nodes, counts.edges) == (expected.nodes, expected.edges)


def enumerated(directed: nx.DiGraph) -> SubgraphCounts:
    """Counts by looking at every set of nodes."""
    graph = directed.to_undirected()
    found: dict[tuple[int, ...], int] = {}
    for size in (3, 4):
        for nodes in combinations(graph, size):
            part = graph.subgraph(nodes)
            if nx.is_connected(part):
                shape = tuple(sorted(degree for _, degree in part.degree))
                found[shape] = found.get(shape, 0) + 1
    shapes = [(1, 1, 1, 3), (1, 1, 2, 2), (2, 2, 2, 2), (1, 2, 2, 3), (2, 2, 3, 3), (3, 3, 3, 3)]
    hops = 0
    for node in directed:
        near = set(directed[node])
        far = {w for v in near for w in directed[v]} - near - {node}
        hops += len(far)
    result = motifs_of_csr(sparse.csr_array(nx.to_scipy_sparse_array(directed)))
    four = type(result.four)(*(found.get(shape, 0) for shape in shapes))  # type: ignore[misc]
    return SubgraphCounts(
        len(graph),
        directed.number_of_edges(),
        found.get((1, 1, 2), 0),
        found.get((2, 2, 2), 0),
        four,
        hops,
    )


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.2, 0.5, 0.9]))
def test_the_oracle_equals_enumeration_and_igraph_cliques_included(seed: int, p: float) -> None:
    directed = nx.gnp_random_graph(11, p, seed=seed, directed=True)
    matrix = sparse.csr_array(nx.to_scipy_sparse_array(directed))
    counts = motifs_of_csr(matrix)
    assert counts == enumerated(directed)
    assert counts.two_hop_mean == two_hop_of_csr(matrix)
    graph = igraph.Graph.from_networkx(directed.to_undirected())
    by_class = graph.motifs_randesu(4)
    assert counts.four is not None
    assert counts.four.total == np.nansum(by_class)
    assert counts.three_total == np.nansum(graph.motifs_randesu(3))
    sizes = igraph.Graph.from_networkx(directed).neighborhood_size(order=2, mode="out")
    assert counts.two_hop_mean == pytest.approx(np.mean(sizes), rel=1e-15)


@pytest.mark.parametrize("case", TINY)
def test_tiny_goldens(case: str) -> None:
    expected = golden(case)["metrics_on_correct_graph"]
    counts = subgraph_counts(golden_graph(case))
    four, closed = counts.four, expected["closed4"]
    assert four is not None
    assert four.total == closed["total"]
    assert four.star == closed["star"]
    assert four.path == closed["path"]
    assert four.cycle == closed["cycle"]
    assert four.paw == closed["paw"]
    assert four.diamond == closed["diamond"]
    assert four.clique == closed["K4"]
    assert counts.triangle == closed["triangles"]
    assert counts.three_total == closed["size3"]
    assert counts.two_hop_mean == pytest.approx(expected["2-hop_nei"], rel=1e-15)


@needs_large_goldens
def test_resnet20_golden() -> None:
    counts = subgraph_counts(golden_graph("resnet20_erk_098"))
    expected = golden("resnet20_erk_098", "correct_proto")
    parts, four = expected["motif4_parts"], counts.four
    assert four is not None
    assert four.total == expected["motif4_exact(K4 assumed 0)"] == 6_305_209_194
    assert (four.star, four.path, four.paw) == (parts["star"], parts["path"], parts["paw"])
    assert (four.cycle, four.diamond) == (parts["c4"], parts["diamond"])
    assert counts.triangle == expected["tri"]
    assert counts.two_hop_mean == pytest.approx(expected["hop2"], rel=1e-15)


@needs_large_goldens
def test_conv6_golden() -> None:
    counts = subgraph_counts(golden_graph("conv6_erk_098"))
    expected = golden("conv6_erk_098", "correct")
    assert counts.edges == expected["edges"]
    assert counts.two_hop_mean == pytest.approx(expected["2-hop_nei"], rel=1e-15)


def test_dense_layers_of_a_flattened_map() -> None:
    rng = np.random.default_rng(0)
    hand = Hand(1, 9, 11)
    view = hand.linear(hand.input, rng.normal(size=(40, 99)), rng.random((40, 99)) < 0.2)
    hand.linear(view, rng.normal(size=(5, 40)), rng.random((5, 40)) < 0.2)
    graph = hand.graph()
    assert subgraph_counts(graph) == motifs_of_csr(adjacency_csr(graph))


def test_depthwise_layers_beside_dense_ones() -> None:
    rng = np.random.default_rng(0)
    hand = Hand(3, 6, 6)
    view = hand.conv(hand.input, rng.normal(size=(8, 3, 1, 1)))
    for groups, out in ((8, 8), (4, 8), (8, 16)):
        shape = (out, view.channels // groups, 3, 3)
        mask = rng.random(shape) < 0.6
        view = hand.conv(view, rng.normal(size=shape), mask, padding=(1, 1), groups=groups)
        # Wide enough that the classes of a part hold grouped and dense wedges.
        shape = (8, out, 1, 1)
        view = hand.conv(view, rng.normal(size=shape), rng.random(shape) < 0.3)
    hand.linear(adaptive(view, 1), rng.normal(size=(3, 8)))
    graph = hand.graph()
    expected = motifs_of_csr(adjacency_csr(graph))
    assert subgraph_counts(graph) == expected
    assert subgraph_counts(graph, class_bytes=1) == expected


def concatenated() -> Hand:
    """Four parts of which each reads all before it."""
    hand = Hand(1, 2, 2)
    views = [hand.input]
    for _ in range(3):
        views.append(hand.conv(views, np.ones((1, len(views), 1, 1))))
    hand.linear(adaptive(views[-1], 1), np.ones((2, 1)))
    return hand


def test_four_mutually_adjacent_parts_need_edges() -> None:
    graph = concatenated().graph()
    assert four_adjacent_parts(graph) == (0, 1, 2, 3)
    with pytest.raises(DataError, match=r"mutually adjacent.*motifs_of_csr"):
        subgraph_counts(graph)
    expected = motifs_of_csr(adjacency_csr(graph))
    assert expected.four is not None
    assert expected.four.clique == 4
    counts = subgraph_counts(graph, four=False)
    assert (counts.path, counts.triangle) == (expected.path, expected.triangle)


def test_a_graph_without_edges_has_no_subgraphs() -> None:
    hand = Hand(2, 3, 3)
    hand.linear(hand.input, np.ones((2, 18)), np.zeros((2, 18)))
    counts = subgraph_counts(hand.graph())
    assert counts.three_total == 0
    assert counts.four is not None
    assert counts.four.total == 0
    assert counts.two_hop_mean == 1.0


def test_loops_and_oblong_matrices_are_refused() -> None:
    with pytest.raises(DataError, match="joined to itself"):
        motifs_of_csr(sparse.csr_array(np.eye(3)))
    with pytest.raises(DataError, match="not square"):
        two_hop_of_csr(sparse.csr_array(np.ones((2, 3))))
