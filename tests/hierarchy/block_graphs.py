"""What the tests of block models and detectors share: small graphs, and where graph-tool is."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from espalier.errors import MissingDependencyError
from espalier.graphs.coactivation import CoactivationGraph
from espalier.hierarchy import graph_tool_python


def graph_tool_or_none() -> str | None:
    try:
        return graph_tool_python.find_graph_tool_python()
    except MissingDependencyError:
        return None


def graph_of(n, source, target, weight, outputs, names=None) -> CoactivationGraph:
    label = np.full(n, -1)
    label[outputs] = np.arange(len(outputs))
    both = (np.concatenate([source, target]), np.concatenate([target, source]))
    return CoactivationGraph(
        csr_array((np.tile(np.asarray(weight, float), 2), both), shape=(n, n)),
        layer=(label >= 0).astype(np.int64),
        neuron=np.arange(n),
        label=label,
        constant=np.zeros(n, bool),
        layer_names=("hidden", "output"),
        class_names=tuple(names or (f"c{k}" for k in range(len(outputs)))),
    )
