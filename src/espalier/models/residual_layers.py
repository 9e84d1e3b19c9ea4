"""What the residual families share: a basic block and the network around stages of blocks."""

from __future__ import annotations

from torch import Tensor, nn

from espalier.models.layers import scaled

STAGE_CHANNELS = (16, 32, 64)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a way around them, added before the last ReLU.

    Where the shape changes, the way around is a 1x1 convolution with batch norm (option B of He et
    al., 2016); elsewhere it is the identity. No convolution has a bias.
    """

    def __init__(self, inputs: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, channels, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.shortcut = projection_or_identity(inputs, channels, stride)
        self.relu2 = nn.ReLU()

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (n, inputs, height, width) to (n, channels, height / stride, width / stride)."""
        hidden = self.relu1(self.norm1(self.conv1(inputs)))
        return self.relu2(self.norm2(self.conv2(hidden)) + self.shortcut(inputs))


class ResidualNetwork(nn.Module):
    """A first convolution, three stages of basic blocks, the mean over positions, dense output."""

    def __init__(
        self, num_classes: int, input_channels: int, blocks_per_stage: int, width: float
    ) -> None:
        super().__init__()
        channels = scaled(STAGE_CHANNELS[0], width)
        self.conv1 = nn.Conv2d(input_channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.relu1 = nn.ReLU()
        stages = []
        for number, base in enumerate(STAGE_CHANNELS):
            blocks = []
            for block in range(blocks_per_stage):
                stride = 2 if number > 0 and block == 0 else 1
                blocks.append(BasicBlock(channels, scaled(base, width), stride))
                channels = scaled(base, width)
            stages.append(nn.Sequential(*blocks))
        self.stage1, self.stage2, self.stage3 = stages
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.output = nn.Linear(channels, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (n, channels, height, width) to logits (n, classes)."""
        maps = self.relu1(self.norm1(self.conv1(images)))
        maps = self.stage3(self.stage2(self.stage1(maps)))
        return self.output(self.flatten(self.pool(maps)))


def projection_or_identity(inputs: int, channels: int, stride: int) -> nn.Module:
    """Return a shortcut: a 1x1 convolution with batch norm where the shape changes."""
    if stride == 1 and inputs == channels:
        return nn.Identity()
    return nn.Sequential(
        nn.Conv2d(inputs, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
    )
