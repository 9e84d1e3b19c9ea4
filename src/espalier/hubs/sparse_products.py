"""The three products of a sparse layer, forwards and backwards, by one of several kernels.

Activations are (units, batch). A kernel is compiled loops over the edges, torch's CSR products, or
a dense matrix with zeros. All give the same numbers to rounding, and `choose_kernel` measures which
one is fastest.

The sampled product, gradient of a sparse weight matrix at its own places only, is that of Gale,
Zaharia, Young and Elsen (2020), "Sparse GPU kernels for deep learning" (SDDMM).
"""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from espalier.errors import DataError, unknown_name
from espalier.hubs import sparse_kernels
from espalier.hubs.options import KERNELS
from espalier.seeds import torch_generator

# Another kernel has to be this many times faster than the compiled loops to take their place:
# a choice between equals would differ from run to run, and the last digits of the result with it.
_MARGIN = 1.5


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
