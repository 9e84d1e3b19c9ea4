"""A predictor of the accuracy drop to keep: fitted once, saved as arrays, with intervals.

The learner is an ensemble of extremely randomised trees. One ensemble is fitted without each group
of networks, and the trees are kept as plain arrays, so that a file needs neither scikit-learn nor
pickle to be read, runs no code, and gives the same numbers under every version of it. Trees were
chosen over linear models because on the published pool they predict networks of a pair (data set,
architecture) that was left out with R2 0.71 against 0.64 of ridge regression, and because they do
not extrapolate: a network unlike all others gets a drop that was seen.

The interval is the jackknife+ (Barber et al., "Predictive inference with the jackknife+", Annals of
Statistics 2021) over groups, each group with equal weight (Lee, Barber and Willett,
"Distribution-free inference with hierarchical data", 2023). It holds for a network of a new group
where groups are exchangeable, which no pool of hand-picked architectures guarantees.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from espalier.errors import ConfigurationError, DataError, MissingDependencyError
from espalier.files import FilePath, read_npz, write_npz
from espalier.prediction.features import (
    FEATURES,
    feature_columns,
    feature_matrix,
    feature_names,
    group_codes,
    require_columns,
    require_unique,
)
from espalier.prediction.regression import r2_score
from espalier.prediction.splits import grouped_splits, leave_out_splits
from espalier.seeds import derive_seed

FEATURE_SET = "topometrics+sparsity+dataset"
GROUPS = ("dataset", "model")
LEVEL = 0.9
MAX_FOLDS = 20
"""With more groups than this, several share a fold."""

_KIND = "espalier predictor of the accuracy drop"
_VERSION = 1


class Prediction(NamedTuple):
    """A predicted accuracy drop, (dense - accuracy) / dense, and its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Column:
    """What one number of a predictor's input is.

    Attributes:
        name: column of the table.
        level: None for a number; else the level whose indicator this is.
        low, high: range over the training networks.
    """

    name: str
    level: str | None
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Trees:
    """Regression trees as arrays, one below the other in depth-first order.

    The left child of a node is the next node. Every number of a row is rounded to float32.

    Attributes:
        feature: (nodes,) int16; -1 for a leaf.
        threshold: (nodes,) float32; left if the number is not above it.
        right: (nodes,) int32, the right child; 0 for a leaf.
        value: (nodes,) float32, of a leaf.
        roots: (trees,) int32, ascending; the first is 0.
        folds: (trees,) int32, the fold that each tree was fitted without.
    """

    feature: np.ndarray
    threshold: np.ndarray
    right: np.ndarray
    value: np.ndarray
    roots: np.ndarray
    folds: np.ndarray

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Return the mean of each fold's trees, (rows, folds) float64, for x (rows, columns)."""
        rows = x.astype(np.float32)
        node = np.tile(self.roots, (len(rows), 1))
        while True:
            feature = self.feature[node]
            inner = feature >= 0
            if not inner.any():
                break
            seen = np.take_along_axis(rows, np.maximum(feature, 0), axis=1)
            step = np.where(seen <= self.threshold[node], node + 1, self.right[node])
            node = np.where(inner, step, node)
        values = self.value[node].astype(np.float64)
        folds = int(self.folds.max()) + 1
        return np.stack([values[:, self.folds == k].mean(axis=1) for k in range(folds)], axis=1)


@dataclass(frozen=True, eq=False)
class Predictor:
    """Predicts the accuracy drop of networks from their rows of a table of topometrics.

    Attributes:
        columns: the input, in order.
        trees: one ensemble per fold.
        residuals: (networks,) absolute out-of-fold errors of the training networks.
        residual_folds: (networks,) int32, the fold of each.
        residual_groups: (networks,) int32, the group of each.
        features: the expression of `espalier.prediction.features` it was fitted with.
        groups: the columns whose combinations are kept together.
        encoding: how the topometrics were computed, as the caller of `fit` said.
        scores: out-of-fold R2 ("r2") and mean absolute error ("mae") of the training networks.
    """

    columns: tuple[Column, ...]
    trees: Trees
    residuals: np.ndarray
    residual_folds: np.ndarray
    residual_groups: np.ndarray
    features: str
    groups: tuple[str, ...]
    encoding: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)

    @property
    def required(self) -> tuple[str, ...]:
        """The columns of a table that a prediction reads."""
        return tuple(dict.fromkeys(column.name for column in self.columns))

    @property
    def highest_level(self) -> float:
        """The highest level of an interval of finite length: groups / (groups + 1)."""
        count = len(np.unique(self.residual_groups))
        return count / (count + 1)

    def predict(self, topometrics: Mapping[str, Any], level: float = LEVEL) -> Prediction:
        """Return the predicted drop of one network, and an interval.

        Args:
            topometrics: value by column; `required` lists them. Others are not looked at.
            level: of the interval, at most `highest_level`.

        Raises:
            ConfigurationError: the level is out of range.
            DataError: a column is missing, or is not a finite number.
        """
        row = self.predict_table(pd.DataFrame([dict(topometrics)]), level).iloc[0]
        return Prediction(float(row["value"]), float(row["low"]), float(row["high"]))

    def predict_table(self, table: pd.DataFrame, level: float = LEVEL) -> pd.DataFrame:
        """Return the columns value, low and high for every row of a table, with its index.

        Args, errors: as in `predict`.
        """
        if not 0 < level <= self.highest_level + 1e-12:
            raise ConfigurationError(
                f"level is {level}; with {len(np.unique(self.residual_groups))} groups an interval "
                f"of finite length has a level of at most {self.highest_level:.3f}"
            )
        by_fold = self.trees.predict(self._matrix(table))
        centres = by_fold[:, self.residual_folds]
        weights = _group_weights(self.residual_groups)
        high = _weighted_quantiles(centres + self.residuals, weights, level)
        low = -_weighted_quantiles(self.residuals - centres, weights, level)
        values = {"value": by_fold.mean(axis=1), "low": low, "high": high}
        return pd.DataFrame(values, index=table.index)

    def predict_folds(self, table: pd.DataFrame) -> np.ndarray:
        """Return (rows, folds) drops, each fold's by the trees that were fitted without its groups.

        Raises:
            DataError: a column is missing, or is not a finite number.
        """
        return self.trees.predict(self._matrix(table))

    def outside(self, table: pd.DataFrame) -> list[list[str]]:
        """Return for each row what no training network was like, as short sentences.

        These are numbers outside their range in training, and levels (of data sets, for example)
        that were not there. For such a row the prediction is a guess and the interval is void.

        Raises:
            DataError: a column is missing, or is not a finite number.
        """
        matrix = self._matrix(table)
        found: list[list[str]] = [[] for _ in range(len(table))]
        for k, column in enumerate(self.columns):
            if column.level is not None:
                continue
            # A file may have been written with fewer digits than the training table had.
            slack = 1e-6 * max(abs(column.low), abs(column.high))
            out = (matrix[:, k] < column.low - slack) | (matrix[:, k] > column.high + slack)
            for row in np.flatnonzero(out):
                found[row].append(
                    f"{column.name} is {matrix[row, k]:.4g}, outside {column.low:.4g} to "
                    f"{column.high:.4g}"
                )
        for name in dict.fromkeys(c.name for c in self.columns if c.level is not None):
            levels = [c.level for c in self.columns if c.name == name and c.level is not None]
            for row, level in enumerate(map(str, table[name])):
                if level not in levels:
                    found[row].append(f"{name} {level} is none of {', '.join(levels)}")
        return found

    def _matrix(self, table: pd.DataFrame) -> np.ndarray:
        require_columns(table, self.required, "the table to predict")
        matrix = np.empty((len(table), len(self.columns)))
        for k, column in enumerate(self.columns):
            if column.level is not None:
                matrix[:, k] = [str(value) == column.level for value in table[column.name]]
                continue
            try:
                values = table[column.name].to_numpy(np.float64)
            except (TypeError, ValueError) as error:
                raise DataError(f"column {column.name!r} is not a number ({error})") from error
            if not np.isfinite(values).all():
                row = int((~np.isfinite(values)).argmax())
                raise DataError(
                    f"{column.name!r} is {values[row]} in row {row}: a prediction needs a finite "
                    "number; a network without edges has none"
                )
            matrix[:, k] = values
        return matrix


def fit(
    table: pd.DataFrame,
    features: str = FEATURE_SET,
    *,
    groups: Sequence[str] = GROUPS,
    target: str = "drop",
    trees: int = 10,
    min_leaf: int = 5,
    seed: int = 0,
    encoding: Mapping[str, Any] | None = None,
) -> Predictor:
    """Fit a predictor of the accuracy drop.

    Args:
        table: one row per network, with its key, the features and the target.
        features: an expression of `espalier.prediction.features`. What names a network's pruner or
            architecture can be among them, but tells nothing about a new one.
        groups: columns; the interval is meant for a network whose combination of them is new.
            ("dataset", "model") is for a new network; ("pruning", "sparsity", "model", "dataset")
            only for new configurations of the networks at hand.
        target: column to predict.
        trees: per fold.
        min_leaf: training networks per leaf at the least.
        seed: of the trees.
        encoding: how the topometrics were computed; stored for those who use the predictor.

    Raises:
        ConfigurationError: a feature set is unknown, or a count is below 1.
        DataError: columns are missing or not finite, rows repeat, or there are fewer than two
            groups.
        MissingDependencyError: scikit-learn is not installed.
    """
    for name, count in (("trees", trees), ("min_leaf", min_leaf)):
        if count < 1:
            raise ConfigurationError(f"{name} is {count}; it must be at least 1")
    require_columns(table, (*groups, target))
    require_unique(table)
    y = _finite_target(table, target)
    x = feature_matrix(table, features)
    codes = group_codes(table, groups)
    count = len(np.unique(codes))
    if count < 2:
        raise DataError(
            f"one combination of {tuple(groups)}: an interval for a new one needs two at least; "
            "take more networks, or other groups"
        )
    splits = (
        leave_out_splits(codes) if count <= MAX_FOLDS else grouped_splits(codes, MAX_FOLDS, seed)
    )
    grown = [
        _fitted(x.values[train], y[train], trees, min_leaf, derive_seed(seed, "predictor", fold))
        for fold, (train, _) in enumerate(splits)
    ]
    ensemble = _joined(grown)
    folds = np.empty(len(y), dtype=np.int32)
    for fold, (_, test) in enumerate(splits):
        folds[test] = fold
    predicted = ensemble.predict(x.values)[np.arange(len(y)), folds]
    return Predictor(
        columns=_columns(x.values, x.names, x.groups, features),
        trees=ensemble,
        residuals=np.abs(y - predicted),
        residual_folds=folds,
        residual_groups=codes.astype(np.int32),
        features=features,
        groups=tuple(groups),
        encoding=dict(encoding or {}),
        scores={"r2": r2_score(y, predicted), "mae": float(np.abs(y - predicted).mean())},
    )


def interval_coverage(
    table: pd.DataFrame,
    features: str = FEATURE_SET,
    *,
    groups: Sequence[str] = GROUPS,
    target: str = "drop",
    level: float | Sequence[float] = 0.85,
    trees: int = 10,
    min_leaf: int = 5,
    seed: int = 0,
) -> pd.DataFrame:
    """Return how often the interval holds the drop of networks of a group that was left out.

    A predictor is fitted without each group in turn, which has one group less to calibrate on, so
    that the level may have to be lower than that of a predictor of all.

    Args:
        level: one, or several to be told by the column nominal; others as in `fit`.

    Returns:
        One row per group and level: `groups`, nominal, networks, covered (share), length (mean),
        mae.

    Raises:
        ConfigurationError, DataError, MissingDependencyError: as in `fit` and `predict_table`.
    """
    require_columns(table, (*groups, target))
    codes = group_codes(table, groups)
    levels = [float(level)] if isinstance(level, int | float) else list(level)
    rows = []
    for train, test in leave_out_splits(codes):
        predictor = fit(
            table.iloc[train],
            features,
            groups=groups,
            target=target,
            trees=trees,
            min_leaf=min_leaf,
            seed=seed,
        )
        part = table.iloc[test]
        y = _finite_target(part, target)
        for nominal in levels:
            value, low, high = predictor.predict_table(part, nominal).to_numpy(np.float64).T
            rows.append(
                {
                    **part[list(groups)].iloc[0].to_dict(),
                    "nominal": nominal,
                    "networks": len(part),
                    "covered": float(((low <= y) & (y <= high)).mean()),
                    "length": float((high - low).mean()),
                    "mae": float(np.abs(value - y).mean()),
                }
            )
    return pd.DataFrame(rows)


# -- files ---------------------------------------------------------------------------------------


def write_predictor(
    path: FilePath, predictor: Predictor, provenance: Mapping[str, Any] | None = None
) -> None:
    """Write a predictor as an NPZ of arrays and JSON."""
    arrays = {
        "feature": predictor.trees.feature,
        "threshold": predictor.trees.threshold,
        "right": predictor.trees.right,
        "value": predictor.trees.value,
        "roots": predictor.trees.roots,
        "folds": predictor.trees.folds,
        "residuals": predictor.residuals,
        "residual_folds": predictor.residual_folds,
        "residual_groups": predictor.residual_groups,
    }
    metadata = {
        "kind": _KIND,
        "version": _VERSION,
        "columns": [[c.name, c.level, c.low, c.high] for c in predictor.columns],
        "features": predictor.features,
        "groups": list(predictor.groups),
        "encoding": predictor.encoding,
        "scores": predictor.scores,
        "provenance": dict(provenance or {}),
    }
    write_npz(path, arrays, metadata)


def read_predictor(path: FilePath) -> Predictor:
    """Read a predictor that `write_predictor` wrote; no code of the file is run.

    Raises:
        DataError: the file is missing, damaged or something else, or has another version.
    """
    arrays, metadata = read_npz(path)
    if metadata.get("kind") != _KIND:
        raise DataError(f"{path} is not a predictor; write one with espalier fit-predictor")
    if metadata.get("version") != _VERSION:
        raise DataError(
            f"{path} has version {metadata.get('version')} of the format, this espalier reads "
            f"{_VERSION}; fit it again with espalier fit-predictor"
        )
    try:
        predictor = _assembled(arrays, metadata)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is damaged ({error!r}); fit it again") from error
    fault = _fault(predictor)
    if fault:
        raise DataError(f"{path} is damaged: {fault}; fit it again")
    return predictor


def _assembled(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, Any]) -> Predictor:
    columns = tuple(
        Column(str(name), None if level is None else str(level), float(low), float(high))
        for name, level, low, high in metadata["columns"]
    )
    trees = Trees(*(arrays[name] for name in Trees.__dataclass_fields__))
    return Predictor(
        columns,
        trees,
        arrays["residuals"],
        arrays["residual_folds"],
        arrays["residual_groups"],
        str(metadata["features"]),
        tuple(map(str, metadata["groups"])),
        dict(metadata["encoding"]),
        dict(metadata["scores"]),
    )


def _fault(predictor: Predictor) -> str:
    """Return what is wrong with a predictor's arrays, or nothing.

    Children come after their node and before the next tree, so that every walk ends.
    """
    trees = predictor.trees
    kinds = {
        "feature": "i",
        "threshold": "f",
        "right": "i",
        "value": "f",
        "roots": "i",
        "folds": "i",
    }
    for name, kind in kinds.items():
        array = getattr(trees, name)
        if array.ndim != 1 or array.dtype.kind != kind or not len(array):
            return f"{name} has type {array.dtype} and shape {array.shape}"
    nodes = len(trees.feature)
    if any(len(getattr(trees, name)) != nodes for name in ("threshold", "right", "value")):
        return "the arrays of nodes differ in length"
    roots = trees.roots.astype(np.int64)
    if roots[0] != 0 or (np.diff(roots) <= 0).any() or roots[-1] >= nodes:
        return "the trees do not follow each other"
    inner = np.flatnonzero(trees.feature >= 0)
    ends = np.append(roots[1:], nodes)[np.searchsorted(roots, inner, side="right") - 1]
    right = trees.right[inner].astype(np.int64)
    if (right <= inner + 1).any() or (right >= ends).any():
        return "a node has no child of its own tree"
    if trees.feature.min() < -1 or trees.feature.max() >= len(predictor.columns):
        return "a node asks for a column that is not there"
    if not (np.isfinite(trees.value).all() and np.isfinite(trees.threshold).all()):
        return "a value is not finite"
    if len(trees.folds) != len(roots):
        return "a tree has no fold"
    folds = np.unique(trees.folds)
    if not np.array_equal(folds, np.arange(len(folds))):
        return "a fold has no tree"
    shape = predictor.residuals.shape
    for name in ("residuals", "residual_folds", "residual_groups"):
        array = getattr(predictor, name)
        kind = "f" if name == "residuals" else "i"
        if array.shape != shape or array.ndim != 1 or array.dtype.kind != kind or not len(array):
            return f"{name} has type {array.dtype} and shape {array.shape}"
    if not np.isfinite(predictor.residuals).all() or predictor.residuals.min() < 0:
        return "a residual is not a size"
    if predictor.residual_folds.min() < 0 or predictor.residual_folds.max() >= len(folds):
        return "a residual has no fold"
    return ""


# -- parts ---------------------------------------------------------------------------------------


def _finite_target(table: pd.DataFrame, target: str) -> np.ndarray:
    y = table[target].to_numpy(np.float64)
    if not np.isfinite(y).all():
        row = int((~np.isfinite(y)).argmax())
        raise DataError(f"{target!r} is {y[row]} in row {row}; drop networks without one")
    return y


def _columns(
    x: np.ndarray, names: Sequence[str], groups: Sequence[str], features: str
) -> tuple[Column, ...]:
    one_hot = {
        column
        for name in feature_names(features)
        if FEATURES[name].one_hot
        for column in FEATURES[name].columns
    }
    assert set(groups) == set(feature_columns(features))
    return tuple(
        Column(
            group,
            name[len(group) + 1 :] if group in one_hot and name != group else None,
            float(values.min()),
            float(values.max()),
        )
        for name, group, values in zip(names, groups, x.T, strict=True)
    )


def _fitted(x: np.ndarray, y: np.ndarray, trees: int, min_leaf: int, seed: int) -> list[Trees]:
    """Return the trees fitted to some rows, each with arrays of its own."""
    try:
        from sklearn.ensemble import ExtraTreesRegressor
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            "a predictor is fitted with scikit-learn; install espalier[train]. One that is fitted "
            "works without it"
        ) from error
    forest = ExtraTreesRegressor(
        trees, min_samples_leaf=min_leaf, random_state=seed & 0x7FFFFFFF, n_jobs=1
    ).fit(x, y)
    return [_exported(estimator.tree_) for estimator in forest.estimators_]


def _exported(tree: Any) -> Trees:
    leaf = tree.children_left < 0
    threshold = tree.threshold.astype(np.float32)
    # Rows are float32: the largest float32 not above the threshold splits them in the same way.
    above = threshold > tree.threshold
    threshold[above] = np.nextafter(threshold[above], np.float32(-np.inf))
    assert (tree.children_left[~leaf] == np.flatnonzero(~leaf) + 1).all()
    return Trees(
        feature=np.where(leaf, -1, tree.feature).astype(np.int16),
        threshold=np.where(leaf, np.float32(0), threshold),
        right=np.where(leaf, 0, tree.children_right).astype(np.int32),
        value=np.where(leaf, tree.value[:, 0, 0], 0).astype(np.float32),
        roots=np.zeros(1, dtype=np.int32),
        folds=np.zeros(1, dtype=np.int32),
    )


def _joined(folds: Sequence[Sequence[Trees]]) -> Trees:
    trees = [tree for fold in folds for tree in fold]
    sizes = np.array([len(tree.feature) for tree in trees])
    roots = (np.cumsum(sizes) - sizes).astype(np.int32)
    rights = [
        np.where(tree.feature >= 0, tree.right + root, 0).astype(np.int32)
        for tree, root in zip(trees, roots, strict=True)
    ]
    return Trees(
        feature=np.concatenate([tree.feature for tree in trees]),
        threshold=np.concatenate([tree.threshold for tree in trees]),
        right=np.concatenate(rights),
        value=np.concatenate([tree.value for tree in trees]),
        roots=roots,
        folds=np.repeat(np.arange(len(folds)), [len(fold) for fold in folds]).astype(np.int32),
    )


def _group_weights(groups: np.ndarray) -> np.ndarray:
    """Return the weight of each residual: groups are equal, one more is that of the new network."""
    _, codes, counts = np.unique(groups, return_inverse=True, return_counts=True)
    return 1 / (counts[codes] * (len(counts) + 1))


def _weighted_quantiles(values: np.ndarray, weights: np.ndarray, level: float) -> np.ndarray:
    """Return for each row of values the least one that holds a share `level` of the weight."""
    order = np.argsort(values, axis=1, kind="stable")
    reached = np.cumsum(weights[order], axis=1)
    # Sums of weights carry rounding errors.
    at = (reached < level - 1e-9).sum(axis=1)
    sorted_values = np.take_along_axis(values, order, axis=1)
    return sorted_values[np.arange(len(values)), np.minimum(at, values.shape[1] - 1)]
