"""The prepared form of a data set, its checks, and its NPZ file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from espalier.errors import DataError, unknown_name
from espalier.files import read_npz, write_npz

_ARRAYS = ("x_train", "y_train", "x_test", "y_test", "class_names")


@dataclass(frozen=True, eq=False)
class PreparedDataset:
    """Images and labels, checked when made.

    Attributes:
        x_train, x_test: uint8 (n, height, width, channels), one or three channels.
        y_train, y_test: int64 (n,), class indices from 0.
        class_names: one name per class, in label order.

    Raises:
        DataError: a type, shape, label or class name does not fit; the message says which.
    """

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        for part in ("train", "test"):
            _check_part(part, getattr(self, f"x_{part}"), getattr(self, f"y_{part}"))
            _check_labels(part, getattr(self, f"y_{part}"), len(self.class_names))
        if self.x_train.shape[1:] != self.x_test.shape[1:]:
            raise DataError(
                f"x_train has images of shape {self.x_train.shape[1:]}, x_test of "
                f"{self.x_test.shape[1:]}"
            )
        repeated = {name for name in self.class_names if self.class_names.count(name) > 1}
        if repeated or "" in self.class_names:
            raise DataError(f"class names must differ and not be empty: {self.class_names}")

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one image, as networks take it."""
        height, width, channels = self.x_train.shape[1:]
        return channels, height, width


def write_dataset(
    path: str | os.PathLike[str],
    dataset: PreparedDataset,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write the prepared NPZ, uncompressed: it is read by every job and images hardly shrink."""
    arrays = {name: np.asarray(getattr(dataset, name)) for name in _ARRAYS}
    write_npz(path, arrays, metadata, compress=False)


def read_dataset(path: str | os.PathLike[str]) -> PreparedDataset:
    """Read a prepared NPZ, ours or a user's.

    Labels of any integer type are taken; arrays other than the five are refused.

    Raises:
        DataError: the file is missing or damaged, or is not of the prepared form.
    """
    arrays, _ = read_npz(path)
    for name in arrays:
        if name not in _ARRAYS:
            raise unknown_name(f"array in {path}:", name, _ARRAYS, DataError)
    missing = [name for name in _ARRAYS if name not in arrays]
    if missing:
        raise DataError(f"{path} lacks the arrays {missing}; it needs {list(_ARRAYS)}")
    names = arrays.pop("class_names")
    if names.ndim != 1 or names.dtype.kind not in "US":
        raise DataError(f"{path}: class_names must be a vector of text, not {names.dtype}")
    for label in ("y_train", "y_test"):
        if not np.issubdtype(arrays[label].dtype, np.integer):
            raise DataError(f"{path}: {label} has type {arrays[label].dtype}; expected integers")
        arrays[label] = arrays[label].astype(np.int64)
    try:
        return PreparedDataset(**arrays, class_names=tuple(names.astype(str).tolist()))
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def _check_part(part: str, images: np.ndarray, labels: np.ndarray) -> None:
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3):
        raise DataError(
            f"x_{part} has shape {images.shape} and type {images.dtype}; expected uint8 "
            "(n, height, width, 1 or 3 channels)"
        )
    if labels.dtype != np.int64 or labels.shape != images.shape[:1]:
        raise DataError(
            f"y_{part} has shape {labels.shape} and type {labels.dtype}; expected int64 "
            f"{images.shape[:1]}, one label per image of x_{part} {images.shape}"
        )
    if len(labels) == 0:
        raise DataError(f"x_{part} holds no image")


def _check_labels(part: str, labels: np.ndarray, classes: int) -> None:
    if labels.min() < 0 or labels.max() >= classes:
        raise DataError(
            f"y_{part} holds labels from {labels.min()} to {labels.max()}, but there are "
            f"{classes} class names, so labels go from 0 to {classes - 1}"
        )
