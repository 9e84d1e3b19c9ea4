"""Masked multi-layer perceptrons as lists of edges.

A pruned network keeps few of its edges, so a network is the list of its live edges: their flat
positions in the weight matrices, one after the other, each [n_out, n_in] in C order. What is pruned
takes no memory and no time, while percentiles still count the edges and units of the original.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np

from espalier.errors import ConfigurationError, DataError
from espalier.seeds import numpy_generator


@lru_cache(maxsize=256)
def edge_offsets(widths: tuple[int, ...]) -> np.ndarray:
    """Return (layers + 1,) int64: where each layer's edges begin in the flat order."""
    sizes = [n_in * n_out for n_in, n_out in pairwise(widths)]
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


@lru_cache(maxsize=256)
def unit_offsets(widths: tuple[int, ...]) -> np.ndarray:
    """Return (layers + 2,) int64: where each layer's units begin, inputs first."""
    return np.concatenate([[0], np.cumsum(widths)]).astype(np.int64)


def check_widths(widths: Sequence[int]) -> tuple[int, ...]:
    """Return the widths (inputs, hidden layers, outputs) as a tuple.

    Raises:
        ConfigurationError: fewer than two, or one that is not a positive whole number.
    """
    checked = tuple(int(width) for width in widths)
    if len(checked) < 2 or any(
        width < 1 or width != given for width, given in zip(checked, widths, strict=True)
    ):
        raise ConfigurationError(
            f"widths of a network are {tuple(widths)}; give the inputs, any hidden layers and the "
            "outputs, each a whole number of at least 1"
        )
    return checked


@dataclass(frozen=True, eq=False)
class Network:
    """A multi-layer perceptron with pruned edges left out.

    Attributes:
        widths: units per layer, inputs and outputs included; pruned units count.
        edges: (live,) int64, ascending flat positions of the live edges.
        weights: (live,) floating point, the weights of these edges.
        biases: (hidden + outputs,) floating point. A unit without a live incoming edge has bias 0,
            and training leaves it there.
    """

    widths: tuple[int, ...]
    edges: np.ndarray
    weights: np.ndarray
    biases: np.ndarray

    @property
    def total_edges(self) -> int:
        """Number of edges of the dense network."""
        return int(edge_offsets(self.widths)[-1])

    @property
    def hidden_units(self) -> int:
        """Number of hidden units of the dense network."""
        return sum(self.widths[1:-1])

    @property
    def density(self) -> float:
        """Share of the edges that is live."""
        return len(self.edges) / self.total_edges

    @property
    def live_size(self) -> int:
        """Number of edges of the dense network without the hidden units that have no edge."""
        source, target = self.endpoints()
        has_edge = np.zeros(sum(self.widths), bool)
        has_edge[source] = has_edge[target] = True
        units = unit_offsets(self.widths)
        live = [int(has_edge[a:b].sum()) for a, b in pairwise(units[1:-1])]
        return sum(a * b for a, b in pairwise([self.widths[0], *live, self.widths[-1]]))

    def endpoints(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the source and the target of each live edge, as unit numbers, inputs first."""
        offsets, units = edge_offsets(self.widths), unit_offsets(self.widths)
        layer = np.searchsorted(offsets, self.edges, side="right") - 1
        inside = self.edges - offsets[layer]
        n_in = np.asarray(self.widths)[layer]
        target, source = np.divmod(inside, n_in)
        return source + units[layer], target + units[layer + 1]

    def masks(self) -> list[np.ndarray]:
        """Return one (n_out, n_in) boolean matrix per layer, True where the edge is live."""
        flat = np.zeros(self.total_edges, bool)
        flat[self.edges] = True
        return self._matrices(flat)

    def weight_matrices(self) -> list[np.ndarray]:
        """Return one (n_out, n_in) matrix per layer; pruned edges are 0."""
        flat = np.zeros(self.total_edges, self.weights.dtype)
        flat[self.edges] = self.weights
        return self._matrices(flat)

    def bias_vectors(self) -> list[np.ndarray]:
        """Return one (n_out,) vector per layer."""
        units = unit_offsets(self.widths)[1:] - self.widths[0]
        return [self.biases[a:b].copy() for a, b in pairwise(units)]

    def keep(self, kept: np.ndarray) -> Network:
        """Return the network with only the live edges that `kept`, a (live,) boolean, selects."""
        pruned = Network(self.widths, self.edges[kept], self.weights[kept], self.biases)
        _, target = pruned.endpoints()
        fed = np.zeros(len(self.biases), bool)
        fed[target - self.widths[0]] = True
        return Network(
            self.widths,
            pruned.edges,
            pruned.weights,
            np.where(fed, self.biases, np.zeros((), self.biases.dtype)),
        )

    def _matrices(self, flat: np.ndarray) -> list[np.ndarray]:
        offsets = edge_offsets(self.widths)
        return [
            flat[a:b].reshape(n_out, n_in)
            for a, b, n_in, n_out in zip(
                offsets[:-1], offsets[1:], self.widths[:-1], self.widths[1:], strict=True
            )
        ]


def network_of(
    masks: Sequence[np.ndarray], weights: Sequence[np.ndarray], biases: Sequence[np.ndarray]
) -> Network:
    """Return the network with these masks, weights (both [n_out, n_in]) and biases.

    Raises:
        DataError: shapes that do not chain, or differ between masks, weights and biases.
    """
    if not (len(masks) == len(weights) == len(biases) > 0):
        raise DataError("masks, weights and biases must have one array per layer each")
    widths = [np.shape(masks[0])[-1], *(np.shape(mask)[0] for mask in masks)]
    for layer, (mask, weight, bias) in enumerate(zip(masks, weights, biases, strict=True)):
        shape = (widths[layer + 1], widths[layer])
        if np.shape(mask) != shape or np.shape(weight) != shape or np.shape(bias) != shape[:1]:
            raise DataError(
                f"layer {layer}: mask {np.shape(mask)}, weights {np.shape(weight)} and biases "
                f"{np.shape(bias)} must be {shape}, {shape} and {shape[:1]}, so that layers chain"
            )
    flat = np.concatenate([np.asarray(mask, bool).ravel() for mask in masks])
    values = np.concatenate([np.asarray(weight).ravel() for weight in weights])
    whole = Network(
        check_widths(widths), np.arange(len(flat)), values, np.concatenate(list(biases))
    )
    return whole.keep(flat)


def initial_network(
    widths: Sequence[int], seed: int, dtype: type[np.floating] = np.float32
) -> Network:
    """Return a dense network with Kaiming-normal weights (fan-in, also the outputs) and biases 0.

    Raises:
        ConfigurationError: widths that make no network.
    """
    shape = check_widths(widths)
    rng = numpy_generator(seed, "sculpting", "init")
    layers = [
        rng.standard_normal(n_in * n_out) * np.sqrt(2 / n_in) for n_in, n_out in pairwise(shape)
    ]
    weights = np.concatenate(layers).astype(dtype)
    return Network(shape, np.arange(len(weights)), weights, np.zeros(sum(shape[1:]), dtype))
