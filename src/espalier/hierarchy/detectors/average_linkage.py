"""Average linkage of the output units on one minus their rank correlation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from espalier.errors import DataError
from espalier.graphs.coactivation import CoactivationGraph
from espalier.hierarchy.detectors import Detection, readout_array
from espalier.hierarchy.linkage import tree_from_linkage
from espalier.hierarchy.trees import parse_newick, star_tree, tree_from_clusters


@dataclass(frozen=True)
class Options:
    """Options of the average linkage detector.

    Attributes:
        collapse_ties: make merges at equal height one polytomy.
    """

    collapse_ties: bool = True


def detect(
    graph: CoactivationGraph, readout: Mapping[str, np.ndarray], seed: int, options: Options
) -> Detection:
    """Cluster the output units by 1 - rho.

    The correlations come from the readout, because the graph has none below its threshold. An
    output that is constant correlates with nothing (NaN), and its class hangs on the root.

    Raises:
        DataError: the readout has no `output_correlation`, or it is not a symmetric (C, C)
            matrix of correlations.
    """
    from scipy.cluster.hierarchy import linkage

    names = graph.class_names
    correlation = _checked(
        readout_array(readout, "output_correlation", "average_linkage"), len(names)
    )
    varying = np.flatnonzero(~np.isnan(np.diagonal(correlation)))
    distance = 1 - correlation[np.ix_(varying, varying)]
    details = {
        "constant_outputs": [name for k, name in enumerate(names) if k not in varying],
        "levels": [1],
    }
    if len(varying) < 2:
        return Detection((star_tree(names).newick(),), ("fit0",), {**details, "levels": [0]})
    merges = linkage(distance[np.triu_indices(len(varying), 1)], "average")
    newick = tree_from_linkage(merges, [names[k] for k in varying], options.collapse_ties)
    if len(varying) < len(names):
        newick = tree_from_clusters(parse_newick(newick).clusters(), names).newick()
    return Detection((newick,), ("fit0",), details)


def _checked(correlation: np.ndarray, classes: int) -> np.ndarray:
    """Return the matrix as float64, with NaN in the whole row and column of a constant output."""
    correlation = np.array(correlation, dtype=np.float64)
    if correlation.shape != (classes, classes):
        raise DataError(
            f"output_correlation has shape {correlation.shape} and the graph {classes} classes; "
            f"expected ({classes}, {classes})"
        )
    # A constant output has no correlation with any other, whatever its diagonal says.
    others = ~np.eye(classes, dtype=bool)
    constant = np.array(
        [classes > 1 and np.isnan(r[o]).all() for r, o in zip(correlation, others, strict=True)]
    )
    correlation[constant] = correlation[:, constant] = np.nan
    known = correlation[np.ix_(~constant, ~constant)]
    if np.isnan(known).any() or np.abs(known).max(initial=0) > 1 + 1e-9:
        raise DataError("output_correlation must hold correlations between -1 and 1")
    if not np.allclose(known, known.T, rtol=0, atol=1e-9):
        raise DataError("output_correlation must be symmetric")
    diagonal = np.where(constant, np.nan, 1.0)
    np.fill_diagonal(correlation, diagonal)
    return correlation
