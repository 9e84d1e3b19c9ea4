"""What a predictor leans on: Pearson weights, permutation importance and SHAP values.

Topometrics are strongly correlated, and two of them carry no topology at all (see `REDUNDANT` of
`espalier.topology.topometrics`): importance says what a predictor used, not what matters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from espalier.errors import DataError, MissingDependencyError
from espalier.prediction.classification import (
    CATEGORIES,
    balanced_accuracy,
    build_classifier,
    class_splits,
    fit_classes,
    labels_of,
)
from espalier.prediction.features import (
    feature_matrix,
    require_columns,
    rows_and_columns,
    scaled_within,
)
from espalier.prediction.regression import build_regressor, fit_counting, r2_score
from espalier.prediction.splits import Split, protocol_splits
from espalier.seeds import derive_seed, numpy_generator

PEARSON_REGRESSORS = ("linear", "ridge", "lasso", "elastic_net", "bayesian_ridge")
"""Five of the eight: Huber, principal components and ARD change the means little."""

Predict = Callable[[np.ndarray], np.ndarray]


class ShapValues(NamedTuple):
    """What each feature adds to each prediction.

    Attributes:
        values: (rows, features).
        base: (rows,), the prediction without any feature; base + values.sum(1) is the prediction.
    """

    values: np.ndarray
    base: np.ndarray


def pearson_importance(
    table: pd.DataFrame,
    features: str = "topometrics",
    regressors: Sequence[str] = PEARSON_REGRESSORS,
    *,
    settings: Mapping[str, np.ndarray] | None = None,
    target: str = "drop",
) -> pd.DataFrame:
    """Return Pearson's r of each feature with the output of regressors, as TMLR Figures 3 and 4.

    Regressors are fitted on all rows of a setting, scaled to [0, 1], and asked for the same rows;
    r is averaged over them. It is close to 1.2 times the r with the drop itself.

    Args:
        table: one row per network.
        features: an expression of `espalier.prediction.features`.
        regressors: names; none of them stands for the target itself.
        settings: row positions by name; None is one setting "all".
        target: column to predict.

    Returns:
        One row per feature (the index), one column per setting; NaN for a constant feature.

    Raises:
        ConfigurationError: a name is unknown.
        DataError: a column is missing or not finite.
    """
    require_columns(table, [target])
    chosen = {"all": np.arange(len(table))} if settings is None else settings
    columns = {}
    names: tuple[str, ...] = ()
    for setting, rows in chosen.items():
        part = rows_and_columns(table, rows)
        matrix = feature_matrix(part, features)
        names = matrix.names
        x = scaled_within(matrix.values, part, ())
        y = part[target].to_numpy(np.float64)
        outputs = [y] if not regressors else []
        for name in regressors:
            estimator = build_regressor(name, scaling="published")
            fit_counting(estimator, x, y)
            outputs.append(estimator.predict(x))
        columns[setting] = np.mean([_pearson(x, output) for output in outputs], axis=0)
    return pd.DataFrame(columns, index=pd.Index(names, name="feature"))


def regression_importance(
    table: pd.DataFrame,
    features: str = "topometrics",
    regressor: str = "extra_trees",
    *,
    protocol: str = "grouped",
    settings: Mapping[str, np.ndarray] | None = None,
    target: str = "drop",
    folds: int = 5,
    repeats: int = 10,
    seed: int = 0,
) -> pd.DataFrame:
    """Return by how much R2 falls when one feature of the test rows is shuffled.

    Args:
        table: one row per network.
        features: an expression of `espalier.prediction.features`; the one-hot columns of one
            feature are shuffled together.
        regressor: a name of `regression.REGRESSORS`.
        protocol: a name of `splits.PROTOCOLS`.
        settings: row positions by name; None is one setting "all".
        target: column to predict.
        folds, seed: of the splits.
        repeats: shuffles per fold.

    Returns:
        Columns setting, feature, importance (mean over folds and shuffles), sd (of the folds'
        means, n - 1), score (R2 unshuffled, mean over folds), folds.

    Raises:
        ConfigurationError: a name is unknown.
        DataError: a column is missing or not finite, or the split is not possible.
        MissingDependencyError: the regressor's package is not installed.
    """
    require_columns(table, [target])
    chosen = {"all": np.arange(len(table))} if settings is None else settings
    parts = []
    for setting, rows in chosen.items():
        part = rows_and_columns(table, rows)
        y = part[target].to_numpy(np.float64)
        splits = protocol_splits(part, protocol, folds=folds, seed=seed)

        def fit(x: np.ndarray, observed: np.ndarray) -> Predict:
            estimator = build_regressor(regressor, derive_seed(seed, regressor))
            fit_counting(estimator, x, observed)
            return estimator.predict

        found = _shuffled(part, features, y, splits, fit, r2_score, repeats, seed)
        parts.append(found.assign(setting=setting))
    return _joined(parts)


def classification_importance(
    table: pd.DataFrame,
    target: str = "category",
    features: str = "topometrics",
    classifier: str = "xgboost",
    *,
    protocol: str = "stratified",
    settings: Mapping[str, np.ndarray] | None = None,
    categories: Mapping[str, str] = CATEGORIES,
    folds: int = 5,
    repeats: int = 10,
    seed: int = 0,
) -> pd.DataFrame:
    """Return by how much balanced accuracy falls when one feature of the test rows is shuffled.

    Arguments, columns and errors are those of `regression_importance` and
    `classification.classify`.
    """
    chosen = {"all": np.arange(len(table))} if settings is None else settings
    parts = []
    for setting, rows in chosen.items():
        part = rows_and_columns(table, rows)
        labels = labels_of(part, target, categories)
        splits = class_splits(part, labels, target, protocol, folds, seed)

        def fit(x: np.ndarray, observed: np.ndarray) -> Predict:
            return fit_classes(
                build_classifier(classifier, derive_seed(seed, classifier)), x, observed
            )

        found = _shuffled(part, features, labels, splits, fit, balanced_accuracy, repeats, seed)
        parts.append(found.assign(setting=setting))
    return _joined(parts)


def shap_values(estimator: Any, x: np.ndarray, background: np.ndarray, seed: int = 0) -> ShapValues:
    """Return SHAP values of a fitted regressor, by the package shap.

    Trees are explained exactly along their paths; other regressors by permutations against the
    background.

    Args:
        estimator: fitted, one of `regression.build_regressor` or a pipeline that ends in one.
        x: (rows, features) to explain.
        background: (any, features), what a missing feature is replaced from; trees do not need it.
        seed: of the permutations.

    Raises:
        MissingDependencyError: shap is not installed.
    """
    try:
        shap: Any = import_module("shap")
    except ImportError as error:
        raise MissingDependencyError(
            "shap is not installed; `pip install shap` brings it, or use regression_importance"
        ) from error
    steps = [step for _, step in estimator.steps] if hasattr(estimator, "steps") else [estimator]
    learner = steps[-1]
    is_tree = hasattr(learner, "get_booster") or hasattr(learner, "estimators_")
    if is_tree:
        for step in steps[:-1]:
            x = step.transform(x)
        explanation = shap.TreeExplainer(learner)(x)
    else:
        masker = shap.maskers.Independent(background, max_samples=len(background))
        explainer = shap.PermutationExplainer(estimator.predict, masker, seed=seed)
        explanation = explainer(x, max_evals=max(500, 10 * (2 * x.shape[1] + 1)), silent=True)
    values = np.asarray(explanation.values, dtype=np.float64)
    base = np.asarray(explanation.base_values, dtype=np.float64).ravel()
    return ShapValues(values, np.broadcast_to(base, len(values)).copy())


def shap_importance(
    table: pd.DataFrame,
    features: str = "topometrics",
    regressor: str = "extra_trees",
    *,
    protocol: str = "grouped",
    settings: Mapping[str, np.ndarray] | None = None,
    target: str = "drop",
    folds: int = 5,
    seed: int = 0,
) -> pd.DataFrame:
    """Return the mean absolute SHAP value of each feature over test rows, out of fold.

    Args:
        table, features, regressor, protocol, settings, target, folds, seed: as in
            `regression_importance`.

    Returns:
        Columns setting, feature, importance (in units of the target), direction: Pearson's r of
        the feature with its SHAP values, NaN where one of them is constant. One-hot columns stay
        apart.

    Raises:
        ConfigurationError, DataError: as in `regression_importance`.
        MissingDependencyError: shap, or the regressor's package, is not installed.
    """
    require_columns(table, [target])
    chosen = {"all": np.arange(len(table))} if settings is None else settings
    parts = []
    for setting, rows in chosen.items():
        part = rows_and_columns(table, rows)
        matrix = feature_matrix(part, features)
        y = part[target].to_numpy(np.float64)
        values = np.zeros_like(matrix.values)
        for train, test in protocol_splits(part, protocol, folds=folds, seed=seed):
            estimator = build_regressor(regressor, derive_seed(seed, regressor))
            fit_counting(estimator, matrix.values[train], y[train])
            background = matrix.values[train]
            values[test] = shap_values(estimator, matrix.values[test], background, seed).values
        direction = [
            float(_pearson(matrix.values[:, [k]], values[:, k])[0]) for k in range(values.shape[1])
        ]
        found = {
            "feature": matrix.names,
            "importance": np.abs(values).mean(axis=0),
            "direction": direction,
        }
        parts.append(pd.DataFrame(found).assign(setting=setting))
    return _joined(parts)


def _shuffled(
    table: pd.DataFrame,
    features: str,
    outcomes: np.ndarray,
    splits: Sequence[Split],
    fit: Callable[[np.ndarray, np.ndarray], Predict],
    score: Callable[[np.ndarray, np.ndarray], float],
    repeats: int,
    seed: int,
) -> pd.DataFrame:
    """Return the fall of the score of each feature, over folds and shuffles of the test rows."""
    from threadpoolctl import threadpool_limits

    if repeats < 1:
        raise DataError(f"{repeats} shuffles: at least one is needed")
    matrix = feature_matrix(table, features)
    groups = list(dict.fromkeys(matrix.groups))
    columns = [np.flatnonzero(np.array(matrix.groups) == group) for group in groups]
    falls = np.full((len(splits), len(groups)), np.nan)
    scores = np.full(len(splits), np.nan)
    with threadpool_limits(1):
        for fold, (train, test) in enumerate(splits):
            predict = fit(matrix.values[train], outcomes[train])
            rows = matrix.values[test]
            scores[fold] = score(outcomes[test], predict(rows))
            for k, (group, members) in enumerate(zip(groups, columns, strict=True)):
                generator = numpy_generator(seed, "shuffle", fold, group)
                stacked = np.tile(rows, (repeats, 1, 1))
                for copy in stacked:
                    copy[:, members] = rows[generator.permutation(len(rows))][:, members]
                predicted = predict(stacked.reshape(-1, rows.shape[1])).reshape(repeats, -1)
                shuffled = [score(outcomes[test], p) for p in predicted]
                falls[fold, k] = scores[fold] - np.mean(shuffled)
    scored = np.isfinite(scores)
    if not scored.any():
        raise DataError("no fold has a score: what its test rows observe is all equal")
    falls, scores = falls[scored], scores[scored]
    spread = falls.std(axis=0, ddof=1) if len(falls) > 1 else np.full(len(groups), np.nan)
    return pd.DataFrame(
        {
            "feature": groups,
            "importance": falls.mean(axis=0),
            "sd": spread,
            "score": float(scores.mean()),
            "folds": len(falls),
        }
    )


def _joined(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    joined = pd.concat(parts, ignore_index=True)
    return rows_and_columns(joined, None, ["setting", *[c for c in joined if c != "setting"]])


def _pearson(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return r of each column with y; NaN where either is constant."""
    x = x - x.mean(axis=0)
    y = y - y.mean()
    spread = np.sqrt((x**2).sum(axis=0) * (y**2).sum())
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(spread > 0, x.T @ y / spread, np.nan)
