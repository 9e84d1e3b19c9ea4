"""Blocks made ready for counting: checked, weighed, and seen from either of their parts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from espalier.errors import DataError
from espalier.graphs.layer_graph import Block, LayerGraph


def input_channels(block: Block) -> int:
    """Return how many channels of the source part the block reads."""
    return block.mask.shape[1] * block.groups


def output_channels(block: Block) -> int:
    """Return how many channels of the target part the block writes."""
    return block.mask.shape[0]


def absolute_weight(block: Block) -> np.ndarray:
    """Return (out, in / groups, row taps, column taps) float64 edge weights, 0 where masked."""
    return np.where(block.mask, np.abs(block.weight), 0.0).astype(np.float64)


def checked_blocks(layer_graph: LayerGraph) -> tuple[Block, ...]:
    """Return the blocks, each edge of which is one entry of one mask.

    Raises:
        DataError: the graph has layers but no blocks (the published convention), a block does not
            fit its parts, its source does not come before its target, two taps join the same two
            positions, or two blocks join the same two parts.
    """
    if layer_graph.convention != "definition":
        raise DataError(
            f"a graph of the {layer_graph.convention!r} convention has no blocks; encode it and "
            "use the function for explicit edges"
        )
    joined: dict[tuple[int, int], Block] = {}
    for block in layer_graph.blocks:
        _check(layer_graph, block)
        other = joined.setdefault((block.source, block.target), block)
        if other is not block:
            raise DataError(
                f"blocks {other.name!r} and {block.name!r} join the same two parts; merge them "
                "first, as layer_graph does"
            )
    return layer_graph.blocks


@dataclass(frozen=True, eq=False)
class Side:
    """A block seen from one of its two parts, the mid part, towards the other part.

    Attributes:
        mask: (groups, row taps, column taps, other channels, mid channels) of each group, bool.
        other_start, mid_start: first channel of the other and of the mid part.
        rows, columns: (n, 3) int32 triples (other position, mid position, tap).
    """

    mask: np.ndarray
    other: int
    other_start: int
    mid_start: int
    rows: np.ndarray
    columns: np.ndarray
    mid_is_target: bool

    @property
    def groups(self) -> int:
        """Return the number of groups."""
        return self.mask.shape[0]

    @property
    def other_stop(self) -> int:
        """Return one past the last channel of the other part."""
        return self.other_start + self.groups * self.mask.shape[3]

    @property
    def mid_stop(self) -> int:
        """Return one past the last channel of the mid part."""
        return self.mid_start + self.groups * self.mask.shape[4]


def sides(block: Block) -> tuple[Side, Side]:
    """Return the block seen from its target (towards the source) and from its source."""
    groups = block.groups
    inputs = block.mask.shape[1]
    outputs = block.mask.shape[0] // groups
    mask = block.mask.reshape(groups, outputs, inputs, *block.mask.shape[2:])
    swap = [1, 0, 2]
    from_target = Side(
        mask.transpose(0, 3, 4, 2, 1),
        block.source,
        block.source_offset,
        block.target_offset,
        block.rows.triples,
        block.columns.triples,
        mid_is_target=True,
    )
    from_source = Side(
        mask.transpose(0, 3, 4, 1, 2),
        block.target,
        block.target_offset,
        block.source_offset,
        block.rows.triples[:, swap],
        block.columns.triples[:, swap],
        mid_is_target=False,
    )
    return from_target, from_source


def without_groups(values: np.ndarray, groups: int) -> np.ndarray:
    """Scatter (out, in / groups, ...) values of a grouped block to (out, in, ...), 0 elsewhere."""
    if groups == 1:
        return values
    outputs, inputs = values.shape[0] // groups, values.shape[1]
    full = np.zeros((values.shape[0], inputs * groups, *values.shape[2:]), values.dtype)
    for group in range(groups):
        rows = slice(group * outputs, (group + 1) * outputs)
        full[rows, group * inputs : (group + 1) * inputs] = values[rows]
    return full


def _check(layer_graph: LayerGraph, block: Block) -> None:
    parts = layer_graph.parts
    if not 0 <= block.source < block.target < len(parts):
        raise DataError(
            f"block {block.name!r} goes from part {block.source} to part {block.target}; parts "
            f"must be in topological order and there are {len(parts)}"
        )
    if block.mask.dtype != bool or block.mask.ndim != 4 or block.weight.shape != block.mask.shape:
        raise DataError(
            f"block {block.name!r}: the mask must be boolean with the 4 axes of the weight, "
            f"got {block.mask.dtype} {block.mask.shape} for {block.weight.shape}"
        )
    source, target = parts[block.source], parts[block.target]
    expected = (
        (source.height, target.height, block.mask.shape[2]),
        (source.width, target.width, block.mask.shape[3]),
    )
    for axis, relation, sizes in zip(
        ("rows", "columns"), (block.rows, block.columns), expected, strict=True
    ):
        found = (relation.source_size, relation.target_size, relation.taps)
        if found != sizes:
            raise DataError(
                f"block {block.name!r}: the relation of its {axis} has (source, target, taps) "
                f"{found}, its parts and mask have {sizes}"
            )
    if (
        block.mask.shape[0] % block.groups
        or block.source_offset + input_channels(block) > source.channels
        or block.target_offset + output_channels(block) > target.channels
    ):
        raise DataError(
            f"block {block.name!r}: mask {block.mask.shape} in {block.groups} groups does not fit "
            f"{source.channels} source and {target.channels} target channels"
        )
    for axis, relation in (("rows", block.rows), ("columns", block.columns)):
        pairs = relation.triples[:, 0].astype(np.int64) * relation.target_size
        if np.unique(pairs + relation.triples[:, 1]).size != pairs.size:
            raise DataError(
                f"block {block.name!r}: two taps join the same two positions of its {axis}; merge "
                "them into one tap first, as layer_graph does"
            )
