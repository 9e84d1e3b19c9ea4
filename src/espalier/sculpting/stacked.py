"""Training of masked networks as stacked matrices, on any device.

The networks of a stack have one shape. Hidden units without live edges are cut out of each network
before; what is left is rounded up to a width from a fixed list, so that a network's shape depends
on that network alone. Gradients are in closed form: three batched products per layer and step.
Biases are the last row of each matrix, beside a constant input of 1.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad, softplus

from espalier.sculpting.edge_kernels import shuffled_rows
from espalier.sculpting.networks import Network, edge_offsets
from espalier.sculpting.training import (
    BETAS,
    EPSILON,
    Recipe,
    Trained,
    Training,
    noise_of,
)

if TYPE_CHECKING:
    from espalier.sculpting.tasks import Task

# Fixed, so that sums over validation rows do not depend on how many networks are stacked.
VALIDATION_ROWS = 1024

# torch rounds the last elements of a tensor differently where they do not fill a vector. Sizes per
# network that are multiples of this leave no such elements.
LANES = 64


def padded_width(live: int, width: int) -> int:
    """Return how many of `width` units a layer with so many live ones is given.

    Two steps per power of two (2, 3, 4, 6, 8, 12, ...), but no more than there are.
    """
    size = 2
    while size < live:
        size = size * 3 // 2 if size & (size - 1) == 0 else size // 3 * 4
    return min(size, width)


@dataclass(frozen=True, eq=False)
class _Placement:
    """Where a network's edges and fed units lie in its flattened, padded matrices.

    Attributes:
        widths: padded.
        weights: (live edges,) positions.
        biases: (fed units,) positions.
        fed: (fed units,) numbers of these units, hidden ones first.
        live: per hidden layer, the numbers within the layer of its live units.
    """

    widths: tuple[int, ...]
    weights: np.ndarray
    biases: np.ndarray
    fed: np.ndarray
    live: list[np.ndarray]


def _placement(network: Network) -> _Placement:
    widths, (source, target) = network.widths, network.endpoints()
    first = np.concatenate([[0], np.cumsum(widths)])
    touched = np.zeros(first[-1], bool)
    touched[source] = touched[target] = True
    touched[: widths[0]] = touched[first[-2] :] = True
    live = [np.flatnonzero(touched[a:b]) for a, b in pairwise(first)]
    padded = tuple(
        width if layer in (0, len(widths) - 1) else padded_width(len(units), width)
        for layer, (units, width) in enumerate(zip(live, widths, strict=True))
    )
    place = np.zeros(first[-1], np.int64)
    for start, units in zip(first, live, strict=False):
        place[start + units] = np.arange(len(units))
    n_in, n_out = np.array(padded[:-1]), np.array(padded[1:])
    starts = _layer_starts(padded)
    layer = np.searchsorted(edge_offsets(widths), network.edges, side="right") - 1
    fed = np.unique(target)
    fed_layer = np.searchsorted(first, fed, side="right") - 2
    return _Placement(
        padded,
        starts[layer] + place[source] * n_out[layer] + place[target],
        starts[fed_layer] + n_in[fed_layer] * n_out[fed_layer] + place[fed],
        fed - widths[0],
        live[1:-1],
    )


def _layer_starts(widths: Sequence[int]) -> np.ndarray:
    sizes = [(n_in + 1) * n_out for n_in, n_out in pairwise(widths)]
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def train_stacked(
    group: Sequence[Training],
    task: Task,
    unit_scores: str | None,
    device: str,
    max_bytes: int,
) -> list[Trained]:
    """Train networks of one original shape, recipe and precision; see `train_networks`."""
    placements = [_placement(training.network) for training in group]
    by_shape: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for index, placement in enumerate(placements):
        by_shape[placement.widths].append(index)
    results: dict[int, Trained] = {}
    for widths, members in by_shape.items():
        size = max(1, max_bytes // _bytes_each(widths, group[0], task))
        for start in range(0, len(members), size):
            chunk = members[start : start + size]
            stack = _Stack([group[i] for i in chunk], [placements[i] for i in chunk], task, device)
            for index, trained in zip(chunk, stack.train(unit_scores), strict=True):
                results[index] = trained
    return [results[index] for index in range(len(group))]


def _apply(function: Callable[[Tensor], Tensor], values: Tensor) -> Tensor:
    """Apply an elementwise function to (networks, rows, columns), whole vectors per network."""
    size = values.shape[1] * values.shape[2]
    padded = pad(values.reshape(len(values), size), (0, -size % LANES))
    return function(padded)[:, :size].reshape(values.shape)


def _bytes_each(widths: tuple[int, ...], training: Training, task: Task) -> int:
    """Bytes of one network: parameters and Adam's state, activations, an epoch's numbers."""
    rows, units = len(task.x_train), sum(widths) + len(widths)
    item = training.network.weights.dtype.itemsize
    batch = min(training.recipe.batch_size, rows)
    checked = min(VALIDATION_ROWS, len(task.x_validation))
    noise = task.n_inputs * (8 + item) if noise_of(training.recipe, task) > 0 else 0
    return int(
        8 * item * _layer_starts(widths)[-1]
        + 4 * item * units * batch
        + 3 * item * units * checked
        + rows * (24 + noise)
    )


class _Stack:
    """Networks of one padded shape on one device."""

    def __init__(
        self,
        trainings: Sequence[Training],
        placements: Sequence[_Placement],
        task: Task,
        device: str,
    ) -> None:
        self.trainings, self.placements, self.task = trainings, placements, task
        self.device = torch.device(device)
        self.recipe: Recipe = trainings[0].recipe
        self.widths = placements[0].widths
        kind = trainings[0].network.weights.dtype
        size = -(-_layer_starts(self.widths)[-1] // LANES) * LANES
        flat = np.zeros((len(trainings), size), kind)
        mask = np.zeros(flat.shape, bool)
        for t, (training, at) in enumerate(zip(trainings, placements, strict=True)):
            flat[t, at.weights] = training.network.weights
            flat[t, at.biases] = training.network.biases[at.fed]
            mask[t, at.weights] = mask[t, at.biases] = True
        self.flat = torch.from_numpy(flat).to(self.device)
        self.mask = torch.from_numpy(mask).to(self.device)
        self.kind = self.flat.dtype
        self.gradient = torch.zeros_like(self.flat)

    def _layers(self, flat: Tensor) -> list[Tensor]:
        starts = _layer_starts(self.widths)
        return [
            flat[:, a:b].view(len(flat), n_in + 1, n_out)
            for a, b, n_in, n_out in zip(
                starts[:-1], starts[1:], self.widths[:-1], self.widths[1:], strict=True
            )
        ]

    def _on_device(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device, self.kind)

    @torch.no_grad()
    def train(self, unit_scores: str | None) -> list[Trained]:
        recipe, task = self.recipe, self.task
        inputs, targets = self._on_device(task.x_train), self._on_device(task.y_train)
        checked = self._with_ones(self._on_device(task.x_validation))
        wanted = self._on_device(task.y_validation)
        count, rows = len(self.trainings), len(inputs)
        noise_scale = noise_of(recipe, task)
        uniforms = np.stack(
            [t.streams.shuffle_uniforms(recipe.epochs, rows) for t in self.trainings]
        )
        mean, square = torch.zeros_like(self.flat), torch.zeros_like(self.flat)
        best = self.flat.clone()
        best_loss = torch.full((count,), torch.inf, dtype=torch.float64, device=self.device)
        best_right = torch.zeros(count, dtype=torch.int64, device=self.device)
        step = 0
        for epoch in range(recipe.epochs):
            order = torch.from_numpy(shuffled_rows(uniforms[:, epoch : epoch + 1])[:, 0])
            order = order.to(self.device)
            noise = None
            if noise_scale > 0:
                drawn = [t.streams.noise(1, rows, task.n_inputs)[0] for t in self.trainings]
                noise = self._on_device(noise_scale * np.stack(drawn))
            for first in range(0, rows, recipe.batch_size):
                batch = order[:, first : first + recipe.batch_size]
                values = inputs[batch]
                if noise is not None:
                    values += noise[:, first : first + recipe.batch_size]
                self._fill_gradient(self._with_ones(values), targets[batch])
                step += 1
                self._adam_step(mean, square, step)
            loss, right = self._check(checked, wanted)
            better = ((loss <= best_loss) & (right >= best_right)) | (right > best_right)
            best_loss = torch.where(better, loss, best_loss)
            best_right = torch.where(better, right, best_right)
            best[better] = self.flat[better]
        self.flat = best
        scores = None if unit_scores is None else self._unit_scores(checked, wanted, unit_scores)
        return self._trained(best_loss.cpu().numpy(), best_right.cpu().numpy(), scores)

    def _with_ones(self, values: Tensor) -> Tensor:
        return torch.cat([values, values.new_ones((*values.shape[:-1], 1))], -1)

    def _activations(self, inputs: Tensor, flat: Tensor) -> list[Tensor]:
        """Return inputs and hidden activations with their column of ones, then the logits."""
        values = [inputs]
        layers = self._layers(flat)
        for layer, weights in enumerate(layers):
            # Not `matmul`, which would join the networks into one product of another shape.
            logits = torch.bmm(values[-1].expand(len(flat), -1, -1), weights)
            last = layer == len(layers) - 1
            values.append(logits if last else self._with_ones(logits.relu_()))
        return values

    def _fill_gradient(self, inputs: Tensor, targets: Tensor) -> None:
        values = self._activations(inputs, self.flat)
        rows, outputs = targets.shape[1:]
        slopes = (_apply(torch.sigmoid, values[-1]) - targets) / (rows * outputs)
        layers, gradients = self._layers(self.flat), self._layers(self.gradient)
        for layer in range(len(layers) - 1, -1, -1):
            gradients[layer].copy_(torch.bmm(values[layer].transpose(1, 2), slopes))
            if layer > 0:
                slopes = torch.bmm(slopes, layers[layer][:, :-1].transpose(1, 2))
                slopes *= values[layer][..., :-1] > 0
        self.gradient.add_(self.flat, alpha=self.recipe.weight_decay).mul_(self.mask)

    def _adam_step(self, mean: Tensor, square: Tensor, step: int) -> None:
        beta1, beta2 = BETAS
        mean.lerp_(self.gradient, 1 - beta1)
        square.mul_(beta2).addcmul_(self.gradient, self.gradient, value=1 - beta2)
        scale = square.sqrt().div_((1 - beta2**step) ** 0.5).add_(EPSILON)
        self.flat.addcdiv_(mean, scale, value=-self.recipe.learning_rate / (1 - beta1**step))

    def _check(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return (networks,) losses and right bits."""
        losses, right = [], torch.zeros(len(self.flat), dtype=torch.int64, device=self.device)
        for first in range(0, len(inputs), VALIDATION_ROWS):
            rows = slice(first, first + VALIDATION_ROWS)
            logits = self._activations(inputs[rows], self.flat)[-1].double()
            wanted = targets[rows]
            losses.append((_apply(softplus, logits) - logits * wanted).mean(-1))
            right += ((logits > 0) == (wanted > 0.5)).sum((1, 2))
        by_row = torch.cat(losses, 1)
        if self.recipe.checkpoint_loss == "mean":
            return by_row.mean(1), right
        batches = by_row.split(self.recipe.batch_size, 1)
        total = sum((batch.mean(1) for batch in batches), torch.zeros_like(by_row[:, 0]))
        return total / (len(batches) - 1), right

    def _unit_scores(self, inputs: Tensor, targets: Tensor, kind: str) -> list[np.ndarray]:
        """Return one (networks, padded width) array per hidden layer."""
        layers = self._layers(self.flat)
        hidden = self.widths[1:-1]
        totals = [
            torch.zeros((len(self.flat), width), dtype=torch.float64, device=self.device)
            for width in hidden
        ]
        for first in range(0, len(inputs), VALIDATION_ROWS):
            rows = slice(first, first + VALIDATION_ROWS)
            values = self._activations(inputs[rows], self.flat)
            slopes = (_apply(torch.sigmoid, values[-1]) - targets[rows]) / targets.shape[1]
            for layer in range(len(layers) - 1, 0, -1):
                active = values[layer][..., :-1]
                slopes = torch.bmm(slopes, layers[layer][:, :-1].transpose(1, 2))
                products = (slopes * active).double()
                if kind == "mean_of_absolute":
                    products = products.abs()
                totals[layer - 1] += products.sum(1)
                slopes = slopes * (active > 0)
        return [(total.abs() / len(inputs)).cpu().numpy() for total in totals]

    def _trained(
        self, losses: np.ndarray, right: np.ndarray, scores: list[np.ndarray] | None
    ) -> list[Trained]:
        flat = self.flat.cpu().numpy()
        results = []
        for t, (training, at) in enumerate(zip(self.trainings, self.placements, strict=True)):
            network = training.network
            biases = np.zeros_like(network.biases)
            biases[at.fed] = flat[t, at.biases]
            results.append(
                Trained(
                    Network(network.widths, network.edges, flat[t, at.weights], biases),
                    float(losses[t]),
                    int(right[t]),
                    self.task.y_validation.size,
                    None if scores is None else self._of_original(network, at, scores, t),
                )
            )
        return results

    def _of_original(
        self, network: Network, at: _Placement, scores: list[np.ndarray], t: int
    ) -> np.ndarray:
        layers = []
        for layer, (units, width) in enumerate(zip(at.live, network.widths[1:-1], strict=True)):
            whole = np.zeros(width)
            whole[units] = scores[layer][t, : len(units)]
            layers.append(whole)
        return np.concatenate(layers)
