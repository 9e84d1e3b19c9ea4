"""Erdos-Renyi-kernel random pruning (ERK).

Layer l has density min(1, eps (n_in + n_out + kh + kw) / (n_in n_out kh kw)), with the eps that
gives the network the density asked for. Source: Evci et al. (2020), appendix A.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from espalier.errors import ConfigurationError
from espalier.pruning.contract import Request
from espalier.pruning.densities import (
    bernoulli_masks,
    check_plus_options,
    erk_densities,
    keep_counts,
    random_masks,
)
from espalier.pruning.option_checks import require_one_of

WHEN = "before"


@dataclass(frozen=True)
class Options:
    """Options of ERK.

    Attributes:
        power_scale: exponent of the fraction in the formula; 0 is uniform.
        counts: "exact", or "bernoulli": each weight stays by itself with its layer's density (the
            code of Liu et al. 2022), so that the number kept is random.
        dense_first: keep the first layer whole, at the cost of the others.
        last_at_least: smallest density of the last layer, at the cost of the others; 1 keeps it
            whole ("ERK+").
        budget: "exact", or "layer_floor" as in the code of RigL; see `densities.erk_densities`.
    """

    power_scale: float = 1.0
    counts: str = "exact"
    dense_first: bool = False
    last_at_least: float = 0.0
    budget: str = "exact"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.power_scale) and self.power_scale >= 0):
            raise ConfigurationError(f"power_scale is {self.power_scale}; it is 0 or more")
        require_one_of("counts", self.counts, ("exact", "bernoulli"))
        check_plus_options(self.last_at_least, self.budget)


def prune(request: Request, sparsity: float, options: Options) -> dict[str, Tensor]:
    """Keep random weights, by the densities of ERK; n - floor(sparsity * n) with exact counts.

    Raises:
        ConfigurationError: no weight would stay, or layers that shall be dense are too large.
    """
    shapes = {name: tuple(weight.shape) for name, weight in request.parameters.items()}
    densities = erk_densities(
        shapes,
        1 - sparsity,
        power_scale=options.power_scale,
        dense_first=options.dense_first,
        last_at_least=options.last_at_least,
        budget=options.budget,
    )
    if options.counts == "bernoulli":
        return bernoulli_masks(shapes, densities, request.seed, "erk")
    counts = keep_counts(shapes, densities, sparsity)
    return random_masks(shapes, counts, request.seed, "erk")
