"""Training of sparse perceptrons, with a method that changes their places after every epoch."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from espalier.errors import ConfigurationError, DataError, TrainingError
from espalier.hubs.centrality import laplacian_centrality
from espalier.hubs.inputs import (
    Standardisation,
    augment,
    check_labels,
    feature_images,
    features,
)
from espalier.hubs.methods import Changes, Evolution
from espalier.hubs.options import HubRecipe, MethodOptions
from espalier.hubs.sparse_layers import (
    SparsePerceptron,
    build_perceptron,
)
from espalier.seeds import numpy_generator, torch_generator

Images = tuple[np.ndarray, np.ndarray]
_EVALUATION_BATCH = 1000


@dataclass
class HubHistory:
    """What a run leaves.

    Attributes:
        epochs: one record per epoch from 0 (before training): epoch, train_loss,
            validation_accuracy, test_accuracy, connections, centrality_mean, centrality_sd, and
            but for epoch 0 and the last changes (see `Changes`). Accuracies are shares; what was
            not measured is None.
        snapshots: per epoch of a snapshot, the centrality of all units, inputs first.
        layers: (units,) number of each of these units' layer, 0 for the inputs.
        kernels: per layer of weights, the kernel's name.
        kernel_seconds: per layer of weights, seconds of one update by kernel, if measured.
        notes: texts of the warnings of the method.
    """

    epochs: list[dict[str, Any]] = field(default_factory=list)
    snapshots: dict[int, np.ndarray] = field(default_factory=dict)
    layers: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    kernels: list[str] = field(default_factory=list)
    kernel_seconds: list[dict[str, float]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def last_accuracies(self, part: str = "test", count: int = 10) -> np.ndarray:
        """Return the accuracies of the last epochs, at most `count`; none if not measured."""
        found = [record[f"{part}_accuracy"] for record in self.epochs[1:][-count:]]
        return np.array([value for value in found if value is not None], float)


def first_network(
    sizes: Sequence[int], recipe: HubRecipe, options: MethodOptions, seed: int, threads: int = 1
) -> tuple[SparsePerceptron, list[dict[str, float]]]:
    """Return the network that a method starts with, and what its kernels cost.

    All methods but dense and set_pure start with the same places and weights for one seed.
    set_pure draws places with replacement, in the last layer too, and weights from N(0, 0.1^2).

    Raises:
        ConfigurationError: as `build_perceptron`.
    """
    pure = options.method == "set_pure"
    return build_perceptron(
        sizes,
        None if options.method == "dense" else recipe.epsilon,
        seed,
        activation=recipe.activation,
        sparse_output=recipe.sparse_output or pure,
        topology="replacement" if pure else "bernoulli",
        weights="normal" if pure else "glorot",
        kernel=recipe.kernel,
        batch_size=recipe.batch_size,
        threads=threads,
    )


def train_hubs(
    sizes: Sequence[int],
    train: Images,
    validation: Images | None,
    test: Images,
    recipe: HubRecipe,
    options: MethodOptions,
    seed: int,
    *,
    reference: Sequence[Changes] | None = None,
    preset: str = "definition",
    snapshot_every: int = 25,
    watched: str | None = None,
    threads: int = 1,
    log: Callable[[str], None] = lambda line: print(line, file=sys.stderr),
) -> tuple[SparsePerceptron, HubHistory]:
    """Train one network; return it and its history.

    On a CPU, one seed and kernel give the same numbers, whatever the number of threads.

    Args:
        sizes: units per layer, inputs and outputs included.
        train, validation, test: images (n, height, width, channels) uint8 and labels (n,); no
            validation images if None.
        recipe: how to train.
        options: the method.
        seed: root of all draws.
        reference: changes of the run that a control repeats, one per epoch but the last.
        preset: of the centrality that the history tells, whatever the method judges by, so that
            runs can be compared.
        snapshot_every: epochs between snapshots of the centrality of every unit; the first and
            the last epoch have one too.
        watched: part whose accuracy accset watches, "validation" or "test"; by default validation
            where there is one.
        threads: threads of the compiled kernels; those of torch have their own setting.
        log: takes one line per epoch.

    Raises:
        ConfigurationError: options or recipe that do not fit.
        DataError: images that are not `sizes[0]` values each, or labels outside the classes.
        TrainingError: the loss or a weight is not finite, or a layer lost all its weights.
    """
    parts = {"train": train, "test": test}
    if validation is not None:
        parts["validation"] = validation
    watched = watched or ("validation" if validation is not None else "test")
    if watched not in parts or watched == "train":
        raise ConfigurationError(f"there are no {watched} images whose accuracy could be watched")
    pixels = {part: _checked(part, images, sizes) for part, images in parts.items()}
    labels = {part: torch.from_numpy(images[1]) for part, images in parts.items()}
    if len(labels["train"]) < recipe.batch_size:
        raise DataError(
            f"{len(labels['train'])} training images are fewer than a batch of "
            f"{recipe.batch_size}; lower the batch size"
        )
    network, seconds = first_network(sizes, recipe, options, seed, threads)
    evolution = Evolution(network, options, seed, reference)
    history = HubHistory(
        kernels=[layer.kernel_name for layer in network.layers], kernel_seconds=seconds
    )
    standard = Standardisation.of(pixels["train"])
    for epoch in range(recipe.epochs + 1):
        record: dict[str, Any] = {"epoch": epoch, "train_loss": None}
        if epoch:
            record["train_loss"] = _train_epoch(
                network, pixels["train"], labels["train"], standard, recipe, seed, epoch
            )
        for part in ("validation", "test"):
            record[f"{part}_accuracy"] = (
                accuracy(network, pixels[part], labels[part], standard) if part in parts else None
            )
        record["connections"] = [layer.pattern.edges for layer in network.layers]
        values = laplacian_centrality(network.weights(), preset=preset)
        together = np.concatenate(values)
        record["centrality_mean"] = float(together.mean())
        record["centrality_sd"] = float(together.std())
        if epoch % snapshot_every == 0 or epoch == recipe.epochs:
            history.snapshots[epoch] = together
        history.layers = np.repeat(np.arange(len(values)), [len(layer) for layer in values])
        if 0 < epoch < recipe.epochs:
            changes = evolution.update(epoch, record[f"{watched}_accuracy"])
            record["changes"] = asdict(changes)
        history.epochs.append(record)
        log(_line(record))
    history.notes = evolution.notes
    return network, history


def accuracy(
    network: SparsePerceptron,
    pixels: np.ndarray,
    labels: Tensor,
    standard: Standardisation,
    silenced: Sequence[np.ndarray] | None = None,
) -> float:
    """Return the share of images whose class is right.

    Args:
        network: in evaluation, nothing is dropped.
        pixels: (n, channels, height, width) uint8.
        labels: (n,) int64.
        standard: of the training images.
        silenced: see `SparsePerceptron.forward`.
    """
    right = 0
    for first in range(0, len(labels), _EVALUATION_BATCH):
        batch = slice(first, first + _EVALUATION_BATCH)
        inputs = features(standard.apply(torch.from_numpy(pixels[batch])))
        right += int((network.predict(inputs, silenced) == labels[batch]).sum())
    return right / len(labels)


def _train_epoch(
    network: SparsePerceptron,
    pixels: np.ndarray,
    labels: Tensor,
    standard: Standardisation,
    recipe: HubRecipe,
    seed: int,
    epoch: int,
) -> float:
    """Train for one epoch and return the mean loss of its batches."""
    order = torch.randperm(len(labels), generator=torch_generator(seed, "hubs", "order", epoch))
    moves = torch_generator(seed, "hubs", "augmentation", epoch)
    noise = numpy_generator(seed, "hubs", "dropout", epoch)
    images = torch.from_numpy(pixels)
    total, steps = 0.0, len(labels) // recipe.batch_size
    for step in range(steps):
        chosen = order[step * recipe.batch_size : (step + 1) * recipe.batch_size]
        batch = standard.apply(images[chosen])
        if recipe.augmentation:
            batch = augment(batch, moves)
        try:
            total += network.train_step(
                features(batch),
                labels[chosen],
                recipe.learning_rate,
                recipe.momentum,
                recipe.dropout,
                noise,
            )
        except TrainingError as error:
            raise TrainingError(f"epoch {epoch}, update {step + 1} of {steps}: {error}") from None
    return total / steps


def _checked(part: str, images: Images, sizes: Sequence[int]) -> np.ndarray:
    """Return the pixels (n, channels, height, width) of images that fit a network.

    Raises:
        DataError: they do not; the message says how.
    """
    pixels, labels = images
    if pixels.ndim != 4 or pixels.dtype != np.uint8 or len(pixels) != len(labels):
        raise DataError(
            f"{part} images have shape {pixels.shape} and type {pixels.dtype} for {len(labels)} "
            "labels; expected uint8 (n, height, width, channels), one label each"
        )
    values = int(np.prod(pixels.shape[1:]))
    if values != sizes[0]:
        raise DataError(
            f"{part} images have {values} values, but the network has {sizes[0]} inputs"
        )
    check_labels(labels, sizes[-1], part)
    return feature_images(pixels)


def _line(record: Mapping[str, Any]) -> str:
    shares = [
        f"{part} {record[f'{part}_accuracy']:.2%}"
        for part in ("validation", "test")
        if record[f"{part}_accuracy"] is not None
    ]
    changes = record.get("changes") or {"units": [], "edges": []}
    loss = "" if record["train_loss"] is None else f"loss {record['train_loss']:.4f}, "
    return (
        f"epoch {record['epoch']}: {loss}{', '.join(shares)}, {sum(record['connections']):,} "
        f"weights, removed {sum(changes['units']):,} units and {sum(changes['edges']):,} weights"
    )
