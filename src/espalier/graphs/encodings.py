"""Encodings of a layer graph as sparse matrices: multipartite, bipartite, rolled.

The unrolled multipartite encoding has one node per unit of every feature map. Its edges follow from
masks and axis relations, so that degrees and the number of edges are known without any edge, and
the CSR arrays are filled row by row, in order, without sorting.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, overload

import numpy as np
from scipy.sparse import csr_array

from espalier.errors import ConfigurationError, unknown_name
from espalier.graphs.layer_graph import AxisRelation, Block, Layer, LayerGraph, Part

KINDS = ("rolled", "rolled-channel", "unrolled")

MAX_BYTES = 4 << 30
"""The largest encoding that is built unless another limit is given."""

_EDGE_FREE = (
    "espalier.topology.topometrics computes every topometric from the layer graph without edges "
    "(memory in nodes and weights); or raise max_bytes"
)


@overload
def encode(
    graph: LayerGraph,
    kind: Literal["unrolled"] = ...,
    *,
    weighted: bool = ...,
    dtype: Any = ...,
    max_bytes: int | None = ...,
) -> csr_array: ...


@overload
def encode(
    graph: LayerGraph,
    kind: Literal["rolled", "rolled-channel"],
    *,
    weighted: bool = ...,
    dtype: Any = ...,
    max_bytes: int | None = ...,
) -> dict[str, csr_array]: ...


def encode(
    graph: LayerGraph,
    kind: str = "unrolled",
    *,
    weighted: bool = True,
    dtype: Any = np.float32,
    max_bytes: int | None = MAX_BYTES,
) -> csr_array | dict[str, csr_array]:
    """Encode a network's layer graph as sparse matrices; an entry (u, v) is the edge u -> v.

    "unrolled" is the multipartite graph: one (nodes, nodes) CSR matrix, part after part, strictly
    upper triangular, columns sorted. "rolled" and "rolled-channel" are one (left, right) matrix per
    layer with weights: left is every kernel entry (channel, row, column) or every input channel,
    right every output channel. A rolled-channel edge exists where a kernel slice is not empty; its
    weight is the slice's L2 norm. Source: Cunegatti et al., TMLR 2024, section 3; Hoang et al.,
    "Revisiting pruning at initialization through the lens of Ramanujan graph", ICLR 2023.

    Under the published convention weights are rounded to float16 first, as the public code does,
    and "unrolled" has the public code's edges: then the matrix need not be upper triangular, and
    overlapping pools list an edge twice (as two stored entries).

    Args:
        graph: from `layer_graph`.
        kind: "unrolled", "rolled" or "rolled-channel".
        weighted: absolute weights; otherwise every entry is 1.
        dtype: of the entries. Indices are int32 where they fit, int64 beyond.
        max_bytes: the largest matrix to build; None for no limit.

    Returns:
        The matrix, or for the rolled encodings one matrix per layer by the weight's name.

    Raises:
        ConfigurationError: an unknown kind, or the matrix would exceed `max_bytes` (found before
            anything is allocated).
    """
    if kind not in KINDS:
        raise unknown_name("encoding", kind, KINDS)
    dtype = np.dtype(dtype)
    if kind != "unrolled":
        return {
            layer.name: _rolled(layer, kind, weighted, dtype, graph.convention)
            for layer in graph.layers
        }
    edges = edge_count(graph)
    size = encoding_bytes(graph.nodes, edges, dtype)
    if graph.convention == "published":
        from espalier.graphs.published_encoding import LISTING_BYTES, published_adjacency

        _check_memory("published", size + LISTING_BYTES * edges, edges, max_bytes)
        return published_adjacency(graph, weighted, dtype)
    _check_memory("unrolled", size, edges, max_bytes)
    outgoing: dict[int, list[Block]] = {}
    for block in graph.blocks:
        outgoing.setdefault(block.source, []).append(block)
    degree = np.zeros(graph.nodes, np.int64)
    for block in graph.blocks:
        part = graph.parts[block.source]
        own = degree[graph.offsets[block.source] : graph.offsets[block.source + 1]]
        own.reshape(part.channels, part.height, part.width)[_channels_read(block)] += _degrees(
            block
        )
    indptr, indices, data = _empty_csr(degree, graph.nodes, dtype)
    in_order = True
    for source, blocks in outgoing.items():
        cursor = indptr[graph.offsets[source] : graph.offsets[source + 1]].astype(np.int64)
        for block in blocks:
            target = graph.parts[block.target]
            first = int(graph.offsets[block.target]) + (
                block.target_offset * target.height * target.width
            )
            in_order &= _fill(block, graph.parts[source], target, first, cursor, indices, data)
    return _finished(indptr, indices, data, (graph.nodes, graph.nodes), in_order, weighted)


def bipartite(
    graph: LayerGraph,
    block_index: int,
    *,
    weighted: bool = True,
    dtype: Any = np.float32,
    max_bytes: int | None = MAX_BYTES,
) -> csr_array:
    """Encode one block as the unrolled bipartite graph between its two parts.

    Args:
        graph: from `layer_graph`, of the convention "definition".
        block_index: position in `graph.blocks`.
        weighted, dtype, max_bytes: as in `encode`.

    Returns:
        (nodes of the source part, nodes of the target part) CSR matrix.

    Raises:
        ConfigurationError: the graph is of the published convention, there is no such block, or
            the matrix would exceed `max_bytes`.
    """
    if graph.convention != "definition":
        raise ConfigurationError(
            "a graph of the convention 'published' has no blocks; use convention 'definition'"
        )
    if not 0 <= block_index < len(graph.blocks):
        raise ConfigurationError(
            f"block_index is {block_index}; the graph has blocks 0 to {len(graph.blocks) - 1}"
        )
    block = graph.blocks[block_index]
    source, target = graph.parts[block.source], graph.parts[block.target]
    dtype = np.dtype(dtype)
    edges = _block_edges(block)
    size = encoding_bytes(max(source.nodes, target.nodes), edges, dtype)
    _check_memory(f"bipartite {block.name}", size, edges, max_bytes)
    degree = np.zeros((source.channels, source.height, source.width), np.int64)
    degree[_channels_read(block)] = _degrees(block)
    indptr, indices, data = _empty_csr(degree.ravel(), max(source.nodes, target.nodes), dtype)
    first = block.target_offset * target.height * target.width
    cursor = indptr[:-1].astype(np.int64)
    in_order = _fill(block, source, target, first, cursor, indices, data)
    return _finished(indptr, indices, data, (source.nodes, target.nodes), in_order, weighted)


def edge_count(graph: LayerGraph) -> int:
    """Return the number of edges of the unrolled encoding without building one.

    Every kept kernel entry is counted as often as its row and column taps join positions.
    """
    if graph.convention == "published":
        from espalier.graphs.published_encoding import published_edge_count

        return published_edge_count(graph)
    return sum(map(_block_edges, graph.blocks))


def encoding_bytes(nodes: int, edges: int, dtype: Any = np.float32) -> int:
    """Return the bytes of the CSR arrays of a graph."""
    index = _index_dtype(nodes, edges).itemsize
    return edges * (index + np.dtype(dtype).itemsize) + (nodes + 1) * index


def _check_memory(what: str, size: int, edges: int, max_bytes: int | None) -> None:
    if max_bytes is not None and size > max_bytes:
        raise ConfigurationError(
            f"the {what} encoding has {edges:,} edges and needs {size:,} bytes, over the limit "
            f"max_bytes={max_bytes:,}. {_EDGE_FREE}"
        )


def _index_dtype(nodes: int, edges: int) -> np.dtype:
    return np.dtype(np.int32 if max(nodes, edges) <= np.iinfo(np.int32).max else np.int64)


def _empty_csr(
    degree: np.ndarray, nodes: int, dtype: np.dtype
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    edges = int(degree.sum())
    index = _index_dtype(nodes, edges)
    indptr = np.zeros(len(degree) + 1, index)
    np.cumsum(degree, out=indptr[1:])
    return indptr, np.empty(edges, index), np.empty(edges, dtype)


def _finished(
    indptr: np.ndarray,
    indices: np.ndarray,
    data: np.ndarray,
    shape: tuple[int, int],
    in_order: bool,
    weighted: bool,
) -> csr_array:
    if not weighted:
        data.fill(1)
    matrix = csr_array((data, indices, indptr), shape=shape)
    if not in_order:
        matrix.sort_indices()
    return matrix


# -- one block ---------------------------------------------------------------------------------


def _channels_read(block: Block) -> slice:
    channels = block.weight.shape[1] * block.groups
    return slice(block.source_offset, block.source_offset + channels)


def _grouped(array: np.ndarray, groups: int) -> np.ndarray:
    """Return (outputs, inputs / groups, ...) with the outputs split by groups, on two axes."""
    return array.reshape(groups, -1, *array.shape[1:])


def _block_edges(block: Block) -> int:
    entries = np.count_nonzero(block.mask, axis=(0, 1))
    pairs = np.multiply.outer(block.rows.tap_counts, block.columns.tap_counts)
    return int((entries * pairs).sum(dtype=np.int64))


def _degrees(block: Block) -> np.ndarray:
    """Return (channels read, source height, source width) int64 out-degrees within the block."""
    entries = np.count_nonzero(_grouped(block.mask, block.groups), axis=1)
    entries = entries.reshape(-1, *block.mask.shape[2:]).astype(np.float64)
    # Floats below 2^53: the product of integer matrices has no fast routine.
    field = block.rows.source_counts @ entries @ block.columns.source_counts.T.astype(np.float64)
    return field.astype(np.int64)


@dataclass(frozen=True)
class _AxisTable:
    """Target positions of (source position, tap), and whether they can be written in order.

    Attributes:
        start: (source size * taps + 1,) int64, target: (n,) int64.
        descending: taps from the last to the first give ascending targets.
        single: no source position has two taps; unique: no tap has two targets of one position.
    """

    start: np.ndarray
    target: np.ndarray
    descending: bool
    single: bool
    unique: bool


def _axis_table(relation: AxisRelation) -> _AxisTable:
    source, target, tap = relation.triples.astype(np.int64).T
    code = source * relation.taps + tap
    order = np.lexsort((target, code))
    counts = relation.source_counts
    start = np.concatenate([[0], np.cumsum(counts)])
    by_tap = np.lexsort((target, -tap, source))
    same = np.diff(source[by_tap]) == 0
    return _AxisTable(
        start=start,
        target=target[order],
        descending=bool(np.all(np.diff(target[by_tap])[same] > 0)),
        single=bool(((counts > 0).sum(axis=1) <= 1).all()),
        unique=bool((counts <= 1).all()),
    )


def _fill(
    block: Block,
    source: Part,
    target: Part,
    first_node: int,
    cursor: np.ndarray,
    indices: np.ndarray,
    data: np.ndarray,
) -> bool:
    """Write a block's edges behind the cursors; return whether each row's columns ascend."""
    from espalier.graphs.encoding_kernels import fill_by_output, fill_by_position

    rows, columns = _axis_table(block.rows), _axis_table(block.columns)
    mask, weight = (_grouped(array, block.groups) for array in (block.mask, block.weight))
    if rows.single and columns.single:
        # (group, input, row tap, column tap, output)
        order = (0, 2, 3, 4, 1)
        mask, weight = mask.transpose(order), weight.transpose(order)
        output = _flat_outputs(mask, 4)
        slots = np.count_nonzero(mask, axis=4).ravel()
        fill_by_position(
            cursor,
            indices,
            data,
            block.source_offset,
            source.height,
            source.width,
            np.concatenate([[0], np.cumsum(slots)]),
            output,
            np.abs(weight[mask]),
            rows.start,
            rows.target,
            columns.start,
            columns.target,
            first_node,
            target.height,
            target.width,
        )
        return True
    # (group, input, output, row tap, column tap), the taps from the last to the first
    order = (0, 2, 1, 3, 4)
    mask, weight = (array.transpose(order)[..., ::-1, ::-1] for array in (mask, weight))
    places = np.nonzero(mask)
    counts = np.count_nonzero(mask, axis=(2, 3, 4)).ravel()
    fill_by_output(
        cursor,
        indices,
        data,
        block.source_offset,
        source.height,
        source.width,
        np.concatenate([[0], np.cumsum(counts)]),
        (places[0] * mask.shape[2] + places[2]).astype(np.int32),
        (mask.shape[3] - 1 - places[3]).astype(np.int32),
        (mask.shape[4] - 1 - places[4]).astype(np.int32),
        np.abs(weight[places]),
        rows.start,
        rows.target,
        columns.start,
        columns.target,
        first_node,
        target.height,
        target.width,
    )
    return rows.descending and columns.descending and (rows.unique or block.columns.taps == 1)


def _flat_outputs(mask: np.ndarray, axis: int) -> np.ndarray:
    """Return the output channel of every kept entry, in the order of the mask."""
    places = np.nonzero(mask)
    return (places[0] * mask.shape[axis] + places[axis]).astype(np.int32)


# -- rolled ------------------------------------------------------------------------------------


def _rolled(layer: Layer, kind: str, weighted: bool, dtype: np.dtype, convention: str) -> csr_array:
    """Return one layer's rolled or rolled-channel matrix."""
    mask, weight = layer.mask, layer.weight
    if kind == "rolled-channel":
        squares = np.square(weight, dtype=np.float64) * mask
        mask = np.any(mask, axis=(2, 3), keepdims=True)
        weight = np.sqrt(np.sum(squares, axis=(2, 3), keepdims=True))
    mask, weight = _grouped(mask, layer.groups), _grouped(weight, layer.groups)
    order = (0, 2, 3, 4, 1)
    mask, weight = mask.transpose(order), weight.transpose(order)
    groups, inputs, height, width, outputs = mask.shape
    data = np.abs(weight[mask])
    if convention == "published":
        data = data.astype(np.float16)
    if not weighted:
        data = np.ones(len(data))
    counts = np.count_nonzero(mask, axis=4).ravel()
    index = _index_dtype(max(len(counts), groups * outputs), len(data))
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(index)
    column = _flat_outputs(mask, 4).astype(index)
    shape = (groups * inputs * height * width, groups * outputs)
    return csr_array((data.astype(dtype), column, indptr), shape=shape)
