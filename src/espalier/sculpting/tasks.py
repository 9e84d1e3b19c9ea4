"""What small networks are trained on: truth tables, and pairs of digits side by side.

A Boolean function is its own complete data set: training and validation rows are the truth table.
The digit tasks (Patil et al. 2023, section 5.5) show two digits in one image. `two_digits` asks for
both classes (20 outputs, two separable sub-functions); `digit_xor` asks for the bitwise exclusive
or of two digits from 0 to 7 (3 outputs, a hierarchy). They take any pool of digit images:
`digit_pool` reads MNIST, or scikit-learn's 8 x 8 digits, which need no download.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from espalier.data import prepare
from espalier.data.prepare import all_mirrors
from espalier.errors import ConfigurationError, DataError, unknown_name
from espalier.sculpting.function_families import published_function, published_functions
from espalier.sculpting.functions import FunctionGraph, read_function
from espalier.seeds import numpy_generator

DIGIT_TASKS = ("two-digits", "digit-xor")
DIGIT_SOURCES = ("mnist", "digits")

TRAINING_SHARE = 0.8


@dataclass(frozen=True, eq=False)
class Task:
    """Data, and the thresholds with which its networks are pruned and read.

    Attributes:
        name: letters, digits, - and _.
        x_train, x_validation: (rows, inputs) float32.
        y_train, y_validation: (rows, outputs) float32, 0 or 1.
        accuracy_threshold: share of validation bits that a pruned network must get right.
        modularity_threshold, merge_threshold: of `detect_modules`.
        input_noise: standard deviation of the normal noise that training adds to the inputs.

    Raises:
        DataError: shapes or types do not fit each other, targets are not bits, inputs not finite.
        ConfigurationError: a threshold is not in [0, 1], or the noise is negative.
    """

    name: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_validation: np.ndarray
    y_validation: np.ndarray
    accuracy_threshold: float = 1.0
    modularity_threshold: float = 0.2
    merge_threshold: float = 0.9
    input_noise: float = 0.0

    def __post_init__(self) -> None:
        for part in ("train", "validation"):
            self._check_part(part, getattr(self, f"x_{part}"), getattr(self, f"y_{part}"))
        for letter in "xy":
            train, validation = (
                getattr(self, f"{letter}_train"),
                getattr(self, f"{letter}_validation"),
            )
            if train.shape[1] != validation.shape[1]:
                raise DataError(
                    f"task {self.name}: {letter}_train has {train.shape[1]} columns, "
                    f"{letter}_validation {validation.shape[1]}"
                )
        for key in ("accuracy_threshold", "modularity_threshold", "merge_threshold"):
            if not 0 <= getattr(self, key) <= 1:
                raise ConfigurationError(
                    f"task {self.name}: {key} is {getattr(self, key)}; it is a share, from 0 to 1"
                )
        if not 0 <= self.input_noise < math.inf:
            raise ConfigurationError(
                f"task {self.name}: input_noise is {self.input_noise}; a standard deviation is "
                "finite and not negative"
            )

    def _check_part(self, part: str, x: np.ndarray, y: np.ndarray) -> None:
        for letter, array in (("x", x), ("y", y)):
            if array.dtype != np.float32 or array.ndim != 2 or 0 in array.shape:
                raise DataError(
                    f"task {self.name}: {letter}_{part} has shape {array.shape} and type "
                    f"{array.dtype}; expected float32 (rows, columns), neither empty"
                )
        if len(x) != len(y):
            raise DataError(f"task {self.name}: {len(x)} rows in x_{part}, {len(y)} in y_{part}")
        if not np.isfinite(x).all():
            raise DataError(f"task {self.name}: x_{part} holds values that are not finite")
        if not ((y == 0) | (y == 1)).all():
            raise DataError(f"task {self.name}: y_{part} holds values other than 0 and 1")

    @property
    def n_inputs(self) -> int:
        """Number of input units that a network needs."""
        return self.x_train.shape[1]

    @property
    def n_outputs(self) -> int:
        """Number of output units that a network needs."""
        return self.y_train.shape[1]


def build_task(
    name: str,
    *,
    mirrors: Iterable[str | os.PathLike[str]] = (),
    per_pair: int = 1000,
    seed: int = 0,
) -> Task:
    """Return a task by its name.

    Args:
        name: a published function ("4-1-2-16"), a digit task with its source ("two-digits-mnist",
            "digit-xor-digits"), or a YAML file with a function graph.
        mirrors: directories and URLs that may hold MNIST.
        per_pair: images per pair of digits; the truth tables take no notice.
        seed: draws the digits.

    Raises:
        ConfigurationError: no task has this name.
        DataError: the YAML file or the digits are missing or damaged.
    """
    if name in published_functions():
        return boolean_task(published_function(name))
    if name.endswith((".yaml", ".yml")):
        return boolean_task(read_function(Path(name)))
    named = {f"{task}-{source}": (task, source) for task in DIGIT_TASKS for source in DIGIT_SOURCES}
    if name not in named:
        raise unknown_name("task", name, [*published_functions(), *named])
    task, source = named[name]
    build = two_digits if task == "two-digits" else digit_xor
    return build(*digit_pool(source, mirrors), per_pair=per_pair, seed=seed, name=name)


def boolean_task(graph: FunctionGraph) -> Task:
    """Return the truth table of a function graph as a task.

    Every bit must be right; training adds normal noise of standard deviation 0.1 to the inputs
    (Patil et al. 2023, section 1.1).
    """
    inputs, targets = (table.astype(np.float32) for table in graph.truth_table)
    return Task(graph.name, inputs, targets, inputs, targets, input_noise=0.1)


def two_digits(
    images: np.ndarray,
    labels: np.ndarray,
    *,
    per_pair: int = 1000,
    seed: int = 0,
    disjoint: bool = False,
    name: str = "two-digits",
) -> Task:
    """Two digits side by side, of which both classes are asked: 20 output bits, one-hot by digit.

    All 100 ordered pairs of classes; see `digit_pairs` for the images.

    Args:
        images: (n, height, width) uint8, the pool of digits.
        labels: (n,) digits 0 to 9.
        per_pair: images per pair of classes, the first 80 % of them for training.
        seed: draws the digits.
        disjoint: draw training and validation images from different digits of the pool. The
            published task does not: a digit of a validation image may have been trained on.
        name: of the task.

    Raises:
        DataError: the pool has the wrong shape, or lacks a digit.
        ConfigurationError: fewer than 5 images per pair, which leaves none to validate.

    Source: Patil et al. (2023), section 5.5, "Classifying two MNIST digits".
    """
    x_train, x_validation, first, second = digit_pairs(images, labels, 10, per_pair, seed, disjoint)
    one_hot = np.eye(10, dtype=np.float32)

    def targets(kept: int) -> np.ndarray:
        both = np.hstack([one_hot[first], one_hot[second]])
        return np.repeat(both, kept, axis=0)

    return Task(
        name, x_train, targets(_training(per_pair)), x_validation,
        targets(per_pair - _training(per_pair)), 0.99, 0.3, 0.6,
    )  # fmt: skip


def digit_xor(
    images: np.ndarray,
    labels: np.ndarray,
    *,
    per_pair: int = 1000,
    seed: int = 0,
    disjoint: bool = False,
    name: str = "digit-xor",
) -> Task:
    """Two digits from 0 to 7 side by side, of which the bitwise exclusive or is asked: 3 bits.

    The most significant bit comes first. All 64 ordered pairs; arguments and errors as for
    `two_digits`.

    Source: Patil et al. (2023), section 5.5, "Hierarchical and Modular MNIST Task".
    """
    x_train, x_validation, first, second = digit_pairs(images, labels, 8, per_pair, seed, disjoint)
    bits = ((first ^ second)[:, None] >> np.array([2, 1, 0]) & 1).astype(np.float32)
    kept = _training(per_pair)
    return Task(
        name, x_train, np.repeat(bits, kept, axis=0), x_validation,
        np.repeat(bits, per_pair - kept, axis=0), 0.98, 0.3, 0.6,
    )  # fmt: skip


def digit_pairs(
    images: np.ndarray,
    labels: np.ndarray,
    n_digits: int,
    per_pair: int = 1000,
    seed: int = 0,
    disjoint: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return images of two digits for every ordered pair of the digits below `n_digits`.

    For each pair both digits are drawn with replacement from the pool. An image of height h and
    width w becomes one of h x 2w, flattened row by row, so that each row holds first a row of the
    left digit, then one of the right. Rows of the result go pair by pair: (0, 0), (0, 1), ...

    Returns:
        Training images (pairs x 0.8 `per_pair`, h x 2w) and validation images (the rest), float32
        in [0, 1]; left and right digit of each pair (pairs,).

    Raises:
        DataError: the pool has the wrong shape, or lacks a digit.
        ConfigurationError: fewer than 5 images per pair.
    """
    _check_pool(images, labels)
    kept = _training(per_pair)
    if not 0 < kept < per_pair:
        raise ConfigurationError(
            f"per_pair is {per_pair}; at least 5 images per pair leave one to validate"
        )
    pools = [_pools(labels, digit, seed, disjoint) for digit in range(n_digits)]
    first, second = (axis.reshape(-1) for axis in np.indices((n_digits, n_digits)))
    height, width = images.shape[1:]
    sizes = (kept, per_pair - kept)
    parts = tuple(
        np.empty((len(first), size, height, 2 * width), dtype=np.float32) for size in sizes
    )
    for pair, (left, right) in enumerate(zip(first.tolist(), second.tolist(), strict=True)):
        generator = numpy_generator(seed, "digit pairs", left, right)
        for part, (array, size) in enumerate(zip(parts, sizes, strict=True)):
            for side, digit in enumerate((left, right)):
                drawn = generator.choice(pools[digit][part], size)
                array[pair, ..., side * width : (side + 1) * width] = images[drawn]
    for array in parts:
        array /= 255
    x_train, x_validation = (array.reshape(-1, height * 2 * width) for array in parts)
    return x_train, x_validation, first, second


def digit_of_input(n_inputs: int) -> np.ndarray:
    """Return 0 for inputs of the left digit and 1 for those of the right, (n_inputs,) int64.

    Raises:
        DataError: no two square images side by side have this many pixels.
    """
    side = math.isqrt(n_inputs // 2)
    if n_inputs < 2 or 2 * side * side != n_inputs:
        raise DataError(
            f"{n_inputs} inputs are not two square images side by side; MNIST gives 1568, "
            "scikit-learn's digits 128"
        )
    return np.arange(n_inputs) // side % 2


def digit_pool(
    source: str, mirrors: Iterable[str | os.PathLike[str]] = ()
) -> tuple[np.ndarray, np.ndarray]:
    """Return digits of training and test set together: (n, height, width) uint8 and (n,) labels.

    Args:
        source: "mnist" (70,000 of 28 x 28, from the mirrors of ESPALIER_MIRRORS, from `mirrors` or
            by download) or "digits" (scikit-learn's 1,797 of 8 x 8).
        mirrors: directories and URLs that may hold MNIST.

    Raises:
        ConfigurationError: another source.
        DataError: MNIST is nowhere; the message lists every place.
    """
    if source not in DIGIT_SOURCES:
        raise unknown_name("source of digits", source, DIGIT_SOURCES)
    places = all_mirrors([str(mirror) for mirror in mirrors]) if source == "mnist" else []
    whole = prepare(source, mirrors=places)
    images = np.concatenate([whole.x_train, whole.x_test])[..., 0]
    return images, np.concatenate([whole.y_train, whole.y_test])


def available_digits(mirrors: Iterable[str | os.PathLike[str]] = ()) -> str:
    """Return "mnist" if a mirror has it, else "digits": the source for `digit_pool`.

    Nothing is downloaded or opened: without a folder that holds it the answer is "digits".
    """
    places = all_mirrors([str(mirror) for mirror in mirrors])
    for place in places:
        folder = Path(place).expanduser()
        held = (folder / "mnist.npz", folder / "MNIST")
        if any(path.exists() for path in held):
            return "mnist"
    return "digits"


def _training(per_pair: int) -> int:
    return round(TRAINING_SHARE * per_pair)


def _pools(
    labels: np.ndarray, digit: int, seed: int, disjoint: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions from which training and validation images of a digit are drawn."""
    pool = np.flatnonzero(labels == digit)
    if len(pool) < (2 if disjoint else 1):
        raise DataError(f"the pool has {len(pool)} images of the digit {digit}; it needs more")
    if not disjoint:
        return pool, pool
    shuffled = numpy_generator(seed, "disjoint digits", digit).permutation(pool)
    kept = min(max(1, round(TRAINING_SHARE * len(pool))), len(pool) - 1)
    return np.sort(shuffled[:kept]), np.sort(shuffled[kept:])


def _check_pool(images: np.ndarray, labels: np.ndarray) -> None:
    if images.dtype != np.uint8 or images.ndim != 3 or images.shape[1] != images.shape[2]:
        raise DataError(
            f"the pool of digits has shape {images.shape} and type {images.dtype}; expected uint8 "
            "(n, side, side)"
        )
    if labels.shape != images.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(
            f"labels have shape {labels.shape} and type {labels.dtype}; expected one integer for "
            f"each of the {len(images)} images"
        )


__all__ = [
    "DIGIT_SOURCES",
    "DIGIT_TASKS",
    "Task",
    "available_digits",
    "boolean_task",
    "build_task",
    "digit_of_input",
    "digit_pairs",
    "digit_pool",
    "digit_xor",
    "two_digits",
]
