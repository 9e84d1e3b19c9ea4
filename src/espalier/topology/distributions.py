"""Degree distributions, degree assortativity, clustering and path lengths.

Degrees and assortativity need no edges. Clustering needs triangles, which only shortcuts close: a
graph whose parts can be coloured with two colours has none. Path lengths are searched from every
node of a small graph, and of a large one from a sample, which the result says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numba
import numpy as np
from scipy import sparse

from espalier.errors import ConfigurationError, DataError, unknown_name
from espalier.graphs.layer_graph import LayerGraph
from espalier.seeds import numpy_generator
from espalier.topology.blocks import checked_blocks
from espalier.topology.csr_kernels import UndirectedGraph, undirected
from espalier.topology.degrees import NodeFields, degree_fields
from espalier.topology.exact_sums import exact_dot
from espalier.topology.motifs import subgraph_counts

DIRECTIONS = ("incoming", "outgoing", "total")
ENDS = ("undirected", "out-in", "out-out", "in-in", "in-out")

EXACT_NODES = 20_000
"""Up to this many nodes path lengths are searched from every node."""

SOURCES = 256
"""Sampled sources of a larger graph."""


@dataclass(frozen=True, eq=False)
class DegreeDistribution:
    """How the degrees of one part, or of the whole graph, are distributed.

    Attributes:
        name: of the part; "all" for the whole graph.
        direction: "incoming", "outgoing" or "total".
        counts: (largest degree + 1,) int64 nodes of each degree.
    """

    name: str
    direction: str
    counts: np.ndarray

    @property
    def nodes(self) -> int:
        """Return the number of nodes."""
        return int(self.counts.sum())

    @property
    def mean(self) -> float:
        """Return the mean degree; NaN without nodes."""
        return self._moment(1)

    @property
    def variance(self) -> float:
        """Return the population variance of the degree; NaN without nodes."""
        return self._moment(2) - self._moment(1) ** 2

    @property
    def shares(self) -> np.ndarray:
        """Return (largest degree + 1,) the share of nodes of each degree."""
        return self.counts / max(self.nodes, 1)

    @property
    def at_least(self) -> np.ndarray:
        """Return (largest degree + 1,) the share of nodes of each degree or a larger one."""
        return np.cumsum(self.counts[::-1])[::-1] / max(self.nodes, 1)

    def _moment(self, power: int) -> float:
        if not self.nodes:
            return float("nan")
        return float(self.counts @ np.arange(self.counts.size, dtype=float) ** power) / self.nodes


class Clustering(NamedTuple):
    """Clustering of a graph, directions ignored.

    Attributes:
        average: mean over all nodes of the local coefficient, 0 below degree 2.
        transitivity: 3 x triangles over pairs of edges that share a node; NaN without such pairs.
        triangles: their number.
    """

    average: float
    transitivity: float
    triangles: int


@dataclass(frozen=True)
class PathLengths:
    """Lengths of shortest paths, in edges, from some nodes to all that they reach.

    Attributes:
        mean: over the pairs that a path joins, a node and itself left out; NaN without a pair.
        longest: among those pairs; the diameter of the largest component only if `exact` and
            the graph is connected.
        pairs: ordered (source, reached node) pairs.
        reachable: pairs over sources x (nodes - 1).
        sources: nodes that were searched from.
        nodes: of the graph.
        exact: every node was a source; else they are a uniform sample without replacement.
    """

    mean: float
    longest: int
    pairs: int
    reachable: float
    sources: int
    nodes: int
    exact: bool


def degree_distributions(
    layer_graph: LayerGraph, direction: str = "total", *, degrees: NodeFields | None = None
) -> tuple[DegreeDistribution, ...]:
    """Degree distribution of every part and, last, of the whole graph; exact, without edges.

    Args:
        layer_graph: the network; under the published convention give `degrees`.
        direction: "incoming", "outgoing" or "total".
        degrees: the degree fields, if at hand (from `degree_fields` or `degree_fields_of_csr`).

    Raises:
        ConfigurationError: an unknown direction.
        DataError: a block does not fit its parts, or the graph has none (published convention).
    """
    if direction not in DIRECTIONS:
        raise unknown_name("direction", direction, DIRECTIONS)
    fields = degree_fields(layer_graph) if degrees is None else degrees
    arrays: tuple[np.ndarray, ...] = getattr(fields, direction)
    result = [
        DegreeDistribution(part.name, direction, np.bincount(field.reshape(-1)))
        for part, field in zip(layer_graph.parts, arrays, strict=True)
    ]
    counts = np.zeros(max((r.counts.size for r in result), default=0), np.int64)
    for item in result:
        counts[: item.counts.size] += item.counts
    return (*result, DegreeDistribution("all", direction, counts))


def degree_assortativity(
    layer_graph: LayerGraph, ends: str = "undirected", *, degrees: NodeFields | None = None
) -> float:
    """Correlation of the degrees at the two ends of an edge, without a list of edges.

    Args:
        layer_graph: a network of the convention "definition".
        ends: "undirected" correlates the total degrees, each edge taken both ways; "out-in" the
            out-degree of the source with the in-degree of the target, and so on.
        degrees: its degree fields, if at hand.

    Returns:
        Pearson's correlation, in [-1, 1]; NaN where the degrees at one end are all equal.

    Raises:
        ConfigurationError: unknown ends.
        DataError: a block does not fit its parts.

    Source: Newman (2002), "Assortative mixing in networks", equation 4; (2003), "Mixing patterns in
    networks", equation 26, for directed graphs.
    """
    if ends not in ENDS:
        raise unknown_name("ends", ends, ENDS)
    import torch

    from espalier.topology.operators import Adjacency

    fields = degree_fields(layer_graph) if degrees is None else degrees
    incoming, outgoing = _flat(fields.incoming), _flat(fields.outgoing)
    at_source, at_target = _at_ends(ends, incoming, outgoing)
    arriving = Adjacency(layer_graph, weighted=False).forward(
        torch.from_numpy(at_source.astype(np.float64))
    )
    # Sums of integers below 2^53 are exact in float64, and every product is an integer.
    product = exact_dot(arriving.numpy(), at_target)
    return _correlation(ends, incoming, outgoing, at_source, at_target, product)


def degree_assortativity_of_csr(adjacency: sparse.csr_array, ends: str = "undirected") -> float:
    """The same from explicit edges.

    Args:
        adjacency: (nodes, nodes); an entry (u, v) is an edge from u to v, whatever its value.
        ends: as in `degree_assortativity`.

    Raises:
        ConfigurationError: unknown ends.
        DataError: not a square CSR matrix.
    """
    if ends not in ENDS:
        raise unknown_name("ends", ends, ENDS)
    nodes = _nodes(adjacency)
    outgoing = np.diff(adjacency.indptr).astype(np.int64)
    incoming = np.bincount(adjacency.indices, minlength=nodes)
    at_source, at_target = _at_ends(ends, incoming, outgoing)
    source = np.repeat(np.arange(nodes), outgoing)
    product = exact_dot(at_source[source], at_target[adjacency.indices])
    return _correlation(ends, incoming, outgoing, at_source, at_target, product)


def clustering(layer_graph: LayerGraph, *, adjacency: sparse.csr_array | None = None) -> Clustering:
    """Clustering coefficients of a network's graph.

    Where the parts can be coloured with two colours there is no triangle and nothing is searched:
    the coefficients are 0, exactly. Else the local coefficients need edges.

    Args:
        layer_graph: a network of the convention "definition".
        adjacency: its edges, from `espalier.graphs.encode`; needed only where triangles may be.

    Raises:
        ConfigurationError: there may be triangles and no edges were given.
        DataError: a block does not fit its parts, or the edges are not a graph without loops.

    Source: Watts and Strogatz (1998), "Collective dynamics of small-world networks".
    """
    if not _two_colours(layer_graph):
        if adjacency is not None:
            return clustering_of_csr(adjacency)
        raise ConfigurationError(
            "shortcuts may close triangles in this graph; give its edges, "
            "clustering(graph, adjacency=espalier.graphs.encode(graph)), or take the transitivity "
            "alone from espalier.topology.distributions.transitivity, which needs none"
        )
    fields = degree_fields(layer_graph)
    degree = _flat(fields.incoming) + _flat(fields.outgoing)
    return Clustering(0.0, 0.0 if (degree > 1).any() else float("nan"), 0)


def clustering_of_csr(adjacency: sparse.csr_array | UndirectedGraph) -> Clustering:
    """Clustering coefficients of an explicit graph, directions ignored.

    Args:
        adjacency: (nodes, nodes), read as in `espalier.topology.csr_kernels.undirected`.

    Raises:
        DataError: not a square CSR matrix, or an edge from a node to itself.
    """
    graph = undirected(adjacency)
    degree = np.diff(graph.indptr)
    triangles = _triangles(graph.indptr, graph.indices)
    pairs = degree * (degree - 1) // 2
    local = np.divide(triangles, pairs, out=np.zeros(degree.size), where=pairs > 0)
    wedges = int(pairs.sum())
    return Clustering(
        float(local.mean()) if local.size else float("nan"),
        int(triangles.sum()) / wedges if wedges else float("nan"),
        int(triangles.sum()) // 3,
    )


def transitivity(layer_graph: LayerGraph) -> float:
    """3 x triangles over pairs of edges that share a node, exact and without a list of edges.

    Returns:
        In [0, 1]; NaN where no two edges share a node.

    Raises:
        DataError: as in `espalier.topology.motifs.subgraph_counts`.
    """
    if _two_colours(layer_graph):
        return clustering(layer_graph).transitivity
    counts = subgraph_counts(layer_graph, four=False)
    wedges = counts.path + 3 * counts.triangle
    return 3 * counts.triangle / wedges if wedges else float("nan")


def path_lengths(
    adjacency: sparse.csr_array,
    *,
    directed: bool = False,
    sources: int | None = None,
    seed: int = 0,
) -> PathLengths:
    """Mean shortest path length by breadth-first search.

    Costs sources x edges. With fewer sources than nodes the mean is an estimate from a uniform
    sample, and `exact` is False.

    Args:
        adjacency: (nodes, nodes); an entry (u, v) is an edge from u to v.
        directed: follow edges from source to target only.
        sources: nodes to search from; by default all of a graph of up to 20,000 nodes, else 256.
        seed: of the sample.

    Raises:
        ConfigurationError: sources is not between 1 and the number of nodes.
        DataError: not a square CSR matrix without nodes; undirected, an edge from a node to itself.
    """
    nodes = _nodes(adjacency)
    if not nodes:
        raise DataError("the graph has no nodes")
    if sources is None:
        sources = nodes if nodes <= EXACT_NODES else SOURCES
    if not 1 <= sources <= nodes:
        raise ConfigurationError(f"sources is {sources}; the graph has {nodes} nodes")
    if directed:
        indptr = np.ascontiguousarray(adjacency.indptr, np.int64)
        indices = np.ascontiguousarray(adjacency.indices, np.int32)
    else:
        graph = undirected(adjacency)
        indptr, indices = graph.indptr, graph.indices
    if sources == nodes:
        chosen = np.arange(nodes)
    else:
        rng = numpy_generator(seed, "path lengths")
        chosen = np.sort(rng.choice(nodes, size=sources, replace=False))
    total, pairs, longest = _distance_sums(indptr, indices, chosen)
    return PathLengths(
        mean=total / pairs if pairs else float("nan"),
        longest=int(longest),
        pairs=int(pairs),
        reachable=pairs / (sources * (nodes - 1)) if nodes > 1 else float("nan"),
        sources=sources,
        nodes=nodes,
        exact=sources == nodes,
    )


# -- helpers ---------------------------------------------------------------------------------------


def _flat(fields: tuple[np.ndarray, ...]) -> np.ndarray:
    return np.concatenate([field.reshape(-1) for field in fields])


def _nodes(adjacency: sparse.csr_array) -> int:
    shape: Any = getattr(adjacency, "shape", None)
    if not sparse.issparse(adjacency) or adjacency.format != "csr" or shape[0] != shape[1]:
        raise DataError("expected the square CSR matrix of a graph")
    return int(shape[0])


def _at_ends(
    ends: str, incoming: np.ndarray, outgoing: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return which degree of every node counts where it is a source, and where a target."""
    if ends == "undirected":
        return incoming + outgoing, incoming + outgoing
    by_name = {"in": incoming, "out": outgoing}
    first, second = ends.split("-")
    return by_name[first], by_name[second]


def _correlation(
    ends: str,
    incoming: np.ndarray,
    outgoing: np.ndarray,
    at_source: np.ndarray,
    at_target: np.ndarray,
    product: int,
) -> float:
    """Pearson's correlation over edges from sums over nodes; a node occurs once per edge at it.

    All sums are integers, so that equal degrees give a variance of exactly 0.
    """
    edges = int(outgoing.sum())
    if ends == "undirected":
        total = incoming + outgoing
        count, product = 2 * edges, 2 * product
        sums = [exact_dot(total, total)] * 2
        squares = [exact_dot(total * total, total)] * 2
    else:
        count = edges
        sums = [exact_dot(at_source, outgoing), exact_dot(at_target, incoming)]
        squares = [
            exact_dot(at_source * at_source, outgoing),
            exact_dot(at_target * at_target, incoming),
        ]
    covariance = count * product - sums[0] * sums[1]
    variances = [count * square - s * s for square, s in zip(squares, sums, strict=True)]
    if not all(variances):
        return float("nan")
    return float(covariance / (variances[0] ** 0.5 * variances[1] ** 0.5))


def _two_colours(layer_graph: LayerGraph) -> bool:
    """Whether the parts that blocks join can be coloured with two colours."""
    near: dict[int, list[int]] = {}
    for block in checked_blocks(layer_graph):
        if block.mask.any():
            near.setdefault(block.source, []).append(block.target)
            near.setdefault(block.target, []).append(block.source)
    colour: dict[int, int] = {}
    for start in near:
        stack = [start] if start not in colour else []
        colour.setdefault(start, 0)
        while stack:
            part = stack.pop()
            for other in near[part]:
                if other not in colour:
                    colour[other] = 1 - colour[part]
                    stack.append(other)
                elif colour[other] == colour[part]:
                    return False
    return True


@numba.njit(cache=True)
def _triangles(indptr: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """(nodes,) int64 triangles at each node; neighbours are ascending and distinct."""
    nodes = indptr.size - 1
    found = np.zeros(nodes, np.int64)
    for u in range(nodes):
        for at in range(indptr[u], indptr[u + 1]):
            v = indices[at]
            if v <= u:
                continue
            i, j = at + 1, indptr[v]
            while i < indptr[u + 1] and j < indptr[v + 1]:
                if indices[i] < indices[j]:
                    i += 1
                elif indices[i] > indices[j]:
                    j += 1
                else:
                    w = indices[i]
                    if w > v:
                        found[u] += 1
                        found[v] += 1
                        found[w] += 1
                    i += 1
                    j += 1
    return found


@numba.njit(cache=True)
def _distance_sums(
    indptr: np.ndarray, indices: np.ndarray, sources: np.ndarray
) -> tuple[int, int, int]:
    """Sum of distances, number of reached nodes and largest distance over all sources."""
    nodes = indptr.size - 1
    seen = np.full(nodes, -1, np.int64)
    queue = np.empty(nodes, np.int32)
    total, pairs, longest = 0, 0, 0
    for number in range(sources.size):
        queue[0] = sources[number]
        seen[sources[number]] = number
        first, last, distance = 0, 1, 0
        while first < last:
            end = last
            while first < end:
                u = queue[first]
                first += 1
                for at in range(indptr[u], indptr[u + 1]):
                    v = indices[at]
                    if seen[v] != number:
                        seen[v] = number
                        queue[last] = v
                        last += 1
            if last > end:
                distance += 1
                total += distance * (last - end)
                pairs += last - end
        longest = max(longest, distance)
    return total, pairs, longest
