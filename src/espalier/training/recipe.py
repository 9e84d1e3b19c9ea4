"""How a network is trained: the recipe, and when checkpoints and pruning happen."""

from __future__ import annotations

import math
from dataclasses import dataclass

from espalier.errors import ConfigurationError

_CHOICES = {
    "optimizer": ("adam",),
    "schedule": ("cosine", "constant"),
    "augmentation": ("none", "thesis"),
    "evaluation": ("eval", "published"),
}


@dataclass(frozen=True)
class Recipe:
    """Every number that shapes training, the seed left out.

    Attributes:
        epochs: passes over the training images, over which the schedule runs.
        batch_size: images per update; a last batch of a single image is left out.
        learning_rate: at the first epoch.
        weight_decay: L2 penalty as torch's Adam adds it to the gradient.
        optimizer: "adam".
        schedule: "cosine" anneals to 0 over `epochs`, one step per epoch; "constant" does not.
        augmentation: "none", or "thesis": flips, rotations, shears, scales and colour jitter.
        shuffle: a new order of the images in every epoch; the published code has a fixed order.
        evaluation: "eval" validates in evaluation mode. "published" never calls eval(): dropout
            stays active, batch norm uses the batch and updates its running statistics.
    """

    epochs: int
    batch_size: int = 500
    learning_rate: float = 1e-3
    weight_decay: float = 1e-5
    optimizer: str = "adam"
    schedule: str = "cosine"
    augmentation: str = "none"
    shuffle: bool = True
    evaluation: str = "eval"

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                listing = " or ".join(map(repr, choices))
                raise ConfigurationError(f"{name} is {getattr(self, name)!r}; use {listing}")
        if self.epochs < 1 or self.batch_size < 1:
            raise ConfigurationError(
                f"epochs ({self.epochs}) and batch_size ({self.batch_size}) must be at least 1"
            )
        if not 0 < self.learning_rate < math.inf or not 0 <= self.weight_decay < math.inf:
            raise ConfigurationError(
                f"learning_rate ({self.learning_rate}) must be positive and weight_decay "
                f"({self.weight_decay}) not negative"
            )

    def learning_rate_at(self, epoch: int) -> float:
        """Return the learning rate of an epoch, counted from 0."""
        if self.schedule == "constant":
            return self.learning_rate
        return self.learning_rate * (1 + math.cos(math.pi * epoch / self.epochs)) / 2


def checkpoint_epochs(epochs: int, count: int = 11, first: str = "update") -> list[int]:
    """Return after how many epochs each checkpoint is taken; 0 stands for one weight update.

    Checkpoint k of `count` is taken after ceil(epochs * k / (count - 1)) epochs, so that they are
    uniform over training and the last is the end (Petkov 2021, section 5.1).

    Args:
        epochs: length of training.
        count: number of checkpoints, at least 2.
        first: checkpoint 0 is taken after one weight "update" (text), or after one "epoch"
            (the published code).
    """
    if count < 2:
        raise ConfigurationError(f"checkpoint count is {count}; the first and the last make 2")
    if first not in ("update", "epoch"):
        raise ConfigurationError(f"first checkpoint is {first!r}; use 'update' or 'epoch'")
    later = [-(-epochs * k // (count - 1)) for k in range(1, count)]
    return [0 if first == "update" else 1, *later]


def pruning_epoch(dense_epochs: int, share: float = 0.7) -> int:
    """Return after how many epochs to prune: `share` of the dense epochs, rounded, at least 1.

    Source: "one-shot pruning at 70% convergence" (Petkov 2021, section 4.4). The published code
    prunes after epoch 70 whatever the total.
    """
    return max(1, round(share * dense_epochs))
