"""Feature sets of the predictors: topometrics, and what is known of a network without its graph.

A feature set is an expression: names joined by "+", for example "topometrics+dataset". Names are
those of `FEATURES`. Topometrics are numbers; data set, architecture, pruner and level of sparsity
are one-hot columns. Sets without any graph are the controls that every claim for topology must be
held against.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import pandas as pd

from espalier.errors import ConfigurationError, DataError, nearest_hint, unknown_name
from espalier.topology.topometrics import TOPOMETRICS

KEYS = ("pruning", "sparsity", "model", "dataset", "seed")
"""The columns that name a network."""

CONFIGURATION = ("pruning", "sparsity", "model", "dataset")
"""The columns that name a network but for its seed."""

LOCAL = ("sink_nodes", "source_nodes", "disc_nodes", "r-out", "r-in")

REGIONAL = ("motif", "cut-edges", "no_connected_components")
"""Those of the arXiv version of the paper, with motifs of size four in place of three."""

STABILITY = ("jaccard_init", "overlap_init", "jaccard_data", "overlap_data")

LAYERWISE = (
    "1-hop_nei",
    "motif",
    "k-core",
    "avg_node_strength",
    "no_connected_components",
    "mean_connected_components",
    "cut-edges",
    "cut-nodes",
    "spectral_gap",
    "spectral_radius",
)
"""The ten topometrics of the rolled encodings, which are computed layer by layer."""

RAMANUJAN = ("delta_r", "delta_r_imdb", "lambda_imsg")

LAYER_DENSITY = ("layer_density",)


@dataclass(frozen=True)
class Feature:
    """What one name of an expression stands for.

    Attributes:
        columns: of the table.
        one_hot: whether each level of the (single) column becomes a column of its own.
        graph: whether a graph, or its layers' masks, must be looked at.
    """

    columns: tuple[str, ...]
    one_hot: bool = False
    graph: bool = True


FEATURES: Mapping[str, Feature] = {
    "topometrics": Feature(TOPOMETRICS),
    "layerwise": Feature(LAYERWISE),
    "local": Feature(LOCAL),
    "regional": Feature(REGIONAL),
    "stability": Feature(STABILITY),
    "all": Feature((*TOPOMETRICS, *STABILITY)),
    "ramanujan": Feature(RAMANUJAN),
    "layer-density": Feature(LAYER_DENSITY),
    "sparsity": Feature(("sparsity",), graph=False),
    "sparsity-level": Feature(("sparsity",), one_hot=True, graph=False),
    "dataset": Feature(("dataset",), one_hot=True, graph=False),
    "architecture": Feature(("model",), one_hot=True, graph=False),
    "pruner": Feature(("pruning",), one_hot=True, graph=False),
}

CONTROLS = (
    "sparsity",
    "dataset",
    "architecture",
    "pruner",
    "sparsity-level+dataset+architecture",
    "sparsity-level+dataset+architecture+pruner",
    "sparsity+dataset+architecture+pruner",
)
"""Feature sets without any graph."""


@dataclass(frozen=True, eq=False)
class FeatureMatrix:
    """The numbers that a predictor sees.

    Attributes:
        values: (networks, columns) float64, not scaled.
        names: of the columns; "column=level" for one-hot ones.
        groups: for each column the feature it belongs to: the column of the table.
    """

    values: np.ndarray
    names: tuple[str, ...]
    groups: tuple[str, ...]


def feature_names(features: str) -> tuple[str, ...]:
    """Return the names of an expression.

    Raises:
        ConfigurationError: a name is unknown or comes twice.
    """
    names = tuple(name.strip() for name in features.split("+"))
    for name in names:
        if name not in FEATURES:
            raise unknown_name("feature set", name, FEATURES)
    if len(set(names)) < len(names):
        raise ConfigurationError(f"feature set {features!r} names a part twice")
    return names


def needs_graph(features: str) -> bool:
    """Return whether a feature set looks at graphs or masks; one that does not is a control."""
    return any(FEATURES[name].graph for name in feature_names(features))


def feature_columns(features: str) -> tuple[str, ...]:
    """Return the table's columns that a feature set reads, each once."""
    return tuple(
        dict.fromkeys(c for name in feature_names(features) for c in FEATURES[name].columns)
    )


def require_columns(table: pd.DataFrame, columns: Iterable[str], what: str = "the table") -> None:
    """Check that a table has some columns.

    Raises:
        DataError: one is missing; the message names the nearest column that is there.
    """
    missing = [column for column in columns if column not in table.columns]
    if missing:
        hints = ", ".join(repr(c) + nearest_hint(c, map(str, table.columns)) for c in missing)
        raise DataError(
            f"{what} lacks {'columns' if len(missing) > 1 else 'the column'} {hints} "
            "Rename or compute what is missing."
        )


def require_unique(
    table: pd.DataFrame, keys: Sequence[str] = KEYS, what: str = "the table"
) -> None:
    """Check that no network has two rows.

    Raises:
        DataError: some keys come more than once; the message names the first.
    """
    require_columns(table, keys, what)
    repeated = table.duplicated(list(keys))
    if repeated.any():
        first = table.loc[repeated, list(keys)].iloc[0].to_dict()
        raise DataError(
            f"{what} has {int(repeated.sum())} repeated rows, the first of {first}; "
            "keep one row per network"
        )


def feature_matrix(
    table: pd.DataFrame, features: str, *, scale_within: Sequence[str] = ()
) -> FeatureMatrix:
    """Return the numbers of a feature set for every row of a table.

    One-hot levels are those of the table, sorted, so that a matrix cut into folds keeps its
    columns. A level that a training fold lacks is a column of zeros there.

    Args:
        table: one row per network.
        features: expression, for example "topometrics+dataset".
        scale_within: columns; numbers are scaled to [0, 1] over the rows that agree in them. This
            looks at the features, never the accuracies, of the networks that are predicted.

    Raises:
        ConfigurationError: the expression names an unknown feature set.
        DataError: a column is missing, is no number, or holds NaN or infinity.
    """
    names = feature_names(features)
    require_columns(table, (*feature_columns(features), *scale_within))
    blocks, columns, groups = [], [], []
    for name in names:
        feature = FEATURES[name]
        if feature.one_hot:
            levels = table[feature.columns[0]]
            found = sorted(levels.unique())
            blocks.append(np.stack([(levels == level).to_numpy(np.float64) for level in found], 1))
            columns += [f"{feature.columns[0]}={level}" for level in found]
            groups += [feature.columns[0]] * len(found)
            continue
        fresh = [column for column in feature.columns if column not in columns]
        if fresh:
            values = _numbers(table, fresh)
            blocks.append(scaled_within(values, table, scale_within) if scale_within else values)
            columns += fresh
            groups += fresh
    return FeatureMatrix(np.concatenate(blocks, axis=1), tuple(columns), tuple(groups))


def complete_rows(table: pd.DataFrame, columns: Sequence[str]) -> np.ndarray:
    """Return which rows have a finite number in every one of some columns, (rows,) bool.

    Raises:
        DataError: a column is missing or is no number.
    """
    require_columns(table, columns)
    return np.asarray(np.isfinite(_as_float(table, columns)).all(axis=1))


def scaled_within(values: np.ndarray, table: pd.DataFrame, by: Sequence[str]) -> np.ndarray:
    """Return columns scaled to [0, 1] over the rows of a table that agree in some columns.

    A column that is constant over a group is 0 there.

    Args:
        values: (rows, columns).
        table: (rows) with the columns `by`; with none of them all rows are one group.
        by: columns.
    """
    codes = group_codes(table, by)
    scaled = np.empty_like(values, dtype=np.float64)
    for code in np.unique(codes):
        rows = codes == code
        low = values[rows].min(axis=0)
        span = values[rows].max(axis=0) - low
        scaled[rows] = (values[rows] - low) / np.where(span > 0, span, 1.0)
    return scaled


def rows_and_columns(
    table: pd.DataFrame, rows: np.ndarray | pd.Series | None, columns: Sequence[str] | None = None
) -> pd.DataFrame:
    """Return some rows (positions, or a boolean per row) and columns; None stands for all."""
    chosen = table if rows is None else table.iloc[np.asarray(rows)]
    return cast(pd.DataFrame, chosen if columns is None else chosen[list(columns)])


def group_codes(table: pd.DataFrame, by: Sequence[str]) -> np.ndarray:
    """Return an integer per row, equal for rows that agree in some columns; (rows,) int64.

    The numbers do not depend on the order of the rows: groups are counted in sorted order.

    Raises:
        DataError: a column is missing.
    """
    if not by:
        return np.zeros(len(table), dtype=np.int64)
    require_columns(table, by)
    return table.groupby(list(by), sort=True, dropna=False).ngroup().to_numpy(np.int64)


def _numbers(table: pd.DataFrame, columns: Sequence[str]) -> np.ndarray:
    values = _as_float(table, columns)
    bad = ~np.isfinite(values)
    if bad.any():
        counts = {c: int(n) for c, n in zip(columns, bad.sum(axis=0), strict=True) if n}
        row = int(bad.any(axis=1).argmax())
        raise DataError(
            f"NaN or infinite values in {counts} (first in row {row}); drop these networks "
            "(features.complete_rows finds them) or leave the columns out"
        )
    return values


def _as_float(table: pd.DataFrame, columns: Sequence[str]) -> np.ndarray:
    try:
        return table[list(columns)].to_numpy(np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"columns {list(columns)} are not all numbers ({error})") from error
