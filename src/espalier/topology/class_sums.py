"""Sums over the codegrees of all classes of pairs of positions, from the products of their taps."""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np


class ClassSums(NamedTuple):
    """Sums over pairs of channels, for one pair of positions of each class.

    Attributes:
        total, pairs: (row classes, column classes) int64 sums of codegree and of C(codegree, 2).
        hops: pairs with a codegree along the direction and no direct edge.
        on_edges, pairs_on_edges: as total and pairs, over pairs with a direct edge.
        first, second: (row classes, column classes, channels) as on_edges, for each channel of
            the first and of the second part; without channels where there is no direct edge.
    """

    total: np.ndarray
    pairs: np.ndarray
    hops: np.ndarray
    on_edges: np.ndarray
    pairs_on_edges: np.ndarray
    first: np.ndarray
    second: np.ndarray


def class_sums(
    products: np.ndarray,
    layout: np.ndarray,
    shape: np.ndarray,
    row_bounds: np.ndarray,
    row_entries: np.ndarray,
    column_bounds: np.ndarray,
    column_entries: np.ndarray,
    directed: np.ndarray,
    adjacent: np.ndarray,
    row_direct: np.ndarray,
    column_direct: np.ndarray,
) -> ClassSums:
    """Form the codegrees of every class of positions and add them up.

    The codegree of channels i and j in a class of rows and a class of columns is the sum, over the
    wedges and taps of both classes, of products[wedge][row tap, column tap, i, row tap, column
    tap, j]. One row of j at a time stays in the cache, so the products are read once.

    Args:
        products: flat float32 products of all wedges.
        layout: (wedges, 10) int64: start, row taps, column taps, channels of a group of the first
            side, row taps, column taps, channels of a group of the second, first channel of each
            side among those asked for, and how many channels of the first side there are: group
            by group each joins the channels of the same group only.
        shape: batches, channels of the first part, channels of the second.
        row_bounds, row_entries, column_bounds, column_entries: classes of either axis: entries
            (wedge, tap of the first, tap of the second, count) and where each class starts.
        directed: (wedges,) bool, those that count for hops.
        adjacent: (row taps + 1, column taps + 1, first, second) bool direct edges, or empty.
        row_direct, column_direct: (classes,) tap of the direct edge, -1 for none.

    Returns:
        Exact sums, provided that they are below 2^63.
    """
    return ClassSums(
        *_class_sums(
            products,
            layout,
            shape,
            row_bounds,
            row_entries,
            column_bounds,
            column_entries,
            directed,
            adjacent,
            row_direct,
            column_direct,
        )
    )


@numba.njit(cache=True)
def _class_sums(
    products,
    layout,
    shape,
    row_bounds,
    row_entries,
    column_bounds,
    column_entries,
    directed,
    adjacent,
    row_direct,
    column_direct,
):
    rows, columns = row_bounds.size - 1, column_bounds.size - 1
    batches, length, width = shape
    has_edges = adjacent.size > 0
    total = np.zeros((rows, columns), np.int64)
    squares = np.zeros((rows, columns), np.int64)
    hops = np.zeros((rows, columns), np.int64)
    on_edges = np.zeros((rows, columns), np.int64)
    squares_on_edges = np.zeros((rows, columns), np.int64)
    kept = (rows, columns) if has_edges else (0, 0)
    first = np.zeros((kept[0], kept[1], length), np.int64)
    second = np.zeros((kept[0], kept[1], width), np.int64)
    some_directed = directed.any()
    all_directed = directed.all()
    wedges = layout.shape[0]
    scratch_start = np.zeros(wedges + 1, np.int64)
    for w in range(wedges):
        scratch_start[w + 1] = scratch_start[w] + layout[w, 2] * layout[w, 5] * layout[w, 6]
    scratch = np.empty(scratch_start[wedges], np.float32)
    codegree = np.empty(width, np.float32)
    along = np.empty(width, np.float32)
    for batch in range(batches):
        for i in range(length):
            for row in range(rows):
                scratch[:] = 0
                for entry in range(row_bounds[row], row_bounds[row + 1]):
                    w, tap, other_tap, count = row_entries[entry]
                    start, taps, column_taps, size = layout[w, :4]
                    others, other_columns, across, a = layout[w, 4:8]
                    if not a <= i < a + layout[w, 9]:
                        continue
                    group, channel = batch + (i - a) // size, (i - a) % size
                    for c in range(column_taps):
                        source = start + (
                            (((group * taps + tap) * column_taps + c) * size + channel) * others
                            + other_tap
                        ) * (other_columns * across)
                        target = scratch_start[w] + c * other_columns * across
                        for j in range(other_columns * across):
                            scratch[target + j] += np.float32(count) * products[source + j]
                for column in range(columns):
                    codegree[:] = 0
                    along[:] = 0
                    for entry in range(column_bounds[column], column_bounds[column + 1]):
                        w, tap, other_tap, count = column_entries[entry]
                        across, a = layout[w, 6], layout[w, 7]
                        if not a <= i < a + layout[w, 9]:
                            continue
                        b = layout[w, 8] + (i - a) // layout[w, 3] * across
                        source = scratch_start[w] + (tap * layout[w, 5] + other_tap) * across
                        for j in range(across):
                            codegree[b + j] += np.float32(count) * scratch[source + j]
                        if directed[w] and not all_directed:
                            for j in range(across):
                                along[b + j] += np.float32(count) * scratch[source + j]
                    one, two = np.int64(0), np.int64(0)
                    for j in range(width):
                        value = np.int64(codegree[j])
                        one += value
                        two += value * value
                    total[row, column] += one
                    squares[row, column] += two
                    if not has_edges:
                        if some_directed:
                            found = np.int64(0)
                            for j in range(width):
                                reached = codegree[j] if all_directed else along[j]
                                found += reached > 0
                            hops[row, column] += found
                        continue
                    joined = adjacent[row_direct[row], column_direct[column], i]
                    for j in range(width):
                        value = np.int64(codegree[j])
                        if joined[j]:
                            on_edges[row, column] += value
                            squares_on_edges[row, column] += value * value
                            first[row, column, i] += value
                            second[row, column, j] += value
                        elif some_directed:
                            reached = codegree[j] if all_directed else along[j]
                            hops[row, column] += reached > 0
    pairs = (squares - total) // 2
    pairs_on_edges = (squares_on_edges - on_edges) // 2
    return total, pairs, hops, on_edges, pairs_on_edges, first, second
