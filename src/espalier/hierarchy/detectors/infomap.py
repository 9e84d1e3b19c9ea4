"""The multilevel map equation on the co-activation graph.

Rosvall and Bergstrom (2011), "Multilevel compression of random walks on networks reveals
hierarchical organization in large integrated systems", PLoS ONE 6, e18209.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from espalier.errors import ConfigurationError
from espalier.graphs.coactivation import CoactivationGraph
from espalier.hierarchy.detectors import Detection, require
from espalier.hierarchy.extraction import class_tree
from espalier.hierarchy.trees import star_tree
from espalier.seeds import derive_seed


@dataclass(frozen=True)
class Options:
    """Options of the Infomap detector.

    Attributes:
        trials: runs from different starts; the shortest code is kept.
        markov_time: length of the random walk's step; a longer one gives larger modules.
    """

    trials: int = 10
    markov_time: float = 1.0

    def __post_init__(self) -> None:
        if self.trials < 1:
            raise ConfigurationError(f"trials must be at least 1 and is {self.trials}")
        if not 0 < self.markov_time < float("inf"):
            raise ConfigurationError(f"markov_time must be positive and is {self.markov_time}")


def detect(
    graph: CoactivationGraph, readout: Mapping[str, np.ndarray], seed: int, options: Options
) -> Detection:
    """Return the tree of the modules of modules, as deep as the map equation makes it.

    Edges of weight 0 play no part. Classes without an edge hang on the root.
    """
    infomap = require("infomap", "infomap")
    source, target, weight = graph.edges()
    kept = weight > 0
    details = {"versions": {"infomap": infomap.__version__}}
    if not kept.any():
        star = star_tree(graph.class_names).newick()
        return Detection((star,), ("fit0",), {**details, "levels": [0]})
    result = infomap.run(
        list(zip(source[kept].tolist(), target[kept].tolist(), weight[kept].tolist(), strict=True)),
        options=infomap.Options(
            flow_model="undirected",
            silent=True,
            seed=derive_seed(seed, "infomap") % (2**31 - 1) + 1,
            num_trials=options.trials,
            markov_time=options.markov_time,
        ),
    )
    paths = {int(node): tuple(modules) for node, modules in result.multilevel_modules().items()}
    levels, outputs = _levels(paths, graph)
    details |= {
        "codelengths": [float(result.codelength)],
        "levels": [len(levels)],
        "blocks": [[int(level.max()) + 1 for level in levels]],
    }
    return Detection((class_tree(levels, outputs, graph.class_names),), ("fit0",), details)


def _levels(
    paths: Mapping[int, tuple[int, ...]], graph: CoactivationGraph
) -> tuple[list[np.ndarray], np.ndarray]:
    """Turn the path of modules of each node, coarsest first, into levels, finest first."""
    depth = max(len(path) for path in paths.values())
    # A path that ends early stays in its last module at all finer levels.
    at = [sorted({path[:d] for path in paths.values()}) for d in range(depth, 0, -1)]
    number = [{module: k for k, module in enumerate(modules)} for modules in at]
    first = np.zeros(graph.n_nodes, np.int64)
    for node, path in paths.items():
        first[node] = number[0][path[:depth]]
    levels = [first]
    for up, modules in enumerate(at[:-1], start=1):
        levels.append(np.array([number[up][module[: depth - up]] for module in modules]))
    outputs = graph.output_nodes
    return levels, np.where(np.isin(outputs, list(paths)), outputs, -1)
