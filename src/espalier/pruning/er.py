"""Erdos-Renyi random pruning (ER): layer l has density min(1, eps (n_in + n_out) / (n_in n_out)).

Source: Mocanu et al. (2018), eq. 2; the cap at 1 and the solution for eps are those of Evci et al.
(2020). n_in and n_out are the channels of a convolution; its kernel does not count.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from espalier.errors import ConfigurationError
from espalier.pruning.contract import Request
from espalier.pruning.densities import (
    bernoulli_masks,
    check_plus_options,
    er_densities,
    keep_counts,
    nearest_counts,
    random_masks,
    uncapped_densities,
)
from espalier.pruning.option_checks import require_one_of

WHEN = "before"


@dataclass(frozen=True)
class Options:
    """Options of ER.

    Attributes:
        densities: "capped": the formula above. "published": the ER of the sparse topology papers,
            with the kernel in the formula and without the cap in the solution for eps, so that
            fewer weights stay than asked wherever a layer's density would exceed 1.
        counts: "exact", or "bernoulli": each weight stays by itself with its layer's density (the
            code of Liu et al. 2022), so that the number kept is random.
        dense_first: keep the first layer whole, at the cost of the others.
        last_at_least: smallest density of the last layer, at the cost of the others; 1 keeps it
            whole ("ER+").
        budget: "exact", or "layer_floor" as in the code of RigL; see `densities.erk_densities`.
    """

    densities: str = "capped"
    counts: str = "exact"
    dense_first: bool = False
    last_at_least: float = 0.0
    budget: str = "exact"

    def __post_init__(self) -> None:
        require_one_of("densities", self.densities, ("capped", "published"))
        require_one_of("counts", self.counts, ("exact", "bernoulli"))
        check_plus_options(self.last_at_least, self.budget)
        plain = not self.dense_first and self.last_at_least == 0 and self.budget == "exact"
        if self.densities == "published" and not plain:
            raise ConfigurationError(
                "densities 'published' takes no dense_first, last_at_least or budget"
            )


def prune(request: Request, sparsity: float, options: Options) -> dict[str, Tensor]:
    """Keep random weights, by the densities of ER.

    With the defaults the network keeps n - floor(sparsity * n) weights. "published" densities keep
    the nearest whole number of weights in each layer instead, dense networks excepted.

    Raises:
        ConfigurationError: no weight would stay, or layers that shall be dense are too large.
    """
    shapes = {name: tuple(weight.shape) for name, weight in request.parameters.items()}
    published = options.densities == "published" and sparsity > 0
    if published:
        densities = uncapped_densities(shapes, 1 - sparsity)
    else:
        densities = er_densities(
            shapes,
            1 - sparsity,
            dense_first=options.dense_first,
            last_at_least=options.last_at_least,
            budget=options.budget,
        )
    if options.counts == "bernoulli":
        return bernoulli_masks(shapes, densities, request.seed, "er")
    if published:
        counts = nearest_counts(shapes, densities)
    else:
        counts = keep_counts(shapes, densities, sparsity)
    return random_masks(shapes, counts, request.seed, "er")
