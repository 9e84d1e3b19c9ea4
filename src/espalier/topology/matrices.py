"""Weights of one layer as a sparse matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from espalier.errors import DataError


def shape_of(matrix: sparse.csr_array) -> tuple[int, int]:
    """Return the rows and columns of a matrix."""
    shape: Any = matrix.shape
    return int(shape[0]), int(shape[1])


def absolute_matrix(weights: np.ndarray | sparse.csr_array, name: str) -> sparse.csr_array:
    """Return a float64 copy of the absolute values; entries that repeat a place are summed first.

    Args:
        weights: (rows, columns).
        name: what the error says holds the weights.

    Raises:
        DataError: a weight is not finite.
    """
    matrix = sparse.csr_array(weights, dtype=np.float64, copy=True)
    matrix.sum_duplicates()
    if not np.isfinite(matrix.data).all():
        raise DataError(f"{name}: a weight is not finite")
    matrix.data = np.abs(matrix.data)
    return matrix
