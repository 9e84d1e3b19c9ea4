"""The network, the batch and the golden arrays of the pruner fixtures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

FOLDER = Path(__file__).resolve().parent.parent / "goldens" / "pruners"
LAYERS = ("conv1.weight", "conv2.weight", "fc.weight")


class TinyCNN(nn.Module):
    """Two convolutions with batch norm and a dense layer: 3 channels of 16x16 to 5 classes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 16, 3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(16)
        self.fc = nn.Linear(16, 5)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.bn1(self.conv1(images)).relu()
        hidden = self.bn2(self.conv2(hidden)).relu()
        return self.fc(hidden.mean(dim=(2, 3)))


def golden(name: str) -> dict[str, NDArray]:
    """Return the arrays of `tests/goldens/pruners/{name}.npz`."""
    with np.load(FOLDER / f"{name}.npz") as arrays:
        return {key: arrays[key] for key in arrays.files}


def golden_tensors(name: str, prefix: str) -> dict[str, Tensor]:
    """Return the tensors of the three weights under `{prefix}/`, in module order."""
    arrays = golden(name)
    return {layer: torch.from_numpy(arrays[f"{prefix}/{layer}"]) for layer in LAYERS}


def tiny_cnn() -> TinyCNN:
    """Return the fixture's network with its weights, in train mode."""
    model = TinyCNN()
    state = {
        key.removeprefix("state/"): torch.from_numpy(value)
        for key, value in golden("fixture").items()
        if key.startswith("state/")
    }
    model.load_state_dict(state)
    return model


def fixture_batch() -> tuple[Tensor, Tensor]:
    """Return the 64 images (64, 3, 16, 16) and labels 0 1 2 3 4 0 1 ... of the fixture."""
    arrays = golden("fixture")
    return torch.from_numpy(arrays["data/x"]), torch.from_numpy(arrays["data/y"])
