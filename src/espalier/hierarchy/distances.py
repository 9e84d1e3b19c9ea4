"""How far an observed tree is from a true one, by every measure in use, with polytomies.

`tree_distances` compares two trees, `compare_trees` many with one truth. The raw quantities behind
them are those of `espalier.hierarchy.tree_pairs`. docs/distances.md says which measure to read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from espalier.errors import ConfigurationError, unknown_name
from espalier.hierarchy.tree_pairs import Agreement, TreePair, TreeTables, distance_ratio
from espalier.hierarchy.trees import Tree, as_tree

Rooting = bool | Literal["both"]


@dataclass(frozen=True)
class Measure:
    """What a measure is and how to read it.

    Attributes:
        better: "lower" or "higher" values are nearer the truth; None for plain counts.
        rooting: "either" (follows the `rooted` argument), "rooted" or "unrooted".
        group: measures of one group are computed together.
        count: the value is a whole number.
        headline: one of the measures to report first.
    """

    better: Literal["lower", "higher"] | None
    rooting: Literal["either", "rooted", "unrooted"]
    group: str
    count: bool = False
    headline: bool = False


_LOWER, _HIGHER = "lower", "higher"
MEASURES: Mapping[str, Measure] = {
    "rf": Measure(_LOWER, "either", "splits", count=True, headline=True),
    "false_positives": Measure(_LOWER, "either", "splits", count=True),
    "false_negatives": Measure(_LOWER, "either", "splits", count=True),
    "splits_observed": Measure(None, "either", "splits", count=True),
    "splits_truth": Measure(None, "either", "splits", count=True),
    "normalised_rf": Measure(_LOWER, "either", "splits", headline=True),
    "split_recall": Measure(_HIGHER, "either", "splits"),
    "split_precision": Measure(_HIGHER, "either", "splits"),
    "triplet": Measure(_LOWER, "rooted", "triplets", headline=True),
    "triplet_distance": Measure(_LOWER, "rooted", "triplets", count=True),
    "triplet_recall": Measure(_HIGHER, "rooted", "triplets", headline=True),
    "triplet_precision": Measure(_HIGHER, "rooted", "triplets", headline=True),
    "triplet_symmetric": Measure(_LOWER, "rooted", "triplets"),
    "quartet": Measure(_LOWER, "unrooted", "quartets", headline=True),
    "quartet_distance": Measure(_LOWER, "unrooted", "quartets", count=True),
    "quartet_recall": Measure(_HIGHER, "unrooted", "quartets"),
    "quartet_precision": Measure(_HIGHER, "unrooted", "quartets"),
    "quartet_symmetric": Measure(_LOWER, "unrooted", "quartets"),
    "clustering_information": Measure(_LOWER, "either", "clustering", headline=True),
    "clustering_information_bits": Measure(_LOWER, "either", "clustering"),
    "mutual_clustering_information": Measure(_HIGHER, "either", "clustering"),
    "clustering_information_recall": Measure(_HIGHER, "either", "clustering"),
    "hierarchical_mutual_information": Measure(_HIGHER, "rooted", "hierarchical", headline=True),
    "normalised_hierarchical_mutual_information": Measure(_HIGHER, "rooted", "hierarchical"),
    "adjusted_hierarchical_mutual_information": Measure(
        _HIGHER, "rooted", "hierarchical", headline=True
    ),
    "adjusted_hierarchical_mutual_information_mean": Measure(_HIGHER, "rooted", "hierarchical"),
    "adjusted_hierarchical_mutual_information_singleton": Measure(
        _HIGHER, "rooted", "hierarchical_singleton"
    ),
    "matching_cluster": Measure(_LOWER, "rooted", "matching_cluster", count=True, headline=True),
    "normalised_matching_cluster": Measure(_LOWER, "rooted", "matching_cluster"),
    "matching_split": Measure(_LOWER, "unrooted", "matching_split", count=True),
    "normalised_matching_split": Measure(_LOWER, "unrooted", "matching_split"),
}


def _split_values(pair: TreePair, rooted: bool) -> dict[str, float]:
    counts = pair.robinson_foulds(rooted)
    return {
        "rf": counts.distance,
        "false_positives": counts.extra,
        "false_negatives": counts.missing,
        "splits_observed": counts.observed,
        "splits_truth": counts.truth,
        "normalised_rf": counts.normalised_distance,
        "split_recall": counts.recall,
        "split_precision": counts.precision,
    }


def _agreement_values(name: str, agreement: Agreement) -> dict[str, float]:
    return {
        name: agreement.normalised_distance,
        f"{name}_distance": agreement.distance,
        f"{name}_recall": agreement.recall,
        f"{name}_precision": agreement.precision,
        f"{name}_symmetric": agreement.symmetric_difference,
    }


def _clustering_values(pair: TreePair, rooted: bool) -> dict[str, float]:
    information = pair.clustering_information(rooted)
    return {
        "clustering_information": information.normalised_distance,
        "clustering_information_bits": information.distance,
        "mutual_clustering_information": information.mutual,
        "clustering_information_recall": information.recall,
    }


def _hierarchical_values(pair: TreePair, rooted: bool) -> dict[str, float]:
    information = pair.hierarchical_information("cell")
    name = "hierarchical_mutual_information"
    return {
        name: information.mutual,
        f"normalised_{name}": information.normalised("max"),
        f"adjusted_{name}": information.adjusted("max"),
        f"adjusted_{name}_mean": information.adjusted("mean"),
    }


def _singleton_values(pair: TreePair, rooted: bool) -> dict[str, float]:
    information = pair.hierarchical_information("singleton")
    return {"adjusted_hierarchical_mutual_information_singleton": information.adjusted("max")}


def _matching_values(name: str, pair: TreePair, rooted: bool) -> dict[str, float]:
    distance = pair.matching_distance(rooted)
    bound = pair.matching_distance_bound(rooted)
    return {name: distance, f"normalised_{name}": distance_ratio(distance, bound)}


_GROUPS: Mapping[str, Callable[[TreePair, bool], dict[str, float]]] = {
    "splits": _split_values,
    "triplets": lambda pair, rooted: _agreement_values("triplet", pair.triplets),
    "quartets": lambda pair, rooted: _agreement_values("quartet", pair.quartets),
    "clustering": _clustering_values,
    "hierarchical": _hierarchical_values,
    "hierarchical_singleton": _singleton_values,
    "matching_cluster": lambda pair, rooted: _matching_values("matching_cluster", pair, True),
    "matching_split": lambda pair, rooted: _matching_values("matching_split", pair, False),
}


def measure_columns(
    measures: Iterable[str] | None = None, rooted: Rooting = False
) -> dict[str, tuple[str, bool]]:
    """Return the result keys for some measures, each with its measure and whether it is rooted.

    With rooted="both", measures that exist in both forms give two keys, ending in "_unrooted"
    and "_rooted".

    Raises:
        ConfigurationError: a measure is not known, or `rooted` is not False, True or "both".
    """
    if rooted not in (False, True, "both"):
        raise ConfigurationError(f"rooted must be False, True or 'both' and is {rooted!r}")
    names = list(MEASURES) if measures is None else list(measures)
    columns: dict[str, tuple[str, bool]] = {}
    for name in names:
        if name not in MEASURES:
            raise unknown_name("tree measure", name, MEASURES)
        rooting = MEASURES[name].rooting
        if rooting == "either" and rooted == "both":
            columns[f"{name}_unrooted"] = (name, False)
            columns[f"{name}_rooted"] = (name, True)
        else:
            columns[name] = (name, bool(rooted) if rooting == "either" else rooting == "rooted")
    return columns


class TreeComparer:
    """Compare many trees with one truth; equal trees are computed once.

    Args:
        truth: the true tree, as a Tree or Newick text. Nodes with one child are suppressed.
        rooted: compare clusters (True), splits (False) or both ("both", with suffixed keys).
            Triplets and the hierarchical information are always rooted, quartets never.
        measures: names from `MEASURES`; None for all.
    """

    def __init__(
        self,
        truth: Tree | str,
        rooted: Rooting = False,
        measures: Iterable[str] | None = None,
    ):
        self.truth = as_tree(truth)
        self.columns = measure_columns(measures, rooted)
        self._tables = TreeTables(self.truth)
        # One entry for each computation: a group of measures in one rooting.
        needed = {(MEASURES[name].group, is_rooted) for name, is_rooted in self.columns.values()}
        self._needed = sorted(needed)
        self._by_text: dict[str, dict[str, float]] = {}
        self._by_shape: dict[frozenset[int], dict[str, float]] = {}

    def __call__(self, observed: Tree | str) -> dict[str, float]:
        """Return the value of each column for one observed tree.

        Raises:
            DataError: the leaves are not those of the truth, or the text is no tree.
        """
        if isinstance(observed, str) and observed in self._by_text:
            return dict(self._by_text[observed])
        tree = as_tree(observed, self.truth.leaves, "the observed tree", "the truth")
        shape = frozenset(tree.cluster_nodes)
        values = self._by_shape.get(shape)
        if values is None:
            values = self._by_shape[shape] = self._values(tree)
        if isinstance(observed, str):
            self._by_text[observed] = values
        return dict(values)

    def _values(self, observed: Tree) -> dict[str, float]:
        pair = TreePair(observed, self._tables)
        found = {key: _GROUPS[key[0]](pair, key[1]) for key in self._needed}
        return {
            column: found[MEASURES[name].group, rooted][name]
            for column, (name, rooted) in self.columns.items()
        }


def tree_distances(
    observed: Tree | str,
    truth: Tree | str,
    rooted: Rooting = False,
    measures: Iterable[str] | None = None,
) -> dict[str, float]:
    """Return the distances and similarities of an observed tree and the truth, by name.

    Nodes with one child are suppressed first. A distance between identical trees is 0 and a
    similarity that can reach 1 is 1, for two stars too; recall and precision are NaN where there
    is nothing to recall or to be precise about.

    The main keys: "rf" with "false_positives" (observed only) and "false_negatives" (truth only),
    "splits_observed", "splits_truth", "normalised_rf" (over the splits of both trees); "triplet"
    and "quartet" (share not resolved alike); "clustering_information" (distance over the sum of
    the entropies); "hierarchical_mutual_information" (bits, cells undivided) and
    "adjusted_hierarchical_mutual_information" (over the larger entropy, exact expectation);
    "matching_cluster" (leaves to move, padded). `MEASURES` lists all, docs/distances.md defines
    them and says what a star scores.

    Args:
        observed: a Tree or Newick text.
        truth: a Tree or Newick text over the same leaves.
        rooted: compare clusters (True), splits (False, as in the published numbers), or "both",
            which suffixes the keys concerned with "_unrooted" and "_rooted".
        measures: names from `MEASURES`; None for all.

    Raises:
        DataError: the leaves differ (missing and extra ones are listed) or a text is no tree.
        ConfigurationError: a measure is not known.
    """
    return TreeComparer(truth, rooted, measures)(observed)


def compare_trees(
    observed: Sequence[Tree | str],
    truth: Tree | str,
    rooted: Rooting = False,
    measures: Iterable[str] | None = None,
) -> dict[str, np.ndarray]:
    """Return `tree_distances` of many trees to one truth as arrays, one value per tree.

    Identical trees are computed once. Counts are int64, the rest float64.
    """
    comparer = TreeComparer(truth, rooted, measures)
    rows = [comparer(tree) for tree in observed]
    return {
        column: np.array(
            [row[column] for row in rows], np.int64 if MEASURES[name].count else np.float64
        )
        for column, (name, _) in comparer.columns.items()
    }
