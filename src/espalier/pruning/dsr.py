"""Dynamic sparse reparameterisation: one adaptive threshold for all layers, random growth.

At each update every kept weight with |w| < H goes, but a layer that would be emptied keeps its
largest one. The threshold H then halves where more than 1.1 Np weights went and doubles where fewer
than 0.9 Np did. As many weights grow, at zero, at random positions that were free before the
update; a layer's share of them is its share of the surviving weights, rounded, and what rounding
leaves over goes to layers drawn at random.

Source: Mostafa and Wang (2019), "Parameter efficient training of deep convolutional neural networks
by dynamic sparse reparameterization", algorithm 1, and its public code.

The rule "dettmers_global_magnitude" is the port that published comparisons used. It searches for a
threshold that removes ceil(rate * kept) weights to 2 %, and stops searching once two tries in a row
remove the same number, so that it may remove next to nothing. A layer's share of the growth is its
share of the weights before the drop; a weight that was just dropped may return. No layer is
protected.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from espalier.errors import ConfigurationError
from espalier.pruning.contract import Request
from espalier.pruning.during import Horizon, LiveTensors
from espalier.pruning.option_checks import require_one_of, require_period, require_share
from espalier.pruning.rewiring import (
    TOPOLOGIES,
    AdjustedGrowth,
    Draw,
    Rewired,
    Rewiring,
    bernoulli_draw,
    ceil_count,
    cosine_rate,
    exact_draw,
    exact_growth,
    initial_masks,
    kept_counts,
    normalised,
    stored_value,
)
from espalier.pruning.selection import largest
from espalier.seeds import torch_generator

WHEN = "during"

PORT = "dettmers_global_magnitude"

# WRN-28-2 at sparsity 0.9 in the original: 20,000 of the 145,152 weights of its sparse layers.
_ORIGINAL_RATE = 20_000 / 145_152
_PORT_RATE = 0.3
_PORT_RATE_FLOOR = 0.005
_TOLERANCE = 0.02
_ROUNDING = 1e-9
# (share of training up to which, period in steps), from epochs 25, 80, 140 and 190 of 200.
_GROWING_PERIODS = ((0.125, 100), (0.4, 200), (0.7, 400), (0.95, 800))


@dataclass(frozen=True)
class Options:
    """Options of dynamic sparse reparameterisation.

    Attributes:
        initial: densities of the first masks, "uniform", "er" or "erk".
        rule: "original", or the port "dettmers_global_magnitude".
        threshold: the first threshold.
        rate: share of all kept weights to replace per update, by default 0.138 (Np of WRN-28-2 in
            the original) and 0.3 in the port, where it falls along a cosine to 0.005.
        period: steps between updates, or "epoch", or "growing": 100 steps in the first eighth of
            training, then 200 to 0.4, 400 to 0.7 and 800 to 0.95 of it. No update comes after 0.95.
        counts: of the port; "exact" keeps the total, "published" rounds and draws as its code does,
            so that the total drifts.
    """

    initial: str = "uniform"
    rule: str = "original"
    threshold: float = 1e-3
    rate: float | None = None
    period: int | str = "growing"
    counts: str = "exact"

    def __post_init__(self) -> None:
        require_one_of("initial", self.initial, TOPOLOGIES)
        require_one_of("rule", self.rule, ("original", PORT))
        if not 0 < self.threshold < math.inf:
            raise ConfigurationError(
                f"threshold is {self.threshold}; it doubles and halves, so it must be positive"
            )
        if self.rate is not None:
            require_share("rate", self.rate)
        require_period(self.period, ("epoch", "growing"))
        require_one_of("counts", self.counts, ("exact", "published"))
        if self.counts == "published" and self.rule == "original":
            raise ConfigurationError(
                f"counts 'published' belongs to rule {PORT!r}; the original's total is exact"
            )


class Search(NamedTuple):
    """Where a search for a threshold stands.

    Attributes:
        threshold: weights above it stay.
        increment: relative size of the next change.
    """

    threshold: float
    increment: float


def drop_below(
    weights: Mapping[str, Tensor], masks: Mapping[str, Tensor], threshold: float
) -> dict[str, Tensor]:
    """Return the masks without weights of |w| < threshold; no layer is emptied."""
    surviving = {}
    for name, mask in masks.items():
        magnitudes = weights[name].abs()
        left = mask & (magnitudes >= threshold)
        if bool(mask.any()) and not bool(left.any()):
            left = largest(torch.where(mask, magnitudes, -1), 1)
        surviving[name] = left
    return surviving


def adapted_threshold(threshold: float, removed: int, target: float) -> float:
    """Return half the threshold if over 1.1 target went, twice it if under 0.9 target did."""
    if removed > 1.1 * target:
        return threshold / 2
    if removed < 0.9 * target:
        return threshold * 2
    return threshold


def growth_counts(
    surviving: Mapping[str, Tensor],
    capacities: Mapping[str, int],
    total: int,
    generator: torch.Generator,
) -> dict[str, int]:
    """Return how many weights each layer grows, `total` in all as far as there is room.

    Args:
        surviving: masks after the drop; a layer's share is its share of their weights.
        capacities: free positions of each layer.
        total: weights to grow.
        generator: draws the layers that take what rounding leaves over.
    """
    kept = kept_counts(surviving)
    shares = normalised(kept, capacities)
    counts = {name: min(round(shares[name] * total), capacities[name]) for name in kept}
    total = min(total, sum(capacities.values()))
    while missing := total - sum(counts.values()):
        if missing > 0:
            room = {name: capacities[name] - count for name, count in counts.items()}
        else:
            room = counts
        eligible = [name for name, places in room.items() if places > 0]
        name = eligible[int(torch.randint(len(eligible), (), generator=generator))]
        counts[name] += int(math.copysign(min(abs(missing), room[name]), missing))
    return counts


def rewire(
    weights: Mapping[str, Tensor],
    masks: Mapping[str, Tensor],
    threshold: float,
    generator: torch.Generator,
    draw: Draw,
) -> Rewired:
    """Return the masks after one update of the original rule; the total stays.

    Positions of weights that have just gone grow only where nothing else is free in any layer.

    Args:
        weights, masks: per parameter, of one shape.
        threshold: kept weights of smaller magnitude go.
        generator: draws the layers that take what rounding leaves over.
        draw: chooses the positions that grow.
    """
    surviving = drop_below(weights, masks, threshold)
    grown = dict(surviving)
    missing = sum(kept_counts(masks).values()) - sum(kept_counts(surviving).values())
    for free in (
        {name: ~mask for name, mask in masks.items()},
        {name: masks[name] & ~mask for name, mask in surviving.items()},
    ):
        growth = growth_counts(surviving, kept_counts(free), missing, generator)
        grown = {name: mask | draw(free[name], growth[name]) for name, mask in grown.items()}
        missing -= sum(growth.values())
    return Rewired(surviving, grown)


def search_threshold(magnitudes: Tensor, target: int, start: Search) -> Search:
    """Return the threshold that removes `target` weights to 2 %, or where the port gives up.

    Args:
        magnitudes: (kept weights of all layers,).
        target: weights to remove.
        start: where the last search ended.
    """
    threshold, increment = start
    low, high = target * (1.0 - _TOLERANCE), target * (1.0 + _TOLERANCE)
    removed, previous = 0, 0
    while not low <= removed <= high:
        removed = int((magnitudes <= threshold).sum())
        if removed == previous:
            break
        previous = removed
        if not low <= removed <= high:
            threshold *= 1.0 + increment if removed < low else 1.0 - increment
            increment *= 0.99
    return Search(threshold, increment)


def rewire_port(
    weights: Mapping[str, Tensor],
    masks: Mapping[str, Tensor],
    rate: float,
    start: Search,
    draw: Draw,
    adjusted: AdjustedGrowth | None = None,
) -> tuple[Rewired, Search]:
    """Return the masks after one update of the port, and where its search ended.

    Args:
        weights, masks: per parameter, of one shape.
        rate: share of all weights to replace.
        start: where the last search ended.
        draw: chooses the positions that grow.
        adjusted: given it, growth follows the published counts; otherwise the total stays.
    """
    kept = kept_counts(masks)
    total = sum(kept.values())
    baseline = total if adjusted is None else adjusted.target
    active = torch.cat([weights[name][mask].abs() for name, mask in masks.items()])
    end = search_threshold(active, math.ceil(rate * baseline - _ROUNDING), start)
    surviving = {name: mask & (weights[name].abs() > end.threshold) for name, mask in masks.items()}
    shares = normalised(
        {name: int((weights[name][mask] != 0).sum()) for name, mask in masks.items()}, kept
    )
    if adjusted is None:
        growth = exact_growth(shares, masks, surviving)
    else:
        removed = total - sum(kept_counts(surviving).values())
        removals = {name: ceil_count(rate, count) for name, count in kept.items()}
        scale = removed / (baseline * rate) if rate > 0 else 0.0
        growth = adjusted.counts(shares, removed, removals, masks, scale)
    grown = {name: mask | draw(~mask, growth[name]) for name, mask in surviving.items()}
    return Rewired(surviving, grown), end


class Dsr(Rewiring):
    """The masks of dynamic sparse reparameterisation.

    Attributes:
        search: the threshold, and the increment of the port's search.
    """

    def __init__(
        self,
        masks: Mapping[str, Tensor],
        sparsity: float,
        options: Options,
        horizon: Horizon,
        seed: int,
    ) -> None:
        period = 1 if options.period == "growing" else options.period
        super().__init__("dsr", masks, horizon, seed, period)
        self.options = options
        default = _ORIGINAL_RATE if options.rule == "original" else _PORT_RATE
        self.rate = default if options.rate is None else options.rate
        self.search = Search(options.threshold, 0.2)
        self.adjusted = None
        if options.counts == "published":
            total = sum(mask.numel() for mask in self.masks.values())
            self.adjusted = AdjustedGrowth((1 - sparsity) * total)

    def due(self, step: int) -> bool:
        """Return whether step `step`, counted from 0, completes a period of the schedule."""
        completed = step + 1
        growing = self.options.period == "growing"
        for end, period in _GROWING_PERIODS:
            if completed < end * self.horizon.steps:
                return completed % (period if growing else self.period) == 0
        return False

    def rewired(self, step: int, tensors: LiveTensors) -> Rewired:
        """Return the masks that the weights of this step, the threshold and the draws give."""
        generator = torch_generator(self.seed, self.algorithm, "growth", step)
        weights = {name: tensors.weights[name] for name in self.masks}
        if self.options.rule == PORT:
            draw = (exact_draw if self.adjusted is None else bernoulli_draw)(generator)
            rate = cosine_rate(self.rate, step + 1, self.horizon.steps, _PORT_RATE_FLOOR)
            rewired, self.search = rewire_port(
                weights, self.masks, rate, self.search, draw, self.adjusted
            )
            if self.adjusted is not None:
                self.adjusted.record(sum(kept_counts(rewired.masks).values()))
            return rewired
        rewired = rewire(
            weights, self.masks, self.search.threshold, generator, exact_draw(generator)
        )
        removed = self.budget - sum(kept_counts(rewired.surviving).values())
        target = self.rate * self.budget
        threshold = adapted_threshold(self.search.threshold, removed, target)
        self.search = self.search._replace(threshold=threshold)
        return rewired

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the masks under `mask/{name}`, the search and what corrects the growth."""
        tensors, values = super().state()
        values |= self.search._asdict()
        return tensors, values | ({} if self.adjusted is None else self.adjusted.state())

    def restore(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Go on from what `state` returned.

        Raises:
            DataError: the state lacks a mask or a value, or holds a mask of another shape.
        """
        super().restore(tensors, values)
        self.search = Search(stored_value("threshold", values), stored_value("increment", values))
        if self.adjusted is not None:
            self.adjusted.restore(values)


def prune(request: Request, sparsity: float, options: Options) -> dict[str, Tensor]:
    """Return the random masks that training starts with, exact in total."""
    return initial_masks("dsr", request.parameters, sparsity, options.initial, request.seed)


def dynamics(
    masks: Mapping[str, Tensor], sparsity: float, options: Options, horizon: Horizon, seed: int
) -> Dsr:
    """Return what changes the masks during training."""
    return Dsr(masks, sparsity, options, horizon, seed)
