"""The hierarchy of the classes that the network confuses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

from espalier.graphs.coactivation import CoactivationGraph
from espalier.hierarchy.detectors import Detection, readout_array
from espalier.hierarchy.linkage import confusion_hierarchy


@dataclass(frozen=True)
class Options:
    """Options of the confusion hierarchy.

    Attributes:
        linkage: one that needs no Euclidean distances, such as "average" or "complete".
        collapse_ties: make merges at equal height one polytomy; an accurate network leaves most
            pairs of classes tied.
    """

    linkage: str = "average"
    collapse_ties: bool = True


def detect(
    graph: CoactivationGraph, readout: Mapping[str, np.ndarray], seed: int, options: Options
) -> Detection:
    """Cluster the classes by `confusion` (C, C), counts with true classes in rows."""
    counts = readout_array(readout, "confusion", "confusion")
    found = confusion_hierarchy(counts, graph.class_names, **asdict(options))
    return Detection((found.newick,), ("fit0",), found.details)
