"""Hub neurons: centralities along training, thresholds, methods, ablations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from espalier.errors import DataError
from espalier.figures.style import (
    GREY,
    INK,
    OKABE_ITO,
    PAPER,
    SERIES_COLOURS,
    SERIES_DASHES,
    SERIES_MARKERS,
    SMALL_SIZE,
    display_name,
    frame,
    new_figure,
    styled,
)
from espalier.figures.tables import (
    count_in_words,
    in_rising_order,
    numbers,
    require,
    summarise,
    where,
)

_RUN = ["dataset", "model", "method", "k", "seed"]
_LINE = ["dataset", "model", "line"]
_PANEL = (3.3, 1.75)
_MOST_LINES = len(SERIES_COLOURS) * 2
_MARKS = 12

_METHODS: Mapping[str, str] = {
    "accset": "AccSET",
    "censet": "CenSET",
    "censet_fraction": "CenSET, lowest share",
    "dense": "dense",
    "katz": "Katz",
    "no_readding": "CenSET, not re-adding",
    "random": "random removal",
    "random_units": "random units",
    "readding_while_sd_falls": "CenSET, re-adding while σ falls",
    "set": "SET",
    "set_pure": "SET, sparse code",
    "static": "static sparse",
    "strength": "strength",
}
_UNITS = OKABE_ITO["blue"]


@styled
def centrality_distribution(hubs: pd.DataFrame) -> Figure:
    """Draw how the distribution of centrality over a network's units moves along training.

    A row of panels per data set and model, a panel per method. Bands: quantiles 5 to 95 % and 25
    to 75 % of the units, a line at the median, thin lines at the extremes; all are means over
    seeds. The axis is linear near 0 and logarithmic beyond, since tails are long.

    Args:
        hubs: one row per network, epoch and layer with dataset, model, method, k, seed, epoch,
            layer, min, max, q05, q25, q50, q75 and q95; rows of layer -1 (all units) are drawn.

    Raises:
        DataError: the table is empty, lacks columns, finite values or rows of layer -1.

    Source: Heath (2021), Figure 8, quantiles in place of histograms at three epochs.
    """
    values = ["min", "q05", "q25", "q50", "q75", "q95", "max"]
    require(hubs, "hubs", [*_RUN, "epoch", "layer", *values])
    rows = where(_with_lines(hubs), layer=-1)
    if rows.empty:
        raise DataError("the hubs table has no row with layer -1, all units together, to draw")
    _require_finite(rows, "hubs", values)
    groups = rows.groupby([*_LINE, "epoch"], sort=False)
    means = rows.groupby([*_LINE, "epoch"], sort=False, as_index=False).agg(
        dict.fromkeys(values, "mean")
    )
    seeds = np.array([own["seed"].nunique() for _, own in groups])
    places, lines = _places(rows), _lines(rows)
    figure = new_figure(max(4.6, 0.5 + 1.75 * len(lines)), 0.35 + _PANEL[1] * len(places))
    grid = figure.subplots(len(places), len(lines), sharex="row", sharey="row", squeeze=False)
    for (dataset, model), panels in zip(places, grid, strict=True):
        here = where(means, dataset=dataset, model=model)
        scale = max(1e-12, float(np.abs(numbers(here, "q50")).max()), _spread(here))
        for line, axes in zip(lines, panels, strict=True):
            own = in_rising_order(where(here, line=line), "epoch")
            if own.empty:
                axes.set_axis_off()
                continue
            epochs = numbers(own, "epoch")
            for low, high, alpha in (("q05", "q95", 0.18), ("q25", "q75", 0.38)):
                axes.fill_between(
                    epochs, numbers(own, low), numbers(own, high), color=_UNITS,
                    alpha=alpha, linewidth=0, gid="quantiles",
                )  # fmt: skip
            for name in ("min", "max"):
                axes.plot(epochs, numbers(own, name), color=GREY, linewidth=0.7)
            axes.plot(epochs, numbers(own, "q50"), color=INK, linewidth=1.3)
            axes.set_yscale("symlog", linthresh=scale)
            axes.axhline(0, color=GREY, linewidth=0.6, zorder=0.9)
            axes.set_title(_broken(line), loc="left")
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        panels[0].set_ylabel(_row_label(dataset, model, "centrality"), fontsize=SMALL_SIZE)
    for axes in grid[-1]:
        axes.set_xlabel("epoch")
    handles = [
        Line2D([], [], color=INK, linewidth=1.3, label="median unit"),
        Patch(color=_UNITS, alpha=0.5, linewidth=0, label="25 to 75 %"),
        Patch(color=_UNITS, alpha=0.18, linewidth=0, label="5 to 95 %"),
        Line2D([], [], color=GREY, linewidth=0.7, label="least and most central unit"),
    ]
    counts = f"{seeds.min()}" if seeds.min() == seeds.max() else f"{seeds.min()} to {seeds.max()}"
    frame(
        figure,
        "Centrality of the units along training",
        f"Quantiles over all units of a network, means over seeds (n = {counts}). The axis is "
        "linear about 0 and logarithmic beyond.",
        handles,
        handle_length=1.6,
    )
    return figure


@styled
def centrality_spread(training: pd.DataFrame) -> Figure:
    """Draw the mean and spread of centrality, and the test accuracy, along training.

    A column of panels per data set and model: mean of the centralities, their standard deviation,
    test accuracy. One line per method, seeds as bands.

    Args:
        training: one row per network and epoch with dataset, model, method, k, seed, epoch,
            test_accuracy (0 to 1), centrality_mean and centrality_sd.

    Raises:
        DataError: the table is empty, lacks columns, has no finite value, or too many methods.

    Source: Heath (2021), Figures 4 and 5.
    """
    quantities = ["centrality_mean", "centrality_sd", "test_accuracy"]
    require(training, "hub_training", [*_RUN, "epoch", *quantities])
    rows = _with_lines(training)
    return _along_training(
        rows,
        {
            "centrality_mean": ("mean centrality", 1),
            "centrality_sd": ("sd of centrality", 1),
            "test_accuracy": ("test accuracy (%)", 100),
        },
        "Spread of centrality and accuracy along training",
        "Mean and standard deviation are over the units of a network.",
        (1.35, 1.35, 1.35),
    )


@styled
def hub_methods(training: pd.DataFrame) -> Figure:
    """Draw test accuracy along training, one line per method, seeds as bands.

    Below it the share of units that are removed at an epoch, where a method removes any.

    Args:
        training: one row per network and epoch with dataset, model, method, k, seed, epoch,
            test_accuracy (0 to 1) and removed_neurons (of the epoch).

    Raises:
        DataError: the table is empty, lacks columns, has no finite value, or too many methods.

    Source: Heath (2021), Figure 9, with several seeds and with what is removed.
    """
    require(training, "hub_training", [*_RUN, "epoch", "test_accuracy", "removed_neurons"])
    rows = _with_lines(training)
    return _along_training(
        rows,
        {
            "test_accuracy": ("test accuracy (%)", 100),
            "removed_neurons": ("units removed\nat an epoch", 1),
        },
        "Sparse training methods compared",
        "Removed units may have grown back.",
        (2.2, 1.0),
    )


@styled
def threshold_search(accuracy: pd.DataFrame) -> Figure:
    """Draw accuracy against the threshold k, and below it how many units k removes.

    Args:
        accuracy: one row per run with dataset, model, method, k, seed, protocol, accuracy (0 to 1)
            and removed_neurons (of the whole run); runs without k are drawn as bands. A column
            validation_accuracy, by which k is to be chosen, is drawn where it is given.

    Raises:
        DataError: the table is empty, lacks columns or finite values, or no run has a k.

    Source: Heath (2021), Figures 6 and 7, with what is removed.
    """
    require(accuracy, "censet_accuracy", [*_RUN, "protocol", "accuracy", "removed_neurons"])
    _require_finite(accuracy, "censet_accuracy", ["accuracy", "removed_neurons"])
    searched = accuracy.loc[np.isfinite(_k(accuracy))]
    if searched.empty:
        raise DataError("the censet_accuracy table has no run with a threshold k")
    places = _places(searched)
    searched = searched.assign(method_name=[_METHODS.get(m, m) for m in searched["method"]])
    searched["k"] = _k(searched)
    methods = list(dict.fromkeys(searched["method_name"]))
    controls = _with_lines(accuracy.loc[~np.isfinite(_k(accuracy))])
    control_lines = _lines(controls)
    _require_few(len(methods) + len(control_lines))
    figure, grid = _columns(len(places), (1.75, 1.0))
    keys = ["dataset", "model", "method_name", "k"]
    measured = {"accuracy": ("test", "-")}
    if "validation_accuracy" in searched.columns:
        measured = {"accuracy": ("test", "-"), "validation_accuracy": ("validation", (0, (2, 1.5)))}
    counts = summarise(searched, keys, "accuracy")
    removed = summarise(searched, keys, "removed_neurons")
    for column, (dataset, model) in enumerate(places):
        top, bottom = grid[:, column]
        for index, method in enumerate(methods):
            look = _look(index)
            for name, (_, dash) in measured.items():
                finite = searched.loc[np.isfinite(numbers(searched, name))]
                if finite.empty:
                    continue
                own = where(
                    summarise(finite, keys, name), dataset=dataset, model=model, method_name=method
                )
                shown = look if name == "accuracy" else {**look, "linestyle": dash, "marker": ""}
                _band(top, own, "k", shown, 100)
            own = where(removed, dataset=dataset, model=model, method_name=method)
            _band(bottom, own, "k", look, 1)
        for index, line in enumerate(control_lines):
            values = 100 * numbers(
                where(controls, dataset=dataset, model=model, line=line), "accuracy"
            )
            if values.size:
                _reference(top, values, _look(len(methods) + index))
        top.set_title(f"{display_name(dataset)}, {display_name(model)}", loc="left")
        top.tick_params(labelbottom=False)
        top.sharex(bottom)
        bottom.set_yscale("symlog", linthresh=1)
        bottom.set_ylim(-0.3, 3 * max(1.0, float(numbers(removed, "mean").max())))
        bottom.set_xlabel("threshold k (units below μ - kσ go)")
    grid[0, 0].set_ylabel("accuracy (%)")
    grid[1, 0].set_ylabel("units removed\nin all")
    handles = [
        *(_handle(index, name) for index, name in enumerate(methods)),
        *(_reference_handle(len(methods) + i, line) for i, line in enumerate(control_lines)),
    ]
    if len(measured) > 1:
        handles += [
            Line2D([], [], color=INK, linestyle=dash, label=f"{name} accuracy")  # pyright: ignore[reportArgumentType]
            for name, dash in measured.values()
        ]
    caption = (
        "Accuracy is the mean of the last epochs. Lines: mean; bands: ± 1 standard deviation over "
        f"seeds, n = {count_in_words(counts, 'seeds')} per point. Where nothing is removed a run "
        "trains a static sparse network, whatever its k."
    )
    if control_lines:
        caption += " Horizontal: methods without a threshold."
    frame(figure, "Search for the threshold", caption, handles)
    return figure


@styled
def hub_ablation(ablation: pd.DataFrame) -> Figure:
    """Draw accuracy against the share of units removed: most central first, least, or random.

    Args:
        ablation: one row per network, order and count with dataset, model, method, k, seed, order
            ("top", "bottom", "random"), removed, neurons (candidates) and accuracy (0 to 1), and
            repeat where an order was repeated.

    Raises:
        DataError: the table is empty, lacks columns or finite values, or has an unknown order.
    """
    require(ablation, "hub_ablation", [*_RUN, "order", "removed", "neurons", "accuracy"])
    rows = _with_lines(ablation)
    _require_finite(rows, "hub_ablation", ["removed", "neurons", "accuracy"])
    words = {"top": "most central first", "random": "random", "bottom": "least central first"}
    unknown = sorted(set(rows["order"]) - set(words))
    if unknown:
        raise DataError(
            f"the hub_ablation table has the order {unknown[0]!r}; known: {', '.join(words)}"
        )
    rows = rows.assign(share=100 * numbers(rows, "removed") / numbers(rows, "neurons"))
    places, lines = _places(rows), _lines(rows)
    means = summarise(rows, [*_LINE, "order", "share"], "accuracy")
    runs = means.rename(columns={"trees": "runs"})
    figure = new_figure(max(4.6, 0.5 + 1.9 * len(lines)), 0.35 + _PANEL[1] * len(places))
    grid = figure.subplots(len(places), len(lines), sharex=True, sharey="row", squeeze=False)
    for (dataset, model), panels in zip(places, grid, strict=True):
        for line, axes in zip(lines, panels, strict=True):
            own = where(means, dataset=dataset, model=model, line=line)
            if own.empty:
                axes.set_axis_off()
                continue
            for index, order in enumerate(words):
                _band(axes, where(own, order=order), "share", _look(index), 100)
            axes.set_title(_broken(line), loc="left")
        panels[0].set_ylabel(_row_label(dataset, model, "test accuracy (%)"), fontsize=SMALL_SIZE)
    for axes in grid[-1]:
        axes.set_xlabel("units removed (%)")
    frame(
        figure,
        "What the hubs carry",
        "Accuracy without further training after units are silenced. Lines: mean; bands: ± 1 "
        f"standard deviation over runs, n = {count_in_words(runs, 'runs')} per point.",
        [_handle(index, word) for index, word in enumerate(words.values())],
    )
    return figure


# -- lines and panels --------------------------------------------------------------------------


def _k(table: pd.DataFrame) -> np.ndarray:
    return np.asarray(pd.to_numeric(table["k"], errors="coerce"), dtype=float)


def _with_lines(table: pd.DataFrame) -> pd.DataFrame:
    """Add the column `line`: the printed name of a method with its threshold or fraction."""
    fractions = np.full(len(table), np.nan)
    if "fraction" in table.columns:
        fractions = np.asarray(pd.to_numeric(table["fraction"], errors="coerce"), dtype=float)
    rows = zip(table["method"], _k(table), fractions, strict=True)
    return table.assign(line=[printed_method(str(name), k, share) for name, k, share in rows])


def printed_method(method: str, k: float | None = None, fraction: float | None = None) -> str:
    """Return the printed name of a method with its threshold, or else its fraction.

    Args:
        method: name in tables.
        k, fraction: options of the method; None or NaN where it has none.
    """
    name = _METHODS.get(method, method.replace("_", " "))
    if k is not None and np.isfinite(k):
        return f"{name}, k = {k:g}"
    if fraction is not None and np.isfinite(fraction):
        return f"{name} {100 * fraction:g} %"
    return name


def _lines(rows: pd.DataFrame) -> list[str]:
    return list(dict.fromkeys(rows["line"]))


def _places(rows: pd.DataFrame) -> list[tuple[str, str]]:
    return list(dict.fromkeys(zip(rows["dataset"], rows["model"], strict=True)))


def _row_label(dataset: str, model: str, quantity: str) -> str:
    return f"{display_name(dataset)}\n{display_name(model)}\n{quantity}"


def _broken(line: str) -> str:
    """Break a panel's title where it is long."""
    return line.replace(", ", ",\n", 1) if len(line) > 16 else line


def _require_finite(table: pd.DataFrame, name: str, columns: Sequence[str]) -> None:
    for key in columns:
        missing = int(np.count_nonzero(~np.isfinite(numbers(table, key))))
        if missing:
            raise DataError(f"the {name} table has {missing} rows without a finite {key}")


def _require_few(count: int) -> None:
    if count > _MOST_LINES:
        raise DataError(
            f"{count} methods and thresholds do not fit one panel, {_MOST_LINES} do: draw fewer "
            "rows of the table"
        )


def _look(index: int) -> dict[str, Any]:
    """Return colour, marker and dash: as `series_style`, open markers from the seventh line on."""
    count = len(SERIES_COLOURS)
    look: dict[str, Any] = {
        "color": SERIES_COLOURS[index % count],
        "marker": SERIES_MARKERS[(index + index // count) % count],
        "linestyle": SERIES_DASHES[index % count],
    }
    if index >= count:
        look["markerfacecolor"] = PAPER
    return look


def _handle(index: int, label: str) -> Line2D:
    return Line2D([], [], label=label, **_look(index))


def _reference_handle(index: int, label: str) -> Line2D:
    look = {key: value for key, value in _look(index).items() if "marker" not in key}
    return Line2D([], [], label=label, **look)


def _reference(axes: Axes, values: np.ndarray, look: Mapping[str, Any]) -> None:
    half = values.std(ddof=1) if values.size > 1 else 0.0
    mean = values.mean()
    axes.axhspan(mean - half, mean + half, color=look["color"], alpha=0.1, linewidth=0, zorder=1)
    axes.axhline(
        mean, color=look["color"], linestyle=look["linestyle"], linewidth=1, zorder=1.1,
        gid="reference",
    )  # fmt: skip


def _band(axes: Axes, line: pd.DataFrame, x: str, look: Mapping[str, Any], factor: float) -> None:
    if line.empty:
        return
    line = in_rising_order(line, x)
    at, mean = numbers(line, x), factor * numbers(line, "mean")
    half = factor * np.nan_to_num(numbers(line, "half"))
    low = mean - half
    if (mean >= 0).all() and (numbers(line, "mean") == 0).any():
        low = np.maximum(low, 0)  # counts
    axes.fill_between(at, low, mean + half, color=look["color"], alpha=0.15, linewidth=0)
    axes.plot(at, mean, markevery=max(1, -(-len(at) // _MARKS)), markersize=3.5, **look)


def _columns(count: int, heights: Sequence[float]) -> tuple[Figure, np.ndarray]:
    width = 5.2 if count == 1 else 0.4 + _PANEL[0] * count
    figure = new_figure(width, sum(heights) + 0.4)
    grid = figure.subplots(len(heights), count, squeeze=False, height_ratios=list(heights))
    return figure, grid


def _along_training(
    rows: pd.DataFrame,
    quantities: Mapping[str, tuple[str, float]],
    title: str,
    words: str,
    heights: Sequence[float],
) -> Figure:
    places, lines = _places(rows), _lines(rows)
    _require_few(len(lines))
    figure, grid = _columns(len(places), heights)
    counts = None
    for row, (name, (label, factor)) in enumerate(quantities.items()):
        finite = rows.loc[np.isfinite(numbers(rows, name))]
        if finite.empty:
            raise DataError(f"the hub_training table has no finite {name}")
        means = summarise(finite, [*_LINE, "epoch"], name)
        counts = means
        for column, (dataset, model) in enumerate(places):
            axes = grid[row, column]
            here = where(means, dataset=dataset, model=model)
            for index, line in enumerate(lines):
                _band(axes, where(here, line=line), "epoch", _look(index), factor)
            if name == "test_accuracy":
                _cut_start(axes, here, factor)
            if row == 0:
                axes.set_title(f"{display_name(dataset)}, {display_name(model)}", loc="left")
            if row < len(quantities) - 1:
                axes.tick_params(labelbottom=False)
                axes.sharex(grid[-1, column])
            else:
                axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        grid[row, 0].set_ylabel(label)
    assert counts is not None
    caption = (
        f"{words} Lines: mean; bands: ± 1 standard deviation over seeds, n = "
        f"{count_in_words(counts, 'seeds')} (no band for one seed). Accuracies of the first tenth "
        "of the epochs may lie below the axis."
    )
    frame(figure, title, caption, [_handle(index, line) for index, line in enumerate(lines)])
    return figure


def _cut_start(axes: Axes, means: pd.DataFrame, factor: float) -> None:
    """Let the axis begin where the methods are after a tenth of the epochs."""
    epochs, mean = numbers(means, "epoch"), factor * numbers(means, "mean")
    later = mean[epochs >= epochs.max() / 10]
    lowest, highest = float(later.min()), float(mean.max())
    margin = 0.06 * max(highest - lowest, 1.0)
    axes.set_ylim(lowest - margin, highest + margin)


def _spread(rows: pd.DataFrame) -> float:
    return float((numbers(rows, "q75") - numbers(rows, "q25")).max())
