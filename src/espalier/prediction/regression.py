"""Regression of the accuracy drop from topometrics, by the papers' protocol and by honest ones.

`regress` repeats a cross-validation over many runs and settings. `evaluate` predicts every network
once, out of fold, from whole candidates (features, scaling, cell means, learner), and
`select_and_evaluate` picks the candidate of each fold by an inner validation on its training rows,
so that no test row has a say. `bootstrap_scores` says how sure a score or a difference is.

The papers' protocol was inferred from their tables (docs/prediction.md); they came without code.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from espalier.errors import ConfigurationError, DataError, MissingDependencyError, unknown_name
from espalier.prediction.features import (
    CONFIGURATION,
    KEYS,
    feature_matrix,
    group_codes,
    require_columns,
    require_unique,
    rows_and_columns,
    scaled_within,
)
from espalier.prediction.names import LINEAR
from espalier.prediction.splits import Split, is_random, protocol_splits
from espalier.seeds import derive_seed, numpy_generator

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator

SCALINGS = ("fold", "published")

CELL = ("model", "dataset", "sparsity")
"""The columns of a cell: what is known of a network but its pruner."""

_SMALL_RIDGE = 0.1
_SMALL_LASSO = 1e-4


@dataclass(frozen=True)
class Regressor:
    """A learner.

    Attributes:
        build: returns a new, unfitted one for a seed.
        random: whether another seed gives another fit.
    """

    build: Callable[[int], Any]
    random: bool = False


def _linear(seed: int) -> BaseEstimator:
    from sklearn.linear_model import LinearRegression

    return LinearRegression()


def _ridge(seed: int) -> BaseEstimator:
    from sklearn.linear_model import Ridge

    return Ridge(alpha=_SMALL_RIDGE)


def _lasso(seed: int) -> BaseEstimator:
    from sklearn.linear_model import Lasso

    return Lasso(alpha=_SMALL_LASSO)


def _elastic_net(seed: int) -> BaseEstimator:
    from sklearn.linear_model import ElasticNet

    return ElasticNet(alpha=_SMALL_LASSO)


def _huber(seed: int) -> BaseEstimator:
    from sklearn.linear_model import HuberRegressor

    return HuberRegressor()


def _principal_components(seed: int) -> BaseEstimator:
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline

    return make_pipeline(PCA(), LinearRegression())


def _bayesian_ridge(seed: int) -> BaseEstimator:
    from sklearn.linear_model import BayesianRidge

    return BayesianRidge()


def _ard(seed: int) -> BaseEstimator:
    from sklearn.linear_model import ARDRegression

    return ARDRegression()


def _mean(seed: int) -> BaseEstimator:
    from sklearn.dummy import DummyRegressor

    return DummyRegressor()


def _extra_trees(seed: int) -> BaseEstimator:
    from sklearn.ensemble import ExtraTreesRegressor

    return ExtraTreesRegressor(n_estimators=150, random_state=seed, n_jobs=1)


def _extra_trees_50(seed: int) -> BaseEstimator:
    return _extra_trees(seed).set_params(n_estimators=50)


def _gaussian_process(seed: int) -> BaseEstimator:
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    kernel = ConstantKernel(1.0, (1e-3, 1e3)) * Matern(1.0, (1e-2, 1e2), nu=1.5) + WhiteKernel(
        0.1, (1e-6, 1e1)
    )
    return GaussianProcessRegressor(kernel, normalize_y=True, random_state=seed)


def _xgboost(seed: int) -> BaseEstimator:
    return import_xgboost().XGBRegressor(random_state=seed, n_jobs=1)


def _xgboost_slow(seed: int) -> BaseEstimator:
    return import_xgboost().XGBRegressor(
        n_estimators=400,
        max_depth=4,
        learning_rate=0.05,
        subsample=0.8,
        colsample_bytree=0.8,
        random_state=seed,
        n_jobs=1,
    )


REGRESSORS: Mapping[str, Regressor] = {
    "linear": Regressor(_linear),
    "ridge": Regressor(_ridge),
    "lasso": Regressor(_lasso),
    "elastic_net": Regressor(_elastic_net),
    "huber": Regressor(_huber),
    "principal_components": Regressor(_principal_components),
    "bayesian_ridge": Regressor(_bayesian_ridge),
    "ard": Regressor(_ard),
    "mean": Regressor(_mean),
    "extra_trees": Regressor(_extra_trees, random=True),
    "extra_trees_50": Regressor(_extra_trees_50, random=True),
    "gaussian_process": Regressor(_gaussian_process),
    "xgboost": Regressor(_xgboost),
    "xgboost_slow": Regressor(_xgboost_slow, random=True),
}
"""By name. "mean" predicts the training mean; "extra_trees" has 150 trees; "xgboost" has the
package's defaults, which draw no random number; "xgboost_slow" has 400 trees of depth 4 at a rate
of 0.05 on 0.8 of rows and columns.
"""


def import_xgboost() -> Any:
    """Return the module xgboost.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import xgboost  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise MissingDependencyError(
            "xgboost is not installed; `pip install xgboost-cpu` (without the CUDA libraries) or "
            "`pip install xgboost` brings it, or take extra_trees"
        ) from error
    return xgboost


def build_regressor(name: str, seed: int = 0, *, scaling: str = "fold") -> Any:
    """Return an unfitted scikit-learn regressor.

    Penalties of the linear ones are those that reproduce TMLR Table 3: ridge 0.1, lasso and
    elastic net 1e-4; the rest has scikit-learn's defaults, and principal components keeps all.

    Args:
        name: of `REGRESSORS`.
        seed: of a learner that draws random numbers.
        scaling: "fold" puts min-max scaling fitted on the training rows in front; "published" does
            not, because the papers scaled all rows before they split them.

    Raises:
        ConfigurationError: the name or the scaling is unknown.
        MissingDependencyError: the learner's package is not installed.
    """
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MinMaxScaler

    if name not in REGRESSORS:
        raise unknown_name("regressor", name, REGRESSORS)
    if scaling not in SCALINGS:
        raise unknown_name("scaling", scaling, SCALINGS)
    estimator = REGRESSORS[name].build(seed & 0x7FFFFFFF)
    return make_pipeline(MinMaxScaler(), estimator) if scaling == "fold" else estimator


def in_parallel(
    function: Callable[..., Any], tasks: Sequence[Sequence[Any]], n_jobs: int
) -> list[Any]:
    """Return function(*task) of every task, in order, over `n_jobs` processes."""
    from joblib import Parallel, delayed

    results: Any = Parallel(n_jobs=n_jobs)(delayed(function)(*task) for task in tasks)
    return list(results)


# -- scores --------------------------------------------------------------------------------------


def r2_score(observed: np.ndarray, predicted: np.ndarray) -> float:
    """Return 1 - residual / total sum of squares; NaN where all that is observed is equal."""
    total = float(((observed - observed.mean()) ** 2).sum())
    if len(observed) < 2 or total == 0:
        return float("nan")
    return 1 - float(((observed - predicted) ** 2).sum()) / total


def adjusted_r2(r2: float, rows: int, columns: int) -> float:
    """Return 1 - (1 - R2) (n - 1) / (n - p - 1) for n rows and p columns.

    Raises:
        DataError: there are too few rows for it to exist, n <= p + 1.
    """
    if rows <= columns + 1:
        raise DataError(
            f"{rows} rows for {columns} features: the adjusted R2 needs at least {columns + 2} "
            "rows; take fewer features or more networks"
        )
    return 1 - (1 - r2) * (rows - 1) / (rows - columns - 1)


def settings_of(
    table: pd.DataFrame, by: Sequence[str] = ("sparsity", "model"), *, whole: str | None = None
) -> dict[str, np.ndarray]:
    """Return the rows of each sparsity, then of each architecture, as the papers' columns.

    Args:
        table: one row per network.
        by: columns whose levels are settings.
        whole: name of a first setting with all rows, for example "General"; None for none.

    Returns:
        Row positions by setting; a sparsity is named as "0.9".

    Raises:
        DataError: a column is missing, or levels of two columns have one name.
    """
    require_columns(table, by)
    found: dict[str, np.ndarray] = {} if whole is None else {whole: np.arange(len(table))}
    for column in by:
        for level in sorted(table[column].unique()):
            name = f"{level:g}" if isinstance(level, float) else str(level)
            if name in found:
                raise DataError(f"two settings are named {name!r}")
            found[name] = np.flatnonzero(table[column] == level)
    return found


# -- repeated cross-validation -------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Regression:
    """Scores of repeated cross-validation, and predictions of its first runs.

    Attributes:
        scores: one row per (setting, features, regressor, run): protocol, n, p, folds; r2,
            adjusted_r2 (n the whole setting), adjusted_r2_train (n the training rows) and mae, all
            means over the folds; r2_pooled over all rows; unscored_folds, those without an R2
            because all observed are equal; unconverged, the fits that met their limit of
            iterations.
        predictions: the key of the network, setting, features, regressor, run, observed,
            predicted, out of fold.
    """

    scores: pd.DataFrame
    predictions: pd.DataFrame

    def summary(self, over: Sequence[str] = ("regressor", "run")) -> pd.DataFrame:
        """Return means over regressors and runs, one row per (protocol, setting, features, ...).

        The sd of the adjusted R2 is that of the means of the runs (n - 1; NaN for one run).

        Args:
            over: columns to average over, "run" among them; keep "regressor" out of it for one
                row per regressor.
        """
        names = ("protocol", "setting", "features", "regressor")
        keys = [name for name in names if name not in over]
        measures = ["r2", "adjusted_r2", "adjusted_r2_train", "mae", "r2_pooled"]
        groups: Any = self.scores.groupby(keys, sort=False)
        runs: Any = self.scores.groupby([*keys, "run"], sort=False)["adjusted_r2"].mean()
        summary = groups[["n", "p"]].first().join(groups[measures].mean())
        summary["adjusted_r2_sd"] = runs.groupby(level=keys, sort=False).std()
        summary["runs"] = groups["run"].nunique()
        summary["unconverged"] = groups["unconverged"].sum()
        return summary.reset_index()


def regress(
    table: pd.DataFrame,
    features: str | Sequence[str] = "topometrics",
    regressors: Sequence[str] = LINEAR,
    *,
    protocol: str = "published",
    settings: Mapping[str, np.ndarray] | None = None,
    scaling: str | None = None,
    target: str = "drop",
    folds: int = 5,
    runs: int = 100,
    seed: int = 0,
    adjust_for: int | None = None,
    keep_runs: int = 1,
    n_jobs: int = 1,
) -> Regression:
    """Return how well feature sets predict the accuracy drop, over settings, folds and runs.

    By the papers' protocol the rows of a setting are scaled to [0, 1], shuffled, cut into five
    folds, and R2 and mean absolute error averaged over folds, regressors and runs. What another
    run would repeat exactly (a split without chance, a learner without chance) is done once.

    Args:
        table: one row per network.
        features: one or more expressions of `espalier.prediction.features`. Put the controls
            beside the topometrics: they tell what no graph is needed for.
        regressors: names of `REGRESSORS`.
        protocol: a name of `splits.PROTOCOLS`. "published" and "stratified" leak: the seeds of a
            configuration are on both sides.
        settings: row positions by name; None is one setting "all". See `settings_of`.
        scaling: "fold" or "published" (over the setting, before the split); None takes
            "published" for the two protocols of the papers.
        target: column to predict.
        folds, runs, seed: of the cross-validation.
        adjust_for: p of the adjusted R2; None takes the columns of the feature set.
        keep_runs: of how many runs the predictions are kept.
        n_jobs: processes.

    Returns:
        Scores in the order setting, features, regressor, run. They do not depend on `n_jobs`.

    Raises:
        ConfigurationError: a name is unknown.
        DataError: rows repeat, columns are missing or not finite, a setting has too few rows for
            the features or folds, or too few levels for the protocol.
        MissingDependencyError: a regressor's package is not installed.
    """
    expressions = [features] if isinstance(features, str) else list(features)
    if scaling is None:
        scaling = "published" if protocol in ("published", "stratified") else "fold"
    for name in regressors:
        build_regressor(name, scaling=scaling)
    if runs < 1:
        raise ConfigurationError(f"runs is {runs}; it must be at least 1")
    _check(table, target)
    chosen = {"all": np.arange(len(table))} if settings is None else settings
    tasks, cases = [], []
    for setting, rows in chosen.items():
        part = rows_and_columns(table, rows)
        outcomes = part[target].to_numpy(np.float64)
        splits = [
            protocol_splits(part, protocol, folds=folds, seed=derive_seed(seed, "run", run))
            for run in range(runs if is_random(protocol) else 1)
        ]
        for expression in expressions:
            matrix = feature_matrix(part, expression).values
            columns = adjust_for or matrix.shape[1]
            adjusted_r2(0.0, min(len(train) for split in splits for train, _ in split), columns)
            if scaling == "published":
                matrix = scaled_within(matrix, part, ())
            for run in range(runs):
                fresh = [r for r in regressors if run < len(splits) or REGRESSORS[r].random]
                if fresh:
                    split = splits[run % len(splits)]
                    tasks.append((matrix, outcomes, split, fresh, scaling, seed, run))
                    cases.append((setting, expression, run, fresh, split, columns))
    results = in_parallel(_one_run, tasks, n_jobs)
    scores, predictions = [], []
    for (setting, expression, run, fresh, split, columns), result in zip(
        cases, results, strict=True
    ):
        part = rows_and_columns(table, chosen[setting])
        outcomes = part[target].to_numpy(np.float64)
        for name, (predicted, unconverged) in zip(fresh, result, strict=True):
            case = {"setting": setting, "features": expression, "regressor": name, "run": run}
            scores.append(
                {
                    "protocol": protocol,
                    **case,
                    "n": len(part),
                    "p": columns,
                    "folds": len(split),
                    **_fold_scores(outcomes, predicted, split, columns),
                    "unconverged": unconverged,
                }
            )
            if run < keep_runs:
                kept = part[list(KEYS)].assign(**case, observed=outcomes, predicted=predicted)
                predictions.append(kept)
    ordered = _ordered(pd.DataFrame(scores), list(chosen), expressions, list(regressors))
    kept = pd.concat(predictions, ignore_index=True) if predictions else pd.DataFrame()
    return Regression(ordered, kept)


def compare_with_published(
    summary: pd.DataFrame,
    published: pd.DataFrame,
    ours: str,
    theirs: str,
    *,
    on: Sequence[str] = ("setting",),
    tolerance: float = 0.02,
    digits: int = 2,
) -> pd.DataFrame:
    """Return our cells beside published ones, with their differences.

    Args:
        summary: of `Regression.summary` or `Classification.summary`.
        published: published cells.
        ours: the column of the summary.
        theirs: the column of the published cells.
        on: columns that both tables share and that name a cell.
        tolerance: largest absolute difference that counts as agreement.
        digits: after the point of the published cells.

    Returns:
        Columns `on`, "published", "ours", "difference", "agrees", and "agrees_rounded": whether
        ours, rounded as the published one was, is within the tolerance of it.

    Raises:
        DataError: a column is missing, or no cell is in both.
    """
    require_columns(summary, (*on, ours), "our summary")
    require_columns(published, (*on, theirs), "the published cells")
    cells = rows_and_columns(published, None, [*on, theirs]).rename(columns={theirs: "published"})
    found = rows_and_columns(summary, None, [*on, ours]).rename(columns={ours: "ours"})
    cells = cells.merge(found, on=list(on))
    if cells.empty:
        raise DataError(f"no published cell has the {list(on)} of ours")
    difference = cells["ours"] - cells["published"]
    rounded = (cells["ours"].round(digits) - cells["published"]).abs().round(digits + 2)
    return cells.assign(
        difference=difference,
        agrees=difference.abs() <= tolerance,
        agrees_rounded=rounded <= tolerance,
    )


def _one_run(
    x: np.ndarray,
    y: np.ndarray,
    splits: Sequence[Split],
    regressors: Sequence[str],
    scaling: str,
    seed: int,
    run: int,
) -> list[tuple[np.ndarray, int]]:
    """Return out-of-fold predictions and the number of unconverged fits of each regressor."""
    found = []
    with _quick(regressors):
        for name in regressors:
            stream = derive_seed(seed, name, run)
            build = partial(build_regressor, name, stream, scaling=scaling)
            found.append(_out_of_fold(x, y, splits, build))
    return found


@contextmanager
def _quick(regressors: Sequence[str]) -> Iterator[None]:
    """One thread, and no check of numbers and options that were checked before.

    On small matrices threads cost more than they bring, and one gives the same bits everywhere.
    """
    from sklearn import config_context
    from threadpoolctl import threadpool_limits

    # The limit reaches only libraries that are loaded.
    for name in regressors:
        build_regressor(name)
    with threadpool_limits(1), config_context(assume_finite=True, skip_parameter_validation=True):
        yield


def _out_of_fold(
    x: np.ndarray,
    y: np.ndarray,
    splits: Sequence[Split],
    build: Callable[[], Any],
    cells: Sequence[np.ndarray] = (),
) -> tuple[np.ndarray, int]:
    """Return the prediction of each row by the fold that tests it (NaN if none), and a count."""
    predicted = np.full(len(y), np.nan)
    unconverged = 0
    for train, test in splits:
        offset = _cell_means(y, cells, train) if cells else np.zeros(len(y))
        estimator = build()
        unconverged += fit_counting(estimator, x[train], y[train] - offset[train])
        predicted[test] = offset[test] + estimator.predict(x[test])
    return predicted, unconverged


def fit_counting(estimator: Any, x: np.ndarray, y: np.ndarray) -> int:
    """Fit, and return 1 if the learner met its limit of iterations.

    The published protocol has unconverged fits (Huber at its default limit), so that they are
    counted, not refused.
    """
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        estimator.fit(x, y)
    others = [w for w in caught if not issubclass(w.category, ConvergenceWarning)]
    for warning in others:
        warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return int(len(others) < len(caught))


def _cell_means(y: np.ndarray, cells: Sequence[np.ndarray], train: np.ndarray) -> np.ndarray:
    """Return for every row the mean of the training rows of its finest cell that has any."""
    means = np.full(len(y), y[train].mean())
    for codes in reversed(cells):
        counts = np.bincount(codes[train], minlength=codes.max() + 1)
        sums = np.bincount(codes[train], weights=y[train], minlength=codes.max() + 1)
        known = counts[codes] > 0
        means[known] = sums[codes[known]] / counts[codes[known]]
    return means


def _fold_scores(
    y: np.ndarray, predicted: np.ndarray, splits: Sequence[Split], columns: int
) -> dict[str, float]:
    r2 = np.array([r2_score(y[test], predicted[test]) for _, test in splits])
    train = np.array([len(train) for train, _ in splits])
    scored = np.isfinite(r2)
    by_train = [adjusted_r2(v, n, columns) for v, n in zip(r2[scored], train[scored], strict=True)]
    mean = float(r2[scored].mean()) if scored.any() else float("nan")
    return {
        "r2": mean,
        "adjusted_r2": adjusted_r2(mean, len(y), columns),
        "adjusted_r2_train": float(np.mean(by_train)) if by_train else float("nan"),
        "mae": float(np.mean([np.abs(y[t] - predicted[t]).mean() for _, t in splits])),
        "r2_pooled": r2_score(y, predicted),
        "unscored_folds": int((~scored).sum()),
    }


def _check(table: pd.DataFrame, target: str) -> None:
    require_unique(table)
    require_columns(table, [target])
    bad = ~np.isfinite(table[target].to_numpy(np.float64))
    if bad.any():
        raise DataError(
            f"{int(bad.sum())} networks have no finite {target!r} (first in row "
            f"{int(bad.argmax())}); drop them"
        )


def _ordered(
    scores: pd.DataFrame, settings: list[str], features: list[str], regressors: list[str]
) -> pd.DataFrame:
    places = {"setting": settings, "features": features, "regressor": regressors}
    order = pd.DataFrame({c: scores[c].map(names.index) for c, names in places.items()})
    order["run"] = scores["run"]
    return scores.loc[order.sort_values(list(order.columns), kind="stable").index].reset_index(
        drop=True
    )


# -- whole candidates, and their choice by inner validation --------------------------------------


@dataclass(frozen=True)
class Candidate:
    """A way to predict: features, their scaling, what is subtracted first, and a learner.

    Attributes:
        regressor: a name of `REGRESSORS`.
        features: an expression of `espalier.prediction.features`; "" for the regressor "mean"
            stands for no features.
        scale_within: columns; topometrics are scaled over the rows that agree in them. This uses
            the features (not the drops) of the networks that are predicted. Empty: min-max scaling
            fitted on the training rows.
        cells: columns; the mean drop of the training networks that agree in them is subtracted
            and the learner predicts the rest. Where no training network agrees, the first column
            is given up, then the second, and at last the mean of all is taken.
        name: what tables call it; empty: made of the rest.
    """

    regressor: str
    features: str = "topometrics"
    scale_within: tuple[str, ...] = ()
    cells: tuple[str, ...] = ()
    name: str = ""

    @property
    def label(self) -> str:
        """Return the name, or one made of the rest: "dataset mean + extra_trees(pruner)"."""
        if self.name:
            return self.name
        inside = self.features + (
            f" within {'+'.join(self.scale_within)}" * bool(self.scale_within)
        )
        learner = "" if self.regressor == "mean" else f"{self.regressor}({inside})"
        parts = [f"{'+'.join(self.cells)} mean" if self.cells else "", learner]
        return " + ".join(part for part in parts if part) or "mean"


_IDENTITIES = "sparsity+dataset+architecture"

CELL_MEAN = Candidate("mean", "", cells=CELL, name="cell mean")
CELL_AND_PRUNER = Candidate(
    "extra_trees", f"pruner+{_IDENTITIES}", cells=CELL, name="cell mean + pruner"
)
CELL_AND_TOPOMETRICS = Candidate(
    "extra_trees",
    f"topometrics+{_IDENTITIES}",
    scale_within=CELL,
    cells=CELL,
    name="cell mean + topometrics",
)
"""For known cells: the mean alone, the control that matters (the same learner told the pruner, no
graph), and topometrics in the pruner's place. Sparsity is a number: the same control with one-hot
sparsities is much weaker, and topometrics would look better than they are."""

LEAVE_OUT_CANDIDATES = (
    Candidate("ridge", "topometrics"),
    Candidate("extra_trees_50", "topometrics"),
    Candidate("extra_trees_50", "topometrics", scale_within=("model", "dataset")),
    Candidate("extra_trees_50", "topometrics+sparsity+dataset", scale_within=("model", "dataset")),
    Candidate("extra_trees_50", "topometrics+sparsity+dataset"),
)
"""Candidates with a graph, for the leave-one-out protocols; few trees, because many are fitted."""

LEAVE_OUT_CONTROLS = (
    CELL_MEAN,
    Candidate("ridge", "sparsity+dataset"),
    Candidate("ridge", "sparsity+dataset+architecture"),
    Candidate("ridge", "sparsity+dataset+architecture+pruner"),
    Candidate("extra_trees_50", "sparsity+dataset+architecture"),
    Candidate("extra_trees_50", "sparsity+dataset+architecture+pruner"),
)
"""The same without any graph; sparsity is a number, so that an unseen one is not a blank."""


def evaluate(
    table: pd.DataFrame,
    candidates: Sequence[Candidate],
    *,
    protocol: str = "grouped",
    target: str = "drop",
    folds: int = 5,
    seed: int = 0,
    n_jobs: int = 1,
) -> pd.DataFrame:
    """Return the out-of-fold prediction of every network by every candidate, on equal folds.

    Returns:
        The table's keys and its rows' order, "observed", and one column per candidate's label.

    Raises:
        ConfigurationError: a name is unknown, or two candidates have one label.
        DataError: as in `regress`.
        MissingDependencyError: a regressor's package is not installed.
    """
    _check_candidates(candidates)
    _check(table, target)
    y = table[target].to_numpy(np.float64)
    splits = protocol_splits(table, protocol, folds=folds, seed=seed)
    prepared = [_prepared(table, candidate) for candidate in candidates]
    tasks = [
        (x, y, cells, splits, candidate, seed)
        for candidate, (x, cells) in zip(candidates, prepared, strict=True)
    ]
    results = in_parallel(_candidate_out_of_fold, tasks, n_jobs)
    columns = {c.label: r for c, r in zip(candidates, results, strict=True)}
    return table[list(KEYS)].assign(observed=y, **columns).reset_index(drop=True)


def select_and_evaluate(
    table: pd.DataFrame,
    candidates: Sequence[Candidate],
    *,
    protocol: str = "grouped",
    inner: str | None = None,
    target: str = "drop",
    folds: int = 5,
    seed: int = 0,
    n_jobs: int = 1,
) -> pd.DataFrame:
    """Return out-of-fold predictions of candidates that inner validation chose, fold by fold.

    In each fold the training rows are split again; the candidate with the lowest mean absolute
    error there is fitted on all of them. The test rows' drops are never looked at.

    Args:
        table: one row per network.
        candidates: at least one; of equal ones in the inner validation the first is taken.
        protocol: of the outer folds.
        inner: protocol of the inner folds; None takes the outer one.
        target: column to predict.
        folds: outer and inner, for protocols that have a number.
        seed: of splits and learners.
        n_jobs: processes.

    Returns:
        The table's keys, "fold", "observed", "predicted", "candidate" (label of the chosen one)
        and "inner_mae" (its error in the inner validation).

    Raises:
        ConfigurationError, DataError, MissingDependencyError: as in `evaluate`.
    """
    _check_candidates(candidates)
    _check(table, target)
    y = table[target].to_numpy(np.float64)
    outer = protocol_splits(table, protocol, folds=folds, seed=seed)
    prepared = [_prepared(table, candidate) for candidate in candidates]
    tasks = []
    for fold, (train, _) in enumerate(outer):
        inner_seed = derive_seed(seed, "inner", fold)
        inside = protocol_splits(
            rows_and_columns(table, train), inner or protocol, folds=folds, seed=inner_seed
        )
        for candidate, (x, cells) in zip(candidates, prepared, strict=True):
            within = [codes[train] for codes in cells]
            tasks.append((x[train], y[train], within, inside, candidate, inner_seed))
    inner_predictions = in_parallel(_candidate_out_of_fold, tasks, n_jobs)
    errors = np.array(
        [np.abs(task[1] - p).mean() for task, p in zip(tasks, inner_predictions, strict=True)]
    ).reshape(len(outer), len(candidates))
    best = errors.argmin(axis=1)
    tasks = [
        (prepared[k][0], y, prepared[k][1], [outer[fold]], candidates[k], seed)
        for fold, k in enumerate(best)
    ]
    refitted = in_parallel(_candidate_out_of_fold, tasks, n_jobs)
    result = table[list(KEYS)].reset_index(drop=True)
    fold_of = np.empty(len(y), dtype=np.int64)
    predicted = np.empty(len(y))
    for fold, (_, test) in enumerate(outer):
        fold_of[test] = fold
        predicted[test] = refitted[fold][test]
    return result.assign(
        fold=fold_of,
        observed=y,
        predicted=predicted,
        candidate=[candidates[best[fold]].label for fold in fold_of],
        inner_mae=[float(errors[fold, best[fold]]) for fold in fold_of],
    )


def _candidate_out_of_fold(
    x: np.ndarray,
    y: np.ndarray,
    cells: Sequence[np.ndarray],
    splits: Sequence[Split],
    candidate: Candidate,
    seed: int,
) -> np.ndarray:
    build = partial(build_regressor, candidate.regressor, derive_seed(seed, candidate.label))
    with _quick([candidate.regressor]):
        return _out_of_fold(x, y, splits, build, cells)[0]


def _prepared(table: pd.DataFrame, candidate: Candidate) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the features and the cells of every row, finest cells first."""
    if candidate.features:
        x = feature_matrix(table, candidate.features, scale_within=candidate.scale_within).values
    else:
        x = np.zeros((len(table), 1))
    cells = [group_codes(table, candidate.cells[k:]) for k in range(len(candidate.cells))]
    return x, cells


def _check_candidates(candidates: Sequence[Candidate]) -> None:
    labels = [candidate.label for candidate in candidates]
    if not labels:
        raise ConfigurationError("no candidate was given")
    if len(set(labels)) < len(labels):
        raise ConfigurationError(f"two candidates are the same: {labels}")
    for candidate in candidates:
        build_regressor(candidate.regressor)
        if not candidate.features and candidate.regressor != "mean":
            raise ConfigurationError(
                f"{candidate.regressor!r} needs features; only 'mean' does not"
            )


# -- how sure ------------------------------------------------------------------------------------


def bootstrap_scores(
    observed: np.ndarray,
    predictions: Mapping[str, np.ndarray],
    groups: np.ndarray,
    *,
    parts: Mapping[str, np.ndarray] | None = None,
    reference: str | None = None,
    draws: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Return R2 and mean absolute error with bootstrap intervals over groups of networks.

    Whole groups are drawn with replacement, because rows of one group are not independent. All
    models see the same draws, so that the interval of a difference is paired.

    Args:
        observed: (n,).
        predictions: (n,) by model.
        groups: (n,) an integer per row, for example `group_codes(table, CONFIGURATION)`, or the
            blocks of architecture and data set.
        parts: row positions by setting; adds "mean_r2", the mean of the parts' own R2.
        reference: a model; adds the differences of the others from it.
        draws: bootstrap samples.
        level: of the percentile interval.
        seed: of the draws.

    Returns:
        Columns model, minus (the reference, or None), measure ("r2", "mae", "mean_r2"), value,
        low, high, groups.

    Raises:
        ConfigurationError: the reference is no model.
        DataError: lengths differ, values are not finite, or there is a single group.
    """
    if reference is not None and reference not in predictions:
        raise unknown_name("reference", reference, predictions)
    for name, predicted in predictions.items():
        if len(predicted) != len(observed) or not np.isfinite(predicted).all():
            raise DataError(f"{name!r} has no finite prediction for each of {len(observed)} rows")
    found, codes = np.unique(groups, return_inverse=True)
    if len(groups) != len(observed) or len(found) < 2:
        raise DataError(f"{len(found)} groups over {len(groups)} rows: at least two are needed")
    generator = numpy_generator(seed, "bootstrap")
    weights = generator.multinomial(len(found), np.full(len(found), 1 / len(found)), size=draws)
    # The first row is the sample itself.
    weights = np.concatenate([np.ones((1, len(found))), weights])

    def totals(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return weights @ np.bincount(codes[rows], weights=values[rows], minlength=len(found))

    def r2(predicted: np.ndarray, rows: np.ndarray) -> np.ndarray:
        ones = totals(np.ones(len(observed)), rows)
        centred = observed - observed[rows].mean()
        first, second = totals(centred, rows), totals(centred**2, rows)
        with np.errstate(invalid="ignore", divide="ignore"):
            spread = second - first**2 / ones
            return 1 - totals((observed - predicted) ** 2, rows) / np.where(
                spread > 0, spread, np.nan
            )

    everything = np.arange(len(observed))
    samples: dict[tuple[str, str], np.ndarray] = {}
    for name, predicted in predictions.items():
        samples[name, "r2"] = r2(predicted, everything)
        samples[name, "mae"] = totals(np.abs(observed - predicted), everything) / totals(
            np.ones(len(observed)), everything
        )
        if parts:
            samples[name, "mean_r2"] = np.mean([r2(predicted, p) for p in parts.values()], axis=0)
    rows = []
    for (name, measure), values in samples.items():
        rows.append(_interval(name, None, measure, values, level, len(found)))
    for (name, measure), values in samples.items():
        if reference is not None and name != reference:
            difference = values - samples[reference, measure]
            rows.append(_interval(name, reference, measure, difference, level, len(found)))
    return pd.DataFrame(rows)


def configuration_groups(table: pd.DataFrame) -> np.ndarray:
    """Return an integer per row, equal for the seeds of one configuration."""
    return group_codes(table, CONFIGURATION)


def _interval(
    name: str, minus: str | None, measure: str, values: np.ndarray, level: float, groups: int
) -> dict[str, Any]:
    tail = (1 - level) / 2
    drawn = values[1:][np.isfinite(values[1:])]
    low, high = np.quantile(drawn, [tail, 1 - tail]) if len(drawn) else (np.nan, np.nan)
    return {
        "model": name,
        "minus": minus,
        "measure": measure,
        "value": float(values[0]),
        "low": float(low),
        "high": float(high),
        "groups": groups,
    }
