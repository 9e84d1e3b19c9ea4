"""Perceptrons whose layers store, and differentiate by, only the weights that they have.

Activations are (units, batch). A layer keeps the flat positions of its weights and one value for
each; how it multiplies is a kernel: compiled loops over the edges, torch's CSR products, or a dense
matrix with zeros. All kernels give the same numbers to rounding, and `choose_kernel` measures which
one is fastest. A layer that has all its weights is a dense matrix.

The sampled product, gradient of a sparse weight matrix at its own places only, is that of Gale,
Zaharia, Young and Elsen (2020), "Sparse GPU kernels for deep learning" (SDDMM).
"""

from __future__ import annotations

import itertools
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from espalier.errors import ConfigurationError, DataError, TrainingError, unknown_name
from espalier.hubs import sparse_kernels
from espalier.hubs.options import ACTIVATIONS, KERNELS
from espalier.pruning.densities import bernoulli_masks
from espalier.seeds import numpy_generator, torch_generator

TOPOLOGIES = ("bernoulli", "replacement")
WEIGHTS = ("glorot", "normal")
# Another kernel has to be this many times faster than the compiled loops to take their place:
# a choice between equals would differ from run to run, and the last digits of the result with it.
_MARGIN = 1.5
_NOISE_LEVELS = 2**16
_NO_NOISE = np.empty((0, 0), np.uint16)

Matrix = scipy.sparse.csr_matrix | np.ndarray


class DenseLayerWarning(UserWarning):
    """A layer that was to be sparse has all its weights."""


@dataclass(frozen=True, eq=False)
class Pattern:
    """Where a layer has weights.

    Attributes:
        inputs, outputs: units on either side.
        positions: (edges,) int64, ascending: output * inputs + input of each weight.

    Raises:
        DataError: positions are not ascending, or outside the layer.
    """

    inputs: int
    outputs: int
    positions: np.ndarray

    def __post_init__(self) -> None:
        found = self.positions
        if len(found) and (
            found[0] < 0 or found[-1] >= self.inputs * self.outputs or (np.diff(found) <= 0).any()
        ):
            raise DataError(
                f"positions of a layer from {self.inputs} to {self.outputs} units must ascend "
                f"within 0..{self.inputs * self.outputs - 1}"
            )

    @classmethod
    def full(cls, inputs: int, outputs: int) -> Pattern:
        """Return the pattern of a dense layer."""
        return cls(inputs, outputs, np.arange(inputs * outputs))

    @property
    def edges(self) -> int:
        """How many weights there are."""
        return len(self.positions)

    @property
    def is_full(self) -> bool:
        """Whether every place has a weight."""
        return self.edges == self.inputs * self.outputs

    @cached_property
    def starts(self) -> np.ndarray:
        """(outputs + 1,) int64: the first edge of each output unit."""
        bounds = np.arange(self.outputs + 1) * self.inputs
        return np.searchsorted(self.positions, bounds).astype(np.int64)

    @cached_property
    def sources(self) -> np.ndarray:
        """(edges,) int32: the input unit of each edge."""
        return (self.positions % self.inputs).astype(np.int32)

    @cached_property
    def targets(self) -> np.ndarray:
        """(edges,) int32: the output unit of each edge."""
        return (self.positions // self.inputs).astype(np.int32)

    @cached_property
    def by_input(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Starts (inputs + 1,), targets (edges,) and places (edges,) of the edges by input unit."""
        order = np.argsort(self.sources, kind="stable").astype(np.int32)
        counts = np.bincount(self.sources, minlength=self.inputs)
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return starts, self.targets[order], order


class Kernel(Protocol):
    """The three products of a layer with a given pattern."""

    def forward(self, values: Tensor, inputs: Tensor) -> Tensor:
        """Return (outputs, batch): weights times inputs (inputs, batch)."""
        ...

    def gradient(self, inputs: Tensor, slopes: Tensor) -> Tensor:
        """Return (edges,): the gradient by the values; slopes (outputs, batch)."""
        ...

    def backward(self, values: Tensor, slopes: Tensor) -> Tensor:
        """Return (inputs, batch): the gradient by the inputs."""
        ...


class CompiledKernel:
    """Compiled loops over the edges, for the CPU.

    Args:
        pattern: the layer's places.
        threads: threads that share the rows; the numbers do not depend on it.
    """

    def __init__(self, pattern: Pattern, threads: int = 1) -> None:
        self._pattern = pattern
        self._rows = sparse_kernels.row_bounds(pattern.starts, threads)
        self._in_order = np.arange(pattern.edges, dtype=np.int32)
        self._threads = threads

    def forward(self, values: Tensor, inputs: Tensor) -> Tensor:
        """Return (outputs, batch)."""
        outputs = inputs.new_empty(self._pattern.outputs, inputs.shape[1])
        sparse_kernels.run_on_rows(
            sparse_kernels.multiply_rows,
            self._rows,
            self._pattern.starts,
            self._pattern.sources,
            self._in_order,
            values.numpy(),
            inputs.numpy(),
            outputs.numpy(),
        )
        return outputs

    def gradient(self, inputs: Tensor, slopes: Tensor) -> Tensor:
        """Return (edges,)."""
        gradients = inputs.new_empty(self._pattern.edges)
        sparse_kernels.run_on_rows(
            sparse_kernels.sample_products,
            self._rows,
            self._pattern.starts,
            self._pattern.sources,
            inputs.numpy(),
            slopes.numpy(),
            gradients.numpy(),
        )
        return gradients

    def backward(self, values: Tensor, slopes: Tensor) -> Tensor:
        """Return (inputs, batch)."""
        starts, targets, places = self._pattern.by_input
        outputs = slopes.new_empty(self._pattern.inputs, slopes.shape[1])
        sparse_kernels.run_on_rows(
            sparse_kernels.multiply_rows,
            sparse_kernels.row_bounds(starts, self._threads),
            starts,
            targets,
            places,
            values.numpy(),
            slopes.numpy(),
            outputs.numpy(),
        )
        return outputs


class CsrKernel:
    """Torch's products with CSR tensors."""

    def __init__(self, pattern: Pattern) -> None:
        self._shape = (pattern.outputs, pattern.inputs)
        self._forward = (torch.from_numpy(pattern.starts), torch.from_numpy(pattern.sources).long())
        starts, targets, places = pattern.by_input
        self._backward = (torch.from_numpy(starts), torch.from_numpy(targets).long())
        self._places = torch.from_numpy(places).long()

    def forward(self, values: Tensor, inputs: Tensor) -> Tensor:
        """Return (outputs, batch)."""
        return _csr(self._forward, values, self._shape) @ inputs

    def gradient(self, inputs: Tensor, slopes: Tensor) -> Tensor:
        """Return (edges,)."""
        places = _csr(self._forward, inputs.new_zeros(len(self._places)), self._shape)
        return torch.sparse.sampled_addmm(places, slopes, inputs.T, beta=0.0).values()

    def backward(self, values: Tensor, slopes: Tensor) -> Tensor:
        """Return (inputs, batch)."""
        shape = (self._shape[1], self._shape[0])
        return _csr(self._backward, values[self._places], shape) @ slopes


def _csr(structure: tuple[Tensor, Tensor], values: Tensor, shape: tuple[int, int]) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)
        return torch.sparse_csr_tensor(*structure, values, shape, check_invariants=False)


class DenseKernel:
    """Dense products with a matrix that is zero where there is no weight."""

    def __init__(self, pattern: Pattern) -> None:
        self._shape = (pattern.outputs, pattern.inputs)
        self._places = None if pattern.is_full else torch.from_numpy(pattern.positions)

    def _matrix(self, values: Tensor) -> Tensor:
        if self._places is None:
            return values.reshape(self._shape)
        matrix = values.new_zeros(self._shape)
        matrix.view(-1)[self._places] = values
        return matrix

    def forward(self, values: Tensor, inputs: Tensor) -> Tensor:
        """Return (outputs, batch)."""
        return self._matrix(values) @ inputs

    def gradient(self, inputs: Tensor, slopes: Tensor) -> Tensor:
        """Return (edges,)."""
        dense = (slopes @ inputs.T).reshape(-1)
        return dense if self._places is None else dense[self._places]

    def backward(self, values: Tensor, slopes: Tensor) -> Tensor:
        """Return (inputs, batch)."""
        return self._matrix(values).T @ slopes


def build_kernel(name: str, pattern: Pattern, threads: int = 1) -> Kernel:
    """Return a kernel of `KERNELS` for a pattern.

    Raises:
        ConfigurationError: an unknown name.
    """
    if name == "compiled":
        return CompiledKernel(pattern, threads)
    if name == "csr":
        return CsrKernel(pattern)
    if name == "dense":
        return DenseKernel(pattern)
    raise unknown_name("kernel", name, KERNELS)


def choose_kernel(
    pattern: Pattern,
    batch_size: int,
    threads: int = 1,
    input_gradient: bool = True,
    repeats: int = 3,
) -> tuple[str, dict[str, float]]:
    """Return the name of the fastest kernel, and the seconds of one update with each.

    A full pattern takes the dense kernel without being measured. The compiled kernel gives way
    only to one that is 1.5 times faster, so that the choice is steady.

    Args:
        pattern: the layer's places.
        batch_size: samples of an update.
        threads: threads of the compiled kernel; torch's have their own setting.
        input_gradient: whether the gradient by the inputs is needed.
        repeats: the fastest of so many is taken, after one that warms up.
    """
    if pattern.is_full:
        return "dense", {}
    generator = torch_generator(0, "kernel")
    values = torch.randn(pattern.edges, generator=generator)
    inputs = torch.randn(pattern.inputs, batch_size, generator=generator)
    slopes = torch.randn(pattern.outputs, batch_size, generator=generator)
    seconds = {}
    for name in KERNELS:
        kernel = build_kernel(name, pattern, threads)
        seconds[name] = min(
            [_seconds(kernel, values, inputs, slopes, input_gradient) for _ in range(repeats + 1)][
                1:
            ]
        )
    fastest = min(seconds, key=lambda name: seconds[name])
    steady = seconds["compiled"] <= _MARGIN * seconds[fastest]
    return ("compiled" if steady else fastest), seconds


def _seconds(
    kernel: Kernel, values: Tensor, inputs: Tensor, slopes: Tensor, input_gradient: bool
) -> float:
    started = time.perf_counter()
    kernel.forward(values, inputs)
    kernel.gradient(inputs, slopes)
    if input_gradient:
        kernel.backward(values, slopes)
    return time.perf_counter() - started


class SparseLayer:
    """Weights, a bias, and an activation with dropout.

    Args:
        pattern: where there are weights.
        values: (edges,) weights, in the order of the pattern's positions.
        bias: (outputs,).
        activation: "relu", "srelu", or None for the sums themselves.
        shape: (4, outputs) parameters of srelu: left threshold, left slope, right threshold less
            left one, right slope.
        kernel: one of `KERNELS`.
        threads: see `CompiledKernel`.

    Attributes:
        gradients: by the names of the parameters, after `backward`.
        momenta: of the same names and shapes, zero at first.

    Raises:
        DataError: the layer has no weight, or values of another number than places.
    """

    def __init__(
        self,
        pattern: Pattern,
        values: Tensor,
        bias: Tensor,
        activation: str | None,
        shape: Tensor | None = None,
        kernel: str = "compiled",
        threads: int = 1,
    ) -> None:
        self.activation = activation
        self.kernel_name = kernel
        self._threads = threads
        self.parameters = {"bias": bias}
        if shape is not None:
            self.parameters["shape"] = shape
        self.gradients: dict[str, Tensor] = {}
        self.momenta = {name: torch.zeros_like(value) for name, value in self.parameters.items()}
        self.place(pattern, values, torch.zeros_like(values))

    @property
    def values(self) -> Tensor:
        """(edges,) weights in the order of the pattern's positions."""
        return self.parameters["values"]

    def place(self, pattern: Pattern, values: Tensor, momentum: Tensor) -> None:
        """Replace the weights: their places, values and momenta.

        Raises:
            DataError: the layer would have no weight, or the numbers differ.
        """
        if not pattern.edges:
            raise DataError(
                f"a layer from {pattern.inputs} to {pattern.outputs} units has no weight, so that "
                "nothing passes; raise epsilon, or remove less"
            )
        if not len(values) == len(momentum) == pattern.edges:
            raise DataError(f"{len(values)} weights were given for {pattern.edges} places")
        self.pattern = pattern
        self.parameters["values"] = values
        self.momenta["values"] = momentum
        self._kernel = build_kernel(
            "dense" if pattern.is_full else self.kernel_name, pattern, self._threads
        )

    def matrix(self) -> Matrix:
        """Return the weights (inputs, outputs): CSR, or an array if all places have one."""
        shape = (self.pattern.outputs, self.pattern.inputs)
        if self.pattern.is_full:
            return self.values.numpy().reshape(shape).T
        stored = (self.values.numpy().copy(), self.pattern.sources, self.pattern.starts)
        return scipy.sparse.csr_matrix(stored, shape=shape).T.tocsr()

    def forward(
        self, inputs: Tensor, noise: np.ndarray | None = None, dropout: float = 0.0
    ) -> Tensor:
        """Return the outputs (outputs, batch).

        Args:
            inputs: (inputs, batch).
            noise: (outputs, batch) uint16, uniform; None drops nothing.
            dropout: share of the outputs to drop.
        """
        sums = self._kernel.forward(self.values, inputs)
        if self.activation is None:
            self._saved = (inputs, sums, sums, _NO_NOISE, 0, 1.0)
            return sums.add_(self.parameters["bias"][:, None])
        threshold = round(dropout * _NOISE_LEVELS) if noise is not None else 0
        scale = 1 / (1 - dropout) if noise is not None else 1.0
        chances = noise if noise is not None else _NO_NOISE
        outputs = torch.empty_like(sums)
        arguments = (chances, threshold, scale, outputs.numpy())
        bias = self.parameters["bias"].numpy()
        if self.activation == "relu":
            sparse_kernels.activate_relu(sums.numpy(), bias, *arguments)
        else:
            shape = self.parameters["shape"].numpy()
            sparse_kernels.activate_srelu(sums.numpy(), bias, shape, *arguments)
        self._saved = (inputs, sums, outputs, chances, threshold, scale)
        return outputs

    def backward(self, slopes: Tensor, input_gradient: bool = True) -> Tensor | None:
        """Set the gradients of the last `forward`; return that by its inputs if asked for.

        Args:
            slopes: (outputs, batch), the gradient by the outputs; overwritten.
            input_gradient: whether to return (inputs, batch) or None.
        """
        inputs, sums, outputs, chances, threshold, scale = self._saved
        if self.activation is None:
            self.gradients["bias"] = slopes.sum(1)
        else:
            by_bias = torch.empty_like(self.parameters["bias"])
            if self.activation == "relu":
                sparse_kernels.relu_slopes(outputs.numpy(), slopes.numpy(), scale, by_bias.numpy())
            else:
                by_shape = torch.empty_like(self.parameters["shape"])
                sparse_kernels.srelu_slopes(
                    sums.numpy(),
                    self.parameters["shape"].numpy(),
                    chances,
                    threshold,
                    scale,
                    slopes.numpy(),
                    by_bias.numpy(),
                    by_shape.numpy(),
                )
                self.gradients["shape"] = by_shape
            self.gradients["bias"] = by_bias
        self.gradients["values"] = self._kernel.gradient(inputs, slopes)
        return self._kernel.backward(self.values, slopes) if input_gradient else None

    def step(self, learning_rate: float, momentum: float) -> None:
        """Take one step of gradient descent with momentum, on the stored weights only."""
        for name, parameter in self.parameters.items():
            velocity = self.momenta[name]
            velocity.mul_(momentum).add_(self.gradients[name])
            parameter.add_(velocity, alpha=-learning_rate)


class SparsePerceptron:
    """A chain of sparse layers; the last has no activation.

    Args:
        layers: from the inputs on.

    Raises:
        DataError: neighbouring layers do not fit.
    """

    def __init__(self, layers: Sequence[SparseLayer]) -> None:
        for before, after in itertools.pairwise(layers):
            if before.pattern.outputs != after.pattern.inputs:
                raise DataError(
                    f"a layer of {before.pattern.outputs} outputs comes before one of "
                    f"{after.pattern.inputs} inputs"
                )
        self.layers = list(layers)

    @property
    def sizes(self) -> list[int]:
        """Units per layer, inputs and outputs included."""
        patterns = [layer.pattern for layer in self.layers]
        return [patterns[0].inputs, *(pattern.outputs for pattern in patterns)]

    def forward(
        self,
        inputs: Tensor,
        dropout: float = 0.0,
        noise: np.random.Generator | None = None,
        silenced: Sequence[np.ndarray] | None = None,
    ) -> Tensor:
        """Return the logits (classes, batch) of inputs (features, batch).

        Args:
            inputs: (features, batch).
            dropout: share of hidden outputs dropped where `noise` is given.
            noise: draws what is dropped; None for evaluation.
            silenced: per layer of units (inputs first), (units,) bool, True where the unit's
                output is 0; not for training.
        """
        values = inputs
        for number, layer in enumerate(self.layers):
            if silenced is not None and silenced[number].any():
                values = values.masked_fill(torch.from_numpy(silenced[number])[:, None], 0)
            chances = None
            if noise is not None and dropout > 0 and layer.activation is not None:
                shape = (layer.pattern.outputs, values.shape[1])
                chances = noise.integers(0, _NOISE_LEVELS, shape, np.uint16)
            values = layer.forward(values, chances, dropout)
        return values

    def backward(self, slopes: Tensor) -> None:
        """Set the gradients of the last `forward` from the gradient by the logits."""
        remaining: Tensor | None = slopes
        for number in reversed(range(len(self.layers))):
            assert remaining is not None
            remaining = self.layers[number].backward(remaining, input_gradient=number > 0)

    def loss_and_slopes(self, logits: Tensor, labels: Tensor) -> tuple[float, Tensor]:
        """Return the mean cross-entropy and its gradient by the logits (classes, batch)."""
        logarithms = torch.log_softmax(logits, 0)
        samples = torch.arange(len(labels))
        loss = -float(logarithms[labels, samples].mean())
        slopes = logarithms.exp_()
        slopes[labels, samples] -= 1
        return loss, slopes.div_(len(labels))

    def train_step(
        self,
        inputs: Tensor,
        labels: Tensor,
        learning_rate: float,
        momentum: float,
        dropout: float = 0.0,
        noise: np.random.Generator | None = None,
    ) -> float:
        """Take one step on a batch and return the loss before it.

        Args:
            inputs: (features, batch).
            labels: (batch,) int64.
            learning_rate, momentum: of gradient descent.
            dropout, noise: as in `forward`.

        Raises:
            TrainingError: the loss is not finite.
        """
        loss, slopes = self.loss_and_slopes(self.forward(inputs, dropout, noise), labels)
        if not np.isfinite(loss):
            raise TrainingError(
                "the loss is not finite: training diverged; lower the learning rate or the momentum"
            )
        self.backward(slopes)
        for layer in self.layers:
            layer.step(learning_rate, momentum)
        return loss

    def predict(self, inputs: Tensor, silenced: Sequence[np.ndarray] | None = None) -> Tensor:
        """Return the class (batch,) of largest logit for inputs (features, batch)."""
        return self.forward(inputs, silenced=silenced).argmax(0)

    def weights(self) -> list[Matrix]:
        """Return the weights of each layer (inputs, outputs): CSR, or an array of a dense layer.

        Raises:
            TrainingError: a weight is not finite.
        """
        for number, layer in enumerate(self.layers, 1):
            if not bool(torch.isfinite(layer.values).all()):
                raise TrainingError(
                    f"weights of layer {number} are not finite: training diverged; lower the "
                    "learning rate or the momentum"
                )
        return [layer.matrix() for layer in self.layers]

    def state(self) -> dict[str, np.ndarray]:
        """Return all that the outputs depend on, as arrays named {name}{layer number}.

        Positions of a dense layer are left out.
        """
        arrays: dict[str, np.ndarray] = {"sizes": np.asarray(self.sizes)}
        for number, layer in enumerate(self.layers, 1):
            if not layer.pattern.is_full:
                arrays[f"positions{number}"] = layer.pattern.positions
            for name, parameter in layer.parameters.items():
                arrays[f"{name}{number}"] = parameter.numpy().copy()
        return arrays

    @classmethod
    def of_state(cls, arrays: Mapping[str, np.ndarray]) -> SparsePerceptron:
        """Return the network of `state`; its kernels are compiled ones."""
        sizes = arrays["sizes"].tolist()
        layers = []
        for number, (inputs, outputs) in enumerate(itertools.pairwise(sizes), 1):
            hidden = number < len(sizes) - 1
            found = {
                name: torch.from_numpy(arrays[f"{name}{number}"])
                for name in ("values", "bias", "shape")
                if f"{name}{number}" in arrays
            }
            layers.append(
                SparseLayer(
                    Pattern(inputs, outputs, arrays[f"positions{number}"])
                    if f"positions{number}" in arrays
                    else Pattern.full(inputs, outputs),
                    found["values"],
                    found["bias"],
                    ("srelu" if "shape" in found else "relu") if hidden else None,
                    found.get("shape"),
                )
            )
        return cls(layers)


def epsilon_density(inputs: int, outputs: int, epsilon: float) -> float:
    """Return min(1, epsilon (n_in + n_out) / (n_in n_out)), the density of a layer of SET.

    Source: Mocanu et al. (2018), equation 1.
    """
    return min(1.0, epsilon * (inputs + outputs) / (inputs * outputs))


def random_pattern(
    inputs: int, outputs: int, epsilon: float, seed: int, layer: int, topology: str = "bernoulli"
) -> Pattern:
    """Return an Erdos-Renyi pattern; one seed and layer number give one pattern.

    Args:
        inputs, outputs: units on either side.
        epsilon: density in units of (inputs + outputs) / (inputs * outputs).
        seed, layer: name the stream of draws.
        topology: "bernoulli", each place by itself; "replacement", epsilon (inputs + outputs)
            places drawn with replacement, so that fewer differ.

    Raises:
        ConfigurationError: an unknown topology, epsilon not positive, or no place drawn.

    Warns:
        DenseLayerWarning: epsilon is so large that all places have a weight.
    """
    if topology not in TOPOLOGIES:
        raise unknown_name("topology", topology, TOPOLOGIES)
    if not epsilon > 0:
        raise ConfigurationError(f"epsilon is {epsilon}; it must be positive")
    density = epsilon_density(inputs, outputs, epsilon)
    if density == 1:
        warnings.warn(
            f"epsilon {epsilon:g} makes layer {layer} ({inputs} to {outputs} units) dense; it is "
            f"sparse below {inputs * outputs / (inputs + outputs):.3g}",
            DenseLayerWarning,
            stacklevel=2,
        )
        return Pattern.full(inputs, outputs)
    if topology == "replacement":
        generator = numpy_generator(seed, "hubs", "topology", layer)
        drawn = generator.integers(0, inputs * outputs, round(epsilon * (inputs + outputs)))
        return Pattern(inputs, outputs, np.unique(drawn))
    name = str(layer)
    try:
        masks = bernoulli_masks({name: (outputs, inputs)}, {name: density}, seed, "hubs topology")
    except ConfigurationError:
        raise ConfigurationError(
            f"epsilon {epsilon:g} leaves layer {layer} ({inputs} to {outputs} units) without a "
            "weight; raise it"
        ) from None
    return Pattern(inputs, outputs, np.flatnonzero(masks[name].numpy()))


def build_perceptron(
    sizes: Sequence[int],
    epsilon: float | None,
    seed: int,
    *,
    activation: str = "srelu",
    sparse_output: bool = False,
    topology: str = "bernoulli",
    weights: str = "glorot",
    kernel: str = "measured",
    batch_size: int = 100,
    threads: int = 1,
) -> tuple[SparsePerceptron, list[dict[str, float]]]:
    """Return a network with random patterns and weights, and what its kernels cost.

    Args:
        sizes: units per layer, inputs and outputs included.
        epsilon: see `random_pattern`; None makes every layer dense.
        seed: root of all draws; networks of one seed and epsilon start equal.
        activation: of hidden layers, "srelu" or "relu". The four vectors of srelu start as left
            threshold 0, left slope U(0, 1), right threshold U(0, 5), right slope 1.
        sparse_output: whether the last layer is sparse too.
        topology: see `random_pattern`.
        weights: "glorot", uniform within sqrt(6 / (inputs + outputs)) of the dense layer; "normal",
            with standard deviation 0.1. Biases are zero.
        kernel: "measured", or one of `KERNELS` for all sparse layers: it fixes the last digits on
            every machine.
        batch_size: samples of an update, for the measurement.
        threads: threads of the compiled kernels.

    Returns:
        The network, and per layer the seconds of an update by kernel (empty if not measured).

    Raises:
        ConfigurationError: an unknown choice, fewer than two layers, or a layer without weights.
    """
    if activation not in ACTIVATIONS:
        raise unknown_name("activation", activation, ACTIVATIONS)
    if weights not in WEIGHTS:
        raise unknown_name("first weights", weights, WEIGHTS)
    if kernel not in ("measured", *KERNELS):
        raise unknown_name("kernel", kernel, ("measured", *KERNELS))
    if len(sizes) < 2 or min(sizes) < 1:
        raise ConfigurationError(f"layer sizes are {list(sizes)}; give two or more, each positive")
    layers, costs = [], []
    for number, (inputs, outputs) in enumerate(itertools.pairwise(sizes), 1):
        hidden = number < len(sizes) - 1
        sparse = epsilon is not None and (hidden or sparse_output)
        pattern = (
            random_pattern(inputs, outputs, epsilon, seed, number, topology)
            if sparse and epsilon is not None
            else Pattern.full(inputs, outputs)
        )
        generator = torch_generator(seed, "hubs", "weights", number)
        if weights == "normal":
            values = torch.randn(pattern.edges, generator=generator) * 0.1
        else:
            limit = (6 / (inputs + outputs)) ** 0.5
            values = (torch.rand(pattern.edges, generator=generator) * 2 - 1) * limit
        shape = None
        if hidden and activation == "srelu":
            drawn = torch.rand(2, outputs, generator=torch_generator(seed, "hubs", "srelu", number))
            zeros, ones = torch.zeros(outputs), torch.ones(outputs)
            shape = torch.stack([zeros, drawn[0], 5 * drawn[1], ones])
        chosen, seconds = kernel, {}
        if kernel == "measured":
            chosen, seconds = choose_kernel(pattern, batch_size, threads, number > 1)
        costs.append(seconds)
        layers.append(
            SparseLayer(
                pattern,
                values,
                torch.zeros(outputs),
                activation if hidden else None,
                shape,
                chosen,
                threads,
            )
        )
    return SparsePerceptron(layers), costs
