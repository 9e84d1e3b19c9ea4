"""What the methods that rewire a sparse network during training share.

A method drops some of the kept weights, then grows as many elsewhere. Its rule is a pure function
from plain tensors to `Rewired`, the masks after the drop and after the growth. `Rewiring` is the
bookkeeping around such a rule that `espalier.pruning.during.Dynamics` asks for.

Every draw comes from a stream named by (seed, algorithm, step), made on the CPU: a resumed run, or
one on another device, draws the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from espalier.errors import DataError
from espalier.pruning.densities import (
    er_densities,
    erk_densities,
    keep_counts,
    random_masks,
    uniform_densities,
)
from espalier.pruning.during import Horizon, LiveTensors
from espalier.pruning.selection import apportion, largest, require_finite
from espalier.seeds import torch_generator

# Guards floor and ceil of rate * count against products such as 0.07 * 100 = 7.000000000000001.
_ROUNDING = 1e-9

TOPOLOGIES = {"er": er_densities, "erk": erk_densities, "uniform": uniform_densities}
"""Layer densities that the first masks may have."""

Draw = Callable[[Tensor, int], Tensor]
"""Takes a mask of free positions and a count; returns the mask of the positions drawn."""


class Rewired(NamedTuple):
    """The masks of one update.

    Attributes:
        surviving: per parameter, the kept weights that the drop left.
        masks: per parameter, `surviving` and what has grown.
    """

    surviving: dict[str, Tensor]
    masks: dict[str, Tensor]


def cosine_rate(initial: float, step: int, steps: int, floor: float = 0.0) -> float:
    """Return a rate that falls along half a cosine from `initial` at step 0 to `floor` at `steps`.

    rate = floor + (initial - floor) / 2 * (1 + cos(pi * step / steps)); `floor` after `steps`.
    An initial rate below the floor stays as it is.

    Source: Dettmers and Zettlemoyer (2019), with floor 0.005; Evci et al. (2020), equation 1, with
    floor 0.
    """
    floor = min(floor, initial)
    if step >= steps:
        return floor
    return floor + (initial - floor) / 2 * (1 + math.cos(math.pi * step / steps))


def floor_count(rate: float, count: int) -> int:
    """Return floor(rate * count), safe from floating-point products just below an integer."""
    return math.floor(rate * count + _ROUNDING)


def ceil_count(rate: float, count: int) -> int:
    """Return ceil(rate * count), safe from floating-point products just above an integer."""
    return math.ceil(rate * count - _ROUNDING)


def drop_smallest(weights: Tensor, mask: Tensor, count: int) -> Tensor:
    """Return `mask` without its `count` weights of smallest magnitude; equal ones go from the last.

    Args:
        weights, mask: of one shape; weights outside the mask do not matter.
        count: how many go; all of them if it exceeds the kept weights.
    """
    magnitudes = torch.where(mask, weights.abs(), -1)
    return largest(magnitudes, max(int(mask.sum()) - count, 0))


def drop_up_to_kth_smallest(weights: Tensor, mask: Tensor, count: int) -> Tensor:
    """Return `mask` without all weights of at most the `count`-th smallest kept magnitude.

    Weights equal to the threshold go too, so that more than `count` go where many are exactly zero.
    """
    magnitudes = weights.abs()
    kept = magnitudes[mask]
    if count < 1 or kept.numel() == 0:
        return mask.clone()
    threshold = kept.sort().values[min(count, kept.numel()) - 1]
    return mask & (magnitudes > threshold)


def grow_largest(scores: Tensor, mask: Tensor, count: int) -> Tensor:
    """Return `mask` with the `count` positions outside it of largest |score|, ties by index.

    All positions are in the result if `count` exceeds the free ones.
    """
    free = mask.numel() - int(mask.sum())
    return mask | largest(torch.where(mask, -1, scores.abs()), min(count, free))


def exact_draw(generator: torch.Generator) -> Draw:
    """Return a draw of exactly `count` free positions (all of them if there are fewer)."""

    def draw(free: Tensor, count: int) -> Tensor:
        positions = free.reshape(-1).nonzero().flatten()
        order = torch.randperm(len(positions), generator=generator)[:count]
        drawn = torch.zeros(free.numel(), dtype=torch.bool, device=free.device)
        drawn[positions[order.to(free.device)]] = True
        return drawn.reshape(free.shape)

    return draw


def bernoulli_draw(generator: torch.Generator) -> Draw:
    """Return a draw of each free position with probability count / free: the count varies."""

    def draw(free: Tensor, count: int) -> Tensor:
        available = int(free.sum())
        if available == 0:
            return torch.zeros_like(free)
        uniform = torch.rand(free.shape, generator=generator).to(free.device)
        return free & (uniform < count / available)

    return draw


def spread_excess(desired: Mapping[str, float], limits: Mapping[str, float]) -> dict[str, float]:
    """Cap each layer's share at its limit and spread what is over equally over the others.

    Args:
        desired: non-negative share of each layer.
        limits: largest share of each layer.

    Returns:
        Shares within the limits, with the sum of `desired` or of `limits`, whichever is smaller.

    Source: Dettmers and Zettlemoyer (2019), their public code.
    """
    shares = dict(desired)
    while True:
        excess = sum(max(share - limits[name], 0.0) for name, share in shares.items())
        shares = {name: min(share, limits[name]) for name, share in shares.items()}
        room = [name for name, share in shares.items() if share < limits[name]]
        if not room or excess <= _ROUNDING:
            return shares
        for name in room:
            shares[name] += excess / len(room)


def normalised(values: Mapping[str, float], otherwise: Mapping[str, int]) -> dict[str, float]:
    """Return values divided by their sum; where that is zero, `otherwise` divided by its sum."""
    total = sum(values.values())
    if total > 0:
        return {name: value / total for name, value in values.items()}
    fallback = sum(otherwise.values()) or 1
    return {name: otherwise[name] / fallback for name in values}


def kept_counts(masks: Mapping[str, Tensor]) -> dict[str, int]:
    """Return the number of kept weights per parameter."""
    return {name: int(mask.sum()) for name, mask in masks.items()}


def exact_growth(
    shares: Mapping[str, float],
    masks: Mapping[str, Tensor],
    surviving: Mapping[str, Tensor],
    fullest: float = 1.0,
) -> dict[str, int]:
    """Return how many weights each layer grows so that the total is as before the drop.

    Args:
        shares: share of each layer, summing to 1.
        masks, surviving: masks before and after the drop.
        fullest: largest part of its free positions that a layer grows, unless the total needs more.
    """
    before, after = kept_counts(masks), kept_counts(surviving)
    total = sum(before.values()) - sum(after.values())
    free = {name: masks[name].numel() - count for name, count in after.items()}
    limits = {name: fullest * places for name, places in free.items()}
    if sum(limits.values()) < total:
        limits = {name: float(places) for name, places in free.items()}
    desired = {name: share * total for name, share in shares.items()}
    return apportion(spread_excess(desired, limits), total, free)


class AdjustedGrowth:
    """The running correction by which sparse momentum steers the total towards its target.

    correction <- 0.25 * correction + 0.75 * residual + mean of all residuals so far, where a
    residual is target - kept weights after an update.

    Source: Dettmers and Zettlemoyer (2019), their public code.
    """

    def __init__(self, target: float) -> None:
        self.target = target
        self.correction = 0.0
        self.residuals: list[float] = []

    def record(self, kept: int) -> None:
        """Take note of the number of weights that an update kept."""
        residual = self.target - kept
        self.residuals.append(residual)
        mean = sum(self.residuals) / len(self.residuals)
        self.correction = 0.25 * self.correction + 0.75 * residual + mean

    def counts(
        self,
        shares: Mapping[str, float],
        removed: int,
        removals: Mapping[str, int],
        masks: Mapping[str, Tensor],
        scale: float = 1.0,
    ) -> dict[str, int]:
        """Return how many weights each layer grows; their sum may differ from `removed`.

        Args:
            shares: share of each layer, summing to 1.
            removed: weights that were dropped in all.
            removals: weights that each layer was to drop.
            masks: the masks before the drop.
            scale: factor on every layer's growth, before it is rounded down.
        """
        total = max(removed + self.correction, 0.0)
        desired = {name: float(math.ceil(share * total)) for name, share in shares.items()}
        free = {name: mask.numel() - int(mask.sum()) for name, mask in masks.items()}
        limits = {name: 0.99 * (free[name] + removals[name]) for name in desired}
        spread = spread_excess(desired, limits)
        return {name: math.floor(scale * share) for name, share in spread.items()}

    def state(self) -> dict[str, Any]:
        """Return the JSON values that `restore` needs."""
        return {"correction": self.correction, "residuals": list(self.residuals)}

    def restore(self, values: Mapping[str, Any]) -> None:
        """Go on from what `state` returned.

        Raises:
            DataError: a value is missing.
        """
        self.correction = stored_value("correction", values)
        self.residuals = list(stored_value("residuals", values))


class Rewiring:
    """A `Dynamics` whose masks change at regular steps by a rule that subclasses give.

    Attributes:
        masks: the masks in force.
        masks_momentum: whether the loop zeroes the momenta of removed weights.
        replaces_step: whether an update takes the place of the optimiser's step.
        returned_restart: whether a weight that is dropped and grown by one update starts anew;
            otherwise it keeps its value and momentum.
        new_weight_sd: standard deviation of the values of new weights; 0 makes them zero.
    """

    masks_momentum = True
    replaces_step = False
    returned_restart = False
    new_weight_sd = 0.0

    def __init__(
        self,
        algorithm: str,
        masks: Mapping[str, Tensor],
        horizon: Horizon,
        seed: int,
        period: int | str,
    ) -> None:
        self.algorithm = algorithm
        self.masks = {name: mask.to(torch.bool) for name, mask in masks.items()}
        self.horizon = horizon
        self.seed = seed
        self.period = horizon.steps_per_epoch if period == "epoch" else int(period)
        self.budget = sum(kept_counts(self.masks).values())

    def due(self, step: int) -> bool:
        """Return whether step `step`, counted from 0, completes a period.

        The last step never does: what it grew would not be trained.
        """
        completed = step + 1
        return completed % self.period == 0 and completed < self.horizon.steps

    def rewired(self, step: int, tensors: LiveTensors) -> Rewired:
        """Return the new masks; weights and momenta are left alone."""
        raise NotImplementedError

    @torch.no_grad()
    def update(self, step: int, tensors: LiveTensors) -> None:
        """Rewire: dropped weights and their momenta become zero, new ones get their first value.

        Raises:
            DataError: a weight is not finite.
        """
        before = {
            name: mask.to(tensors.weights[name].device, non_blocking=True)
            for name, mask in self.masks.items()
        }
        self.masks = before
        require_finite({name: tensors.weights[name] for name in before})
        surviving, after = self.rewired(step, tensors)
        values = torch_generator(self.seed, self.algorithm, "new weights", step)
        for name, mask in after.items():
            origin = surviving[name] if self.returned_restart else before[name]
            started = mask & ~origin
            weights = tensors.weights[name].detach()
            weights.masked_fill_(~mask | started, 0)
            if self.new_weight_sd > 0:
                drawn = torch.randn(int(started.sum()), generator=values) * self.new_weight_sd
                weights[started] = drawn.to(weights)
            if self.masks_momentum and name in tensors.momenta:
                tensors.momenta[name].detach().masked_fill_(~mask | started, 0)
        self.masks = after

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the masks under `mask/{name}`, and no values."""
        return {f"mask/{name}": mask.cpu() for name, mask in self.masks.items()}, {}

    def restore(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Go on from what `state` returned.

        Raises:
            DataError: the state lacks a mask or holds one of another shape.
        """
        self.masks = self.restored("mask", tensors)

    def restored(self, kind: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the boolean tensors stored under `{kind}/{name}` for every mask.

        Raises:
            DataError: one is missing or of another shape.
        """
        found = {}
        for name, mask in self.masks.items():
            key = f"{kind}/{name}"
            if key not in tensors or tensors[key].shape != mask.shape:
                raise DataError(
                    f"the state of {self.algorithm} has no {key} of shape {tuple(mask.shape)}; "
                    "it belongs to another network or algorithm"
                )
            found[name] = tensors[key].to(mask.device, torch.bool)
        return found


def stored_value(key: str, values: Mapping[str, Any]) -> Any:
    """Return a value of a stored state.

    Raises:
        DataError: the state has no such value.
    """
    if key not in values:
        raise DataError(
            f"the stored state of the masks has no {key!r}; it belongs to another algorithm or to "
            "other options"
        )
    return values[key]


def initial_masks(
    algorithm: str, parameters: Mapping[str, Tensor], sparsity: float, topology: str, seed: int
) -> dict[str, Tensor]:
    """Return the random masks that training starts with; in all, `keep_count` weights stay.

    Args:
        algorithm: name of the stream of draws.
        parameters: the weights, in module order; only their shapes matter.
        sparsity: share of weights to remove, in [0, 1).
        topology: how densities differ between layers, one of `TOPOLOGIES`.
        seed: root of the draws.

    Raises:
        ConfigurationError: there are no parameters.
    """
    shapes = {name: tuple(weight.shape) for name, weight in parameters.items()}
    counts = keep_counts(shapes, TOPOLOGIES[topology](shapes, 1 - sparsity), sparsity)
    return random_masks(shapes, counts, seed, algorithm)
