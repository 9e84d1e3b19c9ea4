"""Random walks over the units of a network that prefer large weights.

A step goes from input unit i of a layer to output unit o with probability proportional to the sum
of |w| over the kernel (o, i), backwards from o to i likewise, and within the kernel to one weight,
proportional to |w|. Where all of these are zero the draw is uniform. A walk enters a flattening at
a uniformly drawn feature of its block, and takes one of the branches of a fork, uniformly.

Source: Patil and Dovrolis (2021), PHEW: Constructing sparse networks that learn fast and generalize
well without training data, section 4 and algorithm 1.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
import torch
from torch import Tensor

from espalier.seeds import numpy_generator

BLOCK = 2048
"""Forward walks, and backward walks, that are drawn together; part of what a seed means."""

# A draw tries this many columns from where its guide points, and then bisects.
_TRIES = 16


@dataclass(frozen=True)
class Site:
    """A place that a path passes: the input, a layer, or where activations meet.

    Attributes:
        name: the layer, or the node of the traced graph.
        units: channels, or features of a dense layer.
        sources: the sites whose units come in, by index.
        offsets: the first unit of each source; not 0 behind a concatenation only.
        parameter: name of the layer's weight; "" for a site without weights.
        block: inputs of the layer per unit of its source, more than 1 behind a flattening.
        groups: groups of a convolution.
    """

    name: str
    units: int
    sources: tuple[int, ...] = ()
    offsets: tuple[int, ...] = ()
    parameter: str = ""
    block: int = 1
    groups: int = 1


def transition_probabilities(weight: Tensor, groups: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return the probabilities of the next unit, forwards and backwards.

    Args:
        weight: (out, in / groups, ...) weight of a convolution or dense layer.
        groups: groups of the convolution.

    Returns:
        forward (in, out / groups) float64: from an input unit to the outputs of its group; backward
        (out, in / groups) float64: from an output unit to the inputs of its group. Rows sum to 1.
    """
    kernels = _magnitudes(weight)
    forward = _normalised(_by_input(kernels, groups)).reshape(
        groups * kernels.shape[1], kernels.shape[0] // groups, -1
    )
    backward = _normalised(kernels.reshape(len(kernels), -1)).reshape(kernels.shape)
    return forward.sum(axis=2), backward.sum(axis=2)


def expected_visits(sites: Sequence[Site], weights: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Return how often a walk visits each weight, on average over forward and backward walks.

    Args:
        sites: as `unit_graph` returns them.
        weights: the weights of all layers.

    Returns:
        float64 arrays shaped as the weights; each layer's entries sum to the share of walks that go
        through the layer.
    """
    visits = _Walker(sites, weights).expected_visits()
    return {name: visits[name].reshape(tuple(weight.shape)) for name, weight in weights.items()}


def walk_blocks(
    sites: Sequence[Site], weights: Mapping[str, Tensor], names: Collection[str], seed: int
) -> Iterator[np.ndarray]:
    """Draw walks without end, 2 BLOCK at a time.

    Args:
        sites: as `unit_graph` returns them.
        weights: the weights of all layers.
        names: the layers whose weights are listed; they are numbered through in this order.
        seed: root of the draws.

    Yields:
        (2 BLOCK, layers) int64: one row per walk, forward and backward in turn, and in it the
        numbers of the weights in the order of the steps, then -1.
    """
    sizes = [weights[name].numel() for name in names]
    walker = _Walker(sites, weights, dict(zip(names, np.cumsum([0, *sizes]), strict=False)))
    for block in count():
        numbers = np.arange(block * BLOCK, (block + 1) * BLOCK)
        visits = [
            walker.walk(numbers, forward, numpy_generator(seed, "phew", block, direction))
            for forward, direction in ((True, "forward"), (False, "backward"))
        ]
        yield np.stack(visits, axis=1).reshape(2 * BLOCK, -1)


class _Columns:
    """Draws a column of a row by the row's probabilities, with a guide table.

    Source: Devroye (1986), Non-uniform random variate generation, section III.2.4.
    """

    def __init__(self, probabilities: np.ndarray) -> None:
        rows, self._columns = probabilities.shape
        sums = np.cumsum(probabilities, axis=1)
        # Row number plus cumulative probability: one ascending sequence for all rows.
        self._ends = (sums / sums[:, -1:] + np.arange(rows)[:, None]).reshape(-1)
        # With a power of two per row, a value and its cell agree in spite of rounding.
        self._cells = 1 << (self._columns.bit_length() - 1)
        borders = np.ceil(self._ends * self._cells).astype(np.int64)
        # For the lower border of each cell: how many columns end at or before it.
        ended = np.cumsum(np.bincount(borders, minlength=rows * self._cells))
        self._guide = ended[: rows * self._cells].astype(
            np.int32 if ended[-1] < 2**31 else np.int64
        )

    def drawn(self, rows: np.ndarray, draws: np.ndarray) -> np.ndarray:
        """Return a column per row, for uniform draws in [0, 1); one of probability 0 never."""
        # Large row numbers round sums up: a draw must not reach the next row.
        values = np.minimum(rows + draws, np.nextafter(rows + 1.0, 0.0))
        found = self._guide[(values * self._cells).astype(np.int64)].astype(np.int64)
        early = np.flatnonzero(self._ends[found] <= values)
        for _ in range(_TRIES):
            if len(early) == 0:
                break
            found[early] += 1
            early = early[self._ends[found[early]] <= values[early]]
        found[early] = np.searchsorted(self._ends, values[early], side="right")
        return found - rows * self._columns


class _Layer:
    """The steps from the inputs to the outputs of one layer, and back."""

    def __init__(self, kernels: np.ndarray, groups: int) -> None:
        outputs, self._inputs, self._taps = kernels.shape
        self._outputs, self._groups = outputs // groups, groups
        self._by_input = _normalised(_by_input(kernels, groups))
        self._by_output = _normalised(kernels.reshape(outputs, -1))
        self._forward = _Columns(self._by_input)
        self._backward = _Columns(self._by_output)

    @property
    def inputs(self) -> int:
        return self._inputs * self._groups

    def forward_step(self, inputs: np.ndarray, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the next output unit and the weight of every walk."""
        output, tap = divmod(self._forward.drawn(inputs, draws), self._taps)
        group, within = divmod(inputs, self._inputs)
        outputs = group * self._outputs + output
        return outputs, (outputs * self._inputs + within) * self._taps + tap

    def backward_step(
        self, outputs: np.ndarray, draws: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the next input unit and the weight of every walk."""
        position = self._backward.drawn(outputs, draws)
        inputs = outputs // self._outputs * self._inputs + position // self._taps
        return inputs, outputs * self._inputs * self._taps + position

    def forward_spread(self, mass: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the probability of each output and weight, from that of each input."""
        visits = (self._by_input * mass[:, None]).reshape(
            self._groups, self._inputs, self._outputs, self._taps
        )
        return visits.sum(axis=(1, 3)).reshape(-1), visits.transpose(0, 2, 1, 3).reshape(-1)

    def backward_spread(self, mass: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the probability of each input and weight, from that of each output."""
        visits = (self._by_output * mass[:, None]).reshape(
            self._groups, self._outputs, self._inputs, self._taps
        )
        return visits.sum(axis=(1, 3)).reshape(-1), visits.reshape(-1)


class _Walker:
    """Draws many walks at once, or follows their probability, along the sites of a network."""

    def __init__(
        self,
        sites: Sequence[Site],
        weights: Mapping[str, Tensor],
        offsets: Mapping[str, int] | None = None,
    ) -> None:
        self._sites = sites
        self._offsets = offsets or {}
        self._layers = {
            site.parameter: _Layer(_magnitudes(weights[site.parameter]), site.groups)
            for site in sites
            if site.parameter
        }
        self._depth = sum(bool(site.parameter) for site in sites)
        self._targets: list[list[tuple[int, int]]] = [[] for _ in sites]
        for index, site in enumerate(sites):
            for source, offset in zip(site.sources, site.offsets, strict=True):
                self._targets[source].append((index, offset))

    def walk(
        self, numbers: np.ndarray, forward: bool, generator: np.random.Generator
    ) -> np.ndarray:
        """Return the weights on walks as (walks, layers), -1 where there are fewer.

        Walk number n starts at unit n modulo the number of units. Weights are numbered from the
        offset of their layer; those of a layer without one are not listed.
        """
        start = 0 if forward else len(self._sites) - 1
        at = np.full(len(numbers), start)
        units = numbers % self._sites[start].units
        visits = np.full((len(numbers), self._depth), -1)
        steps = np.zeros(len(numbers), dtype=np.int64)
        for index in self._order(forward):
            here = np.flatnonzero(at == index)
            site = self._sites[index]
            if len(here) == 0:
                continue
            if site.parameter:
                units[here], visited = self._step(site, units[here], forward, generator)
                if site.parameter in self._offsets:
                    visits[here, steps[here]] = visited + self._offsets[site.parameter]
                    steps[here] += 1
            if forward and self._targets[index]:
                targets, offsets = np.array(self._targets[index]).T
                chosen = generator.integers(len(targets), size=len(here))
                at[here], units[here] = targets[chosen], units[here] + offsets[chosen]
            elif not forward and site.sources:
                sources, offsets = np.array(site.sources), np.array(site.offsets)
                if offsets.any():
                    chosen = np.searchsorted(offsets, units[here], side="right") - 1
                else:
                    chosen = generator.integers(len(sources), size=len(here))
                at[here], units[here] = sources[chosen], units[here] - offsets[chosen]
        return visits

    def expected_visits(self) -> dict[str, np.ndarray]:
        """Return per layer the flat mean number of visits of a walk, over both directions."""
        visits = {name: np.zeros(1) for name in self._layers}
        for forward in (True, False):
            mass = [np.zeros(self._arriving(site, forward)) for site in self._sites]
            start = mass[0 if forward else -1]
            start += 0.5 / len(start)
            for index in self._order(forward):
                site, here = self._sites[index], mass[index]
                if site.parameter:
                    here, visited = self._spread(site, here, forward)
                    visits[site.parameter] = visits[site.parameter] + visited
                targets = self._targets[index] if forward else ()
                for target, offset in targets:
                    mass[target][offset : offset + len(here)] += here / len(targets)
                sources = () if forward else site.sources
                shared = 1 if any(site.offsets) else len(sources)
                for source, offset in zip(sources, site.offsets, strict=False):
                    mass[source] += here[offset : offset + len(mass[source])] / shared
        return visits

    def _order(self, forward: bool) -> range:
        return range(len(self._sites)) if forward else range(len(self._sites) - 1, -1, -1)

    def _arriving(self, site: Site, forward: bool) -> int:
        if forward and site.parameter:
            return self._layers[site.parameter].inputs // site.block
        return site.units

    def _step(
        self, site: Site, units: np.ndarray, forward: bool, generator: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        layer, draws = self._layers[site.parameter], generator.random(len(units))
        if forward:
            within = generator.integers(site.block, size=len(units))
            return layer.forward_step(units * site.block + within, draws)
        inputs, visited = layer.backward_step(units, draws)
        return inputs // site.block, visited

    def _spread(self, site: Site, mass: np.ndarray, forward: bool) -> tuple[np.ndarray, np.ndarray]:
        layer = self._layers[site.parameter]
        if forward:
            return layer.forward_spread(np.repeat(mass / site.block, site.block))
        inputs, visited = layer.backward_spread(mass)
        return inputs.reshape(-1, site.block).sum(axis=1), visited


def _magnitudes(weight: Tensor) -> np.ndarray:
    magnitudes = weight.detach().cpu().to(torch.float64).abs().numpy()
    return magnitudes.reshape(*magnitudes.shape[:2], -1)


def _by_input(kernels: np.ndarray, groups: int) -> np.ndarray:
    """Return kernels (out, in / groups, taps) as one row per input, of (out / groups, taps)."""
    outputs, inputs, taps = kernels.shape
    split = kernels.reshape(groups, outputs // groups, inputs, taps)
    return split.transpose(0, 2, 1, 3).reshape(groups * inputs, -1)


def _normalised(rows: np.ndarray) -> np.ndarray:
    """Return rows that sum to 1; rows of zeros become uniform."""
    totals = rows.sum(axis=1, keepdims=True)
    return np.where(totals > 0, rows, 1.0) / np.where(totals > 0, totals, rows.shape[1])
