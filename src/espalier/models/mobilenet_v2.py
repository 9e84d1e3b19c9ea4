"""MobileNet-V2 for 32x32 images: seventeen inverted residual blocks."""

from __future__ import annotations

from torch import Tensor, nn

from espalier.models.layers import require_size, scaled
from espalier.models.residual_layers import projection_or_identity

# Expansion, channels, blocks and first stride of each stage: table 2 of Sandler et al. (2018) with
# the stride of the second stage 1 instead of 2.
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
_FIRST_CHANNELS = 32
_LAST_CHANNELS = 1280


def build(
    name: str, num_classes: int, input_shape: tuple[int, int, int], width: float
) -> nn.Module:
    """Build conv 32, seventeen inverted residual blocks, 1x1 conv 1280, output.

    Source: Sandler et al. (2018) in the form for 32x32 images of the public code behind Cunegatti
    et al. (2023): the first convolution and the second stage have stride 1, ReLU stands for ReLU6,
    and blocks of stride 1 that change the number of channels have a projection shortcut.
    """
    require_size(name, input_shape, 8)
    return MobileNetV2(num_classes, input_shape[0], width)


class InvertedResidual(nn.Module):
    """1x1 expansion, 3x3 depthwise convolution and linear 1x1 projection; no biases.

    Blocks of stride 1 have a way around: the identity, or a 1x1 convolution with batch norm where
    the number of channels changes.
    """

    def __init__(self, inputs: int, channels: int, expansion: int, stride: int) -> None:
        super().__init__()
        hidden = expansion * inputs
        self.conv1 = nn.Conv2d(inputs, hidden, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(hidden)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(hidden, hidden, 3, stride, padding=1, groups=hidden, bias=False)
        self.norm2 = nn.BatchNorm2d(hidden)
        self.relu2 = nn.ReLU()
        self.conv3 = nn.Conv2d(hidden, channels, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(channels)
        self.shortcut = projection_or_identity(inputs, channels, 1) if stride == 1 else None

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (n, inputs, height, width) to (n, channels, height / stride, width / stride)."""
        hidden = self.relu1(self.norm1(self.conv1(inputs)))
        hidden = self.relu2(self.norm2(self.conv2(hidden)))
        outputs = self.norm3(self.conv3(hidden))
        return outputs if self.shortcut is None else outputs + self.shortcut(inputs)


class MobileNetV2(nn.Module):
    """A first convolution, stages of inverted residuals, 1x1 convolution, mean, output."""

    def __init__(self, num_classes: int, input_channels: int, width: float) -> None:
        super().__init__()
        channels = scaled(_FIRST_CHANNELS, width)
        self.conv1 = nn.Conv2d(input_channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.relu1 = nn.ReLU()
        stages = []
        for expansion, base, count, first_stride in _STAGES:
            blocks = []
            for block in range(count):
                stride = first_stride if block == 0 else 1
                blocks.append(InvertedResidual(channels, scaled(base, width), expansion, stride))
                channels = scaled(base, width)
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.Sequential(*stages)
        last = scaled(_LAST_CHANNELS, width)
        self.conv2 = nn.Conv2d(channels, last, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(last)
        self.relu2 = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.output = nn.Linear(last, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (n, channels, height, width) to logits (n, classes)."""
        maps = self.stages(self.relu1(self.norm1(self.conv1(images))))
        maps = self.relu2(self.norm2(self.conv2(maps)))
        return self.output(self.flatten(self.pool(maps)))
