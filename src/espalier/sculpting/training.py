"""Training of many small masked networks at once.

Every network has its own initial weights, mask, random numbers and recipe, and its own result: the
company it is trained in changes nothing. Two engines share one definition:

- `edges`, compiled, on a CPU: one network after the other, as lists of live edges. The result is
  the same to the bit whatever else is trained, on however many threads.
- `stacked`, torch, on any device: networks of one shape as stacked matrices. Pruned units are cut
  out; shapes are rounded up by a rule that looks at one network only. In float64 on one CPU thread
  company changed no bit where it was tested; in float32 it changes the last digits.

Both agree with plain PyTorch to 1e-10 in float64, and to about 1e-5 in float32 over one training.
Over the many trainings of a pruning path such differences can grow: Adam turns a gradient of pure
rounding error into steps of full size.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from espalier.errors import ConfigurationError, DataError, unknown_name
from espalier.sculpting.networks import Network
from espalier.seeds import numpy_generator

if TYPE_CHECKING:
    from espalier.sculpting.tasks import Task

BETAS = (0.9, 0.999)
EPSILON = 1e-8
CHECKPOINT_LOSSES = ("mean", "published")
UNIT_SCORES = ("mean_of_absolute", "absolute_of_mean")
ENGINES = ("auto", "edges", "stacked")

# Where the engines are about equally fast on one core: a number of edges, less in large batches,
# where the start of a matrix product costs little per row; and a density among the units that have
# edges. benchmarks/sculpting.py measures the first.
FEW_EDGES, FEW_EDGES_TIMES_BATCH, SPARSE = 8192, 512 * 1024, 0.05


@dataclass(frozen=True)
class Recipe:
    """How one network is trained: Adam on bitwise cross-entropy, best checkpoint kept.

    The L2 penalty is part of Adam's gradient, for weights and biases. After every epoch accuracy
    and loss are taken on the validation data, without noise; a checkpoint replaces the best one if
    its accuracy is higher, or if neither its accuracy nor its loss is worse.

    Attributes:
        learning_rate: constant over a training.
        batch_size: rows per step.
        epochs: passes over the training data.
        weight_decay: factor of the L2 penalty in the gradient.
        input_noise: standard deviation of the noise on the inputs; None takes the task's.
        accuracy_threshold: share of right bits that a pruned network needs; None takes the task's.
        checkpoint_loss: "mean" over rows and bits, or "published": the sum of batch means over one
            batch too few, which with a single batch is infinite, so that the newest checkpoint of
            the best accuracy wins.

    Raises:
        ConfigurationError: a value out of its range.
    """

    learning_rate: float = 0.05
    batch_size: int = 8
    epochs: int = 10
    weight_decay: float = 1e-4
    input_noise: float | None = None
    accuracy_threshold: float | None = None
    checkpoint_loss: str = "mean"

    def __post_init__(self) -> None:
        for key in ("batch_size", "epochs"):
            value = getattr(self, key)
            if value != int(value) or value < 1:
                raise ConfigurationError(f"{key} is {value}; use a whole number of at least 1")
        if not 0 < self.learning_rate < np.inf:
            raise ConfigurationError(f"learning_rate is {self.learning_rate}; use a number above 0")
        for key in ("weight_decay", "input_noise"):
            value = getattr(self, key)
            if value is not None and not 0 <= value < np.inf:
                raise ConfigurationError(f"{key} is {value}; use a number of at least 0")
        if self.accuracy_threshold is not None and not 0 <= self.accuracy_threshold <= 1:
            raise ConfigurationError(
                f"accuracy_threshold is {self.accuracy_threshold}; it is a share, from 0 to 1"
            )
        if self.checkpoint_loss not in CHECKPOINT_LOSSES:
            raise unknown_name("checkpoint_loss", self.checkpoint_loss, CHECKPOINT_LOSSES)


class Streams:
    """The random numbers of one path of trainings: its shuffles and its noise.

    A path asks for its numbers in its own order, so no other path can change them.
    """

    def __init__(self, seed: int, *names: str | int) -> None:
        self._shuffles = numpy_generator(seed, "sculpting", "shuffle", *names)
        self._noise = numpy_generator(seed, "sculpting", "noise", *names)

    def shuffle_uniforms(self, epochs: int, rows: int) -> np.ndarray:
        """Return (epochs, rows) uniform numbers, from which `shuffled_rows` makes shuffles."""
        return self._shuffles.random((epochs, rows))

    def noise(self, epochs: int, rows: int, inputs: int) -> np.ndarray:
        """Return (epochs, rows, inputs) standard normal numbers, by position in the epoch."""
        return self._noise.standard_normal((epochs, rows, inputs))


@dataclass(frozen=True, eq=False)
class Training:
    """A network to train, with the recipe and the random numbers to do it with."""

    network: Network
    recipe: Recipe
    streams: Streams


@dataclass(frozen=True, eq=False)
class Trained:
    """The best checkpoint of a training.

    Attributes:
        network: the same edges, with trained weights and biases.
        loss: of the checkpoint on the validation data, as the recipe averages it.
        right: right bits on the validation data, of `bits`.
        bits: validation rows times outputs.
        unit_scores: (hidden,) float64, see `train_networks`; None if not asked for.
    """

    network: Network
    loss: float
    right: int
    bits: int
    unit_scores: np.ndarray | None = None

    @property
    def accuracy(self) -> float:
        """Share of the bits that is right."""
        return self.right / self.bits


def train_networks(
    trainings: Sequence[Training],
    task: Task,
    unit_scores: str | None = None,
    engine: str = "auto",
    device: str = "cpu",
    threads: int = 1,
    max_bytes: int = 1 << 30,
) -> list[Trained]:
    """Train networks side by side and return their best checkpoints, in the same order.

    Args:
        trainings: networks whose first and last widths fit the task.
        task: data; targets are bits.
        unit_scores: None, or what to score hidden units of the best checkpoint with on the
            validation data: "mean_of_absolute", the mean over rows of |activation * slope of the
            row's loss|, or "absolute_of_mean", the absolute value of the mean (Patil et al. 2023,
            equation 1, read as the loss over all the data). A unit without live input scores 0.
        engine: "edges", "stacked" or "auto": the faster one for each network by itself:
            "edges" on a CPU for at most 8192 live edges (2048 in batches of 256) or a density of
            at most 0.05 among the units that have edges.
        device: of the engine "stacked"; on anything but "cpu", "auto" means "stacked".
        threads: threads of the engine "edges"; they change no result.
        max_bytes: what random numbers, stacked networks and activations may take at a time;
            one network is trained even if it alone needs more.

    Raises:
        ConfigurationError: an unknown engine or score, or "edges" on a GPU.
        DataError: a network that does not fit the task.
    """
    if engine not in ENGINES:
        raise unknown_name("engine", engine, ENGINES)
    if unit_scores is not None and unit_scores not in UNIT_SCORES:
        raise unknown_name("unit score", unit_scores, UNIT_SCORES)
    if engine == "edges" and device != "cpu":
        raise ConfigurationError(f"the engine 'edges' runs on the CPU, not on {device!r}")
    groups: dict[tuple, list[int]] = defaultdict(list)
    for index, training in enumerate(trainings):
        network = training.network
        _check_fit(network, task)
        chosen = engine if engine != "auto" else _faster_engine(training, device)
        groups[chosen, network.widths, training.recipe, network.weights.dtype].append(index)
    results: list[Trained | None] = [None] * len(trainings)
    for (chosen, *_), members in groups.items():
        group = [trainings[index] for index in members]
        if chosen == "edges":
            trained = _train_as_edges(group, task, unit_scores, threads, max_bytes)
        else:
            from espalier.sculpting.stacked import train_stacked

            trained = train_stacked(group, task, unit_scores, device, max_bytes)
        for index, result in zip(members, trained, strict=True):
            results[index] = result
    return [result for result in results if result is not None]


def _check_fit(network: Network, task: Task) -> None:
    if (network.widths[0], network.widths[-1]) != (task.n_inputs, task.n_outputs):
        raise DataError(
            f"a network from {network.widths[0]} inputs to {network.widths[-1]} outputs does not "
            f"fit task {task.name}, which has {task.n_inputs} and {task.n_outputs}"
        )


def _faster_engine(training: Training, device: str) -> str:
    """Choose by the training alone, so that its company cannot change the engine."""
    if device != "cpu":
        return "stacked"
    edges = len(training.network.edges)
    few = edges <= min(FEW_EDGES, FEW_EDGES_TIMES_BATCH // training.recipe.batch_size)
    # Only where it matters: a small network is trained in less time than its units are counted.
    return "edges" if few or edges <= SPARSE * training.network.live_size else "stacked"


def noise_of(recipe: Recipe, task: Task) -> float:
    """Return the standard deviation of the noise on the inputs."""
    return task.input_noise if recipe.input_noise is None else recipe.input_noise


def _train_as_edges(
    group: Sequence[Training],
    task: Task,
    unit_scores: str | None,
    threads: int,
    max_bytes: int,
) -> list[Trained]:
    """Train networks of one shape and recipe, in chunks that `max_bytes` bounds."""
    recipe, rows = group[0].recipe, len(task.x_train)
    drawn = 2 if noise_of(recipe, task) == 0 else 2 + task.n_inputs
    network_bytes = max(8 * len(training.network.edges) for training in group)
    each = 8 * recipe.epochs * rows * drawn + 10 * network_bytes
    size = max(1, min(max_bytes // each // threads, -(-len(group) // threads)))
    chunks = [group[first : first + size] for first in range(0, len(group), size)]
    if threads == 1 or len(chunks) == 1:
        parts = [_train_chunk(chunk, task, unit_scores) for chunk in chunks]
    else:
        with ThreadPoolExecutor(threads) as pool:
            parts = list(pool.map(lambda chunk: _train_chunk(chunk, task, unit_scores), chunks))
    return [trained for part in parts for trained in part]


def _train_chunk(group: Sequence[Training], task: Task, unit_scores: str | None) -> list[Trained]:
    from espalier.sculpting.edge_kernels import shuffled_rows, train_edge_lists

    recipe, first = group[0].recipe, group[0].network
    kind, count = first.weights.dtype, len(group)
    rows, noise_scale = len(task.x_train), noise_of(recipe, task)
    bounds = np.zeros(count + 1, np.int64)
    np.cumsum([len(training.network.edges) for training in group], out=bounds[1:])
    edges = np.concatenate([training.network.edges for training in group])
    weights = np.concatenate([training.network.weights for training in group])
    biases = np.stack([training.network.biases for training in group])
    uniforms = np.stack([t.streams.shuffle_uniforms(recipe.epochs, rows) for t in group])
    noise = np.empty((count, recipe.epochs if noise_scale > 0 else 0, rows, task.n_inputs))
    if noise_scale > 0:
        for place, training in zip(noise, group, strict=True):
            place[:] = training.streams.noise(recipe.epochs, rows, task.n_inputs)
    numbers = [recipe.learning_rate, recipe.weight_decay, *BETAS, EPSILON, 1.0]
    losses, right = np.empty(count), np.zeros(count, np.int64)
    scores = np.zeros((count, first.hidden_units))
    train_edge_lists(
        np.array(first.widths),
        bounds,
        edges,
        weights,
        biases,
        np.tile(np.array(numbers, kind), (count, 1)),
        task.x_train.astype(kind, copy=False),
        task.y_train.astype(kind, copy=False),
        task.x_validation.astype(kind, copy=False),
        task.y_validation.astype(kind, copy=False),
        shuffled_rows(uniforms),
        noise,
        noise_scale,
        recipe.batch_size,
        recipe.checkpoint_loss == "published",
        0 if unit_scores is None else 1 + UNIT_SCORES.index(unit_scores),
        losses,
        right,
        scores,
    )
    bits = task.y_validation.size
    return [
        Trained(
            Network(
                first.widths,
                training.network.edges,
                weights[bounds[t] : bounds[t + 1]].copy(),
                biases[t].copy(),
            ),
            float(losses[t]),
            int(right[t]),
            bits,
            None if unit_scores is None else scores[t].copy(),
        )
        for t, training in enumerate(group)
    ]


__all__ = [
    "CHECKPOINT_LOSSES",
    "ENGINES",
    "UNIT_SCORES",
    "Recipe",
    "Streams",
    "Trained",
    "Training",
    "train_networks",
]
