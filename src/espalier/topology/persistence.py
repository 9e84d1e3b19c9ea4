"""Neural persistence: how the large weights of a layer connect its units.

A layer is a complete bipartite graph whose edges enter in decreasing weight. Each edge that joins
two components ends one of them, at that weight: those edges are a maximum spanning tree. Weights of
0 enter last, so a sparse layer needs a maximum spanning forest of its non-zeros only, and the rest
of the components end at 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from espalier.errors import ConfigurationError, DataError, unknown_name
from espalier.graphs.encodings import MAX_BYTES, bipartite, encode
from espalier.graphs.layer_graph import LayerGraph
from espalier.topology.matrices import absolute_matrix, shape_of

CONVENTIONS = ("definition", "published")
SCALES = ("network", "layer")


@dataclass(frozen=True, eq=False)
class LayerPersistence:
    """Neural persistence of one layer.

    Attributes:
        persistence: norm of the persistence diagram.
        normalised: the same over (units - 1)^(1 / p); in [0, 1] under "definition", up to
            (units / (units - 1))^(1 / p) under "published".
        deaths: (units - 1,) float64 scaled weights of a maximum spanning tree, ascending.
        units: inputs, outputs and, where it is one, the bias.
    """

    persistence: float
    normalised: float
    deaths: np.ndarray
    units: int


@dataclass(frozen=True, eq=False)
class NeuralPersistence:
    """Neural persistence of a network.

    Attributes:
        layers: layer by layer.
        scales: (layers,) the weight that counts as 1 in each layer; NaN for a layer of zeros that
            is scaled by itself, and so are its values.
        convention, p, scale: as asked for.
    """

    layers: tuple[LayerPersistence, ...]
    scales: np.ndarray
    convention: str
    p: float
    scale: str

    @property
    def mean(self) -> float:
        """Return the mean of the layers' normalised values, the network's value in the paper."""
        return float(np.mean([layer.normalised for layer in self.layers]))

    @property
    def total(self) -> float:
        """Return the sum of the layers' values, not normalised."""
        return float(np.sum([layer.persistence for layer in self.layers]))


def neural_persistence(
    weights: Sequence[np.ndarray | sparse.csr_array],
    *,
    convention: str = "definition",
    p: float = 2.0,
    scale: str = "network",
    biases: Sequence[np.ndarray] | None = None,
) -> NeuralPersistence:
    """Neural persistence of every layer of a network.

    A layer of n units, absolute weights divided by the largest, has the deaths w_e of the n - 1
    edges of a maximum spanning tree; its persistence is (sum (1 - w_e)^p)^(1/p). A sparse layer
    costs non-zeros x log(non-zeros); absent entries and zeros are the same thing.

    Conventions:
        "definition": the n - 1 finite points, so that the normalised value lies in [0, 1].
        "published": the code counts the component that never ends as one more point of
            persistence 1, so that a layer of zeros has more than 1. Its models have the bias as one
            more input; give `biases` to compare with published numbers.

    Rescaling a unit's incoming and outgoing weights, which leaves the function of a ReLU network as
    it is, changes the value. A layer's value also depends on the other layers unless
    scale="layer".

    Args:
        weights: one (inputs, outputs) matrix per layer.
        convention: "definition" or "published".
        p: exponent, at least 1.
        scale: divide by the largest absolute weight of the "network" or of each "layer".
        biases: one (outputs,) vector per layer, which becomes one more input row.

    Raises:
        ConfigurationError: an unknown convention or scale, or p below 1.
        DataError: no layer, an empty layer, a value that is not finite, biases that do not fit, or
            only zeros in the whole network.

    Source: Rieck et al. (ICLR 2019), "Neural persistence: a complexity measure for deep neural
    networks using algebraic topology", definitions 1 and 2.
    """
    if convention not in CONVENTIONS:
        raise unknown_name("convention", convention, CONVENTIONS)
    if scale not in SCALES:
        raise unknown_name("scale", scale, SCALES)
    if not p >= 1:
        raise ConfigurationError(f"p is {p}; the norm needs p of at least 1")
    layers = [_absolute(weight, k) for k, weight in enumerate(weights)]
    if not layers:
        raise DataError("neural persistence needs at least one layer")
    if biases is not None:
        layers = _with_biases(layers, biases)
    largest = np.array([layer.data.max(initial=0.0) for layer in layers])
    if not largest.any():
        raise DataError("every weight of the network is 0: its persistence is not defined")
    scales = np.full(len(layers), largest.max()) if scale == "network" else largest
    results = []
    for layer, unit in zip(layers, scales, strict=True):
        deaths = _deaths(layer, float(unit)) if unit else np.full(sum(shape_of(layer)) - 1, np.nan)
        results.append(_layer(deaths, convention, p))
    return NeuralPersistence(
        tuple(results), np.where(scales > 0, scales, np.nan), convention, p, scale
    )


def neural_persistence_of_graph(
    graph: LayerGraph,
    kind: str = "rolled-channel",
    *,
    convention: str = "definition",
    p: float = 2.0,
    scale: str = "network",
    max_bytes: int | None = MAX_BYTES,
) -> dict[str, LayerPersistence]:
    """Neural persistence of every layer of a traced network, convolutions included.

    The paper defines dense layers. A convolution here is the graph that `kind` says: "unrolled",
    the exact matrix between two feature maps, which has shared weights many times; "rolled", its
    kernel entries; "rolled-channel", its channels with the L2 norms of kernel slices.

    Args:
        graph: from `layer_graph`.
        kind: "unrolled", "rolled" or "rolled-channel".
        convention, p, scale: as in `neural_persistence`; biases are not in the graph.
        max_bytes: the largest unrolled block to build.

    Returns:
        The values by layer; by block for "unrolled", with the source part's name where a layer has
        several.

    Raises:
        ConfigurationError, DataError: as in `neural_persistence`, `encode` and `bipartite`.
    """
    matrices: dict[str, sparse.csr_array] = {}
    if kind == "unrolled":
        for k, block in enumerate(graph.blocks):
            name = block.name
            if name in matrices:
                name = f"{name} ({graph.parts[block.source].name})"
            matrices[name] = bipartite(graph, k, dtype=np.float64, max_bytes=max_bytes)
    elif kind == "rolled":
        matrices = encode(graph, "rolled", dtype=np.float64)
    elif kind == "rolled-channel":
        matrices = encode(graph, "rolled-channel", dtype=np.float64)
    else:
        raise unknown_name("encoding", kind, ("unrolled", "rolled", "rolled-channel"))
    result = neural_persistence(list(matrices.values()), convention=convention, p=p, scale=scale)
    return dict(zip(matrices, result.layers, strict=True))


def spanning_tree_weights(weights: np.ndarray | sparse.csr_array) -> np.ndarray:
    """Weights of a maximum spanning tree of a complete bipartite graph, ascending.

    Which tree is found where weights are equal does not change them.

    Args:
        weights: (inputs, outputs); absolute values count.

    Returns:
        (inputs + outputs - 1,) float64, the very numbers of the matrix, and 0 for edges without
        weight.

    Raises:
        DataError: not a matrix with both sides, or a value is not finite.

    Source: Kruskal (1956), on the ranks of the weights.
    """
    return _deaths(_absolute(weights, 0), 1.0)


def _layer(deaths: np.ndarray, convention: str, p: float) -> LayerPersistence:
    units = deaths.size + 1
    total = float(np.sum((1 - deaths) ** p)) + (convention == "published")
    persistence = total ** (1 / p)
    return LayerPersistence(persistence, persistence / (units - 1) ** (1 / p), deaths, units)


def _deaths(layer: sparse.csr_array, unit: float) -> np.ndarray:
    inputs, outputs = shape_of(layer)
    if not layer.nnz:
        return np.zeros(inputs + outputs - 1)
    values: np.ndarray = layer.data
    # The tree is searched on ranks, so that every death is a weight to the last bit.
    order = np.argsort(-values, kind="stable")
    rank = np.empty(order.size)
    rank[order] = np.arange(1, order.size + 1)
    size = inputs + outputs
    indptr = np.concatenate([layer.indptr, np.full(outputs, layer.indptr[-1])])
    graph = sparse.csr_array((rank, layer.indices + inputs, indptr), shape=(size, size))
    forest: Any = csgraph.minimum_spanning_tree(graph)
    kept = values[order[forest.data.astype(np.int64) - 1]] / unit
    return np.sort(np.concatenate([kept, np.zeros(size - 1 - kept.size)]))


def _absolute(weight: np.ndarray | sparse.csr_array, layer: int) -> sparse.csr_array:
    shape: tuple[int, ...] = (
        np.shape(weight) if isinstance(weight, np.ndarray) else shape_of(weight)
    )
    if len(shape) != 2 or 0 in shape:
        raise DataError(
            f"layer {layer}: expected an (inputs, outputs) matrix with both sides, got {shape}"
        )
    matrix = absolute_matrix(weight, f"layer {layer}")
    matrix.eliminate_zeros()
    return matrix


def _with_biases(
    layers: Sequence[sparse.csr_array], biases: Sequence[np.ndarray]
) -> list[sparse.csr_array]:
    if len(biases) != len(layers):
        raise DataError(f"there are {len(layers)} layers and {len(biases)} biases")
    result = []
    for k, (layer, bias) in enumerate(zip(layers, biases, strict=True)):
        if np.shape(bias) != (shape_of(layer)[1],):
            raise DataError(
                f"layer {k} has {shape_of(layer)[1]} outputs, its bias is {np.shape(bias)}"
            )
        row = _absolute(np.asarray(bias)[None], k)
        result.append(sparse.csr_array(sparse.vstack([layer, row], format="csr")))
    return result
