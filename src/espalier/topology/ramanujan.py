"""Ramanujan measures of a layer: how far its bipartite graph is from the best expanders.

A layer is a bipartite graph of inputs (left) and outputs (right). The spectrum of its adjacency
matrix is that of its biadjacency matrix with both signs, so the largest eigenvalue is the first
singular value and the largest non-trivial one the second. Nodes without edges are left out first.
Something that is not defined is NaN, with its reason beside it, and never 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph
from scipy.sparse.linalg import svds

from espalier.errors import ConfigurationError, DataError, EspalierError, unknown_name
from espalier.graphs.encodings import encode
from espalier.graphs.layer_graph import LayerGraph
from espalier.topology.matrices import absolute_matrix, shape_of

CONVENTIONS = ("definition", "official", "published")

MIN_DEGREE = 3
"""Sub-graphs with a smaller mean degree on either side are not scored, in any convention."""

DENSE_WORK = 2e9
"""Multiplications up to which all singular values are computed; beyond, the first two."""

RESIDUAL = 1e-8
"""Largest residual of a singular pair, relative to the largest singular value."""


@dataclass(frozen=True)
class BipartiteSpectrum:
    """Size and first two singular values of a bipartite graph without its isolated nodes.

    Attributes:
        left, right: nodes with an edge.
        edges: their number.
        largest, second: singular values; `second` is 0 where one side has a single node.
    """

    left: int
    right: int
    edges: int
    largest: float
    second: float

    @property
    def mean_left_degree(self) -> float:
        """Return edges per left node; NaN without edges."""
        return self.edges / self.left if self.left else float("nan")

    @property
    def mean_right_degree(self) -> float:
        """Return edges per right node; NaN without edges."""
        return self.edges / self.right if self.right else float("nan")

    @property
    def mean_degree(self) -> float:
        """Return the mean degree of all nodes; NaN without edges."""
        return 2 * self.edges / (self.left + self.right) if self.edges else float("nan")


@dataclass(frozen=True)
class RamanujanMetrics:
    """The Ramanujan measures of one layer; NaN where one is not defined.

    Attributes:
        convention: by which bound and condition, as in `ramanujan_metrics`.
        density: kept share of the weights.
        left, right, edges: of the graph without isolated nodes.
        mean_left_degree, mean_right_degree: likewise.
        difference_of_bound: bound - second eigenvalue of the layer.
        difference_of_bound_relative: the same over the bound.
        eigenvalue_difference: 2 sqrt(largest - 1) - second eigenvalue, of the layer.
        imdb: mean difference of bound of the sub-graphs of equal left degree.
        imdb_relative: mean of their relative differences.
        iterative_eigenvalue_difference, iterative_eigenvalue_difference_relative: likewise.
        spectral_gap: largest - second eigenvalue of the layer, absolute weights.
        iterative_spectral_gap: mean of that over the sub-graphs.
        subgraphs: how many are scored.
        expansion: right over left nodes of the layer; `random_bound`: how far the expander mixing
            lemma is from its bound, as the official code has it.
        reasons: for every field that is NaN, why.
    """

    convention: str
    density: float
    left: int
    right: int
    edges: int
    mean_left_degree: float
    mean_right_degree: float
    difference_of_bound: float
    difference_of_bound_relative: float
    eigenvalue_difference: float
    imdb: float
    imdb_relative: float
    iterative_eigenvalue_difference: float
    iterative_eigenvalue_difference_relative: float
    spectral_gap: float
    iterative_spectral_gap: float
    subgraphs: int
    expansion: float
    random_bound: float
    reasons: Mapping[str, str]

    def published_columns(self) -> dict[str, float]:
        """Return the measures under the names of the published tables.

        Bounds are relative under the convention "published", else absolute. The published
        "layer_sparsity" is a density, and stays one here.
        """
        relative = self.convention == "published"
        return {
            "iterative_spectral_gap": self.iterative_spectral_gap,
            "iterative_degree_bound": self.imdb_relative if relative else self.imdb,
            "degree_bound": (
                self.difference_of_bound_relative if relative else self.difference_of_bound
            ),
            "layer_sparsity": self.density,
        }


def bipartite_spectrum(
    biadjacency: sparse.csr_array | np.ndarray, *, weighted: bool = False
) -> BipartiteSpectrum:
    """First two singular values of a bipartite graph, isolated nodes left out.

    A second singular value that equals the first is found as such: large graphs are taken one
    component at a time, and the first singular value of a component is simple.

    Args:
        biadjacency: (left, right); in a sparse matrix every stored entry is an edge, in an array
            every entry that is not 0.
        weighted: absolute values, else 1 for every edge.

    Raises:
        DataError: not a matrix, or a value is not finite.
        EspalierError: the iteration for a large graph did not converge.
    """
    matrix = _stripped(_edges(biadjacency))
    if not weighted:
        matrix = sparse.csr_array(
            (np.ones(matrix.nnz), matrix.indices, matrix.indptr), shape=shape_of(matrix)
        )
    largest, second = _two_singular_values(matrix)
    return BipartiteSpectrum(*shape_of(matrix), int(matrix.nnz), largest, second)


def ramanujan_metrics(
    biadjacency: sparse.csr_array | np.ndarray,
    convention: str = "definition",
    *,
    density: float | None = None,
) -> RamanujanMetrics:
    """Difference of bound, IMDB, weighted spectral gap and density of one layer.

    The iterative measures are means over the sub-graphs of all left nodes of one degree, at least
    3, with their neighbours; a sub-graph counts where both its mean degrees are at least 3.

    Conventions:
        "definition": bound 2 sqrt(d - 1) with the mean degree d of the graph, as in Cunegatti et
            al. (TMLR 2024, section 4.1). The layer needs 3 nodes.
        "official": bound sqrt(d_left - 1) + sqrt(d_right - 1), as in the code of Hoang et al.
            (ICLR 2023). The layer too needs both mean degrees to be at least 3.
        "published": the same bound; the layer needs 4 nodes and a degree above 1; weights are
            rounded to float16. Its tables hold the relative differences.

    Args:
        biadjacency: (left, right) weights, as in `bipartite_spectrum`.
        convention: "definition", "official" or "published".
        density: kept share of the weights; by default edges over left x right.

    Raises:
        ConfigurationError: an unknown convention.
        DataError, EspalierError: as in `bipartite_spectrum`.

    Source: Pal et al. (ICML 2022), "A study on the Ramanujan graph property of winning lottery
    tickets"; Hoang et al. (ICLR 2023), "Revisiting pruning at initialization through the lens of
    Ramanujan graph"; Hoang et al. (NeurIPS 2023) for the weighted gap.
    """
    if convention not in CONVENTIONS:
        raise unknown_name("convention", convention, CONVENTIONS)
    matrix = _edges(biadjacency)
    if convention == "published":
        matrix.data = matrix.data.astype(np.float16).astype(np.float64)
    full = shape_of(matrix)
    if density is None:
        density = matrix.nnz / (full[0] * full[1]) if full[0] * full[1] else float("nan")
    layer = bipartite_spectrum(matrix)
    reason = _why_layer_is_undefined(layer, convention)
    reasons: dict[str, str] = {}
    values: dict[str, float] = dict.fromkeys(
        (
            "difference_of_bound",
            "difference_of_bound_relative",
            "eigenvalue_difference",
            "random_bound",
            "expansion",
        ),
        float("nan"),
    )
    if reason:
        reasons.update(dict.fromkeys(values, reason))
    else:
        bound = _bound(layer, convention)
        values["difference_of_bound"] = bound - layer.second
        values["difference_of_bound_relative"] = _ratio(bound - layer.second, bound)
        values["eigenvalue_difference"] = _eigenvalue_bound(layer) - layer.second
        values["expansion"] = layer.right / layer.left
        values["random_bound"] = _random_bound(layer, full)
        if bound == 0:
            reasons["difference_of_bound_relative"] = "the bound is 0: every degree is 1"
    if layer.edges:
        weighted = bipartite_spectrum(matrix, weighted=True)
        values["spectral_gap"] = weighted.largest - weighted.second
    else:
        values["spectral_gap"] = float("nan")
        reasons["spectral_gap"] = "no edges"
    scored = _scored_subgraphs(matrix)
    iterative: dict[str, Callable[[_Scored], float]] = {
        "imdb": lambda s: _bound(s.spectrum, convention) - s.spectrum.second,
        "imdb_relative": lambda s: 1 - s.spectrum.second / _bound(s.spectrum, convention),
        "iterative_eigenvalue_difference": lambda s: (
            _eigenvalue_bound(s.spectrum) - s.spectrum.second
        ),
        "iterative_eigenvalue_difference_relative": lambda s: (
            1 - s.spectrum.second / _eigenvalue_bound(s.spectrum)
        ),
        "iterative_spectral_gap": lambda s: s.weighted.largest - s.weighted.second,
    }
    for name, score in iterative.items():
        values[name] = float(np.mean([score(s) for s in scored])) if scored else float("nan")
        if not scored:
            reasons[name] = (
                f"no sub-graph of equal left degree has mean degrees of {MIN_DEGREE} on both sides"
            )
    return RamanujanMetrics(
        convention=convention,
        density=float(density),
        left=layer.left,
        right=layer.right,
        edges=layer.edges,
        mean_left_degree=layer.mean_left_degree,
        mean_right_degree=layer.mean_right_degree,
        subgraphs=len(scored),
        reasons=reasons,
        **values,
    )


def ramanujan_metrics_by_layer(
    graph: LayerGraph, kind: str = "rolled", convention: str = "definition"
) -> dict[str, RamanujanMetrics]:
    """The Ramanujan measures of every layer of a network.

    Args:
        graph: from `layer_graph`.
        kind: "rolled" (left: every kernel entry) or "rolled-channel" (left: every input channel,
            edge weights are the L2 norms of kernel slices).
        convention: as in `ramanujan_metrics`.

    Returns:
        The measures by the weight's name. The density is that of the weights in both kinds.

    Raises:
        ConfigurationError: an unknown kind or convention.
        DataError, EspalierError: as in `bipartite_spectrum`.
    """
    if convention not in CONVENTIONS:
        raise unknown_name("convention", convention, CONVENTIONS)
    if kind == "rolled":
        matrices: dict[str, sparse.csr_array] = encode(graph, "rolled", dtype=np.float64)
    elif kind == "rolled-channel":
        matrices = encode(graph, "rolled-channel", dtype=np.float64)
    else:
        raise ConfigurationError(
            f"the Ramanujan measures are of rolled graphs; kind is {kind!r}, use 'rolled' or "
            "'rolled-channel'"
        )
    density = layer_density(graph)
    return {
        name: ramanujan_metrics(matrix, convention, density=density[name])
        for name, matrix in matrices.items()
    }


def network_ramanujan_metrics(
    layers: Mapping[str, RamanujanMetrics] | Sequence[RamanujanMetrics],
) -> dict[str, float]:
    """Means of the measures over the layers where they are defined, and the share of those layers.

    Returns:
        For each measure its mean, NaN where no layer has one, and "<measure>_layers", the share of
        layers with one.
    """
    items = list(layers.values()) if isinstance(layers, Mapping) else list(layers)
    skipped = {"convention", "reasons", "left", "right", "edges", "subgraphs"}
    result: dict[str, float] = {}
    for name in (f.name for f in fields(RamanujanMetrics) if f.name not in skipped):
        values = np.array([getattr(item, name) for item in items], dtype=np.float64)
        defined = values[np.isfinite(values)]
        result[name] = float(defined.mean()) if defined.size else float("nan")
        result[f"{name}_layers"] = defined.size / len(items) if items else float("nan")
    return result


def layer_density(graph: LayerGraph) -> dict[str, float]:
    """Return the kept share of the weights of every layer, by the weight's name."""
    return {layer.name: float(np.mean(layer.mask)) for layer in graph.layers}


# -- scores --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Scored:
    spectrum: BipartiteSpectrum
    weighted: BipartiteSpectrum


def _scored_subgraphs(matrix: sparse.csr_array) -> list[_Scored]:
    """Return the spectra of the sub-graphs of equal left degree that satisfy the condition."""
    degree = np.diff(matrix.indptr)
    scored = []
    for value in np.unique(degree[degree >= MIN_DEGREE]):
        subgraph = _stripped(matrix[np.flatnonzero(degree == value)])
        # Cheap test first: a spectrum costs much more than counting.
        if subgraph.nnz < MIN_DEGREE * shape_of(subgraph)[1]:
            continue
        spectrum = bipartite_spectrum(subgraph)
        scored.append(_Scored(spectrum, bipartite_spectrum(subgraph, weighted=True)))
    return scored


def _why_layer_is_undefined(layer: BipartiteSpectrum, convention: str) -> str:
    nodes = layer.left + layer.right
    if not layer.edges:
        return "no edges"
    if nodes < 3:
        return "a single edge has no non-trivial eigenvalue"
    if convention == "published" and nodes <= 3:
        return "the published code needs more than 3 nodes"
    if convention == "published" and layer.edges == layer.left == layer.right:
        return "both mean degrees are 1: the bound is 0"
    if (
        convention == "official"
        and min(layer.mean_left_degree, layer.mean_right_degree) < MIN_DEGREE
    ):
        return f"a mean degree is below {MIN_DEGREE}"
    return ""


def _bound(graph: BipartiteSpectrum, convention: str) -> float:
    if convention == "definition":
        return 2 * float(np.sqrt(graph.mean_degree - 1))
    return float(np.sqrt(graph.mean_left_degree - 1) + np.sqrt(graph.mean_right_degree - 1))


def _eigenvalue_bound(graph: BipartiteSpectrum) -> float:
    # Rounding must not take the largest eigenvalue of a matching, 1, below 1.
    return 2 * float(np.sqrt(max(graph.largest - 1, 0.0)))


def _ratio(value: float, bound: float) -> float:
    return value / bound if bound else float("nan")


def _random_bound(graph: BipartiteSpectrum, full: tuple[int, int]) -> float:
    nodes = graph.left * graph.right
    mixed = (graph.second**2 / 4 + 1) * np.sqrt(nodes)
    expected = graph.mean_left_degree / full[1] * nodes
    return float((mixed - abs(2 * graph.edges - expected)) / (full[0] * full[1]))


# -- singular values -------------------------------------------------------------------------------


def _edges(biadjacency: sparse.csr_array | np.ndarray) -> sparse.csr_array:
    """Return a copy with absolute float64 values, checked."""
    if getattr(biadjacency, "ndim", 0) != 2:
        raise DataError("a bipartite graph is a (left, right) matrix")
    return absolute_matrix(biadjacency, "the bipartite graph")


def _stripped(matrix: sparse.csr_array) -> sparse.csr_array:
    rows = np.flatnonzero(np.diff(matrix.indptr))
    columns = np.unique(matrix.indices)
    return sparse.csr_array(matrix[rows][:, columns])


def _two_singular_values(matrix: sparse.csr_array) -> tuple[float, float]:
    left, right = shape_of(matrix)
    if not matrix.nnz:
        return 0.0, 0.0
    if left * right * float(min(left, right)) <= DENSE_WORK:
        return _dense_values(matrix)
    symmetric = sparse.csr_array(sparse.block_array([[None, matrix], [matrix.T, None]]))
    count, label = csgraph.connected_components(symmetric, directed=False)
    found: list[float] = []
    for component in range(count):
        rows = np.flatnonzero(label[:left] == component)
        columns = np.flatnonzero(label[left:] == component)
        piece = sparse.csr_array(matrix[rows][:, columns])
        # A node whose edges weigh 0 is a component of its own, of one side only.
        if not rows.size or not columns.size:
            continue
        work = rows.size * columns.size * float(min(rows.size, columns.size))
        found.extend(_dense_values(piece) if work <= DENSE_WORK else _leading_values(piece))
    largest, second, *_ = [*sorted(found, reverse=True), 0.0, 0.0]
    return largest, second


def _dense_values(matrix: sparse.csr_array) -> tuple[float, float]:
    values = np.linalg.svd(matrix.toarray(), compute_uv=False)
    return float(values[0]), float(values[1]) if values.size > 1 else 0.0


def _leading_values(matrix: sparse.csr_array) -> tuple[float, float]:
    """Return the first two singular values of one large component, residuals checked."""
    shape = shape_of(matrix)
    rng = np.random.default_rng(0)
    start = 1 + rng.random(min(shape))
    options: dict[str, Any] = {"v0": start, "tol": 0.1 * RESIDUAL, "ncv": 40, "maxiter": 3000}
    found: Any = svds(matrix, k=2, **options)
    _, values, right = found
    order = np.argsort(values)[::-1]
    values, right = values[order], right[order]
    gram = (matrix.T @ (matrix @ right.T)).T
    residual = float(np.linalg.norm(gram - values[:, None] ** 2 * right, axis=1).max())
    if not residual <= RESIDUAL * values[0] ** 2:
        raise EspalierError(
            f"singular values of a {shape[0]} x {shape[1]} graph: residual "
            f"{residual / values[0] ** 2:.1e} relative to the largest is above {RESIDUAL:.0e}"
        )
    return float(values[0]), float(values[1])
