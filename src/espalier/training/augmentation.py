"""Augmentation for a whole batch at once, on the batch's device.

"crop" and "crop_flip": a window of each image's size out of the image padded with black, mirrored
with probability .5 or not. Source: He et al. (2016), "Deep residual learning", section 4.2.

"thesis": the transforms of the public code of Petkov (2021): horizontal flip with probability .5,
rotation by up to 10 degrees, shear by up to 10 degrees with a scale of .8 to 1.2, jitter of
brightness, contrast and saturation by .2. Flip, rotation, shear and scale are composed into one
affine map per image, so that pixels are resampled once instead of twice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

_GREY_WEIGHTS = (0.2989, 0.587, 0.114)  # ITU-R 601-2, as torchvision


@dataclass(frozen=True)
class Augmentation:
    """One set of parameters per image of a batch.

    Attributes:
        flip: (n,) bool, mirrored left to right.
        rotation: (n,) degrees, counter-clockwise.
        shear: (n,) degrees, along the horizontal axis.
        scale: (n,) magnification.
        brightness, contrast, saturation: (n,) factors.
        jitter_order: order of the three jitters in this batch (0 brightness, 1 contrast,
            2 saturation).
    """

    flip: Tensor
    rotation: Tensor
    shear: Tensor
    scale: Tensor
    brightness: Tensor
    contrast: Tensor
    saturation: Tensor
    jitter_order: tuple[int, int, int]


@dataclass(frozen=True)
class Crops:
    """One window per image of a batch.

    Attributes:
        row, column: (n,) int64, where the window starts in the padded image.
        flip: (n,) bool, mirrored left to right.
    """

    row: Tensor
    column: Tensor
    flip: Tensor


def draw_crops(count: int, padding: int, flips: bool, generator: torch.Generator) -> Crops:
    """Draw the windows of `count` images; without `flips` no image is mirrored."""
    row, column = torch.randint(2 * padding + 1, (2, count), generator=generator)
    mirrored = torch.rand(count, generator=generator) < 0.5
    return Crops(row, column, mirrored & flips)


def crop(images: Tensor, drawn: Crops, padding: int) -> Tensor:
    """Return windows of images; pixels from outside the frame are black.

    Args:
        images: (n, height, width, channels) uint8.
        drawn: windows of n images.
        padding: the padding that the windows were drawn for.
    """
    count, height, width, channels = images.shape
    padded = functional.pad(images, (0, 0, padding, padding, padding, padding))
    row, column, flip = (part.to(images.device) for part in (drawn.row, drawn.column, drawn.flip))
    across = torch.arange(width, device=images.device).expand(count, width)
    across = torch.where(flip[:, None], width - 1 - across, across) + column[:, None]
    down = torch.arange(height, device=images.device) + row[:, None]
    first = torch.arange(count, device=images.device)[:, None] * padded.shape[1]
    pixels = (first + down)[:, :, None] * padded.shape[2] + across[:, None, :]
    return padded.reshape(-1, channels).index_select(0, pixels.flatten()).reshape(images.shape)


def draw_augmentation(count: int, generator: torch.Generator) -> Augmentation:
    """Draw the parameters of `count` images; the jitter order is drawn once for all of them."""
    uniform = torch.rand(7, count, generator=generator)

    def between(row: int, low: float, high: float) -> Tensor:
        return uniform[row].mul(high - low).add_(low)

    first, second, third = torch.randperm(3, generator=generator).tolist()
    return Augmentation(
        flip=uniform[0] < 0.5,
        rotation=between(1, -10, 10),
        shear=between(2, -10, 10),
        scale=between(3, 0.8, 1.2),
        brightness=between(4, 0.8, 1.2),
        contrast=between(5, 0.8, 1.2),
        saturation=between(6, 0.8, 1.2),
        jitter_order=(first, second, third),
    )


def augment(images: Tensor, drawn: Augmentation, interpolation: str = "nearest") -> Tensor:
    """Return augmented images; pixels from outside the frame are black.

    Args:
        images: (n, channels, height, width) float in 0..1, one or three channels.
        drawn: parameters of n images.
        interpolation: "nearest", as the thesis's transforms by default, or "bilinear".
    """
    height, width = images.shape[2:]
    grid = functional.affine_grid(
        _inverse_maps(drawn, height, width).to(images.device), list(images.shape), False
    )
    moved = functional.grid_sample(images, grid, interpolation, "zeros", align_corners=False)
    return _jitter(moved, drawn)


def _inverse_maps(drawn: Augmentation, height: int, width: int) -> Tensor:
    """Return (n, 2, 3) maps from output to input position, in units of half the sides.

    The forward order is flip, rotate, then shear and scale; so the inverse first undoes shear and
    scale, then the rotation, then the flip. Angles turn as in torchvision's `rotate` and `affine`.
    """
    angle = drawn.rotation * (math.pi / 180)
    cos, sin = angle.cos(), angle.sin()
    slope = torch.tan(drawn.shear * (math.pi / 180))
    mirror = torch.where(drawn.flip, -1.0, 1.0)
    aspect = height / width
    zero = torch.zeros_like(cos)
    first_row = [mirror * cos, mirror * (cos * slope - sin) * aspect, zero]
    second_row = [sin / aspect, sin * slope + cos, zero]
    maps = torch.stack([torch.stack(first_row, 1), torch.stack(second_row, 1)], 1)
    return maps / drawn.scale.reshape(-1, 1, 1)


def _jitter(images: Tensor, drawn: Augmentation) -> Tensor:
    for kind in drawn.jitter_order:
        if kind == 0:
            images = images.mul_(_per_image(drawn.brightness, images)).clamp_(0, 1)
        elif kind == 1:
            mean = _grey(images).mean(dim=(1, 2, 3), keepdim=True)
            images = _blend(images, mean, drawn.contrast)
        elif images.shape[1] == 3:  # grey images have no saturation
            images = _blend(images, _grey(images), drawn.saturation)
    return images


def _blend(images: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    share = _per_image(factor, images)
    return images.mul_(share).add_(other * (1 - share)).clamp_(0, 1)


def _grey(images: Tensor) -> Tensor:
    if images.shape[1] == 1:
        return images
    weights = images.new_tensor(_GREY_WEIGHTS).reshape(1, 3, 1, 1)
    return (images * weights).sum(dim=1, keepdim=True)


def _per_image(values: Tensor, images: Tensor) -> Tensor:
    return values.to(images.device).reshape(-1, 1, 1, 1)
