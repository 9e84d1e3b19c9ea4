"""The detectors of class trees beside each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from espalier.errors import ConfigurationError, DataError
from espalier.figures.style import (
    FAINT,
    GRID,
    INK,
    LABEL_SIZE,
    SMALL_SIZE,
    TEXT_SIZE,
    display_name,
    frame,
    new_figure,
    series_handle,
    series_style,
    styled,
    wrap,
)
from espalier.figures.tables import (
    HEADLINE_MEASURES,
    Spread,
    baseline_lines,
    count_in_words,
    in_order,
    last_checkpoints,
    measure_named,
    numbers,
    require,
    spread_in_words,
    summarise,
    where,
)

_PANEL_WIDTH = 1.75  # inches


@styled
def detector_comparison(
    rf: pd.DataFrame,
    baselines: pd.DataFrame | None = None,
    *,
    measures: Sequence[str] = HEADLINE_MEASURES,
    sparsity: float = 0.0,
    spread: Spread = "sd",
) -> Figure:
    """Draw every detector's trees on the headline measures, with star and chance as references.

    One row of panels per dataset, one column per measure, one line per detector, one mark per
    model. All pruners with the asked sparsity are pooled.

    Args:
        rf: table with dataset, model, pruner, sparsity, seed, checkpoint, detector and `measures`;
            the last checkpoint of each network is drawn.
        baselines: table with dataset, measure, star, permuted_mean and, if known, permuted_sd and
            permuted_exact; None draws no references.
        measures: columns to draw.
        sparsity: which networks; 0 is the unpruned ones.
        spread: `sd` (over trees) or `ci` (95 % t interval over seeds).

    Raises:
        DataError: a table is empty, or lacks columns, rows or values that the figure needs.
        ConfigurationError: an unknown measure or spread, or no measure.
    """
    if not measures:
        raise ConfigurationError("detector_comparison needs at least one measure to draw")
    described = [measure_named(name) for name in measures]
    require(
        rf,
        "rf",
        ["dataset", "model", "pruner", "sparsity", "seed", "checkpoint", "detector", *measures],
    )
    rows = last_checkpoints(rf)
    rows = rows.loc[np.isclose(numbers(rows, "sparsity"), sparsity)]
    if rows.empty:
        present = ", ".join(f"{value:g}" for value in sorted(set(numbers(rf, "sparsity"))))
        raise DataError(f"the rf table has no row with sparsity {sparsity:g}. It has: {present}")
    datasets, models = in_order(rows, "dataset"), in_order(rows, "model")
    detectors = in_order(rows, "detector")
    keys = ["dataset", "detector", "model"]

    panel_height = 0.55 + 0.3 * len(detectors) * max(1.0, len(models) / 3)
    figure = new_figure(1.35 + _PANEL_WIDTH * len(measures), panel_height * len(datasets) + 0.5)
    panels = figure.subplots(len(datasets), len(measures), squeeze=False, sharey=True)
    tables: list[pd.DataFrame] = []
    for column, (name, measure) in enumerate(zip(measures, described, strict=True)):
        table = summarise(rows, keys, name, spread)
        tables.append(table)
        for row, dataset in enumerate(datasets):
            axes = panels[row, column]
            here = where(table, dataset=dataset)
            _stripes(axes, len(detectors))
            for index, model in enumerate(models):
                points = where(here, model=model).set_index("detector").reindex(detectors)
                shift = (index - (len(models) - 1) / 2) * min(0.24, 0.7 / len(models))
                look = series_style(index)
                axes.errorbar(
                    numbers(points, "mean"),
                    np.arange(len(detectors)) + shift,
                    xerr=np.nan_to_num(numbers(points, "half")),
                    fmt=look["marker"],
                    color=look["color"],
                    markersize=4,
                    elinewidth=0.8,
                    capsize=1.5,
                )
            _references(axes, baselines, dataset, name)
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=measure.count, steps=[1, 2, 5, 10]))
            axes.grid(False, axis="y")
            if row == 0:
                label = wrap(figure, measure.label, TEXT_SIZE, 0.8 * _PANEL_WIDTH)
                axes.set_title(label, fontsize=TEXT_SIZE)
            if row == len(datasets) - 1 and measure.better:
                arrow = "← better" if measure.better == "lower" else "better →"
                axes.set_xlabel(arrow, fontsize=SMALL_SIZE)
    for row, dataset in enumerate(datasets):
        axes = panels[row, 0]
        axes.set_yticks(np.arange(len(detectors)), [display_name(name) for name in detectors])
        axes.set_ylim(len(detectors) - 0.5, -0.5)
        axes.set_ylabel(display_name(dataset), fontsize=LABEL_SIZE, fontweight="bold")
    for axes in panels.flat:
        axes.tick_params(axis="y", length=0, labelsize=TEXT_SIZE)
        axes.spines["left"].set_visible(False)
    handles = [_point_handle(index, display_name(model)) for index, model in enumerate(models)]
    counts = _tree_counts(pd.concat(tables), detectors)
    caption = (
        f"{'Unpruned' if sparsity == 0 else f'{100 * sparsity:g} % sparse'} converged networks. "
        f"Marks: {spread_in_words(spread)}. Trees per mark: {counts}."
    )
    if baselines is not None:
        handles += [
            Line2D([], [], color=INK, linewidth=0.9, linestyle=(0, (6, 2)), label="star tree"),
            Line2D(
                [], [], color=INK, linewidth=0.9, linestyle=(0, (6, 2, 1, 2)), label="random tree"
            ),
            Patch(facecolor=FAINT, alpha=0.6, label="permuted truth ± 1 sd"),
        ]
        caption += (
            " The star tree says nothing; the permuted truth has the true shape with its classes "
            "shuffled, the level of chance; random trees are binary (mean)."
        )
    frame(figure, "Detectors of class trees against the true tree", caption, handles)
    return figure


def _stripes(axes: Axes, count: int) -> None:
    for position in range(0, count, 2):
        axes.axhspan(position - 0.5, position + 0.5, color=GRID, alpha=0.45, linewidth=0, zorder=0)


def _references(axes: Axes, baselines: pd.DataFrame | None, dataset: str, measure: str) -> None:
    for name, value, deviation in baseline_lines(baselines, dataset, measure):
        if name == "star tree":
            axes.axvline(value, color=INK, linewidth=0.9, linestyle=(0, (6, 2)), zorder=1.5)
            continue
        if name == "random tree":
            axes.axvline(value, color=INK, linewidth=0.9, linestyle=(0, (6, 2, 1, 2)), zorder=1.5)
            continue
        if np.isfinite(deviation) and deviation > 0:
            axes.axvspan(
                value - deviation, value + deviation, color=FAINT, alpha=0.5, linewidth=0, zorder=1
            )
        axes.axvline(value, color=INK, linewidth=0.9, linestyle=(0, (1, 1.6)), zorder=1.5)


def _point_handle(index: int, label: str) -> Line2D:
    handle = series_handle(index, label)
    handle.set_linestyle("none")
    return handle


def _tree_counts(table: pd.DataFrame, detectors: Sequence[str]) -> str:
    parts = []
    for detector in detectors:
        own = where(table, detector=detector)
        if not own.empty:
            parts.append(
                f"{display_name(detector)} {count_in_words(own, 'trees').split(' tree')[0]}"
            )
    return ", ".join(parts)


__all__ = ["detector_comparison"]
