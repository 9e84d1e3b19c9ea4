"""Effective connectivity: weights, nodes and paths that join the input to the output.

A weight that no input reaches, or that reaches no output, does nothing. Reachability is carried
through the layer graph as one truth value per node, forward and backward, and numbers of paths as
integers of any size, cut into limbs that float64 holds exactly. Edges are never listed: a block is
one matrix product per kernel entry, sparse where the mask is.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse

from espalier.errors import ConfigurationError, DataError, unknown_name
from espalier.graphs.layer_graph import AxisRelation, Block, Layer, LayerGraph
from espalier.topology.blocks import checked_blocks, input_channels, output_channels

LEVELS = ("unit", "channel")

SPARSE_DENSITY = 0.05
"""Below this share of kept weights a block's products are sparse."""

# One bit is left for the carry.
_EXACT_BITS = 52


@dataclass(frozen=True, eq=False)
class EffectiveConnectivity:
    """Which nodes and edges of a layer graph lie on a path from the input to the output.

    Attributes:
        graph: the layer graph.
        level: "unit" (exact) or "channel" (an upper bound).
        nodes: per part, (channels, height, width) bool; at level "channel" (channels, 1, 1).
        active: per block, bool in the shape of its mask: kept and on some path.
        effective_edges: edges on some path; at level "channel" those of active entries.
        edges: all edges.
    """

    graph: LayerGraph
    level: str
    nodes: tuple[np.ndarray, ...]
    active: tuple[np.ndarray, ...]
    effective_edges: int
    edges: int

    @property
    def nodes_per_part(self) -> tuple[int, ...]:
        """Return the effective nodes of every part."""
        return tuple(int(np.count_nonzero(field)) for field in self.nodes)

    @property
    def effective_nodes(self) -> int:
        """Return the number of effective nodes, each counted once."""
        return sum(self.nodes_per_part)

    @property
    def collapsed(self) -> bool:
        """Return whether no path is left."""
        return self.effective_edges == 0


@dataclass(frozen=True)
class EffectiveLayer:
    """One layer's weights.

    Attributes:
        name: of the parameter.
        shape: (out channels, in channels / groups, kernel rows, kernel columns).
        parameters, kept, effective: weights in all, under the mask, and on some path.
    """

    name: str
    shape: tuple[int, ...]
    parameters: int
    kept: int
    effective: int


@dataclass(frozen=True)
class EffectiveSparsity:
    """Direct and effective sparsity of a network.

    Attributes:
        layers: the layers' weights.
        level: "unit" or "channel".
        effective_nodes_per_part: parts in the order of the layer graph.
        lost_nodes_per_part: nodes on no path.
        paths: number of paths from input to output nodes, exact; None if not asked for.
    """

    layers: tuple[EffectiveLayer, ...]
    level: str
    effective_nodes_per_part: tuple[int, ...]
    lost_nodes_per_part: tuple[int, ...]
    paths: int | None

    @cached_property
    def parameters(self) -> int:
        """Return the number of weights."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def kept(self) -> int:
        """Return the weights under the masks."""
        return sum(layer.kept for layer in self.layers)

    @property
    def effective(self) -> int:
        """Return the weights on some path."""
        return sum(layer.effective for layer in self.layers)

    @property
    def direct_sparsity(self) -> float:
        """Return the removed share of the weights."""
        return 1 - self.kept / self.parameters

    @property
    def effective_sparsity(self) -> float:
        """Return the share of the weights that are removed or on no path."""
        return 1 - self.effective / self.parameters

    @property
    def direct_compression(self) -> float:
        """Return weights over kept weights; infinite where none is kept."""
        return self.parameters / self.kept if self.kept else math.inf

    @property
    def effective_compression(self) -> float:
        """Return weights over effective weights; infinite where there is none."""
        return self.parameters / self.effective if self.effective else math.inf

    @property
    def collapsed(self) -> bool:
        """Return whether no path is left."""
        return self.effective == 0

    @property
    def log10_paths(self) -> float:
        """Return the decimal logarithm of the paths; -inf for none, NaN if not counted."""
        if self.paths is None:
            return math.nan
        return math.log10(self.paths) if self.paths else -math.inf


def effective_connectivity(graph: LayerGraph, level: str = "unit") -> EffectiveConnectivity:
    """Find the nodes and edges that lie on a path from an input to an output node.

    Pools, sums and concatenations pass a path on if any of their inputs does. Biases make no path.

    Args:
        graph: from `layer_graph` with padding_nodes=False, since padding is no input, and for the
            function of a residual network identity_shortcuts=True. Its first part is the input,
            its last the output.
        level: "unit" is exact; "channel" has one node per channel, so that a weight counts even if
            it only ever sees padding: an upper bound, the graph version of the published code.

    Raises:
        ConfigurationError: an unknown level, or the input part has padding nodes.
        DataError: as in `espalier.topology.blocks.checked_blocks`.

    Source: Vysogorets and Kempe (JMLR 24(99), 2023), "Connectivity matters: neural network pruning
    through the lens of effective sparsity".
    """
    if level not in LEVELS:
        raise unknown_name("level", level, LEVELS)
    blocks = _blocks(graph)
    shapes = _shapes(graph) if level == "unit" else [(p.channels, 1, 1) for p in graph.parts]
    product_of = _unit_product if level == "unit" else _channel_product
    products = [product_of(block) for block in blocks]
    forward = [np.zeros(shape, bool) for shape in shapes]
    backward = [np.zeros(shape, bool) for shape in shapes]
    if blocks:
        forward[0][:] = True
        backward[-1][:] = True
    for k in _by_target(blocks):
        block, product = blocks[k], products[k]
        field = forward[block.source][_inputs(block)].astype(np.float64)
        forward[block.target][_outputs(block)] |= product.forward(field) > 0
    for k in reversed(_by_source(blocks)):
        block, product = blocks[k], products[k]
        field = backward[block.target][_outputs(block)].astype(np.float64)
        backward[block.source][_inputs(block)] |= product.backward(field) > 0
    active, effective_edges, edges = [], 0, 0
    for block in blocks:
        pairs = np.multiply.outer(block.rows.tap_counts, block.columns.tap_counts)
        reached = forward[block.source][_inputs(block)]
        reaching = backward[block.target][_outputs(block)]
        if level == "unit":
            count = _joined(block, reached, reaching) * block.mask
            active.append(count > 0)
        else:
            active.append(_both_alive(block, reached, reaching) & block.mask)
            count = active[-1] * pairs
        effective_edges += int(count.sum(dtype=np.int64))
        edges += int((np.count_nonzero(block.mask, axis=(0, 1)) * pairs).sum())
    nodes = tuple(f & b for f, b in zip(forward, backward, strict=True))
    return EffectiveConnectivity(graph, level, nodes, tuple(active), effective_edges, edges)


def path_count(graph: LayerGraph) -> int:
    """Number of paths from the nodes of the first part to those of the last, exact.

    Paths are those of the layer graph: a pool passes on the sum over its window, a shortcut adds
    its own paths, and two nodes are joined by one edge at most. Normalisation and biases add none.

    Args:
        graph: as in `effective_connectivity`.

    Raises:
        ConfigurationError: the input part has padding nodes.
        DataError: as in `espalier.topology.blocks.checked_blocks`.

    Source: effective paths of Pham et al. (NeurIPS 2023), "Towards data-agnostic pruning at
    initialization: what makes a good sparse mask?". Their code counts in float64 and rescales an
    average pool by its side instead of its area; this counts in integers and does neither.
    """
    blocks = _blocks(graph)
    shapes = _shapes(graph)
    products = [_unit_product(block) for block in blocks]
    bits = _limb_bits(graph, products)
    # (limbs, channels, height, width): integers below 2^bits, the least significant first.
    fields = [np.zeros((1, *shape)) for shape in shapes]
    if blocks:
        fields[0][:] = 1
    incoming: dict[int, list[int]] = {}
    for k, block in enumerate(blocks):
        incoming.setdefault(block.target, []).append(k)
    for target in sorted(incoming):
        limbs = max(len(fields[blocks[k].source]) for k in incoming[target])
        total = np.zeros((limbs, *shapes[target]))
        for k in incoming[target]:
            source = fields[blocks[k].source][:, _inputs(blocks[k])]
            for limb, values in enumerate(source):
                total[limb, _outputs(blocks[k])] += products[k].forward(values)
        fields[target] = _carried(total, bits)
    return sum(
        int(value) << (bits * limb)
        for limb, values in enumerate(fields[-1].reshape(len(fields[-1]), -1))
        for value in values.tolist()
    )


def effective_masks(connectivity: EffectiveConnectivity) -> dict[str, np.ndarray]:
    """Masks of the weights that lie on some path.

    Args:
        connectivity: from `effective_connectivity`; its graph must have layers.

    Returns:
        Per layer with weights, in the network's order, a boolean array in the shape of
        `Layer.mask`.

    Raises:
        DataError: the blocks of a layer cannot be matched with its weights, because the layer
            joins the same two parts as another operation and was merged with it, or because equal
            or too few weights leave several possibilities.
    """
    graph = connectivity.graph
    result = {}
    for layer in graph.layers:
        effective = np.zeros(layer.mask.shape, bool)
        for block, active in zip(graph.blocks, connectivity.active, strict=True):
            if block.name == layer.name:
                _place(layer, block, active, effective)
            elif layer.name in block.name.split("+"):
                raise DataError(
                    f"layer {layer.name!r} joins the same two parts as another operation and is "
                    f"merged with it in block {block.name!r}; its own effective weights are not "
                    "known. The effective_edges of the connectivity are exact all the same"
                )
        result[layer.name] = effective
    return result


def effective_sparsity(
    graph: LayerGraph, level: str = "unit", *, paths: bool = True
) -> EffectiveSparsity:
    """Direct and effective sparsity, effective nodes and paths of a network in one table.

    Args:
        graph: from `layer_graph`, as in `effective_connectivity`; its layers' masks are counted.
        level: "unit" or "channel".
        paths: count the paths too.

    Raises:
        ConfigurationError, DataError: as in `effective_connectivity` and `effective_masks`; also a
            graph without layers.
    """
    if not graph.layers:
        raise DataError(
            "the layer graph has no layers with weights, so there is no sparsity; get it from "
            "layer_graph"
        )
    connectivity = effective_connectivity(graph, level)
    masks = effective_masks(connectivity)
    layers = tuple(
        EffectiveLayer(
            layer.name,
            layer.mask.shape,
            layer.mask.size,
            int(np.count_nonzero(layer.mask)),
            int(np.count_nonzero(masks[layer.name])),
        )
        for layer in graph.layers
    )
    return EffectiveSparsity(
        layers,
        level,
        connectivity.nodes_per_part,
        tuple(int(np.count_nonzero(~field)) for field in connectivity.nodes),
        path_count(graph) if paths else None,
    )


def layer_node_count(effective: Sequence[np.ndarray], convention: str = "intended") -> int:
    """Effective nodes as the published node-path code counts them.

    For the number of nodes on some path see `EffectiveConnectivity.effective_nodes`: the counts
    here take every layer by itself, so that hidden units occur twice.

    Args:
        effective: effective masks in the network's order: (in, out) matrices of dense layers,
            (rows, columns, in, out) of convolutions.
        convention: "intended" adds the effective inputs of each convolution and the effective
            inputs and outputs of each dense layer; "published" is what the code returns, which
            takes the first dense layer for all of them.

    Raises:
        ConfigurationError: an unknown convention.

    Source: Pham et al. (NeurIPS 2023), read from their code.
    """
    if convention not in ("intended", "published"):
        raise unknown_name("convention", convention, ("intended", "published"))
    dense = [mask for mask in effective if mask.ndim == 2]
    if convention == "published":
        dense = dense[:1] * len(dense)
    nodes = sum(int(m.any(axis=1).sum()) + int(m.any(axis=0).sum()) for m in dense)
    return nodes + sum(int(m.any(axis=(0, 1, 3)).sum()) for m in effective if m.ndim == 4)


# -- products with a block -------------------------------------------------------------------------

_Matrix = Any
"""A dense or sparse (rows, columns) 0/1 matrix."""


@dataclass(frozen=True, eq=False)
class _Product:
    """A block's 0/1 adjacency as one (out, in) matrix per kernel entry and group.

    Attributes:
        entries: (row tap, column tap, one matrix per group).
        rows, columns: per tap, sparse (target, source) 0/1 matrices.
        shapes: (in channels, source height, source width), (out channels, ...) of the block.
    """

    entries: tuple[tuple[int, int, tuple[_Matrix, ...]], ...]
    rows: tuple[sparse.csr_array, ...]
    columns: tuple[sparse.csr_array, ...]
    shapes: tuple[tuple[int, int, int], tuple[int, int, int]]

    def forward(self, field: np.ndarray) -> np.ndarray:
        """(in channels, source height, source width) to (out channels, target ...)."""
        return self._apply(field, self.shapes[1], transposed=False)

    def backward(self, field: np.ndarray) -> np.ndarray:
        """(out channels, target height, target width) to (in channels, source ...)."""
        return self._apply(field, self.shapes[0], transposed=True)

    def _apply(
        self, field: np.ndarray, shape: tuple[int, int, int], transposed: bool
    ) -> np.ndarray:
        result = np.zeros(shape)
        for row_tap, of_row in itertools.groupby(self.entries, key=lambda entry: entry[0]):
            seen_rows = _along(self.rows[row_tap], field, 1, transposed)
            for _, column_tap, matrices in of_row:
                seen = _along(self.columns[column_tap], seen_rows, 2, transposed)
                groups = np.split(seen.reshape(seen.shape[0], -1), len(matrices))
                products = [
                    (matrix.T if transposed else matrix) @ group
                    for matrix, group in zip(matrices, groups, strict=True)
                ]
                result += np.concatenate(products).reshape(shape)
        return result


def _unit_product(block: Block) -> _Product:
    rows, columns = block.rows, block.columns
    shapes = (
        (input_channels(block), rows.source_size, columns.source_size),
        (output_channels(block), rows.target_size, columns.target_size),
    )
    row_maps, column_maps = _tap_matrices(rows), _tap_matrices(columns)
    entries = []
    for row_tap, column_tap in itertools.product(range(rows.taps), range(columns.taps)):
        mask = block.mask[:, :, row_tap, column_tap]
        if not (row_maps[row_tap].nnz and column_maps[column_tap].nnz and mask.any()):
            continue
        entries.append((row_tap, column_tap, _by_group(mask, block.groups)))
    return _Product(tuple(entries), row_maps, column_maps, shapes)


def _channel_product(block: Block) -> _Product:
    """Return the product between channels: joined where any entry of the kernel is kept."""
    single = (sparse.csr_array(np.ones((1, 1))),)
    kernels: Any = block.mask.any(axis=(2, 3))
    matrices = _by_group(kernels, block.groups)
    shapes = ((input_channels(block), 1, 1), (output_channels(block), 1, 1))
    return _Product(((0, 0, matrices),), single, single, shapes)


def _by_group(mask: np.ndarray, groups: int) -> tuple[_Matrix, ...]:
    few = np.count_nonzero(mask) < SPARSE_DENSITY * mask.size
    convert: Callable[[np.ndarray], _Matrix] = sparse.csr_array if few else np.ascontiguousarray
    return tuple(convert(group.astype(np.float64)) for group in np.split(mask, groups))


def _tap_matrices(relation: AxisRelation) -> tuple[sparse.csr_array, ...]:
    shape = (relation.target_size, relation.source_size)
    result = []
    for tap in range(relation.taps):
        source, target, _ = relation.triples[relation.triples[:, 2] == tap].T
        result.append(sparse.csr_array((np.ones(source.size), (target, source)), shape=shape))
    return tuple(result)


def _along(matrix: sparse.csr_array, field: np.ndarray, axis: int, transposed: bool) -> np.ndarray:
    """Multiply a 0/1 matrix with one axis of a (channels, rows, columns) field."""
    operator = matrix.T if transposed else matrix
    moved = np.moveaxis(field, axis, 0)
    flat = operator @ np.ascontiguousarray(moved).reshape(moved.shape[0], -1)
    return np.ascontiguousarray(np.moveaxis(flat.reshape(-1, *moved.shape[1:]), 0, axis))


def _joined(block: Block, forward: np.ndarray, backward: np.ndarray) -> np.ndarray:
    """(the mask's shape) int64: pairs of a reached and a reaching position joined by each entry.

    Most channels share a map (all positions, or all but a border), so pairs are counted between
    the distinct maps only.
    """
    source_maps, source_of = _distinct(forward)
    target_maps, target_of = _distinct(backward)
    output, channel = _channels(block)
    result = np.zeros(block.mask.shape, np.int64)
    row_triples, column_triples = _split(block.rows), _split(block.columns)
    for e, f in itertools.product(range(block.rows.taps), range(block.columns.taps)):
        rows, columns = row_triples[e], column_triples[f]
        if not (rows.size and columns.size and block.mask[:, :, e, f].any()):
            continue
        at_source = source_maps[:, rows[:, 0]][:, :, columns[:, 0]].reshape(len(source_maps), -1)
        at_target = target_maps[:, rows[:, 1]][:, :, columns[:, 1]].reshape(len(target_maps), -1)
        pairs = at_source.astype(np.float64) @ at_target.T.astype(np.float64)
        counts = pairs.astype(np.int64)
        result[:, :, e, f] = counts[source_of[channel], target_of[output]]
    return result


def _both_alive(block: Block, forward: np.ndarray, backward: np.ndarray) -> np.ndarray:
    output, channel = _channels(block)
    return (forward[channel, 0, 0] & backward[output, 0, 0])[:, :, None, None]


def _channels(block: Block) -> tuple[np.ndarray, np.ndarray]:
    """Return the output (out, 1) and the input channel (out, in / groups) of every mask entry."""
    output = np.arange(block.mask.shape[0])[:, None]
    inputs = block.mask.shape[1]
    group = output // (block.mask.shape[0] // block.groups)
    return output, group * inputs + np.arange(inputs)


def _split(relation: AxisRelation) -> list[np.ndarray]:
    """Return per tap the (n, 2) pairs of source and target positions."""
    triples = relation.triples
    return [triples[triples[:, 2] == tap][:, :2] for tap in range(relation.taps)]


def _distinct(field: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct maps of a (channels, rows, columns) field and each channel's number."""
    packed = np.packbits(field.reshape(field.shape[0], -1), axis=1)
    _, first, number = np.unique(packed, axis=0, return_index=True, return_inverse=True)
    return field[first], number.reshape(-1)


# -- integers of any size --------------------------------------------------------------------------


def _limb_bits(graph: LayerGraph, products: Sequence[_Product]) -> int:
    """Return how many bits a limb may have so that every sum of limbs is below 2^53."""
    arriving = [np.zeros(shape) for shape in _shapes(graph)]
    for block, product in zip(graph.blocks, products, strict=True):
        arriving[block.target][_outputs(block)] += product.forward(np.ones(product.shapes[0]))
    degree = max([1, *(int(field.max()) for field in arriving if field.size)])
    return _EXACT_BITS - degree.bit_length()


def _carried(limbs: np.ndarray, bits: int) -> np.ndarray:
    """Return the same integers with every limb below 2^bits."""
    base = float(2**bits)
    result = []
    carry = np.zeros(limbs.shape[1:])
    for limb in limbs:
        total = limb + carry
        carry = np.floor(total / base)
        result.append(total - carry * base)
    while carry.any():
        following = np.floor(carry / base)
        result.append(carry - following * base)
        carry = following
    return np.stack(result)


# -- parts, blocks, layers -------------------------------------------------------------------------


def _blocks(graph: LayerGraph) -> tuple[Block, ...]:
    blocks = checked_blocks(graph)
    if graph.parts[0].padding:
        raise ConfigurationError(
            "the input part has padding nodes, which are no inputs; trace the network with "
            "layer_graph(..., padding_nodes=False)"
        )
    return blocks


def _shapes(graph: LayerGraph) -> list[tuple[int, int, int]]:
    return [(part.channels, part.height, part.width) for part in graph.parts]


def _inputs(block: Block) -> slice:
    return slice(block.source_offset, block.source_offset + input_channels(block))


def _outputs(block: Block) -> slice:
    return slice(block.target_offset, block.target_offset + output_channels(block))


def _by_target(blocks: Sequence[Block]) -> list[int]:
    return sorted(range(len(blocks)), key=lambda k: blocks[k].target)


def _by_source(blocks: Sequence[Block]) -> list[int]:
    return sorted(range(len(blocks)), key=lambda k: blocks[k].source)


def _place(layer: Layer, block: Block, active: np.ndarray, effective: np.ndarray) -> None:
    """Mark a block's active entries in its layer's array."""
    if not block.mask.any():
        return
    views = _views(layer, block)
    where = f"layer {layer.name!r}, block from part {block.source} to part {block.target}: "
    if not views:
        member = _merged_entries(layer, block)
        if member is None:
            raise DataError(
                where + "its entries are not single weights of the layer, because kernel entries "
                "that read overlapping pools were merged or groups were split. The effective_edges "
                "of the connectivity are exact all the same"
            )
        of_entry = active.reshape(*active.shape[:2], -1) @ member
        effective |= layer.mask & of_entry.reshape(layer.mask.shape)
        return
    marks = [np.sort(view[active]) for view in views]
    if any(not np.array_equal(marks[0], other) for other in marks[1:]):
        raise DataError(where + "equal weights leave open which input channels it reads")
    effective.reshape(-1)[marks[0]] = True


def _views(layer: Layer, block: Block) -> list[np.ndarray]:
    """Return every way to see the block's weights in the layer's: flat indices of its entries.

    A block has all weights of its layer; or a range of input channels, where the layer reads
    several parts; or, in a dense layer on a map, the map's positions as a kernel, by channel, row
    and column or with the channels last.
    """
    outputs, inputs, height, width = block.mask.shape
    if layer.mask.shape[0] != outputs:
        return []
    small = layer.mask.size <= np.iinfo(np.int32).max
    one = np.arange(layer.mask[0].size, dtype=np.int32 if small else np.int64)
    per_output, step = one.size, layer.mask[0, 0].size
    one = one.reshape(layer.mask.shape[1:])
    if layer.mask.shape[2:] == (height, width):
        orders = [one[:inputs]]
    elif layer.mask.shape[2:] == (1, 1) and layer.mask.shape[1] >= inputs * height * width:
        first = one[: inputs * height * width, 0, 0]
        orders = [
            first.reshape(inputs, height, width),
            first.reshape(height, width, inputs).transpose(2, 0, 1),
        ]
    else:
        return []
    weight, mask = np.abs(layer.weight).reshape(-1), layer.mask.reshape(-1)
    values = np.abs(block.weight)[block.mask]
    sample = tuple(axis[0] for axis in np.nonzero(block.mask))
    views: list[np.ndarray] = []
    for order in orders:
        room = np.arange(0, per_output - int(order.max()), step)
        # Compare one weight at every offset first; all of them only where that one fits.
        places = sample[0] * per_output + int(order[sample[1:]]) + room
        for start in room[mask[places] & (weight[places] == values[0])]:
            index = np.arange(outputs, dtype=one.dtype)[:, None, None, None] * per_output + (
                order + start
            )
            if (
                not any(np.array_equal(index, other) for other in views)
                and np.array_equal(mask[index], block.mask)
                and np.array_equal(weight[index[block.mask]], values)
            ):
                views.append(index)
    return views


def _merged_entries(layer: Layer, block: Block) -> np.ndarray | None:
    """Return which of the layer's kernel entries each entry of a merged block stands for.

    Its weight is the sum of theirs, so they are the solution of linear equations, one for each
    pair of channels. None where the equations leave it open.

    Returns:
        (entries of the block, entries of the layer's kernel) bool.
    """
    if layer.mask.shape[:2] != block.mask.shape[:2] or layer.groups != block.groups:
        return None
    weights = (np.abs(layer.weight, dtype=np.float64) * layer.mask).reshape(
        -1, layer.mask[0, 0].size
    )
    sums = (block.weight * block.mask).reshape(len(weights), -1).astype(np.float64)
    # A kernel entry that is masked everywhere has no say, and no effective weight either.
    used = weights.any(axis=0)
    solution, _, rank, _ = np.linalg.lstsq(weights[:, used], sums, rcond=None)
    member = np.zeros((used.size, sums.shape[1]), bool)
    member[used] = solution > 0.5
    kept = layer.mask.reshape(weights.shape).astype(int) @ member > 0
    if (
        rank < np.count_nonzero(used)
        or not np.allclose(weights @ member, sums, rtol=1e-5, atol=0)
        or not np.array_equal(kept, block.mask.reshape(sums.shape))
    ):
        return None
    return member.T
