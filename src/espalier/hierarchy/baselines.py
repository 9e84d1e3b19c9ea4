"""What a tree without knowledge scores: the star, relabelled trees, and random trees.

A distance to the truth means little alone: a star, which claims nothing, beats most resolved
trees by Robinson-Foulds. These values belong beside every distance.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np

from espalier.errors import ConfigurationError, DataError, unknown_name
from espalier.hierarchy.distances import MEASURES, Rooting, TreeComparer, measure_columns
from espalier.hierarchy.tree_pairs import Agreement, TreePair, TreeTables
from espalier.hierarchy.trees import Tree, as_tree, random_binary_tree, star_tree, yule_tree
from espalier.seeds import numpy_generator

RandomModel = Literal["uniform", "yule"]

_RANDOM_TREES = {"uniform": random_binary_tree, "yule": yule_tree}
# Values this close count as ties, so that rounding never decides a p-value.
_TIE = 1e-9


def permuted_values(
    truth: Tree | str,
    observed: Tree | str | None = None,
    rooted: Rooting = False,
    measures: Iterable[str] | None = None,
    n: int = 200,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Return each measure for n trees with the leaves of one tree shuffled.

    Args:
        truth: the true tree.
        observed: the tree to shuffle; None for the truth itself. Shuffling the observed tree
            asks whether its own shape is placed well, and keeps its number of splits.
        rooted: as in `tree_distances`.
        measures: names from `espalier.hierarchy.distances.MEASURES`; None for all.
        n: number of shuffles.
        seed: the shuffles depend on this and on nothing else.

    Returns:
        One float64 array of n values per column.
    """
    comparer = TreeComparer(truth, rooted, measures)
    tree = comparer.truth
    if observed is not None:
        tree = as_tree(observed, comparer.truth.leaves)
    generator = numpy_generator(seed, "permuted trees")
    draws = (tree.permute(generator.permutation(tree.num_leaves)) for _ in range(_count(n)))
    return _values(comparer, draws)


def random_values(
    truth: Tree | str,
    rooted: Rooting = False,
    measures: Iterable[str] | None = None,
    n: int = 200,
    seed: int = 0,
    model: RandomModel = "uniform",
) -> dict[str, np.ndarray]:
    """Return each measure for n random rooted binary trees; see `permuted_values`.

    Args:
        truth: the true tree.
        rooted: as in `tree_distances`.
        measures: names; None for all.
        n: number of trees.
        seed: the trees depend on this, `model` and the number of leaves.
        model: "uniform" over labelled trees, or "yule".
    """
    if model not in _RANDOM_TREES:
        raise unknown_name("model of random trees", model, _RANDOM_TREES)
    comparer = TreeComparer(truth, rooted, measures)
    leaves = comparer.truth.leaves
    generator = numpy_generator(seed, "random trees", model)
    draws = (_RANDOM_TREES[model](leaves, generator) for _ in range(_count(n)))
    return _values(comparer, draws)


def star_values(
    truth: Tree | str, rooted: Rooting = False, measures: Iterable[str] | None = None
) -> dict[str, float]:
    """Return what the star scores, by each measure."""
    comparer = TreeComparer(truth, rooted, measures)
    return comparer(star_tree(comparer.truth.leaves))


def baselines(
    truth: Tree | str,
    measure: str,
    rooted: bool = False,
    n: int = 200,
    seed: int = 0,
    model: RandomModel = "uniform",
) -> dict[str, float | int | None]:
    """Return what the star, shuffled truths and random trees score by one measure.

    Returns:
        star: the star's value (NaN where the measure is undefined for it).
        permuted_mean, permuted_sd: over n truths with shuffled leaves (sd with n-1).
        permuted_exact: the exact mean over all shuffles, or None where no closed form exists.
        random_mean, random_sd: over n random rooted binary trees.
        n: the number of draws.

    Raises:
        ConfigurationError: the measure is not known.
    """
    permuted = permuted_values(truth, None, rooted, [measure], n, seed)[measure]
    random = random_values(truth, rooted, [measure], n, seed, model)[measure]
    return {
        "star": float(star_values(truth, rooted, [measure])[measure]),
        "permuted_mean": mean_of_known(permuted),
        "permuted_sd": sd_of_known(permuted),
        "permuted_exact": permuted_exact(truth, measure, rooted),
        "random_mean": mean_of_known(random),
        "random_sd": sd_of_known(random),
        "n": n,
    }


def baseline_table(
    truth: Tree | str,
    rooted: Rooting = "both",
    measures: Iterable[str] | None = None,
    n: int = 200,
    seed: int = 0,
    model: RandomModel = "uniform",
) -> dict[str, dict[str, float | int | None]]:
    """Return `baselines` for many measures at once, by column; each tree is drawn once."""
    names = list(MEASURES) if measures is None else list(measures)
    star = star_values(truth, rooted, names)
    permuted = permuted_values(truth, None, rooted, names, n, seed)
    random = random_values(truth, rooted, names, n, seed, model)
    return {
        column: {
            "star": float(star[column]),
            "permuted_mean": mean_of_known(permuted[column]),
            "permuted_sd": sd_of_known(permuted[column]),
            "permuted_exact": permuted_exact(truth, name, is_rooted),
            "random_mean": mean_of_known(random[column]),
            "random_sd": sd_of_known(random[column]),
            "n": n,
        }
        for column, (name, is_rooted) in measure_columns(names, rooted).items()
    }


def p_value(
    observed: float | Sequence[float] | np.ndarray, null_values: np.ndarray, measure: str
) -> float | np.ndarray:
    """Return the share of null trees at least as good as the observed one, itself counted.

    (k + 1) / (n + 1) with k of n null values at least as good: never 0, and valid as a p-value
    for any n (Phipson and Smyth 2010). Ties count as as good.

    Args:
        observed: one value, or an array of them.
        null_values: (n,) values, for example of `permuted_values`; NaN entries are left out.
        measure: name of the measure or column; says whether lower or higher is better.

    Returns:
        A float, or an array of the shape of `observed`; NaN where `observed` is.

    Raises:
        ConfigurationError: the measure is not known or is a count without a direction.
        DataError: there are no null values.
    """
    better = direction(measure)
    null = np.asarray(null_values, np.float64)
    null = np.sort(null[~np.isnan(null)])
    if not len(null):
        raise DataError(f"no null values of {measure!r} to compare with")
    values = np.asarray(observed, np.float64)
    slack = _TIE * np.maximum(1, np.abs(values))
    if better == "lower":
        as_good = np.searchsorted(null, values + slack, side="right")
    else:
        as_good = len(null) - np.searchsorted(null, values - slack, side="left")
    share = np.where(np.isnan(values), np.nan, (as_good + 1) / (len(null) + 1))
    return float(share) if share.ndim == 0 else share


def direction(measure: str) -> Literal["lower", "higher"]:
    """Return which values of a measure, or of a column ending in _rooted, are nearer the truth.

    Raises:
        ConfigurationError: the measure is not known or has no better direction.
    """
    name = measure
    if name not in MEASURES:
        for suffix in ("_unrooted", "_rooted"):
            base = name.removesuffix(suffix)
            if base in MEASURES and MEASURES[base].rooting == "either":
                name = base
    if name not in MEASURES:
        raise unknown_name("tree measure", measure, MEASURES)
    better = MEASURES[name].better
    if better is None:
        raise ConfigurationError(f"{measure!r} only counts; neither direction of it is better")
    return better


# Exact means over all permutations of the leaves, the shapes of both trees fixed.


def expected_robinson_foulds(first: Tree, second: Tree, rooted: bool = False) -> float:
    """Return the mean Robinson-Foulds distance when the leaves of one tree are shuffled.

    Two sets of a leaves are equal with probability 1 / C(n, a), so shared splits add up by size.
    """
    n = first.num_leaves
    sizes = []
    for tree in (first, second):
        nodes = (tree.cluster_nodes if rooted else tree.split_nodes).values()
        size = tree.size[np.fromiter(nodes, int)]
        size = size if rooted else np.minimum(size, n - size)
        sizes.append(np.bincount(size, minlength=n + 1).tolist())
    shared = 0.0
    for a, (ours, theirs) in enumerate(zip(*sizes, strict=True)):
        if ours and theirs:
            # A split into halves can match either way round.
            ways = 2 if not rooted and 2 * a == n else 1
            shared += ways * ours * theirs / math.comb(n, a)
    return sum(map(sum, sizes)) - 2 * shared


class ExpectedAgreement(Agreement):
    """An Agreement of exact means, so its counts are floats."""


def expected_triplets(first: Tree, second: Tree) -> ExpectedAgreement:
    """Return the mean triplet counts when the leaves of one tree are shuffled.

    A triplet resolved in both trees is resolved alike in one case of three.
    """
    tables = [TreeTables(tree).triplets_resolved for tree in (first, second)]
    return _expected_agreement(math.comb(first.num_leaves, 3), *tables)


def expected_quartets(first: Tree, second: Tree) -> ExpectedAgreement:
    """Return the mean quartet counts when the leaves of one tree are shuffled."""
    tables = [TreeTables(tree).quartets_resolved for tree in (first, second)]
    return _expected_agreement(math.comb(first.num_leaves, 4), *tables)


def _expected_agreement(total: int, first: int, second: int) -> ExpectedAgreement:
    if not total:
        return ExpectedAgreement(0, 0, 0, 0, 0)
    both = first * second / total
    counts = (both / 3, 2 * both / 3, first - both, second - both, total - first - second + both)
    return ExpectedAgreement(*counts)  # type: ignore[arg-type]


def permuted_exact(
    truth: Tree | str, measure: str, rooted: bool = False, observed: Tree | str | None = None
) -> float | None:
    """Return the exact mean of a measure over all shuffles, or None where none is known.

    Known for Robinson-Foulds, triplets, quartets and hierarchical mutual information, whose
    denominators do not change when leaves are shuffled.

    Args:
        truth: the true tree.
        measure: a name from `espalier.hierarchy.distances.MEASURES`.
        rooted: clusters instead of splits where the measure has both forms.
        observed: the tree that is shuffled; None for the truth itself.
    """
    if measure not in MEASURES:
        raise unknown_name("tree measure", measure, MEASURES)
    first = as_tree(truth)
    second = first if observed is None else as_tree(observed, first.leaves)
    group = MEASURES[measure].group
    if group == "splits":
        return _expected_splits(first, second, rooted)[measure]
    if group in ("triplets", "quartets"):
        expected = (expected_triplets if group == "triplets" else expected_quartets)(first, second)
        name = group.removesuffix("s")
        return {
            name: expected.normalised_distance,
            f"{name}_distance": float(expected.distance),
            f"{name}_recall": expected.recall,
            f"{name}_precision": expected.precision,
            f"{name}_symmetric": expected.symmetric_difference,
        }[measure]
    if group.startswith("hierarchical"):
        convention = "singleton" if group.endswith("singleton") else "cell"
        information = TreePair(second, first).hierarchical_information(convention)
        if measure.startswith("adjusted"):
            by = "mean" if measure.endswith("mean") else "max"
            # Adjusting is what makes the mean 0, unless both trees are stars.
            return information._replace(mutual=information.expected).adjusted(by)
        expected_only = information._replace(mutual=information.expected)
        if measure.startswith("normalised"):
            return expected_only.normalised("max")
        return expected_only.mutual
    return None


def _expected_splits(first: Tree, second: Tree, rooted: bool) -> dict[str, float]:
    truth, observed = (
        len(tree.cluster_nodes if rooted else tree.split_nodes) for tree in (first, second)
    )
    distance = expected_robinson_foulds(first, second, rooted)
    shared = (truth + observed - distance) / 2
    return {
        "rf": distance,
        "false_positives": observed - shared,
        "false_negatives": truth - shared,
        "splits_observed": float(observed),
        "splits_truth": float(truth),
        "normalised_rf": distance / (truth + observed) if truth + observed else 0.0,
        "split_recall": shared / truth if truth else math.nan,
        "split_precision": shared / observed if observed else math.nan,
    }


def _values(comparer: TreeComparer, draws: Iterable[Tree]) -> dict[str, np.ndarray]:
    rows = [comparer(tree) for tree in draws]
    return {
        column: np.array([row[column] for row in rows], np.float64) for column in comparer.columns
    }


def _count(n: int) -> int:
    if n < 1:
        raise ConfigurationError(f"at least one random tree is needed and n is {n}")
    return n


def mean_of_known(values: np.ndarray) -> float:
    """Return the mean of the values that are not NaN; NaN if there are none."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan


def sd_of_known(values: np.ndarray) -> float:
    """Return the standard deviation (n - 1) of the values that are not NaN; NaN below two."""
    known = values[~np.isnan(values)]
    return float(known.std(ddof=1)) if len(known) > 1 else math.nan
