"""Networks that fit a data set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from espalier.data.prepared import PreparedDataset
from espalier.models.registry import build

if TYPE_CHECKING:
    from torch import nn


def build_network(
    options: Mapping[str, Any], dataset: PreparedDataset, seed: int | None = None
) -> nn.Module:
    """Build a network for the images and classes of a data set.

    Args:
        options: "architecture" and "width" of a configured model, and where they are given
            "initialisation" and "frozen_biases" (`espalier.models.build`).
        dataset: gives the number of classes and the shape of an image.
        seed: draws the weights; None draws from torch's global generator.

    Raises:
        DataError: the model does not fit the image size.
    """
    height, width, channels = dataset.x_train.shape[1:]
    shape = (channels, height, width)
    return build(
        options["architecture"],
        len(dataset.class_names),
        shape,
        options["width"],
        seed,
        options.get("initialisation", "default"),
        options.get("frozen_biases", False),
    )
