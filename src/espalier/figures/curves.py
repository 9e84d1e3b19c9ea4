"""Accuracy, sparsity and the distance to the true class tree, along training and pruning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from espalier.errors import DataError
from espalier.figures.style import (
    FAINT,
    INK,
    PAPER,
    SMALL_SIZE,
    display_name,
    frame,
    label_points,
    new_figure,
    series_handle,
    series_style,
    spread,
    styled,
    text_extent,
)
from espalier.figures.tables import (
    PrintedMeasure,
    Spread,
    baseline_lines,
    count_in_words,
    in_order,
    in_rising_order,
    keep,
    last_checkpoints,
    measure_named,
    networks,
    numbers,
    require,
    spread_in_words,
    summarise,
    where,
)

_COLUMNS = ["dataset", "model", "pruner", "sparsity", "seed", "checkpoint", "detector"]
_PANEL_WIDTH = 3.75
_SINGLE_WIDTH = 4.6
_BASELINE_DASHES = {
    "star tree": (0, (6, 2)),
    "permuted truth": (0, (1, 1.6)),
    "random tree": (0, (6, 2, 1, 2)),
}
_REFERENCE_LABELS = {
    "star tree": "star tree\n{:.3g}",
    "permuted truth": "permuted\ntruth {:.3g}",
    "random tree": "random\ntree {:.3g}",
}
_BASELINES_IN_WORDS = (
    "Dashed: the star tree, which says nothing. Dotted: the true tree with its classes permuted, "
    "the level of chance. Dash-dotted: random binary trees (mean)."
)


@styled
def training_curve(
    rf: pd.DataFrame,
    baselines: pd.DataFrame | None = None,
    *,
    measure: str = "rf_unrooted",
    detector: str = "nested_sbm",
    spread: Spread = "sd",
) -> Figure:
    """Draw test accuracy and the distance to the true tree along the training of dense networks.

    One column of panels per dataset, one line per model: test accuracy (share of test images, in
    percent) above, the distance below, both against the epoch of the checkpoint.

    Args:
        rf: table with dataset, model, pruner, sparsity, seed, checkpoint, epoch, detector,
            test_accuracy (0 to 1) and `measure`; rows with sparsity above 0 are left out.
        baselines: table with dataset, measure, star, permuted_mean and, if known, permuted_exact;
            None draws no reference lines.
        measure: column with the distance.
        detector: which detector's trees.
        spread: `sd` (over trees) or `ci` (95 % t interval over seeds).

    Raises:
        DataError: a table is empty, or lacks columns, rows or values that the figure needs.
        ConfigurationError: an unknown measure or spread.

    Source: Petkov (2021), Figures 5 and 8, with accuracy on an axis of its own.
    """
    measured = measure_named(measure)
    require(rf, "rf", [*_COLUMNS, "epoch", "test_accuracy", measure])
    rows = keep(rf, "rf", "detector", detector)
    rows = where(rows, sparsity=0)
    if rows.empty:
        raise DataError("the rf table has no row with sparsity 0: no training run to draw")
    models = in_order(rows, "model")
    datasets = in_order(rows, "dataset")
    keys = ["dataset", "model", "checkpoint"]
    epochs = cast(pd.DataFrame, rows.groupby(keys, as_index=False)["epoch"].mean())
    distance = summarise(rows, keys, measure, spread).merge(epochs, on=keys)
    accuracy = summarise(networks(rows), keys, "test_accuracy", spread).merge(epochs, on=keys)

    figure, panels = _grid(2, len(datasets), heights=(1.45, 2.15))
    for column, dataset in enumerate(datasets):
        top, bottom = panels[:, column]
        for index, model in enumerate(models):
            _band(top, _pick(accuracy, dataset, model), "epoch", index, factor=100)
            _band(bottom, _pick(distance, dataset, model), "epoch", index)
        top.set_title(display_name(dataset), loc="left")
        top.tick_params(labelbottom=False)
        top.sharex(bottom)
        bottom.set_xlabel("epoch")
        _percent_limits(top, where(accuracy, dataset=dataset))
        _finish_distance_axis(bottom, baselines, dataset, measure)
    panels[0, 0].set_ylabel("test accuracy (%)")
    panels[1, 0].set_ylabel(_distance_label(measured))
    caption = (
        f"Networks without pruning; class trees by {display_name(detector)}. "
        f"Distance: {spread_in_words(spread)}, n = {count_in_words(distance, 'trees')} "
        f"per point ({_seeds(distance)}). Accuracy: {_accuracy_spread(spread, accuracy)}."
    )
    _frame(figure, "Class trees and accuracy along training", caption, models, baselines)
    return figure


@styled
def sparsity_vs_rf(
    rf: pd.DataFrame,
    baselines: pd.DataFrame | None = None,
    *,
    measure: str = "rf_unrooted",
    detector: str = "nested_sbm",
    spread: Spread = "sd",
) -> Figure:
    """Draw the distance to the true tree, and test accuracy, against sparsity.

    One column of panels per dataset and pruner, one line per model, over converged networks. The
    networks with sparsity 0 begin every pruner's line. Models are shifted sideways by up to one
    percentage point, so that their bars do not hide each other.

    Args:
        rf: table with dataset, model, pruner, sparsity (0 to 1), seed, checkpoint, detector,
            test_accuracy (0 to 1) and `measure`; the last checkpoint of each network is drawn.
        baselines: as for `training_curve`.
        measure: column with the distance.
        detector: which detector's trees.
        spread: `sd` (over trees) or `ci` (95 % t interval over seeds).

    Raises:
        DataError: a table is empty, or lacks columns, rows or values that the figure needs.
        ConfigurationError: an unknown measure or spread.

    Source: Petkov (2021), Figures 6 and 9, with accuracy on an axis of its own.
    """
    measured = measure_named(measure)
    distance, accuracy, facets, models = _pruned(rf, measure, detector, spread)
    figure, panels = _grid(2, len(facets), heights=(2.15, 1.45))
    for column, (dataset, pruner) in enumerate(facets):
        top, bottom = panels[:, column]
        for index, model in enumerate(models):
            shift = (index - (len(models) - 1) / 2) * min(0.9, 2.0 / max(1, len(models) - 1))
            where = (dataset, pruner, model)
            _bars(top, _line(distance, *where), index, shift)
            _bars(bottom, _line(accuracy, *where), index, shift, factor=100)
        top.set_title(_facet_title(dataset, pruner, facets), loc="left")
        top.tick_params(labelbottom=False)
        top.sharex(bottom)
        ticks = sorted(100 * value for value in set(numbers(distance, "sparsity")))
        bottom.set_xticks(np.arange(0, 101, 25))
        bottom.set_xticks(ticks, minor=True)
        bottom.tick_params(which="minor", length=2, color=FAINT)
        bottom.set_xlim(-4, max(ticks) + 4)
        bottom.set_xlabel("sparsity (% of hidden units removed)")
        _finish_distance_axis(top, baselines, dataset, measure)
        bottom.set_ylim(0, 100)
    panels[0, 0].set_ylabel(_distance_label(measured))
    panels[1, 0].set_ylabel("test accuracy (%)")
    caption = (
        f"Converged networks; class trees by {display_name(detector)}. "
        f"Distance: {spread_in_words(spread)}, n = {count_in_words(distance, 'trees')} "
        f"per point ({_seeds(distance)}). Accuracy: {_accuracy_spread(spread, accuracy)}. "
        "Models are shifted sideways a little, so that their bars stay apart."
    )
    _frame(figure, "Class trees against sparsity", caption, models, baselines)
    return figure


@styled
def accuracy_vs_rf(
    rf: pd.DataFrame,
    baselines: pd.DataFrame | None = None,
    *,
    measure: str = "rf_unrooted",
    detector: str = "nested_sbm",
    spread: Spread = "sd",
) -> Figure:
    """Draw the distance to the true tree against test accuracy, each point named by its sparsity.

    One panel per dataset and pruner; a line joins the sparsities of one model in their order,
    from the unpruned network (filled marker) on.

    Args:
        rf: as for `sparsity_vs_rf`.
        baselines: as for `training_curve`.
        measure: column with the distance.
        detector: which detector's trees.
        spread: `sd` (over trees) or `ci` (95 % t interval over seeds).

    Raises:
        DataError: a table is empty, or lacks columns, rows or values that the figure needs.
        ConfigurationError: an unknown measure or spread.

    Source: Petkov (2021), Figures 7 and 10.
    """
    measured = measure_named(measure)
    distance, accuracy, facets, models = _pruned(rf, measure, detector, spread)
    keys = ["dataset", "pruner", "model", "sparsity"]
    points = distance.merge(
        accuracy[[*keys, "mean", "half"]], on=keys, suffixes=("", "_accuracy"), how="inner"
    )
    figure, panels = _grid(1, len(facets), heights=(3.9,), panel_width=4.2)
    pending = []
    for column, (dataset, pruner) in enumerate(facets):
        axes = panels[0, column]
        spots, labels, colours, bars = [], [], [], []
        for index, model in enumerate(models):
            line = _line(points, dataset, pruner, model)
            if line.empty:
                continue
            look = series_style(index)
            x, y = 100 * numbers(line, "mean_accuracy"), numbers(line, "mean")
            x_half, y_half = 100 * numbers(line, "half_accuracy"), numbers(line, "half")
            axes.plot(x, y, color=look["color"], linestyle=look["linestyle"], linewidth=0.8)
            axes.errorbar(
                x,
                y,
                xerr=_finite(x_half),
                yerr=_finite(y_half),
                fmt="none",
                ecolor=look["color"],
                elinewidth=0.6,
                capsize=0,
                alpha=0.35,
            )
            dense = numbers(line, "sparsity") == 0
            for chosen, face in ((dense, look["color"]), (~dense, PAPER)):
                axes.plot(
                    x[chosen],
                    y[chosen],
                    linestyle="none",
                    marker=look["marker"],
                    color=look["color"],
                    markerfacecolor=face,
                    markeredgewidth=1.2,
                    zorder=4,
                )
            spots.extend(zip(x, y, strict=True))
            labels.extend(f"{100 * value:g}" for value in numbers(line, "sparsity"))
            colours.extend([look["color"]] * len(line))
            for share in (-0.9, -0.6, -0.3, 0.3, 0.6, 0.9):
                bars.extend(zip(x, y + share * _finite(y_half), strict=True))
            for share in (0.25, 0.5, 0.75):
                bars.extend(
                    zip(
                        x[:-1] + share * np.diff(x),
                        y[:-1] + share * np.diff(y),
                        strict=True,
                    )
                )
        axes.set_title(_facet_title(dataset, pruner, facets), loc="left")
        axes.set_xlabel("test accuracy (%)")
        axes.margins(x=0.07)
        _finish_distance_axis(axes, baselines, dataset, measure)
        pending.append((axes, np.array(spots), labels, colours, np.array(bars)))
    panels[0, 0].set_ylabel(_distance_label(measured))
    caption = (
        f"Converged networks; class trees by {display_name(detector)}. Numbers are sparsities in % "
        "of hidden units removed; filled marker: unpruned; lines join sparsities in order. "
        f"Vertical bars: {spread_in_words(spread)}, n = "
        f"{count_in_words(points, 'trees')} per point ({_seeds(points)}). "
        f"Horizontal bars: {_accuracy_spread(spread, accuracy)}."
    )
    _frame(figure, "Class trees against accuracy", caption, models, baselines)
    for axes, spots, labels, colours, bars in pending:
        label_points(axes, spots, labels, colours=colours, obstacles=bars)
    return figure


def _pruned(
    rf: pd.DataFrame, measure: str, detector: str, how: Spread
) -> tuple[pd.DataFrame, pd.DataFrame, list[tuple[str, str]], list[str]]:
    """Return distance and accuracy by sparsity, the (dataset, pruner) facets, and the models."""
    require(rf, "rf", [*_COLUMNS, "test_accuracy", measure])
    rows = keep(last_checkpoints(rf), "rf", "detector", detector)
    models = in_order(rows, "model")
    facets = []
    parts = []
    for dataset in in_order(rows, "dataset"):
        here = where(rows, dataset=dataset)
        dense, sparse = where(here, sparsity=0), here.loc[numbers(here, "sparsity") > 0]
        for pruner in in_order(sparse, "pruner") or ["dense"]:
            own = where(sparse, pruner=pruner)
            # Every pruner starts from its own networks with sparsity 0, or else the dense ones.
            start = where(dense, pruner=pruner)
            start = start if not start.empty else where(dense, pruner="dense")
            facets.append((dataset, pruner))
            parts.append(pd.concat([start, own]).assign(pruner=pruner))
    table = pd.concat(parts)
    keys = ["dataset", "pruner", "model", "sparsity"]
    return (
        summarise(table, keys, measure, how),
        summarise(networks(table), keys, "test_accuracy", how),
        facets,
        models,
    )


def _grid(
    rows: int, columns: int, heights: Sequence[float], panel_width: float = _PANEL_WIDTH
) -> tuple[Figure, np.ndarray]:
    width = _SINGLE_WIDTH if columns == 1 else panel_width * columns
    figure = new_figure(width, sum(heights))
    panels = figure.subplots(
        rows, columns, squeeze=False, gridspec_kw={"height_ratios": list(heights)}
    )
    return figure, panels


def _pick(table: pd.DataFrame, dataset: str, model: str) -> pd.DataFrame:
    return in_rising_order(where(table, dataset=dataset, model=model), "checkpoint")


def _line(table: pd.DataFrame, dataset: str, pruner: str, model: str) -> pd.DataFrame:
    chosen = where(table, dataset=dataset, pruner=pruner, model=model)
    return in_rising_order(chosen, "sparsity")


def _finite(half: np.ndarray) -> np.ndarray:
    return np.nan_to_num(half, nan=0.0)


def _band(axes: Axes, line: pd.DataFrame, x: str, index: int, factor: float = 1) -> None:
    look = series_style(index)
    mean, half = factor * numbers(line, "mean"), factor * numbers(line, "half")
    axes.fill_between(
        numbers(line, x), mean - half, mean + half, color=look["color"], alpha=0.14, linewidth=0
    )
    axes.plot(numbers(line, x), mean, **look)


def _bars(axes: Axes, line: pd.DataFrame, index: int, shift: float, factor: float = 1) -> None:
    look = series_style(index)
    axes.errorbar(
        100 * numbers(line, "sparsity") + shift,
        factor * numbers(line, "mean"),
        yerr=factor * _finite(numbers(line, "half")),
        elinewidth=0.8,
        capthick=0.8,
        **look,
    )


def _percent_limits(axes: Axes, table: pd.DataFrame) -> None:
    """Show the accuracies that occur, from the next lower ten on, never beyond 100 %."""
    lowest = 100 * float((numbers(table, "mean") - _finite(numbers(table, "half"))).min())
    axes.set_ylim(max(0.0, 10 * np.floor(lowest / 10)), 100)


def _finish_distance_axis(
    axes: Axes, baselines: pd.DataFrame | None, dataset: str, measure: str
) -> None:
    """Begin the axis at 0 where values are never negative, and add the reference lines."""
    lines = baseline_lines(baselines, dataset, measure)
    if measure_named(measure).count:
        axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    low, high = axes.get_ylim()
    values = [value for _, value, _ in lines]
    high = max([high, *values])
    low = 0.0 if min([low, *values]) >= -1e-9 or high > 1.5 else min([low, *values])
    room = high - low
    axes.set_ylim(low, high + 0.06 * room)
    reference_labels = []
    for name, value, _ in lines:
        axes.axhline(
            value, color=INK, linewidth=0.9, linestyle=_BASELINE_DASHES[name], zorder=1.5, gid=name
        )
        reference_labels.append((_REFERENCE_LABELS[name].format(value), value))
    _right_labels(axes, reference_labels)


def _right_labels(axes: Axes, labels: Sequence[tuple[str, float]]) -> None:
    """Name horizontal lines at the right edge, kept apart where the lines are close."""
    if not labels:
        return
    figure = axes.figure
    height = axes.get_position().height * figure.get_size_inches()[1] * 72  # type: ignore[union-attr]
    low, high = axes.get_ylim()
    natural = np.array([(value - low) / (high - low) * height for _, value in labels])
    gap = max(text_extent(figure, text, SMALL_SIZE)[1] for text, _ in labels) * 72 + 2  # type: ignore[arg-type]
    for (text, value), own, moved in zip(
        labels, natural, spread(natural, gap, 0.0, height), strict=True
    ):
        axes.annotate(
            text,
            xy=(1.0, value),
            xycoords=("axes fraction", "data"),
            xytext=(4, moved - own),
            textcoords="offset points",
            va="center",
            fontsize=SMALL_SIZE,
            linespacing=1.1,
            annotation_clip=False,
        )


def _distance_label(measure: PrintedMeasure) -> str:
    words = measure.label.split(" ")
    half = (len(words) + 1) // 2
    lines = [" ".join(words[:half]), " ".join(words[half:]), measure.direction]
    return "\n".join(line for line in lines if line)


def _facet_title(dataset: str, pruner: str, facets: Sequence[tuple[str, str]]) -> str:
    several = len({name for _, name in facets if name != "dense"}) > 1
    return f"{display_name(dataset)}, {display_name(pruner)}" if several else display_name(dataset)


def _seeds(table: pd.DataFrame) -> str:
    return count_in_words(table, "seeds")


def _accuracy_spread(how: Spread, table: pd.DataFrame) -> str:
    if numbers(table, "seeds").max() == 1:
        return "one seed, no bar"
    return spread_in_words(how, "seeds") if how == "sd" else spread_in_words(how)


def _frame(
    figure: Figure,
    title: str,
    caption: str,
    models: Sequence[str],
    baselines: pd.DataFrame | None,
) -> None:
    handles = [series_handle(index, display_name(model)) for index, model in enumerate(models)]
    if baselines is not None:
        caption = f"{caption} {_BASELINES_IN_WORDS}"
    frame(figure, title, caption, handles)


__all__ = ["accuracy_vs_rf", "sparsity_vs_rf", "training_curve"]
