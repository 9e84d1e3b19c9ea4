"""Train and test rows: the papers' own row splits, and splits that keep related networks apart.

Every protocol is a pure function of a table: it returns (train, test) pairs of row positions, the
same for the same seed. The test rows of a protocol partition the table.

The papers split rows. The seeds of one configuration then sit on both sides, and networks of equal
pruner, sparsity, architecture and data set have nearly equal topometrics and accuracies: a learner
that remembers configurations scores well. "grouped" keeps seeds together; the "leave" protocols ask
whether anything carries over to an architecture, data set, pruner or sparsity never seen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from espalier.errors import DataError, unknown_name
from espalier.prediction.features import CONFIGURATION, group_codes, require_columns
from espalier.seeds import derive_seed

Split = tuple[np.ndarray, np.ndarray]

STRATA = 5
"""Quantile bins of a number by which "stratified" balances its folds."""


def row_splits(rows: int, folds: int = 5, seed: int = 0) -> list[Split]:
    """Return shuffled folds over rows, blind to what they are.

    Raises:
        DataError: there are fewer rows than folds, or fewer than two folds.
    """
    from sklearn.model_selection import KFold

    _check_folds(rows, folds, "rows")
    folder = KFold(folds, shuffle=True, random_state=_state(seed, "rows"))
    return list(folder.split(np.zeros(rows)))


def grouped_splits(groups: np.ndarray, folds: int = 5, seed: int = 0) -> list[Split]:
    """Return folds over groups: all rows of a group are on one side.

    Groups are shuffled and dealt out in turn, so that folds differ by one group at most.

    Args:
        groups: (rows,) an integer per row.
        folds: how many.
        seed: of the shuffling.

    Raises:
        DataError: there are fewer groups than folds, or fewer than two folds.
    """
    from sklearn.model_selection import KFold

    found, codes = np.unique(groups, return_inverse=True)
    _check_folds(len(found), folds, "groups")
    folder = KFold(folds, shuffle=True, random_state=_state(seed, "groups"))
    splits = []
    for _, test_groups in folder.split(found):
        tested = np.isin(codes, test_groups)
        splits.append((np.flatnonzero(~tested), np.flatnonzero(tested)))
    return splits


def leave_out_splits(levels: Sequence[object] | np.ndarray) -> list[Split]:
    """Return one split per level, in sorted order: its rows are the test rows.

    Raises:
        DataError: there is a single level, so that nothing would be left to train on.
    """
    values = np.asarray(levels)
    found = np.unique(values)
    if len(found) < 2:
        raise DataError(
            f"only {found[0] if len(found) else 'nothing'} is there: leaving it out leaves no "
            "training rows; take a table with two levels or more, or another protocol"
        )
    return [(np.flatnonzero(values != v), np.flatnonzero(values == v)) for v in found]


def stratified_splits(strata: np.ndarray, folds: int = 5, seed: int = 0) -> list[Split]:
    """Return shuffled folds over rows with an equal share of every stratum.

    A stratum with fewer rows than folds is missing from some test folds.

    Args:
        strata: (rows,) a label per row.
        folds: how many.
        seed: of the shuffling.

    Raises:
        DataError: there are fewer rows than folds, or fewer than two folds, or each stratum has
            fewer rows than folds.
    """
    from sklearn.model_selection import StratifiedKFold

    _, codes, counts = np.unique(strata, return_inverse=True, return_counts=True)
    _check_folds(len(codes), folds, "rows")
    if counts.max() < folds:
        raise DataError(
            f"the largest of {len(counts)} strata has {counts.max()} rows, fewer than {folds} "
            "folds: take fewer folds or more rows"
        )
    if counts.min() >= folds:
        folder = StratifiedKFold(folds, shuffle=True, random_state=_state(seed, "strata"))
        return list(folder.split(np.zeros(len(codes)), codes))
    # scikit-learn warns of small strata; they are dealt out in the same way without it.
    generator = np.random.default_rng(_state(seed, "small strata"))
    fold = np.empty(len(codes), dtype=np.int64)
    dealt = 0
    for stratum in range(len(counts)):
        rows = generator.permutation(np.flatnonzero(codes == stratum))
        fold[rows] = (np.arange(len(rows)) + dealt) % folds
        dealt += len(rows)
    return [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(folds)]


def quantile_strata(values: np.ndarray, bins: int = STRATA) -> np.ndarray:
    """Return the quantile bin of each number, (rows,) int64; equal numbers share a bin."""
    edges = np.quantile(values, np.linspace(0, 1, bins + 1)[1:-1])
    return np.searchsorted(edges, values, side="left")


def _rows(table: pd.DataFrame, folds: int, seed: int) -> list[Split]:
    return row_splits(len(table), folds, seed)


def _stratified(table: pd.DataFrame, folds: int, seed: int) -> list[Split]:
    require_columns(table, ["drop"])
    return stratified_splits(quantile_strata(table["drop"].to_numpy(float)), folds, seed)


def _grouped(table: pd.DataFrame, folds: int, seed: int) -> list[Split]:
    return grouped_splits(group_codes(table, CONFIGURATION), folds, seed)


def _leaving(column: str) -> Callable[[pd.DataFrame, int, int], list[Split]]:
    def split(table: pd.DataFrame, folds: int, seed: int) -> list[Split]:
        del folds, seed
        require_columns(table, [column])
        return leave_out_splits(table[column].to_numpy())

    return split


PROTOCOLS: Mapping[str, Callable[[pd.DataFrame, int, int], list[Split]]] = {
    "published": _rows,
    "stratified": _stratified,
    "grouped": _grouped,
    "leave-architecture-out": _leaving("model"),
    "leave-dataset-out": _leaving("dataset"),
    "leave-pruner-out": _leaving("pruning"),
    "leave-sparsity-out": _leaving("sparsity"),
}
"""By name: "published" splits rows (TMLR), "stratified" too, balanced by drop (arXiv)."""

LEAKING = ("published", "stratified")
"""Protocols that put the seeds of one configuration on both sides."""


def protocol_splits(
    table: pd.DataFrame, protocol: str = "grouped", *, folds: int = 5, seed: int = 0
) -> list[Split]:
    """Return the (train, test) row positions of a protocol.

    Args:
        table: one row per network.
        protocol: a name of `PROTOCOLS`.
        folds: how many; the "leave" protocols have one per level instead.
        seed: of the shuffling; the "leave" protocols have none.

    Returns:
        Pairs of sorted int64 arrays; the test rows partition the table.

    Raises:
        ConfigurationError: the protocol is unknown.
        DataError: a column is missing, or there are too few rows, groups or levels.
    """
    if protocol not in PROTOCOLS:
        raise unknown_name("protocol", protocol, PROTOCOLS)
    return PROTOCOLS[protocol](table, folds, seed)


def is_random(protocol: str) -> bool:
    """Return whether another seed gives another split."""
    return not protocol.startswith("leave-")


def _check_folds(available: int, folds: int, what: str) -> None:
    if folds < 2:
        raise DataError(f"{folds} folds: cross-validation needs at least 2")
    if available < folds:
        raise DataError(f"{available} {what} cannot be cut into {folds} folds; take fewer folds")


def _state(seed: int, stream: str) -> int:
    # scikit-learn takes 32 bits.
    return derive_seed(seed, "split", stream) & 0xFFFFFFFF
