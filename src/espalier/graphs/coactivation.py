"""The co-activation graph: units of a network, joined where their activations are correlated.

Source: Horta, Tiddi, Little and Mileo (2021), "Extracting knowledge from Deep Neural Networks
through graph analysis", Future Generation Computer Systems 120.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from espalier.errors import ConfigurationError, DataError, unknown_name
from espalier.files import read_npz, write_npz
from espalier.graphs.correlation import correlated_pairs

RESCALES = ("linear", "min-max", "none")

_NODE_ARRAYS = ("layer", "neuron", "label", "constant")
_ARRAYS = ("indptr", "indices", "weights", *_NODE_ARRAYS, "layer_names", "class_names")


@dataclass(frozen=True, eq=False)
class CoactivationGraph:
    """An undirected weighted graph over the units of one network.

    Pruned units are absent. Constant units are present without edges, and so are output units
    that nothing is correlated with: every class always has its node.

    Attributes:
        adjacency: (n, n) symmetric float64 weights without a diagonal. An explicit zero is an
            edge of weight 0, as the min-max rescale gives its weakest edge.
        layer: (n,) int64, 0 for the first layer in forward order; outputs are in the last.
        neuron: (n,) int64, index of the unit in its layer.
        label: (n,) int64, class index of an output unit, -1 for a hidden unit.
        constant: (n,) bool, units whose activation never changes over the samples.
        layer_names: one name per layer.
        class_names: one name per class.
    """

    adjacency: csr_array
    layer: np.ndarray
    neuron: np.ndarray
    label: np.ndarray
    constant: np.ndarray
    layer_names: tuple[str, ...]
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        n = len(self.layer)
        if self.adjacency.shape != (n, n):
            raise DataError(
                f"the adjacency has shape {self.adjacency.shape}, but layer names {n} units; "
                f"expected ({n}, {n})"
            )
        for name in ("neuron", "label", "constant"):
            shape = getattr(self, name).shape
            if shape != (n,):
                raise DataError(f"{name} has shape {shape}, but layer names {n} units")
        if n and not 0 <= self.layer.min() <= self.layer.max() < len(self.layer_names):
            raise DataError(
                f"layer holds indices {self.layer.min()} to {self.layer.max()}, but there are "
                f"{len(self.layer_names)} layer names"
            )
        labels = np.sort(self.label[self.label >= 0])
        if not np.array_equal(labels, np.arange(len(self.class_names))):
            raise DataError(
                f"the output units have the labels {labels.tolist()}, but there are "
                f"{len(self.class_names)} class names; every class needs exactly one output unit"
            )

    @property
    def n_nodes(self) -> int:
        """Number of units."""
        return len(self.layer)

    @property
    def n_edges(self) -> int:
        """Number of undirected edges, those of weight 0 included."""
        return self.adjacency.nnz // 2

    @property
    def output_nodes(self) -> np.ndarray:
        """(classes,) int64, the node of every class, in class order."""
        outputs = np.flatnonzero(self.label >= 0)
        return outputs[np.argsort(self.label[outputs])]

    def edges(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Every edge once: smaller node, larger node (int64) and weight, in row-major order."""
        rows = np.repeat(np.arange(self.n_nodes), np.diff(self.adjacency.indptr))
        columns = self.adjacency.indices.astype(np.int64)
        once = np.flatnonzero(rows < columns)
        once = once[np.lexsort((columns[once], rows[once]))]
        return rows[once], columns[once], self.adjacency.data[once]


def coactivation_graph(
    values: np.ndarray,
    layer: np.ndarray,
    neuron: np.ndarray,
    label: np.ndarray,
    layer_names: Sequence[str],
    class_names: Sequence[str],
    method: str = "spearman",
    threshold: float = 0.5,
    strict: bool = False,
    rescale: str = "linear",
    n_edges: int | None = None,
    tile: int | None = None,
    scratch: str | os.PathLike[str] | None = None,
    threads: int | None = None,
) -> CoactivationGraph:
    """Build the co-activation graph of one network from its activations.

    A pair of units is an edge when its correlation rho is at least `threshold`; negative
    correlations vanish at every threshold of 0 or more. The same seed gives the same bytes, for
    Spearman whatever `tile` and `threads` are.

    Args:
        values: (samples, units) activations, finite; see `espalier.graphs.activations.collect`.
        layer: (units,) layer index in forward order.
        neuron: (units,) index in the layer.
        label: (units,) class index of outputs, -1 for hidden units.
        layer_names: names of the layers.
        class_names: names of the classes, in label order.
        method: "spearman" or "pearson".
        threshold: smallest correlation of an edge, at least -1 and below 1.
        strict: keep `rho > threshold` instead of `rho >= threshold`.
        rescale: weight of an edge. "linear": (rho - threshold) / (1 - threshold), so that
            [threshold, 1] becomes [0, 1]. "min-max": (rho - min) / (max - min) over the edges, as
            published; the weakest edge gets exactly 0, and equal correlations all get 1.
            "none": rho.
        n_edges: keep exactly this many strongest pairs instead of those above the threshold,
            ties in row-major order. Gives a null model as many edges as the observed graph. The
            linear rescale then starts at the weakest kept correlation where that is below
            `threshold`.
        tile: units per side of a tile; see `espalier.graphs.correlation.correlated_pairs`.
        scratch: folder of the staging file of the tiled route.
        threads: threads that rank.

    Returns:
        The graph; it may have no edges.

    Raises:
        ConfigurationError: unknown method or rescale, or a threshold outside [-1, 1).
        DataError: shapes that do not fit, a NaN or infinite activation (the message names the
            unit), a class without an output unit, or fewer than `n_edges` pairs.

    Source: Horta et al. (2021), section 3; threshold 0.5 and rescale from Petkov (2021), "Class
    hierarchies in convolutional neural networks", section 4.
    """
    if rescale not in RESCALES:
        raise unknown_name("rescale", rescale, RESCALES)
    if not -1 <= threshold < 1:
        raise ConfigurationError(
            f"threshold is {threshold}; it must be at least -1 and below 1, "
            "or no weight can be given to an edge"
        )
    layer, neuron, label = (np.asarray(a, dtype=np.int64) for a in (layer, neuron, label))
    if values.ndim != 2 or values.shape[1] != len(layer):
        raise DataError(
            f"values have shape {values.shape}, but layer names {len(layer)} units; "
            f"expected (samples, {len(layer)})"
        )
    names = tuple(str(name) for name in layer_names)

    def describe(unit: int) -> str:
        return f"unit {neuron[unit]} of layer {names[layer[unit]]!r}"

    pairs = correlated_pairs(
        values,
        method=method,
        threshold=threshold,
        strict=strict,
        n_pairs=n_edges,
        tile=tile,
        scratch=scratch,
        threads=threads,
        describe=describe,
    )
    if n_edges is not None and n_edges > 0:
        threshold = min(threshold, float(pairs.correlation.min()))
    weights = _rescaled(pairs.correlation, rescale, threshold)
    return CoactivationGraph(
        adjacency=symmetric_adjacency(pairs.rows, pairs.columns, weights, len(layer)),
        layer=layer,
        neuron=neuron,
        label=label,
        constant=pairs.constant,
        layer_names=names,
        class_names=tuple(str(name) for name in class_names),
    )


def _rescaled(correlation: np.ndarray, rescale: str, threshold: float) -> np.ndarray:
    if rescale == "none" or not len(correlation):
        return correlation
    if rescale == "linear":
        return (correlation - threshold) / (1 - threshold)
    low, high = correlation.min(), correlation.max()
    return (correlation - low) / (high - low) if high > low else np.ones_like(correlation)


def symmetric_adjacency(
    rows: np.ndarray, columns: np.ndarray, weights: np.ndarray, n: int
) -> csr_array:
    """Symmetric (n, n) CSR with sorted indices of edges listed once; keeps those of weight 0."""
    index = np.int32 if 2 * len(rows) < 1 << 31 else np.int64
    both_rows = np.concatenate((rows, columns))
    both_columns = np.concatenate((columns, rows))
    order = np.lexsort((both_columns, both_rows))
    indptr = np.zeros(n + 1, index)
    np.cumsum(np.bincount(both_rows, minlength=n), out=indptr[1:])
    data = np.concatenate((weights, weights))[order]
    return csr_array((data, both_columns[order].astype(index), indptr), shape=(n, n))


def write_coactivation(
    path: str | os.PathLike[str],
    graph: CoactivationGraph,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write a graph as NPZ; equal graphs and metadata give equal bytes.

    Arrays: indptr, indices and weights (the symmetric CSR), layer, neuron, label, constant,
    layer_names and class_names (unicode).
    """
    write_npz(
        path,
        {
            "indptr": graph.adjacency.indptr,
            "indices": graph.adjacency.indices,
            "weights": graph.adjacency.data,
            "layer": graph.layer,
            "neuron": graph.neuron,
            "label": graph.label,
            "constant": graph.constant,
            "layer_names": np.asarray(graph.layer_names, dtype=np.str_),
            "class_names": np.asarray(graph.class_names, dtype=np.str_),
        },
        metadata,
    )


def read_coactivation(path: str | os.PathLike[str]) -> CoactivationGraph:
    """Read a graph written by `write_coactivation` and check that it is one.

    Raises:
        DataError: the file is missing or damaged, lacks an array, or holds a graph that is not
            symmetric, has a diagonal, or whose parts do not fit each other.
    """
    arrays, _ = read_npz(path)
    missing = [name for name in _ARRAYS if name not in arrays]
    if missing:
        raise DataError(
            f"{path} is not a co-activation graph: it lacks {', '.join(missing)} "
            f"(it holds {', '.join(sorted(arrays)) or 'no arrays'})"
        )
    indptr, indices, weights = arrays["indptr"], arrays["indices"], arrays["weights"]
    n = len(arrays["layer"])
    if indptr.shape != (n + 1,):
        raise DataError(
            f"{path}: indptr has shape {indptr.shape}, but layer names {n} units; "
            f"expected ({n + 1},)"
        )
    if indices.shape != weights.shape or indices.shape != (int(indptr[-1]),):
        raise DataError(
            f"{path}: indices have shape {indices.shape} and weights {weights.shape}; "
            f"indptr expects ({int(indptr[-1])},) for both"
        )
    if indptr[0] != 0 or np.any(np.diff(indptr) < 0):
        raise DataError(f"{path}: indptr must start at 0 and never fall; write the graph again")
    if len(indices) and not 0 <= indices.min() <= indices.max() < n:
        raise DataError(
            f"{path}: edges name units {indices.min()} to {indices.max()}, but there are {n} units"
        )
    if not np.isfinite(weights).all():
        raise DataError(f"{path}: a weight is NaN or infinite; write the graph again")
    adjacency = csr_array((weights.astype(np.float64, copy=False), indices, indptr), shape=(n, n))
    _check_symmetric(adjacency, path)
    try:
        return CoactivationGraph(
            adjacency=adjacency,
            layer=arrays["layer"].astype(np.int64),
            neuron=arrays["neuron"].astype(np.int64),
            label=arrays["label"].astype(np.int64),
            constant=arrays["constant"].astype(bool),
            layer_names=tuple(arrays["layer_names"].tolist()),
            class_names=tuple(arrays["class_names"].tolist()),
        )
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def _check_symmetric(adjacency: csr_array, path: str | os.PathLike[str]) -> None:
    n = len(adjacency.indptr) - 1
    rows = np.repeat(np.arange(n, dtype=np.int64), np.diff(adjacency.indptr))
    columns = adjacency.indices.astype(np.int64)
    if np.any(rows == columns):
        unit = int(rows[rows == columns][0])
        raise DataError(f"{path}: unit {unit} is joined to itself; a graph here has no loops")
    keys, mirrored = rows * n + columns, columns * n + rows
    forward, backward = np.argsort(keys), np.argsort(mirrored)
    same_pairs = np.array_equal(keys[forward], mirrored[backward])
    if not same_pairs or not np.array_equal(adjacency.data[forward], adjacency.data[backward]):
        raise DataError(f"{path}: the adjacency is not symmetric; write the graph again")
    if np.any(np.diff(keys[forward]) == 0):
        raise DataError(f"{path}: an edge is listed twice; write the graph again")
