from __future__ import annotations

import igraph
import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from espalier.errors import DataError
from espalier.topology.csr_kernels import (
    UndirectedGraph,
    components,
    coreness,
    cuts,
    low_link,
    undirected,
)


def random_edges(seed: int) -> tuple[int, np.ndarray]:
    """Nodes and (edges, 2) edges of a graph with sparse and dense regions, in random directions."""
    rng = np.random.default_rng(seed)
    nodes = int(rng.integers(1, 40))
    near = np.abs(np.subtract.outer(np.arange(nodes), np.arange(nodes))) <= int(rng.integers(1, 8))
    chosen = np.triu(rng.random((nodes, nodes)) < rng.random() * np.where(near, 0.9, 0.05), 1)
    order = rng.permutation(nodes)
    edges = order[np.argwhere(chosen)]
    return nodes, np.where(rng.random((len(edges), 1)) < 0.5, edges, edges[:, ::-1])


def as_csr(nodes: int, edges: np.ndarray) -> sparse.csr_array:
    return sparse.csr_array((np.ones(len(edges)), tuple(edges.T)), shape=(nodes, nodes))


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 100_000))
def test_kernels_equal_networkx_and_igraph(seed: int) -> None:
    nodes, edges = random_edges(seed)
    graph = nx.Graph(edges.tolist())
    graph.add_nodes_from(range(nodes))
    other = igraph.Graph(nodes, edges.tolist())
    matrix = as_csr(nodes, edges)

    labels = components(matrix)
    expected = sorted((sorted(c) for c in nx.connected_components(graph)), key=min)
    assert [np.flatnonzero(labels == i).tolist() for i in range(labels.max() + 1)] == expected
    np.testing.assert_array_equal(components(undirected(matrix)), labels)

    bridges, articulation = cuts(matrix)
    assert bridges == sum(1 for _ in nx.bridges(graph)) == len(other.bridges())
    assert set(np.flatnonzero(articulation)) == set(nx.articulation_points(graph))
    assert np.flatnonzero(articulation).tolist() == sorted(other.articulation_points())

    core = coreness(matrix)
    assert core.tolist() == other.coreness()
    assert dict(enumerate(core.tolist())) == nx.core_number(graph)


@pytest.mark.parametrize("seed", range(20))
def test_the_form_of_the_matrix_does_not_matter(seed: int) -> None:
    nodes, edges = random_edges(seed)
    mixed = as_csr(nodes, edges)
    symmetric = sparse.csr_array(mixed + mixed.T)
    twice = sparse.csr_array(symmetric)
    twice.data[:] = 0
    expected = undirected(as_csr(nodes, np.sort(edges, axis=1)))
    assert expected.edges == len(edges)
    for form in (mixed, symmetric, twice):
        found = undirected(form)
        np.testing.assert_array_equal(found.indptr, expected.indptr)
        np.testing.assert_array_equal(found.indices, expected.indices)
    assert undirected(expected) is expected


def test_entries_that_repeat_an_edge_count_once() -> None:
    indptr, indices = np.array([0, 3, 4, 4]), np.array([1, 2, 1, 0])
    matrix = sparse.csr_array((np.ones(4), indices, indptr), shape=(3, 3))
    graph = undirected(matrix)
    assert graph.edges == 2
    assert cuts(matrix) == (2, pytest.approx([True, False, False]))
    assert coreness(matrix).tolist() == [1, 1, 1]


def test_a_path_longer_than_any_stack() -> None:
    nodes = 200_000
    path = as_csr(nodes, np.column_stack([np.arange(nodes - 1), np.arange(1, nodes)]))
    bridges, articulation = cuts(path)
    assert bridges == nodes - 1
    assert articulation.sum() == nodes - 2
    assert components(path).max() == 0
    assert coreness(path).tolist() == [1] * nodes


def test_wide_indices_are_accepted() -> None:
    nodes, edges = random_edges(7)
    matrix = as_csr(nodes, edges)
    wide = matrix.copy()
    wide.indices, wide.indptr = wide.indices.astype(np.int64), wide.indptr.astype(np.int64)
    np.testing.assert_array_equal(coreness(wide), coreness(matrix))


def test_the_null_graph() -> None:
    null = UndirectedGraph(np.zeros(1, np.int64), np.zeros(0, np.int32))
    assert components(null).size == coreness(null).size == 0
    bridges, articulation, trees = low_link(null.indptr, null.indices)
    assert (bridges, articulation.size, trees) == (0, 0, 0)


def test_matrices_that_are_no_graph_are_refused() -> None:
    with pytest.raises(DataError, match="node 2 is joined to itself"):
        coreness(sparse.csr_array(np.diag([0, 0, 1, 0])))
    with pytest.raises(DataError, match=r"square, this one is \(2, 3\)"):
        components(sparse.csr_array(np.ones((2, 3))))
    with pytest.raises(DataError, match="expected a scipy CSR matrix, got coo_array"):
        cuts(sparse.coo_array(np.ones((2, 2))))  # type: ignore[arg-type]
