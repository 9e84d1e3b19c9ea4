"""Clusterability: how well a network's units fall into groups with little weight between them.

The units of all layers are one undirected graph whose edge weights are the absolute weights. It is
cut by spectral clustering, and the normalised cut is compared with that of networks whose weights
were shuffled within each layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph
from scipy.sparse.linalg import eigsh

from espalier.errors import ConfigurationError, DataError, EspalierError, unknown_name
from espalier.seeds import numpy_generator
from espalier.topology.matrices import absolute_matrix, shape_of

CONVENTIONS = ("definition", "published")
NULLS = ("shuffle", "shuffle-nonzero")
KERNEL_NORMS = ("l1", "l2", "published-l1", "published-l2")

RESTARTS = 25
"""Restarts of k-means, and 100 above `MANY_UNITS` units, as published."""

MANY_UNITS = 2000

DENSE_UNITS = 2000
"""Components up to this size are decomposed by dense linear algebra."""

RESIDUAL = 1e-8

MAX_STEPS = 300
"""Steps of one run of k-means."""

_PUBLISHED_VOLUME = 1e-8


@dataclass(frozen=True, eq=False)
class Clusters:
    """A partition of a network's units and its normalised cut.

    Attributes:
        n_cut: sum over clusters of the weight that leaves a cluster over its volume.
        lower_bound: sum of the k smallest eigenvalues of the normalised Laplacian; no partition
            into k clusters has a smaller n-cut.
        labels: (units,) int64, -1 for isolated units, which are left out.
        k: clusters asked for.
        labels_used: clusters that have a unit.
    """

    n_cut: float
    lower_bound: float
    labels: np.ndarray
    k: int
    labels_used: int

    @property
    def mean_in_out_ratio(self) -> float:
        """Return (1 - n/k) / (2 n/k) for the n-cut n, the published derived column."""
        if not self.n_cut:
            return float("inf")
        return (1 - self.n_cut / self.k) / (2 * self.n_cut / self.k)


@dataclass(frozen=True, eq=False)
class Clusterability:
    """A network's n-cut beside those of shuffled networks.

    Attributes:
        clusters: of the network.
        null: how the weights were shuffled.
        shuffled: (samples,) n-cuts of the shuffled networks.
        z: (n-cut - mean) / standard deviation (population) of the shuffled; negative is more
            clusterable than chance; NaN where all shuffled n-cuts are equal.
        p: (1 + shuffled strictly below) / (samples + 1); at least 1 / (samples + 1).
    """

    clusters: Clusters
    null: str
    shuffled: np.ndarray
    z: float
    p: float


def unit_graph(weights: Sequence[np.ndarray | sparse.csr_array]) -> sparse.csr_array:
    """Undirected graph of the units of consecutive dense layers, inputs and outputs included.

    Args:
        weights: one (inputs, outputs) matrix per layer; absolute values count, zeros are no edges.

    Returns:
        (units, units) symmetric float64 CSR matrix, layer after layer.

    Raises:
        DataError: no layer, layers that do not fit each other, or a value that is not finite.
    """
    layers = _layers(weights)
    sizes = [shape_of(layers[0])[0], *(shape_of(layer)[1] for layer in layers)]
    start = np.concatenate([[0], np.cumsum(sizes)])
    rows, columns, values = [], [], []
    for k, layer in enumerate(layers):
        entries = layer.tocoo()
        rows.append(entries.row + start[k])
        columns.append(entries.col + start[k + 1])
        values.append(entries.data)
    row, column, value = (np.concatenate(arrays) for arrays in (rows, columns, values))
    upper = sparse.csr_array((value, (row, column)), shape=(start[-1], start[-1]))
    return sparse.csr_array(upper + upper.T)


def n_cut(
    adjacency: sparse.csr_array | np.ndarray, labels: np.ndarray, convention: str = "definition"
) -> float:
    """Normalised cut of a partition: sum over clusters of cut / volume.

    Args:
        adjacency: (units, units) symmetric, not negative.
        labels: (units,) integers; units labelled -1 are in no cluster and must be isolated.
        convention: "published" adds 1e-8 to every volume.

    Raises:
        ConfigurationError: an unknown convention.
        DataError: the labels do not fit, a unit with edges has none, or a cluster has volume 0.

    Source: Shi and Malik (2000), "Normalized cuts and image segmentation", for k clusters and
    without the factor 1/2, as in Filan et al. (2021), "Clusterability in neural networks".
    """
    if convention not in CONVENTIONS:
        raise unknown_name("convention", convention, CONVENTIONS)
    matrix = sparse.csr_array(adjacency)
    labels = np.asarray(labels)
    degree = _degrees(matrix)
    if labels.shape != degree.shape:
        raise DataError(f"there are {degree.size} units and labels of shape {labels.shape}")
    if degree[labels < 0].any():
        raise DataError("a unit with edges has no cluster")
    used, cluster = np.unique(labels[labels >= 0], return_inverse=True)
    member = np.flatnonzero(labels >= 0)
    indicator = sparse.csr_array(
        (np.ones(member.size), (member, cluster)), shape=(labels.size, used.size)
    )
    volume = np.bincount(cluster, degree[member], minlength=used.size)
    inside = np.asarray((indicator.T @ matrix @ indicator).diagonal())
    if convention == "published":
        volume = volume + _PUBLISHED_VOLUME
    if not volume.all():
        raise DataError(f"cluster {used[volume == 0][0]} has no edges; leave isolated units out")
    # Rounding can leave the cut of a closed cluster just below 0.
    return float(np.sum(np.maximum(np.bincount(cluster, degree[member]) - inside, 0) / volume))


def spectral_clusters(
    adjacency: sparse.csr_array | np.ndarray,
    k: int,
    *,
    convention: str = "definition",
    restarts: int | None = None,
    seed: int = 0,
) -> Clusters:
    """Cut a graph into k clusters by spectral clustering.

    The k eigenvectors of the smallest eigenvalues of I - D^-1/2 A D^-1/2, their rows divided by
    the square root of the degree, are clustered by k-means. Isolated units are left out; a larger
    separate component stays. Labels are arbitrary and may differ where eigenvectors are nearly
    tied; compare n-cuts.

    Args:
        adjacency: (units, units) symmetric, not negative.
        k: clusters.
        convention: of the n-cut.
        restarts: of k-means; by default 25, and 100 for more than 2000 units.
        seed: of k-means.

    Raises:
        ConfigurationError: an unknown convention, k not between 1 and the number of units with
            edges, or no restart.
        DataError: not a symmetric matrix of finite weights that are not negative.
        EspalierError: the eigenvalues of a large graph did not converge.

    Source: Filan et al. (2021), section 2; Shi and Malik (2000).
    """
    matrix = _symmetric(adjacency)
    kept = np.flatnonzero(_degrees(matrix))
    k = _checked_k(k, kept.size)
    if restarts is None:
        restarts = RESTARTS if kept.size <= MANY_UNITS else 4 * RESTARTS
    if restarts < 1:
        raise ConfigurationError(f"restarts is {restarts}; k-means needs at least 1")
    inner = _without_isolated(matrix, kept)
    values, vectors = _smallest_eigenpairs(inner, k)
    points = vectors / np.sqrt(_degrees(inner))[:, None]
    found = _k_means(points, k, restarts, numpy_generator(seed, "clusterability", "k-means"))
    labels = np.full(shape_of(matrix)[0], -1, np.int64)
    labels[kept] = found
    return Clusters(
        n_cut(matrix, labels, convention),
        float(values.sum()),
        labels,
        k,
        int(np.unique(found).size),
    )


def shuffled_weights(
    weights: Sequence[np.ndarray | sparse.csr_array],
    rng: np.random.Generator,
    null: str = "shuffle-nonzero",
) -> list[sparse.csr_array]:
    """Weights permuted within each layer.

    Args:
        weights: one (inputs, outputs) matrix per layer.
        rng: the source of the permutations.
        null: "shuffle" permutes all entries, zeros included, which changes the degrees of a sparse
            network (the published null); "shuffle-nonzero" permutes the values and leaves the
            edges where they are.

    Raises:
        ConfigurationError: an unknown null.
        DataError: as in `unit_graph`.
    """
    if null not in NULLS:
        raise unknown_name("null", null, NULLS)
    result = []
    for layer in _layers(weights):
        shape = shape_of(layer)
        values = rng.permutation(layer.data)
        if null == "shuffle-nonzero":
            result.append(sparse.csr_array((values, layer.indices, layer.indptr), shape=shape))
            continue
        place = rng.choice(shape[0] * shape[1], size=values.size, replace=False)
        row, column = np.divmod(place, shape[1])
        result.append(sparse.csr_array((values, (row, column)), shape=shape))
    return result


def clusterability(
    weights: Sequence[np.ndarray | sparse.csr_array],
    k: int = 12,
    *,
    null: str = "shuffle-nonzero",
    samples: int = 50,
    convention: str = "definition",
    restarts: int | None = None,
    seed: int = 0,
) -> Clusterability:
    """N-cut of a network of dense layers, beside that of shuffled networks.

    Args:
        weights: one (inputs, outputs) matrix per layer; biases do not count.
        k: clusters; 12 in the published tables.
        null: as in `shuffled_weights`; "shuffle" is the published one.
        samples: shuffled networks; 50 in the published tables.
        convention: of the n-cut, as in `n_cut`.
        restarts, seed: as in `spectral_clusters`; the seed also shuffles.

    Raises:
        ConfigurationError: as in `spectral_clusters` and `shuffled_weights`, or no sample.
        DataError, EspalierError: as in `unit_graph` and `spectral_clusters`; also a shuffled
            network with fewer than k units that have edges.

    Source: Filan et al. (2021), sections 2 and 3.
    """
    if samples < 1:
        raise ConfigurationError(f"samples is {samples}; the null needs at least 1")
    options: dict[str, Any] = {"convention": convention, "restarts": restarts, "seed": seed}
    own = spectral_clusters(unit_graph(weights), k, **options)
    shuffled = np.empty(samples)
    for i in range(samples):
        rng = numpy_generator(seed, "clusterability", null, i)
        graph = unit_graph(shuffled_weights(weights, rng, null))
        if np.count_nonzero(_degrees(graph)) < k:
            raise DataError(f"a shuffled network has fewer than {k} units with edges; lower k")
        shuffled[i] = spectral_clusters(graph, k, **options).n_cut
    return Clusterability(own, null, shuffled, *_against(own.n_cut, shuffled))


def kernel_weights(
    kernel: np.ndarray,
    norm: str = "l1",
    *,
    gamma: np.ndarray | None = None,
    variance: np.ndarray | None = None,
    epsilon: float = 1e-3,
) -> np.ndarray:
    """Edge weights between the channels of a convolution.

    Args:
        kernel: (out channels, in channels, rows, columns).
        norm: of the absolute kernel slice: "l1", its sum; "l2", the root of its sum of squares;
            "published-l1", its largest column sum, and "published-l2", its largest singular value,
            which the published code computes under those names (they are norms of the slice as a
            matrix).
        gamma, variance: (out channels,) of a batch normalisation to fold in first: each output
            channel is multiplied by |gamma| / sqrt(variance + epsilon).
        epsilon: 1e-3 in the published code.

    Returns:
        (in channels, out channels) float64.

    Raises:
        ConfigurationError: an unknown norm, or only one of gamma and variance.
        DataError: the kernel does not have four axes, or the batch normalisation does not fit.

    Source: Filan et al. (2021), appendix on convolutions.
    """
    if norm not in KERNEL_NORMS:
        raise unknown_name("kernel norm", norm, KERNEL_NORMS)
    if np.ndim(kernel) != 4:
        raise DataError(f"a kernel has four axes, this one has {np.ndim(kernel)}")
    values = np.abs(np.asarray(kernel, dtype=np.float64))
    if (gamma is None) != (variance is None):
        raise ConfigurationError("a batch normalisation needs both gamma and variance")
    if gamma is not None and variance is not None:
        if np.shape(gamma) != values.shape[:1] or np.shape(variance) != values.shape[:1]:
            raise DataError(
                f"the kernel has {values.shape[0]} output channels, gamma {np.shape(gamma)} and "
                f"variance {np.shape(variance)}"
            )
        scale = np.abs(gamma) / np.sqrt(np.asarray(variance) + epsilon)
        values = values * scale[:, None, None, None]
    if norm == "l1":
        edges = values.sum(axis=(2, 3))
    elif norm == "l2":
        edges = np.sqrt(np.square(values).sum(axis=(2, 3)))
    elif norm == "published-l1":
        edges = values.sum(axis=2).max(axis=2)
    else:
        edges = np.linalg.svd(values, compute_uv=False)[..., 0]
    return edges.T


# -- spectral clustering ---------------------------------------------------------------------------


def _smallest_eigenpairs(matrix: sparse.csr_array, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (k,) eigenvalues and (units, k) vectors of the normalised Laplacian, ascending.

    Components are taken one at a time: the eigenvalue 0 is simple in each, so that the iteration
    for large ones finds as many zeros as there are components.
    """
    units = shape_of(matrix)[0]
    scale = 1 / np.sqrt(_degrees(matrix))
    count, label = csgraph.connected_components(matrix, directed=False)
    values: list[float] = []
    vectors: list[tuple[np.ndarray, np.ndarray]] = []
    for component in range(count):
        members = np.flatnonzero(label == component)
        own = scale[members]
        block = sparse.csr_array(matrix[members][:, members])
        scaled = sparse.csr_array(block.multiply(own[:, None]).multiply(own[None, :]))
        top, basis = _largest_eigenpairs(scaled, min(k, members.size))
        values.extend(1 - top)
        vectors.extend((members, column) for column in basis.T)
    order = np.argsort(values, kind="stable")[:k]
    result = np.zeros((units, order.size))
    for place, i in enumerate(order):
        members, column = vectors[i]
        result[members, place] = column
    # Rounding can leave a zero just below 0.
    return np.maximum(np.array(values)[order], 0.0), result


def _largest_eigenpairs(matrix: sparse.csr_array, k: int) -> tuple[np.ndarray, np.ndarray]:
    size = shape_of(matrix)[0]
    if size <= DENSE_UNITS or k >= size - 1:
        values, vectors = np.linalg.eigh(matrix.toarray())
        return values[::-1][:k], vectors[:, ::-1][:, :k]
    start = 1 + np.random.default_rng(0).random(size)
    found: Any = eigsh(matrix, k=k, which="LA", v0=start, maxiter=100 * k + 3000)
    values, vectors = found
    residual = float(np.linalg.norm(matrix @ vectors - vectors * values, axis=0).max())
    if not residual <= RESIDUAL:
        raise EspalierError(f"eigenvectors of {size} units: residual {residual:.1e} is too large")
    return values[::-1], vectors[:, ::-1]


def _k_means(points: np.ndarray, k: int, restarts: int, rng: np.random.Generator) -> np.ndarray:
    """Return the labels of the restart with the smallest sum of squared distances."""
    best, labels = np.inf, np.zeros(len(points), np.int64)
    for _ in range(restarts):
        inertia, found = _lloyd(points, _spread_centres(points, k, rng))
        if inertia < best * (1 - 1e-12):
            best, labels = inertia, found
    return labels


def _spread_centres(points: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """k-means++ (Arthur and Vassilvitskii 2007) with several candidates per centre."""
    candidates = 2 + int(np.log(k))
    chosen = [int(rng.integers(len(points)))]
    nearest = _squared_distances(points, points[chosen])[:, 0]
    while len(chosen) < k:
        total = nearest.sum()
        if total <= 0:
            drawn = rng.integers(len(points), size=candidates)
        else:
            drawn = np.searchsorted(np.cumsum(nearest), total * rng.random(candidates))
            drawn = np.minimum(drawn, len(points) - 1)
        after = np.minimum(nearest[:, None], _squared_distances(points, points[drawn]))
        best = int(np.argmin(after.sum(axis=0)))
        chosen.append(int(drawn[best]))
        nearest = after[:, best]
    return points[chosen]


def _lloyd(points: np.ndarray, centres: np.ndarray) -> tuple[float, np.ndarray]:
    k = len(centres)
    labels = np.full(len(points), -1)
    inertia = np.inf
    for _ in range(MAX_STEPS):
        # The squared norm of the point is the same for every centre.
        found = (np.square(centres).sum(axis=1) - 2 * (points @ centres.T)).argmin(axis=1)
        own = np.square(points - centres[found]).sum(axis=1)
        count = np.bincount(found, minlength=k)
        for empty in np.flatnonzero(count == 0):
            # An empty cluster takes the point that fits worst, unless all points fit.
            worst = int(np.argmax(np.where(count[found] > 1, own, -1.0)))
            if own[worst] <= 0:
                break
            count[found[worst]] -= 1
            found[worst], own[worst], count[empty] = empty, 0.0, 1
        inertia = float(own.sum())
        if np.array_equal(found, labels):
            break
        labels = found
        member = sparse.csr_array(
            (np.ones(len(labels)), labels, np.arange(len(labels) + 1)), shape=(len(labels), k)
        )
        sums = member.T @ points
        centres = np.where(count[:, None] > 0, sums / np.maximum(count, 1)[:, None], centres)
    return inertia, labels


def _squared_distances(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    return np.square(points[:, None, :] - centres[None, :, :]).sum(axis=2)


# -- checks and sums -------------------------------------------------------------------------------


def _against(value: float, shuffled: np.ndarray) -> tuple[float, float]:
    """Return the z score and the left-sided p value of a value among shuffled ones."""
    spread = float(shuffled.std())
    z = (value - float(shuffled.mean())) / spread if spread else float("nan")
    return z, (1 + int(np.count_nonzero(shuffled < value))) / (shuffled.size + 1)


def _layers(weights: Sequence[np.ndarray | sparse.csr_array]) -> list[sparse.csr_array]:
    if not len(weights):
        raise DataError("a network needs at least one layer")
    layers = []
    for k, weight in enumerate(weights):
        if getattr(weight, "ndim", 0) != 2:
            raise DataError(f"layer {k} is not an (inputs, outputs) matrix")
        layer = absolute_matrix(weight, f"layer {k}")
        layer.eliminate_zeros()
        layers.append(layer)
    for k, (before, after) in enumerate(pairwise(layers)):
        if shape_of(before)[1] != shape_of(after)[0]:
            raise DataError(
                f"layer {k} has {shape_of(before)[1]} outputs, layer {k + 1} {shape_of(after)[0]} "
                "inputs"
            )
    return layers


def _symmetric(adjacency: sparse.csr_array | np.ndarray) -> sparse.csr_array:
    matrix = sparse.csr_array(adjacency, dtype=np.float64)
    rows, columns = shape_of(matrix)
    if rows != columns or abs(matrix - matrix.T).max() > 0:
        raise DataError("the graph to cluster must be a symmetric matrix, as unit_graph gives")
    if not np.isfinite(matrix.data).all() or (matrix.data < 0).any():
        raise DataError("the weights of the graph to cluster must be finite and not negative")
    return matrix


def _without_isolated(matrix: sparse.csr_array, kept: np.ndarray) -> sparse.csr_array:
    return sparse.csr_array(matrix[kept][:, kept])


def _degrees(matrix: sparse.csr_array) -> np.ndarray:
    return np.asarray(matrix.sum(axis=1), dtype=np.float64).reshape(-1)


def _checked_k(k: int, units: int) -> int:
    if not 1 <= k <= units:
        raise ConfigurationError(f"k is {k}; {units} units have edges, so it must be 1 to {units}")
    return k
