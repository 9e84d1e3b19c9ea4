"""Sums over the edges of one layer, each weight read once and added up in float64."""

from __future__ import annotations

import numba
import numpy as np

# Sums may be split over vector lanes; NaN and infinity stay what they are.
_REORDERED = {"reassoc", "contract", "nsz"}


@numba.njit(cache=True, fastmath=_REORDERED)
def dense_sums(
    weights: np.ndarray, absolute: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Sums of the weights and of their squares, by row and by column.

    Args:
        weights: (n_in, n_out) float32 or float64, rows contiguous.
        absolute: of the absolute weights.

    Returns:
        (n_in,) and (n_out,) sums, then (n_in,) and (n_out,) sums of squares, float64.
    """
    n_in, n_out = weights.shape
    rows, row_squares = np.zeros(n_in), np.zeros(n_in)
    columns, column_squares = np.zeros(n_out), np.zeros(n_out)
    for i in range(n_in):
        total = squares = 0.0
        for j in range(n_out):
            w = np.float64(weights[i, j])
            w = abs(w) if absolute else w
            total += w
            squares += w * w
            columns[j] += w
            column_squares[j] += w * w
        rows[i] = total
        row_squares[i] = squares
    return rows, columns, row_squares, column_squares


@numba.njit(cache=True, fastmath=_REORDERED)
def dense_products(
    weights: np.ndarray, absolute: bool, right: np.ndarray, left: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Product of the weights with a vector, and of their transpose with another.

    Args:
        weights: (n_in, n_out) float32 or float64, rows contiguous.
        absolute: of the absolute weights.
        right: (n_out,) float64.
        left: (n_in,) float64.

    Returns:
        W right (n_in,) and W^T left (n_out,), float64.
    """
    n_in, n_out = weights.shape
    rows, columns = np.zeros(n_in), np.zeros(n_out)
    for i in range(n_in):
        total = 0.0
        factor = left[i]
        for j in range(n_out):
            w = np.float64(weights[i, j])
            w = abs(w) if absolute else w
            total += w * right[j]
            columns[j] += w * factor
        rows[i] = total
    return rows, columns


@numba.njit(cache=True)
def csr_sums(
    indptr: np.ndarray, indices: np.ndarray, weights: np.ndarray, n_out: int, absolute: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """As `dense_sums`, of a CSR matrix in which no entry is stored twice."""
    n_in = indptr.size - 1
    rows, row_squares = np.zeros(n_in), np.zeros(n_in)
    columns, column_squares = np.zeros(n_out), np.zeros(n_out)
    for i in range(n_in):
        total = squares = 0.0
        for at in range(indptr[i], indptr[i + 1]):
            w = np.float64(weights[at])
            w = abs(w) if absolute else w
            j = indices[at]
            total += w
            squares += w * w
            columns[j] += w
            column_squares[j] += w * w
        rows[i] = total
        row_squares[i] = squares
    return rows, columns, row_squares, column_squares


@numba.njit(cache=True)
def csr_products(
    indptr: np.ndarray,
    indices: np.ndarray,
    weights: np.ndarray,
    absolute: bool,
    right: np.ndarray,
    left: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """As `dense_products`, of a CSR matrix."""
    n_in = indptr.size - 1
    rows, columns = np.zeros(n_in), np.zeros(right.size)
    for i in range(n_in):
        total = 0.0
        factor = left[i]
        for at in range(indptr[i], indptr[i + 1]):
            w = np.float64(weights[at])
            w = abs(w) if absolute else w
            j = indices[at]
            total += w * right[j]
            columns[j] += w * factor
        rows[i] = total
    return rows, columns
