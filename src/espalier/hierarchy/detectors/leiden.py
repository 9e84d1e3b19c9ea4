"""Leiden communities of the co-activation graph at several resolutions.

Traag, Waltman and van Eck (2019), "From Louvain to Leiden", Scientific Reports 9, 5233; quality
function of Reichardt and Bornholdt (2006), Phys. Rev. E 74, 016110, with the configuration null
model: modularity with a resolution.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from espalier.errors import ConfigurationError
from espalier.graphs.coactivation import CoactivationGraph
from espalier.hierarchy.detectors import Detection, require
from espalier.hierarchy.extraction import class_tree
from espalier.hierarchy.trees import star_tree
from espalier.seeds import derive_seed


@dataclass(frozen=True)
class Options:
    """Options of the Leiden detector.

    Attributes:
        resolutions: positive, each once; a higher one gives smaller communities.
        iterations: rounds of the algorithm per partition; -1 runs until nothing changes.
    """

    resolutions: tuple[float, ...] = (0.5, 1.0, 2.0)
    iterations: int = -1

    def __post_init__(self) -> None:
        values = tuple(float(value) for value in self.resolutions)
        object.__setattr__(self, "resolutions", values)
        if not values or not all(0 < v < float("inf") for v in values):
            raise ConfigurationError(
                f"resolutions must be positive numbers and are {list(self.resolutions)}"
            )
        if len(set(values)) < len(values):
            raise ConfigurationError(f"resolutions must differ and are {list(self.resolutions)}")
        if self.iterations == 0 or self.iterations < -1:
            raise ConfigurationError(f"iterations must be -1 or positive and is {self.iterations}")


def detect(
    graph: CoactivationGraph, readout: Mapping[str, np.ndarray], seed: int, options: Options
) -> Detection:
    """Return a two-level tree per resolution, and a nested tree of all of them.

    The trees of single resolutions come from independent partitions, which need not nest. For
    the tree called "nested" the finest partition is taken first, and every coarser one
    partitions the communities of the one before.

    Edges of weight 0 play no part. Classes without an edge hang on the root.
    """
    igraph = require("igraph", "leiden")
    leidenalg = require("leidenalg", "leiden")
    source, target, weight = graph.edges()
    kept = weight > 0
    source, target, weight = source[kept], target[kept], weight[kept]
    resolutions = sorted(options.resolutions, reverse=True)
    samples = (*(f"resolution{value:g}" for value in options.resolutions), "nested")
    versions = {"leidenalg": leidenalg.version, "igraph": igraph.__version__}
    details: dict[str, Any] = {"resolutions": list(options.resolutions), "versions": versions}
    if not len(weight):
        stars = (star_tree(graph.class_names).newick(),) * len(samples)
        return Detection(stars, samples, {**details, "levels": [0] * len(samples)})

    nodes, ends = np.unique(np.concatenate([source, target]), return_inverse=True)
    network = igraph.Graph(
        len(nodes), np.column_stack([ends[: len(source)], ends[len(source) :]]).tolist()
    )
    network.es["weight"] = weight

    def partition(of: Any, resolution: float, *stream: str) -> Any:
        return leidenalg.find_partition(
            of,
            leidenalg.RBConfigurationVertexPartition,
            weights="weight",
            resolution_parameter=resolution,
            n_iterations=options.iterations,
            seed=derive_seed(seed, "leiden", *stream) % 2**31,
        )

    flat = {value: partition(network, value, "flat", repr(value)) for value in resolutions}
    levels = [np.asarray(flat[resolutions[0]].membership)]
    finer = flat[resolutions[0]]
    for value in resolutions[1:]:
        finer = partition(aggregated(finer), value, "nested", repr(value))
        levels.append(np.asarray(finer.membership))

    outputs = np.searchsorted(nodes, graph.output_nodes)
    here = outputs < len(nodes)
    here[here] = nodes[outputs[here]] == graph.output_nodes[here]
    outputs = np.where(here, outputs, -1)

    def tree(partitions: list[np.ndarray]) -> str:
        return class_tree(partitions, outputs, graph.class_names)

    newicks = [tree([np.asarray(flat[value].membership)]) for value in options.resolutions]
    details["communities"] = [len(flat[value]) for value in options.resolutions]
    details["nested_communities"] = [int(level.max()) + 1 for level in levels]
    details["modularities"] = [
        float(network.modularity(flat[value].membership, weights="weight"))
        for value in options.resolutions
    ]
    details["levels"] = [1] * len(newicks) + [len(levels)]
    return Detection((*newicks, tree(levels)), samples, details)


def aggregated(partition: Any) -> Any:
    """Return the graph whose nodes are the communities of a leidenalg partition.

    The weight inside a community becomes a loop, which leaves the quality of every coarser
    partition what it is on the graph itself.
    """
    network = partition.graph.copy()
    network.contract_vertices(partition.membership)
    network.simplify(loops=False, combine_edges={"weight": "sum"})
    return network
