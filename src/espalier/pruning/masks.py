"""Masks: apply them exactly, read them as units, store them with requested and achieved sparsity.

A mask is a boolean tensor per prunable parameter, True where the weight is kept.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from espalier.errors import DataError, unknown_name
from espalier.files import read_npz, write_npz


def unit_masks(masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return which units of each layer are alive: those that keep an incoming weight.

    Args:
        masks: per weight of shape (out, in, ...), as in the network.

    Returns:
        Per weight a boolean vector of length `out`.
    """
    return {name: mask.reshape(mask.shape[0], -1).any(dim=1) for name, mask in masks.items()}


def removed_entries(model: nn.Module, masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the entries of the model's parameters that must be zero (True = zero).

    These are the masked weights and the bias of every unit, outside the last layer, that lost all
    its incoming weights. Parameters that lose nothing are left out.

    Raises:
        DataError: a mask has no parameter, or another shape than its parameter.
    """
    parameters = dict(model.named_parameters())
    removed: dict[str, Tensor] = {}
    for name, mask in masks.items():
        if name not in parameters:
            raise unknown_name("parameter in the masks", name, parameters, DataError)
        if mask.shape != parameters[name].shape:
            raise DataError(
                f"the mask of {name} has shape {tuple(mask.shape)}, "
                f"the parameter {tuple(parameters[name].shape)}: they belong to different models"
            )
        removed[name] = ~mask
    for name, alive in list(unit_masks(masks).items())[:-1]:
        bias = name.removesuffix("weight") + "bias"
        if bias in parameters:
            removed[bias] = ~alive
    return {
        name: entries.to(parameters[name].device)
        for name, entries in removed.items()
        if bool(entries.any())
    }


def apply_masks(model: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Set every removed weight, and the bias of every removed unit, to exactly zero, in place.

    Raises:
        DataError: a mask has no parameter, or another shape than its parameter.
    """
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, entries in removed_entries(model, masks).items():
            parameters[name].masked_fill_(entries, 0.0)


def achieved_sparsity(masks: Mapping[str, Tensor]) -> dict[str, float]:
    """Return the share of removed weights per parameter, and over all of them under "total"."""
    shares = {name: 1 - mask.count_nonzero().item() / mask.numel() for name, mask in masks.items()}
    kept = sum(int(mask.count_nonzero()) for mask in masks.values())
    shares["total"] = 1 - kept / sum(mask.numel() for mask in masks.values())
    return shares


def write_masks(
    path: str | os.PathLike[str],
    masks: Mapping[str, Tensor],
    requested_sparsity: float,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write masks as an NPZ: one boolean array per parameter, named as in the state dict.

    Its metadata holds `requested_sparsity`, `achieved_sparsity` (share of weights, per parameter
    and "total"), `achieved_unit_sparsity` (share of units, the last layer left out) and `metadata`.
    """
    alive = torch.cat(list(unit_masks(masks).values())[:-1] or [torch.ones(1, dtype=torch.bool)])
    facts = {
        "requested_sparsity": requested_sparsity,
        "achieved_sparsity": achieved_sparsity(masks),
        "achieved_unit_sparsity": 1 - alive.count_nonzero().item() / alive.numel(),
        "parameters": list(masks),
    }
    arrays = {name: mask.numpy() for name, mask in masks.items()}
    write_npz(path, arrays, {**(metadata or {}), **facts})


def read_masks(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the masks, in module order, and the metadata that `write_masks` stored.

    Raises:
        DataError: the file is missing or damaged, or holds something else than boolean arrays.
    """
    arrays, metadata = read_npz(path)
    for name, array in arrays.items():
        if array.dtype != np.bool_:
            raise DataError(f"{path}: {name} has type {array.dtype}; a mask is boolean")
    order = metadata.get("parameters", list(arrays))
    missing = [name for name in order if name not in arrays]
    if missing:
        raise DataError(f"{path} lacks the masks of {', '.join(missing)}, which it lists")
    return {name: torch.from_numpy(arrays[name]) for name in order}, metadata
