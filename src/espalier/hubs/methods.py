"""What changes the weights of a sparse perceptron between epochs: SET, CenSET and their controls.

After every epoch but the last a method removes stored weights and grows others at random. SET
removes the weights closest to zero, CenSET all weights of units of low centrality. Each layer
grows back to the number of weights it began with, unless the method says otherwise; a place that
was just cleared may be drawn again.

    set                     both signs lose a share zeta of their weights, thresholds included
    set_pure                SET as on sparse data structures, which removes one weight more
    censet                  units of centrality below mu - k sigma lose all their weights
    censet_fraction         the units of lowest centrality, a fixed fraction of all
    katz, strength          as censet, by Katz centrality and by strength
    accset                  as set, but weights grow back only after an epoch of falling accuracy
    no_readding             as censet, and nothing grows back
    readding_while_sd_falls as censet; weights grow back only after an epoch of falling sigma
    static                  the first places for good
    dense                   all weights, nothing removed
    random                  as many weights of each layer as another run removed, at random
    random_units            as many units of each layer as another run removed, at random

Sources: Mocanu et al. (2018) and its two public codes, the one with masks (set) and the one with
sparse data structures (set_pure); Heath (2021), "Investigating the use of hub neuron
identification for pruning sparse neural networks", algorithm 1 (censet); accset from the words of
that paper on Lapshyna (2020). Inferred: that accset grows back to the first number of weights (the
stored counts of its one published run end at .89 of the first, about two removals of 5 %; if only
the last removal grew back, under a tenth would be left), and that readding_while_sd_falls does
the same.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from espalier.errors import ConfigurationError, TrainingError
from espalier.hubs.centrality import PRESETS, laplacian_centrality
from espalier.hubs.options import (
    BY_CENTRALITY,
    BY_MAGNITUDE,
    BY_THRESHOLD,
    REFERRING,
    MethodOptions,
)
from espalier.hubs.other_centralities import katz, strength
from espalier.hubs.selection import below_sigma, lowest_fraction
from espalier.hubs.sparse_layers import Matrix, SparseLayer, SparsePerceptron
from espalier.hubs.sparse_products import Pattern
from espalier.pruning.rewiring import ceil_count, drop_smallest, floor_count
from espalier.pruning.set import drop
from espalier.seeds import numpy_generator

_PURE_NEW_WEIGHT_SD = 0.1


class NothingRemovedWarning(UserWarning):
    """A threshold that removes no unit: training goes on with the places it has."""


class LayerRemovedWarning(UserWarning):
    """A threshold that removes every unit of a layer that has weights."""


@dataclass(frozen=True)
class Changes:
    """What one update removed and grew, per layer of weights; units per layer of units.

    Attributes:
        units: how many units the rule chose, inputs first.
        edges: how many weights went.
        grown: how many came.
    """

    units: list[int]
    edges: list[int]
    grown: list[int]


def set_kept(values: torch.Tensor, zeta: float, variant: str = "set") -> np.ndarray:
    """Return which weights SET keeps, (edges,) bool.

    Of n weights of a sign "set" removes ceil(zeta n) negative and floor(zeta n) + 1 positive ones,
    those closest to zero. "set_pure" takes the weight nearest to zero for the border between the
    signs: if it is positive, floor(zeta (n - 1)) + 2 positive ones go, else ceil(zeta (n - 1)) + 1
    negative ones, and the other sign as before. Weights of exactly zero go.

    Args:
        values: (edges,) stored weights.
        zeta: share to remove.
        variant: "set" or "set_pure".
    """
    stored = torch.ones(len(values), dtype=torch.bool)
    if variant == "set":
        return drop(values, stored, zeta, "published").numpy()
    positive, negative = values > 0, values < 0
    above, below = int(positive.sum()), int(negative.sum())
    dropped_above, dropped_below = floor_count(zeta, above) + 1, ceil_count(zeta, below)
    if len(values) and float(values[values.abs().argmin()]) > 0:
        dropped_above = floor_count(zeta, above - 1) + 2
    elif below:
        dropped_below = ceil_count(zeta, below - 1) + 1
    kept = drop_smallest(values, positive, dropped_above)
    return (kept | drop_smallest(values, negative, dropped_below)).numpy()


def units_kept(pattern: Pattern, removed_in: np.ndarray, removed_out: np.ndarray) -> np.ndarray:
    """Return which weights stay when units go, (edges,) bool.

    Args:
        pattern: places of the layer.
        removed_in, removed_out: (inputs,) and (outputs,) bool.
    """
    return ~(removed_in[pattern.sources] | removed_out[pattern.targets])


def centralities(weights: Sequence[Matrix], options: MethodOptions) -> list[np.ndarray]:
    """Return the centrality by which a method judges the units, one array per layer of units.

    Katz centrality and strength are of the graph and the signs of the preset.
    """
    preset = PRESETS[options.preset]
    if options.method in ("katz", "strength"):
        measure = katz if options.method == "katz" else strength
        return measure(
            weights,
            graph=preset.graph,
            signed=preset.signed,
            include_output=preset.include_output,
        )
    return laplacian_centrality(weights, preset=options.preset)


def draw_absent(
    pattern: Pattern, kept: np.ndarray, count: int, generator: np.random.Generator
) -> np.ndarray:
    """Return `count` places without a kept weight, each set of them equally likely, ascending.

    All such places are returned if there are fewer. Neither time nor memory depends on the number
    of places.
    """
    present = pattern.positions[kept]
    absent = pattern.inputs * pattern.outputs - len(present)
    ranks = np.sort(generator.choice(absent, min(count, absent), replace=False, shuffle=False))
    # The rank-th absent place has as many present ones before it as have rank or fewer absent
    # ones before them.
    return ranks + np.searchsorted(present - np.arange(len(present)), ranks, side="right")


def rewire(
    layer: SparseLayer,
    kept: np.ndarray,
    budget: int,
    generator: np.random.Generator,
    new_weight_sd: float = 0.0,
    keep_momentum: bool = False,
) -> int:
    """Remove weights of a layer and grow others at random; return how many were grown.

    Args:
        layer: changed in place.
        kept: (edges,) bool.
        budget: weights afterwards; those kept if there are more.
        generator: draws places and values.
        new_weight_sd: standard deviation of new weights; 0 makes them zero.
        keep_momentum: whether kept weights keep their momentum; it starts anew otherwise.
    """
    pattern = layer.pattern
    grown = draw_absent(pattern, kept, max(budget - int(kept.sum()), 0), generator)
    drawn = generator.standard_normal(len(grown), np.float32) * np.float32(new_weight_sd)
    order = np.argsort(np.concatenate([pattern.positions[kept], grown]), kind="stable")
    positions = np.concatenate([pattern.positions[kept], grown])[order]
    stays = torch.from_numpy(kept)
    taken = torch.from_numpy(order)
    values = torch.cat([layer.values[stays], torch.from_numpy(drawn)])[taken]
    old = layer.momenta["values"][stays]
    momentum = torch.cat([old, torch.zeros(len(grown))])[taken] if keep_momentum else None
    if momentum is None:
        momentum = torch.zeros_like(values)
    layer.place(Pattern(pattern.inputs, pattern.outputs, positions), values, momentum)
    return len(grown)


class Evolution:
    """A method at work on one network.

    Args:
        network: changed by `update`.
        options: the method.
        seed: root of the draws.
        reference: per update, what the run that a control repeats removed.

    Attributes:
        notes: texts of the warnings so far.

    Raises:
        ConfigurationError: a control without a reference.
    """

    def __init__(
        self,
        network: SparsePerceptron,
        options: MethodOptions,
        seed: int,
        reference: Sequence[Changes] | None = None,
    ) -> None:
        if options.method in REFERRING and reference is None:
            raise ConfigurationError(
                f"method {options.method!r} repeats the removals of a run: give it as reference"
            )
        self.network = network
        self.options = options
        self.seed = seed
        self._reference = reference or ()
        self._budgets = [layer.pattern.edges for layer in network.layers]
        self._sparse = [not layer.pattern.is_full for layer in network.layers]
        self._last_sd = math.inf
        self._last_accuracy = -math.inf
        self._warned: set[type[Warning]] = set()
        self.notes: list[str] = []

    def update(self, epoch: int, accuracy: float) -> Changes:
        """Remove and grow weights after an epoch.

        Args:
            epoch: number of the epoch, counted from 1.
            accuracy: after the epoch, for the methods that watch it.

        Raises:
            TrainingError: weights are not finite, or a layer is left without any.
        """
        network, method = self.network, self.options.method
        nothing = [np.ones(layer.pattern.edges, bool) for layer in network.layers]
        units = [0] * len(network.sizes)
        if method in ("static", "dense"):
            zeros = [0] * len(network.layers)
            return Changes(units, zeros, list(zeros))
        weights = network.weights()
        generator = numpy_generator(self.seed, "hubs", "evolution", epoch)
        grows = method != "no_readding"
        if method in BY_MAGNITUDE:
            kept = self._by_magnitude()
            if method == "accset":
                grows = accuracy < self._last_accuracy
                self._last_accuracy = accuracy
        elif method in BY_CENTRALITY:
            removed, sd = self._units_by_centrality(weights)
            units = [int(mask.sum()) for mask in removed]
            kept = self._without_units(removed)
            if method == "readding_while_sd_falls":
                grows = sd < self._last_sd
                self._last_sd = sd
        elif method == "random":
            kept = self._random_edges(epoch, generator)
        else:
            removed = self._random_units(epoch, generator)
            units = [int(mask.sum()) for mask in removed]
            kept = self._without_units(removed)
        kept = [
            mask if sparse else whole
            for mask, whole, sparse in zip(kept, nothing, self._sparse, strict=True)
        ]
        return self._apply(epoch, units, kept, grows, generator)

    def _apply(
        self,
        epoch: int,
        units: list[int],
        kept: Sequence[np.ndarray],
        grows: bool,
        generator: np.random.Generator,
    ) -> Changes:
        pure = self.options.method == "set_pure"
        edges, grown = [], []
        for number, (layer, mask) in enumerate(zip(self.network.layers, kept, strict=True), 1):
            gone = int((~mask).sum())
            left = layer.pattern.edges - gone
            budget = self._budgets[number - 1] if grows else left
            if not max(budget, left):
                raise TrainingError(
                    f"after epoch {epoch} {self._rule()} leaves layer {number} without a weight, "
                    "and nothing grows back; use a larger k"
                )
            edges.append(gone)
            if not pure:
                # The published code with masks compiles a new optimiser after every epoch.
                for momentum in layer.momenta.values():
                    momentum.zero_()
            if gone or budget > left:
                sd = _PURE_NEW_WEIGHT_SD if pure else 0.0
                grown.append(rewire(layer, mask, budget, generator, sd, keep_momentum=pure))
            else:
                grown.append(0)
        return Changes(units, edges, grown)

    def _rule(self) -> str:
        options = self.options
        if options.method in BY_THRESHOLD:
            return f"method {options.method!r} with k = {options.k:g}"
        return f"method {options.method!r}"

    def _by_magnitude(self) -> list[np.ndarray]:
        variant = "set_pure" if self.options.method == "set_pure" else "set"
        return [set_kept(layer.values, self.options.zeta, variant) for layer in self.network.layers]

    def _units_by_centrality(self, weights: Sequence[Matrix]) -> tuple[list[np.ndarray], float]:
        options = self.options
        values = centralities(weights, options)
        if options.k is not None:
            choose, level = below_sigma, options.k
        else:
            choose, level = lowest_fraction, options.fraction or 0.0
        sizes = self.network.sizes
        removal = choose(
            values,
            level,
            options.population,
            layers=range(len(sizes) - 1),
            allow_empty_layers=True,
        )
        # Some graphs leave the output units out; they count for mu and sigma only, if at all.
        removed = [*removal.removed[: len(sizes) - 1], np.zeros(sizes[-1], bool)]
        if not removal.count:
            self._warn(
                NothingRemovedWarning,
                f"{self._rule()} removes no unit; while that is so, training is that of static "
                "places. Lower k, or use censet_fraction",
            )
        if removal.emptied:
            self._warn(
                LayerRemovedWarning,
                f"{self._rule()} removes every unit of layer {removal.emptied[0]} (0 is the "
                "inputs); raise k",
            )
        return removed, float(np.std(np.concatenate(values)))

    def _warn(self, category: type[Warning], message: str) -> None:
        if category not in self._warned:
            self._warned.add(category)
            self.notes.append(message)
            warnings.warn(message, category, stacklevel=4)

    def _without_units(self, removed: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [
            units_kept(layer.pattern, removed[number], removed[number + 1])
            for number, layer in enumerate(self.network.layers)
        ]

    def _reference_at(self, epoch: int) -> Changes:
        if not 1 <= epoch <= len(self._reference):
            raise ConfigurationError(
                f"the reference has {len(self._reference)} updates, and update {epoch} was asked "
                "for; train it for as many epochs"
            )
        return self._reference[epoch - 1]

    def _random_edges(self, epoch: int, generator: np.random.Generator) -> list[np.ndarray]:
        counts = self._reference_at(epoch).edges
        return [
            ~_random_mask(layer.pattern.edges, count, generator)
            for layer, count in zip(self.network.layers, counts, strict=True)
        ]

    def _random_units(self, epoch: int, generator: np.random.Generator) -> list[np.ndarray]:
        counts = self._reference_at(epoch).units
        return [
            _random_mask(size, count, generator)
            for size, count in zip(self.network.sizes, counts, strict=True)
        ]


def _random_mask(size: int, count: int, generator: np.random.Generator) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[generator.choice(size, min(count, size), replace=False, shuffle=False)] = True
    return mask


def changes_of(records: Sequence[Mapping[str, Any]]) -> list[Changes]:
    """Return the changes of a run from its epochs' records; epoch 0 has none."""
    return [Changes(**record["changes"]) for record in records if record.get("changes")]
