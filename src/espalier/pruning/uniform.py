"""Uniform random pruning: every layer keeps the same share of its weights, at random places.

Source: the baseline of Mocanu et al. (2018) and Evci et al. (2020). Official RigL leaves the first
layer out of the pruned network; `exclude` does that. `dense_first` keeps it whole and pays for it
in the other layers, so that the sparsity of the network is the one asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from espalier.errors import ConfigurationError
from espalier.pruning.contract import Request
from espalier.pruning.densities import (
    bernoulli_masks,
    check_plus_options,
    keep_counts,
    random_masks,
    uniform_densities,
    uniform_scores,
)
from espalier.pruning.option_checks import require_one_of
from espalier.pruning.selection import SCOPES, select

WHEN = "before"


@dataclass(frozen=True)
class Options:
    """Options of uniform random pruning.

    Attributes:
        scope: "layer": every layer keeps its share, to one weight. "global": one random choice
            among all weights, so that layers keep their share on average only (the sparse topology
            papers; their draw also takes in the biases, which they then freeze at zero).
        counts: "exact", or "bernoulli": each weight stays by itself with the same probability (the
            code of Liu et al. 2022), so that the number kept is random.
        dense_first: keep the first layer whole.
        last_at_least: smallest density of the last layer; 0.2 with `dense_first` is "uniform+".
    """

    scope: str = "layer"
    counts: str = "exact"
    dense_first: bool = False
    last_at_least: float = 0.0

    def __post_init__(self) -> None:
        require_one_of("scope", self.scope, SCOPES)
        require_one_of("counts", self.counts, ("exact", "bernoulli"))
        check_plus_options(self.last_at_least)
        plain = self.counts == "exact" and not self.dense_first and self.last_at_least == 0
        if self.scope == "global" and not plain:
            raise ConfigurationError(
                "scope 'global' draws all layers at once, with exact counts; it takes no counts, "
                "dense_first or last_at_least"
            )


def prune(request: Request, sparsity: float, options: Options) -> dict[str, Tensor]:
    """Keep random weights, the same share in every layer.

    With exact counts the network keeps n - floor(sparsity * n) weights. Masks of one seed nest: a
    weight kept at one sparsity is kept at every lower one.

    Raises:
        ConfigurationError: no weight would stay.
    """
    shapes = {name: tuple(weight.shape) for name, weight in request.parameters.items()}
    if options.scope == "global":
        return select(uniform_scores(shapes, request.seed, "uniform"), sparsity)
    densities = uniform_densities(
        shapes,
        1 - sparsity,
        dense_first=options.dense_first,
        last_at_least=options.last_at_least,
    )
    if options.counts == "bernoulli":
        return bernoulli_masks(shapes, densities, request.seed, "uniform")
    counts = keep_counts(shapes, densities, sparsity)
    return random_masks(shapes, counts, request.seed, "uniform")
