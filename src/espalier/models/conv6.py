"""Conv-6 in the form of the sparse-topology papers: six convolutions and two dense layers."""

from __future__ import annotations

from torch import nn

from espalier.models.layers import ChainBuilder, require_size, scaled


def build(
    name: str, num_classes: int, input_shape: tuple[int, int, int], width: float
) -> nn.Sequential:
    """Build 2 x conv 64, pool, 2 x conv 128, pool, 2 x conv 256, pool, 2 x dense 256, output.

    Source: Cunegatti et al. (2024), appendix A, after Frankle and Carbin (2019). Unlike there,
    batch norm follows every hidden layer, the dense ones included. Every layer has a bias.
    """
    require_size(name, input_shape, 8)
    chain = ChainBuilder(input_shape)
    for channels in (64, 128, 256):
        chain.convolution(scaled(channels, width))
        chain.convolution(scaled(channels, width))
        chain.max_pool()
    chain.flatten()
    for _ in range(2):
        chain.dense(scaled(256, width), batch_norm=True)
    return chain.output(num_classes)
