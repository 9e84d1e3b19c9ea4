"""Sparse networks from scratch (sparse momentum): grow where the momentum is largest.

Once per epoch each layer loses ceil(rate * n) of its n weights, those of smallest magnitude. What
was lost anywhere is shared out over the layers by

    share_l = mean |momentum| of the kept weights of l / sum over layers,

and each layer grows its positions of largest |momentum| among all that are not kept. New weights
start at zero and keep their momentum, which is why the momenta of removed weights are never masked.
A layer of sparsity below 0.2 whose share is above average has its rate capped at its sparsity; a
layer grows at most 0.99 of its free positions, and what is over is spread equally.

The original lets the total drift and steers it back ("adjusted"); here it is exact by default.

Source: Dettmers and Zettlemoyer (2019), "Sparse networks from scratch: faster training without
losing performance", and its public code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from espalier.errors import ConfigurationError
from espalier.pruning.contract import Request
from espalier.pruning.during import Horizon, LiveTensors
from espalier.pruning.option_checks import require_one_of, require_period, require_share
from espalier.pruning.rewiring import (
    TOPOLOGIES,
    AdjustedGrowth,
    Rewired,
    Rewiring,
    ceil_count,
    cosine_rate,
    drop_smallest,
    exact_growth,
    grow_largest,
    initial_masks,
    kept_counts,
    normalised,
)
from espalier.pruning.selection import require_finite

WHEN = "during"

_RATE_FLOOR = 0.005
_ALMOST_DENSE = 0.2
"""Layers of lower sparsity that gain weights have their rate capped."""


@dataclass(frozen=True)
class Options:
    """Options of sparse momentum.

    Attributes:
        initial: densities of the first masks, "uniform", "er" or "erk".
        rate: share of a layer's weights dropped at first; falls along a cosine to 0.005.
        period: steps between updates, or "epoch".
        redistribution: "momentum" shares growth out over the layers; "none" lets every layer grow
            what it lost.
        counts: "exact" keeps the total; "adjusted" rounds every layer's growth up and corrects
            later updates by the residual to density * weights, as the published code does.
    """

    initial: str = "uniform"
    rate: float = 0.5
    period: int | str = "epoch"
    redistribution: str = "momentum"
    counts: str = "exact"

    def __post_init__(self) -> None:
        require_one_of("initial", self.initial, TOPOLOGIES)
        require_share("rate", self.rate)
        require_period(self.period)
        require_one_of("redistribution", self.redistribution, ("momentum", "none"))
        require_one_of("counts", self.counts, ("exact", "adjusted"))
        if self.counts == "adjusted" and self.redistribution == "none":
            raise ConfigurationError(
                "counts 'adjusted' corrects what is redistributed; with redistribution 'none' "
                "leave counts at 'exact'"
            )


def momentum_shares(momenta: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> dict[str, float]:
    """Return each layer's share of growth: mean |momentum| of its kept weights, normalised.

    An empty layer has no mean and gets no share. Without any momentum the shares are those of the
    kept weights.
    """
    means = {
        name: float(momenta[name][mask].abs().mean()) if bool(mask.any()) else 0.0
        for name, mask in masks.items()
    }
    return normalised(means, kept_counts(masks))


def removal_counts(
    masks: Mapping[str, Tensor], shares: Mapping[str, float], rate: float
) -> dict[str, int]:
    """Return how many weights each layer drops; see the module's text for almost dense layers."""
    counts = {}
    for name, kept in kept_counts(masks).items():
        sparsity = 1 - kept / masks[name].numel()
        grows = shares[name] > 1 / len(masks)
        capped = min(sparsity, rate) if sparsity < _ALMOST_DENSE and grows else rate
        counts[name] = ceil_count(capped, kept)
    return counts


def rewire(
    weights: Mapping[str, Tensor],
    momenta: Mapping[str, Tensor],
    masks: Mapping[str, Tensor],
    rate: float,
    *,
    redistribution: str = "momentum",
    adjusted: AdjustedGrowth | None = None,
) -> Rewired:
    """Return the masks after one update.

    Args:
        weights, momenta, masks: per parameter, of one shape; the momenta are dense.
        rate: share of each layer's weights to drop.
        redistribution: see `Options`.
        adjusted: given it, growth follows the published counts; otherwise the total stays.
    """
    shares = momentum_shares(momenta, masks)
    removals = removal_counts(masks, shares, rate)
    surviving = {
        name: drop_smallest(weights[name], mask, removals[name]) for name, mask in masks.items()
    }
    if redistribution == "none":
        growth = removals
    elif adjusted is not None:
        removed = sum(kept_counts(masks).values()) - sum(kept_counts(surviving).values())
        growth = adjusted.counts(shares, removed, removals, masks)
    else:
        growth = exact_growth(shares, masks, surviving, fullest=0.99)
    grown = {
        name: grow_largest(momenta[name], mask, growth[name]) for name, mask in surviving.items()
    }
    return Rewired(surviving, grown)


class Snfs(Rewiring):
    """The masks of sparse momentum."""

    masks_momentum = False

    def __init__(
        self,
        masks: Mapping[str, Tensor],
        sparsity: float,
        options: Options,
        horizon: Horizon,
        seed: int,
    ) -> None:
        super().__init__("snfs", masks, horizon, seed, options.period)
        self.options = options
        self.adjusted = None
        if options.counts == "adjusted":
            total = sum(mask.numel() for mask in self.masks.values())
            self.adjusted = AdjustedGrowth((1 - sparsity) * total)

    def rewired(self, step: int, tensors: LiveTensors) -> Rewired:
        """Return the masks that the weights and momenta of this step give.

        Raises:
            ConfigurationError: the optimiser has no momentum.
            DataError: a momentum is not finite.
        """
        missing = [name for name in self.masks if name not in tensors.momenta]
        if missing:
            raise ConfigurationError(
                f"snfs grows weights by the optimiser's momentum, and {missing[0]} has none; "
                "train with a momentum above 0"
            )
        require_finite({name: tensors.momenta[name] for name in self.masks})
        rewired = rewire(
            tensors.weights,
            tensors.momenta,
            self.masks,
            cosine_rate(self.options.rate, step + 1, self.horizon.steps, _RATE_FLOOR),
            redistribution=self.options.redistribution,
            adjusted=self.adjusted,
        )
        if self.adjusted is not None:
            self.adjusted.record(sum(kept_counts(rewired.masks).values()))
        return rewired

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the masks under `mask/{name}` and, of "adjusted", what corrects the growth."""
        tensors, values = super().state()
        return tensors, values | ({} if self.adjusted is None else self.adjusted.state())

    def restore(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Go on from what `state` returned.

        Raises:
            DataError: the state lacks a mask or a value, or holds a mask of another shape.
        """
        super().restore(tensors, values)
        if self.adjusted is not None:
            self.adjusted.restore(values)


def prune(request: Request, sparsity: float, options: Options) -> dict[str, Tensor]:
    """Return the random masks that training starts with, exact in total."""
    return initial_masks("snfs", request.parameters, sparsity, options.initial, request.seed)


def dynamics(
    masks: Mapping[str, Tensor], sparsity: float, options: Options, horizon: Horizon, seed: int
) -> Snfs:
    """Return what changes the masks during training."""
    return Snfs(masks, sparsity, options, horizon, seed)
