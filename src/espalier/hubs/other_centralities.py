"""Centralities to compare the Laplacian one with: strength, Katz, eigenvector, betweenness.

All but betweenness are products with the weights, without a list of edges. Each takes the weights
of dense layers or, with `kind`, a layer graph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np
from scipy import sparse
from scipy.sparse import linalg

from espalier.errors import ConfigurationError, DataError, MissingDependencyError, unknown_name
from espalier.hubs.weighted_graphs import (
    GRAPHS,
    LayeredWeights,
    WeightedGraph,
    Weights,
    by_layer,
    network_graph,
)

if TYPE_CHECKING:
    from espalier.graphs.layer_graph import LayerGraph

Network: TypeAlias = "Sequence[Weights] | LayerGraph"

_SMALL = 64
_TOLERANCE = 1e-12


def strength(
    network: Network,
    graph: str = "undirected",
    *,
    signed: bool = False,
    include_output: bool = True,
    kind: str = "unrolled",
) -> list[np.ndarray]:
    """Sum of the weights of every node's edges.

    Args:
        network: one (n_in, n_out) matrix per layer, or a layer graph.
        graph: "undirected", or "out" for outgoing edges only.
        signed: the weights as they are, else their absolute values.
        include_output: whether the output units belong to the graph.
        kind: of a layer graph, "unrolled" or "rolled-channel".

    Returns:
        One float64 array per layer.

    Raises:
        ConfigurationError: an unknown option.
        DataError: weights that are not real finite matrices, or layers that do not chain.
    """
    units = _units(network, graph, signed, include_output, kind)
    return by_layer(units, _strength(units, graph))


def katz(
    network: Network,
    graph: str = "undirected",
    *,
    attenuation: float = 0.5,
    alpha: float | None = None,
    beta: float = 1.0,
    signed: bool = False,
    include_output: bool = True,
    kind: str = "unrolled",
) -> list[np.ndarray]:
    """Katz centrality: the solution x of x = alpha A x + beta, scaled to norm 1.

    Source: Katz, "A new status index derived from sociometric analysis", Psychometrika 18, 1953.

    Args:
        network, include_output, kind: as in `strength`.
        graph: "undirected", or "out": a node gains from those that its edges go to. An out-graph
            has no cycle, so any `alpha` will do.
        attenuation: alpha times the largest absolute eigenvalue of the undirected graph, above 0
            and below 1.
        alpha: instead of `attenuation`.
        beta: the value that every node has of itself.
        signed: the weights as they are, else their absolute values.

    Returns:
        One float64 array per layer; the squares of all sum to 1.

    Raises:
        ConfigurationError: an unknown option, or alpha at which an undirected graph has no Katz
            centrality (1 over the largest absolute eigenvalue or more).
        DataError: unusable weights.
    """
    if not np.isfinite(beta) or beta <= 0:
        raise ConfigurationError(f"beta is {beta}; it must be a positive number")
    units = _units(network, graph, signed, include_output, kind)
    strengths = _strength(units, "undirected")
    constant = np.full(strengths.size, float(beta))
    radius = 0.0
    if graph == "undirected" or alpha is None:
        radius = _radius(units, strengths.size)
    if alpha is None:
        if not 0 < attenuation < 1:
            raise ConfigurationError(f"attenuation is {attenuation}; it must be between 0 and 1")
        alpha = attenuation / radius if radius > 0 else 0.0
    elif not np.isfinite(alpha) or alpha <= 0:
        raise ConfigurationError(f"alpha is {alpha}; it must be a positive number")
    elif graph == "undirected" and alpha * radius >= 1:
        raise ConfigurationError(
            f"alpha is {alpha}, but the largest absolute eigenvalue is {radius:.6g}: alpha must be "
            f"below {1 / radius:.6g} for Katz centrality to exist"
        )
    if graph == "out":
        values = constant
        for _ in units.shapes:
            values = constant + alpha * units.products(values)[0]
    else:
        factor = alpha
        operator = _operator(strengths.size, lambda x: x - factor * _both_ways(units, x))
        values, failed = linalg.cg(operator, constant, rtol=_TOLERANCE, maxiter=10_000)
        if failed:
            raise ConfigurationError(
                f"Katz centrality did not converge: alpha {alpha:.6g} is too near to "
                f"{1 / radius:.6g}; lower attenuation or alpha"
            )
    return by_layer(units, values / np.linalg.norm(values))


def eigenvector(
    network: Network, *, include_output: bool = True, kind: str = "unrolled"
) -> list[np.ndarray]:
    """Eigenvector centrality: the eigenvector of the largest eigenvalue of the undirected graph.

    Of absolute weights: with negative ones no eigenvector need be of one sign. In a graph of
    several components it is that of the component with the largest eigenvalue, and 0 elsewhere.
    Source: Bonacich, "Power and centrality: a family of measures", Am. J. Sociology 92, 1987.

    Args:
        network, include_output, kind: as in `strength`.

    Returns:
        One float64 array per layer, not negative; the squares of all sum to 1.

    Raises:
        ConfigurationError: an unknown kind.
        DataError: unusable weights, or a graph without edges.
    """
    units = _units(network, "undirected", False, include_output, kind)
    strengths = _strength(units, "undirected")
    if not strengths.any():
        raise DataError("a graph without edges has no eigenvector centrality")
    _, vector = _largest(units, strengths.size)
    return by_layer(units, np.abs(vector))


def betweenness(
    network: Network,
    *,
    weighted: bool = True,
    normalised: bool = False,
    include_output: bool = True,
    kind: str = "rolled-channel",
    max_edges: int = 5_000_000,
) -> list[np.ndarray]:
    """Betweenness centrality of the undirected graph, by igraph, on explicit edges.

    Its time grows with nodes times edges: meant for dense layers of moderate size and for rolled
    graphs. Source: Freeman, "A set of measures of centrality based on betweenness", Sociometry
    40, 1977; Brandes, "A faster algorithm for betweenness centrality", J. Math. Sociol. 25, 2001.

    Args:
        network, include_output: as in `strength`.
        weighted: an edge of weight w has length 1 / abs(w); else every edge has length 1.
        normalised: divide by the number of pairs of other nodes.
        kind: of a layer graph, "rolled-channel" or "unrolled".
        max_edges: the largest graph to list.

    Returns:
        One float64 array per layer; the number of shortest paths of unordered pairs through a
        node, shared where a pair has several.

    Raises:
        ConfigurationError: an unknown kind, or more than `max_edges` edges.
        DataError: unusable weights.
        MissingDependencyError: igraph is not installed.
    """
    try:
        import igraph
    except ImportError as error:
        raise MissingDependencyError(
            "betweenness needs igraph: install it with `pip install igraph`"
        ) from error
    units = _units(network, "undirected", False, include_output, kind)
    units.sums()
    adjacency = sparse.coo_array(units.adjacency())
    if adjacency.nnz > max_edges:
        raise ConfigurationError(
            f"betweenness of {adjacency.nnz:,} edges is over the limit max_edges={max_edges:,}; "
            "take the rolled graph, or raise it"
        )
    kept = adjacency.data != 0
    nodes = int(np.sum([np.prod(shape) for shape in units.shapes]))
    edges = np.stack([adjacency.row[kept], adjacency.col[kept]], axis=1)
    listed = igraph.Graph(n=nodes, edges=edges)
    lengths = 1 / adjacency.data[kept] if weighted and kept.any() else None
    values = np.array(listed.betweenness(directed=False, weights=lengths), dtype=np.float64)
    if normalised:
        values /= max(1.0, (nodes - 1) * (nodes - 2) / 2)
    return by_layer(units, values)


def _units(
    network: Network, graph: str, signed: bool, include_output: bool, kind: str
) -> WeightedGraph:
    if graph not in GRAPHS:
        raise unknown_name("graph of a centrality", graph, GRAPHS)
    if hasattr(network, "blocks"):
        return network_graph(
            cast("LayerGraph", network), kind, signed=signed, include_output=include_output
        )
    return LayeredWeights(
        cast("Sequence[Weights]", network), signed=signed, include_output=include_output
    )


def _strength(units: WeightedGraph, graph: str) -> np.ndarray:
    sums = units.sums()
    return sums.outgoing + sums.incoming if graph == "undirected" else sums.outgoing


def _both_ways(units: WeightedGraph, x: np.ndarray) -> np.ndarray:
    outgoing, incoming = units.products(np.ascontiguousarray(x).reshape(-1))
    return outgoing + incoming


def _operator(nodes: int, product: Callable[[np.ndarray], np.ndarray]) -> Any:
    kind: Any = linalg.LinearOperator
    return kind((nodes, nodes), matvec=product, dtype=np.float64)


def _largest(units: WeightedGraph, nodes: int) -> tuple[float, np.ndarray]:
    """Return the largest eigenvalue and its eigenvector of norm 1."""
    if nodes <= _SMALL:
        matrix = units.adjacency()
        values, vectors = np.linalg.eigh((matrix + matrix.T).toarray())
        return float(values[-1]), vectors[:, -1]
    operator = _operator(nodes, lambda x: _both_ways(units, x))
    # A start vector of equal parts could be orthogonal to the eigenvector of signed weights.
    start = np.random.default_rng(0).uniform(0.5, 1.5, nodes)
    values, vectors = linalg.eigsh(operator, k=1, which="LA", v0=start)
    return float(values[0]), vectors[:, 0]


def _radius(units: WeightedGraph, nodes: int) -> float:
    # Layers joined to the next only: the eigenvalues come in pairs of either sign. Shortcuts may
    # join layers of the same colour, and the most negative eigenvalue may be the largest.
    if nodes <= _SMALL:
        matrix = units.adjacency()
        return float(np.abs(np.linalg.eigvalsh((matrix + matrix.T).toarray())).max())
    operator = _operator(nodes, lambda x: _both_ways(units, x))
    start = np.random.default_rng(0).uniform(0.5, 1.5, nodes)
    found = linalg.eigsh(operator, k=1, which="LM", v0=start, return_eigenvectors=False)
    return float(np.abs(found).max())
