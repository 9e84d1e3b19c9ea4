"""Compiled loops that write the rows of an encoding's CSR arrays."""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True)
def fill_by_output(
    cursor: np.ndarray,
    indices: np.ndarray,
    data: np.ndarray,
    first_channel: int,
    source_height: int,
    source_width: int,
    tap_start: np.ndarray,
    tap_output: np.ndarray,
    tap_row: np.ndarray,
    tap_column: np.ndarray,
    tap_weight: np.ndarray,
    row_start: np.ndarray,
    row_target: np.ndarray,
    column_start: np.ndarray,
    column_target: np.ndarray,
    first_node: int,
    target_height: int,
    target_width: int,
) -> None:
    """Write a block's edges where a position has several taps; outputs are the outer loop.

    Args:
        cursor: (nodes of the source part,) int64, where each node's next edge goes; advanced.
        indices, data: arrays of the CSR matrix.
        first_channel: of the source part.
        tap_start: (channels + 1,) first entry of each channel in the four tap arrays, which hold
            output, row tap, column tap and weight, sorted by output.
        row_start, row_target: target rows of (source row, tap), as a CSR over both; likewise
            columns.
        first_node: the node number of the first target channel.
    """
    row_taps = (row_start.size - 1) // source_height
    column_taps = (column_start.size - 1) // source_width
    area = target_height * target_width
    for channel in range(tap_start.size - 1):
        first, last = tap_start[channel], tap_start[channel + 1]
        for row in range(source_height):
            for column in range(source_width):
                node = ((first_channel + channel) * source_height + row) * source_width + column
                place = cursor[node]
                for tap in range(first, last):
                    at_row = row * row_taps + tap_row[tap]
                    if row_start[at_row] == row_start[at_row + 1]:
                        continue
                    at_column = column * column_taps + tap_column[tap]
                    low, high = column_start[at_column], column_start[at_column + 1]
                    base = first_node + np.int64(tap_output[tap]) * area
                    weight = tap_weight[tap]
                    for y in range(row_start[at_row], row_start[at_row + 1]):
                        line = base + row_target[y] * target_width
                        for x in range(low, high):
                            indices[place] = line + column_target[x]
                            data[place] = weight
                            place += 1
                cursor[node] = place


@numba.njit(cache=True)
def fill_by_position(
    cursor: np.ndarray,
    indices: np.ndarray,
    data: np.ndarray,
    first_channel: int,
    source_height: int,
    source_width: int,
    tap_start: np.ndarray,
    tap_output: np.ndarray,
    tap_weight: np.ndarray,
    row_start: np.ndarray,
    row_target: np.ndarray,
    column_start: np.ndarray,
    column_target: np.ndarray,
    first_node: int,
    target_height: int,
    target_width: int,
) -> None:
    """Write a block's edges where no position has two taps: dense layers, 1x1 kernels, patches.

    Arguments as in `fill_by_output`, but `tap_start` runs over (channel, row tap, column tap).
    """
    row_taps = (row_start.size - 1) // source_height
    column_taps = (column_start.size - 1) // source_width
    channels = (tap_start.size - 1) // (row_taps * column_taps)
    area = target_height * target_width
    for channel in range(channels):
        for row in range(source_height):
            for column in range(source_width):
                node = ((first_channel + channel) * source_height + row) * source_width + column
                place = cursor[node]
                for row_tap in range(row_taps):
                    top = row_start[row * row_taps + row_tap]
                    bottom = row_start[row * row_taps + row_tap + 1]
                    if top == bottom:
                        continue
                    for column_tap in range(column_taps):
                        left = column_start[column * column_taps + column_tap]
                        right = column_start[column * column_taps + column_tap + 1]
                        if left == right:
                            continue
                        slot = (channel * row_taps + row_tap) * column_taps + column_tap
                        for tap in range(tap_start[slot], tap_start[slot + 1]):
                            base = first_node + np.int64(tap_output[tap]) * area
                            weight = tap_weight[tap]
                            for y in range(top, bottom):
                                line = base + row_target[y] * target_width
                                for x in range(left, right):
                                    indices[place] = line + column_target[x]
                                    data[place] = weight
                                    place += 1
                cursor[node] = place
