"""Out-of-fold predictions on honest splits, with intervals, and what leaving a level out costs.

In each fold the candidate is chosen by inner validation. What looks at topometrics stands beside
what looks at the layers' densities, at no graph, and at the pruner's name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from espalier.errors import DataError
from espalier.prediction.features import CONFIGURATION, KEYS, group_codes, rows_and_columns
from espalier.prediction.predictor import GROUPS, interval_coverage
from espalier.prediction.ranking import overlaps, predicted_scores
from espalier.prediction.regression import (
    CELL,
    CELL_AND_PRUNER,
    CELL_AND_TOPOMETRICS,
    CELL_MEAN,
    LEAVE_OUT_CANDIDATES,
    LEAVE_OUT_CONTROLS,
    Candidate,
    bootstrap_scores,
    evaluate,
    r2_score,
    select_and_evaluate,
    settings_of,
)
from espalier.prediction.tables import (
    LAYER_FAMILY,
    LEFT_OUT,
    NO_GRAPH_FAMILY,
    TOPOMETRICS_FAMILY,
    has_layer_density,
    leak_of,
    or_problem,
    tidy,
    with_text,
)

FAMILIES: Mapping[str, tuple[Candidate, ...]] = {
    TOPOMETRICS_FAMILY: (*LEAVE_OUT_CANDIDATES, CELL_AND_TOPOMETRICS),
    LAYER_FAMILY: (
        Candidate("ridge", "layer-density+sparsity+dataset"),
        Candidate("extra_trees_50", "layer-density+sparsity+dataset"),
        Candidate("extra_trees_50", "layer-density+sparsity+dataset+architecture"),
        Candidate("extra_trees_50", "layer-density+sparsity+dataset+architecture", cells=CELL),
    ),
    NO_GRAPH_FAMILY: (*LEAVE_OUT_CONTROLS, CELL_AND_PRUNER),
}
"""Candidates among which inner validation chooses, by what they look at."""

PAPERS_REGRESSION = Candidate("linear", "topometrics", name="linear on topometrics")
"""The regression of the paper, in which the penalties hardly matter."""

FIXED = (PAPERS_REGRESSION, CELL_MEAN, CELL_AND_PRUNER, CELL_AND_TOPOMETRICS)
"""Candidates that are shown whatever inner validation says."""

REFERENCES = (NO_GRAPH_FAMILY, LAYER_FAMILY, CELL_AND_PRUNER.label)


def protocol_predictions(
    table: pd.DataFrame, protocol: str, *, folds: int = 5, seed: int = 0
) -> pd.DataFrame:
    """Return every network's drop predicted out of fold, by what the predictor looks at.

    In each fold the candidate of a family is chosen by inner validation on the training rows.

    Args:
        table: one row per network; with "layer_density" the family of that name is there too.
        protocol: of `splits.PROTOCOLS`.
        folds, seed: of the splits, inner ones too.

    Returns:
        One row per predictor and network: protocol, leak, predictor, family, graph, `KEYS`, fold,
        observed, predicted, candidate and inner_mae (where there was a choice), problem.
    """
    parts = []
    for family, candidates in FAMILIES.items():
        if family == LAYER_FAMILY and not has_layer_density(table):
            continue
        case = {"predictor": family, "family": family, "graph": family == TOPOMETRICS_FAMILY}

        def choose(candidates: Sequence[Candidate] = candidates) -> pd.DataFrame:
            return select_and_evaluate(table, candidates, protocol=protocol, folds=folds, seed=seed)

        parts.append(or_problem(choose).assign(**case))

    def fixed() -> pd.DataFrame:
        return evaluate(table, FIXED, protocol=protocol, folds=folds, seed=seed)

    found = or_problem(fixed)
    for candidate in FIXED:
        topology = "topometrics" in candidate.features
        case = {
            "predictor": candidate.label,
            "family": TOPOMETRICS_FAMILY if topology else NO_GRAPH_FAMILY,
            "graph": topology,
        }
        if "observed" not in found:
            parts.append(found.assign(**case))
            continue
        own = rows_and_columns(found, None, [*KEYS, "observed", candidate.label])
        parts.append(own.rename(columns={candidate.label: "predicted"}).assign(**case))
    joined = pd.concat(parts, ignore_index=True).assign(protocol=protocol, leak=leak_of(protocol))
    columns = ("protocol", "leak", "predictor", "family", "graph", *KEYS)
    results = ("fold", "observed", "predicted", "candidate", "inner_mae", "problem")
    complete = joined.reindex(columns=[*columns, *results])
    complete["fold"] = complete["fold"].astype("Int64")
    complete["seed"] = complete["seed"].astype("Int64")
    return with_text(complete, ("candidate", "problem"))


def honest_rows(predictions: pd.DataFrame, *, draws: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Return scores of out-of-fold predictions, and their differences, with bootstrap intervals.

    Whole configurations are drawn where folds keep configurations together, and whole pairs of
    model and data set where a level is left out.

    Args:
        predictions: of `protocol_predictions`, of one or more protocols.
        draws, seed: of the bootstrap.

    Returns:
        Columns protocol, leak, predictor, family, graph, minus (empty for a score), measure (r2,
        mae, mean_r2: the mean over sparsities and models), value, low, high, groups, blocks,
        problem.
    """
    parts = []
    groups: Any = predictions.groupby("protocol", sort=False)
    for protocol, part in groups:
        facts = part.drop_duplicates("predictor").set_index("predictor")
        failed = facts[facts["problem"] != ""]
        for name, fact in failed.iterrows():
            row = {"predictor": name, "minus": "", "problem": fact["problem"]}
            parts.append(pd.DataFrame([row]).assign(protocol=protocol))
        wide = part[part["problem"] == ""].reset_index(drop=True)
        if wide.empty:
            continue
        values = wide.pivot_table("predicted", list(KEYS), "predictor", sort=False)
        observed = wide.drop_duplicates(list(KEYS)).set_index(list(KEYS))["observed"]
        table = values.index.to_frame(index=False)
        outcomes = observed.loc[values.index].to_numpy(np.float64)
        leaves = str(protocol) in LEFT_OUT
        drawn = ("model", "dataset") if leaves else CONFIGURATION
        seen = {str(name): values[name].to_numpy(np.float64) for name in values.columns}

        def scored(reference: str | None) -> pd.DataFrame:
            return bootstrap_scores(
                outcomes,  # noqa: B023
                seen,  # noqa: B023
                group_codes(table, drawn),  # noqa: B023
                parts=settings_of(table),  # noqa: B023
                reference=reference,
                draws=draws,
                seed=seed,
            )

        references = [name for name in REFERENCES if name in seen]
        for k, reference in enumerate(references or [None]):
            found = or_problem(lambda reference=reference: scored(reference))
            if "minus" in found and k > 0:
                found = rows_and_columns(found, np.asarray(found["minus"].notna()))
            parts.append(
                found.rename(columns={"model": "predictor"}).assign(
                    protocol=protocol, blocks="model x dataset" if leaves else "configuration"
                )
            )
    joined = pd.concat(parts, ignore_index=True)
    known = predictions.drop_duplicates("predictor").set_index("predictor")
    for column in ("family", "graph"):
        joined[column] = [known[column].get(name) for name in joined["predictor"]]
    joined["leak"] = [leak_of(str(protocol)) for protocol in joined["protocol"]]
    columns = ("protocol", "leak", "predictor", "family", "graph", "minus", "measure")
    return tidy(joined, (*columns, "value", "low", "high", "groups", "blocks", "problem"))


def leave_one_out_rows(predictions: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Return the scores of each level that was left out, and of all together.

    Args:
        predictions: of `protocol_predictions`; protocols that leave no level out are passed over.
        table: the networks, with their accuracies.

    Returns:
        Columns protocol, left_out (a level, or "all"), predictor, family, graph, n, r2, mae,
        within_r2 (1 - squared errors over squares about the mean of the cell of model, data set
        and sparsity), rbo (order of pruners by predicted drop) and rbo_random, both empty where a
        cell has one pruner, candidate, inner_mae, problem.
    """
    cells: Any = table.groupby(list(CELL))["drop"].mean()
    rows = []
    groups: Any = predictions.groupby(["protocol", "predictor"], sort=False)
    for (protocol, predictor), part in groups:
        column = LEFT_OUT.get(str(protocol))
        if column is None:
            continue
        fact = part.iloc[0]
        case = {"protocol": protocol, "predictor": predictor}
        case |= {"family": fact["family"], "graph": fact["graph"], "problem": fact["problem"]}
        if fact["problem"]:
            rows.append({**case, "left_out": "all"})
            continue
        rbo = _overlap_of(part, table)
        levels = [("all", np.ones(len(part), dtype=bool))]
        levels += [
            (f"{level:g}" if isinstance(level, float) else str(level), part[column] == level)
            for level in sorted(part[column].unique())
        ]
        for level, members in levels:
            own = rows_and_columns(part, np.asarray(members))
            y = own["observed"].to_numpy(np.float64)
            predicted = own["predicted"].to_numpy(np.float64)
            named = pd.MultiIndex.from_frame(rows_and_columns(own, None, CELL))
            centre = cells.loc[named].to_numpy(np.float64)
            spread = float(((y - centre) ** 2).sum())
            errors = float(((y - predicted) ** 2).sum())
            rows.append(
                {
                    **case,
                    "left_out": level,
                    "n": len(own),
                    "r2": r2_score(y, predicted),
                    "mae": float(np.abs(y - predicted).mean()),
                    "within_r2": 1 - errors / spread if spread > 0 else np.nan,
                    **_mean_overlap(rbo, column, own, level),
                    "candidate": own["candidate"].iloc[0] if level != "all" else "",
                    "inner_mae": own["inner_mae"].iloc[0] if level != "all" else np.nan,
                }
            )
    columns = ("protocol", "left_out", "predictor", "family", "graph", "n", "r2", "mae")
    more = ("within_r2", "rbo", "rbo_random", "candidate", "inner_mae", "problem")
    return tidy(rows, (*columns, *more))


def _overlap_of(part: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame | None:
    """Return the overlap of each cell, or None where a cell has a single pruner."""
    try:
        scores = predicted_scores(part, part["predicted"].to_numpy(np.float64), "predicted")
        return overlaps(table, scores)
    except DataError:
        return None


def _mean_overlap(
    rbo: pd.DataFrame | None, column: str, own: pd.DataFrame, level: str
) -> dict[str, float]:
    if rbo is None or column not in rbo:
        return {}
    chosen: Any = rbo if level == "all" else rbo[rbo[column] == own[column].iloc[0]]
    return {"rbo": float(chosen["rbo"].mean()), "rbo_random": float(chosen["rbo_random"].mean())}


def calibration_rows(table: pd.DataFrame, levels: Sequence[float], seed: int = 0) -> pd.DataFrame:
    """Return how often intervals hold the drop of a pair (data set, model) that was left out.

    Returns:
        Columns left_out, nominal, networks, covered (share), length (mean), mae, problem. A level
        too high for the number of pairs is a problem.
    """
    rows = []
    pairs = len(np.unique(group_codes(table, GROUPS)))
    for level in levels:
        if level > (pairs - 1) / pairs:
            problem = (
                f"{pairs} pairs of data set and model allow a level of {(pairs - 1) / pairs:g}"
            )
            rows.append({"nominal": level, "problem": problem})
    feasible = [level for level in levels if level <= (pairs - 1) / pairs]
    if feasible:
        found = or_problem(lambda: interval_coverage(table, level=feasible, seed=seed))
        if "model" in found:
            names = found[["model", "dataset"]].itertuples(index=False, name=None)
            found = found.assign(left_out=[", ".join(map(str, name)) for name in names])
        rows += found.to_dict("records")
    columns = ("left_out", "nominal", "networks", "covered", "length", "mae", "problem")
    return tidy(rows, columns)
