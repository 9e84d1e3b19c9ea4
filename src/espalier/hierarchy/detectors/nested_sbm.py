"""The nested stochastic block model of the co-activation graph; see `block_model`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np

from espalier.graphs.coactivation import CoactivationGraph
from espalier.hierarchy.block_model import BlockModelOptions, class_trees, fit_nested_sbm
from espalier.hierarchy.detectors import Detection


@dataclass(frozen=True)
class Options(BlockModelOptions):
    """Options of the block model, and the Python that has graph-tool.

    Attributes:
        python: a path, a command, or "auto" to look for one.
    """

    python: str = "auto"


def detect(
    graph: CoactivationGraph, readout: Mapping[str, np.ndarray], seed: int, options: Options
) -> Detection:
    """Return one class tree per hierarchy of the block model.

    The details hold, per tree, the description length in nats (NaN for a graph without edges),
    the number of levels and the number of blocks at each level; and the blocks of the hierarchy
    with the shortest description.
    """
    settings = {f.name: getattr(options, f.name) for f in fields(options)}
    hierarchies = fit_nested_sbm(graph, seed=seed, **settings)
    shortest = min(hierarchies, key=lambda hierarchy: hierarchy.description_length)
    return Detection(
        tuple(class_trees(graph, hierarchies)),
        tuple(hierarchy.label for hierarchy in hierarchies),
        {
            "description_lengths": [h.description_length for h in hierarchies],
            "levels": [len(h.levels) for h in hierarchies],
            "blocks": [list(h.blocks) for h in hierarchies],
            "shortest": {
                "sample": shortest.label,
                "levels": [level.tolist() for level in shortest.levels],
            },
            **hierarchies[0].provenance,
        },
    )
