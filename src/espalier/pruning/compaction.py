"""Train what is left: a network without its removed units, and the way back to the full one.

A unit without incoming and without outgoing weights has no influence on the outputs, so the
smaller network computes the same function, at a fraction of the cost.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from espalier.errors import ConfigurationError
from espalier.pruning.dataflow import per_channel, trace
from espalier.pruning.masks import apply_masks

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class Compaction:
    """The correspondence between a network and the same network without its removed units."""

    def __init__(self, indices: Mapping[str, tuple[Tensor, ...]]) -> None:
        self._indices = indices

    def changes(self, name: str) -> bool:
        """Return whether a tensor (named as in the state dict) loses a part."""
        return name in self._indices

    def take(self, name: str, full: Tensor) -> Tensor:
        """Return the part of a full tensor (named as in the state dict) that was kept."""
        for axis, kept in enumerate(self._indices.get(name, ())):
            full = full.index_select(axis, kept.to(full.device))
        return full

    def put(self, name: str, full: Tensor, part: Tensor) -> None:
        """Write a part back into its places in the full tensor, in place."""
        indices = self._indices.get(name, ())
        if len(indices) == 2:
            rows, columns = (kept.to(full.device) for kept in indices)
            full[rows[:, None], columns[None, :]] = part
        elif indices:
            full[indices[0].to(full.device)] = part
        else:
            full.copy_(part)

    def restore(self, full: nn.Module, compact: nn.Module) -> None:
        """Copy the compact network's values into the full one.

        Removed weights and biases of the full one stay as they are. So do the normalisation
        parameters of removed units, which nothing depends on.
        """
        values = compact.state_dict()
        with torch.no_grad():
            for name, tensor in full.state_dict().items():
                self.put(name, tensor, values[name])


def compact_for_training(
    model: nn.Module, masks: Mapping[str, Tensor]
) -> tuple[nn.Module, dict[str, Tensor], Compaction]:
    """Return a network to train without the units that masks remove, its masks, and the way back.

    Only units without incoming and without outgoing weights go, together with all that they are
    added to. Where nothing can be removed (a network that torch.fx cannot trace, no such unit, or a
    layer that would be empty) the model is a copy of the same size.

    Args:
        model: any network; its weights need not be masked yet.
        masks: per prunable weight (True = kept); a weight without a mask is kept whole.
    """
    full = copy.deepcopy(model)
    apply_masks(full, masks)
    indices = _kept_indices(full, masks)
    correspondence = Compaction(indices)
    if not indices:
        return full, dict(masks), correspondence
    resize(full, correspondence)
    parts = {name: correspondence.take(name, mask) for name, mask in masks.items()}
    return full, parts, correspondence


def resize(model: nn.Module, correspondence: Compaction) -> None:
    """Leave of every layer and batch norm what the correspondence keeps, in place."""
    for module_name, layer in model.named_modules():
        prefix = f"{module_name}." if module_name else ""
        for key, parameter in list(layer.named_parameters(recurse=False)):
            if correspondence.changes(f"{prefix}{key}"):
                part = correspondence.take(f"{prefix}{key}", parameter.detach())
                setattr(layer, key, nn.Parameter(part, parameter.requires_grad))
        for key, buffer in list(layer.named_buffers(recurse=False)):
            if correspondence.changes(f"{prefix}{key}"):
                setattr(layer, key, correspondence.take(f"{prefix}{key}", buffer))
        _describe(layer)


def _describe(layer: Any) -> None:
    """Make a layer's attributes agree with the shapes of its tensors."""
    if isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = layer.weight.shape
    elif isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        per_group = layer.out_channels // layer.groups
        layer.out_channels, inputs = layer.weight.shape[:2]
        layer.groups = 1 if layer.groups == 1 else layer.out_channels // per_group
        layer.in_channels = inputs * layer.groups
    elif isinstance(layer, _NORMS):
        tensors = (layer.weight, layer.running_mean)
        sizes = [len(tensor) for tensor in tensors if tensor is not None]
        layer.num_features = sizes[0] if sizes else layer.num_features


def _kept_indices(model: nn.Module, masks: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, ...]]:
    """Return per entry of the state dict the kept indices of its first axes; {} for no change."""
    try:
        flow = trace(model)
    except ConfigurationError:
        return {}
    alive: list[int] = []
    for step in flow.layers():
        assert step.units is not None
        units, inputs = step.units, flow.inputs_of(step)
        mask = masks.get(f"{step.name}.weight", torch.ones_like(step.module.weight)).cpu()
        alive.extend(units[mask.reshape(len(units), -1).any(dim=1).numpy()].tolist())
        if inputs is not None:
            feeds = per_channel(step, mask.float(), len(inputs)).any(dim=0)
            alive.extend(inputs[feeds.numpy()].tolist())
    kept = flow.spread(alive)
    if kept.all() or not all(kept[step.units].any() for step in flow.layers()):
        return {}
    return flow.kept_indices(kept)
