"""Small random networks with all that channels can go through, and random masks for them."""

from __future__ import annotations

import random

import torch
from torch import Tensor, nn
from torch.nn import functional

from espalier.pruning import prunable_parameters


class Residual(nn.Module):
    def __init__(self, channels: int, after: int, stride: int, padding: int, bias: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, after, 1 + 2 * padding, stride, padding, bias=bias)
        self.norm1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=not bias)
        self.shortcut = (
            nn.Identity()
            if channels == after and stride == 1
            else nn.Conv2d(channels, after, 1, stride)
        )

    def forward(self, inputs: Tensor) -> Tensor:
        outputs = self.conv2(functional.relu(self.norm1(self.conv1(inputs)), inplace=True))
        outputs += self.shortcut(inputs)
        return functional.relu(outputs)


class Gate(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.conv = nn.Conv2d(channels, channels, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs * torch.sigmoid(self.conv(self.pool(inputs)))


class Branches(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.left = nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect")
        self.right = nn.Conv2d(channels, 2, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.cat([self.left(inputs), inputs, self.right(inputs) * 0.5 + 0.1], dim=1)


class Opaque(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.flip(1)


def random_network(seed: int) -> nn.Module:
    """Return a network from (n, 3, 12, 12) to 4 logits with random statistics and biases."""
    choose = random.Random(seed)
    layers: list[nn.Module] = []
    channels, side = 3, 12
    for _ in range(choose.randint(1, 4)):
        after = choose.randint(2, 6)
        kind = choose.choice(
            ["conv", "conv", "residual", "residual", "depthwise", "grouped", "gate", "branches"]
            + ["opaque"] * choose.randint(0, 1)
        )
        bias = choose.random() < 0.5
        if kind == "conv":
            padding = choose.randint(0, 1) if side > 2 else 1
            stride = choose.randint(1, 2)
            layers += [nn.Conv2d(channels, after, 3, stride, padding, bias=bias)]
            layers += [nn.BatchNorm2d(after, affine=bias), choose.choice([nn.ReLU(), nn.SiLU()])]
            channels, side = after, (side + 2 * padding - 3) // stride + 1
        elif kind == "residual":
            after = channels if choose.random() < 0.4 else after
            stride = choose.randint(1, 2)
            layers.append(Residual(channels, after, stride, choose.randint(0, 1), bias))
            channels, side = after, -(-side // stride)
        elif kind == "depthwise":
            more = choose.randint(1, 2)
            layers.append(nn.Conv2d(channels, more * channels, 3, padding=1, groups=channels))
            channels *= more
        elif kind == "grouped":
            layers += [nn.Conv2d(channels, 4, 1), nn.Conv2d(4, 6, 1, groups=2, bias=bias)]
            channels = 6
        elif kind == "gate":
            layers.append(Gate(channels))
        elif kind == "branches" and side > 1:
            layers.append(Branches(channels))
            channels = 2 * channels + 2
        elif kind == "opaque":
            layers.append(Opaque())
        if choose.random() < 0.3:
            layers.append(
                choose.choice(
                    [
                        nn.MaxPool2d(3, 1, padding=1),
                        nn.AvgPool2d(3, 1, padding=1),
                        nn.AvgPool2d(3, 1, padding=1, count_include_pad=False),
                        nn.Dropout(0.5),
                    ]
                )
            )
    side = choose.randint(1, 2)
    layers += [nn.AdaptiveAvgPool2d(side), nn.Flatten(), nn.Linear(channels * side**2, 5)]
    layers += [nn.BatchNorm1d(5), nn.ReLU(inplace=True), nn.Linear(5, 4)]
    return scramble(nn.Sequential(*layers), seed)


def scramble(model: nn.Module, seed: int) -> nn.Module:
    """Draw biases, scales and statistics, so that constants are not zero by chance."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.normal_(generator=generator)
            else:
                fan_in = parameter[0].numel()
                parameter.normal_(0, (4 / fan_in) ** 0.5, generator=generator)
        for name, buffer in model.named_buffers():
            if name.endswith("running_var"):
                buffer.uniform_(0.3, 2, generator=generator)
            elif name.endswith("running_mean"):
                buffer.normal_(0, 0.5, generator=generator)
    return model


def random_masks(model: nn.Module, density: float, seed: int) -> dict[str, Tensor]:
    """Return masks that keep each weight with this chance, and remove whole units besides."""
    generator = torch.Generator().manual_seed(seed)
    masks = {}
    for name, weight in prunable_parameters(model).items():
        mask = torch.rand(weight.shape, generator=generator) < density
        mask[torch.rand(len(mask), generator=generator) < 0.3] = False
        masks[name] = mask
    return masks


def masked(model: nn.Module, masks: dict[str, Tensor]) -> nn.Module:
    """Multiply the weights by their masks, in place."""
    with torch.no_grad():
        for name, mask in masks.items():
            model.get_parameter(name).mul_(mask)
    return model
