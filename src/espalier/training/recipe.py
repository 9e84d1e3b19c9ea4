"""How a network is trained: the recipe, and when checkpoints and pruning happen."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from espalier.errors import ConfigurationError, unknown_name

CHOICES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "optimizer": ("adam", "sgd"),
        "schedule": ("cosine", "constant", "milestones"),
        "augmentation": ("none", "thesis", "crop", "crop_flip"),
        "normalisation": ("symmetric", "standard"),
        "precision": ("float32", "mixed"),
        "evaluation": ("eval", "published"),
    }
)

_PUBLISHED: Mapping[str, Any] = {
    "epochs": 160,
    "batch_size": 128,
    "optimizer": "sgd",
    "momentum": 0.9,
    "learning_rate": 0.1,
    "weight_decay": 1e-4,
    "schedule": "milestones",
    "milestones": (0.5, 0.75),
    "gamma": 0.1,
    "augmentation": "crop_flip",
    "normalisation": "standard",
}

# "published" is the training of the sparse-topology papers on CIFAR. Their other settings are
# changes to it: weight decay 5e-4 for Wide-ResNet-28-2, and 100 epochs with milestones 30, 60, 80
# for Tiny-ImageNet. "fast_not_published" takes the same steps in other arithmetic.
PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "published": MappingProxyType(_PUBLISHED),
        "fast_not_published": MappingProxyType(
            {**_PUBLISHED, "precision": "mixed", "compiled": True}
        ),
    }
)


@dataclass(frozen=True)
class Recipe:
    """Every number that shapes training, the seed left out.

    Attributes:
        epochs: passes over the training images, over which the schedule runs.
        batch_size: images per update; a last batch of a single image is left out.
        learning_rate: at the first epoch.
        weight_decay: L2 penalty on every parameter, added to the gradient as torch does.
        optimizer: "adam" or "sgd".
        schedule: "cosine" anneals to 0 over `epochs`, one step per epoch; "constant" does not;
            "milestones" multiplies the rate by `gamma` at each of `milestones`.
        augmentation: "none"; "thesis": flips, rotations, shears, scales and colour jitter;
            "crop_flip": a random window of the image padded with `crop_padding` black pixels, and
            a mirror image with probability .5; "crop": the window alone, for images that change
            their meaning in a mirror.
        shuffle: a new order of the images in every epoch; the published code has a fixed order.
        evaluation: "eval" validates in evaluation mode. "published" never calls eval(): dropout
            stays active, batch norm uses the batch and updates its running statistics.
        momentum: of SGD.
        nesterov: Nesterov's form of SGD's momentum.
        milestones: after how many epochs the rate falls: numbers of epochs, or shares of them
            (below 1, rounded to whole epochs).
        gamma: factor at a milestone.
        crop_padding: pixels added on every side before a window is cut out.
        normalisation: "symmetric" maps pixels to -1..1; "standard" subtracts each channel's mean
            over the training images and divides by its standard deviation.
        precision: "float32", or "mixed": the forward pass in bfloat16 where that is safe, with
            weights, losses and updates in float32.
        compiled: compile the forward pass on a GPU. Elsewhere the model runs as it is, since
            compiling costs more than these networks gain.
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
    momentum: float = 0.9
    nesterov: bool = False
    milestones: tuple[float, ...] = ()
    gamma: float = 0.1
    crop_padding: int = 4
    normalisation: str = "symmetric"
    precision: str = "float32"
    compiled: bool = False

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
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
        if not 0 <= self.momentum < 1:
            raise ConfigurationError(f"momentum is {self.momentum}; use a number in [0, 1)")
        if self.optimizer == "sgd" and self.nesterov and self.momentum == 0:
            raise ConfigurationError("nesterov needs a momentum above 0")
        if self.crop_padding < 1:
            raise ConfigurationError(f"crop_padding is {self.crop_padding}; use at least 1 pixel")
        object.__setattr__(self, "milestones", tuple(self.milestones))
        if self.schedule == "milestones":
            self._check_milestones()

    def learning_rate_at(self, epoch: int) -> float:
        """Return the learning rate of an epoch, counted from 0."""
        if self.schedule == "constant":
            return self.learning_rate
        if self.schedule == "milestones":
            passed = bisect_right(self.milestone_epochs(), epoch)
            return self.learning_rate * self.gamma**passed
        return self.learning_rate * (1 + math.cos(math.pi * epoch / self.epochs)) / 2

    def milestone_epochs(self) -> list[int]:
        """Return after how many epochs the rate falls, in order."""
        return [
            round(milestone * self.epochs) if milestone < 1 else int(milestone)
            for milestone in self.milestones
        ]

    def steps_per_epoch(self, images: int) -> int:
        """Return the number of updates in one pass over `images` training images."""
        whole, rest = divmod(images, self.batch_size)
        alone = rest == 1 and whole > 0
        return whole + (rest > 0 and not alone)

    def _check_milestones(self) -> None:
        if not 0 < self.gamma <= 1:
            raise ConfigurationError(f"gamma is {self.gamma}; use a factor in (0, 1]")
        if any(value <= 0 or (value >= 1 and value != int(value)) for value in self.milestones):
            raise ConfigurationError(
                f"milestones are {list(self.milestones)}; use whole numbers of epochs, or shares "
                "of them between 0 and 1"
            )
        epochs = self.milestone_epochs()
        if (
            not epochs
            or epochs != sorted(set(epochs))
            or epochs[0] < 1
            or epochs[-1] >= self.epochs
        ):
            raise ConfigurationError(
                f"milestones are after epochs {epochs} of {self.epochs}; the schedule needs at "
                "least one, in rising order, from 1 to one before the last"
            )


def preset_recipe(preset: str, **changes: Any) -> Recipe:
    """Return the recipe of a preset with some of its values changed.

    Args:
        preset: "published", the papers' training; or "fast_not_published", the same training in
            mixed precision and compiled, whose results are not the papers'.
        **changes: fields of `Recipe` that replace the preset's.

    Raises:
        ConfigurationError: an unknown preset or field, or values that do not fit together.
    """
    if preset not in PRESETS:
        raise unknown_name("preset", preset, PRESETS)
    for name in changes:
        if name not in Recipe.__dataclass_fields__:
            raise unknown_name("field of the recipe", name, Recipe.__dataclass_fields__)
    return Recipe(**{**PRESETS[preset], **changes})


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
