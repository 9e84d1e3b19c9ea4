"""The one selector: which weights the scores keep, exactly, and the originals' counting rules.

Scores are kept from the largest down. `exact` is the rule of this project; every other rule is what
a public code does, under a name that says what it is, so that its masks can be reproduced.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from espalier.errors import ConfigurationError, DataError, unknown_name

# Guards floor(sparsity * n) against products such as 0.29 * 100 = 28.999999999999996.
_ROUNDING = 1e-9

SCOPES = ("global", "layer")
"""What is ranked together: all weights, or each parameter's own."""


def keep_count(total: int, sparsity: float) -> int:
    """Return how many of `total` weights stay: total - floor(sparsity * total)."""
    return total - math.floor(sparsity * total + _ROUNDING)


def layer_keep_counts(sizes: Mapping[str, int], sparsity: float) -> dict[str, int]:
    """Return how many weights each layer keeps if all have one sparsity and the total is exact.

    Every layer is within one weight of (1 - sparsity) * size, and the sum is
    `keep_count(sum(sizes))`.
    """
    shares = {name: (1 - sparsity) * size for name, size in sizes.items()}
    return apportion(shares, keep_count(sum(sizes.values()), sparsity), sizes)


def apportion(
    shares: Mapping[str, float], total: int, capacities: Mapping[str, int]
) -> dict[str, int]:
    """Round shares to integers that sum to `total`: largest remainders first, ties in order.

    Args:
        shares: non-negative real share of each layer, their sum within len(shares) of `total`.
        total: sum of the result.
        capacities: largest value of each.

    Raises:
        ConfigurationError: `total` exceeds the capacities.
    """
    if not 0 <= total <= sum(capacities.values()):
        raise ConfigurationError(
            f"{total} weights cannot be shared out over layers of {sum(capacities.values())}"
        )
    counts = {
        name: min(math.floor(share + _ROUNDING), capacities[name]) for name, share in shares.items()
    }
    # Shares that are equal but for rounding (0.24 of 51.24 and of 6.24) are ties too.
    order = sorted(shares, key=lambda name: round(counts[name] - shares[name], 6))
    while (missing := total - sum(counts.values())) > 0:
        open_layers = [name for name in order if counts[name] < capacities[name]]
        for name in open_layers[:missing]:
            counts[name] += 1
    for name in reversed(order):
        if missing < 0 and counts[name] > 0:
            counts[name] -= 1
            missing += 1
    return counts


def largest(values: Tensor, count: int) -> Tensor:
    """Return a mask of the `count` largest entries; of equal ones those of lower index."""
    flat = values.detach().reshape(-1)
    kept = torch.zeros(flat.numel(), dtype=torch.bool, device=flat.device)
    if count >= flat.numel():
        kept[:] = True
    elif count > 0:
        threshold = _smallest(flat, flat.numel() - count + 1)
        kept = flat > threshold
        ties = (flat == threshold).nonzero().flatten()
        kept[ties[: count - int(kept.count_nonzero())]] = True
    return kept.reshape(values.shape)


def select(
    scores: Mapping[str, Tensor],
    sparsity: float,
    *,
    scope: str = "global",
    rule: str = "exact",
) -> dict[str, Tensor]:
    """Return the masks (True = kept) of the weights with the largest scores.

    Args:
        scores: one tensor per parameter, in module order; larger is kept.
        sparsity: share to remove.
        scope: "global" ranks all weights together, "layer" each parameter's among themselves.
        rule: how many weights stay, one of `RULES`; "exact" keeps n - floor(sparsity * n) in all
            (with scope "layer" too, each layer within one weight of its share), ties by index.

    Raises:
        ConfigurationError: unknown scope or rule, or no weight would stay.
        DataError: a score is not finite; the message names the layer.
    """
    _check_words(scope, rule)
    require_finite(scores)
    sizes = {name: values.numel() for name, values in scores.items()}
    if scope == "layer":
        if rule == "exact":
            counts = layer_keep_counts(sizes, sparsity)
            masks = {name: largest(values, counts[name]) for name, values in scores.items()}
        else:
            masks = {name: RULES[rule](values, sparsity) for name, values in scores.items()}
    else:
        flat = torch.cat([values.detach().reshape(-1) for values in scores.values()])
        parts = RULES[rule](flat, sparsity).split(list(sizes.values()))
        masks = {
            name: part.reshape(values.shape)
            for (name, values), part in zip(scores.items(), parts, strict=True)
        }
    if not any(bool(mask.any()) for mask in masks.values()):
        raise ConfigurationError(
            f"sparsity {sparsity} would leave none of {sum(sizes.values())} weights; lower it"
        )
    return masks


def select_remaining(
    scores: Mapping[str, Tensor],
    masks: Mapping[str, Tensor],
    sparsity: float,
    *,
    scope: str = "global",
    rule: str = "exact",
    previous_sparsity: float | None = None,
) -> dict[str, Tensor]:
    """Return the masks of the largest scores among the weights that are still there.

    A weight removed once does not return.

    Args:
        scores: one tensor per parameter, in module order; larger is kept.
        masks: what is still there (True = kept), of the same names and shapes.
        sparsity: share of all weights, removed ones included, that is removed afterwards.
        scope: as in `select`.
        rule: "exact" keeps n - floor(sparsity * n) of all n weights. The others count on the
            remaining weights only, with the share of them that has to go.
        previous_sparsity: the share removed so far that this share is taken against; without it
            the share that `masks` really remove, so that the errors of a rule do not add up.

    Raises:
        ConfigurationError: unknown scope or rule, or no weight would stay.
        DataError: a score is not finite, or `masks` keep fewer weights than shall stay.
    """
    _check_words(scope, rule)
    require_finite(scores)
    sizes = {name: values.numel() for name, values in scores.items()}
    left = {name: int(masks[name].count_nonzero()) for name in scores}
    target = keep_count(sum(sizes.values()), sparsity)
    if rule == "exact" and target > sum(left.values()):
        raise DataError(
            f"sparsity {sparsity} keeps {target} weights, but only {sum(left.values())} are left; "
            "sparsities must not fall where removed weights do not return"
        )
    groups = [list(scores)]
    counts = [target]
    if scope == "layer":
        groups = [[name] for name in scores]
    if scope == "layer" and rule == "exact":
        shares = {name: (1 - sparsity) * size for name, size in sizes.items()}
        counts = list(apportion(shares, target, left).values())
    kept: dict[str, Tensor] = {}
    for position, group in enumerate(groups):
        values = torch.cat([scores[name].detach().reshape(-1) for name in group])
        alive = torch.cat([masks[name].reshape(-1) for name in group]).to(values.device)
        places = alive.nonzero().flatten()
        if rule == "exact":
            chosen = largest(values[places], counts[position])
        else:
            before = len(places) / len(values)
            if previous_sparsity is not None:
                before = 1 - previous_sparsity
            chosen = _by_rule(rule, values[places], (1 - sparsity) / before if before else 1.0)
        mask = torch.zeros_like(alive)
        mask[places[chosen]] = True
        kept.update(zip(group, mask.split([sizes[name] for name in group]), strict=True))
    if not any(bool(mask.any()) for mask in kept.values()):
        raise ConfigurationError(
            f"sparsity {sparsity} would leave none of {sum(sizes.values())} weights; lower it"
        )
    return {name: kept[name].reshape(values.shape) for name, values in scores.items()}


def _check_words(scope: str, rule: str) -> None:
    if rule not in RULES:
        raise unknown_name("counting rule", rule, RULES)
    if scope not in SCOPES:
        raise unknown_name("scope", scope, SCOPES)


def _by_rule(rule: str, values: Tensor, density: float) -> Tensor:
    if not values.numel():
        return torch.zeros_like(values, dtype=torch.bool)
    # 1 - .64 / .8 is .19999999999999996, which a rule that takes ceilings would feel.
    return RULES[rule](values, max(round(1 - density, 12), 0.0))


def require_finite(scores: Mapping[str, Tensor]) -> None:
    """Raise a DataError that names the layers whose scores are not all finite."""
    faulty = [
        f"{name} ({int((~torch.isfinite(values)).sum())} of {values.numel()})"
        for name, values in scores.items()
        if not bool(torch.isfinite(values).all())
    ]
    if faulty:
        raise DataError(
            f"scores are not finite in {', '.join(faulty)}; check the weights and inputs, or score "
            "in double precision"
        )


def _smallest(flat: Tensor, rank: int) -> Tensor:
    """Return the value of a rank, counted from 1 at the smallest."""
    if flat.device.type == "cpu":
        return torch.kthvalue(flat, rank).values
    return flat.sort().values[rank - 1]  # kthvalue has no deterministic form on a GPU


def _exact(values: Tensor, sparsity: float) -> Tensor:
    return largest(values, keep_count(values.numel(), sparsity))


def _at_least_kth_largest(values: Tensor, sparsity: float) -> Tensor:
    flat = values.reshape(-1)
    kept = int(flat.numel() * (1 - sparsity))
    if kept < 1:
        return torch.zeros_like(values, dtype=torch.bool)
    return values >= _smallest(flat, flat.numel() - kept + 1)


def _above_kth_smallest(values: Tensor, sparsity: float) -> Tensor:
    removed = int(sparsity * values.numel())
    if removed < 1:
        return torch.ones_like(values, dtype=torch.bool)
    return values > _smallest(values.reshape(-1), removed)


def _threshold_stays(values: Tensor, sparsity: float) -> Tensor:
    removed = int(values.numel() * sparsity)
    if removed < 1:
        return torch.ones_like(values, dtype=torch.bool)
    return values >= _smallest(values.reshape(-1), removed)


def _keep_ceil(values: Tensor, sparsity: float) -> Tensor:
    return largest(values, math.ceil(values.numel() * (1 - sparsity)))


def _keep_round(values: Tensor, sparsity: float) -> Tensor:
    return largest(values, round(values.numel() * (1 - sparsity)))


def _remove_round(values: Tensor, sparsity: float) -> Tensor:
    return largest(values, values.numel() - round(values.numel() * sparsity))


def _remove_ceil_plus_one(values: Tensor, sparsity: float) -> Tensor:
    return largest(values, values.numel() - math.ceil(values.numel() * sparsity) - 1)


def _above_percentile(values: Tensor, sparsity: float) -> Tensor:
    threshold = np.percentile(values.detach().cpu().numpy(), 100 * sparsity)
    return values > float(threshold)


def _at_least_quantile(values: Tensor, sparsity: float) -> Tensor:
    threshold = np.quantile(values.detach().cpu().numpy(), sparsity)
    return values >= float(threshold)


# The name says what stays; in brackets whose code counts so.
RULES: dict[str, Callable[[Tensor, float], Tensor]] = {
    "exact": _exact,
    "at_least_kth_largest": _at_least_kth_largest,  # int(n (1-s))-th (mil-ad SNIP, FORCE)
    "above_kth_smallest": _above_kth_smallest,  # int(s n)-th (Synaptic-Flow, NTK-SAP)
    "threshold_stays": _threshold_stays,  # n - int(s n) + 1 (GraSP)
    "keep_ceil": _keep_ceil,  # ceil(n (1-s)) (ProsPR)
    "keep_round": _keep_round,  # round(n (1-s)) (official SNIP)
    "remove_round": _remove_round,  # n - round(s n) (torch.nn.utils.prune)
    "remove_ceil_plus_one": _remove_ceil_plus_one,  # (open_lth)
    "above_percentile": _above_percentile,  # strictly (Neural Sculpting)
    "at_least_quantile": _at_least_quantile,  # (shrinkbench)
}
