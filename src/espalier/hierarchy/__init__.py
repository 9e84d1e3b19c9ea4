"""Class hierarchies: block models and other detectors, class trees, distances, baselines."""

from __future__ import annotations

from typing import TYPE_CHECKING

# The function `baselines` shares its name with its module; importing it here, first, is what
# makes `espalier.hierarchy.baselines` the function.
from espalier.hierarchy.baselines import (
    baseline_table,
    baselines,
    p_value,
    permuted_values,
    random_values,
)
from espalier.hierarchy.distances import MEASURES, TreeComparer, compare_trees, tree_distances
from espalier.hierarchy.extraction import class_tree, tree_from_partitions
from espalier.hierarchy.linkage import (
    class_mean_hierarchy,
    confusion_hierarchy,
    dendrogram_purity,
    induced_hierarchy,
    tree_from_linkage,
)
from espalier.hierarchy.tree_pairs import TreePair
from espalier.hierarchy.trees import (
    Tree,
    parse_newick,
    parse_newicks,
    random_binary_tree,
    star_tree,
    tree_from_clusters,
    yule_tree,
)
from espalier.hierarchy.truth import load_truth
from espalier.lazy import lazily

if TYPE_CHECKING:
    from espalier.hierarchy.block_model import fit_nested_sbm
    from espalier.hierarchy.detectors import Detection, detect

_HOMES = {"Detection": "detectors", "detect": "detectors", "fit_nested_sbm": "block_model"}

__all__ = [
    "MEASURES",
    "Detection",
    "Tree",
    "TreeComparer",
    "TreePair",
    "baseline_table",
    "baselines",
    "class_mean_hierarchy",
    "class_tree",
    "compare_trees",
    "confusion_hierarchy",
    "dendrogram_purity",
    "detect",
    "fit_nested_sbm",
    "induced_hierarchy",
    "load_truth",
    "p_value",
    "parse_newick",
    "parse_newicks",
    "permuted_values",
    "random_binary_tree",
    "random_values",
    "star_tree",
    "tree_distances",
    "tree_from_clusters",
    "tree_from_linkage",
    "tree_from_partitions",
    "yule_tree",
]

__getattr__, __dir__ = lazily(__name__, _HOMES)
