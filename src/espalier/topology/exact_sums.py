"""Sums of products of whole numbers, exact whatever their size."""

from __future__ import annotations

import numpy as np

EXACT_INT64 = 1 << 62
"""Sums that float64 puts below this fit 64 bits, its rounding included."""


def exact_dot(first: np.ndarray, second: np.ndarray) -> int:
    """Return the dot product of whole numbers below 2^53, as a Python integer.

    Args:
        first, second: (n,) integers, or floats without a fraction.
    """
    first, second = np.asarray(first, np.int64), np.asarray(second, np.int64)
    if float(np.abs(first.astype(np.float64)) @ np.abs(second.astype(np.float64))) < EXACT_INT64:
        return int(first @ second)
    return sum(a * b for a, b in zip(first.tolist(), second.tolist(), strict=True))
