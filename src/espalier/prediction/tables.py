"""Scores of a pool of networks as tidy tables: regression, classification, importance.

What a pool cannot give (a setting with fewer networks than features, a protocol that leaves the
only data set out) is a row without numbers whose column "problem" says why.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from espalier.errors import DataError
from espalier.prediction.classification import CATEGORIES, average_seeds, averaged_columns, classify
from espalier.prediction.features import (
    FEATURES,
    KEYS,
    feature_matrix,
    feature_names,
    needs_graph,
    require_columns,
    rows_and_columns,
)
from espalier.prediction.importance import (
    PEARSON_REGRESSORS,
    classification_importance,
    pearson_importance,
    regression_importance,
    shap_importance,
)
from espalier.prediction.regression import LINEAR, regress, settings_of
from espalier.prediction.splits import LEAKING

TOPOMETRICS_FAMILY = "topometrics"
LAYER_FAMILY = "layer density"
NO_GRAPH_FAMILY = "no graph"

LEAK = "seeds of one configuration are on both sides"

LEFT_OUT: Mapping[str, str] = {
    "leave-architecture-out": "model",
    "leave-dataset-out": "dataset",
    "leave-pruner-out": "pruning",
    "leave-sparsity-out": "sparsity",
}
"""The column whose levels a protocol leaves out."""

TRIM = 4.0
"""Standard deviations from the mean at which a drop is an outlier to `trimmed_settings`."""

ABLATION = ("architecture", "sparsity-level")
"""What the arXiv paper's ablation looks at."""

ABLATION_SETS: Mapping[str, str] = {
    "local": "local",
    "regional": "regional",
    "local+regional": "combination",
    "topometrics": "combination",
    "architecture": "ablation",
    "sparsity-level": "ablation",
}
"""Feature sets, and what the arXiv paper's sets they stand for. Its combination has stability
measures, which are in no published table; local and regional, or all topometrics, come nearest."""


def family_of(features: str) -> str:
    """Return what a feature set looks at: "topometrics", "layer density" or "no graph".

    Names of data sets and the like that stand beside topometrics are said by "and names".

    Raises:
        ConfigurationError: a name is unknown.
    """
    names = feature_names(features)
    graph = [name for name in names if FEATURES[name].graph]
    if not graph:
        return NO_GRAPH_FAMILY
    kind = {"layer-density": LAYER_FAMILY, "ramanujan": "ramanujan"}.get(graph[0], "topometrics")
    return kind if len(graph) == len(names) else f"{kind} and names"


def is_of_topology(features: str) -> bool:
    """Return whether a feature set looks at a graph, not only at the layers' densities."""
    return needs_graph(features) and not family_of(features).startswith(LAYER_FAMILY)


def leak_of(protocol: str) -> str:
    """Return what a protocol leaks, or nothing."""
    return LEAK if protocol in LEAKING else ""


def with_layer_density(table: pd.DataFrame, layers: pd.DataFrame) -> pd.DataFrame:
    """Return the table with "layer_density", the mean of its layers' densities; NaN without layers.

    Args:
        table: one row per network.
        layers: one row per layer, with the key of the network and "layer_sparsity", which in the
            published tables is a density.

    Raises:
        DataError: a column is missing.
    """
    require_columns(layers, (*KEYS, "layer_sparsity"), "the table of layers")
    groups: Any = layers.groupby(list(KEYS), sort=True)
    means = groups["layer_sparsity"].mean().rename("layer_density").reset_index()
    return table.drop(columns="layer_density", errors="ignore").merge(
        means, on=list(KEYS), how="left", validate="one_to_one"
    )


def has_layer_density(table: pd.DataFrame) -> bool:
    """Return whether every network has a layer density."""
    return "layer_density" in table and bool(table["layer_density"].notna().all())


# -- regression by setting


def group_name(regressors: Sequence[str]) -> str:
    """Return the name of a mean over regressors."""
    return "eight linear" if tuple(regressors) == LINEAR else f"mean of {len(regressors)}"


def regression_rows(
    table: pd.DataFrame,
    runs_by_features: Mapping[str, int],
    regressors: Sequence[str],
    *,
    protocol: str,
    encoding: str = "unrolled",
    settings: Mapping[str, np.ndarray] | None = None,
    rows_of: str = "all",
    folds: int = 5,
    seed: int = 0,
) -> pd.DataFrame:
    """Return scores of repeated cross-validation, one row per setting, feature set and regressor.

    Args:
        table: one row per network.
        runs_by_features: runs of each expression.
        regressors: names; with more than one of them rows of their mean come first.
        protocol: of `splits.PROTOCOLS`.
        encoding: for the column of that name.
        settings: row positions by name; None takes each sparsity and each model.
        rows_of: for the column "rows": "all", or "trimmed" for `trimmed_settings`.
        folds, seed: of the cross-validation.

    Returns:
        Columns encoding, protocol, leak, rows, setting, features, family, graph, regressor,
        regressors (how many are averaged), n, p, runs, folds, adjusted_r2, adjusted_r2_sd,
        adjusted_r2_train, r2, r2_sd, r2_pooled, mae, unconverged, problem.

    Raises:
        ConfigurationError, MissingDependencyError: as in `regression.regress`.
    """
    rows = []
    chosen = settings_of(table) if settings is None else settings
    for setting, members in chosen.items():
        for features, runs in runs_by_features.items():
            case = {
                "encoding": encoding,
                "protocol": protocol,
                "leak": leak_of(protocol),
                "rows": rows_of,
                "setting": setting,
                "features": features,
                "family": family_of(features),
                "graph": is_of_topology(features),
            }
            try:
                _check_varied(rows_and_columns(table, members), features)
                found = regress(
                    table,
                    features,
                    regressors,
                    protocol=protocol,
                    settings={setting: members},
                    folds=folds,
                    runs=runs,
                    seed=seed,
                    keep_runs=0,
                )
            except DataError as error:
                problem = {"n": len(members), "problem": str(error)}
                count = {"regressor": _name(regressors), "regressors": len(regressors)}
                rows.append({**case, **count, **problem})
                continue
            if len(regressors) > 1:
                rows.append({**case, **_means(found.scores, group_name(regressors))})
            for name, scores in found.scores.groupby("regressor", sort=False):
                rows.append({**case, **_means(scores, str(name))})
    columns = ("encoding", "protocol", "leak", "rows", "setting", "features", "family", "graph")
    scores = ("adjusted_r2", "adjusted_r2_sd", "adjusted_r2_train", "r2", "r2_sd", "r2_pooled")
    counts = ("regressor", "regressors", "n", "p", "runs", "folds")
    return tidy(rows, (*columns, *counts, *scores, "mae", "unconverged", "problem"))


def trimmed_settings(
    table: pd.DataFrame, settings: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Return settings without networks that the paper's Table 3 seems to leave out.

    Those are networks better than the dense ones, and in each setting those whose drop is `TRIM`
    or more standard deviations from the mean of the rest. The paper states no such rule. It was
    found by its fit to the cells (docs/prediction.md): a hypothesis, never a default.
    """
    found = {}
    drops = table["drop"].to_numpy(np.float64)
    for setting, rows in settings.items():
        kept = rows[drops[rows] >= 0]
        own = drops[kept]
        spread = own.std()
        usual = np.abs(own - own.mean()) < TRIM * spread if spread > 0 else own == own
        found[setting] = kept[usual]
    return found


def _check_varied(table: pd.DataFrame, features: str) -> None:
    if not np.ptp(feature_matrix(table, features).values, axis=0).any():
        raise DataError(f"all {len(table)} networks of the setting have the same {features}")


def _name(regressors: Sequence[str]) -> str:
    return regressors[0] if len(regressors) == 1 else group_name(regressors)


def _means(scores: Any, regressor: str) -> dict[str, Any]:
    by_run: Any = scores.groupby("run", sort=False)[["adjusted_r2", "r2"]].mean()
    first: Any = scores.iloc[0]
    means = scores[["adjusted_r2", "adjusted_r2_train", "r2", "r2_pooled", "mae"]].mean()
    return {
        "regressor": regressor,
        "regressors": int(scores["regressor"].nunique()),
        "n": int(first["n"]),
        "p": int(first["p"]),
        "runs": len(by_run),
        "folds": int(first["folds"]),
        **{str(name): float(value) for name, value in means.items()},
        "adjusted_r2_sd": float(by_run["adjusted_r2"].std()),
        "r2_sd": float(by_run["r2"].std()),
        "unconverged": int(scores["unconverged"].sum()),
        "problem": "",
    }


def regression_means(rows: pd.DataFrame) -> pd.DataFrame:
    """Return means over settings of the rows of a regression: the headline numbers.

    Returns:
        One row per encoding, protocol, rows, feature set and regressor: leak, family, graph,
        settings (how many are scored), runs, adjusted_r2, r2, r2_pooled, mae.
    """
    scored = rows_and_columns(rows, rows["adjusted_r2"].notna().to_numpy())
    keys = ["encoding", "protocol", "leak", "rows", "features", "family", "graph", "regressor"]
    groups: Any = scored.groupby(keys, sort=False, dropna=False)
    means = groups[["adjusted_r2", "r2", "r2_pooled", "mae"]].mean()
    means.insert(0, "runs", groups["runs"].max())
    means.insert(0, "settings", groups.size())
    return means.reset_index()


def ablation_rows(
    table: pd.DataFrame,
    runs_by_features: Mapping[str, int],
    regressors: Sequence[str],
    *,
    folds: int = 5,
    seed: int = 0,
) -> pd.DataFrame:
    """Return R2 by data set and setting, as the arXiv paper's Tables 6 and 12.

    Its ablation is the architecture alone within a sparsity, and the sparsity alone within an
    architecture. The folds are balanced by quintile of the drop.

    Returns:
        The columns of `regression_rows` with dataset and set (of the paper) in place of encoding
        and rows.
    """
    parts = []
    for dataset in sorted(table["dataset"].unique()):
        part = rows_and_columns(table, (table["dataset"] == dataset).to_numpy())
        for column, alone in zip(("sparsity", "model"), ABLATION, strict=True):
            other = set(ABLATION) - {alone}
            found = regression_rows(
                part.reset_index(drop=True),
                {name: runs for name, runs in runs_by_features.items() if name not in other},
                regressors,
                protocol="stratified",
                settings=settings_of(part, (column,)),
                folds=folds,
                seed=seed,
            )
            parts.append(found.drop(columns=["encoding", "rows"]).assign(dataset=dataset))
    joined = pd.concat(parts, ignore_index=True)
    joined["set"] = [ABLATION_SETS.get(features, "") for features in joined["features"]]
    return in_front(joined, ("dataset", "set"))


# -- classification


def classification_rows(
    table: pd.DataFrame,
    target: str,
    features: Sequence[str],
    *,
    classifier: str = "xgboost",
    categories: Mapping[str, str] = CATEGORIES,
    runs: int = 100,
    folds: int = 5,
    seed: int = 0,
) -> pd.DataFrame:
    """Return how well feature sets tell pruners or their categories apart, by setting.

    Seeds are averaged first, as in the arXiv paper, so that they do not leak. Its protocol is
    "stratified"; beside it every level of architecture, data set, sparsity (and, for categories,
    pruner) is left out once, over all networks.

    Returns:
        Columns target, protocol, classifier, setting, features, family, graph, n, classes, chance,
        runs, balanced_accuracy, balanced_accuracy_sd, accuracy, problem.
    """
    rows = []
    protocols = ["stratified", *LEFT_OUT]
    if target == "pruner":
        protocols.remove("leave-pruner-out")
    for expression in features:
        averaged = average_seeds(table, averaged_columns(table, expression))
        whole = settings_of(averaged, whole="General")
        for protocol in protocols:
            for setting, members in whole.items():
                if protocol != "stratified" and setting != "General":
                    continue
                case = {
                    "target": target,
                    "protocol": protocol,
                    "classifier": classifier,
                    "setting": setting,
                    "features": expression,
                    "family": family_of(expression),
                    "graph": is_of_topology(expression),
                    "n": len(members),
                }
                try:
                    found = classify(
                        averaged,
                        target,
                        expression,
                        classifier=classifier,
                        protocol=protocol,
                        settings={setting: members},
                        categories=categories,
                        folds=folds,
                        runs=runs,
                        seed=seed,
                        keep_runs=0,
                    )
                except DataError as error:
                    rows.append({**case, "problem": str(error)})
                    continue
                rows.append({**found.summary().iloc[0].to_dict(), **case, "problem": ""})
    columns = ("target", "protocol", "classifier", "setting", "features", "family", "graph", "n")
    scores = ("balanced_accuracy", "balanced_accuracy_sd", "accuracy", "problem")
    return tidy(rows, (*columns, "classes", "chance", "runs", *scores))


# -- importance


def drop_importance_rows(
    table: pd.DataFrame, *, folds: int = 5, shuffles: int = 10, seed: int = 0
) -> pd.DataFrame:
    """Return what predictors of the drop lean on, setting by setting.

    Kinds: "pearson" (TMLR Figures 3 and 4: in sample, over five linear regressors), "permutation"
    (extra trees, grouped folds) and "shap" (XGBoost, grouped folds).

    Returns:
        Columns kind, task, learner, protocol, setting, feature, importance, sd, direction, score,
        folds, problem.
    """
    parts = []
    for setting, members in settings_of(table).items():
        own = {setting: members}

        def weights(own: Mapping[str, np.ndarray] = own) -> pd.DataFrame:
            found = pearson_importance(table, settings=own)
            return found.melt(ignore_index=False, var_name="setting", value_name="importance")

        def shuffled(own: Mapping[str, np.ndarray] = own) -> pd.DataFrame:
            return regression_importance(
                table, settings=own, folds=folds, repeats=shuffles, seed=seed
            )

        def explained(own: Mapping[str, np.ndarray] = own) -> pd.DataFrame:
            return shap_importance(table, regressor="xgboost", settings=own, folds=folds, seed=seed)

        linear = f"mean of {len(PEARSON_REGRESSORS)}"
        for kind, learner, protocol, function in (
            ("pearson", linear, "in sample", weights),
            ("permutation", "extra_trees", "grouped", shuffled),
            ("shap", "xgboost", "grouped", explained),
        ):
            found = or_problem(function)
            if kind == "pearson" and "feature" not in found and "problem" not in found:
                found = found.reset_index()
            case = {"kind": kind, "learner": learner, "protocol": protocol, "setting": setting}
            parts.append(found.assign(task="drop", **case))
    return _importance(parts)


def class_importance_rows(
    table: pd.DataFrame,
    targets: Sequence[str],
    *,
    classifier: str = "xgboost",
    categories: Mapping[str, str] = CATEGORIES,
    folds: int = 5,
    shuffles: int = 10,
    seed: int = 0,
) -> pd.DataFrame:
    """Return what classifiers of pruners lean on; columns as in `drop_importance_rows`."""
    averaged = average_seeds(table, averaged_columns(table, "topometrics"))
    parts = []
    for target in targets:
        for setting, members in settings_of(averaged, whole="General").items():

            def shuffled(
                target: str = target, setting: str = setting, members: np.ndarray = members
            ) -> pd.DataFrame:
                return classification_importance(
                    averaged,
                    target,
                    classifier=classifier,
                    settings={setting: members},
                    categories=categories,
                    folds=folds,
                    repeats=shuffles,
                    seed=seed,
                )

            case = {"kind": "permutation", "learner": classifier, "protocol": "stratified"}
            parts.append(or_problem(shuffled).assign(task=target, setting=setting, **case))
    return _importance(parts)


def _importance(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    columns = ("kind", "task", "learner", "protocol", "setting", "feature", "importance", "sd")
    more = ("direction", "score", "folds", "problem")
    return tidy(pd.concat(parts, ignore_index=True), (*columns, *more))


# -- parts


def or_problem(make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """Return a table, or one row whose "problem" says why there is none."""
    try:
        return make()
    except DataError as error:
        return pd.DataFrame([{"problem": str(error)}])


def tidy(rows: pd.DataFrame | Sequence[Mapping[Any, Any]], columns: Sequence[str]) -> pd.DataFrame:
    """Return a table of these columns; text that is missing is empty."""
    table = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(list(rows))
    table = with_text(table.reindex(columns=list(columns)), ("problem", "minus", "candidate"))
    for column in ("n", "p", "runs", "folds", "groups", "blocks", "networks", "classes"):
        if column in table and pd.api.types.is_float_dtype(table[column]):
            table[column] = table[column].astype("Int64")
    return table.reset_index(drop=True)


def with_text(table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Return the table with empty text where some columns, if they are there, have nothing."""
    text = {c: ["" if pd.isna(v) else str(v) for v in table[c]] for c in columns if c in table}
    return table.assign(**text)


def in_front(table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Return the table with some columns first."""
    rest = [column for column in table.columns if column not in columns]
    return rows_and_columns(table, None, [*columns, *rest])
