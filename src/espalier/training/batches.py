"""The training images on their device, cut into augmented batches."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from espalier.data.inputs import Normalisation, as_maps
from espalier.errors import ConfigurationError, DataError
from espalier.seeds import torch_generator
from espalier.training.augmentation import augment, crop, draw_augmentation, draw_crops
from espalier.training.recipe import Recipe


class TrainingImages:
    """What every epoch of a run, and every run beside it, draws its batches from.

    Raises:
        DataError: there are no images.
        ConfigurationError: images that are smaller than what the recipe's crops move them by.
    """

    def __init__(
        self,
        images: Tensor,
        targets: Tensor,
        recipe: Recipe,
        normalisation: Normalisation,
        device: torch.device,
    ) -> None:
        if not len(images):
            raise DataError("there are no training images")
        self._cropped = recipe.augmentation in ("crop", "crop_flip")
        if self._cropped and recipe.crop_padding >= min(images.shape[1:3]):
            raise ConfigurationError(
                f"crop_padding is {recipe.crop_padding}, but the images have shape "
                f"{tuple(images.shape[1:3])}: some windows would be all black"
            )
        self._recipe = recipe
        self._normalisation = normalisation
        self._device = device
        self._targets = targets.to(device)
        self._images = images.to(device)
        if recipe.augmentation == "none":
            # The inputs are the same in every epoch, so they are made once.
            self._images = normalisation.of_pixels(self._images)

    def __len__(self) -> int:
        return len(self._targets)

    def batches(self, seed: int, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (inputs, labels) of an epoch, counted from 0.

        A last batch of a single image is left out: batch norm has no variance to estimate from it.
        """
        count, size = len(self), self._recipe.batch_size
        if self._recipe.shuffle:
            order = torch.randperm(count, generator=torch_generator(seed, "shuffle", epoch))
        else:
            order = torch.arange(count)
        order = order.to(self._device)
        draws = torch_generator(seed, "augmentation", epoch)
        for number in range(self._recipe.steps_per_epoch(count)):
            chosen = order[number * size : (number + 1) * size]
            yield self._inputs(chosen, draws), self._targets.index_select(0, chosen)

    def _inputs(self, chosen: Tensor, draws: torch.Generator) -> Tensor:
        images = self._images.index_select(0, chosen)
        recipe = self._recipe
        if recipe.augmentation == "none":
            return as_maps(images)
        if self._cropped:
            flips = recipe.augmentation == "crop_flip"
            drawn = draw_crops(len(chosen), recipe.crop_padding, flips, draws)
            return as_maps(self._normalisation.of_pixels(crop(images, drawn, recipe.crop_padding)))
        maps = as_maps(images).to(torch.float32).div_(255)
        maps = augment(maps, draw_augmentation(len(chosen), draws))
        return self._normalisation.of_unit_range(maps).contiguous(memory_format=torch.channels_last)
