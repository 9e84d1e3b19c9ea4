"""ResNet-8 for 32x32 images: the smallest network of its family."""

from __future__ import annotations

from torch import nn

from espalier.models.layers import require_size
from espalier.models.residual_layers import ResidualNetwork


def build(
    name: str, num_classes: int, input_shape: tuple[int, int, int], width: float
) -> nn.Module:
    """Build conv 16, three stages of one basic block (16, 32, 64 channels), output.

    He et al. (2016) give the family (6 n + 2 layers) from n = 3 on; this is n = 1, with the
    option-B shortcuts of `resnet20`.
    """
    require_size(name, input_shape, 4)
    return ResidualNetwork(num_classes, input_shape[0], 1, width)
