"""Group magnitude: remove the hidden units with the smallest incoming and outgoing weights.

Source: Petkov (2021), section 4.4 and its public code. Sparsity is the share of hidden units.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from espalier.errors import ConfigurationError
from espalier.pruning.contract import Request

WHEN = "after"

# Guards ceil(sparsity * width) against products such as 0.7 * 10 = 7.000000000000001.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Options:
    """Options of group magnitude.

    Attributes:
        counts: how many units each hidden layer loses. "layerwise": ceil(sparsity * width) of its
            own width. "published": the same, then the surplus over round(sparsity * hidden units)
            is taken off the first layer, as the thesis's code does.
    """

    counts: str = "layerwise"

    def __post_init__(self) -> None:
        if self.counts not in ("layerwise", "published"):
            raise ConfigurationError(f"counts is {self.counts!r}; use 'layerwise' or 'published'")


def removal_counts(widths: list[int], sparsity: float, counts: str = "layerwise") -> list[int]:
    """Return how many units each hidden layer loses.

    Args:
        widths: units per hidden layer, in forward order.
        sparsity: share of units to remove, in [0, 1).
        counts: see `Options`.
    """
    removed = [math.ceil(sparsity * width - _ROUNDING) for width in widths]
    if counts == "published" and widths:
        surplus = sum(removed) - round(sparsity * sum(widths))
        removed[0] -= min(max(surplus, 0), removed[0])
    return removed


def unit_saliency(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return per hidden layer the L1 norm of each unit's incoming plus outgoing weights.

    Args:
        parameters: weights (out, in, ...) of a chain of layers, in forward order. Where a
            convolution feeds a dense layer, a channel's outgoing weights are those of all the
            pixels of its map.

    Returns:
        Per weight but the last a float64 vector of length `out`. Biases and normalisation do not
        count.

    Raises:
        ConfigurationError: the layers do not form a chain.
    """
    items = list(parameters.items())
    saliency = {}
    for (name, weight), (next_name, following) in pairwise(items):
        units = weight.shape[0]
        _require_fed_by(name, units, next_name, following)
        incoming = weight.detach().double().abs().reshape(units, -1).sum(dim=1)
        outgoing = following.detach().double().abs().reshape(following.shape[0], units, -1)
        saliency[name] = incoming + outgoing.sum(dim=(0, 2))
    return saliency


def scores(request: Request, options: Options) -> dict[str, Tensor]:
    """Return each unit's saliency, repeated over its incoming weights; output weights score inf."""
    _require_chain(request.model)
    saliency = unit_saliency(request.parameters)
    values = {}
    for name, weight in request.parameters.items():
        if name in saliency:
            shape = (-1, *(1,) * (weight.dim() - 1))
            values[name] = saliency[name].reshape(shape).expand_as(weight).clone()
        else:
            values[name] = torch.full_like(weight, math.inf, dtype=torch.float64)
    return values


def prune(request: Request, sparsity: float, options: Options) -> dict[str, Tensor]:
    """Remove in every hidden layer the units of smallest saliency; ties go by unit index.

    A removed unit loses its incoming weights and its outgoing weights in the next layer, through
    the flattening too. Output units stay.

    Raises:
        ConfigurationError: the model is not a chain, or a layer would lose all its units.
    """
    _require_chain(request.model)
    saliency = unit_saliency(request.parameters)
    widths = [len(values) for values in saliency.values()]
    masks = {
        name: torch.ones_like(weight, dtype=torch.bool)
        for name, weight in request.parameters.items()
    }
    names = list(masks)
    for position, count in enumerate(removal_counts(widths, sparsity, options.counts)):
        name, following = names[position], names[position + 1]
        if count >= widths[position]:
            raise ConfigurationError(
                f"sparsity {sparsity} would remove all {widths[position]} units of "
                f"{name.removesuffix('.weight')}; lower the sparsity or widen the model"
            )
        removed = torch.argsort(saliency[name], stable=True)[:count]
        masks[name][removed] = False
        per_unit = masks[following].view(masks[following].shape[0], widths[position], -1)
        per_unit[:, removed] = False
    return masks


def _require_fed_by(name: str, units: int, next_name: str, following: Tensor) -> None:
    inputs = following.shape[1]
    if inputs % units or (following.dim() > 2 and inputs != units):
        raise ConfigurationError(
            f"{next_name} has {inputs} inputs, which {units} units of {name} cannot feed; "
            "group magnitude needs a chain of layers"
        )


def _require_chain(model: nn.Module) -> None:
    if not isinstance(model, nn.Sequential):
        raise ConfigurationError(
            f"group magnitude needs a chain (nn.Sequential), not a {type(model).__name__}: "
            "removing a unit must remove its outgoing weights, and only a chain says which they are"
        )
