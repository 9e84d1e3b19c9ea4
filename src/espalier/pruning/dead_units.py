"""The smaller dense network that computes what a masked network computes, in evaluation mode.

A unit is dead if no output depends on it, or if it does not depend on any input. The first kind is
removed as it is. The second kind has a constant output: its bias, or what batch norm and
activations make of it. Where the constant reaches the next layers as a constant map, it goes into
their biases and the unit is removed. Where it does not (a convolution that pads a nonzero constant
with zeros sees a border) the unit stays.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from espalier.pruning.compaction import Compaction, resize
from espalier.pruning.dataflow import Dataflow, Step, per_channel, trace
from espalier.pruning.masks import removed_entries


@dataclass(frozen=True)
class LayerReport:
    """What was removed of one convolution or dense layer.

    Attributes:
        name: the layer's name in the network.
        units, kept_units: number of its units before and after.
        inputs, kept_inputs: size of its weight's second axis before and after.
        weights, kept_weights: number of entries of its weight before and after.
        folded: number of input units whose constant went into its biases.
    """

    name: str
    units: int
    kept_units: int
    inputs: int
    kept_inputs: int
    weights: int
    kept_weights: int
    folded: int


@dataclass(frozen=True, eq=False)
class CompactNetwork:
    """A network without its dead units.

    Attributes:
        model: the smaller network; its modules have the names they had.
        masks: the masks of its weights.
        layers: what was removed, one report per convolution and dense layer, in forward order.
    """

    model: nn.Module
    masks: dict[str, Tensor]
    layers: tuple[LayerReport, ...]


def compact(model: nn.Module, masks: Mapping[str, Tensor]) -> nn.Module:
    """Return a smaller dense network that computes what `model` computes with masked weights.

    Both are compared in evaluation mode; in training mode batch norm depends on the batch. The
    result is a copy of `model` with smaller layers and the same module names. Units that are tied
    by an addition or a grouped convolution go together or not at all; a layer that would be empty
    keeps one unit. `remove_dead_units` says as well what was removed.

    Args:
        model: any network that torch.fx can trace; operations that are not known keep the units
            around them. Its weights need not be masked yet.
        masks: per weight (True = kept); a weight without a mask is kept whole.

    Raises:
        ConfigurationError: torch.fx cannot trace the network, or a layer is parametrised.
        DataError: a mask has no parameter, or another shape than its parameter.
    """
    return remove_dead_units(model, masks).model


def remove_dead_units(model: nn.Module, masks: Mapping[str, Tensor]) -> CompactNetwork:
    """Return the network of `compact`, its masks and what was removed of each layer.

    Args, errors: as in `compact`.
    """
    small = copy.deepcopy(model)
    _mask_weights(small, masks)
    left = dict(masks)
    folded: Counter[str] = Counter()
    # One pass finds all that is dead. A second can find more where a grouped convolution is left
    # with one group, and with that is an ordinary one.
    while (fewer := _remove(small, left, folded)) is not None:
        left = fewer
    reports = []
    for step in trace(small).layers():
        old, new = model.get_submodule(step.name).weight, step.module.weight
        assert isinstance(old, Tensor)
        sizes = (len(old), len(new), old.shape[1], new.shape[1], old.numel(), new.numel())
        reports.append(LayerReport(step.name, *sizes, folded[step.name]))
    return CompactNetwork(small, left, tuple(reports))


def _remove(
    model: nn.Module, masks: Mapping[str, Tensor], folded: Counter[str]
) -> dict[str, Tensor] | None:
    """Remove dead units in place, count folded constants by layer, and return the masks left.

    Where there is no dead unit, nothing changes and the result is None.
    """
    flow = trace(model)
    readings = {step.name: _read(flow, step, masks) for step in flow.layers()}
    constants = _constants(flow, readings)
    kept = _kept_units(flow, readings, constants)
    if kept.all():
        return None
    for step in flow.layers():
        folded[step.name] += _fold(flow, step, readings[step.name], constants, kept)
    correspondence = Compaction(flow.kept_indices(kept))
    resize(model, correspondence)
    return {name: correspondence.take(name, mask) for name, mask in masks.items()}


@dataclass(frozen=True, eq=False)
class _Reading:
    """What a layer reads, per pair of its units and its input channels.

    Attributes:
        alive: (outputs, inputs) bool, pairs with a kept weight.
        sums: (outputs, inputs) float64, the sums of their weights.
    """

    alive: Tensor
    sums: Tensor


@dataclass(frozen=True, eq=False)
class _Constant:
    """What does not depend on the input of the network, per channel of a tensor.

    Attributes:
        varying: (channels,) bool, False where the whole map has one value, whatever the input.
        value: (channels,) float64, that value; meaningless where varying.
    """

    varying: Tensor
    value: Tensor


def _mask_weights(model: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Set the masked weights to zero; biases stay, for they are part of what is computed."""
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, entries in removed_entries(model, masks).items():
            if name in masks:
                parameters[name].masked_fill_(entries, 0.0)


def _read(flow: Dataflow, step: Step, masks: Mapping[str, Tensor]) -> _Reading:
    weight = step.module.weight.detach().cpu().double()
    mask = masks.get(f"{step.name}.weight", torch.ones_like(weight)).cpu()
    units = flow.inputs_of(step)
    groups = getattr(step.module, "groups", 1)
    inputs = groups * weight.shape[1] if units is None else len(units)
    alive = per_channel(step, mask.double(), inputs) > 0
    return _Reading(alive, per_channel(step, weight, inputs))


def _constants(flow: Dataflow, readings: Mapping[str, _Reading]) -> list[_Constant | None]:
    """Return per step which channels of its output are constant; None behind an opaque step."""
    found: list[_Constant | None] = []
    for step in flow.steps:
        sources = [found[index] for index in step.inputs]
        known = [source for source in sources if source is not None]
        if step.units is None:
            found.append(None)
        elif step.operation == "layer":
            found.append(_of_layer(step, readings[step.name], sources[0]))
        elif step.operation == "concatenate":
            varying = torch.cat([source.varying for source in known])
            found.append(_Constant(varying, torch.cat([source.value for source in known])))
        else:
            varying = torch.stack([source.varying for source in known]).any(dim=0)
            value = known[0].value
            if step.operation == "norm":
                value = _normalised(step.module, value)
            elif step.operation == "pointwise":
                assert step.function is not None
                with torch.no_grad():
                    value = step.function(*(source.value.clone() for source in known))
            elif step.pads_with_zeros:
                varying = varying | (value != 0)
            found.append(_Constant(varying, value))
    return found


def _of_layer(step: Step, reading: _Reading, source: _Constant | None) -> _Constant:
    bias = step.module.bias
    value = torch.zeros(len(reading.sums), dtype=torch.float64)
    if bias is not None:
        value = value + bias.detach().cpu().double()
    if source is None:
        return _Constant(reading.alive.any(dim=1), value)
    varies = _varies_for(step, source)
    value = value + reading.sums @ torch.where(varies, 0.0, source.value)
    return _Constant((reading.alive & varies).any(dim=1), value)


def _varies_for(step: Step, source: _Constant) -> Tensor:
    """Return which channels are no constant map once the layer has padded them."""
    return source.varying | (source.value != 0) if step.pads_with_zeros else source.varying


def _normalised(norm: nn.BatchNorm2d, value: Tensor) -> Tensor:
    """Return what batch norm in evaluation mode makes of a constant map."""
    if norm.running_mean is None or norm.running_var is None:
        value = torch.zeros_like(value)  # the batch's own mean is the constant
    else:
        mean, variance = norm.running_mean.cpu().double(), norm.running_var.cpu().double()
        value = (value - mean) / torch.sqrt(variance + norm.eps)
    if norm.affine:
        value = value * norm.weight.detach().cpu().double() + norm.bias.detach().cpu().double()
    return value


def _kept_units(
    flow: Dataflow, readings: Mapping[str, _Reading], constants: list[_Constant | None]
) -> np.ndarray:
    """Return per unit whether it stays: an output needs it, or one that it is tied to."""
    needed = [
        None if step.units is None else torch.zeros(len(step.units), dtype=torch.bool)
        for step in flow.steps
    ]
    marked: list[int] = []
    for index in reversed(range(len(flow.steps))):
        step, wanted = flow.steps[index], needed[index]
        if wanted is None:  # opaque: it may read everything
            for source in step.inputs:
                _need(needed[source])
            continue
        assert step.units is not None
        marked.extend(step.units[wanted.numpy()].tolist())
        if step.operation == "layer":
            source = constants[step.inputs[0]]
            if source is None:
                continue
            reads = readings[step.name].alive[wanted].any(dim=0)
            _need(needed[step.inputs[0]], reads & _varies_for(step, source))
        elif step.operation == "concatenate":
            parts = [flow.steps[source].units for source in step.inputs]
            sizes = [len(part) for part in parts if part is not None]
            for source, part in zip(step.inputs, wanted.split(sizes), strict=True):
                _need(needed[source], part)
        else:
            for source in step.inputs:
                _need(needed[source], wanted)
    return flow.spread([*marked, *_stand_ins(flow, marked)])


def _stand_ins(flow: Dataflow, marked: list[int]) -> list[int]:
    """Return one unit for every layer that would be empty, and none that is not needed for it."""
    chosen: list[int] = []
    for step in flow.layers():
        assert step.units is not None
        if not flow.spread([*marked, *chosen])[step.units].any():
            chosen.append(int(step.units[0]))
    for unit in list(chosen):
        others = [other for other in chosen if other != unit]
        kept = flow.spread([*marked, *others])
        if all(kept[step.units].any() for step in flow.layers()):
            chosen = others
    return chosen


def _need(channels: Tensor | None, wanted: Tensor | None = None) -> None:
    if channels is not None:
        channels |= torch.ones_like(channels) if wanted is None else wanted


def _fold(
    flow: Dataflow,
    step: Step,
    reading: _Reading,
    constants: list[_Constant | None],
    kept: np.ndarray,
) -> int:
    """Add the constants of removed inputs to the biases of a layer; return how many there were."""
    source, units = constants[step.inputs[0]], flow.inputs_of(step)
    if source is None or units is None:
        return 0
    removed = torch.from_numpy(~kept[units]) & ~_varies_for(step, source)
    removed &= (source.value != 0) & reading.alive.any(dim=0)
    if not removed.any():
        return 0
    shift = reading.sums[:, removed] @ source.value[removed]
    layer = step.module
    with torch.no_grad():
        if layer.bias is None:
            layer.bias = nn.Parameter(shift.to(layer.weight))
        else:
            layer.bias.copy_(layer.bias.cpu().double() + shift)
    return int(removed.sum())
