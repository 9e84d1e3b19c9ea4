"""Components, bridges, articulation points and cores of a graph whose edges are in memory.

Compiled loops in linear time. They are the explicit path beside `traversal` and `cores`, which need
no edges, and the oracle for both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from scipy import sparse

from espalier.errors import DataError


@dataclass(frozen=True, eq=False)
class UndirectedGraph:
    """A simple undirected graph: every edge is stored at both of its ends.

    Attributes:
        indptr: (nodes + 1,) int64.
        indices: (2 x edges,) int32 neighbours, ascending and distinct within a node.
    """

    indptr: np.ndarray
    indices: np.ndarray

    @property
    def nodes(self) -> int:
        """Return the number of nodes."""
        return len(self.indptr) - 1

    @property
    def edges(self) -> int:
        """Return the number of edges."""
        return len(self.indices) // 2


def undirected(adjacency: sparse.csr_array | UndirectedGraph) -> UndirectedGraph:
    """Return the simple undirected graph of a matrix.

    An entry (u, v) is the edge between u and v whatever its value, an explicit zero too. The
    direction does not matter: a triangular matrix, as `espalier.graphs.encode` gives, and its
    symmetric form are the same graph. Entries that repeat an edge count once.

    Args:
        adjacency: (nodes, nodes); an UndirectedGraph is returned as it is.

    Raises:
        DataError: the matrix is not square or not CSR, has 2^31 or more nodes, or joins a node to
            itself.
    """
    if isinstance(adjacency, UndirectedGraph):
        return adjacency
    indptr, indices = _entries(adjacency)
    loop = _first_loop(indptr, indices)
    if loop >= 0:
        raise DataError(
            f"node {loop} is joined to itself; remove the diagonal, bridges and cores are those of "
            "a graph without loops"
        )
    return UndirectedGraph(*_symmetric(indptr, indices))


def components(adjacency: sparse.csr_array | UndirectedGraph) -> np.ndarray:
    """Label the connected components; isolated nodes are components of their own.

    Args:
        adjacency: (nodes, nodes), read as in `undirected`; loops do no harm here.

    Returns:
        (nodes,) int32 labels from 0, in the order of each component's smallest node.

    Raises:
        DataError: the matrix is not square or not CSR, or has 2^31 or more nodes.
    """
    if isinstance(adjacency, UndirectedGraph):
        return _component_labels(adjacency.indptr, adjacency.indices)
    return _component_labels(*_entries(adjacency))


def cuts(adjacency: sparse.csr_array | UndirectedGraph) -> tuple[int, np.ndarray]:
    """Count the bridges and find the articulation points.

    Args:
        adjacency: (nodes, nodes), read as in `undirected`.

    Returns:
        The number of bridges, and a (nodes,) boolean array, True at articulation points.

    Raises:
        DataError: as in `undirected`.

    Source: Tarjan (1972), "Depth-first search and linear graph algorithms".
    """
    graph = undirected(adjacency)
    bridges, articulation, _ = low_link(graph.indptr, graph.indices)
    return int(bridges), articulation


def coreness(adjacency: sparse.csr_array | UndirectedGraph) -> np.ndarray:
    """Return the core number of every node: the largest k whose k-core holds it.

    Args:
        adjacency: (nodes, nodes), read as in `undirected`.

    Returns:
        (nodes,) int32.

    Raises:
        DataError: as in `undirected`.

    Source: Seidman (1983), "Network structure and minimum degree"; peeled as in Batagelj and
    Zaversnik (2003), "An O(m) algorithm for cores decomposition of networks".
    """
    graph = undirected(adjacency)
    return _peel(graph.indptr, graph.indices)


def _entries(adjacency: sparse.csr_array) -> tuple[np.ndarray, np.ndarray]:
    if not sparse.issparse(adjacency) or adjacency.format != "csr":
        raise DataError(f"expected a scipy CSR matrix, got {type(adjacency).__name__}")
    nodes = len(adjacency.indptr) - 1
    if adjacency.shape != (nodes, nodes):
        raise DataError(f"an adjacency matrix is square, this one is {adjacency.shape}")
    if nodes > np.iinfo(np.int32).max:
        raise DataError(f"the graph has {nodes:,} nodes, over the limit of 2^31 - 1")
    indptr = np.ascontiguousarray(adjacency.indptr, np.int64)
    return indptr, np.ascontiguousarray(adjacency.indices, np.int32)


@numba.njit(cache=True)
def _first_loop(indptr: np.ndarray, indices: np.ndarray) -> int:
    for v in range(indptr.size - 1):
        for at in range(indptr[v], indptr[v + 1]):
            if indices[at] == v:
                return v
    return -1


@numba.njit(cache=True)
def _symmetric(indptr: np.ndarray, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    nodes = indptr.size - 1
    start = np.zeros(nodes + 1, np.int64)
    for v in range(nodes):
        start[v + 1] += indptr[v + 1] - indptr[v]
    for w in indices:
        start[w + 1] += 1
    for v in range(nodes):
        start[v + 1] += start[v]
    place = start[:-1].copy()
    both = np.empty(start[nodes], np.int32)
    # Entries from above the diagonal first: the rows of a sorted triangular matrix come out sorted.
    for v in range(nodes):
        for at in range(indptr[v], indptr[v + 1]):
            w = indices[at]
            both[place[w]] = v
            place[w] += 1
    for v in range(nodes):
        for at in range(indptr[v], indptr[v + 1]):
            both[place[v]] = indices[at]
            place[v] += 1
    kept = 0
    for v in range(nodes):
        first, last = start[v], start[v + 1]
        for at in range(first + 1, last):
            if both[at] < both[at - 1]:
                both[first:last].sort()
                break
        start[v] = kept
        previous = np.int32(-1)
        for at in range(first, last):
            if both[at] != previous:
                both[kept] = both[at]
                kept += 1
            previous = both[at]
    start[nodes] = kept
    return start, both[:kept].copy() if kept < both.size else both


@numba.njit(cache=True)
def _component_labels(indptr: np.ndarray, indices: np.ndarray) -> np.ndarray:
    nodes = indptr.size - 1
    above = np.arange(nodes).astype(np.int32)
    for v in range(nodes):
        top = above[v]
        while above[top] != top:
            top = above[top]
        for at in range(indptr[v], indptr[v + 1]):
            w = indices[at]
            while above[w] != w:
                above[w] = above[above[w]]
                w = above[w]
            # The smallest node stays on top, which makes the labels ascend below.
            if w < top:
                above[top] = w
                top = w
            elif w > top:
                above[w] = top
        above[v] = top
    labels = np.empty(nodes, np.int32)
    count = 0
    for v in range(nodes):
        if above[v] == v:
            labels[v] = count
            count += 1
        else:
            labels[v] = labels[above[v]]
    return labels


@numba.njit(cache=True)
def low_link(indptr: np.ndarray, indices: np.ndarray) -> tuple[int, np.ndarray, int]:
    """Depth-first search with low links on a simple undirected graph.

    Args:
        indptr: (nodes + 1,) int64.
        indices: (2 x edges,) int32, every edge at both ends, none twice.

    Returns:
        The number of bridges, the (nodes,) boolean mask of articulation points, and the number of
        components.
    """
    nodes = indptr.size - 1
    order = np.zeros(nodes, np.int32)
    low = np.empty(nodes, np.int32)
    above = np.empty(nodes, np.int32)
    place = indptr[:-1].copy()
    articulation = np.zeros(nodes, np.bool_)
    bridges = trees = seen = 0
    for root in range(nodes):
        if order[root]:
            continue
        trees += 1
        seen += 1
        order[root] = low[root] = seen
        above[root] = -1
        children = 0
        v = np.int64(root)
        while v >= 0:
            up = above[v]
            lowest = low[v]
            at, last = place[v], indptr[v + 1]
            child = np.int64(-1)
            while at < last:
                w = np.int64(indices[at])
                at += 1
                if order[w] == 0:
                    child = w
                    break
                if w != up and order[w] < lowest:
                    lowest = order[w]
            place[v] = at
            low[v] = lowest
            if child >= 0:
                seen += 1
                order[child] = low[child] = seen
                above[child] = v
                v = child
                continue
            if up >= 0:
                if lowest > order[up]:
                    bridges += 1
                if up == root:
                    children += 1
                elif lowest >= order[up]:
                    articulation[up] = True
                if lowest < low[up]:
                    low[up] = lowest
            v = np.int64(up)
        articulation[root] = children > 1
    return bridges, articulation, trees


@numba.njit(cache=True)
def _peel(indptr: np.ndarray, indices: np.ndarray) -> np.ndarray:
    nodes = indptr.size - 1
    degree = (indptr[1:] - indptr[:-1]).astype(np.int32)
    core = np.full(nodes, -1, np.int32)
    queue = np.empty(nodes, np.int32)
    live = np.arange(nodes).astype(np.int32)
    left = nodes
    head = tail = 0
    while left:
        kept = 0
        k = np.int32(nodes)
        for at in range(left):
            v = live[at]
            if core[v] < 0:
                live[kept] = v
                kept += 1
                k = min(k, degree[v])
        left = kept
        for at in range(left):
            v = live[at]
            if degree[v] == k:
                core[v] = k
                queue[tail] = v
                tail += 1
        while head < tail:
            v = queue[head]
            head += 1
            for at in range(indptr[v], indptr[v + 1]):
                w = indices[at]
                degree[w] -= 1
                # A node passes k once; one that was removed is at k or below and never does.
                if degree[w] == k:
                    core[w] = k
                    queue[tail] = w
                    tail += 1
    return core
