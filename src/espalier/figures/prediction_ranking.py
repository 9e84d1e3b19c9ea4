"""Pruners in order: their ranks as observed and by strategy, and how well strategies do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from espalier.errors import DataError
from espalier.figures.prediction_parts import (
    DASHED,
    FAMILY_LOOKS,
    draw_interval,
    point_handle,
    refuse_repeated,
    spaced,
    with_numbers,
    without_reference,
)
from espalier.figures.style import (
    INK,
    PAPER,
    SERIES_COLOURS,
    SERIES_MARKERS,
    SMALL_SIZE,
    display_name,
    frame,
    new_figure,
    styled,
    wrap,
)
from espalier.figures.tables import count_in_words, in_order, keep, numbers, require, where

#: A control without a graph, the paper's strategy and a predictor, none of which saw the data set.
SHOWN_STRATEGIES = (
    "mean rank per architecture",
    "topometric mixture, dataset held out",
    "predicted drop (topometrics), dataset held out",
)


#: What a strategy looks at, and how the legend says it.
_SIGHTS = {
    "topometrics": "looks at the whole graph",
    "layer density": "looks at single layers",
    "no graph": "looks at no graph",
}
_OF_LAYERS = ("layer_density", "delta_r", "delta_r_imdb", "lambda_imsg")


@styled
def ranks_by_sparsity(ranks: pd.DataFrame, strategies: Sequence[str] | None = None) -> Figure:
    """Draw the rank of every pruner against sparsity: as observed, and as strategies have it.

    Columns of panels are architectures. The first row is the observed order, the others one
    strategy each; ranks are averaged over data sets.

    Args:
        ranks: one row per strategy, model, dataset, sparsity and pruning with observed_rank and
            predicted_rank (1 the best).
        strategies: which ones; None takes those of `SHOWN_STRATEGIES` that the table has, or else
            its first three.

    Raises:
        DataError: the table is empty, lacks columns or a strategy, or has a rank twice.
    """
    keys = ["strategy", "model", "dataset", "sparsity", "pruning"]
    require(ranks, "ranks", [*keys, "observed_rank", "predicted_rank"])
    ranks = with_numbers(ranks, "ranks")
    refuse_repeated(ranks, "ranks", keys)
    if strategies is None:
        known = [name for name in in_order(ranks, "strategy") if name != "random"]
        strategies = [name for name in SHOWN_STRATEGIES if name in known] or known[:3]
    models = in_order(ranks, "model")
    pruners = sorted(set(ranks["pruning"]))
    observed = ranks.drop_duplicates(keys[1:])
    rows = [("observed", observed, "observed_rank")]
    rows += [
        (name, keep(ranks, "ranks", "strategy", name), "predicted_rank") for name in strategies
    ]
    figure = new_figure(0.7 + 2.1 * len(models), 1.62 * len(rows))
    panels = figure.subplots(len(rows), len(models), squeeze=False, sharex=True, sharey=True)
    sparsities = np.unique(numbers(ranks, "sparsity"))
    for (row, column), axes in np.ndenumerate(panels):
        words, table, measure = rows[row]
        here = where(table, model=models[column])
        for index, pruner in enumerate(pruners):
            groups: Any = where(here, pruning=pruner).groupby("sparsity")[[measure]]
            own = groups.mean().reset_index()
            axes.plot(
                np.searchsorted(sparsities, numbers(own, "sparsity")), numbers(own, measure),
                linewidth=1.2, zorder=3, **pruner_look(index),
            )  # fmt: skip
        axes.set_xticks(np.arange(len(sparsities)), [f"{100 * s:g}" for s in sparsities])
        axes.set_yticks(np.arange(1, len(pruners) + 1))
        axes.set_ylim(len(pruners) + 0.5, 0.5)
        if row == 0:
            axes.set_title(display_name(models[column]), loc="left")
        if row == len(rows) - 1:
            axes.set_xlabel("sparsity (%)")
        if column == 0:
            label = wrap(figure, spaced(words), SMALL_SIZE, 1.3, "bold")
            axes.set_ylabel(f"{label}\nrank (1 is best)")
    counts = observed.groupby(["model", "sparsity", "pruning"]).size().to_numpy()
    low, high = int(counts.min()), int(counts.max())
    number = f"{low}" if low == high else f"{low} to {high}"
    caption = (
        "First row: rank of each pruner by test accuracy (mean of its seeds). Other rows: its rank "
        f"by a strategy. Mean over n = {number} data sets; no bars. A strategy is right where its "
        "lines lie as those of the first row."
    )
    handles: list[Artist] = [
        Line2D([], [], label=display_name(name), **pruner_look(index))
        for index, name in enumerate(pruners)
    ]
    frame(figure, "Ranks of the pruners, observed and predicted", caption, handles, 1.8)
    return figure


@styled
def overlap_by_strategy(
    ranking: pd.DataFrame, *, reference: str = "mean rank per architecture"
) -> Figure:
    """Draw the mean rank-biased overlap of every strategy, and its difference from a reference.

    Args:
        ranking: one row per strategy, and one per strategy and reference, with strategy, minus
            (empty for a mean; else the reference), mean, low, high, blocks and graph (whether the
            strategy looks at one). The strategy "random" gives the line of chance.
        reference: the strategy of the differences; without rows of it there is no right panel.

    Raises:
        DataError: the table is empty, lacks columns, or has a row twice.
    """
    require(ranking, "ranking", ["strategy", "minus", "mean", "low", "high", "blocks", "graph"])
    ranking = with_numbers(ranking, "ranking")
    refuse_repeated(ranking, "ranking", ["strategy", "minus"])
    means = ranking.loc[without_reference(ranking)]
    gains = where(ranking, minus=reference)
    chance = where(means, strategy="random")
    means = means.loc[np.asarray(means["strategy"] != "random")]
    if means.empty:
        raise DataError("the ranking table has no strategy but the random order")
    order = means.iloc[np.argsort(-numbers(means, "mean"), kind="stable")]
    names = list(order["strategy"])
    figure = new_figure(8.4, 0.7 + 0.26 * len(names))
    panels = figure.subplots(1, 2 if len(gains) else 1, squeeze=False, sharey=True)[0]
    for axes, table in zip(panels, (order, gains), strict=False):
        for point in table.to_dict("records"):
            if point["strategy"] in names:
                look = FAMILY_LOOKS[_sight(point["strategy"], point["graph"])]
                place = names.index(point["strategy"])
                draw_interval(axes, {**point, "value": point["mean"]}, place, look)
        axes.grid(False, axis="y")
        axes.tick_params(axis="y", length=0)
    panels[0].set_ylim(len(names) - 0.5, -0.5)
    panels[0].set_yticks(np.arange(len(names)), [spaced(name) for name in names])
    panels[0].set_xlabel("rank-biased overlap with the observed order")
    sights = {_sight(name, where(order, strategy=name)["graph"].iloc[0]) for name in names}
    handles = [
        point_handle(*FAMILY_LOOKS[sight], words)
        for sight, words in _SIGHTS.items()
        if sight in sights
    ]
    if len(chance):
        level = float(numbers(chance, "mean")[0])
        panels[0].axvline(
            level, color=INK, linewidth=0.9, linestyle=DASHED, zorder=1.5, gid="random"
        )
        handles.append(
            Line2D([], [], color=INK, linestyle=DASHED, label=f"random order ({level:.3f})")
        )
    caption = (
        "Extrapolated rank-biased overlap, mean over all cells (architecture, data set, sparsity); "
        f"bars: 95 % bootstrap intervals over n = {count_in_words(means, 'blocks')} of "
        "architecture and data set."
    )
    if len(gains):
        panels[1].axvline(0, color=INK, linewidth=0.8, zorder=1.5)
        panels[1].set_xlabel(f"difference from\n{reference}")
        caption += " Right: on the same draws; open mark: the interval holds 0."
    frame(figure, "How well strategies rank the pruners", caption, handles, 1.8)
    return figure


def pruner_look(index: int) -> dict[str, Any]:
    """Return colour, marker and face of the pruner number `index`; no two of 49 are alike."""
    colours, markers = (*SERIES_COLOURS, INK), (*SERIES_MARKERS, "X")
    turn, colour = index // len(colours), colours[index % len(colours)]
    return {
        "color": colour,
        "marker": markers[(index + turn) % len(markers)],
        "markerfacecolor": PAPER if turn % 2 else colour,
    }


def _sight(strategy: str, graph: object) -> str:
    if strategy in _OF_LAYERS or "(layer density)" in strategy:
        return "layer density"
    return "topometrics" if graph else "no graph"
