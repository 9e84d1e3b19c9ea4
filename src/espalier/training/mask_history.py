"""The masks of every epoch of a run whose masks change, a bit per weight."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from espalier.errors import DataError
from espalier.files import read_npz, write_npz

_EPOCHS = "epochs"
_EPOCHS_TENSOR = "epochs."  # no parameter's name ends in a dot


class MaskHistory:
    """Masks as they were before training and after every epoch."""

    def __init__(self) -> None:
        self._epochs: list[int] = []
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._packed: dict[str, list[np.ndarray]] = {}

    def record(self, epoch: int, masks: Mapping[str, Tensor]) -> None:
        """Add the masks in force after `epoch` epochs."""
        self._epochs.append(epoch)
        for name, mask in masks.items():
            self._shapes[name] = tuple(mask.shape)
            bits = np.packbits(mask.cpu().numpy().reshape(-1))
            self._packed.setdefault(name, []).append(bits)

    def tensors(self) -> dict[str, Tensor]:
        """Return what `restore` needs."""
        packed = {name: torch.from_numpy(np.stack(rows)) for name, rows in self._packed.items()}
        return {**packed, _EPOCHS_TENSOR: torch.tensor(self._epochs)}

    def restore(self, tensors: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> None:
        """Go on from what `tensors` gave; `masks` are any masks of the network."""
        self._epochs = tensors[_EPOCHS_TENSOR].tolist()
        self._shapes = {name: tuple(mask.shape) for name, mask in masks.items()}
        self._packed = {name: list(tensors[name].numpy()) for name in masks}

    def write(self, path: str | os.PathLike[str], metadata: Mapping[str, Any]) -> None:
        """Write an NPZ: per parameter, uint8 of shape (snapshots, ceil(weights / 8)).

        Bits are packed in C order, the first weight in the highest bit. The metadata holds
        `epochs` (of each snapshot), `parameters` (names in order), `shapes`, and `metadata`.
        """
        facts = {
            _EPOCHS: self._epochs,
            "parameters": list(self._packed),
            "shapes": {name: list(shape) for name, shape in self._shapes.items()},
        }
        arrays = {name: np.stack(rows) for name, rows in self._packed.items()}
        write_npz(path, arrays, {**metadata, **facts})


def read_mask_history(
    path: str | os.PathLike[str],
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the masks that training recorded, and the metadata stored with them.

    Returns:
        Per parameter a boolean tensor of shape (snapshots, *shape of the parameter), in module
        order; and the metadata, where `epochs` says after how many epochs each snapshot was taken
        (0 is before the first step).

    Raises:
        DataError: the file is missing or damaged, or is not a history of masks.
    """
    arrays, metadata = read_npz(path)
    if not {_EPOCHS, "parameters", "shapes"} <= metadata.keys():
        raise DataError(f"{path} is not a history of masks: its metadata lacks epochs or shapes")
    masks = {}
    for name in metadata["parameters"]:
        shape = metadata["shapes"][name]
        size = int(np.prod(shape))
        expected = (len(metadata[_EPOCHS]), -(-size // 8))
        if name not in arrays or arrays[name].shape != expected:
            raise DataError(f"{path}: {name} should hold packed bits of shape {expected}")
        bits = np.unpackbits(arrays[name], axis=1, count=size).astype(np.bool_)
        masks[name] = torch.from_numpy(bits.reshape(-1, *shape))
    return masks, metadata
