"""Class trees by agglomerative clustering: of output weights, of confusions, of class means.

These are the hierarchies that do not need a graph, to set beside those that do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from espalier.errors import ConfigurationError, DataError, unknown_name
from espalier.hierarchy.trees import Tree, as_tree, check_same_leaves, listed, tree_from_clusters

LINKAGES = ("average", "centroid", "complete", "median", "single", "ward", "weighted")
_EUCLIDEAN_ONLY = ("centroid", "median", "ward")
# Heights are sums of a few rounded products; nearer than this they are one height.
_EQUAL_HEIGHT = 1e-9
# Distances are kept to this many binary digits of the largest one.
_DISTANCE_BITS = 40


@dataclass(frozen=True)
class LinkageHierarchy:
    """A class tree with the clustering behind it.

    Attributes:
        newick: the tree; merges at equal height are one polytomy.
        linkage: (C-1, 4) float64, the merges as scipy writes them.
        details: what was done and what to distrust, ready for JSON.
    """

    newick: str
    linkage: np.ndarray
    details: dict[str, Any] = field(default_factory=dict)


def tree_from_linkage(
    Z: np.ndarray,  # noqa: N803 - scipy's name
    names: Sequence[str],
    collapse_ties: bool = True,
) -> str:
    """Return the tree of a scipy linkage matrix as Newick.

    Args:
        Z: (C-1, 4) merges: the two joined clusters, the height, the number of leaves.
        names: C leaf names, in the order of the observations.
        collapse_ties: make a merge and the merge above it one node where their heights are
            equal, because their order is arbitrary then.

    Raises:
        DataError: the shape does not fit the names, or a merge joins a cluster that does not
            exist yet or was joined before.
    """
    merges = np.asarray(Z, np.float64)
    n = len(names)
    if merges.shape != (n - 1, 4):
        raise DataError(
            f"a linkage of {n} leaves has shape ({n - 1}, 4) and this has {merges.shape}"
        )
    members: list[list[int]] = [[i] for i in range(n)]
    heights = np.concatenate([np.full(n, -np.inf), merges[:, 2]])
    above = np.full(2 * n - 1, -1)
    for row, (left, right) in enumerate(merges[:, :2].astype(int).tolist()):
        node = n + row
        for child in (left, right):
            if not 0 <= child < node or above[child] >= 0 or left == right:
                raise DataError(
                    f"row {row} of the linkage joins clusters {left} and {right}, "
                    "which do not both stand free at that point"
                )
            above[child] = node
        members.append(members[left] + members[right])
    slack = _EQUAL_HEIGHT * max(1.0, float(np.abs(merges[:, 2]).max()))
    clusters = [
        [names[i] for i in members[node]]
        for node in range(n, 2 * n - 2)
        if not (collapse_ties and abs(heights[above[node]] - heights[node]) <= slack)
    ]
    return tree_from_clusters(clusters, names).newick()


def induced_hierarchy(
    weights: np.ndarray,
    class_names: Sequence[str],
    linkage: str = "ward",
    normalise: bool = True,
    metric: Literal["euclidean", "cosine"] = "euclidean",
    collapse_ties: bool = True,
) -> LinkageHierarchy:
    """Cluster the rows of the last layer: the induced hierarchy of neural-backed decision trees.

    Wan et al. 2021, section 3.2, clusters rows of unit length. The authors' code clusters raw
    rows: normalise=False gives that.

    Args:
        weights: (C, D) one row per class; the bias plays no part.
        class_names: C names.
        linkage: one of `LINKAGES`.
        normalise: divide each row by its Euclidean norm; rows of zeros stay.
        metric: distance between rows.
        collapse_ties: see `tree_from_linkage`.

    Raises:
        DataError: shapes do not fit or values are not finite.
        ConfigurationError: the linkage is not known or needs Euclidean distances.
    """
    rows = _rows(weights, class_names, "weights")
    norms = np.linalg.norm(rows, axis=1)
    if normalise:
        rows = rows / np.where(norms > 0, norms, 1)[:, None]
    distances = _pairwise(rows, metric, class_names)
    hierarchy = _cluster(distances, class_names, linkage, metric, collapse_ties)
    zero = [name for name, norm in zip(class_names, norms.tolist(), strict=True) if norm == 0]
    hierarchy.details.update(normalise=normalise, metric=metric, zero_rows=zero)
    return hierarchy


def confusion_hierarchy(
    counts: np.ndarray,
    class_names: Sequence[str],
    linkage: str = "average",
    collapse_ties: bool = True,
) -> LinkageHierarchy:
    """Cluster classes by how often they are confused.

    Rows are divided by their sums, P; the similarity of two classes is (P + P^T) / 2 and their
    dissimilarity is one minus that. An accurate network leaves most pairs at dissimilarity 1, a
    tie that says nothing: those classes meet in one polytomy, and `tied_fraction` is reported.

    Args:
        counts: (C, C) images by true class (row) and predicted class (column), not negative.
        class_names: C names.
        linkage: one of `LINKAGES` that does not need Euclidean distances.
        collapse_ties: see `tree_from_linkage`.

    Returns:
        Details: tied_fraction (share of class pairs whose dissimilarity another pair has too),
        unconfused_pairs (pairs never confused), pairs, classes_without_samples (their row of P
        is zero).

    Raises:
        DataError: the shape does not fit or a count is negative or not finite.
        ConfigurationError: the linkage is not known or needs Euclidean distances.
    """
    table = np.asarray(counts, np.float64)
    classes = len(class_names)
    if table.shape != (classes, classes):
        raise DataError(
            f"{classes} classes need a ({classes}, {classes}) confusion matrix, not {table.shape}"
        )
    if not np.isfinite(table).all() or (table < 0).any():
        raise DataError("the confusion matrix holds counts that are negative or not finite")
    total = table.sum(axis=1)
    share = table / np.where(total > 0, total, 1)[:, None]
    distances = 1 - (share + share.T) / 2
    hierarchy = _cluster(_condensed(distances), class_names, linkage, "confusion", collapse_ties)
    missing = [name for name, images in zip(class_names, total.tolist(), strict=True) if not images]
    hierarchy.details.update(
        unconfused_pairs=int((_condensed(share + share.T) == 0).sum()),
        classes_without_samples=missing,
    )
    return hierarchy


def class_mean_hierarchy(
    means: np.ndarray,
    class_names: Sequence[str],
    metric: Literal["euclidean", "cosine", "mahalanobis"] = "euclidean",
    linkage: str = "average",
    covariance: np.ndarray | None = None,
    ridge: float = 0.0,
    collapse_ties: bool = True,
) -> LinkageHierarchy:
    """Cluster the mean features of the classes.

    Under neural collapse the means are equally far apart and the tree is noise: a coefficient of
    variation of the distances near 0 says so.

    Args:
        means: (C, D) mean penultimate features.
        class_names: C names.
        metric: "mahalanobis" needs `covariance`.
        linkage: one of `LINKAGES`.
        covariance: (D, D) within classes, for example of `pooled_covariance`.
        ridge: added to the diagonal of the covariance, in units of its mean variance.
        collapse_ties: see `tree_from_linkage`.

    Returns:
        Details: coefficient_of_variation, tied_fraction, metric, ridge.

    Raises:
        DataError: shapes do not fit, values are not finite, a mean is zero with "cosine", or
            the covariance is singular.
        ConfigurationError: metric or linkage are not known or do not go together.
    """
    rows = _rows(means, class_names, "class means")
    if metric == "mahalanobis":
        rows = _whitened(rows, covariance, ridge)
    distances = _pairwise(rows, metric, class_names)
    hierarchy = _cluster(distances, class_names, linkage, metric, collapse_ties)
    mean = float(distances.mean())
    hierarchy.details.update(
        coefficient_of_variation=float(distances.std()) / mean if mean > 0 else 0.0,
        metric=metric,
        ridge=ridge,
    )
    return hierarchy


def pooled_covariance(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the (D, D) covariance within classes, pooled over them, divided by N - C.

    Args:
        features: (N, D).
        labels: (N,) class of each row.

    Raises:
        DataError: there are no more rows than classes.
    """
    features = np.asarray(features, np.float64)
    classes, group = np.unique(labels, return_inverse=True)
    if len(features) != len(group):
        raise DataError(f"{len(features)} rows of features and {len(group)} labels")
    if len(features) <= len(classes):
        raise DataError(f"{len(features)} rows are too few for {len(classes)} classes")
    sums = np.zeros((len(classes), features.shape[1]))
    np.add.at(sums, group, features)
    centred = features - (sums / np.bincount(group)[:, None])[group]
    return centred.T @ centred / (len(features) - len(classes))


def dendrogram_purity(tree: Tree | str, groups: Mapping[str, object]) -> float:
    """Return how pure the smallest clusters around same-group leaves are, from 0 to 1.

    The mean, over all pairs of leaves of one group, of the share of that group among the leaves
    below their lowest common ancestor (Heller and Ghahramani 2005). Needs no second tree, only
    groups such as the super-classes of CIFAR-100, and does not punish finer resolution.

    Args:
        tree: a tree or Newick text.
        groups: the group of each leaf.

    Raises:
        DataError: the leaves are not the keys of `groups`, or no two leaves share a group.
    """
    tree = as_tree(tree)
    check_same_leaves(tree.leaves, list(groups), "the tree", "the groups")
    names = {group: i for i, group in enumerate(dict.fromkeys(groups.values()))}
    # below[v, g]: leaves of group g below node v.
    below = np.zeros((tree.num_nodes, len(names)), np.int64)
    for node, leaf in enumerate(tree.leaf.tolist()):
        if leaf >= 0:
            below[node, names[groups[tree.leaves[leaf]]]] = 1
    for node in range(tree.num_nodes - 1, 0, -1):
        below[tree.parent[node]] += below[node]
    pairs = below * (below - 1) // 2
    met = pairs[tree.internal] - np.add.reduceat(pairs[1:], tree.child_offsets, axis=0)
    if not met.sum():
        raise DataError("no two leaves share a group, so purity is undefined")
    purity = below[tree.internal] / tree.size[tree.internal, None]
    return float((met * purity).sum() / met.sum())


def _rows(values: np.ndarray, class_names: Sequence[str], what: str) -> np.ndarray:
    rows = np.asarray(values, np.float64)
    if rows.ndim != 2 or len(rows) != len(class_names) or rows.shape[1] == 0:
        raise DataError(
            f"{what} need one row for each of {len(class_names)} classes and have {rows.shape}"
        )
    broken_rows = np.unique(np.nonzero(~np.isfinite(rows))[0])
    broken = [str(class_names[int(row)]) for row in broken_rows]
    if broken:
        raise DataError(f"{what} are not finite for {listed(broken)}")
    return rows


def _pairwise(rows: np.ndarray, metric: str, class_names: Sequence[str]) -> np.ndarray:
    from scipy.spatial.distance import pdist

    if metric == "cosine":
        zero = [name for name, row in zip(class_names, rows, strict=True) if not row.any()]
        if zero:
            raise DataError(f"cosine distance needs rows that are not zero: {listed(zero)}")
        return np.maximum(pdist(rows, "cosine"), 0)
    if metric in ("euclidean", "mahalanobis"):
        return pdist(rows)
    raise unknown_name("distance", metric, ("cosine", "euclidean", "mahalanobis"))


def _whitened(rows: np.ndarray, covariance: np.ndarray | None, ridge: float) -> np.ndarray:
    from scipy.linalg import LinAlgError, cholesky, solve_triangular

    width = rows.shape[1]
    if covariance is None:
        raise ConfigurationError("mahalanobis needs the covariance within classes")
    covariance = np.asarray(covariance, np.float64)
    if covariance.shape != (width, width):
        raise DataError(
            f"means of {width} features need a ({width}, {width}) covariance, "
            f"not {covariance.shape}"
        )
    loaded = covariance + ridge * np.trace(covariance) / width * np.eye(width)
    try:
        factor = cholesky(loaded, lower=True)
    except LinAlgError as error:
        raise DataError(
            "the covariance within classes is singular; give a ridge, for example 0.01"
        ) from error
    return solve_triangular(factor, rows.T, lower=True).T


def _condensed(square: np.ndarray) -> np.ndarray:
    return square[np.triu_indices(len(square), 1)]


def _cluster(
    distances: np.ndarray,
    class_names: Sequence[str],
    linkage: str,
    metric: str,
    collapse_ties: bool,
) -> LinkageHierarchy:
    from scipy.cluster.hierarchy import linkage as agglomerate

    if linkage not in LINKAGES:
        raise unknown_name("linkage", linkage, LINKAGES)
    if linkage in _EUCLIDEAN_ONLY and metric not in ("euclidean", "mahalanobis"):
        raise ConfigurationError(
            f"{linkage} linkage needs Euclidean distances, not {metric}; take average linkage"
        )
    if len(class_names) < 2:
        raise DataError(f"a hierarchy needs at least two classes and got {list(class_names)}")
    # Equal distances differ in their last digits by the order of sums. Rounding makes the ties
    # exact, so class order breaks them and not noise.
    step = 2.0 ** (math.frexp(float(distances.max()))[1] - _DISTANCE_BITS)
    distances = np.round(distances / step) * step
    merges = agglomerate(distances, method=linkage)
    _, counts = np.unique(distances, return_counts=True)
    details: dict[str, Any] = {
        "linkage": linkage,
        "pairs": len(distances),
        "tied_fraction": float(counts[counts > 1].sum() / len(distances)),
    }
    return LinkageHierarchy(tree_from_linkage(merges, class_names, collapse_ties), merges, details)
