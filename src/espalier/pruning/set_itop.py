"""SET-ITOP: drop the smallest weights, grow at random, rarely, to the end of training.

Every `period` steps each layer loses the weights of at most the ceil(rate * n)-th smallest of its n
kept magnitudes, and gains as many at random positions. New weights and their momenta start at zero;
a weight that was just dropped may return with both. The rate falls along a cosine to 0.005 at the
last step.

The share of weights that were ever kept (R_s) is the in-time over-parameterisation rate.

Source: Liu, Yin, Mocanu and Pechenizkiy (2021), "Do we actually need dense over-parameterization?
In-time over-parameterization in sparse training", and its public code, which draws each position
independently, so that the number of weights drifts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from espalier.pruning.contract import Request
from espalier.pruning.during import Horizon, LiveTensors
from espalier.pruning.option_checks import require_one_of, require_period, require_share
from espalier.pruning.rewiring import (
    TOPOLOGIES,
    Draw,
    Rewired,
    Rewiring,
    bernoulli_draw,
    ceil_count,
    cosine_rate,
    drop_up_to_kth_smallest,
    exact_draw,
    initial_masks,
    kept_counts,
)
from espalier.seeds import torch_generator

WHEN = "during"

_RATE_FLOOR = 0.005


@dataclass(frozen=True)
class Options:
    """Options of SET-ITOP.

    Attributes:
        initial: densities of the first masks, "erk", "er" or "uniform".
        rate: share of a layer's weights replaced at first; falls along a cosine.
        period: steps between updates, or "epoch".
        growth: "random" grows exactly as many as were dropped; "random_unfired" does so and takes
            weights that were never kept first; "random_bernoulli" grows each position with the same
            probability, as the published code does, so that the number of weights drifts.
    """

    initial: str = "erk"
    rate: float = 0.5
    period: int | str = 1500
    growth: str = "random"

    def __post_init__(self) -> None:
        require_one_of("initial", self.initial, TOPOLOGIES)
        require_share("rate", self.rate)
        require_period(self.period)
        require_one_of("growth", self.growth, ("random", "random_unfired", "random_bernoulli"))


def rewire(
    weights: Mapping[str, Tensor],
    masks: Mapping[str, Tensor],
    rate: float,
    draw: Draw,
    fired: Mapping[str, Tensor] | None = None,
) -> Rewired:
    """Return the masks after one update.

    Args:
        weights, masks: per parameter, of one shape.
        rate: share of each layer's weights to replace.
        draw: chooses the positions that grow.
        fired: the weights that were ever kept; given them, others grow first.
    """
    surviving, grown = {}, {}
    for name, kept in kept_counts(masks).items():
        mask = drop_up_to_kth_smallest(weights[name], masks[name], ceil_count(rate, kept))
        surviving[name] = mask
        wanted = kept - int(mask.sum())
        if fired is not None:
            unfired = ~fired[name] & ~mask
            mask = mask | draw(unfired, wanted)
            wanted -= int(unfired.sum())
        grown[name] = mask | draw(~mask, wanted) if wanted > 0 else mask
    return Rewired(surviving, grown)


class SetItop(Rewiring):
    """The masks of SET-ITOP.

    Attributes:
        fired: the weights that were ever kept.
    """

    def __init__(
        self, masks: Mapping[str, Tensor], options: Options, horizon: Horizon, seed: int
    ) -> None:
        super().__init__("set_itop", masks, horizon, seed, options.period)
        self.options = options
        self.fired = {name: mask.clone() for name, mask in self.masks.items()}

    @property
    def exploration_rate(self) -> float:
        """Share of all weights that were ever kept (R_s)."""
        total = sum(mask.numel() for mask in self.fired.values())
        return sum(kept_counts(self.fired).values()) / total

    def rewired(self, step: int, tensors: LiveTensors) -> Rewired:
        """Return the masks that the weights of this step and the draws give."""
        self.fired = {name: mask.to(self.masks[name].device) for name, mask in self.fired.items()}
        growth = self.options.growth
        rate = cosine_rate(self.options.rate, step + 1, self.horizon.steps, _RATE_FLOOR)
        generator = torch_generator(self.seed, self.algorithm, "growth", step)
        draw = (bernoulli_draw if growth == "random_bernoulli" else exact_draw)(generator)
        fired = self.fired if growth == "random_unfired" else None
        rewired = rewire(tensors.weights, self.masks, rate, draw, fired)
        self.fired = {name: mask | rewired.masks[name] for name, mask in self.fired.items()}
        return rewired

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the masks under `mask/{name}` and the weights ever kept under `fired/{name}`."""
        tensors, values = super().state()
        fired = {f"fired/{name}": mask.cpu() for name, mask in self.fired.items()}
        return tensors | fired, values

    def restore(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Go on from what `state` returned.

        Raises:
            DataError: the state lacks a mask or holds one of another shape.
        """
        super().restore(tensors, values)
        self.fired = self.restored("fired", tensors)


def prune(request: Request, sparsity: float, options: Options) -> dict[str, Tensor]:
    """Return the random masks that training starts with, exact in total."""
    return initial_masks("set_itop", request.parameters, sparsity, options.initial, request.seed)


def dynamics(
    masks: Mapping[str, Tensor], sparsity: float, options: Options, horizon: Horizon, seed: int
) -> SetItop:
    """Return what changes the masks during training."""
    return SetItop(masks, options, horizon, seed)
