"""Which images train, validate and test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from espalier.data.prepared import PreparedDataset
from espalier.errors import ConfigurationError, DataError
from espalier.seeds import numpy_generator

_PUBLISHED_SEED = 27


@dataclass(frozen=True, eq=False)
class Split:
    """Sorted or permuted indices into the images of a prepared data set.

    Attributes:
        train: into the training images.
        validation: into the images that `validation_from` names.
        test: into the test images.
        validation_from: "train" or "test".
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    validation_from: Literal["train", "test"]


class SplitImages(NamedTuple):
    """Images and labels of each part."""

    train: tuple[np.ndarray, np.ndarray]
    validation: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]


def split_indices(num_train: int, num_test: int, scheme: str = "text", seed: int = 0) -> Split:
    """Divide a data set's images into training, validation and test images.

    "text" (Petkov 2021, section 5.1): validation images are drawn from the training images, as
    many as there are test images but at most one fifth of the training images: 10,000 of 60,000
    for Fashion-MNIST, 2,000 of 10,000 for CIFAR-20. All test images test.

    "full" (Cunegatti et al. 2024): all training images train, all test images test, none validate.

    "published" (the public code of Petkov): all training images train; the test images are
    permuted with torch's generator, seed 27, the first half validates and the second tests, as
    `torch.utils.data.random_split` divides them. Here `seed` has no influence.

    Args:
        num_train: number of training images.
        num_test: number of test images.
        scheme: "text", "full" or "published".
        seed: draws the validation images of "text" from the stream (seed, "validation").

    Raises:
        ConfigurationError: an unknown scheme.
        DataError: too few images to have at least one in each part.
    """
    if scheme not in ("text", "full", "published"):
        raise ConfigurationError(f"split scheme is {scheme!r}; use 'text', 'full' or 'published'")
    if scheme == "full":
        _require(num_train >= 1 and num_test >= 1, scheme, num_train, num_test)
        none = np.arange(0)
        return Split(np.arange(num_train), none, np.arange(num_test), "train")
    if scheme == "published":
        _require(num_train >= 1 and num_test >= 2, scheme, num_train, num_test)
        import torch

        generator = torch.Generator().manual_seed(_PUBLISHED_SEED)
        order = torch.randperm(num_test, generator=generator).numpy()
        half = num_test // 2
        return Split(np.arange(num_train), order[:half], order[half:], "test")
    held_out = min(num_test, num_train // 5)
    _require(held_out >= 1, scheme, num_train, num_test)
    order = numpy_generator(seed, "validation").permutation(num_train)
    train, validation = np.sort(order[held_out:]), np.sort(order[:held_out])
    return Split(train, validation, np.arange(num_test), "train")


def split_dataset(dataset: PreparedDataset, scheme: str = "text", seed: int = 0) -> SplitImages:
    """Return the images and labels of `split_indices` for a prepared data set.

    Raises:
        ConfigurationError, DataError: as `split_indices`.
    """
    split = split_indices(len(dataset.y_train), len(dataset.y_test), scheme, seed)
    held_in = split.validation_from
    images = dataset.x_train if held_in == "train" else dataset.x_test
    labels = dataset.y_train if held_in == "train" else dataset.y_test
    return SplitImages(
        (dataset.x_train[split.train], dataset.y_train[split.train]),
        (images[split.validation], labels[split.validation]),
        (dataset.x_test[split.test], dataset.y_test[split.test]),
    )


def _require(enough: bool, scheme: str, num_train: int, num_test: int) -> None:
    if not enough:
        raise DataError(
            f"{num_train} training and {num_test} test images are too few to split by {scheme!r}"
        )
