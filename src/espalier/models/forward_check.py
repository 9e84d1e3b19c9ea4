"""A dry run that tells whether a network from elsewhere takes the images and gives the logits."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from espalier.errors import DataError
from espalier.models.evaluation_mode import in_evaluation_mode


def require_logits(
    name: str, model: nn.Module, num_classes: int, input_shape: tuple[int, int, int]
) -> None:
    """Run two black images through the network, in evaluation mode without gradients.

    The network's mode is restored.

    Raises:
        DataError: the network does not take the images, or does not return (2, num_classes).
    """
    _require_channels(name, model, input_shape)
    try:
        with in_evaluation_mode(model), torch.no_grad():
            logits = model(torch.zeros(2, *input_shape))
    except Exception as error:
        channels, height, width = input_shape
        raise DataError(
            f"{name} does not take {height}x{width} images of {channels} channels: "
            f"{type(error).__name__}: {error}"
        ) from error
    if not isinstance(logits, Tensor) or logits.shape != (2, num_classes):
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise DataError(
            f"{name} maps 2 images to {found}; expected logits of shape (2, {num_classes})"
        )


def _require_channels(name: str, model: nn.Module, input_shape: tuple[int, int, int]) -> None:
    layers = ((key, layer) for key, layer in model.named_modules() if isinstance(layer, nn.Conv2d))
    key, first = next(layers, (None, None))
    if first is not None and first.in_channels != input_shape[0]:
        raise DataError(
            f"{name} takes images of {first.in_channels} channels (its layer {key}), "
            f"but these have {input_shape[0]}"
        )
