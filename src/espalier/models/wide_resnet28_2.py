"""Wide ResNet 28-2 for 32x32 images: four pre-activated blocks in each of three stages."""

from __future__ import annotations

from torch import Tensor, nn

from espalier.models.layers import require_size, scaled
from espalier.models.residual_layers import STAGE_CHANNELS

_WIDENING = 2
_BLOCKS_PER_STAGE = 4


def build(
    name: str, num_classes: int, input_shape: tuple[int, int, int], width: float
) -> nn.Module:
    """Build conv 16, three stages of four blocks (32, 64, 128 channels), batch norm, output.

    Source: Zagoruyko and Komodakis (2016), depth 28, widening factor 2, without dropout. Where a
    stage begins, the shortcut is a 1x1 convolution of the activated input.
    """
    require_size(name, input_shape, 4)
    return WideResidualNetwork(num_classes, input_shape[0], width)


class WideBlock(nn.Module):
    """Batch norm, ReLU and a 3x3 convolution, twice, and a way around them; no biases.

    Where the shape changes, the way around is a 1x1 convolution behind the first ReLU.
    """

    def __init__(self, inputs: int, channels: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.relu1 = nn.ReLU()
        self.conv1 = nn.Conv2d(inputs, channels, 3, stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.relu2 = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.shortcut = (
            nn.Identity()
            if stride == 1 and inputs == channels
            else nn.Conv2d(inputs, channels, 1, stride, bias=False)
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (n, inputs, height, width) to (n, channels, height / stride, width / stride)."""
        activated = self.relu1(self.norm1(inputs))
        around = inputs if isinstance(self.shortcut, nn.Identity) else activated
        return self.conv2(self.relu2(self.norm2(self.conv1(activated)))) + self.shortcut(around)


class WideResidualNetwork(nn.Module):
    """A first convolution, three stages of blocks, batch norm, mean over positions, output."""

    def __init__(self, num_classes: int, input_channels: int, width: float) -> None:
        super().__init__()
        channels = scaled(STAGE_CHANNELS[0], width)
        self.conv1 = nn.Conv2d(input_channels, channels, 3, padding=1, bias=False)
        stages = []
        for number, base in enumerate(STAGE_CHANNELS):
            blocks = []
            for block in range(_BLOCKS_PER_STAGE):
                stride = 2 if number > 0 and block == 0 else 1
                blocks.append(WideBlock(channels, scaled(_WIDENING * base, width), stride))
                channels = scaled(_WIDENING * base, width)
            stages.append(nn.Sequential(*blocks))
        self.stage1, self.stage2, self.stage3 = stages
        self.norm = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.output = nn.Linear(channels, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (n, channels, height, width) to logits (n, classes)."""
        maps = self.stage3(self.stage2(self.stage1(self.conv1(images))))
        return self.output(self.flatten(self.pool(self.relu(self.norm(maps)))))
