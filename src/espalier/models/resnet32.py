"""ResNet-32 for 32x32 images: five basic blocks in each of three stages."""

from __future__ import annotations

from torch import nn

from espalier.models.layers import require_size
from espalier.models.residual_layers import ResidualNetwork


def build(
    name: str, num_classes: int, input_shape: tuple[int, int, int], width: float
) -> nn.Module:
    """Build conv 16, three stages of five basic blocks (16, 32, 64 channels), output.

    Source: He et al. (2016), section 4.2, with option-B shortcuts: a 1x1 convolution and batch norm
    where a stage begins, as in the public code behind Cunegatti et al. (2024). The namesake has
    parameterless shortcuts (option A).
    """
    require_size(name, input_shape, 4)
    return ResidualNetwork(num_classes, input_shape[0], 5, width)
