"""From weighted operations between two parts to blocks in which two positions share one tap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from espalier.graphs.layer_graph import AxisRelation, Block, Part


@dataclass(frozen=True)
class WeightedOperation:
    """One weighted operation between two parts, as the network has it.

    Attributes:
        name, source, target, weight, mask, groups, source_offset, target_offset, kind: as in
            `Block`.
        rows, columns: (n, 3) integers (source position, target position, tap) in any order; several
            taps may join the same two positions, as where a kernel reads overlapping pools.
    """

    name: str
    source: int
    target: int
    weight: np.ndarray
    mask: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    groups: int
    source_offset: int
    target_offset: int
    kind: str


def merged_block(operations: Sequence[WeightedOperation], parts: Sequence[Part]) -> Block:
    """Return the one block that stands for all operations between the same two parts.

    An edge exists where any operation has one; its weight is the sum of the absolute weights of
    all taps of all operations that join the two nodes, as in the network whose pools are sums.
    """
    first = operations[0]
    source, target = parts[first.source], parts[first.target]
    if len(operations) == 1 and _single_taps(first.rows) and _single_taps(first.columns):
        return _block(
            first,
            _relation(first.rows, source.height, target.height, first.weight.shape[2]),
            _relation(first.columns, source.width, target.width, first.weight.shape[3]),
        )
    operations = _same_channels(operations)
    row_sets, rows = _tap_sets(
        [o.rows for o in operations], [o.weight.shape[2] for o in operations]
    )
    column_sets, columns = _tap_sets(
        [o.columns for o in operations], [o.weight.shape[3] for o in operations]
    )
    weight = np.zeros((*operations[0].weight.shape[:2], len(row_sets), len(column_sets)))
    count = np.zeros_like(weight)
    row_start = column_start = 0
    for operation in operations:
        height, width = operation.weight.shape[2:]
        left = row_sets[:, row_start : row_start + height].astype(np.float64)
        right = column_sets[:, column_start : column_start + width].astype(np.float64)
        weight += left @ (np.abs(operation.weight) * operation.mask) @ right.T
        count += left @ operation.mask @ right.T
        row_start, column_start = row_start + height, column_start + width
    main = max(operations, key=lambda o: ("identity", "residual").count(o.kind) == 0)
    return _block(
        replace(
            main,
            name="+".join(dict.fromkeys(operation.name for operation in operations)),
            weight=weight.astype(np.float32),
            mask=count > 0,
        ),
        _relation(rows, source.height, target.height, len(row_sets)),
        _relation(columns, source.width, target.width, len(column_sets)),
    )


def _block(operation: WeightedOperation, rows: AxisRelation, columns: AxisRelation) -> Block:
    return Block(
        name=operation.name,
        source=operation.source,
        target=operation.target,
        weight=operation.weight,
        mask=operation.mask,
        rows=rows,
        columns=columns,
        groups=operation.groups,
        source_offset=operation.source_offset,
        target_offset=operation.target_offset,
        kind=operation.kind,
    )


def _relation(triples: np.ndarray, source_size: int, target_size: int, taps: int) -> AxisRelation:
    order = np.lexsort((triples[:, 0], triples[:, 1], triples[:, 2]))
    return AxisRelation(
        source_size, target_size, taps, np.ascontiguousarray(triples[order], np.int32)
    )


def _single_taps(triples: np.ndarray) -> bool:
    return len(np.unique(triples[:, :2], axis=0)) == len(triples)


def _same_channels(operations: Sequence[WeightedOperation]) -> list[WeightedOperation]:
    """Return the operations over the same channels, without groups unless all have the same."""
    extents = {(o.source_offset, o.target_offset, o.groups, o.weight.shape[:2]) for o in operations}
    if len(extents) == 1:
        return list(operations)
    source = min(o.source_offset for o in operations)
    target = min(o.target_offset for o in operations)
    inputs = max(o.source_offset + o.weight.shape[1] * o.groups for o in operations) - source
    outputs = max(o.target_offset + o.weight.shape[0] for o in operations) - target
    return [_scattered(o, source, target, (outputs, inputs)) for o in operations]


def _scattered(
    operation: WeightedOperation, source_offset: int, target_offset: int, shape: tuple[int, int]
) -> WeightedOperation:
    """Return an operation as one without groups over a larger range of channels."""
    weight = np.zeros((*shape, *operation.weight.shape[2:]), np.float32)
    mask = np.zeros(weight.shape, bool)
    per_group, inputs = operation.weight.shape[0] // operation.groups, operation.weight.shape[1]
    for group in range(operation.groups):
        target = operation.target_offset - target_offset + group * per_group
        source = operation.source_offset - source_offset + group * inputs
        place = np.s_[target : target + per_group, source : source + inputs]
        own = slice(group * per_group, (group + 1) * per_group)
        weight[place], mask[place] = operation.weight[own], operation.mask[own]
    return replace(
        operation,
        weight=weight,
        mask=mask,
        groups=1,
        source_offset=source_offset,
        target_offset=target_offset,
    )


def _tap_sets(
    relations: Sequence[np.ndarray], taps: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Number the distinct sets of taps, over all operations, that join two positions.

    Returns:
        (sets, sum of taps) bool, and (n, 3) triples (source position, target position, set).
    """
    pairs, where = np.unique(
        np.concatenate([triples[:, :2] for triples in relations]), axis=0, return_inverse=True
    )
    starts = np.cumsum([0, *taps])
    tap = np.concatenate(
        [triples[:, 2] + start for triples, start in zip(relations, starts, strict=False)]
    )
    member = np.zeros((len(pairs), starts[-1]), bool)
    member[where.ravel(), tap] = True
    sets, label = np.unique(member, axis=0, return_inverse=True)
    return sets, np.column_stack([pairs, label.ravel()])
