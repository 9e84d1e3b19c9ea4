"""Every topometric of a graph whose edges are in memory.

The oracle of the edge-free recipes, and the only path for graphs that have no blocks: those of the
published convention and the rolled encodings. Time and memory grow with the edges; four-cycles take
time in proportion to the sum over edges of the smaller degree of the two ends, and no more memory.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, NamedTuple

import numba
import numpy as np
from scipy import sparse

from espalier.errors import DataError
from espalier.topology import csr_kernels
from espalier.topology.degrees import degree_fields_of_csr, local_counts
from espalier.topology.exact_sums import exact_dot
from espalier.topology.measures import CONNECTIVITY, NEEDS, Measures

if TYPE_CHECKING:
    from espalier.graphs.layer_graph import LayerGraph
    from espalier.topology.motifs import FourVertexCounts


class ConnectedSets(NamedTuple):
    """Connected induced subgraphs, directions ignored.

    Attributes:
        path, triangle: of three nodes.
        four: of four nodes, None if they were not asked for.
    """

    path: int
    triangle: int
    four: FourVertexCounts | None


def explicit_measures(
    layer_graph: LayerGraph,
    adjacency: sparse.csr_array,
    needs: Collection[str] = NEEDS,
    convention: str = "definition",
) -> Measures:
    """Measure a graph from its edges.

    Args:
        layer_graph: says how many nodes each part has; its blocks are not looked at.
        adjacency: (nodes, nodes), entry (u, v) the edge from u to v, the absolute value its weight.
            An entry that repeats an edge counts in degrees and strengths, as in the public code.
        needs: the fields of Measures to compute.
        convention: "definition" or "published", see `local_counts` and `spectral_gap`.

    Raises:
        DataError: the matrix does not fit the parts, a weight is not finite, a node is joined to
            itself, or an edge is listed twice and bridges or cores are asked for.
        ConfigurationError: an unknown convention.
        EspalierError: a spectrum does not converge.
    """
    if not np.isfinite(adjacency.data).all():
        raise DataError("a weight of the adjacency matrix is not finite")
    found: dict[str, object] = {}
    if "local" in needs:
        found["local"] = local_counts(degree_fields_of_csr(layer_graph, adjacency), convention)
    if "total_strength" in needs:
        found["total_strength"] = 2 * float(np.abs(adjacency.data).sum(dtype=np.float64))
    if "two_hop_mean" in needs:
        found["two_hop_mean"] = two_hop_mean(adjacency)
    if not {*CONNECTIVITY, "coreness", "motif3", "motif4"}.isdisjoint(needs):
        found |= _undirected_measures(csr_kernels.undirected(adjacency), adjacency.nnz, needs)
    if "gap" in needs or "radius" in needs:
        from espalier.topology.spectra import spectral_gap, spectral_radius

        if "gap" in needs:
            found["gap"] = spectral_gap(adjacency, convention)
        if "radius" in needs:
            found["radius"] = spectral_radius(adjacency)
    return Measures(**found)  # type: ignore[arg-type]


def two_hop_mean(adjacency: sparse.csr_array) -> float:
    """Return the mean number of nodes within two steps along the direction, self included.

    Args:
        adjacency: (nodes, nodes); an entry (u, v) is an edge from u to v, whatever its value.
    """
    nodes = len(adjacency.indptr) - 1
    return int(_within_two_steps(adjacency.indptr, adjacency.indices)) / nodes


def connected_sets(graph: csr_kernels.UndirectedGraph, four: bool = True) -> ConnectedSets:
    """Count connected induced subgraphs of 3 and 4 nodes, cliques included.

    Memory is 8 bytes per edge, and 8 more where there are triangles, however many wedges.

    Args:
        graph: from `csr_kernels.undirected`.
        four: count those of four nodes too.

    Source: Chiba and Nishizeki (1985), "Arboricity and subgraph listing algorithms", for triangles
    and four-cycles.
    """
    from espalier.topology.motifs import binomial_sum, induced_counts

    indptr, indices = _by_degree(graph.indptr, graph.indices)
    degree = np.diff(indptr)
    histogram = np.bincount(degree, minlength=1)
    on_edge = _triangles(indptr, indices) if _has_triangle(indptr, indices) else None
    triangles = 0 if on_edge is None else int(on_edge.sum(dtype=np.int64)) // 3
    path = binomial_sum(histogram, 2) - 3 * triangles
    if not four:
        return ConnectedSets(path, triangles, None)
    diamonds = degree_on_edges = cliques = 0
    if on_edge is not None:
        common = on_edge[on_edge > 1].astype(np.int64)
        diamonds = int((common * (common - 1) // 2).sum())
        degree_on_edges = int(_sum_on_edges(indptr, indices, on_edge))
        cliques = int(_cliques(indptr, indices, on_edge))
    path_ends = exact_dot(degree - 1, _lower_sums(indptr, indices, degree - 1))
    counts = induced_counts(
        stars=binomial_sum(histogram, 3),
        paths=path_ends - 3 * triangles,
        cycles=int(_four_cycles(indptr, indices)),
        triangles=triangles,
        diamonds=diamonds,
        degree_on_edges=degree_on_edges,
        cliques=cliques,
    )
    return ConnectedSets(path, triangles, counts)


def _undirected_measures(
    graph: csr_kernels.UndirectedGraph, entries: int, needs: Collection[str]
) -> dict[str, object]:
    repeated = entries - graph.edges
    for name in ("bridges", "coreness"):
        if repeated and name in needs:
            raise DataError(
                f"{repeated} entries repeat an edge; {name} are counted in simple graphs only. Ask "
                "for other topometrics, or use a layer graph of convention 'definition', which "
                "merges such edges"
            )
    found: dict[str, object] = {}
    if not set(CONNECTIVITY).isdisjoint(needs):
        bridges, articulation, components = csr_kernels.low_link(graph.indptr, graph.indices)
        found["components"] = int(components)
        found["bridges"] = None if repeated else int(bridges)
        found["articulation_points"] = int(np.count_nonzero(articulation))
    if "coreness" in needs:
        found["coreness"] = int(csr_kernels.coreness(graph).sum(dtype=np.int64))
    if "motif3" in needs or "motif4" in needs:
        sets = connected_sets(graph, four="motif4" in needs)
        found["motif3"] = sets.path + sets.triangle
        found["motif4"] = None if sets.four is None else sets.four.total
    return found


# -- compiled loops ----------------------------------------------------------------------------


@numba.njit(cache=True)
def _within_two_steps(indptr: np.ndarray, indices: np.ndarray) -> int:
    nodes = indptr.size - 1
    last_seen = np.full(nodes, -1, np.int32)
    total = 0
    for u in range(nodes):
        last_seen[u] = u
        total += 1
        for at in range(indptr[u], indptr[u + 1]):
            v = indices[at]
            if last_seen[v] != u:
                last_seen[v] = u
                total += 1
            for second in range(indptr[v], indptr[v + 1]):
                w = indices[second]
                if last_seen[w] != u:
                    last_seen[w] = u
                    total += 1
    return total


@numba.njit(cache=True)
def _by_degree(indptr: np.ndarray, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number the nodes by ascending degree, old numbers breaking ties; neighbours ascend."""
    nodes = indptr.size - 1
    degree = indptr[1:] - indptr[:-1]
    order = np.argsort(degree, kind="mergesort")
    number = np.empty(nodes, np.int32)
    start = np.zeros(nodes + 1, np.int64)
    for new in range(nodes):
        number[order[new]] = new
        start[new + 1] = start[new] + degree[order[new]]
    place = start[:-1].copy()
    ordered = np.empty(indices.size, np.int32)
    for new in range(nodes):
        old = order[new]
        for at in range(indptr[old], indptr[old + 1]):
            other = number[indices[at]]
            ordered[place[other]] = new
            place[other] += 1
    return start, ordered


@numba.njit(cache=True)
def _four_cycles(indptr: np.ndarray, indices: np.ndarray) -> int:
    """Count four-cycles, each at its node of highest number: pairs of ways to the opposite node."""
    nodes = indptr.size - 1
    ways = np.zeros(nodes, np.int32)
    total = 0
    for v in range(nodes):
        for at in range(indptr[v], indptr[v + 1]):
            u = indices[at]
            if u >= v:
                break
            for second in range(indptr[u], indptr[u + 1]):
                w = indices[second]
                if w >= v:
                    break
                total += int(ways[w])
                ways[w] += 1
        for at in range(indptr[v], indptr[v + 1]):
            u = indices[at]
            if u >= v:
                break
            for second in range(indptr[u], indptr[u + 1]):
                w = indices[second]
                if w >= v:
                    break
                ways[w] = 0
    return total


@numba.njit(cache=True)
def _has_triangle(indptr: np.ndarray, indices: np.ndarray) -> bool:
    nodes = indptr.size - 1
    seen_from = np.full(nodes, -1, np.int32)
    for v in range(nodes):
        for at in range(indptr[v], indptr[v + 1]):
            u = indices[at]
            if u >= v:
                break
            seen_from[u] = v
        for at in range(indptr[v], indptr[v + 1]):
            u = indices[at]
            if u >= v:
                break
            for second in range(indptr[u], indptr[u + 1]):
                w = indices[second]
                if w >= u:
                    break
                if seen_from[w] == v:
                    return True
    return False


@numba.njit(cache=True)
def _triangles(indptr: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Return per entry the triangles on its edge, at the end of higher number; 0 at the other."""
    nodes = indptr.size - 1
    on_edge = np.zeros(indices.size, np.int32)
    seen_from = np.full(nodes, -1, np.int32)
    seen_at = np.empty(nodes, np.int64)
    for v in range(nodes):
        for at in range(indptr[v], indptr[v + 1]):
            u = indices[at]
            if u >= v:
                break
            seen_from[u] = v
            seen_at[u] = at
        for at in range(indptr[v], indptr[v + 1]):
            u = indices[at]
            if u >= v:
                break
            for second in range(indptr[u], indptr[u + 1]):
                w = indices[second]
                if w >= u:
                    break
                if seen_from[w] == v:
                    on_edge[at] += 1
                    on_edge[second] += 1
                    on_edge[seen_at[w]] += 1
    return on_edge


@numba.njit(cache=True)
def _sum_on_edges(indptr: np.ndarray, indices: np.ndarray, on_edge: np.ndarray) -> int:
    """Sum over edges of their triangles times the degrees of both ends."""
    total = 0
    for v in range(indptr.size - 1):
        for at in range(indptr[v], indptr[v + 1]):
            if on_edge[at]:
                u = indices[at]
                both = indptr[v + 1] - indptr[v] + indptr[u + 1] - indptr[u]
                total += np.int64(on_edge[at]) * both
    return total


@numba.njit(cache=True)
def _cliques(indptr: np.ndarray, indices: np.ndarray, on_edge: np.ndarray) -> int:
    """Count sets of four mutually adjacent nodes, each at its two nodes of highest number."""
    nodes = indptr.size - 1
    seen_from = np.full(nodes, -1, np.int32)
    common_of = np.full(nodes, -1, np.int64)
    total = 0
    for v in range(nodes):
        for at in range(indptr[v], indptr[v + 1]):
            if indices[at] >= v:
                break
            seen_from[indices[at]] = v
        for at in range(indptr[v], indptr[v + 1]):
            u = indices[at]
            if u >= v:
                break
            if on_edge[at] < 2:
                continue
            for second in range(indptr[u], indptr[u + 1]):
                w = indices[second]
                if w >= u:
                    break
                if seen_from[w] == v:
                    common_of[w] = at
            for second in range(indptr[u], indptr[u + 1]):
                w = indices[second]
                if w >= u:
                    break
                if common_of[w] != at:
                    continue
                for third in range(indptr[w], indptr[w + 1]):
                    x = indices[third]
                    if x >= w:
                        break
                    if common_of[x] == at:
                        total += 1
    return total


@numba.njit(cache=True)
def _lower_sums(indptr: np.ndarray, indices: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return per node the sum of the values of its neighbours of lower number."""
    sums = np.zeros(indptr.size - 1, np.int64)
    for v in range(sums.size):
        for at in range(indptr[v], indptr[v + 1]):
            if indices[at] >= v:
                break
            sums[v] += values[indices[at]]
    return sums
