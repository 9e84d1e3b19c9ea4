"""Train what is left: a chain without its removed units, and the way back to the full network.

A unit without incoming and without outgoing weights has no influence on the outputs, so the
smaller network computes the same function, at a fraction of the cost.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor, nn

from espalier.pruning.masks import apply_masks, unit_masks

_INDIFFERENT = (
    nn.ReLU,
    nn.Dropout,
    nn.MaxPool2d,
    nn.AdaptiveAvgPool2d,
    nn.Flatten,
)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


class Compaction:
    """The correspondence between a network and the same network without its removed units."""

    def __init__(self, indices: Mapping[str, tuple[Tensor, ...]]) -> None:
        self._indices = indices

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


def compact(
    model: nn.Module, masks: Mapping[str, Tensor]
) -> tuple[nn.Module, dict[str, Tensor], Compaction]:
    """Return a network without the units that masks remove, its masks, and the way back.

    Where nothing can be removed (not a plain chain, no removed unit, or a layer that would be
    empty) the model is a copy of the same size.

    Args:
        model: any network; its weights need not be masked yet.
        masks: per weight of the chain (True = kept).
    """
    full = copy.deepcopy(model)
    apply_masks(full, masks)
    indices = _kept_indices(full, masks)
    correspondence = Compaction(indices)
    if not indices:
        return full, dict(masks), correspondence
    for name, layer in full.named_children():
        for key, parameter in list(layer.named_parameters()):
            part = correspondence.take(f"{name}.{key}", parameter.detach())
            setattr(layer, key, nn.Parameter(part.clone()))
        for key, buffer in list(layer.named_buffers()):
            setattr(layer, key, correspondence.take(f"{name}.{key}", buffer).clone())
        if isinstance(layer, nn.Conv2d):
            layer.out_channels, layer.in_channels = layer.weight.shape[:2]
        elif isinstance(layer, nn.Linear):
            layer.out_features, layer.in_features = layer.weight.shape
        elif isinstance(layer, _NORMS):
            layer.num_features = len(layer.weight)
    parts = {name: correspondence.take(name, mask) for name, mask in masks.items()}
    return full, parts, correspondence


def _kept_indices(model: nn.Module, masks: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, ...]]:
    """Return per entry of the state dict the kept indices of its first axes; {} for no change."""
    if not isinstance(model, nn.Sequential):
        return {}
    weighted = [
        name for name, layer in model.named_children() if isinstance(layer, nn.Conv2d | nn.Linear)
    ]
    if [f"{name}.weight" for name in weighted] != list(masks) or not all(
        _is_plain(layer) for layer in model.children()
    ):
        return {}
    kept: dict[str, Tensor] = {}
    for name, following in pairwise(masks):
        units = masks[name].shape[0]
        columns = masks[following].reshape(masks[following].shape[0], units, -1)
        kept[name] = unit_masks({name: masks[name]})[name] | columns.any(dim=2).any(dim=0)
    if not all(bool(alive.any()) for alive in kept.values()):
        return {}
    if all(bool(alive.all()) for alive in kept.values()):
        return {}

    indices: dict[str, tuple[Tensor, ...]] = {}
    inputs: Tensor | None = None
    for name, layer in model.named_children():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            width = layer.weight.shape[1]
            if inputs is None:
                columns = torch.ones(width, dtype=torch.bool)
            else:  # behind the flattening a channel stands for all the pixels of its map
                columns = inputs.repeat_interleave(width // len(inputs))
            inputs = kept.get(f"{name}.weight", torch.ones(layer.weight.shape[0]).bool())
            rows = inputs.nonzero().flatten()
            indices[f"{name}.weight"] = (rows, columns.nonzero().flatten())
            indices[f"{name}.bias"] = (rows,)
        elif isinstance(layer, _NORMS) and inputs is not None:
            for key in ("weight", "bias", "running_mean", "running_var"):
                indices[f"{name}.{key}"] = (inputs.nonzero().flatten(),)
    return indices


def _is_plain(layer: nn.Module) -> bool:
    if isinstance(layer, nn.Conv2d):
        return layer.groups == 1
    if isinstance(layer, _NORMS):
        return layer.affine and layer.track_running_stats
    return isinstance(layer, (nn.Linear, *_INDIFFERENT))
