"""MediumCNN of Petkov's thesis: four convolutions and two dense layers, 576 hidden units."""

from __future__ import annotations

from torch import nn

from espalier.models.layers import ChainBuilder, require_size, scaled


def build(
    name: str, num_classes: int, input_shape: tuple[int, int, int], width: float
) -> nn.Sequential:
    """Build 2 x conv 64, pool, 2 x conv 128, pool, dense 128, dense 64, output; dropout .3.

    Source: Petkov (2021), section 5.1, and its public code. Dropout stands before both dense
    layers; the dense part has no batch norm.
    """
    require_size(name, input_shape, 4)
    chain = ChainBuilder(input_shape)
    for channels in (64, 128):
        chain.convolution(scaled(channels, width))
        chain.convolution(scaled(channels, width))
        chain.max_pool()
    chain.flatten()
    for units in (128, 64):
        chain.add("dropout", nn.Dropout(0.3))
        chain.dense(scaled(units, width))
    return chain.output(num_classes)
