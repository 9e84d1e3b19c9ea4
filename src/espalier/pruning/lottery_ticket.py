"""Lottery tickets: iterative magnitude pruning with rewinding.

Train, remove a share of the remaining weights with the smallest |w|, set the others back to their
values at the rewinding epoch, and train again, level by level.

Source: Frankle and Carbin (2019), Frankle et al. (2020). `prune` gives the ticket of a network as
it stands; the levels of training use `level_densities` and `next_masks`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from espalier.errors import ConfigurationError
from espalier.pruning.contract import Request
from espalier.pruning.option_checks import require_one_of
from espalier.pruning.selection import RULES, SCOPES, select, select_remaining

WHEN = "during"

# Densities nearer than this are one level: .8 * .8 is .6400000000000001, 1 - .36 is .64.
_SAME_DENSITY = 1e-9


@dataclass(frozen=True)
class Options:
    """Options of lottery tickets.

    Attributes:
        fraction: largest share of the remaining weights that a level removes.
        rewind_epoch: epoch whose weights the remaining ones go back to; 0 is initialisation.
        scope: "global" ranks all weights together, "layer" each layer's among themselves.
        counts: how many weights stay, a key of `selection.RULES`. All but "exact" count on the
            weights that remain at each level; "remove_ceil_plus_one" is the rule of open_lth,
            which removes one weight more than it says at each level.
    """

    fraction: float = 0.2
    rewind_epoch: int = 0
    scope: str = "global"
    counts: str = "exact"

    def __post_init__(self) -> None:
        _check_fraction(self.fraction)
        if self.rewind_epoch < 0:
            raise ConfigurationError(f"rewind_epoch is {self.rewind_epoch}; it is 0 or more")
        require_one_of("scope", self.scope, SCOPES)
        require_one_of("counts", self.counts, RULES)


def level_densities(sparsities: Iterable[float], fraction: float = 0.2) -> list[float]:
    """Return the density of each level of one chain that passes through every sparsity.

    The next density is max(density * (1 - fraction), next requested density), so that no level
    removes more than `fraction` of what is left and every request is met.

    Args:
        sparsities: shares removed that are asked for, in [0, 1), in any order.
        fraction: largest share of the remaining weights that a level removes, in (0, 1).

    Returns:
        Falling densities from level 1 on; level 0 is the dense network and not in the list. The
        level of a requested sparsity s > 0 has exactly the density `1 - s`.

    Raises:
        ConfigurationError: a sparsity or the fraction is out of its range.
    """
    _check_fraction(fraction)
    requested = sorted({1 - _checked_sparsity(sparsity) for sparsity in sparsities}, reverse=True)
    densities: list[float] = []
    density = 1.0
    for goal in requested:
        while density > goal:
            density *= 1 - fraction
            if density <= goal + _SAME_DENSITY:
                density = goal
            densities.append(density)
    return densities


def next_masks(
    weights: Mapping[str, Tensor],
    masks: Mapping[str, Tensor],
    sparsity: float,
    *,
    scope: str = "global",
    counts: str = "exact",
    previous_sparsity: float | None = None,
) -> dict[str, Tensor]:
    """Return the masks of the next level: the largest |w| among the weights still there.

    Args:
        weights: trained weights of this level.
        masks: masks of this level (True = kept); what they remove does not return.
        sparsity: share of all weights that is removed at the next level.
        scope, counts: see `Options`.
        previous_sparsity: share of all weights that was to be removed at this level. Rules other
            than "exact" need it to be wrong by as much as the original is at each level; without
            it they start from what `masks` really remove.

    Raises:
        ConfigurationError: no weight would stay.
        DataError: a weight is not finite, or fewer weights are left than shall stay.
    """
    return select_remaining(
        {name: weights[name].detach().abs() for name in masks},
        masks,
        sparsity,
        scope=scope,
        rule=counts,
        previous_sparsity=previous_sparsity,
    )


def scores(request: Request, options: Options) -> dict[str, Tensor]:
    """Return |w|."""
    return {name: weight.detach().abs() for name, weight in request.parameters.items()}


def prune(request: Request, sparsity: float, options: Options) -> dict[str, Tensor]:
    """Return the ticket of the network as it stands, in one level whatever `fraction` says.

    Raises:
        ConfigurationError: no weight would stay.
        DataError: a weight is not finite.
    """
    return select(scores(request, options), sparsity, scope=options.scope, rule=options.counts)


def _check_fraction(fraction: float) -> None:
    if not 0 < fraction < 1:
        raise ConfigurationError(f"fraction is {fraction}; a level removes a share in (0, 1)")


def _checked_sparsity(sparsity: float) -> float:
    if not 0 <= sparsity < 1:
        raise ConfigurationError(f"sparsity is {sparsity}; it is the share removed, in [0, 1)")
    return sparsity
