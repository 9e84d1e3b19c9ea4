"""Strategies that rank pruners, their overlaps with intervals, and the ranks themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from espalier.errors import DataError
from espalier.prediction.features import KEYS, RAMANUJAN, rows_and_columns
from espalier.prediction.honest import FAMILIES
from espalier.prediction.published import BASELINES, ramanujan_baselines
from espalier.prediction.ranking import (
    MEAN_RANKS,
    MIXTURE,
    RANDOM,
    bootstrap_overlaps,
    mean_rank_scores,
    measure_scores,
    mixture_scores,
    predicted_scores,
    random_scores,
    true_order,
)
from espalier.prediction.regression import CELL
from espalier.prediction.tables import LEFT_OUT, has_layer_density, or_problem, tidy

KNOWS: Mapping[str, str] = {
    RANDOM: "nothing",
    "mean rank": "ranks on other architectures",
    "mean rank per sparsity": "ranks on other architectures",
    "mean rank per architecture": "ranks of this architecture on other data sets",
    "mean rank per (architecture, sparsity)": "the same, at this sparsity",
    MIXTURE: "the accuracies it ranks",
    f"{MIXTURE}, dataset held out": "accuracies on other data sets",
    f"{MIXTURE}, model held out": "accuracies of other architectures",
}


def strategy_scores(
    table: pd.DataFrame,
    layers: pd.DataFrame | None = None,
    predictions: pd.DataFrame | None = None,
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Return the scores of every strategy, and why some are not there.

    Strategies are the random order, mean ranks, the topometric mixture (as published, and with the
    data set or the model held out), the layers' measures, and predicted drops.

    Args:
        table: one row per network.
        layers: one row per layer; with the Ramanujan measures all published baselines are there.
        predictions: of `protocol_predictions`.
    """
    makers: dict[str, Callable[[], pd.DataFrame]] = {RANDOM: lambda: random_scores(table)}
    for name in reversed(list(MEAN_RANKS)):
        makers[name] = lambda name=name: mean_rank_scores(table, name)
    for held_out in (None, "dataset", "model"):
        name = MIXTURE if held_out is None else f"{MIXTURE}, {held_out} held out"
        makers[name] = lambda held_out=held_out: mixture_scores(table, held_out=held_out)
    if has_layer_density(table):
        makers["layer_density"] = lambda: measure_scores(table, "layer_density")
    if layers is not None and "degree_bound" in layers:
        known = table[list(KEYS)].merge(ramanujan_baselines(layers), on=list(KEYS), how="left")
        for measure in BASELINES[1:]:
            makers[measure] = lambda measure=measure: measure_scores(known, measure)
    if predictions is not None:
        groups: Any = predictions.groupby(["protocol", "predictor"], sort=False)
        for (protocol, predictor), part in groups:
            # Where pruners are left out each is predicted by another fit: their order says little.
            compared = protocol in LEFT_OUT and protocol != "leave-pruner-out"
            if not compared or predictor not in FAMILIES or part["problem"].iloc[0]:
                continue
            name = f"predicted drop ({predictor}), {LEFT_OUT[protocol]} held out"
            makers[name] = lambda part=part, name=name: predicted_scores(
                part, part["predicted"].to_numpy(np.float64), name
            )
    parts, problems = [], {}
    for name, make in makers.items():
        try:
            parts.append(make())
        except DataError as error:
            problems[name] = str(error)
    return pd.concat(parts, ignore_index=True), problems


def strategy_is_of_topology(strategy: str) -> bool:
    """Return whether a strategy looks at a graph: topometrics, or Ramanujan measures of layers."""
    return strategy in RAMANUJAN or strategy.startswith((MIXTURE, "predicted drop (topometrics)"))


def ranking_rows(
    found: pd.DataFrame,
    problems: Mapping[str, str] | None = None,
    *,
    draws: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Return the mean overlap of every strategy, and differences, with bootstrap intervals.

    Args:
        found: of `ranking.overlaps`.
        problems: of `strategy_scores`.
        draws, seed: of the bootstrap over pairs of model and data set.

    Returns:
        Columns strategy, knows, graph, minus (empty for a mean), mean, low, high, blocks, problem.
    """
    parts = []
    strategies = list(dict.fromkeys(found["strategy"]))
    references = ("mean rank per architecture", "mean rank", "layer_density")
    for k, reference in enumerate([None, *(name for name in references if name in strategies)]):

        def scored(reference: str | None = reference) -> pd.DataFrame:
            return bootstrap_overlaps(found, reference, draws=draws, seed=seed)

        part = or_problem(scored)
        parts.append(part[part["minus"].notna()] if k > 0 and "minus" in part else part)
    rows = pd.concat(parts, ignore_index=True)
    missing = [{"strategy": s, "problem": why} for s, why in (problems or {}).items()]
    rows = pd.concat([rows, pd.DataFrame(missing)], ignore_index=True)
    if "strategy" in rows:
        rows["graph"] = [strategy_is_of_topology(str(name)) for name in rows["strategy"]]
        rows["knows"] = [_knowledge(str(name)) for name in rows["strategy"]]
    columns = ("strategy", "knows", "graph", "minus", "mean", "low", "high", "blocks", "problem")
    return tidy(rows, columns)


def _knowledge(strategy: str) -> str:
    if strategy.startswith("predicted drop"):
        return f"other networks; {strategy.rsplit(', ', 1)[1]}"
    return KNOWS.get(strategy, "the masks")


def rank_rows(table: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """Return the place of every pruner in every cell, by accuracy and by each strategy.

    Returns:
        Columns strategy, graph, model, dataset, sparsity, pruning, observed_rank, predicted_rank;
        1 is the best, ties share their mean.
    """
    ranked = scores.merge(true_order(table), on=[*CELL, "pruning"])
    observed: Any = ranked.groupby(["strategy", *CELL], sort=False)["accuracy"]
    predicted: Any = ranked.groupby(["strategy", *CELL], sort=False)["score"]
    ranked["observed_rank"] = observed.rank(ascending=False)
    ranked["predicted_rank"] = predicted.rank()
    ranked["graph"] = [strategy_is_of_topology(str(name)) for name in ranked["strategy"]]
    columns = ["strategy", "graph", *CELL, "pruning", "observed_rank", "predicted_rank"]
    return rows_and_columns(ranked, None, columns)
