"""The accuracy of a network on images."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from espalier.data.inputs import SYMMETRIC, Normalisation, normalised_batches

Images = np.ndarray | Tensor


def evaluate(
    model: nn.Module,
    images: Images,
    labels: Images,
    batch_size: int = 500,
    device: torch.device | str = "cpu",
    normalisation: Normalisation = SYMMETRIC,
) -> float:
    """Return the accuracy (0..1) in evaluation mode; the model's mode is restored.

    Args:
        model: a network from images to logits, on `device`.
        images: uint8 (n, height, width, channels).
        labels: (n,) class indices.
        batch_size: images per forward pass; no influence on the result beyond rounding.
        device: where the model is.
        normalisation: the one that the network was trained with.

    Raises:
        DataError: images and labels do not match.
    """
    was_training = model.training
    model.eval()
    correct = 0
    with torch.inference_mode():
        for inputs, targets in normalised_batches(
            images, labels, batch_size, device, normalisation
        ):
            correct += int((model(inputs).argmax(dim=1) == targets).sum())
    model.train(was_training)
    return correct / max(1, len(labels))


def evaluate_in_training_mode(
    model: nn.Module,
    images: Images,
    labels: Images,
    batch_size: int,
    device: torch.device | str = "cpu",
    normalisation: Normalisation = SYMMETRIC,
) -> float:
    """Return the accuracy (0..1) with dropout active and with the statistics of each batch.

    Batch norm's running statistics move, and the model is left in training mode: so validated the
    public code of Petkov (2021). Dropout draws from torch's global generator.

    Args:
        model, images, labels, batch_size, device, normalisation: as in `evaluate`.
    """
    model.train()
    correct = 0
    with torch.no_grad():
        for inputs, targets in normalised_batches(
            images, labels, batch_size, device, normalisation
        ):
            correct += int((model(inputs).argmax(dim=1) == targets).sum())
    return correct / len(labels)
