"""Conv6 of Petkov's thesis: six convolutions and two dense layers, 1,408 hidden units.

It is not the Conv6 of Frankle and Carbin, which has three pools and neither batch norm, dropout
nor average pool.
"""

from __future__ import annotations

from torch import nn

from espalier.models.layers import ChainBuilder, require_size, scaled


def build(
    name: str, num_classes: int, input_shape: tuple[int, int, int], width: float
) -> nn.Sequential:
    """Build 2 x conv 64, pool, 2 x conv 128, pool, 2 x conv 256, 3x3 average pool, 2 x dense 256.

    Source: the public code of Petkov (2021). The fourth convolution has no padding; batch norm
    follows every hidden layer, dropout .3 stands before every dense layer, the output too.
    """
    # 16 is the first side whose last map (16, 8, 6, 3) fills the 3x3 average pool.
    require_size(name, input_shape, 16)
    chain = ChainBuilder(input_shape)
    for channels, last_padding in ((64, 1), (128, 0)):
        chain.convolution(scaled(channels, width))
        chain.convolution(scaled(channels, width), padding=last_padding)
        chain.max_pool()
    for _ in range(2):
        chain.convolution(scaled(256, width))
    chain.add("average_pool", nn.AdaptiveAvgPool2d(3))
    chain.height = chain.width = 3
    chain.flatten()
    for _ in range(2):
        chain.add("dropout", nn.Dropout(0.3))
        chain.dense(scaled(256, width), batch_norm=True)
    chain.add("dropout", nn.Dropout(0.3))
    return chain.output(num_classes)
