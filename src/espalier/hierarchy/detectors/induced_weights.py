"""The hierarchy induced by the output weights: Ward linkage of the rows of the last layer.

Wan et al. (2021), "NBDT: Neural-Backed Decision Trees", ICLR.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

from espalier.graphs.coactivation import CoactivationGraph
from espalier.hierarchy.detectors import Detection, readout_array
from espalier.hierarchy.linkage import induced_hierarchy


@dataclass(frozen=True)
class Options:
    """Options of the induced hierarchy.

    Attributes:
        linkage: any that scipy knows; "ward" needs the Euclidean metric.
        normalise: scale each row to unit length, as the paper says; False clusters the rows as
            they are, as the authors' code does.
        metric: "euclidean" or "cosine".
        collapse_ties: make merges at equal height one polytomy.
    """

    linkage: str = "ward"
    normalise: bool = True
    metric: Literal["euclidean", "cosine"] = "euclidean"
    collapse_ties: bool = True


def detect(
    graph: CoactivationGraph, readout: Mapping[str, np.ndarray], seed: int, options: Options
) -> Detection:
    """Cluster the rows of `output_weights` (C, D)."""
    weights = readout_array(readout, "output_weights", "induced_weights")
    found = induced_hierarchy(weights, graph.class_names, **asdict(options))
    return Detection((found.newick,), ("fit0",), found.details)
