"""Checks and summaries of the tables that the figures draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import pandas as pd
from scipy import stats

from espalier.errors import DataError, nearest_hint, unknown_name
from espalier.hierarchy.distances import MEASURES, measure_columns

Spread = Literal["sd", "ci"]

NETWORK = ["dataset", "model", "pruner", "sparsity", "seed"]


@dataclass(frozen=True)
class PrintedMeasure:
    """How a column with a tree comparison measure is printed and read.

    Attributes:
        label: its printed name, with the unit where it has one.
        better: "lower" or "higher" values are nearer the truth; None for plain counts.
        count: the value is a whole number for one tree.
    """

    label: str
    better: str | None
    count: bool

    @property
    def direction(self) -> str:
        """What to read off: "lower is better", "higher is better", or nothing."""
        return f"{self.better} is better" if self.better else ""


_PRINTED_NAMES = {
    "rf": "Robinson-Foulds distance",
    "normalised_rf": "normalised Robinson-Foulds distance",
    "triplet": "triplet distance",
    "quartet": "quartet distance",
    "clustering_information": "clustering information distance",
    "clustering_information_bits": "clustering information distance (bits)",
    "mutual_clustering_information": "mutual clustering information (bits)",
    "hierarchical_mutual_information": "hierarchical mutual information (bits)",
    "matching_cluster": "matching cluster distance (leaves)",
    "matching_split": "matching split distance (leaves)",
}

HEADLINE_MEASURES = (
    "clustering_information_rooted",
    "triplet",
    "adjusted_hierarchical_mutual_information",
    "rf_unrooted",
)


def measure_named(column: str) -> PrintedMeasure:
    """Return how a column of the rf table is printed.

    Raises:
        ConfigurationError: no measure has that column.
    """
    columns = measure_columns(rooted="both")
    if column not in columns:
        raise unknown_name("measure", column, columns)
    name, rooted = columns[column]
    label = _PRINTED_NAMES.get(name, name.replace("_", " "))
    if column != name:  # the measure exists in both forms
        label += " (rooted)" if rooted else " (unrooted)"
    return PrintedMeasure(label, MEASURES[name].better, MEASURES[name].count)


def require(table: pd.DataFrame, name: str, columns: Sequence[str]) -> None:
    """Check that a table has rows and the named columns.

    Raises:
        DataError: it is empty or columns are missing; the message names the table and them.
    """
    missing = [key for key in columns if key not in table.columns]
    if missing:
        hints = "".join(nearest_hint(key, map(str, table.columns)) for key in missing)
        raise DataError(
            f"the {name} table lacks the column{'s' * (len(missing) > 1)} "
            f"{', '.join(map(repr, missing))}.{hints} "
            f"It has: {', '.join(map(str, table.columns)) or 'none'}"
        )
    if table.empty:
        raise DataError(f"the {name} table has no rows")


def column(table: pd.DataFrame, name: str) -> pd.Series:
    """Return a column as a Series."""
    return cast(pd.Series, table[name])


def numbers(table: pd.DataFrame, name: str) -> np.ndarray:
    """Return a column as a float array."""
    return np.asarray(table[name], dtype=float)


def where(table: pd.DataFrame, **values: object) -> pd.DataFrame:
    """Return the rows whose named columns equal the values."""
    chosen = np.ones(len(table), dtype=bool)
    for name, value in values.items():
        chosen &= np.asarray(table[name] == value)
    return table.loc[chosen]


def in_rising_order(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the rows sorted by a column of numbers."""
    return table.iloc[np.argsort(numbers(table, name), kind="stable")]


def keep(table: pd.DataFrame, name: str, key: str, value: object) -> pd.DataFrame:
    """Return the rows where the column `key` equals `value`.

    Raises:
        DataError: no row has it; the message lists the values there are.
    """
    rows = where(table, **{key: value})
    if rows.empty:
        present = sorted(map(str, column(table, key).unique()))
        hint = nearest_hint(str(value), present)
        raise DataError(
            f"the {name} table has no row with {key} {value!r}.{hint} It has: {', '.join(present)}"
        )
    return rows


def last_checkpoints(rf: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of each network's last, converged checkpoint."""
    last = rf.groupby(NETWORK)["checkpoint"].transform("max")
    return rf.loc[np.asarray(rf["checkpoint"] == last)]


def in_order(table: pd.DataFrame, name: str) -> list[str]:
    """Return the distinct values of a column in the order of their first row."""
    return list(dict.fromkeys(column(table, name)))


def summarise(
    rf: pd.DataFrame, keys: Sequence[str], measure: str, spread: Spread = "sd"
) -> pd.DataFrame:
    """Return mean and spread of a measure per group, over samples and seeds.

    `sd` is the standard deviation over all trees (divisor n - 1; no bar for one tree). `ci` is the
    95 % Student t interval of the mean over seeds, each seed counted once by the mean of its trees,
    since the trees of one network are not independent of each other; no bar for one seed.

    Args:
        rf: rows with `keys`, `seed` and `measure`; rows without a value are left out.
        keys: columns that name a group.
        measure: column with the values.
        spread: `sd` or `ci`.

    Returns:
        One row per group with `keys`, `mean`, `half` (half length of the bar, NaN for none),
        `trees` and `seeds`; groups in sorted order.

    Raises:
        DataError: no row has a value.
        ConfigurationError: `spread` is neither.
    """
    if spread not in ("sd", "ci"):
        raise unknown_name("spread", spread, ("sd", "ci"))
    rows = rf.loc[np.isfinite(numbers(rf, measure))]
    if rows.empty:
        raise DataError(f"the rf table has no finite value in the column {measure!r}")
    records = []
    for key, group in rows.groupby(list(keys), sort=True):
        values = numbers(group, measure)
        by_seed = np.array([numbers(own, measure).mean() for _, own in group.groupby("seed")])
        half = np.nan
        mean = values.mean()
        if spread == "sd" and len(values) > 1:
            half = values.std(ddof=1)
        if spread == "ci":
            mean = by_seed.mean()
            if len(by_seed) > 1:
                error = by_seed.std(ddof=1) / np.sqrt(len(by_seed))
                half = float(stats.t.ppf(0.975, len(by_seed) - 1)) * error
        key = key if isinstance(key, tuple) else (key,)
        records.append((*key, mean, half, len(values), len(by_seed)))
    return pd.DataFrame(records, columns=[*keys, "mean", "half", "trees", "seeds"])


def networks(rf: pd.DataFrame) -> pd.DataFrame:
    """Return one row per network and checkpoint: accuracies repeat over detectors and samples."""
    return rf.drop_duplicates([*NETWORK, "checkpoint"])


def spread_in_words(spread: Spread, unit: str = "trees") -> str:
    """Return what the bars of `summarise` are, for a caption."""
    if spread == "sd":
        return f"mean ± 1 standard deviation over {unit}"
    return "mean over seeds with its 95 % t interval (none for one seed)"


def count_in_words(summary: pd.DataFrame, unit: str) -> str:
    """Return "150 trees" from the column named `unit`, or a range when groups differ."""
    low, high = int(numbers(summary, unit).min()), int(numbers(summary, unit).max())
    number = f"{low}" if low == high else f"{low} to {high}"
    return f"{number} {unit if high > 1 else unit.removesuffix('s')}"


def baseline_lines(
    baselines: pd.DataFrame | None, dataset: str, measure: str
) -> list[tuple[str, float, float]]:
    """Return the reference values of a panel: (name, value, standard deviation or NaN).

    The star tree knows no hierarchy; the permuted truth has the true shape with shuffled classes
    (its exact expectation where the table has one); random trees are binary, drawn uniformly.

    Raises:
        DataError: columns are missing, or the table has no row for the dataset and measure.
    """
    if baselines is None:
        return []
    require(baselines, "baselines", ["dataset", "measure", "star", "permuted_mean"])
    rows = keep(keep(baselines, "baselines", "dataset", dataset), "baselines", "measure", measure)
    star, mean, exact, deviation, random, random_deviation = (
        numbers(rows, name)[0] if name in rows.columns else np.nan
        for name in (
            "star",
            "permuted_mean",
            "permuted_exact",
            "permuted_sd",
            "random_mean",
            "random_sd",
        )
    )
    permuted = exact if np.isfinite(exact) else mean
    lines = [
        ("star tree", float(star), np.nan),
        ("permuted truth", float(permuted), float(deviation)),
        ("random tree", float(random), float(random_deviation)),
    ]
    return [line for line in lines if np.isfinite(line[1])]
