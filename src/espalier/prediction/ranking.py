"""Ranking of pruners: rank-biased overlap, the topometric mixture, and what it is compared with.

A strategy gives every pruner of a cell (model, dataset, sparsity) a score, lowest first. Its order
is compared with that of the accuracies by rank-biased overlap (Webber, Moffat and Zobel, "A
similarity measure for indefinite rankings", ACM TOIS 2010). The tables are 4, 11 and 12 of
Cunegatti et al., "Understanding Sparse Neural Networks from their Topology via Multipartite Graph
Representations" (TMLR 2024), sections 4.1, 4.3 and appendix E. They came without code. What is
named "published" here was inferred from their cells (docs/ranking.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from espalier.errors import ConfigurationError, DataError, unknown_name
from espalier.prediction.features import (
    KEYS,
    feature_matrix,
    group_codes,
    require_columns,
    require_unique,
    scaled_within,
)
from espalier.prediction.importance import PEARSON_REGRESSORS, pearson_importance
from espalier.prediction.published import BASELINES, TMLR_PRUNERS, ramanujan_baselines
from espalier.prediction.regression import LINEAR, settings_of
from espalier.seeds import numpy_generator

PERSISTENCES = (0.25, 0.5, 0.75)
"""The values of p that the papers average over (their alpha)."""

CELL = ("model", "dataset", "sparsity")
"""The columns that pruners are ranked within."""

TIES = ("average", "alphabetical")

MISSING: Mapping[str, float] = {"last": np.inf, "first": -np.inf}
"""Scores of a pruner that a measure has no value for."""

RANKED_PRUNERS: Mapping[int, tuple[str, ...]] = {
    4: TMLR_PRUNERS,
    11: ("grasp", "prospr", "snip", "synflow"),
    12: ("er", "erk", "uniform"),
}
"""What each published table ranks: all seven, those that score weights, the random ones."""

MEAN_RANKS: Mapping[str, tuple[tuple[str, ...], str]] = {
    "mean rank per (architecture, sparsity)": (("model", "sparsity"), "dataset"),
    "mean rank per architecture": (("model",), "dataset"),
    "mean rank per sparsity": (("sparsity",), "model"),
    "mean rank": ((), "model"),
}
"""Strategies without a graph: ranks are averaged over the cells that agree in the first columns and
differ in the second, which is what is held out."""

MIXTURE = "topometric mixture"
RANDOM = "random"
AVERAGE = "Avg"
"""Name of a row for the mean over sparsities."""

PUBLISHED_STRATEGIES: Mapping[str, str] = {
    "Layer-Density": "layer_density",
    "delta_r": "delta_r",
    "delta_r_imdb": "delta_r_imdb",
    "lambda_imsg": "lambda_imsg",
    "Ours": MIXTURE,
}
"""Names of the published tables, and those of this module."""


# -- rank-biased overlap -------------------------------------------------------------------------


def agreements(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the share of common items among the first d of two rankings, for d = 1 ... n.

    Items with equal scores are tied. The value is then the exact mean over all ways to break the
    ties of both rankings independently (the RBO^a of Corsi and Urbano, "The treatment of ties in
    rank-biased overlap", SIGIR 2024). A ranking whose items are all tied is the random order.

    Args:
        first: (n,) score of each item, lowest first.
        second: (n,) likewise, of the same items.

    Returns:
        (n,) float64, at depths 1 to n; the last is 1.

    Raises:
        DataError: fewer than two items, unequal lengths, or a score that is NaN.
    """
    chances = [_chance_of_depth(scores) for scores in _checked(first, second)]
    depths = np.arange(1, len(chances[0]) + 1)
    return np.einsum("id,id->d", *chances) / depths


def rbo_extrapolated(
    first: np.ndarray, second: np.ndarray, p: float | Sequence[float] = PERSISTENCES
) -> float:
    """Return the extrapolated rank-biased overlap, RBO_ext of Webber et al. (2010), equation 30.

    A_n p^n + (1 - p) / p * sum over d of A_d p^d, where A_d is the agreement at depth d: what lies
    below the last item is taken to agree as much as what was seen. Equal rankings have 1. This is
    what the published tables hold.

    Args:
        first: (n,) score of each item, lowest first; equal scores are ties (`agreements`).
        second: (n,) likewise, of the same items.
        p: persistence in (0, 1), or several to average over; small p looks at the top alone.

    Raises:
        ConfigurationError: p is outside (0, 1).
        DataError: as in `agreements`.
    """
    agreement = agreements(first, second)
    n = len(agreement)
    depths = np.arange(1, n + 1)
    return float(
        np.mean(
            [
                agreement[-1] * q**n + (1 - q) / q * float(agreement @ q**depths)
                for q in _persistences(p)
            ]
        )
    )


def rbo_truncated(
    first: np.ndarray, second: np.ndarray, p: float | Sequence[float] = PERSISTENCES
) -> float:
    """Return the rank-biased overlap summed up to the last item: the formula that the paper prints.

    (1 - p) * sum over d = 1 ... n of p^(d - 1) A_d. The infinite sum is cut at n, so that equal
    rankings have 1 - p^n, not 1. Args, errors: as in `rbo_extrapolated`.
    """
    agreement = agreements(first, second)
    exponents = np.arange(len(agreement))
    return float(np.mean([(1 - q) * float(agreement @ q**exponents) for q in _persistences(p)]))


def random_overlap(items: int, p: float | Sequence[float] = PERSISTENCES) -> float:
    """Return the expectation of `rbo_extrapolated` for a random order of n items, exactly.

    The agreement at depth d has the mean d / n, against whatever order.

    Raises:
        ConfigurationError: p is outside (0, 1).
        DataError: fewer than two items.
    """
    return rbo_extrapolated(np.zeros(items), np.arange(float(items)), p)


def alphabetical(scores: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Return the positions 0 ... n - 1 of items by score, equal ones by their names."""
    order = np.lexsort((np.asarray(names, dtype=str), scores))
    positions = np.empty(len(order), dtype=np.float64)
    positions[order] = np.arange(len(order))
    return positions


def _chance_of_depth(scores: np.ndarray) -> np.ndarray:
    """Return (n, n): the chance of item i to be among the first d when ties break at random."""
    depths = np.arange(1, len(scores) + 1)
    before = (scores[None, :] < scores[:, None]).sum(axis=1)
    tied = (scores[None, :] == scores[:, None]).sum(axis=1)
    return np.clip((depths - before[:, None]) / tied[:, None], 0.0, 1.0)


def _checked(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape:
        raise DataError(f"rankings of shapes {a.shape} and {b.shape}; give one score per item")
    if len(a) < 2:
        raise DataError(f"{len(a)} item: a ranking needs two or more")
    if np.isnan(a).any() or np.isnan(b).any():
        raise DataError("a score is NaN; leave that item out of both rankings, or make it inf")
    return a, b


def _persistences(p: float | Sequence[float]) -> np.ndarray:
    values = np.atleast_1d(np.asarray(p, dtype=np.float64))
    if values.size == 0 or not ((values > 0) & (values < 1)).all():
        raise ConfigurationError(f"p is {p}; a persistence lies between 0 and 1, ends excluded")
    return values


# -- strategies ----------------------------------------------------------------------------------


def true_order(table: pd.DataFrame) -> pd.DataFrame:
    """Return the accuracy of each pruner of each cell, averaged over its seeds.

    Returns:
        Columns model, dataset, sparsity, pruning, accuracy; sorted by them.

    Raises:
        DataError: a column is missing, a network has two rows, or an accuracy is not finite.
    """
    return _seed_means(table, "accuracy")


def measure_scores(
    table: pd.DataFrame, measure: str, *, highest_first: bool = True, missing: str = "last"
) -> pd.DataFrame:
    """Return the scores of a strategy that ranks pruners by one column, averaged over seeds.

    The published baselines are such strategies, highest first: `published.BASELINES`.

    Args:
        table: the key of a network and the measure; NaN where a network has none. Such seeds are
            left out of the mean.
        measure: column.
        highest_first: whether a high value is expected to mean a high accuracy.
        missing: where a pruner without a value for any seed goes: "last", or "first", where an
            ascending sort that is then reversed puts NaN. The latter gives six more published
            cells, and rewards a network for having no layer that can be measured.

    Returns:
        Columns model, dataset, sparsity, pruning, strategy, score (lowest first; +-inf if missing).

    Raises:
        ConfigurationError: an unknown place for missing values.
        DataError: a column is missing or a network has two rows.
    """
    if missing not in MISSING:
        raise unknown_name("place of missing values", missing, MISSING)
    require_columns(table, (*KEYS, measure))
    require_unique(table)
    means = _statistic(table, [*CELL, "pruning"], [measure], "mean")
    score = -means[measure] if highest_first else means[measure]
    return _scores(means, measure, score.fillna(MISSING[missing]).to_numpy(np.float64))


def mixture_weights(
    table: pd.DataFrame,
    regressors: Sequence[str] = PEARSON_REGRESSORS,
    *,
    features: str = "topometrics",
) -> pd.DataFrame:
    """Return the weights of the topometric mixture: Pearson's r of topometrics with regressions.

    Returns:
        One row per topometric; one column per sparsity ("0.9") and per model, as the paper's
        Figures 3 and 4. A topometric that is constant over a setting weighs 0.

    Raises:
        DataError: a column is missing or not finite.
    """
    settings = settings_of(table, ("sparsity", "model"))
    return pearson_importance(table, features, regressors, settings=settings).fillna(0.0)


def mixture_scores(
    table: pd.DataFrame,
    pruners: Sequence[str] | None = None,
    *,
    convention: str = "published",
    held_out: str | None = None,
    features: str = "topometrics",
) -> pd.DataFrame:
    """Return the scores of the topometric mixture: sum of x_i (w_i^M + w_i^s) / 2, equation 5.

    w^M and w^s are the Pearson weights of the model and of the sparsity, fitted on all pruners of
    the table. As published the weights are in sample: they were fitted on the very accuracies whose
    order they are asked for.

    Args:
        table: one row per network, with drop and topometrics.
        pruners: those to rank; None takes all.
        convention: "definition": x as it is and all eight regressors, as the text says (a sum over
            unlike units, so that the largest unit decides); "published": x scaled to [0, 1] within
            (model, dataset) over the networks that are ranked, and five of the regressors, which
            fits the published cells best of 30 variants.
        held_out: None; "dataset": the weights are fitted without the data set that is ranked;
            "model": without the model that is ranked, where w^s alone is left.
        features: an expression of `espalier.prediction.features`.

    Returns:
        Columns model, dataset, sparsity, pruning, strategy, score (lowest first).

    Raises:
        ConfigurationError: an unknown convention or kind of holding out.
        DataError: columns are missing or not finite, a network has two rows, or nothing is left
            to fit weights on.
    """
    if convention not in ("definition", "published"):
        raise unknown_name("convention", convention, ("definition", "published"))
    if held_out not in (None, "dataset", "model"):
        raise unknown_name("held_out", held_out, ("None", "dataset", "model"))
    require_unique(table)
    ranked = _chosen(table, pruners)
    x = feature_matrix(ranked, features)
    values = x.values
    if convention == "published":
        values = scaled_within(values, ranked, ("model", "dataset"))
    regressors = PEARSON_REGRESSORS if convention == "published" else LINEAR
    weights = np.zeros_like(values)
    for level in [None] if held_out is None else sorted(ranked[held_out].unique()):
        rows, fitted_on = np.ones(len(ranked), bool), table
        if held_out is not None:
            rows = ranked[held_out].to_numpy() == level
            fitted_on = _kept(table, table[held_out].to_numpy() != level)
        if fitted_on.empty:
            raise DataError(
                f"without the {held_out} {level!r} no network is left to fit weights on"
            )
        found = mixture_weights(fitted_on, regressors, features=features)
        weights[rows] = _weights_of(_kept(ranked, rows), found, held_out)
    scored = ranked[list(KEYS)].assign(score=(values * weights).sum(axis=1))
    name = MIXTURE if held_out is None else f"{MIXTURE}, {held_out} held out"
    means = _seed_means(scored, "score")
    return _scores(means, name, means["score"].to_numpy())


def mean_rank_scores(
    table: pd.DataFrame, strategy: str = "mean rank per architecture"
) -> pd.DataFrame:
    """Return the scores of a strategy without a graph: the pruner's mean rank elsewhere.

    Ranks (by accuracy, 1 the best, ties share their mean) are averaged over other data sets or
    other models, never over the ones that are ranked.

    Args:
        table: one row per network, with the accuracy; ranks are among all its pruners.
        strategy: a name of `MEAN_RANKS`.

    Returns:
        Columns model, dataset, sparsity, pruning, strategy, score (lowest first).

    Raises:
        ConfigurationError: an unknown strategy.
        DataError: columns are missing, or no other data set or model is there.
    """
    if strategy not in MEAN_RANKS:
        raise unknown_name("strategy", strategy, MEAN_RANKS)
    shared, other = MEAN_RANKS[strategy]
    truth = true_order(table)
    if len(np.unique(truth[other])) < 2:
        raise DataError(
            f"{strategy!r} looks at other {other}s, and the table has one; take another strategy"
        )
    ranks = truth.groupby(list(CELL))["accuracy"].rank(ascending=False).to_numpy(np.float64)
    total, count = _group_sums(ranks, group_codes(truth, [*shared, "pruning"]))
    own, own_count = _group_sums(ranks, group_codes(truth, [*shared, other, "pruning"]))
    elsewhere = count > own_count
    score = (total - own)[elsewhere] / (count - own_count)[elsewhere]
    return _scores(_kept(truth, elsewhere), strategy, score)


def random_scores(table: pd.DataFrame) -> pd.DataFrame:
    """Return the scores of a random order: all pruners tied, which gives its exact expectation.

    Raises:
        DataError: as in `true_order`.
    """
    truth = true_order(table)
    return _scores(truth, RANDOM, np.zeros(len(truth)))


def predicted_scores(table: pd.DataFrame, predicted: np.ndarray, strategy: str) -> pd.DataFrame:
    """Return the scores of a strategy that ranks pruners by a predicted drop, lowest first.

    Args:
        table: the key of each network.
        predicted: (networks,) drop of each, out of fold; averaged over seeds.
        strategy: its name.

    Raises:
        DataError: a column is missing, or a network has two rows.
    """
    means = _seed_means(table[list(KEYS)].assign(score=predicted), "score")
    return _scores(means, strategy, means["score"].to_numpy())


# -- comparison ----------------------------------------------------------------------------------


def overlaps(
    table: pd.DataFrame,
    scores: pd.DataFrame,
    pruners: Sequence[str] | None = None,
    *,
    ties: str = "average",
    p: float | Sequence[float] = PERSISTENCES,
) -> pd.DataFrame:
    """Return the rank-biased overlap of every strategy with the order of the accuracies, by cell.

    Pruners that lack an accuracy or a score in a cell are left out of that cell.

    Args:
        table: one row per network, with the accuracy.
        scores: of one or more strategies, one below the other.
        pruners: those to rank; None takes all.
        ties: "average", the mean over all ways to break ties of scores and of accuracies;
            "alphabetical", as a sort by score of a table sorted by name does.
        p: persistence, or several to average over.

    Returns:
        Columns strategy, model, dataset, sparsity, rbo (extrapolated), rbo_truncated, rbo_random
        (expected of a random order), pruners (how many were ranked).

    Raises:
        ConfigurationError: an unknown rule of ties, or p outside (0, 1).
        DataError: columns are missing, rows repeat, or a cell has fewer than two pruners to rank.
    """
    if ties not in TIES:
        raise unknown_name("rule of ties", ties, TIES)
    require_unique(scores, ("strategy", *CELL, "pruning"), "the table of scores")
    require_columns(scores, ("score",), "the table of scores")
    truth = true_order(_chosen(table, pruners))
    joined = scores.merge(truth, on=[*CELL, "pruning"], how="inner", validate="many_to_one")
    joined = joined.sort_values(["strategy", *CELL, "pruning"], kind="stable")
    scored = set(joined[["strategy", *CELL]].itertuples(index=False, name=None))
    strategies = list(dict.fromkeys(scores["strategy"]))
    cells = list(dict.fromkeys(truth[list(CELL)].itertuples(index=False, name=None)))
    for strategy in strategies:
        for cell in cells:
            if (strategy, *cell) not in scored:
                raise DataError(f"strategy {strategy!r} has no score for a pruner of {cell}")
    rows = []
    codes = group_codes(joined, ["strategy", *CELL])
    for code in np.unique(codes):
        part = _kept(joined, codes == code)
        named = part.iloc[0]
        if len(part) < 2:
            raise DataError(
                f"{named['strategy']!r} ranks {len(part)} pruner in "
                f"{tuple(named[c] for c in CELL)}: a ranking needs two or more; take more pruners "
                "or leave the cell out"
            )
        first = part["score"].to_numpy(np.float64)
        second = -part["accuracy"].to_numpy(np.float64)
        if ties == "alphabetical":
            names = list(part["pruning"])
            first, second = alphabetical(first, names), alphabetical(second, names)
        rows.append(
            {
                **{column: named[column] for column in ("strategy", *CELL)},
                "rbo": rbo_extrapolated(first, second, p),
                "rbo_truncated": rbo_truncated(first, second, p),
                "rbo_random": random_overlap(len(part), p),
                "pruners": len(part),
            }
        )
    return _in_order(pd.DataFrame(rows), ["strategy", *CELL], strategies)


def ranking_summary(found: pd.DataFrame, measure: str = "rbo") -> pd.DataFrame:
    """Return mean and sd over data sets, in the layout of the published tables.

    Args:
        found: of `overlaps`.
        measure: "rbo", "rbo_truncated" or "rbo_random".

    Returns:
        Columns model, strategy, sparsity ("0.6" ... and "Avg"), mean, sd (n - 1). The rows "Avg"
        hold the means over sparsities of both, as the papers have them.

    Raises:
        DataError: a column is missing.
    """
    require_columns(found, ("strategy", *CELL, measure), "the table of overlaps")
    keys = ["model", "strategy", "sparsity"]
    cells = _statistic(found, keys, [measure], "mean").rename(columns={measure: "mean"})
    cells["sd"] = _statistic(found, keys, [measure], "std")[measure]
    average = _statistic(cells, ["model", "strategy"], ["mean", "sd"], "mean")
    cells["sparsity"] = [f"{s:g}" for s in cells["sparsity"]]
    both = pd.concat([cells, average.assign(sparsity=AVERAGE)], ignore_index=True)
    strategies = list(dict.fromkeys(found["strategy"]))
    return _in_order(both, keys, strategies).reindex(
        columns=["model", "strategy", "sparsity", "mean", "sd"]
    )


def published_scores(
    table: pd.DataFrame,
    layers: pd.DataFrame,
    pruners: Sequence[str] | None = None,
    *,
    missing: str = "first",
) -> pd.DataFrame:
    """Return the scores of the five published strategies, one below the other.

    Args:
        table: the unrolled networks, of all seven pruners: the mixture's weights need them.
        layers: of `published.read_ramanujan`.
        pruners: those to rank; None takes those of the table.
        missing: as in `measure_scores`.

    Raises:
        ConfigurationError, DataError: as in `measure_scores` and `mixture_scores`.
    """
    ranked = sorted(_chosen(table, pruners)["pruning"].unique())
    baselines = _chosen(ramanujan_baselines(layers), ranked)
    parts = [measure_scores(baselines, measure, missing=missing) for measure in BASELINES]
    return pd.concat([*parts, mixture_scores(table, pruners)], ignore_index=True)


def ranking_tables(
    table: pd.DataFrame,
    layers: pd.DataFrame,
    numbers: Sequence[int] = tuple(RANKED_PRUNERS),
    *,
    collapsed: Sequence[tuple[object, ...]] = (),
    ties: str = "alphabetical",
    missing: str = "first",
) -> pd.DataFrame:
    """Return Tables 4, 11 and 12 of the paper, recomputed.

    The order of the accuracies is that of `layers`, which holds seven networks that the unrolled
    table lacks.

    Args:
        table: the unrolled networks of the four models and seven pruners.
        layers: of `published.read_ramanujan`.
        numbers: of the tables.
        collapsed: keys of networks to leave out of `layers`, `ReadingReport.collapsed` of the
            unrolled table: the papers leave them out.
        ties: as in `overlaps`.
        missing: as in `measure_scores`.

    Returns:
        Columns table, model, strategy (the published names), sparsity, mean, sd.

    Raises:
        ConfigurationError: a table has another number, or another option is unknown.
        DataError: columns are missing, rows repeat or values are not finite.
    """
    names = {ours: published for published, ours in PUBLISHED_STRATEGIES.items()}
    require_columns(layers, (*KEYS, "accuracy"), "the table of layers")
    dropped = set(collapsed)
    keys = layers[list(KEYS)].itertuples(index=False, name=None)
    kept = _kept(layers, np.array([key not in dropped for key in keys], dtype=bool))
    accuracies = _statistic(kept, KEYS, ["accuracy"], "first")
    parts = []
    for number in numbers:
        if number not in RANKED_PRUNERS:
            raise unknown_name("ranking table", number, map(str, RANKED_PRUNERS))
        pruners = RANKED_PRUNERS[number]
        scores = published_scores(table, kept, pruners, missing=missing)
        summary = ranking_summary(overlaps(accuracies, scores, pruners, ties=ties))
        parts.append(summary.assign(table=number, strategy=[names[s] for s in summary["strategy"]]))
    columns = ["table", "model", "strategy", "sparsity", "mean", "sd"]
    return pd.concat(parts, ignore_index=True).reindex(columns=columns)


def no_graph_scores(table: pd.DataFrame) -> pd.DataFrame:
    """Return the scores of the random order and of the four mean ranks, one below the other.

    Args:
        table: one row per network, with the accuracy.

    Raises:
        DataError: columns are missing, or there is one data set or one model.
    """
    means = [mean_rank_scores(table, strategy) for strategy in MEAN_RANKS]
    return pd.concat([random_scores(table), *means], ignore_index=True)


def bootstrap_overlaps(
    found: pd.DataFrame,
    reference: str | None = None,
    *,
    blocks: Sequence[str] = ("model", "dataset"),
    measure: str = "rbo",
    draws: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Return the mean overlap of each strategy with a bootstrap interval over blocks.

    Blocks are drawn with replacement, all their cells together: the sparsities of one architecture
    on one data set are not independent. All strategies see the same draws.

    Args:
        found: of `overlaps`.
        reference: a strategy; adds the differences of the others from it.
        blocks: columns that name a block.
        measure: "rbo", "rbo_truncated" or "rbo_random".
        draws: bootstrap samples.
        level: of the percentile interval.
        seed: of the draws.

    Returns:
        Columns strategy, minus (the reference, or None), mean, low, high, blocks.

    Raises:
        ConfigurationError: the reference is no strategy.
        DataError: a column is missing, strategies rank different cells, or there is one block.
    """
    require_columns(found, ("strategy", *CELL, measure), "the table of overlaps")
    wide = found.pivot_table(measure, list(CELL), "strategy", sort=False)
    if wide.isna().to_numpy().any():
        raise DataError("strategies rank different cells; compare them on the same ones")
    if reference is not None and reference not in wide.columns:
        raise unknown_name("reference", reference, map(str, wide.columns))
    codes = group_codes(wide.index.to_frame(index=False), blocks)
    count = int(codes.max()) + 1
    if count < 2:
        raise DataError(f"one block of {tuple(blocks)}: a bootstrap needs two or more")
    values = wide.to_numpy(float)
    sums = np.stack([np.bincount(codes, v, minlength=count) for v in values.T], axis=1)
    sizes = np.bincount(codes, minlength=count)
    weights = numpy_generator(seed, "bootstrap of overlaps").multinomial(
        count, np.full(count, 1 / count), size=draws
    )
    drawn = (weights @ sums) / (weights @ sizes)[:, None]
    mean = values.mean(axis=0)
    names = list(wide.columns)
    tail = (1 - level) / 2
    rows = []
    for minus in (None, *([reference] if reference is not None else [])):
        for k, name in enumerate(names):
            if name == minus:
                continue
            base = 0 if minus is None else names.index(minus)
            sample = drawn[:, k] - (0 if minus is None else drawn[:, base])
            low, high = np.quantile(sample, [tail, 1 - tail])
            value = mean[k] - (0 if minus is None else mean[base])
            rows.append(
                {
                    "strategy": name,
                    "minus": minus,
                    "mean": float(value),
                    "low": float(low),
                    "high": float(high),
                    "blocks": count,
                }
            )
    return pd.DataFrame(rows)


# -- parts ---------------------------------------------------------------------------------------


def _chosen(table: pd.DataFrame, pruners: Sequence[str] | None) -> pd.DataFrame:
    require_columns(table, ("pruning",))
    if pruners is None:
        return table
    known = set(table["pruning"])
    for name in pruners:
        if name not in known:
            raise unknown_name("pruner in the table", name, known, DataError)
    return _kept(table, table["pruning"].isin(list(pruners)).to_numpy(bool))


def _kept(table: pd.DataFrame, keep: np.ndarray) -> pd.DataFrame:
    return table.iloc[np.flatnonzero(keep)]


def _in_order(table: pd.DataFrame, by: Sequence[str], strategies: Sequence[str]) -> pd.DataFrame:
    """Return the table sorted by columns, with strategies in the order given."""
    places = [strategies.index(name) for name in table["strategy"]]
    order = table.assign(strategy=places).sort_values(list(by), kind="stable").index
    return table.loc[order].reset_index(drop=True)


def _group_sums(values: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each value the sum of its group and how many are in it."""
    return np.bincount(codes, values)[codes], np.bincount(codes)[codes]


def _seed_means(table: pd.DataFrame, column: str) -> pd.DataFrame:
    require_columns(table, (*KEYS, column))
    require_unique(table)
    if not np.isfinite(table[column].to_numpy(np.float64)).all():
        raise DataError(f"{column!r} has NaN or infinite values; drop these networks")
    return _statistic(table, [*CELL, "pruning"], [column], "mean")


def _statistic(
    table: pd.DataFrame, by: Sequence[str], columns: Sequence[str], name: str
) -> pd.DataFrame:
    """Return one row per group, sorted: its key and a statistic of its columns."""
    groups = table.groupby(list(by), sort=True)[list(columns)]
    return pd.DataFrame(groups.agg(name)).reset_index()


def _scores(cells: pd.DataFrame, strategy: str, score: np.ndarray) -> pd.DataFrame:
    named = cells[[*CELL, "pruning"]].reset_index(drop=True)
    return named.assign(strategy=strategy, score=score)


def _weights_of(rows: pd.DataFrame, weights: pd.DataFrame, held_out: str | None) -> np.ndarray:
    by_sparsity = weights[[f"{s:g}" for s in rows["sparsity"]]].to_numpy().T
    if held_out == "model":
        return by_sparsity
    return (by_sparsity + weights[list(rows["model"])].to_numpy().T) / 2
