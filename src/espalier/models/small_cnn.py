"""SmallCNN of Petkov's thesis: two convolutions and two dense layers, 192 hidden units."""

from __future__ import annotations

from torch import nn

from espalier.models.layers import ChainBuilder, require_size, scaled


def build(
    name: str, num_classes: int, input_shape: tuple[int, int, int], width: float
) -> nn.Sequential:
    """Build conv 32, pool, conv 64, pool, dense 64, dense 32, output; dropout .3 before both dense.

    Source: Petkov (2021), section 5.1, and the class FashionCNN of its public code. The thesis
    drops whole channels of a flat vector, which is element-wise dropout, written as such here.
    """
    require_size(name, input_shape, 4)
    chain = ChainBuilder(input_shape)
    for channels in (32, 64):
        chain.convolution(scaled(channels, width))
        chain.max_pool()
    chain.flatten()
    for units in (64, 32):
        chain.add("dropout", nn.Dropout(0.3))
        chain.dense(scaled(units, width))
    return chain.output(num_classes)
