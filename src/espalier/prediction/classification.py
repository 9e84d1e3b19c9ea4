"""Which pruner, or which kind of pruner, made a network: classification from topometrics.

The arXiv paper averages topometrics over seeds, then asks an XGBoost classifier for the pruner or
its category, by stratified folds and balanced accuracy. Averaging keeps seeds from leaking; the
same pruner at another sparsity, architecture or data set is still in the training rows, and the
"leave" protocols ask without that.

Source: "Understanding Sparse Neural Networks from their Topology via Multipartite Graph
Representations", arXiv version, section 4.1 and Table 5.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from espalier.errors import ConfigurationError, DataError, unknown_name
from espalier.prediction.features import (
    CONFIGURATION,
    KEYS,
    feature_columns,
    feature_matrix,
    require_columns,
    require_unique,
    rows_and_columns,
)
from espalier.prediction.regression import import_xgboost, in_parallel
from espalier.prediction.splits import (
    PROTOCOLS,
    Split,
    is_random,
    protocol_splits,
    stratified_splits,
)
from espalier.seeds import derive_seed

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator

TARGETS = ("pruner", "category")

CATEGORIES: Mapping[str, str] = {
    "snip": "before",
    "iterative_snip": "before",
    "force": "before",
    "grasp": "before",
    "synflow": "before",
    "prospr": "before",
    "ntk_sap": "before",
    "phew": "before",
    "dsr": "during",
    "snfs": "during",
    "rigl": "during",
    "set": "during",
    "itop": "during",
    "set_itop": "during",
    "uniform": "random",
    "er": "random",
    "erk": "random",
}
"""Category by pruner: pruning at initialisation, dynamic sparse training, layer-wise random."""


def _xgboost(seed: int) -> BaseEstimator:
    return import_xgboost().XGBClassifier(random_state=seed, n_jobs=1)


def _extra_trees(seed: int) -> BaseEstimator:
    from sklearn.ensemble import ExtraTreesClassifier

    return ExtraTreesClassifier(
        n_estimators=150, class_weight="balanced", random_state=seed, n_jobs=1
    )


def _logistic(seed: int) -> BaseEstimator:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MinMaxScaler

    return make_pipeline(
        MinMaxScaler(), LogisticRegression(C=100.0, class_weight="balanced", max_iter=5000)
    )


def _most_frequent(seed: int) -> BaseEstimator:
    from sklearn.dummy import DummyClassifier

    return DummyClassifier(strategy="most_frequent")


CLASSIFIERS: Mapping[str, Callable[[int], Any]] = {
    "xgboost": _xgboost,
    "extra_trees": _extra_trees,
    "logistic": _logistic,
    "most_frequent": _most_frequent,
}
"""By name; "xgboost" has the package's defaults, as the paper's."""


@dataclass(frozen=True, eq=False)
class Classification:
    """Scores of repeated cross-validation, and predictions of its first runs.

    Attributes:
        scores: one row per (setting, features, run): protocol, target, classifier, n, classes,
            folds; balanced_accuracy and accuracy, means over the folds; chance, one over the
            classes; absent, how often a class is missing from a test fold, and is left out of that
            fold's mean; unseen, how many test rows are of a class the training rows lack, and
            count as wrong.
        predictions: the columns that name a network, setting, features, run, observed, predicted.
    """

    scores: pd.DataFrame
    predictions: pd.DataFrame

    def summary(self) -> pd.DataFrame:
        """Return mean and sd (n - 1) over runs of the balanced accuracy, one row per setting."""
        keys = ["target", "protocol", "classifier", "setting", "features"]
        groups: Any = self.scores.groupby(keys, sort=False)
        summary = groups[["n", "classes", "chance"]].first()
        summary["balanced_accuracy"] = groups["balanced_accuracy"].mean()
        summary["balanced_accuracy_sd"] = groups["balanced_accuracy"].std()
        summary["accuracy"] = groups["accuracy"].mean()
        summary["runs"] = groups.size()
        return summary.reset_index()


def build_classifier(name: str, seed: int = 0) -> Any:
    """Return an unfitted scikit-learn classifier.

    Raises:
        ConfigurationError: the name is unknown.
        MissingDependencyError: its package is not installed.
    """
    if name not in CLASSIFIERS:
        raise unknown_name("classifier", name, CLASSIFIERS)
    return CLASSIFIERS[name](seed & 0x7FFFFFFF)


def average_seeds(table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Return one row per configuration: its key, and means of some columns over its seeds.

    Raises:
        DataError: a column is missing, or a network has two rows.
    """
    require_unique(table)
    require_columns(table, columns)
    groups: Any = table.groupby(list(CONFIGURATION), sort=True)
    return groups[list(columns)].mean().reset_index()


def labels_of(
    table: pd.DataFrame, target: str, categories: Mapping[str, str] = CATEGORIES
) -> np.ndarray:
    """Return the class of each row as text, (rows,).

    Args:
        table: with the column pruning.
        target: "pruner" or "category".
        categories: category by pruner.

    Raises:
        ConfigurationError: the target is unknown, or a pruner has no category.
        DataError: all rows are of one class.
    """
    require_columns(table, ["pruning"])
    if target not in TARGETS:
        raise unknown_name("target", target, TARGETS)
    pruners = [str(name) for name in table["pruning"]]
    if target == "category":
        unknown = sorted(set(pruners) - set(categories))
        if unknown:
            raise ConfigurationError(f"no category is known for {unknown}; pass categories=")
        pruners = [categories[name] for name in pruners]
    labels = np.array(pruners, dtype=str)
    if len(np.unique(labels)) < 2:
        raise DataError(
            f"all {len(labels)} rows are of one {target} ({labels[0] if len(labels) else 'none'}): "
            "there is nothing to tell apart"
        )
    return labels


def balanced_accuracy(observed: np.ndarray, predicted: np.ndarray) -> float:
    """Return the mean recall of the classes that are observed."""
    found = np.unique(observed)
    return float(np.mean([(predicted[observed == label] == label).mean() for label in found]))


def classify(
    table: pd.DataFrame,
    target: str = "category",
    features: str | Sequence[str] = "topometrics",
    *,
    classifier: str = "xgboost",
    protocol: str = "stratified",
    settings: Mapping[str, np.ndarray] | None = None,
    categories: Mapping[str, str] = CATEGORIES,
    folds: int = 5,
    runs: int = 100,
    seed: int = 0,
    keep_runs: int = 1,
    n_jobs: int = 1,
) -> Classification:
    """Return how well feature sets tell pruners, or categories of pruners, apart.

    Args:
        table: one row per network, or per configuration (`average_seeds`), as in the paper. With
            seeds in single rows "stratified" leaks; "grouped" does not.
        target: "pruner" or "category".
        features: one or more expressions of `espalier.prediction.features`, controls among them.
        classifier: a name of `CLASSIFIERS`.
        protocol: "stratified" (equal shares of each class) or another of `splits.PROTOCOLS`.
            "leave-pruner-out" asks for the category of a pruner never seen.
        settings: row positions by name; None is one setting "all". See `regression.settings_of`.
        categories: category by pruner.
        folds, runs, seed: of the cross-validation; a protocol without chance has one run.
        keep_runs: of how many runs the predictions are kept.
        n_jobs: processes. The result does not depend on it.

    Raises:
        ConfigurationError: a name is unknown, or "leave-pruner-out" is asked to name pruners.
        DataError: rows repeat, columns are missing or not finite, or a setting has a single class
            or too few rows.
        MissingDependencyError: the classifier's package is not installed.
    """
    expressions = [features] if isinstance(features, str) else list(features)
    build_classifier(classifier)
    if runs < 1:
        raise ConfigurationError(f"runs is {runs}; it must be at least 1")
    keys = [key for key in KEYS if key in table.columns]
    require_unique(table, keys if "seed" in keys else CONFIGURATION)
    chosen = {"all": np.arange(len(table))} if settings is None else settings
    tasks, cases = [], []
    for setting, rows in chosen.items():
        part = rows_and_columns(table, rows)
        labels = labels_of(part, target, categories)
        repeats = [
            class_splits(part, labels, target, protocol, folds, derive_seed(seed, "run", run))
            for run in range(runs if is_random(protocol) else 1)
        ]
        for expression in expressions:
            x = feature_matrix(part, expression).values
            for run, splits in enumerate(repeats):
                stream = derive_seed(seed, classifier, run)
                tasks.append((x, labels, splits, classifier, stream))
                cases.append((setting, expression, run, labels, splits))
    results = in_parallel(_out_of_fold, tasks, n_jobs)
    scores, predictions = [], []
    for (setting, expression, run, labels, splits), predicted in zip(cases, results, strict=True):
        case = {"setting": setting, "features": expression, "run": run}
        scores.append(
            {
                "target": target,
                "protocol": protocol,
                "classifier": classifier,
                **case,
                "n": len(labels),
                "classes": len(np.unique(labels)),
                "folds": len(splits),
                **_fold_scores(labels, predicted, splits),
            }
        )
        if run < keep_runs:
            kept = rows_and_columns(table, chosen[setting], keys)
            predictions.append(kept.assign(**case, observed=labels, predicted=predicted))
    kept = pd.concat(predictions, ignore_index=True) if predictions else pd.DataFrame()
    return Classification(pd.DataFrame(scores), kept)


def averaged_columns(table: pd.DataFrame, features: str | Sequence[str]) -> list[str]:
    """Return the columns of numbers that some feature sets need, for `average_seeds`."""
    expressions = [features] if isinstance(features, str) else list(features)
    wanted = dict.fromkeys(c for e in expressions for c in feature_columns(e))
    return [column for column in wanted if column not in CONFIGURATION]


def class_splits(
    table: pd.DataFrame, labels: np.ndarray, target: str, protocol: str, folds: int, seed: int
) -> list[Split]:
    """Return the folds of a classification.

    Raises:
        ConfigurationError: the protocol is unknown, or leaves out the very class to be named.
        DataError: there are too few rows, groups or levels.
    """
    if protocol not in PROTOCOLS:
        raise unknown_name("protocol", protocol, PROTOCOLS)
    if protocol == "leave-pruner-out" and target == "pruner":
        raise ConfigurationError(
            "a pruner that no training row is of cannot be named; with leave-pruner-out take the "
            "target category"
        )
    if protocol == "stratified":
        return stratified_splits(labels, folds, seed)
    return protocol_splits(table, protocol, folds=folds, seed=seed)


def fit_classes(estimator: Any, x: np.ndarray, labels: np.ndarray) -> Callable[[Any], np.ndarray]:
    """Fit a classifier on the classes that are there and return its prediction as labels.

    XGBoost wants classes without gaps, which a training fold may lack.

    Raises:
        DataError: the training rows are of one class.
    """
    found, codes = np.unique(labels, return_inverse=True)
    if len(found) < 2:
        raise DataError(
            f"the training rows of a fold are all of one class ({found[0]}); take fewer folds or "
            "another protocol"
        )
    estimator.fit(x, codes)
    return lambda rows: found[np.asarray(estimator.predict(rows), dtype=np.int64)]


def _out_of_fold(
    x: np.ndarray, labels: np.ndarray, splits: Sequence[Split], classifier: str, seed: int
) -> np.ndarray:
    from threadpoolctl import threadpool_limits

    predicted = np.empty_like(labels)
    with threadpool_limits(1):
        for train, test in splits:
            predict = fit_classes(build_classifier(classifier, seed), x[train], labels[train])
            predicted[test] = predict(x[test])
    return predicted


def _fold_scores(
    labels: np.ndarray, predicted: np.ndarray, splits: Sequence[Split]
) -> dict[str, float]:
    classes = np.unique(labels)
    balanced, plain, absent, unseen = [], [], 0, 0
    for train, test in splits:
        balanced.append(balanced_accuracy(labels[test], predicted[test]))
        plain.append(float((labels[test] == predicted[test]).mean()))
        absent += len(classes) - len(np.unique(labels[test]))
        unseen += int((~np.isin(labels[test], labels[train])).sum())
    return {
        "balanced_accuracy": float(np.mean(balanced)),
        "accuracy": float(np.mean(plain)),
        "chance": 1 / len(classes),
        "absent": absent,
        "unseen": unseen,
    }
