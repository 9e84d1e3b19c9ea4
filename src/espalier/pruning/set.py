"""SET: drop the smallest positive and the largest negative weights, grow at random.

Once per epoch each layer loses a share zeta of its positive weights, those closest to zero, and the
same share of its negative ones, and gains as many at random positions. A kept weight that is
exactly zero has no sign and goes too. A layer that is full has nowhere to grow and stays as it is.

Source: Mocanu, Mocanu, Stone, Nguyen, Gibescu and Liotta (2018), "Scalable training of artificial
neural networks with adaptive sparse connectivity inspired by network science", and its public
codes: the one with a mask starts new weights at 0, the one with sparse data structures draws them
from N(0, 0.1^2).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from espalier.pruning.contract import Request
from espalier.pruning.during import Horizon, LiveTensors
from espalier.pruning.option_checks import require_one_of, require_period, require_share
from espalier.pruning.rewiring import (
    TOPOLOGIES,
    Draw,
    Rewired,
    Rewiring,
    ceil_count,
    drop_smallest,
    exact_draw,
    floor_count,
    initial_masks,
)
from espalier.seeds import torch_generator

WHEN = "during"

_NEW_WEIGHT_SD = {"zero": 0.0, "normal": 0.1}
_COUNTS = ("exact", "published", "itop_library")


@dataclass(frozen=True)
class Options:
    """Options of SET.

    Attributes:
        initial: densities of the first masks, "er", "erk" or "uniform".
        zeta: share of the positive, and of the negative, weights to replace.
        period: steps between updates, or "epoch".
        new_weights: "zero", or "normal" with standard deviation 0.1.
        counts: "exact" drops floor(zeta n) of n weights of each sign. "published" drops
            floor(zeta n) + 1 positive and ceil(zeta n) negative ones: the thresholds go too.
            "itop_library" is a published mistake: it keeps the most negative weights only, about
            zeta / 2 of all, and drops the other negative ones.
    """

    initial: str = "er"
    zeta: float = 0.3
    period: int | str = "epoch"
    new_weights: str = "zero"
    counts: str = "exact"

    def __post_init__(self) -> None:
        require_one_of("initial", self.initial, TOPOLOGIES)
        require_share("zeta", self.zeta)
        require_period(self.period)
        require_one_of("new_weights", self.new_weights, _NEW_WEIGHT_SD)
        require_one_of("counts", self.counts, _COUNTS)


def drop(weights: Tensor, mask: Tensor, zeta: float, counts: str = "exact") -> Tensor:
    """Return `mask` without the positive and the negative weights closest to zero.

    Args:
        weights, mask: of one shape.
        zeta: share of each sign to drop.
        counts: see `Options`.
    """
    positive, negative = mask & (weights > 0), mask & (weights < 0)
    above, below = int(positive.sum()), int(negative.sum())
    if counts == "published":
        dropped_above, dropped_below = floor_count(zeta, above) + 1, ceil_count(zeta, below)
    elif counts == "itop_library":
        dropped_above = ceil_count(0.5, ceil_count(zeta, int(mask.sum())))
        dropped_below = below - max(dropped_above - 1, 0)
    else:
        dropped_above, dropped_below = floor_count(zeta, above), floor_count(zeta, below)
    return drop_smallest(weights, positive, dropped_above) | drop_smallest(
        weights, negative, dropped_below
    )


def rewire(
    weights: Mapping[str, Tensor],
    masks: Mapping[str, Tensor],
    zeta: float,
    draw: Draw,
    counts: str = "exact",
) -> Rewired:
    """Return the masks after one update; with an exact draw every layer keeps its number.

    Args:
        weights, masks: per parameter, of one shape.
        zeta: share of each sign to replace.
        draw: chooses the positions that grow.
        counts: see `Options`.
    """
    surviving, grown = {}, {}
    for name, mask in masks.items():
        if bool(mask.all()):
            surviving[name], grown[name] = mask, mask
            continue
        left = drop(weights[name], mask, zeta, counts)
        surviving[name] = left
        grown[name] = left | draw(~left, int(mask.sum()) - int(left.sum()))
    return Rewired(surviving, grown)


class Set(Rewiring):
    """The masks of SET."""

    returned_restart = True

    def __init__(
        self, masks: Mapping[str, Tensor], options: Options, horizon: Horizon, seed: int
    ) -> None:
        super().__init__("set", masks, horizon, seed, options.period)
        self.options = options
        self.new_weight_sd = _NEW_WEIGHT_SD[options.new_weights]

    def rewired(self, step: int, tensors: LiveTensors) -> Rewired:
        """Return the masks that the weights of this step and the draws give."""
        draw = exact_draw(torch_generator(self.seed, self.algorithm, "growth", step))
        return rewire(tensors.weights, self.masks, self.options.zeta, draw, self.options.counts)


def prune(request: Request, sparsity: float, options: Options) -> dict[str, Tensor]:
    """Return the random masks that training starts with, exact in total."""
    return initial_masks("set", request.parameters, sparsity, options.initial, request.seed)


def dynamics(
    masks: Mapping[str, Tensor], sparsity: float, options: Options, horizon: Horizon, seed: int
) -> Set:
    """Return what changes the masks during training."""
    return Set(masks, options, horizon, seed)
