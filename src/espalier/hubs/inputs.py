"""Images as inputs of perceptrons: standardised per feature, augmented in batches.

Features are the pixels in the order (channel, row, column), as `nn.Flatten` has them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from espalier.errors import DataError

_MAX_DEGREES = 10.0
_MAX_SHIFT = 0.1


def feature_images(images: np.ndarray) -> np.ndarray:
    """Return (n, channels, height, width) uint8 of images (n, height, width, channels)."""
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def check_labels(labels: np.ndarray, classes: int, part: str) -> None:
    """Raise a DataError unless every label is a class.

    Raises:
        DataError: a label is below 0 or not below `classes`, or there is none.
    """
    if not len(labels):
        raise DataError(f"there is no {part} image")
    if labels.min() < 0 or labels.max() >= classes:
        raise DataError(
            f"{part} labels go from {labels.min()} to {labels.max()}, but the network has "
            f"{classes} outputs; labels must be in 0..{classes - 1}"
        )


@dataclass(frozen=True, eq=False)
class Standardisation:
    """Mean and deviation of every feature over the training images.

    A feature that never changes has deviation 1, so that it becomes zero.

    Attributes:
        mean, deviation: (channels, height, width) float32, deviation with ddof 0.
    """

    mean: Tensor
    deviation: Tensor

    @classmethod
    def of(cls, images: np.ndarray, chunk: int = 4096) -> Standardisation:
        """Return that of images (n, channels, height, width) uint8."""
        total = np.zeros(images.shape[1:])
        squares = np.zeros(images.shape[1:])
        for first in range(0, len(images), chunk):
            part = images[first : first + chunk].astype(np.float64)
            total += part.sum(0)
            squares += np.square(part).sum(0)
        mean = total / len(images)
        # Sums of integers below 2^53 are exact, so a constant feature has variance 0 exactly.
        variance = np.maximum(len(images) * squares - np.square(total), 0) / len(images) ** 2
        deviation = np.where(variance > 0, np.sqrt(variance), 1.0)
        return cls(torch.from_numpy(mean).float(), torch.from_numpy(deviation).float())

    def apply(self, images: Tensor) -> Tensor:
        """Return (n, channels, height, width) float32 of uint8 images."""
        return images.float().sub_(self.mean).div_(self.deviation)


def features(images: Tensor) -> Tensor:
    """Return (features, n) of images (n, channels, height, width), contiguous."""
    return images.flatten(1).T.contiguous()


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return images turned by up to 10 degrees, shifted by up to a tenth, mirrored or not.

    Each image has its own angle, its own shift of up to 10 % of either side, and is mirrored left
    to right with probability .5. Pixels are interpolated linearly; those from outside the frame
    are the nearest within.

    Args:
        images: (n, channels, height, width) float32.
        generator: draws all.

    Source: Mocanu et al. (2018), public code.
    """
    count, _, height, width = images.shape
    drawn = torch.rand(4, count, generator=generator)
    angle = (2 * drawn[0] - 1) * math.radians(_MAX_DEGREES)
    down, across = (2 * drawn[1:3] - 1) * (2 * _MAX_SHIFT)
    mirror = torch.where(drawn[3] < 0.5, -1.0, 1.0)
    cos, sin = angle.cos(), angle.sin()
    rows = [
        torch.stack([mirror * cos, -sin * (height / width), across], 1),
        torch.stack([mirror * sin * (width / height), cos, down], 1),
    ]
    grid = functional.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, "bilinear", "border", align_corners=False)
