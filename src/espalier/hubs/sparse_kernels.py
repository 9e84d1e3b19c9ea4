"""Compiled loops of sparse layers, on activations of shape (units, batch).

A row of activations is one unit over the batch, so that every edge is one pass over contiguous
memory. Each loop works on the rows from `first` to `last`, in a fixed order: the result does not
depend on how rows are divided among threads.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numba
import numpy as np

# Sums may be reordered, so that they use vector registers; NaN and infinity keep their meaning.
_FASTMATH = {"reassoc", "contract", "nsz"}


@numba.njit(cache=True, nogil=True, fastmath=_FASTMATH)
def multiply_rows(
    starts: np.ndarray,
    columns: np.ndarray,
    places: np.ndarray,
    values: np.ndarray,
    inputs: np.ndarray,
    outputs: np.ndarray,
    first: int,
    last: int,
) -> None:
    """Write the rows of a CSR matrix times `inputs` to `outputs`.

    Args:
        starts, columns: CSR structure, (rows + 1,) and (edges,).
        places: (edges,) where in `values` the weight of each edge is.
        values: (edges,) weights.
        inputs: (columns, batch).
        outputs: (rows, batch), overwritten.
        first, last: range of rows.
    """
    batch = inputs.shape[1]
    for row in range(first, last):
        total = outputs[row]
        total[:] = 0
        edge, end = starts[row], starts[row + 1]
        while edge + 4 <= end:
            a, b = values[places[edge]], values[places[edge + 1]]
            c, d = values[places[edge + 2]], values[places[edge + 3]]
            p, q = inputs[columns[edge]], inputs[columns[edge + 1]]
            r, s = inputs[columns[edge + 2]], inputs[columns[edge + 3]]
            for sample in range(batch):
                total[sample] += a * p[sample] + b * q[sample] + c * r[sample] + d * s[sample]
            edge += 4
        while edge < end:
            a, p = values[places[edge]], inputs[columns[edge]]
            for sample in range(batch):
                total[sample] += a * p[sample]
            edge += 1


@numba.njit(cache=True, nogil=True, fastmath=_FASTMATH)
def sample_products(
    starts: np.ndarray,
    columns: np.ndarray,
    inputs: np.ndarray,
    slopes: np.ndarray,
    gradients: np.ndarray,
    first: int,
    last: int,
) -> None:
    """Write slopes @ inputs.T at the edges of a CSR matrix, and nowhere else, to `gradients`.

    Args:
        starts, columns: CSR structure, (rows + 1,) and (edges,).
        inputs: (columns, batch).
        slopes: (rows, batch), the gradient by the rows' outputs.
        gradients: (edges,), overwritten.
        first, last: range of rows.
    """
    batch = inputs.shape[1]
    zero = gradients.dtype.type(0)
    for row in range(first, last):
        slope = slopes[row]
        edge, end = starts[row], starts[row + 1]
        while edge + 4 <= end:
            p, q = inputs[columns[edge]], inputs[columns[edge + 1]]
            r, s = inputs[columns[edge + 2]], inputs[columns[edge + 3]]
            a, b, c, d = zero, zero, zero, zero
            for sample in range(batch):
                value = slope[sample]
                a += value * p[sample]
                b += value * q[sample]
                c += value * r[sample]
                d += value * s[sample]
            gradients[edge], gradients[edge + 1] = a, b
            gradients[edge + 2], gradients[edge + 3] = c, d
            edge += 4
        while edge < end:
            p, a = inputs[columns[edge]], zero
            for sample in range(batch):
                a += slope[sample] * p[sample]
            gradients[edge] = a
            edge += 1


@numba.njit(cache=True, nogil=True)
def activate_relu(
    sums: np.ndarray,
    bias: np.ndarray,
    noise: np.ndarray,
    threshold: int,
    scale: float,
    outputs: np.ndarray,
) -> None:
    """Write dropout(max(sums + bias, 0)) to `outputs`; a unit is dropped where noise < threshold.

    Args:
        sums, outputs: (units, batch).
        bias: (units,).
        noise: (units, batch) uint16; any shape with no entries where nothing is dropped.
        threshold: 65536 times the share to drop; 0 drops nothing.
        scale: factor on what is kept.
    """
    zero = sums.dtype.type(0)
    factor = sums.dtype.type(scale)
    for unit in range(sums.shape[0]):
        shift = bias[unit]
        for sample in range(sums.shape[1]):
            value = sums[unit, sample] + shift
            # A comparison that is false for NaN keeps it, so that divergence is seen.
            outputs[unit, sample] = zero if value <= zero else value * factor
        if threshold > 0:
            for sample in range(sums.shape[1]):
                if noise[unit, sample] < threshold:
                    outputs[unit, sample] = zero


@numba.njit(cache=True, nogil=True)
def relu_slopes(
    outputs: np.ndarray, slopes: np.ndarray, scale: float, bias_gradient: np.ndarray
) -> None:
    """Turn the gradient by the outputs of `activate_relu` into that by its sums, in place."""
    zero = slopes.dtype.type(0)
    factor = slopes.dtype.type(scale)
    for unit in range(slopes.shape[0]):
        total = zero
        for sample in range(slopes.shape[1]):
            slope = zero if outputs[unit, sample] == zero else slopes[unit, sample] * factor
            slopes[unit, sample] = slope
            total += slope
        bias_gradient[unit] = total


@numba.njit(cache=True, nogil=True)
def activate_srelu(
    sums: np.ndarray,
    bias: np.ndarray,
    shape: np.ndarray,
    noise: np.ndarray,
    threshold: int,
    scale: float,
    outputs: np.ndarray,
) -> None:
    """Write dropout(srelu(sums + bias)) to `outputs`; the bias is added to `sums` in place.

    Args:
        sums, outputs, bias, noise, threshold, scale: as in `activate_relu`.
        shape: (4, units) left threshold, left slope, right threshold, right slope.
    """
    zero = sums.dtype.type(0)
    factor = sums.dtype.type(scale)
    for unit in range(sums.shape[0]):
        left, left_slope = shape[0, unit], shape[1, unit]
        right, right_slope = left + abs(shape[2, unit]), shape[3, unit]
        shift = bias[unit]
        for sample in range(sums.shape[1]):
            value = sums[unit, sample] + shift
            sums[unit, sample] = value
            if value <= left:
                value = left + left_slope * (value - left)
            elif value >= right:
                value = right + right_slope * (value - right)
            outputs[unit, sample] = value * factor
        if threshold > 0:
            for sample in range(sums.shape[1]):
                if noise[unit, sample] < threshold:
                    outputs[unit, sample] = zero


@numba.njit(cache=True, nogil=True)
def srelu_slopes(
    sums: np.ndarray,
    shape: np.ndarray,
    noise: np.ndarray,
    threshold: int,
    scale: float,
    slopes: np.ndarray,
    bias_gradient: np.ndarray,
    shape_gradient: np.ndarray,
) -> None:
    """Turn the gradient by the outputs of `activate_srelu` into that by its sums, in place.

    The gradients by bias (units,) and shape (4, units) are overwritten.
    """
    zero = slopes.dtype.type(0)
    one = slopes.dtype.type(1)
    factor = slopes.dtype.type(scale)
    for unit in range(slopes.shape[0]):
        left, left_slope = shape[0, unit], shape[1, unit]
        right, right_slope = left + abs(shape[2, unit]), shape[3, unit]
        direction = one if shape[2, unit] >= zero else -one
        by_bias, by_left, by_left_slope = zero, zero, zero
        by_right, by_right_slope = zero, zero
        for sample in range(slopes.shape[1]):
            slope = slopes[unit, sample] * factor
            if threshold > 0 and noise[unit, sample] < threshold:
                slope = zero
            value = sums[unit, sample]
            if value <= left:
                by_left += slope * (one - left_slope)
                by_left_slope += slope * (value - left)
                slope = slope * left_slope
            elif value >= right:
                by_right += slope * (one - right_slope)
                by_right_slope += slope * (value - right)
                slope = slope * right_slope
            slopes[unit, sample] = slope
            by_bias += slope
        bias_gradient[unit] = by_bias
        # The right threshold is left + |right|, so that it moves with the left one.
        shape_gradient[0, unit] = by_left + by_right
        shape_gradient[1, unit] = by_left_slope
        shape_gradient[2, unit] = by_right * direction
        shape_gradient[3, unit] = by_right_slope


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads)


def run_on_rows(
    kernel: Callable[..., None], bounds: Sequence[tuple[int, int]], *arguments: Any
) -> None:
    """Run a kernel whose last two arguments are a range of rows on every range, side by side."""
    if len(bounds) == 1:
        kernel(*arguments, *bounds[0])
        return
    tasks = [_pool(len(bounds)).submit(kernel, *arguments, *bound) for bound in bounds]
    for task in tasks:
        task.result()


def row_bounds(starts: np.ndarray, threads: int) -> list[tuple[int, int]]:
    """Return at most `threads` ranges of rows of a CSR matrix with about equally many edges."""
    rows, edges = len(starts) - 1, int(starts[-1])
    # Below some ten thousand edges a row range takes less time than handing it to a thread.
    parts = max(1, min(threads, rows, edges // 10_000))
    shares = np.linspace(0, edges, parts + 1)[1:-1]
    cuts = [0, *np.searchsorted(starts, shares).tolist(), rows]
    return [(low, high) for low, high in itertools.pairwise(cuts) if high > low] or [(0, rows)]
