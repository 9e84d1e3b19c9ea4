"""Perceptrons whose layers store, and differentiate by, only the weights that they have.

Activations are (units, batch). A layer keeps the flat positions of its weights and one value for
each; how it multiplies is a kernel of `espalier.hubs.sparse_products`. A layer that has all its
weights is a dense matrix.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from espalier.errors import ConfigurationError, DataError, TrainingError, unknown_name
from espalier.hubs import sparse_kernels
from espalier.hubs.options import ACTIVATIONS, KERNELS
from espalier.hubs.sparse_products import Pattern, build_kernel, choose_kernel
from espalier.pruning.densities import bernoulli_masks
from espalier.seeds import numpy_generator, torch_generator

TOPOLOGIES = ("bernoulli", "replacement")
WEIGHTS = ("glorot", "normal")
_NOISE_LEVELS = 2**16
_NO_NOISE = np.empty((0, 0), np.uint16)

Matrix = scipy.sparse.csr_matrix | np.ndarray


class DenseLayerWarning(UserWarning):
    """A layer that was to be sparse has all its weights."""


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
        threads: see `espalier.hubs.sparse_products.CompiledKernel`.

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
