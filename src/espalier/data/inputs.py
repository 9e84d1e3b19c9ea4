"""From stored images (uint8, NHWC) to the float tensors that networks take."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from espalier.errors import DataError, unknown_name

_METADATA_KEY = "normalisation"


@dataclass(frozen=True)
class Normalisation:
    """How pixels become inputs: (pixel / 255 - mean) / deviation.

    A network must see the same map wherever images are fed to it, so one object is handed to
    training, evaluation and everything that reads activations. Training writes it into the
    metadata of checkpoints where it is not the default; `of_metadata` reads it back.

    Attributes:
        mean: per channel, or one number for all, of pixels scaled to 0..1.
        deviation: standard deviations, as many.
    """

    mean: tuple[float, ...] = (0.5,)
    deviation: tuple[float, ...] = (0.5,)

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.deviation) or not self.mean:
            raise DataError(
                f"normalisation with {len(self.mean)} means and {len(self.deviation)} deviations; "
                "give one of each per channel, or one for all channels"
            )
        if not all(np.isfinite(self.mean)) or not all(0 < d < np.inf for d in self.deviation):
            raise DataError(
                f"normalisation by mean {self.mean} and deviation {self.deviation}: means must be "
                "finite and deviations positive; is a channel constant over the images?"
            )

    @classmethod
    def named(cls, name: str, images: np.ndarray | Tensor) -> Normalisation:
        """Return the normalisation that a recipe names.

        Args:
            name: "symmetric", -1..1 for all images; or "standard", the mean and the standard
                deviation of each channel over all pixels.
            images: the training images, uint8 (n, height, width, channels).

        Raises:
            DataError: images are not uint8 NHWC, or a channel is constant.
        """
        if name == "symmetric":
            return cls()
        if name != "standard":
            raise unknown_name("normalisation", name, ("symmetric", "standard"))
        pixels = image_tensor(images).reshape(-1, images.shape[3])
        levels = torch.arange(256, dtype=torch.float64) / 255
        means, deviations = [], []
        for channel in pixels.unbind(1):
            # Counting the 256 values is exact, in whatever order the images come.
            shares = torch.bincount(channel.cpu(), minlength=256).double() / len(pixels)
            mean = float((shares * levels).sum())
            means.append(mean)
            deviations.append(float((shares * (levels - mean) ** 2).sum().sqrt()))
        return cls(tuple(means), tuple(deviations))

    @classmethod
    def of_metadata(cls, metadata: Mapping[str, str]) -> Normalisation:
        """Return the normalisation of a checkpoint from the metadata that `read_checkpoint` gave.

        Raises:
            DataError: the entry is damaged.
        """
        if _METADATA_KEY not in metadata:
            return cls()
        try:
            values = json.loads(metadata[_METADATA_KEY])
            return cls(tuple(values["mean"]), tuple(values["deviation"]))
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(
                f"the checkpoint's normalisation is not readable ({error!r})"
            ) from error

    def metadata(self) -> dict[str, str]:
        """Return the entry for a checkpoint's metadata, none for the default."""
        if self == Normalisation():
            return {}
        return {_METADATA_KEY: json.dumps({"mean": self.mean, "deviation": self.deviation})}

    def of_pixels(self, images: Tensor) -> Tensor:
        """Return uint8 images (..., channels) as float32 inputs in the same layout."""
        return self._map(images.to(torch.float32), 255.0, channel_axis=-1)

    def of_unit_range(self, maps: Tensor) -> Tensor:
        """Turn float images (n, channels, height, width) in 0..1 into inputs, in place."""
        return self._map(maps, 1.0, channel_axis=1)

    def _map(self, values: Tensor, top: float, channel_axis: int) -> Tensor:
        channels = values.shape[channel_axis]
        if len(self.mean) not in (1, channels):
            raise DataError(
                f"the normalisation has {len(self.mean)} channels, the images {channels}: "
                "it was made from other images"
            )
        slopes = [1 / (top * deviation) for deviation in self.deviation]
        offsets = [
            mean / deviation for mean, deviation in zip(self.mean, self.deviation, strict=True)
        ]
        if len(slopes) == 1:
            return values.mul_(slopes[0]).sub_(offsets[0])
        shape = [1] * values.dim()
        shape[channel_axis] = channels
        slope, offset = (values.new_tensor(part).reshape(shape) for part in (slopes, offsets))
        return values.mul_(slope).sub_(offset)


SYMMETRIC = Normalisation()


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
    normalisation: Normalisation = SYMMETRIC,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (inputs, labels) in order: float32 (n, channels, height, width) and int64.

    Labels are zeros where none are given. The normalisation must be the one that the network was
    trained with.

    Raises:
        DataError: images are not uint8 NHWC, or labels or normalisation do not match them.
    """
    tensor = image_tensor(images)
    targets = label_tensor(np.zeros(len(tensor)) if labels is None else labels, tensor)
    for start in range(0, len(tensor), batch_size):
        part = slice(start, start + batch_size)
        inputs = normalisation.of_pixels(tensor[part].to(device))
        yield as_maps(inputs), targets[part].to(device)
