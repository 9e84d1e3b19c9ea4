"""Products of the weighted adjacency matrix with a vector, by convolutions and without edges.

A block is a convolution of pooled rows and columns: pooling windows become one 0/1 matrix per
axis, what is left is a convolution, a matrix product where the kernel is 1 x 1 or covers the whole
map, or, where strides and windows fit no convolution, a gather followed by a matrix product.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional
from scipy import sparse

from espalier.graphs.layer_graph import AxisRelation, Block, LayerGraph
from espalier.topology.blocks import (
    absolute_weight,
    checked_blocks,
    input_channels,
    output_channels,
)


class Adjacency:
    """The adjacency matrix of a layer graph as an operator on (nodes,) vectors.

    Args:
        layer_graph: the network.
        weighted: absolute weights, else 1 for every edge.
        dtype, device: of the vectors and of the arithmetic.

    Raises:
        DataError: a block does not fit its parts.
    """

    def __init__(
        self,
        layer_graph: LayerGraph,
        *,
        weighted: bool = True,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> None:
        self.size = layer_graph.nodes
        self.dtype = dtype
        self.device = torch.device(device)
        self._offsets = layer_graph.offsets.tolist()
        self._shapes = [(p.channels, p.height, p.width) for p in layer_graph.parts]
        self._blocks = [
            _BlockOperator(block, weighted, dtype, self.device)
            for block in checked_blocks(layer_graph)
            if block.mask.any()
        ]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Sum over the incoming edges of every node of weight times the value at the source."""
        y = torch.zeros_like(x)
        self._add_forward(self._fields(x), self._fields(y), None)
        return y

    def multiply(self, x: torch.Tensor) -> torch.Tensor:
        """Sum over all edges of every node of weight times the value at the other end."""
        y = torch.zeros_like(x)
        fields, result = self._fields(x), self._fields(y)
        self._add_forward(fields, result, None)
        self._add_backward(fields, result, None)
        return y

    def _fields(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [
            x[start:stop].view(shape)
            for (start, stop), shape in zip(
                itertools.pairwise(self._offsets), self._shapes, strict=True
            )
        ]

    def _add_forward(
        self, fields: Sequence[torch.Tensor], result: Sequence[torch.Tensor], only: set[int] | None
    ) -> None:
        for block in self._blocks:
            if only is None or block.source in only:
                result[block.target][block.outputs] += block.forward(
                    fields[block.source][block.inputs]
                )

    def _add_backward(
        self, fields: Sequence[torch.Tensor], result: Sequence[torch.Tensor], only: set[int] | None
    ) -> None:
        for block in self._blocks:
            if only is None or block.target in only:
                result[block.source][block.inputs] += block.backward(
                    fields[block.target][block.outputs]
                )

    def multiply_from(self, x: torch.Tensor, parts: set[int]) -> torch.Tensor:
        """Product with a vector that is 0 outside `parts`: only their blocks are visited."""
        y = torch.zeros_like(x)
        fields, result = self._fields(x), self._fields(y)
        self._add_forward(fields, result, parts)
        self._add_backward(fields, result, parts)
        return y


@dataclass(frozen=True, eq=False)
class _Axis:
    """How one axis of a block becomes a convolution.

    Attributes:
        pool: (pooled positions, source positions) 0/1, or None where nothing is pooled.
        index: (targets, taps) pooled position that a target sees by a tap, or -1.
        step, dilation, padding: of the convolution that has this index, or None if none has.
    """

    pool: np.ndarray | None
    index: np.ndarray
    size: int
    regular: tuple[int, int, int] | None


def _axis(relation: AxisRelation) -> _Axis:
    shape = (relation.target_size, relation.taps)
    seen: dict[tuple[int, int], list[int]] = {}
    for source, target, tap in relation.triples.tolist():
        seen.setdefault((target, tap), []).append(source)
    if all(len(window) == 1 for window in seen.values()):
        index = np.full(shape, -1)
        for (target, tap), (source,) in seen.items():
            index[target, tap] = source
        regular = _as_convolution(index, relation.source_size)
        if regular is not None:
            return _Axis(None, index, relation.source_size, regular)
    windows = sorted({tuple(sorted(window)) for window in seen.values()})
    place = {window: k for k, window in enumerate(windows)}
    index = np.full(shape, -1)
    for key, window in seen.items():
        index[key] = place[tuple(sorted(window))]
    pool = np.zeros((len(windows), relation.source_size))
    for k, window in enumerate(windows):
        pool[k, list(window)] = 1
    return _Axis(pool, index, len(windows), _as_convolution(index, len(windows)))


def _as_convolution(index: np.ndarray, size: int) -> tuple[int, int, int] | None:
    """(stride, dilation, padding) of the convolution with this index, or None."""
    target, tap = np.nonzero(index >= 0)
    if not target.size:
        return None
    seen = index[target, tap]
    matrix = np.stack([target, tap, -np.ones(target.size)], axis=1)
    if index.shape[0] == 1:
        matrix[:, 0] = 0
    solution = np.rint(np.linalg.lstsq(matrix, seen, rcond=None)[0]).astype(int)
    stride, dilation, padding = (int(v) for v in solution)
    stride, dilation = max(stride, 1), max(dilation, 1)
    expected = (
        np.arange(index.shape[0])[:, None] * stride
        + np.arange(index.shape[1])[None] * dilation
        - padding
    )
    expected[(expected < 0) | (expected >= size)] = -1
    return (stride, dilation, padding) if np.array_equal(expected, index) else None


class _BlockOperator:
    def __init__(
        self, block: Block, weighted: bool, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.source, self.target = block.source, block.target
        self.inputs = slice(block.source_offset, block.source_offset + input_channels(block))
        self.outputs = slice(block.target_offset, block.target_offset + output_channels(block))
        values = absolute_weight(block) if weighted else block.mask
        self._weight = torch.from_numpy(np.ascontiguousarray(values)).to(device, dtype)
        self._groups = block.groups
        axes = (_axis(block.rows), _axis(block.columns))
        self._pools = [
            None if axis.pool is None else torch.from_numpy(axis.pool).to(device, dtype)
            for axis in axes
        ]
        self._sizes = (axes[0].size, axes[1].size)
        self._target_sizes = (block.rows.target_size, block.columns.target_size)
        regular = [axis.regular for axis in axes]
        if block.groups == 1 and _covers(axes[0]) and _covers(axes[1]):
            self._kind = "dense"
            self._weight = self._weight.reshape(self._weight.shape[0], -1)
        elif block.groups == 1 and _pointwise(axes[0]) and _pointwise(axes[1]):
            self._kind = "pointwise"
            self._weight = self._weight[:, :, 0, 0].contiguous()
        elif regular[0] is not None and regular[1] is not None:
            self._kind = "convolution"
            self._plan(regular[0], regular[1])
        else:
            self._kind = "gather"
            # Positions that a tap does not reach read a row of zeros after the last one.
            self._index = [
                torch.from_numpy(np.where(a.index < 0, a.size, a.index)).to(device) for a in axes
            ]

    def _plan(self, rows: tuple[int, int, int], columns: tuple[int, int, int]) -> None:
        self._stride = (rows[0], columns[0])
        self._dilation = (rows[1], columns[1])
        kernel = self._weight.shape[2:]
        self._full = [
            (self._target_sizes[i] - 1) * self._stride[i] + self._dilation[i] * (kernel[i] - 1) + 1
            for i in range(2)
        ]
        left = (rows[2], columns[2])
        right = [self._full[i] - left[i] - self._sizes[i] for i in range(2)]
        # In the order of functional.pad: columns first; negative numbers crop.
        self._pad = (left[1], right[1], left[0], right[0])
        self._crop = tuple(-p for p in self._pad)
        output_padding = [-r + p for p, r in zip(left, right, strict=True)]
        self._symmetric = None
        if all(
            p >= 0 and 0 <= extra < self._stride[i]
            for i, (p, extra) in enumerate(zip(left, output_padding, strict=True))
        ):
            self._symmetric = (left, tuple(output_padding))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(input channels, height, width) to (output channels, height, width)."""
        for axis, pool in enumerate(self._pools):
            if pool is not None:
                x = pool @ x if axis == 0 else x @ pool.T
        if self._kind == "dense":
            return (self._weight @ x.reshape(-1)).view(-1, 1, 1)
        if self._kind == "pointwise":
            return (self._weight @ x.reshape(x.shape[0], -1)).view(-1, *self._target_sizes)
        if self._kind == "gather":
            return self._gathered(x)
        options = {"stride": self._stride, "dilation": self._dilation, "groups": self._groups}
        if self._symmetric is not None:
            return functional.conv2d(x[None], self._weight, padding=self._symmetric[0], **options)[
                0
            ]
        return functional.conv2d(functional.pad(x[None], self._pad), self._weight, **options)[0]

    def backward(self, y: torch.Tensor) -> torch.Tensor:
        """The transpose: (output channels, ...) to (input channels, ...)."""
        if self._kind == "dense":
            x = (self._weight.T @ y.reshape(-1)).view(-1, *self._sizes)
        elif self._kind == "pointwise":
            x = (self._weight.T @ y.reshape(y.shape[0], -1)).view(-1, *self._sizes)
        elif self._kind == "gather":
            x = self._scattered(y)
        else:
            options = {"stride": self._stride, "dilation": self._dilation, "groups": self._groups}
            if self._symmetric is not None:
                padding, extra = self._symmetric
                x = functional.conv_transpose2d(
                    y[None], self._weight, padding=padding, output_padding=extra, **options
                )[0]
            else:
                whole = functional.conv_transpose2d(y[None], self._weight, **options)
                x = functional.pad(whole, self._crop)[0]
        for axis, pool in enumerate(self._pools):
            if pool is not None:
                x = pool.T @ x if axis == 0 else x @ pool
        return x

    def _windows(self, x: torch.Tensor) -> torch.Tensor:
        """(groups, input channels of a group, targets, taps, targets, taps) of padded values."""
        rows, columns = self._index
        padded = functional.pad(x, (0, 1, 0, 1))
        seen = padded[:, rows.reshape(-1)][:, :, columns.reshape(-1)]
        return seen.view(self._groups, -1, *rows.shape, *columns.shape)

    def _gathered(self, x: torch.Tensor) -> torch.Tensor:
        weight = self._weight.view(self._groups, -1, *self._weight.shape[1:])
        result = torch.einsum("gcyaxb,gocab->goyx", self._windows(x), weight)
        return result.reshape(-1, *self._target_sizes)

    def _scattered(self, y: torch.Tensor) -> torch.Tensor:
        rows, columns = self._index
        weight = self._weight.view(self._groups, -1, *self._weight.shape[1:])
        grouped = y.reshape(self._groups, -1, *self._target_sizes)
        seen = torch.einsum("goyx,gocab->gcyaxb", grouped, weight).flatten(0, 1)
        seen = seen.flatten(3, 4).flatten(1, 2)
        by_row = seen.new_zeros(seen.shape[0], self._sizes[0] + 1, seen.shape[2])
        by_row.index_add_(1, rows.reshape(-1), seen)
        x = seen.new_zeros(seen.shape[0], self._sizes[0] + 1, self._sizes[1] + 1)
        x.index_add_(2, columns.reshape(-1), by_row)
        return x[:, :-1, :-1]


def _covers(axis: _Axis) -> bool:
    """One target that sees every position once, in order."""
    return axis.index.shape[0] == 1 and np.array_equal(axis.index[0], np.arange(axis.size))


def _pointwise(axis: _Axis) -> bool:
    """One tap, by which each target sees the position of its own number."""
    return axis.index.shape[1] == 1 and np.array_equal(axis.index[:, 0], np.arange(axis.size))


def multiplications(layer_graph: LayerGraph) -> int:
    """Multiplications of one product in one direction, dense: what a convolution costs."""
    return sum(
        block.mask.size * block.rows.target_size * block.columns.target_size
        for block in layer_graph.blocks
    )


def adjacency_csr(layer_graph: LayerGraph, *, weighted: bool = True) -> sparse.csr_array:
    """Explicit (nodes, nodes) adjacency: entry (u, v) is the edge from u to v, float64.

    Its memory is 12 bytes or more per edge; masked-in weights of 0 stay as explicit zeros.

    Raises:
        DataError: a block does not fit its parts.
    """
    sources, targets, values = [], [], []
    for block in checked_blocks(layer_graph):
        source, target = layer_graph.parts[block.source], layer_graph.parts[block.target]
        value = absolute_weight(block) if weighted else block.mask.astype(np.float64)
        per_group = block.mask.shape[0] // block.groups
        rows = [block.rows.triples[block.rows.triples[:, 2] == t] for t in range(block.rows.taps)]
        columns = [
            block.columns.triples[block.columns.triples[:, 2] == t]
            for t in range(block.columns.taps)
        ]
        for e, f in itertools.product(range(block.rows.taps), range(block.columns.taps)):
            output, inner = np.nonzero(block.mask[:, :, e, f])
            if not output.size:
                continue
            channel = block.source_offset + output // per_group * block.mask.shape[1] + inner
            r, y = rows[e][:, 0].astype(np.int64), rows[e][:, 1].astype(np.int64)
            s, x = columns[f][:, 0].astype(np.int64), columns[f][:, 1].astype(np.int64)
            u = (r[:, None] * source.width + s[None]).reshape(-1)
            v = (y[:, None] * target.width + x[None]).reshape(-1)
            first = layer_graph.offsets[block.source] + channel * (source.height * source.width)
            second = layer_graph.offsets[block.target] + (block.target_offset + output) * (
                target.height * target.width
            )
            sources.append((first[:, None] + u[None]).reshape(-1))
            targets.append((second[:, None] + v[None]).reshape(-1))
            values.append(np.repeat(value[output, inner, e, f], u.size))
    nodes = layer_graph.nodes
    if not sources:
        return sparse.csr_array((nodes, nodes))
    coordinates = (np.concatenate(sources), np.concatenate(targets))
    return sparse.csr_array((np.concatenate(values), coordinates), shape=(nodes, nodes))


def sizes(matrix: sparse.csr_array) -> tuple[int, int]:
    """Return the numbers of rows and columns."""
    shape: Any = matrix.shape
    return int(shape[0]), int(shape[1])
