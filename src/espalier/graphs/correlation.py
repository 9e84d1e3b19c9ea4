"""Rank and linear correlation of many units over many samples, and the pairs that pass a threshold.

Spearman's rho is the Pearson correlation of average ranks. Each unit is ranked once, and the ranks
are kept as doubled centred ranks `2 * rank - (samples + 1)`. Those are integers, so the Gram matrix
of all units is a sum of integers. While `samples ** 3 / 3 < 2 ** 53` a float64 matrix product adds
them without any rounding: rho then has the same bits for every block size, tile size, number of
threads, BLAS and order of the samples. Beyond that (about 300,000 samples) the products of short
blocks are still exact and are added as 64-bit integers.

Two routes give the same bytes. The dense route holds all ranks in memory. The tiled route stages
them in a scratch file and computes one (row block, row block) tile at a time, straight to the pairs
that are kept, so that its memory does not grow with units x samples.
"""

from __future__ import annotations

import errno
import mmap
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from espalier.errors import ConfigurationError, DataError, EspalierError, unknown_name

METHODS = ("pearson", "spearman")

SAMPLE_BLOCK = 4096
"""Samples per matrix product; the result does not depend on it for Spearman."""

TILE = 1024
"""Units per side of a tile on the tiled route."""

DENSE_BYTES = 1 << 30
"""The largest set of staged rows that `correlated_pairs` keeps in memory by default."""

_COLUMN_BYTES = 16 << 20
_EXACT_FLOAT64 = 1 << 53
_EXACT_INT64 = 1 << 63
_FLOAT32_INTEGERS = 1 << 24


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of units (row < column) with their correlation, in row-major order.

    Attributes:
        rows: (pairs,) int64, the smaller unit index.
        columns: (pairs,) int64, the larger unit index.
        correlation: (pairs,) float64.
        constant: (units,) bool, units whose value never changes; they are in no pair.
    """

    rows: np.ndarray
    columns: np.ndarray
    correlation: np.ndarray
    constant: np.ndarray


def spearman(
    activations: np.ndarray, *, sample_block: int = SAMPLE_BLOCK, threads: int | None = None
) -> np.ndarray:
    """Spearman's rank correlation of every pair of units, ties averaged.

    The result has the same bits whatever `sample_block` and `threads` are. It takes
    4 bytes x units x samples beside the input; `correlated_pairs` has a route that does not.

    Args:
        activations: (samples, units) real numbers; unit-major (Fortran) order is fastest.
        sample_block: samples per matrix product.
        threads: threads that rank; by default OMP_NUM_THREADS or the available processors.

    Returns:
        (units, units) float64, symmetric, 1 on the diagonal. Rows and columns of constant
        units are NaN, the diagonal too.

    Raises:
        DataError: not a real matrix, fewer than 2 samples, or a NaN or infinite activation.

    Source: Spearman (1904), "The proof and measurement of association between two things";
    average ranks and NaN for constant input as in scipy.stats.spearmanr.
    """
    return _matrix(activations, "spearman", sample_block, threads)


def pearson(
    activations: np.ndarray, *, sample_block: int = SAMPLE_BLOCK, threads: int | None = None
) -> np.ndarray:
    """Pearson's linear correlation of every pair of units.

    Arguments, result and errors are those of `spearman`. Sums are rounded in float64, so the last
    bits may depend on `sample_block` and on the BLAS; it takes 8 bytes x units x samples.

    Source: Pearson (1895), "Note on regression and inheritance in the case of two parents".
    """
    return _matrix(activations, "pearson", sample_block, threads)


def doubled_ranks(activations: np.ndarray, *, threads: int | None = None) -> np.ndarray:
    """Doubled centred average ranks, `2 * rank - (samples + 1)` with ranks from 1.

    Args:
        activations: (samples, units) real numbers.
        threads: threads that rank.

    Returns:
        (samples, units) int64, unit-major; each column sums to 0 and lies in [1 - samples,
        samples - 1]. A constant column is all 0.

    Raises:
        DataError: as in `spearman`.
    """
    with _staged(activations, "spearman", SAMPLE_BLOCK, threads) as rows:
        everything = np.empty((rows.units, rows.samples))
        rows.read(slice(0, rows.units), slice(0, rows.samples), everything)
        return everything.astype(np.int64).T


def rank_gram(
    activations: np.ndarray, *, sample_block: int = SAMPLE_BLOCK, threads: int | None = None
) -> np.ndarray:
    """Exact integer Gram matrix of the doubled centred ranks.

    Spearman's rho is `gram[i, j] / sqrt(gram[i, i] * gram[j, j])`.

    Args:
        activations: (samples, units) real numbers.
        sample_block: samples per matrix product; the result does not depend on it.
        threads: threads that rank.

    Returns:
        (units, units) int64.

    Raises:
        DataError: as in `spearman`.
    """
    with _staged(activations, "spearman", sample_block, threads) as rows:
        everything = slice(0, rows.units)
        return _gram(rows, everything, everything, sample_block).astype(np.int64)


def correlated_pairs(
    activations: np.ndarray,
    *,
    method: str = "spearman",
    threshold: float = 0.5,
    strict: bool = False,
    n_pairs: int | None = None,
    tile: int | None = None,
    scratch: str | os.PathLike[str] | None = None,
    sample_block: int = SAMPLE_BLOCK,
    threads: int | None = None,
    describe: Callable[[int], str] = "unit {}".format,
) -> Pairs:
    """Pairs of units whose correlation reaches a threshold, or the strongest pairs.

    Args:
        activations: (samples, units) real numbers; may be a memory map.
        method: "spearman" or "pearson".
        threshold: pairs with a smaller correlation are dropped.
        strict: drop pairs that equal the threshold too.
        n_pairs: keep exactly this many strongest pairs and ignore `threshold`; among equal
            correlations the pair that comes first in row-major order wins.
        tile: units per side of a tile. None holds the ranks in memory while they fit in
            `DENSE_BYTES` and uses tiles of `TILE` units beyond.
        scratch: folder of the staging file (units x samples x 4 bytes, 8 for Pearson) on the
            tiled route; by default the system's temporary folder.
        sample_block: samples per matrix product.
        threads: threads that rank; by default OMP_NUM_THREADS or the available processors.
        describe: names a unit in errors.

    Returns:
        The kept pairs. For Spearman they are the same bytes for every `tile`.

    Raises:
        ConfigurationError: unknown method, threshold outside [-1, 1], or a tile below 1.
        DataError: as in `spearman`, or fewer than `n_pairs` pairs.
    """
    if not -1 <= threshold <= 1:
        raise ConfigurationError(f"threshold is {threshold}; a correlation lies in [-1, 1]")
    if tile is not None and tile < 1:
        raise ConfigurationError(f"tile is {tile}; it counts units and must be at least 1")
    if n_pairs is not None and n_pairs < 0:
        raise ConfigurationError(f"n_pairs is {n_pairs}; it must not be negative")
    with _staged(
        activations, method, sample_block, threads, describe, tile, scratch, automatic=True
    ) as rows:
        side = rows.tile
        constant = rows.square_sums == 0
        if n_pairs is not None:
            alive = int((~constant).sum())
            available = alive * (alive - 1) // 2
            if n_pairs > available:
                raise DataError(
                    f"{n_pairs} pairs were asked for, but {alive} units that are not constant "
                    f"have only {available} pairs; ask for fewer"
                )
        kept = _Kept(n_pairs)
        for first in range(0, rows.units, side):
            for second in range(first, rows.units, side):
                left = slice(first, min(first + side, rows.units))
                right = slice(second, min(second + side, rows.units))
                correlation = _correlation(rows, left, right, sample_block)
                if n_pairs is not None:
                    chosen = correlation >= kept.floor
                elif strict:
                    chosen = correlation > threshold
                else:
                    chosen = correlation >= threshold
                if first == second:
                    chosen = np.triu(chosen, 1)
                at = np.nonzero(chosen)
                kept.add(at[0] + first, at[1] + second, correlation[at])
        return Pairs(*kept.finish(), constant)


class _Kept:
    """Collects pairs, and with a limit forgets those that can no longer be among the strongest."""

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self.floor = -np.inf
        self.parts = [(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))]

    def add(self, rows: np.ndarray, columns: np.ndarray, correlation: np.ndarray) -> None:
        self.parts.append((rows, columns, correlation))
        if self.limit is not None and sum(len(part[0]) for part in self.parts) > self.limit:
            self.parts = [self._strongest()]
            # Equal correlations must stay in the running: an earlier pair may still come.
            self.floor = self.parts[0][2].min() if self.limit else np.inf

    def _merged(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rows, columns, correlation = (
            np.concatenate(part) for part in zip(*self.parts, strict=True)
        )
        order = np.lexsort((columns, rows))
        return rows[order], columns[order], correlation[order]

    def _strongest(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rows, columns, correlation = self._merged()
        surplus = len(rows) - (self.limit or 0)
        if self.limit is None or surplus <= 0:
            return rows, columns, correlation
        if self.limit == 0:
            return rows[:0], columns[:0], correlation[:0]
        weakest = np.partition(correlation, surplus)[surplus]
        chosen = correlation > weakest
        ties = np.flatnonzero(correlation == weakest)
        chosen[ties[: self.limit - int(chosen.sum())]] = True
        return rows[chosen], columns[chosen], correlation[chosen]

    def finish(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self._strongest()


class _Rows(Protocol):
    """Centred rows, one per unit, whose scaled Gram matrix is the correlation."""

    units: int
    samples: int
    tile: int
    exact: bool
    square_sums: np.ndarray
    dtype: np.dtype

    def target(self, first: int, count: int, scratch: np.ndarray) -> np.ndarray:
        """Where the rows of units `first` .. `first + count` are to be written."""
        ...

    def store(self, first: int, rows: np.ndarray) -> None:
        """Keep what was written into `target`."""
        ...

    def read(self, units: slice, samples: slice, out: np.ndarray) -> None:
        """Copy a block, aligned to the sample blocks, into a float64 array."""
        ...


class _RowsInMemory:
    def __init__(self, units: int, samples: int, dtype: np.dtype, exact: bool) -> None:
        self.units, self.samples, self.tile = units, samples, max(units, 1)
        self.dtype, self.exact = dtype, exact
        self.square_sums = np.zeros(units)
        self.rows = np.empty((units, samples), dtype)

    def target(self, first: int, count: int, scratch: np.ndarray) -> np.ndarray:
        return self.rows[first : first + count]

    def store(self, first: int, rows: np.ndarray) -> None:
        """Nothing to do: the target is the store."""

    def read(self, units: slice, samples: slice, out: np.ndarray) -> None:
        out[:] = self.rows[units, samples]


class _RowsOnDisk:
    """Rows in a scratch file laid out as (sample block, unit, sample), so that reads are runs.

    Plain reads are used, not a memory map: mapped pages would count as memory of the process.
    """

    def __init__(
        self,
        units: int,
        samples: int,
        dtype: np.dtype,
        exact: bool,
        tile: int,
        sample_block: int,
        folder: Path,
        descriptor: int,
    ) -> None:
        self.units, self.samples, self.tile = units, samples, tile
        self.dtype, self.exact = dtype, exact
        self.square_sums = np.zeros(units)
        self._length, self._folder, self._descriptor = sample_block, folder, descriptor
        self._narrow = np.empty(0, dtype)

    def _offset(self, first_unit: int, first_sample: int, length: int) -> int:
        return self.dtype.itemsize * (self.units * first_sample + first_unit * length)

    def target(self, first: int, count: int, scratch: np.ndarray) -> np.ndarray:
        return scratch[:count]

    def store(self, first: int, rows: np.ndarray) -> None:
        for start in range(0, self.samples, self._length):
            piece = np.ascontiguousarray(rows[:, start : start + self._length])
            offset = self._offset(first, start, piece.shape[1])
            data = piece.data.cast("B")
            while data:
                try:
                    written = os.pwrite(self._descriptor, data, offset)
                except OSError as error:
                    if error.errno in (errno.ENOSPC, errno.EDQUOT):
                        size = self.units * self.samples * self.dtype.itemsize
                        raise EspalierError(
                            f"no space left in {self._folder} to stage {self.units} units x "
                            f"{self.samples} samples ({size / 1e9:.1f} GB); free some space or "
                            "name another folder as scratch="
                        ) from error
                    raise
                data, offset = data[written:], offset + written

    def read(self, units: slice, samples: slice, out: np.ndarray) -> None:
        if self._narrow.size < out.size:
            self._narrow = np.empty(out.size, self.dtype)
        block = self._narrow[: out.size].reshape(out.shape)
        data = block.data.cast("B")
        offset = self._offset(units.start, samples.start, out.shape[1])
        while data:
            count = os.preadv(self._descriptor, [data], offset)
            if count == 0:
                raise EspalierError(f"the staging file in {self._folder} was cut short; run again")
            data, offset = data[count:], offset + count
        out[:] = block


@contextmanager
def _staged(
    activations: np.ndarray,
    method: str,
    sample_block: int,
    threads: int | None,
    describe: Callable[[int], str] = "unit {}".format,
    tile: int | None = None,
    scratch: str | os.PathLike[str] | None = None,
    automatic: bool = False,
) -> Iterator[_Rows]:
    """Yield the staged rows of all units, in memory unless a tile is given or they are too big."""
    if method not in METHODS:
        raise unknown_name("correlation", method, METHODS)
    if sample_block < 1:
        raise ConfigurationError(f"sample_block is {sample_block}; it must be at least 1")
    if threads is not None and threads < 1:
        raise ConfigurationError(f"threads is {threads}; it must be at least 1")
    samples, units = _checked_shape(activations)
    exact = method == "spearman"
    if exact and samples**3 // 3 >= _EXACT_INT64:
        raise DataError(
            f"{samples} samples are too many for exact rank sums in 64-bit integers "
            "(the limit is about 3.0 million); correlate a sample of them"
        )
    dtype = np.dtype(np.float32 if exact and samples <= _FLOAT32_INTEGERS else np.float64)
    if automatic and tile is None and units * samples * dtype.itemsize > DENSE_BYTES:
        tile = TILE
    if tile is None:
        rows = _RowsInMemory(units, samples, dtype, exact)
        _fill(rows, activations, describe, threads)
        yield rows
        return
    folder = Path(scratch if scratch is not None else tempfile.gettempdir())
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as handle:
        disk = _RowsOnDisk(
            units, samples, dtype, exact, tile, sample_block, folder, handle.fileno()
        )
        _fill(disk, activations, describe, threads)
        yield disk


def _checked_shape(activations: np.ndarray) -> tuple[int, int]:
    if activations.ndim != 2:
        raise DataError(
            f"activations have shape {activations.shape}; expected 2 axes, (samples, units)"
        )
    if activations.dtype.kind not in "fiub":
        raise DataError(f"activations have type {activations.dtype}; expected real numbers")
    samples, units = activations.shape
    if samples < 2:
        raise DataError(
            f"activations have {samples} samples and {units} units; "
            "a correlation needs at least 2 samples"
        )
    return samples, units


def _fill(
    rows: _Rows, activations: np.ndarray, describe: Callable[[int], str], threads: int | None
) -> None:
    """Turn every column of the activations into a centred row, a few columns per thread."""
    samples, units = activations.shape
    width = max(1, min(64, _COLUMN_BYTES // (samples * activations.dtype.itemsize)))
    own = threading.local()

    def work(first: int) -> None:
        if not hasattr(own, "transform"):
            own.transform = _Ranker(samples, rows.dtype) if rows.exact else _unit_deviations
            own.scratch = np.empty((width, samples), rows.dtype)
        columns = np.ascontiguousarray(activations[:, first : first + width].T)
        if columns.dtype.itemsize < 4:
            columns = columns.astype(np.float32)
        staged = rows.target(first, len(columns), own.scratch)
        for position, column in enumerate(columns):
            low, high = column.min(), column.max()
            if not (np.isfinite(low) and np.isfinite(high)):
                sample = int(np.flatnonzero(~np.isfinite(column))[0])
                raise DataError(
                    f"{describe(first + position)} has the activation {column[sample]} at sample "
                    f"{sample}; every activation must be finite"
                )
            if low == high:
                staged[position] = 0
                continue
            own.transform(column, low, staged[position])
            rows.square_sums[first + position] = _square_sum(staged[position], rows.exact)
        rows.store(first, staged)
        _release(activations)

    starts = range(0, units, width)
    workers = min(threads or _default_threads(), len(starts))
    if workers <= 1:
        for first in starts:
            work(first)
        return
    with ThreadPoolExecutor(workers) as pool:
        # In order, so that the first bad unit is the one that is named.
        for _ in pool.map(work, starts):
            pass


def _square_sum(row: np.ndarray, exact: bool) -> float:
    if not exact:
        return 1.0
    if len(row) ** 3 // 3 < _EXACT_FLOAT64:
        return float(np.einsum("i,i", row, row, dtype=np.float64))
    integers = row.astype(np.int64)
    return float(integers @ integers)


class _Ranker:
    """Writes the doubled centred average ranks of one column after the other.

    The buffers are kept, because fresh memory for every column costs more than the sort. The block
    of ties at the minimum (the zeros of a ReLU) is never sorted.
    """

    def __init__(self, samples: int, dtype: np.dtype) -> None:
        self._samples = samples
        self._positions = np.arange(samples)
        self._ranks = np.arange(1 - samples, samples, 2).astype(dtype)
        self._flags = np.empty(samples, bool)
        self._rest = np.empty(samples, np.int64)
        self._values = np.empty(samples, np.float32)
        self._signs = np.empty(samples, np.int32)
        self._packed = np.empty(samples, np.int64)
        self._order = np.empty(samples, np.int64)

    def __call__(self, column: np.ndarray, low: np.floating, out: np.ndarray) -> None:
        above = np.greater(column, low, out=self._flags)
        count = int(np.count_nonzero(above))
        tied = self._samples - count
        if tied * 8 < self._samples:
            tied, count, rest = 0, self._samples, self._positions
        else:
            rest = np.compress(above, self._positions, out=self._rest[:count])
            out.fill(tied - self._samples)
        if column.dtype == np.float32 and self._samples < 1 << 31:
            order, ordered = self._sorted_float32(column, above, rest, tied)
        else:
            values = column[rest]
            argsort = np.argsort(values)
            order, ordered = rest[argsort], values[argsort]
        new = np.not_equal(ordered[1:], ordered[:-1], out=self._flags[: count - 1])
        if new.all():
            out[order] = self._ranks[tied:]
            return
        starts = np.concatenate(([0], np.flatnonzero(new) + 1))
        counts = np.diff(starts, append=count)
        # First rank + last rank of each group of ties, less (samples + 1).
        ranks = 2 * (tied + starts) + counts - self._samples
        out[order] = np.repeat(ranks.astype(out.dtype), counts)

    def _sorted_float32(
        self, column: np.ndarray, above: np.ndarray, rest: np.ndarray, tied: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Positions in the order of their values, and integers that order as the values do.

        One sort of (bits of the value, position) is faster than an argsort and a take.
        """
        count = len(rest)
        values = self._values[:count]
        if tied:
            np.compress(above, column, out=values)
        else:
            values[:] = column
        # Turns -0.0 into 0.0, which must tie with it.
        values += np.float32(0)
        bits, signs, packed = values.view(np.int32), self._signs[:count], self._packed[:count]
        np.right_shift(bits, 31, out=signs)
        signs &= np.int32(0x7FFFFFFF)
        bits ^= signs
        packed[:] = bits
        packed <<= 32
        packed |= rest
        packed.sort()
        order = np.bitwise_and(packed, 0xFFFFFFFF, out=self._order[:count])
        packed >>= 32
        return order, packed


def _unit_deviations(column: np.ndarray, low: np.floating, out: np.ndarray) -> None:
    """Write the centred column, scaled to length 1, into `out`."""
    out[:] = column
    # Scaled first, so that squares of large values cannot overflow.
    out /= np.abs(out).max()
    out -= out.mean()
    # Once more, because the mean of nearly equal values is itself rounded.
    out -= out.mean()
    out /= np.sqrt(out @ out)


def _gram(rows: _Rows, left: slice, right: slice, sample_block: int) -> np.ndarray:
    """Sum over samples of the products of two blocks of rows: float64, or int64 where needed."""
    shape = (left.stop - left.start, right.stop - right.start)
    wide = rows.exact and rows.samples**3 // 3 >= _EXACT_FLOAT64
    total = np.zeros(shape, np.int64 if wide else np.float64)
    product = np.empty(shape)
    length = min(sample_block, rows.samples)
    first = np.empty((shape[0], length))
    second = first if left == right else np.empty((shape[1], length))
    # A product over this many samples is exact in float64.
    step = max(1, _EXACT_FLOAT64 // (rows.samples - 1) ** 2) if wide else length
    for start in range(0, rows.samples, length):
        samples = slice(start, min(start + length, rows.samples))
        if samples.stop - start < length:
            first = first[:, : samples.stop - start]
            second = first if left == right else second[:, : samples.stop - start]
        rows.read(left, samples, first)
        if second is not first:
            rows.read(right, samples, second)
        for at in range(0, first.shape[1], step):
            a = first[:, at : at + step]
            # The same array twice makes BLAS compute one triangle only.
            b = a if second is first else second[:, at : at + step]
            np.matmul(a, b.T, out=product)
            total += product.astype(np.int64) if wide else product
    return total


def _correlation(rows: _Rows, left: slice, right: slice, sample_block: int) -> np.ndarray:
    """Correlations between two blocks of units; NaN where either is constant."""
    sums = rows.square_sums
    result = _gram(rows, left, right, sample_block).astype(np.float64, copy=False)
    scale = np.multiply.outer(sums[left], sums[right])
    np.sqrt(scale, out=scale)
    scale[scale == 0] = np.nan
    result /= scale
    return np.clip(result, -1, 1, out=result)


def _matrix(
    activations: np.ndarray, method: str, sample_block: int, threads: int | None
) -> np.ndarray:
    with _staged(activations, method, sample_block, threads) as rows:
        everything = slice(0, rows.units)
        result = _correlation(rows, everything, everything, sample_block)
        np.fill_diagonal(result, np.where(rows.square_sums == 0, np.nan, 1.0))
        return result


def _default_threads() -> int:
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return min(int(limit), available or 1) if limit.isdigit() and int(limit) else available or 1


def _release(array: np.ndarray) -> None:
    """Drop the pages of a file-backed array from this process; the file keeps them."""
    base: object = array
    shared = False
    while isinstance(base, np.ndarray):
        # Copy-on-write maps hold changes that exist nowhere else.
        shared = shared or (isinstance(base, np.memmap) and base.mode in ("r", "r+", "w+"))
        base = base.base
    if shared and isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)
