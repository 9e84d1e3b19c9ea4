"""RigL: drop the smallest weights, grow where the dense gradient is largest.

Every `period` steps, each layer with n kept weights loses the k = floor(f n) of smallest |w| and
gains the k positions of largest |dL/dw| among all that are not kept, with

    f(t) = rate / 2 * (1 + cos(pi t / T_end)),    T_end = end * steps.

The update takes the place of the optimiser's step. A weight that was just dropped may return, and
then keeps its value and momentum; new weights and their momenta start at zero.

Source: Evci, Gale, Menick, Castro and Elsen (2020), "Rigging the lottery: making all tickets
winners", algorithm 1 and equation 1, and its public code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from espalier.pruning.contract import Request
from espalier.pruning.during import Horizon, LiveTensors
from espalier.pruning.option_checks import require_one_of, require_period, require_share
from espalier.pruning.rewiring import (
    TOPOLOGIES,
    Rewired,
    Rewiring,
    ceil_count,
    cosine_rate,
    drop_smallest,
    floor_count,
    grow_largest,
    initial_masks,
    kept_counts,
)
from espalier.pruning.selection import require_finite
from espalier.seeds import torch_generator

WHEN = "during"


@dataclass(frozen=True)
class Options:
    """Options of RigL.

    Attributes:
        initial: densities of the first masks, "erk", "er" or "uniform".
        rate: share of a layer's weights that the first update replaces (alpha).
        period: steps between updates (delta T), or "epoch".
        end: share of training after which the masks stay (T_end).
        counts: "floor" drops floor(f n) of n weights; "ceil" drops ceil(f n), as the library of
            in-time over-parameterisation does.
        tie_noise: standard deviation of normal noise on the magnitudes that are ranked; the
            original adds 1e-5.
    """

    initial: str = "erk"
    rate: float = 0.3
    period: int | str = 100
    end: float = 0.75
    counts: str = "floor"
    tie_noise: float = 0.0

    def __post_init__(self) -> None:
        require_one_of("initial", self.initial, TOPOLOGIES)
        require_share("rate", self.rate)
        require_period(self.period)
        require_share("end", self.end)
        require_one_of("counts", self.counts, ("floor", "ceil"))
        require_share("tie_noise", self.tie_noise)


def rewire(
    weights: Mapping[str, Tensor],
    gradients: Mapping[str, Tensor],
    masks: Mapping[str, Tensor],
    rate: float,
    *,
    counts: str = "floor",
    noise: Mapping[str, Tensor] | None = None,
) -> Rewired:
    """Return the masks after one update; every layer keeps its number of weights.

    Args:
        weights, gradients, masks: per parameter, of one shape; the gradients are dense.
        rate: share of each layer's weights to replace.
        counts: "floor" or "ceil" of that share.
        noise: added to the magnitudes of kept weights.
    """
    surviving, grown = {}, {}
    count_of = floor_count if counts == "floor" else ceil_count
    for name, kept in kept_counts(masks).items():
        replaced = count_of(rate, kept)
        # Only the order of magnitudes counts, so they may be shifted to be positive.
        magnitudes = weights[name].abs()
        if noise is not None:
            magnitudes = magnitudes + noise[name]
            magnitudes = magnitudes - magnitudes.min()
        surviving[name] = drop_smallest(magnitudes, masks[name], replaced)
        grown[name] = grow_largest(gradients[name], surviving[name], replaced)
    return Rewired(surviving, grown)


class RigL(Rewiring):
    """The masks of RigL."""

    replaces_step = True

    def __init__(
        self, masks: Mapping[str, Tensor], options: Options, horizon: Horizon, seed: int
    ) -> None:
        super().__init__("rigl", masks, horizon, seed, options.period)
        self.options = options
        self.end = floor_count(options.end, horizon.steps)

    def due(self, step: int) -> bool:
        """Return whether the masks change at `step`: at 0, every period, and before the end."""
        return step % self.period == 0 and step < self.end

    def rewired(self, step: int, tensors: LiveTensors) -> Rewired:
        """Return the masks that the weights and gradients of this step give."""
        require_finite({name: tensors.gradients[name] for name in self.masks})
        noise = None
        if self.options.tie_noise > 0:
            generator = torch_generator(self.seed, self.algorithm, "ties", step)
            noise = {
                name: self.options.tie_noise
                * torch.randn(mask.shape, generator=generator).to(mask.device)
                for name, mask in self.masks.items()
            }
        rate = cosine_rate(self.options.rate, step, self.end)
        counts = self.options.counts
        return rewire(
            tensors.weights, tensors.gradients, self.masks, rate, counts=counts, noise=noise
        )


def prune(request: Request, sparsity: float, options: Options) -> dict[str, Tensor]:
    """Return the random masks that training starts with, exact in total."""
    return initial_masks("rigl", request.parameters, sparsity, options.initial, request.seed)


def dynamics(
    masks: Mapping[str, Tensor], sparsity: float, options: Options, horizon: Horizon, seed: int
) -> RigL:
    """Return what changes the masks during training."""
    return RigL(masks, options, horizon, seed)
