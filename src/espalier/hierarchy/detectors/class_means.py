"""The hierarchy of the mean penultimate features of the classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

from espalier.graphs.coactivation import CoactivationGraph
from espalier.hierarchy.detectors import Detection, readout_array
from espalier.hierarchy.linkage import class_mean_hierarchy


@dataclass(frozen=True)
class Options:
    """Options of the class mean hierarchy.

    Attributes:
        linkage: any that scipy knows; "ward" needs the Euclidean metric.
        metric: "euclidean" or "cosine".
        collapse_ties: make merges at equal height one polytomy.
    """

    linkage: str = "average"
    metric: Literal["euclidean", "cosine"] = "euclidean"
    collapse_ties: bool = True


def detect(
    graph: CoactivationGraph, readout: Mapping[str, np.ndarray], seed: int, options: Options
) -> Detection:
    """Cluster the rows of `class_means` (C, D), test images only."""
    means = readout_array(readout, "class_means", "class_means")
    found = class_mean_hierarchy(means, graph.class_names, **asdict(options))
    return Detection((found.newick,), ("fit0",), found.details)
