"""A problem that trains in well under a second: blobs of light in one of four corners."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from espalier import models
from espalier.training import Recipe, train

RECIPE = Recipe(6, batch_size=16, learning_rate=3e-3, augmentation="thesis")


def corners(count: int = 96, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 100, (count, 8, 8, 1), dtype=np.uint8)
    labels = generator.integers(0, 4, count)
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(int(label), 2)
        image[4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 150
    return images, labels


def network(seed: int = 0) -> nn.Module:
    return models.build("small_cnn", 4, (1, 8, 8), width=0.25, seed=seed)


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def run_slowly(folder: str) -> None:
    """Train with checkpoints into `folder`, saving the state after every epoch."""
    torch.set_num_threads(1)
    images, labels = corners()
    where = Path(folder)
    train(
        network(),
        images,
        labels,
        Recipe(24, batch_size=16, augmentation="thesis"),
        3,
        validation=corners(40, 1),
        checkpoint_paths={where / f"c{epoch}.safetensors": epoch for epoch in (0, 1, 5, 24)},
        metadata={"model": "small_cnn"},
        final_state_path=where / "final.safetensors",
        state_directory=where / "state",
        save_every=0,
    )


if __name__ == "__main__":
    import sys

    run_slowly(sys.argv[1])
