"""From stored images (uint8, NHWC) to the float tensors that networks take."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from espalier.errors import DataError


def image_tensor(images: np.ndarray | Tensor) -> Tensor:
    """Return images as a uint8 tensor (n, height, width, channels), without a copy if possible.

    Raises:
        DataError: another type or number of axes.
    """
    tensor = (
        images if isinstance(images, Tensor) else torch.from_numpy(np.ascontiguousarray(images))
    )
    if tensor.dtype != torch.uint8 or tensor.dim() != 4:
        raise DataError(
            f"images have shape {tuple(tensor.shape)} and type {tensor.dtype}; "
            "expected uint8 (n, height, width, channels)"
        )
    return tensor


def label_tensor(labels: np.ndarray | Tensor, images: Tensor) -> Tensor:
    """Return labels as an int64 vector with one entry per image.

    Raises:
        DataError: another number of labels than images.
    """
    tensor = torch.as_tensor(np.asarray(labels)).long()
    if tensor.shape != images.shape[:1]:
        raise DataError(f"{tuple(tensor.shape)} labels for {len(images)} images")
    return tensor


def normalise(images: Tensor) -> Tensor:
    """Map uint8 0..255 to float32 -1..1: mean .5, standard deviation .5, as the thesis does."""
    return images.to(torch.float32).mul_(2 / 255).sub_(1)


def as_maps(images: Tensor) -> Tensor:
    """View (n, height, width, channels) as (n, channels, height, width) in channels-last memory."""
    maps = images.permute(0, 3, 1, 2)
    # With one channel both layouts share the memory, and the strides must say which one is meant.
    return maps.to(memory_format=torch.channels_last)


def normalised_batches(
    images: np.ndarray | Tensor,
    labels: np.ndarray | Tensor | None = None,
    batch_size: int = 500,
    device: torch.device | str = "cpu",
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (inputs, labels) in order: float32 (n, channels, height, width) and int64.

    Labels are zeros where none are given.

    Raises:
        DataError: images are not uint8 NHWC, or the labels do not match them.
    """
    tensor = image_tensor(images)
    targets = label_tensor(np.zeros(len(tensor)) if labels is None else labels, tensor)
    for start in range(0, len(tensor), batch_size):
        part = slice(start, start + batch_size)
        yield as_maps(normalise(tensor[part].to(device))), targets[part].to(device)
