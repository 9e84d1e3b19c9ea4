"""Networks as weighted graphs that can be multiplied with a vector, without a list of edges.

The weights of dense layers are read where they lie (numpy, torch on any device, CSR). Other
networks come as layer graphs: one node per unit (unrolled, by convolutions) or one per channel.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

import numpy as np
from scipy import sparse

from espalier.errors import DataError, unknown_name

if TYPE_CHECKING:
    import torch

    from espalier.graphs.layer_graph import LayerGraph

Weights: TypeAlias = "np.ndarray | torch.Tensor | sparse.csr_array | sparse.csr_matrix"

GRAPHS = ("undirected", "out")
NODES = ("unrolled", "rolled-channel")

_DEVICE_BLOCK = 1 << 24


class Sums(NamedTuple):
    """Sums over the edges of every node, each (nodes,) float64.

    Attributes:
        outgoing, incoming: of the weights.
        outgoing_squares, incoming_squares: of the squares of the weights.
    """

    outgoing: np.ndarray
    incoming: np.ndarray
    outgoing_squares: np.ndarray
    incoming_squares: np.ndarray


class WeightedGraph(Protocol):
    """A directed acyclic graph with weights, as products.

    Attributes:
        shapes: shape of the values of each layer, in the order of the nodes.
        names: of the layers.
    """

    shapes: tuple[tuple[int, ...], ...]
    names: tuple[str, ...]

    def sums(self) -> Sums:
        """Return the sums over the edges of every node."""
        ...

    def products(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sum weight times x at the other end, over outgoing and over incoming edges.

        Args:
            x: (nodes,) float64.
        """
        ...

    def adjacency(self) -> sparse.csr_array:
        """Return the explicit (nodes, nodes) matrix, an entry (u, v) the edge from u to v."""
        ...


def by_layer(graph: WeightedGraph, values: np.ndarray) -> list[np.ndarray]:
    """Split (nodes,) values into one array per layer, in the layer's shape."""
    sizes = [int(np.prod(shape)) for shape in graph.shapes]
    parts = np.split(values, np.cumsum(sizes)[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, graph.shapes, strict=True)]


class LayeredWeights:
    """The units of dense layers as nodes, the weights between neighbouring layers as edges.

    Args:
        weights: one (n_in, n_out) matrix per layer; 0 means no edge.
        signed: the weights as they are, else their absolute values.
        include_output: False leaves out the last matrix and with it the output units.

    Raises:
        DataError: there is no layer, a matrix is not a real finite matrix, or the layers do not
            chain.
    """

    def __init__(
        self, weights: Sequence[Weights], *, signed: bool = True, include_output: bool = True
    ) -> None:
        if hasattr(weights, "shape"):
            raise DataError("weights is one matrix; give a list with one (n_in, n_out) per layer")
        layers = [_layer(matrix, index) for index, matrix in enumerate(weights)]
        if not layers:
            raise DataError("weights is empty; give one (n_in, n_out) matrix per layer")
        for index, (left, right) in enumerate(itertools.pairwise(layers)):
            if left.shape[1] != right.shape[0]:
                raise DataError(
                    f"layers {index} and {index + 1} do not chain: their weights are "
                    f"{left.shape} and {right.shape}, and {left.shape[1]} outputs cannot be "
                    f"{right.shape[0]} inputs; weights are (n_in, n_out)"
                )
        if not include_output:
            if len(layers) == 1:
                raise DataError("without the output units a network of one layer has no edge left")
            layers.pop()
        self._layers = layers
        self._absolute = not signed
        sizes = [layers[0].shape[0], *(layer.shape[1] for layer in layers)]
        self.shapes = tuple((size,) for size in sizes)
        self.names = tuple(str(index) for index in range(len(sizes)))
        self._bounds = list(itertools.pairwise(np.cumsum([0, *sizes]).tolist()))

    def sums(self) -> Sums:
        """Return the sums over the edges of every node.

        Raises:
            DataError: a weight is not finite, or so large that the sum of squares is not.
        """
        sums = Sums(*(np.zeros(self._bounds[-1][1]) for _ in range(4)))
        for index, (layer, left, right) in enumerate(self._between()):
            with np.errstate(over="ignore", invalid="ignore"):
                found = layer.sums(self._absolute)
            if not all(np.isfinite(part).all() for part in found[2:]):
                raise _not_finite(layer, index)
            sums.outgoing[left], sums.incoming[right] = found[0], found[1]
            sums.outgoing_squares[left], sums.incoming_squares[right] = found[2], found[3]
        return sums

    def products(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sum weight times x at the other end, over outgoing and over incoming edges."""
        outgoing, incoming = np.zeros_like(x), np.zeros_like(x)
        for layer, left, right in self._between():
            outgoing[left], incoming[right] = layer.products(self._absolute, x[right], x[left])
        return outgoing, incoming

    def adjacency(self) -> sparse.csr_array:
        """Return the explicit (nodes, nodes) matrix, an entry (u, v) the edge from u to v."""
        nodes = self._bounds[-1][1]
        entries = []
        for layer, left, right in self._between():
            found = layer.coo()
            entries.append((found.data, found.row + left.start, found.col + right.start))
        data, row, column = (np.concatenate(part) for part in zip(*entries, strict=True))
        data = np.abs(data) if self._absolute else data
        return sparse.csr_array((data, (row, column)), shape=(nodes, nodes))

    def matrices(self) -> list[sparse.coo_array]:
        """Return the layers' weights in float64, entries of 0 left out, signs kept."""
        found = [layer.coo() for layer in self._layers]
        for matrix in found:
            matrix.eliminate_zeros()
        return found

    def _between(self) -> list[tuple[_Layer, slice, slice]]:
        return [
            (layer, slice(*left), slice(*right))
            for layer, (left, right) in zip(
                self._layers, itertools.pairwise(self._bounds), strict=True
            )
        ]


# -- the weights of one layer ------------------------------------------------------------------

_AllSums: TypeAlias = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


class _Layer(Protocol):
    shape: tuple[int, int]

    def sums(self, absolute: bool) -> _AllSums: ...

    def products(
        self, absolute: bool, right: np.ndarray, left: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]: ...

    def coo(self) -> sparse.coo_array: ...


class _DenseLayer:
    def __init__(self, weights: np.ndarray) -> None:
        self.shape = (weights.shape[0], weights.shape[1])
        # The transpose of a matrix with contiguous rows, such as nn.Linear's, is read as it lies.
        self._swapped = weights.flags.f_contiguous and not weights.flags.c_contiguous
        self._weights = np.ascontiguousarray(weights.T if self._swapped else weights)

    def sums(self, absolute: bool) -> _AllSums:
        from espalier.hubs.layer_kernels import dense_sums

        rows, columns, row_squares, column_squares = dense_sums(self._weights, absolute)
        if self._swapped:
            return columns, rows, column_squares, row_squares
        return rows, columns, row_squares, column_squares

    def products(
        self, absolute: bool, right: np.ndarray, left: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        from espalier.hubs.layer_kernels import dense_products

        if self._swapped:
            columns, rows = dense_products(self._weights, absolute, left, right)
            return rows, columns
        return dense_products(self._weights, absolute, right, left)

    def coo(self) -> sparse.coo_array:
        weights = self._weights.T if self._swapped else self._weights
        return sparse.coo_array(weights.astype(np.float64))


class _CsrLayer:
    def __init__(self, weights: Any) -> None:
        matrix: Any = sparse.csr_array(weights)
        if not matrix.has_canonical_format:
            matrix = matrix.copy()
            matrix.sum_duplicates()
        if matrix.nnz and not 0 <= matrix.indices.min() <= matrix.indices.max() < matrix.shape[1]:
            raise DataError(
                f"a CSR matrix of shape {matrix.shape} has column indices from "
                f"{matrix.indices.min()} to {matrix.indices.max()}; the file is damaged"
            )
        self.shape = (int(matrix.shape[0]), int(matrix.shape[1]))
        self._matrix = matrix

    def sums(self, absolute: bool) -> _AllSums:
        from espalier.hubs.layer_kernels import csr_sums

        matrix = self._matrix
        return csr_sums(matrix.indptr, matrix.indices, matrix.data, self.shape[1], absolute)

    def products(
        self, absolute: bool, right: np.ndarray, left: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        from espalier.hubs.layer_kernels import csr_products

        matrix = self._matrix
        return csr_products(matrix.indptr, matrix.indices, matrix.data, absolute, right, left)

    def coo(self) -> sparse.coo_array:
        found = sparse.coo_array(self._matrix.astype(np.float64))
        found.eliminate_zeros()
        return found


class _DeviceLayer:
    """A dense tensor that stays on its device; float64 copies of a few rows at a time."""

    def __init__(self, weights: torch.Tensor) -> None:
        self.shape = (weights.shape[0], weights.shape[1])
        self._weights = weights

    def _blocks(self, absolute: bool):
        rows = max(1, _DEVICE_BLOCK // max(1, self.shape[1]))
        for start in range(0, self.shape[0], rows):
            block = self._weights[start : start + rows].double()
            yield slice(start, start + rows), block.abs() if absolute else block

    def sums(self, absolute: bool) -> _AllSums:
        vectors = [self._weights.new_zeros(size).double() for size in (*self.shape, *self.shape)]
        rows, columns, row_squares, column_squares = vectors
        for place, block in self._blocks(absolute):
            rows[place] = block.sum(1)
            columns += block.sum(0)
            block = block.square()
            row_squares[place] = block.sum(1)
            column_squares += block.sum(0)
        one, two, three, four = (vector.cpu().numpy() for vector in vectors)
        return one, two, three, four

    def products(
        self, absolute: bool, right: np.ndarray, left: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        import torch

        x, y = (torch.from_numpy(v).to(self._weights.device) for v in (right, left))
        rows = x.new_zeros(self.shape[0])
        columns = x.new_zeros(self.shape[1])
        for place, block in self._blocks(absolute):
            rows[place] = block @ x
            columns += block.T @ y[place]
        return rows.cpu().numpy(), columns.cpu().numpy()

    def coo(self) -> sparse.coo_array:
        return sparse.coo_array(self._weights.double().cpu().numpy())


def _layer(matrix: Any, index: int) -> _Layer:
    """Return one layer's weights as something to multiply with.

    Raises:
        DataError: they are not a real matrix, or a side is empty.
    """
    where = f"weights of layer {index}"
    if type(matrix).__module__.partition(".")[0] == "torch":
        import torch

        tensor = matrix.detach()
        if tensor.is_complex():
            raise DataError(f"{where} are complex; centrality is defined for real weights")
        if tensor.layout in (torch.sparse_csr, torch.sparse_csc, torch.sparse_coo):
            matrix = _scipy_csr(tensor, where)
        elif tensor.device.type != "cpu":
            _check_shape(tuple(tensor.shape), where)
            return _DeviceLayer(tensor)
        else:
            tensor = tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
            matrix = tensor.numpy()
    is_sparse = sparse.issparse(matrix)
    if not is_sparse:
        matrix = np.asarray(matrix)
    _check_shape(matrix.shape, where)
    if matrix.dtype.kind == "c":
        raise DataError(f"{where} are complex; centrality is defined for real weights")
    if matrix.dtype.kind not in "fiub":
        raise DataError(f"{where} are of type {matrix.dtype}; they must be numbers")
    if matrix.dtype not in (np.float32, np.float64):
        matrix = matrix.astype(np.float32 if matrix.dtype == np.float16 else np.float64)
    return _CsrLayer(matrix) if is_sparse else _DenseLayer(matrix)


def _scipy_csr(tensor: torch.Tensor, where: str) -> sparse.csr_array:
    _check_shape(tuple(tensor.shape), where)
    tensor = tensor.to_sparse_csr()
    values = tensor.values().cpu()
    values = values.double() if values.element_size() < 4 else values
    parts = (values, tensor.col_indices().cpu(), tensor.crow_indices().cpu())
    data, indices, indptr = (part.numpy() for part in parts)
    return sparse.csr_array((data, indices, indptr), shape=tuple(tensor.shape))


def _check_shape(shape: tuple[int, ...], where: str) -> None:
    if len(shape) != 2:
        raise DataError(
            f"{where} have shape {tuple(shape)}; they must be an (n_in, n_out) matrix. For "
            "convolutions use espalier.hubs.network_centrality"
        )
    if 0 in shape:
        raise DataError(f"{where} have shape {tuple(shape)}: a layer without units")


def _not_finite(layer: _Layer, index: int) -> DataError:
    found = layer.coo()
    bad = np.flatnonzero(~np.isfinite(found.data))
    if bad.size:
        row, column = int(found.row[bad[0]]), int(found.col[bad[0]])
        return DataError(
            f"weights of layer {index}: {bad.size} are not finite, the first at "
            f"({row}, {column}); training has diverged or the file is damaged"
        )
    return DataError(f"weights of layer {index} are so large that their squares overflow float64")


# -- layer graphs ------------------------------------------------------------------------------


def network_graph(
    layer_graph: LayerGraph,
    nodes: str = "unrolled",
    *,
    signed: bool = True,
    include_output: bool = True,
) -> WeightedGraph:
    """Return a layer graph as a weighted graph.

    "unrolled" has one node per unit of every feature map and the edges of
    `espalier.graphs.encode`, their signs kept. "rolled-channel" has one node per channel of every
    part; the weight of an edge is the L2 norm of its kernel slice, as in `encode`, with the sign
    of the slice's sum. A block in which operations were merged holds sums of absolute weights
    already, so its weights count as positive.

    Raises:
        ConfigurationError: unknown nodes.
        DataError: the graph is of the published convention, a block does not fit its parts, a
            weight is not finite, or no edge can be left without the outputs.
    """
    from espalier.topology.blocks import checked_blocks

    if nodes not in NODES:
        raise unknown_name("encoding for centralities", nodes, NODES)
    for block in checked_blocks(layer_graph):
        if not np.isfinite(block.weight[block.mask]).all():
            raise DataError(f"weights of {block.name!r} are not finite; training has diverged")
    if not include_output:
        last = len(layer_graph.parts) - 1
        if last < 2:
            raise DataError("without the output units a network of one layer has no edge left")
        layer_graph = replace(
            layer_graph,
            parts=layer_graph.parts[:-1],
            blocks=tuple(block for block in layer_graph.blocks if block.target != last),
        )
    return (_UnitGraph if nodes == "unrolled" else _ChannelGraph)(layer_graph, signed)


class _UnitGraph:
    """One node per unit: signed products as those of the positive minus those of the negative."""

    def __init__(self, layer_graph: LayerGraph, signed: bool) -> None:
        from espalier.topology.operators import Adjacency

        self._layer_graph = layer_graph
        self._signed = signed
        self.shapes = tuple((p.channels, p.height, p.width) for p in layer_graph.parts)
        self.names = tuple(part.name for part in layer_graph.parts)
        if signed:
            self._operators = [
                (sign, Adjacency(_of_sign(layer_graph, sign))) for sign in (1.0, -1.0)
            ]
        else:
            self._operators = [(1.0, Adjacency(layer_graph))]

    def sums(self) -> Sums:
        squared = replace(
            self._layer_graph,
            blocks=tuple(
                replace(block, weight=np.square(block.weight, dtype=np.float64))
                for block in self._layer_graph.blocks
            ),
        )
        from espalier.topology.degrees import strength_fields

        squares = strength_fields(squared)
        outgoing, incoming = self.products(np.ones(self._layer_graph.nodes))
        return Sums(outgoing, incoming, _flat(squares.outgoing), _flat(squares.incoming))

    def products(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        import torch

        vector = torch.from_numpy(x)
        outgoing, incoming = np.zeros_like(x), np.zeros_like(x)
        for sign, operator in self._operators:
            both, into = operator.multiply(vector), operator.forward(vector)
            incoming += sign * into.numpy()
            outgoing += sign * (both - into).numpy()
        return outgoing, incoming

    def adjacency(self) -> sparse.csr_array:
        from espalier.topology.operators import adjacency_csr

        if not self._signed:
            return adjacency_csr(self._layer_graph)
        positive, negative = (
            adjacency_csr(_of_sign(self._layer_graph, sign)) for sign in (1.0, -1.0)
        )
        return sparse.csr_array(positive - negative)


def _of_sign(layer_graph: LayerGraph, sign: float) -> LayerGraph:
    blocks = tuple(
        replace(block, mask=block.mask & (sign * block.weight > 0)) for block in layer_graph.blocks
    )
    return replace(layer_graph, blocks=blocks)


def _flat(fields: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([field.reshape(-1) for field in fields])


class _ChannelGraph:
    """One node per channel: few enough that the edges are listed."""

    def __init__(self, layer_graph: LayerGraph, signed: bool) -> None:
        from espalier.topology.blocks import without_groups

        channels = [part.channels for part in layer_graph.parts]
        first = np.concatenate([[0], np.cumsum(channels)])
        rows, columns, values = [], [], []
        for block in layer_graph.blocks:
            kept = np.where(block.mask, block.weight, 0.0).astype(np.float64)
            slices = np.sqrt(np.square(kept).sum(axis=(2, 3)))
            if signed:
                slices = np.where(kept.sum(axis=(2, 3)) < 0, -slices, slices)
            matrix = without_groups(slices, block.groups)
            target, source = np.nonzero(matrix)
            rows.append(first[block.source] + block.source_offset + source)
            columns.append(first[block.target] + block.target_offset + target)
            values.append(matrix[target, source])
        nodes = int(first[-1])
        coordinates = [np.concatenate([np.empty(0, np.int64), *part]) for part in (rows, columns)]
        data = np.concatenate([np.empty(0), *values])
        self._matrix = sparse.csr_array((data, tuple(coordinates)), shape=(nodes, nodes))
        self._transposed = sparse.csr_array(self._matrix.T)
        self.shapes = tuple((count,) for count in channels)
        self.names = tuple(part.name for part in layer_graph.parts)

    def sums(self) -> Sums:
        ones = np.ones(sum(shape[0] for shape in self.shapes))
        squares = self._matrix.power(2)
        return Sums(self._matrix @ ones, self._transposed @ ones, squares @ ones, squares.T @ ones)

    def products(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self._matrix @ x, self._transposed @ x

    def adjacency(self) -> sparse.csr_array:
        return self._matrix
