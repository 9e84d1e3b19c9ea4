"""Multilayer perceptrons with ReLU, named by their layer sizes: `mlp-784-256-10`."""

from __future__ import annotations

import math
import re

from torch import nn

from espalier.errors import ConfigurationError, DataError
from espalier.models.layers import ChainBuilder, scaled


def build(
    name: str, num_classes: int, input_shape: tuple[int, int, int], width: float
) -> nn.Sequential:
    """Build the perceptron that `name` spells out; `width` scales its hidden layers.

    Raises:
        ConfigurationError: the name is not `mlp-` and two or more positive integers.
        DataError: the first size is not the number of pixels, or the last not `num_classes`.
    """
    if not re.fullmatch(r"mlp(-[1-9]\d*){2,}", name):
        raise ConfigurationError(
            f"{name!r} is not a perceptron's name; write its layer sizes, as in mlp-784-256-10"
        )
    inputs, *hidden, outputs = map(int, name.split("-")[1:])
    if inputs != math.prod(input_shape):
        raise DataError(
            f"{name} takes {inputs} inputs, but images of shape {tuple(input_shape)} have "
            f"{math.prod(input_shape)} values"
        )
    if outputs != num_classes:
        raise DataError(f"{name} has {outputs} outputs, but there are {num_classes} classes")
    chain = ChainBuilder(input_shape)
    chain.flatten()
    for units in hidden:
        chain.dense(scaled(units, width))
    return chain.output(num_classes)
