"""Modules of a masked multilayer perceptron: groups of units that serve the same later units.

Units that lie on no path are dropped. Each remaining unit is described by the later units that it
reaches; the units of a layer are clustered by the cosine distance of these descriptions, and
clusters of adjacent layers that are joined to little else become one module. Source: Patil, Michael
and Dovrolis, "Neural Sculpting: uncovering hierarchically modular task structure in neural
networks through pruning and network analysis" (2023), section 4 and appendix I. Where its public
code decides otherwise than its text, the code is followed; docs/sculpting.md lists the places.

A layer of N units costs one linkage and one pass over its distances, O(N^2) in time and memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from heapq import heappush, heappushpop
from typing import Any

import numpy as np
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import squareform

from espalier.errors import ConfigurationError, DataError

MODULARITY_THRESHOLD = 0.2
"""Published for Boolean functions; 0.3 for the tasks on digits."""

MERGE_THRESHOLD = 0.9
"""Published for Boolean functions; 0.6 for the tasks on digits."""

_SCORE_DECIMALS = 8


@dataclass(frozen=True)
class Separability:
    """What one test of a layer says.

    Attributes:
        positive: whether the test asks for another number of clusters.
        z: how far the shared units are from the number expected by chance, in standard deviations
            (in units where the standard deviation is 0).
    """

    positive: bool
    z: float


@dataclass(frozen=True, eq=False)
class LayerClusters:
    """The clusters of one layer and how their number was found.

    Attributes:
        labels: (units,) int64, clusters numbered from 0.
        scores: (units - 2,) float64, the modularity-like score of 2, 3, ... units - 1 clusters,
            rounded to 8 decimals; smaller is better; empty for fewer than 3 units.
        separate: the test whether the two most similar units are unlike; None where not asked.
        single: the test whether the two last clusters are alike; None where not asked.
    """

    labels: np.ndarray
    scores: np.ndarray = field(default_factory=lambda: np.empty(0))
    separate: Separability | None = None
    single: Separability | None = None

    @cached_property
    def count(self) -> int:
        """Number of clusters."""
        return len(np.unique(self.labels))


@dataclass(frozen=True, eq=False)
class Modules:
    """The modules of a masked network, layer by layer, inputs first and outputs last.

    Attributes:
        sizes: units of each layer, dead ones counted.
        alive: one int64 array per layer, the indices of the units that are alive.
        clusters: one int64 array per layer over `alive`, the cluster of each unit in its layer.
        modules: one int64 array per layer over `alive`, the module of each unit in the network.
        edges: (n, 3) int64, source module, target module and the number of edges between two
            different modules, sorted.
        masks: one (n_out, n_in) Boolean matrix per pair of layers, over the units that are alive.
        layers: how the clusters of each layer were found.
    """

    sizes: tuple[int, ...]
    alive: tuple[np.ndarray, ...]
    clusters: tuple[np.ndarray, ...]
    modules: tuple[np.ndarray, ...]
    edges: np.ndarray
    masks: tuple[np.ndarray, ...]
    layers: tuple[LayerClusters, ...]

    def __repr__(self) -> str:
        alive = "-".join(str(len(units)) for units in self.alive)
        return f"Modules({self.num_modules} modules of {alive} live units)"

    @cached_property
    def num_modules(self) -> int:
        """Number of modules; they are numbered 0 to num_modules - 1."""
        return 1 + max(int(modules.max(initial=-1)) for modules in self.modules)

    def partition(self, layer: int) -> frozenset[frozenset[int]]:
        """Return the groups of units of one layer that share a module, as sets of unit indices."""
        return _groups(self.alive[layer], self.modules[layer])

    def cluster_partition(self, layer: int) -> frozenset[frozenset[int]]:
        """Return the clusters of one layer as sets of unit indices."""
        return _groups(self.alive[layer], self.clusters[layer])


def detect_modules(
    masks: Sequence[Any],
    modularity_threshold: float = MODULARITY_THRESHOLD,
    merge_threshold: float = MERGE_THRESHOLD,
) -> Modules:
    """Find the modules of a masked multilayer perceptron.

    Networks on which the public code stops have a result here. A layer with one live unit is one
    cluster, the first layer too. If no path leads from an input to an output, no input and no
    hidden unit is alive: their arrays are empty, and each output is a module of its own. An output
    that no unit reaches is always a module of its own.

    Args:
        masks: one (n_out, n_in) matrix per layer, from the inputs on, True where an edge is kept;
            numbers are allowed if they are all 0 or 1.
        modularity_threshold: a layer whose best score lies above minus this value is tested for
            being a single cluster, or none at all.
        merge_threshold: a cluster joins a module of the layer before it if more than this share
            of the edges out of one cluster go to the other, and more than this share of the edges
            into the other come from the first. Outputs need only the second. If two clusters
            qualify, which takes a threshold below 0.5, the larger share into the cluster wins,
            then the smaller cluster number.

    Raises:
        DataError: there is no mask, or a mask is no Boolean matrix, is empty, or does not fit the
            one before it.
        ConfigurationError: a threshold outside [0, 1].

    Source: Patil et al. (2023), section 4, algorithms 2 and 3, as the public code has them.
    """
    for name, value in (
        ("modularity_threshold", modularity_threshold),
        ("merge_threshold", merge_threshold),
    ):
        if not 0 <= value <= 1:
            raise ConfigurationError(f"{name} is {value}; it must lie in [0, 1]")
    matrices = checked_masks(masks)
    alive = live_units(matrices)
    living = [
        matrix[np.ix_(targets, sources)]
        for matrix, sources, targets in zip(matrices, alive[:-1], alive[1:], strict=True)
    ]
    layers = [cluster_layer(reach, modularity_threshold) for reach in reach_vectors(living)]
    layers.append(LayerClusters(np.arange(len(alive[-1]))))
    clusters = [layer.labels for layer in layers]
    modules = merge_adjacent(living, clusters, merge_threshold)
    return Modules(
        sizes=(matrices[0].shape[1], *(len(matrix) for matrix in matrices)),
        alive=tuple(alive),
        clusters=tuple(clusters),
        modules=tuple(modules),
        edges=module_edges(living, modules),
        masks=tuple(living),
        layers=tuple(layers),
    )


def checked_masks(masks: Sequence[Any]) -> list[np.ndarray]:
    """Return masks as Boolean matrices.

    Raises:
        DataError: as in `detect_modules`.
    """
    if len(masks) == 0:
        raise DataError("there is no mask; give one (n_out, n_in) Boolean matrix per layer")
    matrices: list[np.ndarray] = []
    for number, mask in enumerate(masks):
        try:
            matrix = np.asarray(mask)
        except (TypeError, ValueError) as error:
            raise DataError(f"mask {number} cannot be read as an array ({error})") from error
        if matrix.ndim != 2 or not matrix.size:
            raise DataError(
                f"mask {number} has shape {matrix.shape}; a mask is a matrix (n_out, n_in) with at "
                "least one row and one column"
            )
        if matrix.dtype != bool:
            if not np.isin(matrix, (0, 1)).all():
                raise DataError(
                    f"mask {number}, of shape {matrix.shape}, is not Boolean: it holds values of "
                    f"type {matrix.dtype} other than 0 and 1; give True where an edge is kept, for "
                    "example `weight != 0`"
                )
            matrix = matrix.astype(bool)
        if matrices and matrices[-1].shape[0] != matrix.shape[1]:
            raise DataError(
                f"mask {number} has shape {matrix.shape} and mask {number - 1} "
                f"{matrices[-1].shape}: {matrices[-1].shape[0]} units come out of the one and "
                f"{matrix.shape[1]} go into the next; masks are (n_out, n_in), inputs first"
            )
        matrices.append(matrix)
    return matrices


def live_units(masks: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return the indices of the units that lie on a path from an input to an output.

    Outputs are always kept. This is where dropping inputs without out-edges, and hidden units
    without in-edges or without out-edges, comes to rest.

    Args:
        masks: (n_out, n_in) Boolean matrices that fit.

    Returns:
        One int64 array per layer, inputs first.
    """
    fed = [np.ones(masks[0].shape[1], bool)]
    for mask in masks:
        fed.append(np.any(mask[:, fed[-1]], axis=1, keepdims=True)[:, 0])
    useful = [np.ones(len(masks[-1]), bool)]
    for mask in reversed(masks):
        useful.append(np.any(mask[useful[-1]], axis=0, keepdims=True)[0])
    keep = [first & second for first, second in zip(fed, reversed(useful), strict=True)]
    keep[-1] = np.ones(len(masks[-1]), bool)
    return [np.flatnonzero(kept) for kept in keep]


def reach_vectors(masks: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return which later units each unit reaches along directed paths.

    Args:
        masks: (n_out, n_in) Boolean matrices that fit.

    Returns:
        One (units, units of all later layers) Boolean matrix for each layer but the last; columns
        in the order of the layers.
    """
    reached = np.zeros((masks[-1].shape[0], 0), np.float32)
    vectors: list[np.ndarray] = []
    for mask in reversed(masks):
        # Counts of paths stay below 2**24, so float32 products are exact where it matters: > 0.
        out = mask.T.astype(np.float32)
        reached = np.hstack([out, (out @ reached > 0).astype(np.float32)])
        vectors.append(reached.astype(bool))
    return vectors[::-1]


def cluster_layer(
    reach: np.ndarray, modularity_threshold: float = MODULARITY_THRESHOLD
) -> LayerClusters:
    """Cluster the units of one layer by the later units that they reach.

    Average linkage on cosine distances; the number of clusters has the smallest score (the larger
    number among equals), unless a test of separability says one cluster or as many as units.

    Args:
        reach: (units, later units) Boolean, no row all False.
        modularity_threshold: as in `detect_modules`.

    Source: Patil et al. (2023), algorithms 2 and 3, as the public code has them.
    """
    units = len(reach)
    if units < 2:
        return LayerClusters(np.zeros(units, np.int64))
    distances = cosine_distances(reach)
    merges = linkage(distances, "average")[:, :2].astype(np.int64)
    scores = partition_scores(squareform(distances), merges)
    count, best = 2, math.inf
    if len(scores):
        best = scores.min()
        count = 2 + int(np.flatnonzero(scores == best)[-1])
    separate = single = None
    if count in (2, units - 1) or best > -modularity_threshold:
        separate = separate_test(*reach[merges[0]])
        single = single_test(*_last_two(reach, merges))
        if separate.positive and (not single.positive or single.z < separate.z):
            count = units
        elif single.positive:
            count = 1
    return LayerClusters(cut(merges, count), scores, separate, single)


def cosine_distances(reach: np.ndarray) -> np.ndarray:
    """Return the cosine distances of the rows of a Boolean matrix.

    The bits are those of `scipy.spatial.distance.pdist(reach, "cosine")`, so that a linkage breaks
    ties alike; the products are one matrix product.

    Args:
        reach: (n, features) Boolean, no row all False.

    Returns:
        (n * (n - 1) / 2,) float64, condensed as by scipy.
    """
    rows = reach.astype(np.float32 if reach.shape[1] < 1 << 24 else np.float64)
    common = (rows @ rows.T).astype(np.float64)
    norms = np.sqrt(common.diagonal())
    upper = np.triu_indices(len(reach), 1)
    cosines = common[upper] / (norms[upper[0]] * norms[upper[1]])
    return 1 - np.minimum(cosines, 1)


def partition_scores(distances: np.ndarray, merges: np.ndarray) -> np.ndarray:
    """Score every cut of a linkage: distance within clusters less what the row sums lead to expect.

    With A the distances divided by their sum, the score of a partition is the sum over clusters c
    of A[c, c] - A[c, :].sum() ** 2. Each merge changes two clusters, and each pair of units is
    looked up once in all.

    Args:
        distances: (n, n) float64, symmetric with a zero diagonal.
        merges: (n - 1, 2) integers, the nodes that each step of the linkage joins.

    Returns:
        (n - 2,) float64 rounded to 8 decimals, for 2, 3, ... n - 1 clusters.

    Source: Patil et al. (2023), equation for the modularity metric of algorithm 2.
    """
    units = len(distances)
    total = distances.sum()
    shares = distances / total if total > 0 else distances
    sums = np.zeros(2 * units - 1)
    sums[:units] = shares.sum(axis=1)
    members: list[np.ndarray] = [np.array([unit]) for unit in range(units)]
    within = 0.0
    scores = []
    for node, (left, right) in enumerate(merges[:-1].tolist(), units):
        within += 2 * shares[np.ix_(members[left], members[right])].sum()
        members.append(np.concatenate([members[left], members[right]]))
        sums[node] = sums[left] + sums[right]
        sums[[left, right]] = 0
        scores.append(within - np.dot(sums, sums))
    return np.round(np.array(scores[::-1]), _SCORE_DECIMALS)


def separate_test(first: np.ndarray, second: np.ndarray) -> Separability:
    """Test whether two units are so unlike that every unit should stand alone.

    Args:
        first, second: (later units,) Boolean, what each of the two most similar units reaches.
    """
    larger, common, expected, deviation = _overlap(first, second)
    positive = common == 0 or (common < larger and common <= expected)
    return Separability(positive, (expected - common) / deviation)


def single_test(first: np.ndarray, second: np.ndarray) -> Separability:
    """Test whether two clusters are so alike that the layer should be one cluster.

    Args:
        first, second: (later units,) Boolean, what each of the two last clusters reaches.
    """
    larger, common, expected, deviation = _overlap(first, second)
    positive = common >= larger or (common >= 1 and common >= expected)
    return Separability(positive, (common - expected) / deviation)


def cut(merges: np.ndarray, count: int) -> np.ndarray:
    """Cut a linkage into a given number of clusters, which undoes its last `count - 1` merges.

    Clusters are numbered as by scikit-learn's AgglomerativeClustering: by their place in a binary
    heap of tree nodes, the latest merge on top.

    Args:
        merges: (n - 1, 2) integers, the nodes that each step of the linkage joins.
        count: 1 to n.

    Returns:
        (n,) int64.
    """
    units = len(merges) + 1
    heap = [-(2 * units - 2)]
    for _ in range(count - 1):
        left, right = merges[-heap[0] - units].tolist()
        heappush(heap, -left)
        heappushpop(heap, -right)
    labels = np.empty(units, np.int64)
    for label, node in enumerate(heap):
        labels[_leaves(merges, -node)] = label
    return labels


def merge_adjacent(
    masks: Sequence[np.ndarray], clusters: Sequence[np.ndarray], merge_threshold: float
) -> list[np.ndarray]:
    """Join clusters of adjacent layers into modules.

    Args:
        masks: (n_out, n_in) Boolean matrices over live units.
        clusters: the cluster of each live unit, inputs first.
        merge_threshold: as in `detect_modules`.

    Returns:
        The module of each live unit, numbered from 0: clusters of the first layer keep their
        numbers, new modules follow in the order of their first unit, layer by layer.
    """
    module_of_cluster = np.arange(_count(clusters[0]))
    modules = [clusters[0].astype(np.int64)]
    known = len(module_of_cluster)
    for number, mask in enumerate(masks):
        sources, targets = clusters[number], clusters[number + 1]
        counts = cluster_edges(mask, sources, targets)
        outgoing = _shares(counts, axis=1)
        incoming = _shares(counts, axis=0)
        joins = incoming > merge_threshold
        if number < len(masks) - 1:
            joins &= outgoing > merge_threshold
        previous, module_of_cluster = module_of_cluster, np.full(counts.shape[1], -1)
        _, first_units = np.unique(targets, return_index=True)
        for cluster in np.argsort(first_units).tolist():
            if joins[:, cluster].any():
                source = np.where(joins[:, cluster], incoming[:, cluster], -1.0).argmax()
                module_of_cluster[cluster] = previous[source]
            else:
                module_of_cluster[cluster] = known
                known += 1
        modules.append(module_of_cluster[targets])
    return modules


def cluster_edges(mask: np.ndarray, sources: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Count the edges between the clusters of two layers.

    Args:
        mask: (n_out, n_in) Boolean.
        sources: (n_in,) int64, the cluster of each unit.
        targets: (n_out,) int64.

    Returns:
        (source clusters, target clusters) int64.
    """
    counts = np.zeros((_count(sources), _count(targets)), np.int64)
    rows, columns = np.nonzero(mask)
    np.add.at(counts, (sources[columns], targets[rows]), 1)
    return counts


def module_edges(masks: Sequence[np.ndarray], modules: Sequence[np.ndarray]) -> np.ndarray:
    """Count the edges between different modules.

    Args:
        masks: (n_out, n_in) Boolean matrices over live units.
        modules: the module of each live unit, inputs first.

    Returns:
        (n, 3) int64, source module, target module, number of edges, sorted.
    """
    pairs = [np.empty((0, 2), np.int64)]
    for mask, sources, targets in zip(masks, modules[:-1], modules[1:], strict=True):
        rows, columns = np.nonzero(mask)
        pairs.append(np.stack([sources[columns], targets[rows]], axis=1))
    every = np.concatenate(pairs)
    between, counts = np.unique(every[every[:, 0] != every[:, 1]], axis=0, return_counts=True)
    return np.column_stack([between, counts]).astype(np.int64)


def _overlap(first: np.ndarray, second: np.ndarray) -> tuple[int, int, float, float]:
    """Return the larger size, the common part, and the mean and deviation of the common part.

    The common part of two random sets of these sizes is approximated by a binomial variable.
    """
    window = len(first)
    sizes = int(first.sum()), int(second.sum())
    common = int((first & second).sum())
    # `window * chance` and not the shorter quotient: a test compares it with an integer, and the
    # public code's rounding decides where both are equal.
    chance = sizes[0] * sizes[1] / window**2
    expected = window * chance
    deviation = math.sqrt(window * chance * (1 - chance))
    return max(sizes), common, expected, deviation or 1.0


def _last_two(reach: np.ndarray, merges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what the two clusters of the last merge reach."""
    left, right = (reach[_leaves(merges, node)] for node in merges[-1].tolist())
    return np.logical_or.reduce(left), np.logical_or.reduce(right)


def _leaves(merges: np.ndarray, node: int) -> np.ndarray:
    units = len(merges) + 1
    waiting, leaves = [node], []
    while waiting:
        top = waiting.pop()
        if top < units:
            leaves.append(top)
        else:
            waiting.extend(merges[top - units].tolist())
    return np.array(leaves, np.int64)


def _shares(counts: np.ndarray, axis: int) -> np.ndarray:
    sums = counts.sum(axis=axis, keepdims=True)
    return counts / np.maximum(sums, 1)


def _count(labels: np.ndarray) -> int:
    return int(labels.max(initial=-1)) + 1


def _groups(units: np.ndarray, labels: np.ndarray) -> frozenset[frozenset[int]]:
    return frozenset(frozenset(units[labels == label].tolist()) for label in np.unique(labels))
