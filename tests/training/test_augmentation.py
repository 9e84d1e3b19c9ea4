from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.nn import functional

from espalier.data.torchvision_shim import import_torchvision
from espalier.training.augmentation import (
    Augmentation,
    Crops,
    augment,
    crop,
    draw_augmentation,
    draw_crops,
)

import_torchvision()
from torchvision.transforms import InterpolationMode  # noqa: E402
from torchvision.transforms import functional as oracle  # noqa: E402


def fixed(count: int = 1, **changes: object) -> Augmentation:
    """Parameters that leave an image as it is, but for `changes`."""
    one, zero = torch.ones(count), torch.zeros(count)
    same = Augmentation(zero.bool(), zero, zero, one, one, one, one, (0, 1, 2))
    tensors = {
        name: value if isinstance(value, tuple) else torch.full((count,), value)
        for name, value in changes.items()
    }
    return dataclasses.replace(same, **tensors)


def smooth(channels: int = 1, height: int = 28, width: int = 28) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, channels, 4, 4, generator=generator)
    return functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)


def test_neutral_parameters_change_nothing() -> None:
    for mode in ("nearest", "bilinear"):
        images = smooth(3, 20, 26)
        result = augment(images.clone(), fixed(), mode)
        torch.testing.assert_close(result, images, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(28, 28), (20, 26)])
@pytest.mark.parametrize("angle", [-10.0, 4.0, 9.5])
def test_rotation_is_that_of_torchvision(size: tuple[int, int], angle: float) -> None:
    images = smooth(1, *size)
    expected = oracle.rotate(images, angle, InterpolationMode.BILINEAR)
    result = augment(images.clone(), fixed(rotation=angle), "bilinear")
    torch.testing.assert_close(result, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("size", [(28, 28), (20, 26)])
@pytest.mark.parametrize(("shear", "scale"), [(10.0, 1.0), (-7.0, 0.8), (0.0, 1.2), (6.0, 1.1)])
def test_shear_and_scale_are_those_of_torchvision(
    size: tuple[int, int], shear: float, scale: float
) -> None:
    images = smooth(1, *size)
    expected = oracle.affine(images, 0.0, [0, 0], scale, [shear, 0.0], InterpolationMode.BILINEAR)
    result = augment(images.clone(), fixed(shear=shear, scale=scale), "bilinear")
    torch.testing.assert_close(result, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("flip", [True, False])
def test_composition_is_flip_then_rotation_then_shear_and_scale(flip: bool) -> None:
    images = smooth()
    step = oracle.hflip(images) if flip else images
    step = oracle.rotate(step, 8.0, InterpolationMode.BILINEAR)
    step = oracle.affine(step, 0.0, [0, 0], 1.15, [9.0, 0.0], InterpolationMode.BILINEAR)
    drawn = fixed(flip=flip, rotation=8.0, shear=9.0, scale=1.15)
    result = augment(images.clone(), drawn, "bilinear")
    inner = (..., slice(5, 23), slice(5, 23))  # two resamplings differ from one at the frame
    torch.testing.assert_close(result[inner], step[inner], atol=0.02, rtol=0)
    wrong = augment(images.clone(), dataclasses.replace(drawn, flip=~drawn.flip), "bilinear")
    assert float((wrong - step)[inner].abs().max()) > 0.1


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_jitter_is_that_of_torchvision(channels: int, order: tuple[int, int, int]) -> None:
    images = smooth(channels)
    expected = images
    for kind in order:
        if kind == 0:
            expected = oracle.adjust_brightness(expected, 1.2)
        elif kind == 1:
            expected = oracle.adjust_contrast(expected, 0.8)
        else:
            expected = oracle.adjust_saturation(expected, 1.15)
    drawn = fixed(brightness=1.2, contrast=0.8, saturation=1.15, jitter_order=order)
    torch.testing.assert_close(augment(images.clone(), drawn), expected, atol=1e-4, rtol=0)


def test_every_image_has_its_own_parameters() -> None:
    images = smooth().expand(4, -1, -1, -1).clone()
    drawn = draw_augmentation(4, torch.Generator().manual_seed(0))
    together = augment(images.clone(), drawn)
    for k in range(4):
        single = Augmentation(
            *(getattr(drawn, f.name)[k : k + 1] for f in dataclasses.fields(drawn)[:-1]),
            drawn.jitter_order,
        )
        torch.testing.assert_close(augment(images[k : k + 1].clone(), single)[0], together[k])
    assert len({float(image.sum()) for image in together}) == 4


def test_draws_have_the_thesis_ranges() -> None:
    drawn = draw_augmentation(20000, torch.Generator().manual_seed(0))
    ranges = {
        "rotation": (-10, 10), "shear": (-10, 10), "scale": (0.8, 1.2), "brightness": (0.8, 1.2),
        "contrast": (0.8, 1.2), "saturation": (0.8, 1.2),
    }  # fmt: skip
    for name, (low, high) in ranges.items():
        values = getattr(drawn, name)
        assert low <= float(values.min()) < low + 0.01 * (high - low)
        assert high - 0.01 * (high - low) < float(values.max()) <= high
        assert float(values.mean()) == pytest.approx((low + high) / 2, abs=0.02 * (high - low))
    assert float(drawn.flip.float().mean()) == pytest.approx(0.5, abs=0.02)
    assert sorted(drawn.jitter_order) == [0, 1, 2]


@pytest.mark.parametrize("size", [(8, 8), (6, 11)])
def test_crops_are_those_of_torchvision(size: tuple[int, int]) -> None:
    height, width = size
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(1, 256, (30, height, width, 3), generator=generator, dtype=torch.uint8)
    drawn = draw_crops(30, 3, True, generator)
    result = crop(images, drawn, 3)
    for k, (row, column, flip) in enumerate(
        zip(drawn.row.tolist(), drawn.column.tolist(), drawn.flip.tolist(), strict=True)
    ):
        expected = oracle.crop(oracle.pad(images[k].permute(2, 0, 1), [3]), row, column, *size)
        expected = oracle.hflip(expected) if flip else expected
        assert torch.equal(result[k], expected.permute(1, 2, 0))
    assert 0 < int(drawn.flip.sum()) < 30


def test_draws_of_crops_are_uniform() -> None:
    drawn = draw_crops(18000, 4, True, torch.Generator().manual_seed(0))
    for offsets in (drawn.row, drawn.column):
        counts = torch.bincount(offsets, minlength=9)
        assert len(counts) == 9
        assert float((counts / 2000 - 1).abs().max()) < 0.1
    assert float(drawn.flip.float().mean()) == pytest.approx(0.5, abs=0.02)
    pairs = torch.bincount(9 * drawn.row + drawn.column)
    assert len(pairs) == 81
    assert int(pairs.min()) > 150
    still = draw_crops(100, 4, False, torch.Generator().manual_seed(0))
    assert not still.flip.any()
    images = torch.arange(64, dtype=torch.uint8).reshape(1, 8, 8, 1)
    middle = Crops(torch.tensor([4]), torch.tensor([4]), torch.tensor([False]))
    assert torch.equal(crop(images, middle, 4), images)
