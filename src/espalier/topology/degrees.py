"""Degrees and strengths of every node, and what follows from them, without a list of edges.

A block's contribution to the degree of node (o, y, x) is a product along the two axes: how many
rows reach row y through each kernel row, how many columns reach column x through each kernel
column, and how many channels pass each kernel entry. That costs as much as there are weights and
nodes, whatever the number of edges.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse

from espalier.errors import DataError, unknown_name
from espalier.graphs.layer_graph import CONVENTIONS, Block, LayerGraph
from espalier.topology.blocks import (
    absolute_weight,
    checked_blocks,
    input_channels,
    output_channels,
)


@dataclass(frozen=True, eq=False)
class NodeFields:
    """One incoming and one outgoing number per node, part by part.

    Attributes:
        incoming, outgoing: one (channels, height, width) array per part; int64 degrees or float64
            strengths.
    """

    incoming: tuple[np.ndarray, ...]
    outgoing: tuple[np.ndarray, ...]

    @cached_property
    def total(self) -> tuple[np.ndarray, ...]:
        """Return incoming + outgoing, part by part."""
        return tuple(i + o for i, o in zip(self.incoming, self.outgoing, strict=True))

    @property
    def nodes(self) -> int:
        """Return the number of nodes."""
        return sum(field.size for field in self.incoming)


@dataclass(frozen=True)
class LocalCounts:
    """The metrics that degrees alone decide.

    Attributes:
        nodes, edges: of the graph.
        sink_nodes, source_nodes: nodes without outgoing, without incoming edges.
        disconnected_nodes: nodes without any edge.
        removable_out, removable_in: edges that can go because they start at a source (r-out) or
            end at a sink (r-in); under "published" as its code counts them.
    """

    nodes: int
    edges: int
    sink_nodes: int
    source_nodes: int
    disconnected_nodes: int
    removable_out: int
    removable_in: int


def degree_fields(layer_graph: LayerGraph) -> NodeFields:
    """In- and out-degree of every node.

    Returns:
        int64 fields, exact.

    Raises:
        DataError: a block does not fit its parts.
    """
    fields = _fields(layer_graph, weighted=False)
    return NodeFields(
        tuple(np.rint(f).astype(np.int64) for f in fields.incoming),
        tuple(np.rint(f).astype(np.int64) for f in fields.outgoing),
    )


def degree_fields_of_csr(layer_graph: LayerGraph, adjacency: sparse.csr_array) -> NodeFields:
    """In- and out-degree of every node of an explicit graph, its values ignored.

    Args:
        layer_graph: says how many nodes each part has.
        adjacency: (nodes, nodes); an entry (u, v) is an edge from u to v.

    Returns:
        int64 fields.

    Raises:
        DataError: the matrix has another number of nodes.
    """
    return _fields_of_csr(layer_graph, adjacency, np.ones(adjacency.nnz, np.int64))


def strength_fields_of_csr(layer_graph: LayerGraph, adjacency: sparse.csr_array) -> NodeFields:
    """Sums of the absolute values of an explicit graph, as `strength_fields`.

    Raises:
        DataError: the matrix has another number of nodes.
    """
    return _fields_of_csr(layer_graph, adjacency, np.abs(adjacency.data).astype(np.float64))


def strength_fields(layer_graph: LayerGraph) -> NodeFields:
    """Sum of the absolute weights of the incoming and of the outgoing edges of every node.

    Returns:
        float64 fields.

    Raises:
        DataError: a block does not fit its parts.
    """
    return _fields(layer_graph, weighted=True)


def edge_count(degrees: NodeFields) -> int:
    """Return the number of edges."""
    return sum(int(field.sum()) for field in degrees.outgoing)


def total_strength(strengths: NodeFields) -> float:
    """Return the sum over nodes of the weights of all their edges: each edge counts twice."""
    return float(sum(field.sum() for field in strengths.total))


def degree_counts(degrees: NodeFields, direction: str = "total") -> np.ndarray:
    """How many nodes have each degree.

    Args:
        degrees: the degree fields.
        direction: "incoming", "outgoing" or "total".

    Returns:
        (largest degree + 1,) int64.

    Raises:
        ConfigurationError: an unknown direction.
    """
    if direction not in ("incoming", "outgoing", "total"):
        raise unknown_name("direction", direction, ("incoming", "outgoing", "total"))
    fields: tuple[np.ndarray, ...] = getattr(degrees, direction)
    largest = max((int(f.max()) for f in fields if f.size), default=0)
    counts = np.zeros(largest + 1, np.int64)
    for field in fields:
        counts += np.bincount(field.reshape(-1), minlength=largest + 1)
    return counts


def sink_mask(degrees: NodeFields) -> np.ndarray:
    """Return (nodes,) bool: nodes of any part with incoming but no outgoing edges."""
    return _flat(degrees, lambda i, o: (i > 0) & (o == 0))


def source_mask(degrees: NodeFields) -> np.ndarray:
    """Return (nodes,) bool: nodes of any part with outgoing but no incoming edges."""
    return _flat(degrees, lambda i, o: (i == 0) & (o > 0))


def disconnected_mask(degrees: NodeFields) -> np.ndarray:
    """Return (nodes,) bool: nodes of any part without edges."""
    return _flat(degrees, lambda i, o: (i == 0) & (o == 0))


def local_counts(degrees: NodeFields, convention: str = "definition") -> LocalCounts:
    """Sinks, sources, disconnected nodes and removable connections.

    "definition" is the paper's: sinks outside the last part, sources outside the first, r-out the
    outgoing edges of those sources and r-in the incoming edges of those sinks, one level deep.
    "published" is what its code returns: all sinks minus the size of the last part, all sources
    minus the size of the first (both can be negative), the names of r-out and r-in exchanged, and
    one node missed at the end of the last part but one (sinks) and at the start of the second
    (sources).

    Args:
        degrees: the degree fields.
        convention: "definition" or "published".

    Raises:
        ConfigurationError: an unknown convention.

    Source: Cunegatti et al., "Understanding Sparse Neural Networks from their Topology via
    Multipartite Graph Representations" (TMLR 2024), table of topometrics.
    """
    if convention not in CONVENTIONS:
        raise unknown_name("convention", convention, CONVENTIONS)
    sinks, sources = sink_mask(degrees), source_mask(degrees)
    incoming = np.concatenate([f.reshape(-1) for f in degrees.incoming])
    outgoing = np.concatenate([f.reshape(-1) for f in degrees.outgoing])
    nodes, first, last = incoming.size, degrees.incoming[0].size, degrees.incoming[-1].size
    common = (nodes, int(outgoing.sum()))
    disconnected = int(disconnected_mask(degrees).sum())
    if convention == "published":
        counted_sinks = np.flatnonzero(sinks[: max(nodes - 1 - last, 0)])
        counted_sources = first + 1 + np.flatnonzero(sources[first + 1 :])
        return LocalCounts(
            *common,
            int(sinks.sum()) - last,
            int(sources.sum()) - first,
            disconnected,
            removable_out=int(incoming[counted_sinks].sum()),
            removable_in=int(outgoing[counted_sources].sum()),
        )
    sinks[nodes - last :] = False
    sources[:first] = False
    return LocalCounts(
        *common,
        int(sinks.sum()),
        int(sources.sum()),
        disconnected,
        removable_out=int(outgoing[sources].sum()),
        removable_in=int(incoming[sinks].sum()),
    )


def _flat(
    degrees: NodeFields, condition: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> np.ndarray:
    pairs = zip(degrees.incoming, degrees.outgoing, strict=True)
    return np.concatenate([condition(i, o).reshape(-1) for i, o in pairs])


def _fields(layer_graph: LayerGraph, weighted: bool) -> NodeFields:
    shapes = [(p.channels, p.height, p.width) for p in layer_graph.parts]
    incoming = [np.zeros(shape) for shape in shapes]
    outgoing = [np.zeros(shape) for shape in shapes]
    for block in checked_blocks(layer_graph):
        per_output, per_input = _channel_sums(block, weighted)
        rows, columns = block.rows, block.columns
        into = slice(block.target_offset, block.target_offset + output_channels(block))
        out_of = slice(block.source_offset, block.source_offset + input_channels(block))
        for field, channels, sums, row_counts, column_counts in (
            (incoming[block.target], into, per_output, rows.target_counts, columns.target_counts),
            (outgoing[block.source], out_of, per_input, rows.source_counts, columns.source_counts),
        ):
            field[channels] += row_counts.astype(np.float64) @ sums @ column_counts.T
    return NodeFields(tuple(incoming), tuple(outgoing))


def _fields_of_csr(
    layer_graph: LayerGraph, adjacency: sparse.csr_array, values: np.ndarray
) -> NodeFields:
    nodes = layer_graph.nodes
    if adjacency.shape != (nodes, nodes):
        raise DataError(f"the adjacency matrix is {adjacency.shape}, the graph has {nodes} nodes")
    incoming = np.zeros(nodes, values.dtype)
    np.add.at(incoming, adjacency.indices, values)
    outgoing = np.zeros(nodes, values.dtype)
    np.add.at(outgoing, np.repeat(np.arange(nodes), np.diff(adjacency.indptr)), values)

    def fields(flat: np.ndarray) -> tuple[np.ndarray, ...]:
        pieces = np.split(flat, layer_graph.offsets[1:-1])
        shapes = [(p.channels, p.height, p.width) for p in layer_graph.parts]
        return tuple(piece.reshape(s) for piece, s in zip(pieces, shapes, strict=True))

    return NodeFields(fields(incoming), fields(outgoing))


def _channel_sums(block: Block, weighted: bool) -> tuple[np.ndarray, np.ndarray]:
    """(output channels, ...) and (input channels, ...) sums over the other channels."""
    values = absolute_weight(block) if weighted else block.mask
    dtype = np.float64 if weighted else np.int32
    grouped = values.reshape(block.groups, -1, *values.shape[1:])
    per_input = grouped.sum(axis=1, dtype=dtype)
    return (
        values.sum(axis=1, dtype=dtype).astype(np.float64),
        per_input.reshape(-1, *values.shape[2:]).astype(np.float64),
    )
