"""Group magnitude: remove the hidden units with the smallest incoming and outgoing weights.

Source: Petkov (2021), section 4.4 and its public code, for chains of layers. Sparsity is the share
of hidden units.

Units that an addition or a grouped (depthwise) convolution ties are removed together, and scored
by the weights that go with them: the sum, over all tied layers, of the L1 norms of incoming and
outgoing weights. A weight that both comes from and leads to the tied units counts once.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from espalier.errors import ConfigurationError
from espalier.pruning.contract import Request
from espalier.pruning.dataflow import Dataflow, trace
from espalier.pruning.selection import require_finite

WHEN = "after"

# Guards ceil(sparsity * width) against products such as 0.7 * 10 = 7.000000000000001.
_ROUNDING = 1e-9
_STAYS = -1


@dataclass(frozen=True)
class Options:
    """Options of group magnitude.

    Attributes:
        counts: how many units each hidden layer, or group of layers with tied units, loses.
            "layerwise": ceil(sparsity * width) of its own width. "published", for chains of layers
            alone: the same, then the surplus over round(sparsity * hidden units) is taken off the
            first layer, as the thesis's code does.
    """

    counts: str = "layerwise"

    def __post_init__(self) -> None:
        if self.counts not in ("layerwise", "published"):
            raise ConfigurationError(f"counts is {self.counts!r}; use 'layerwise' or 'published'")


@dataclass(frozen=True, eq=False)
class UnitGroup:
    """Units that the same layers share: each is removed from all of them, or from none.

    Channels that are tied are one unit, also several of one layer (behind a grouped convolution).

    Attributes:
        width: number of the units.
        writers: by weight, in forward order, which of them each output channel is; -1 for one that
            stays or belongs to another group.
        readers: by weight which of them each input channel is; -1 as for writers. Grouped
            convolutions are writers alone.
    """

    width: int
    writers: dict[str, NDArray[np.int64]]
    readers: dict[str, NDArray[np.int64]]


def removal_counts(widths: list[int], sparsity: float, counts: str = "layerwise") -> list[int]:
    """Return how many units each hidden layer, or group of tied units, loses.

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


def unit_groups(model: nn.Module, parameters: Mapping[str, Tensor]) -> list[UnitGroup]:
    """Return the units of a network that may be removed, grouped by the layers that share them.

    Units stay where they are outputs of the network, reach an operation that is not known, or
    belong to or feed a layer that is not to be pruned; so do all that are tied to them.

    Args:
        model: any network that torch.fx can trace.
        parameters: the weights to prune.

    Raises:
        ConfigurationError: torch.fx cannot trace the network, or there are layers, but all hidden
            units stay.
    """
    flow = trace(model)
    groups = _groups(flow, parameters)
    if not groups and len(parameters) > 1:
        raise ConfigurationError(
            "group magnitude finds no hidden unit to remove: all are outputs of the network, "
            f"touch an excluded layer, or reach {_obstacles(flow)}; use another algorithm"
        )
    return groups


def unit_saliency(
    parameters: Mapping[str, Tensor], groups: Sequence[UnitGroup] | None = None
) -> dict[str, Tensor]:
    """Return per hidden layer the L1 norm of each unit's incoming plus outgoing weights.

    Args:
        parameters: weights (out, in, ...). Where a convolution feeds a dense layer, a channel's
            outgoing weights are those of all the pixels of its map.
        groups: as `unit_groups` returns them; None for a chain of layers, in forward order. Units
            of a group have the sum over its layers.

    Returns:
        Per weight with units that may be removed a float64 vector of length `out`, on the CPU;
        units that stay have inf. Biases and normalisation do not count.

    Raises:
        ConfigurationError: without groups, and the layers do not form a chain.
        DataError: weights are not finite.
    """
    require_finite(parameters)
    saliency: dict[str, Tensor] = {}
    for group in _chain(parameters) if groups is None else groups:
        values = _group_saliency(group, parameters)
        for name, units in group.writers.items():
            whole = saliency.setdefault(name, torch.full((len(units),), math.inf).double())
            here = torch.from_numpy(units != _STAYS)
            whole[here] = values[units[units != _STAYS]]
    return saliency


def scores(request: Request, options: Options) -> dict[str, Tensor]:
    """Return each unit's saliency, repeated over its incoming weights; units that stay have inf.

    Raises:
        ConfigurationError, DataError: as `unit_groups` and `unit_saliency`.
    """
    groups = unit_groups(request.model, request.parameters)
    saliency = unit_saliency(request.parameters, groups)
    values = {}
    for name, weight in request.parameters.items():
        if name in saliency:
            shape = (-1, *(1,) * (weight.dim() - 1))
            values[name] = saliency[name].reshape(shape).expand(weight.shape).clone()
        else:
            values[name] = torch.full(weight.shape, math.inf, dtype=torch.float64)
    return values


def prune(request: Request, sparsity: float, options: Options) -> dict[str, Tensor]:
    """Remove of every group of tied units those of smallest saliency; ties go by unit index.

    In a chain a group is a hidden layer. A removed unit loses its incoming weights in every layer
    of its group and its outgoing weights in every layer that reads it, through the flattening too.
    What stays: see `unit_groups`.

    Raises:
        ConfigurationError: as `unit_groups`; a layer would lose all its units; or the published
            counts are asked for and the layers are no chain.
        DataError: weights are not finite.
    """
    groups = unit_groups(request.model, request.parameters)
    require_finite(request.parameters)
    if options.counts == "published" and not _form_chain(groups, request.parameters):
        raise ConfigurationError(
            "the published counts of group magnitude are defined for chains of layers, which "
            f"{type(request.model).__name__} is not; use counts 'layerwise'"
        )
    masks = {
        name: torch.ones(weight.shape, dtype=torch.bool)
        for name, weight in request.parameters.items()
    }
    widths = [group.width for group in groups]
    counts = removal_counts(widths, sparsity, options.counts)
    for group, count in zip(groups, counts, strict=True):
        if count >= group.width:
            layers = ", ".join(name.removesuffix(".weight") for name in group.writers)
            raise ConfigurationError(
                f"sparsity {sparsity} would remove all {group.width} units of {layers}; "
                "lower the sparsity or widen the model"
            )
        saliency = _group_saliency(group, request.parameters)
        removed = torch.argsort(saliency, stable=True)[:count].numpy()
        for name, units in group.writers.items():
            masks[name][torch.from_numpy(np.isin(units, removed))] = False
        for name, units in group.readers.items():
            per_unit = masks[name].view(len(masks[name]), len(units), -1)
            per_unit[:, torch.from_numpy(np.isin(units, removed))] = False
    return masks


def _obstacles(flow: Dataflow) -> str:
    """Name the first operations whose inputs must all stay."""
    found = [
        f"{step.name} ({step.called})"
        for step in flow.steps
        if step.units is None
        and step.operation != "output"
        and any(flow.steps[index].units is not None for index in step.inputs)
    ]
    return ", ".join(found[:3]) or "an operation that is not known"


def _groups(flow: Dataflow, parameters: Mapping[str, Tensor]) -> list[UnitGroup]:
    layers = {f"{step.name}.weight": step for step in flow.layers()}
    dense: list[int] = []
    for name, step in layers.items():
        if name not in parameters:
            for units in (step.units, flow.inputs_of(step)):
                dense.extend([] if units is None else units.tolist())
    stays = flow.spread(dense)
    sets = flow.representatives()
    writers: defaultdict[int, list[str]] = defaultdict(list)
    for name, step in layers.items():
        for tied in dict.fromkeys(sets[step.units].tolist()):
            writers[tied].append(name)
    shared: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
    for tied, names in writers.items():
        if not stays[tied]:
            shared[tuple(names)].append(tied)
    groups = []
    for names, members in shared.items():
        numbers = np.full(len(sets), _STAYS)
        numbers[members] = np.arange(len(members))
        numbers = numbers[sets]
        readers = {}
        for name, step in layers.items():
            inputs = flow.inputs_of(step)
            # The inputs of a grouped convolution are tied to its outputs, and go with these.
            if inputs is not None and getattr(step.module, "groups", 1) == 1:
                readers[name] = numbers[inputs]
        readers = {name: units for name, units in readers.items() if (units != _STAYS).any()}
        groups.append(
            UnitGroup(len(members), {name: numbers[layers[name].units] for name in names}, readers)
        )
    return groups


def _chain(parameters: Mapping[str, Tensor]) -> list[UnitGroup]:
    groups = []
    for (name, weight), (next_name, following) in pairwise(parameters.items()):
        inputs, width = following.shape[1], len(weight)
        if inputs % width or (following.dim() > 2 and inputs != width):
            raise ConfigurationError(
                f"{next_name} has {inputs} inputs, which {width} units of {name} cannot feed; "
                "without groups the weights must be those of a chain of layers"
            )
        units = np.arange(width)
        groups.append(UnitGroup(width, {name: units}, {next_name: units}))
    return groups


def _form_chain(groups: Sequence[UnitGroup], parameters: Mapping[str, Tensor]) -> bool:
    """Return whether every layer but the last is read by the next one alone, and in full."""
    for group in groups:
        links = [*group.writers.values(), *group.readers.values()]
        if len(links) != 2 or any((units == _STAYS).any() for units in links):
            return False
    linked = all(list(a.readers) == list(b.writers) for a, b in pairwise(groups))
    return linked and len(groups) == max(len(parameters) - 1, 0)


def _group_saliency(group: UnitGroup, parameters: Mapping[str, Tensor]) -> Tensor:
    incoming = torch.zeros(group.width, dtype=torch.float64)
    for name, units in group.writers.items():
        sums = _magnitudes(parameters[name]).reshape(len(units), -1).sum(dim=1)
        incoming += _summed(sums, units, group.width)
    outgoing = torch.zeros_like(incoming)
    for name, units in group.readers.items():
        magnitudes = _magnitudes(parameters[name])
        maps = magnitudes.reshape(len(magnitudes), len(units), -1)
        if name in group.writers:
            own = group.writers[name][:, None] == units[None, :]
            maps = maps.masked_fill(torch.from_numpy(own)[:, :, None], 0.0)
        outgoing += _summed(maps.sum(dim=(0, 2)), units, group.width)
    return incoming + outgoing


def _magnitudes(weight: Tensor) -> Tensor:
    return weight.detach().cpu().double().abs()


def _summed(values: Tensor, units: NDArray[np.int64], width: int) -> Tensor:
    """Return per unit of a group the sum of the values of its channels."""
    here = units != _STAYS
    index = torch.from_numpy(units[here])
    return torch.zeros(width, dtype=torch.float64).index_add(
        0, index, values[torch.from_numpy(here)]
    )
