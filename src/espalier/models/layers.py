"""What the convolutional families share: a builder of named layers that tracks the image size."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from espalier.errors import DataError


def scaled(units: int, width: float) -> int:
    """Return `units * width` rounded to the nearest integer, at least 1."""
    return max(1, round(units * width))


class ChainBuilder:
    """Collects the named layers of a chain and keeps the shape (channels, height, width)."""

    def __init__(self, input_shape: tuple[int, int, int]) -> None:
        self.channels, self.height, self.width = input_shape
        self.layers: OrderedDict[str, nn.Module] = OrderedDict()
        self._counts: dict[str, int] = {}

    def add(self, kind: str, layer: nn.Module) -> None:
        """Append a layer under the name `kind` plus its running number."""
        self._counts[kind] = self._counts.get(kind, 0) + 1
        self.layers[f"{kind}{self._counts[kind]}"] = layer

    def convolution(self, channels: int, padding: int = 1) -> None:
        """Append a 3x3 convolution with bias, batch norm and ReLU."""
        self.add("conv", nn.Conv2d(self.channels, channels, 3, padding=padding))
        self.add("norm", nn.BatchNorm2d(channels))
        self.add("relu", nn.ReLU())
        self.channels = channels
        self.height += 2 * padding - 2
        self.width += 2 * padding - 2

    def max_pool(self) -> None:
        """Append a 2x2 max pool; an odd last row or column is dropped."""
        self.add("pool", nn.MaxPool2d(2))
        self.height //= 2
        self.width //= 2

    def flatten(self) -> None:
        """Append the step from maps to one vector, channel by channel."""
        self.layers["flatten"] = nn.Flatten()
        self.channels *= self.height * self.width
        self.height = self.width = 1

    def dense(self, units: int, batch_norm: bool = False) -> None:
        """Append a dense layer with ReLU, optionally with batch norm between the two."""
        self.add("dense", nn.Linear(self.channels, units))
        if batch_norm:
            self.add("norm", nn.BatchNorm1d(units))
        self.add("relu", nn.ReLU())
        self.channels = units

    def output(self, num_classes: int) -> nn.Sequential:
        """Append the output layer (logits, no activation) and return the chain."""
        self.layers["output"] = nn.Linear(self.channels, num_classes)
        return nn.Sequential(self.layers)


def require_size(name: str, input_shape: tuple[int, int, int], smallest: int) -> None:
    """Check that both sides of the image reach the smallest side that a model can take.

    Raises:
        DataError: a side is too short; the message names the smallest that fits.
    """
    _, height, width = input_shape
    if min(height, width) < smallest:
        raise DataError(
            f"{name} does not fit {height}x{width} images: the smallest it takes is "
            f"{smallest}x{smallest}. Use larger images (image_size) or a smaller model"
        )
