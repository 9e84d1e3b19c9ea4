"""Trials of Neural Sculpting: success rates and densities, beside the published ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator

from espalier.errors import DataError, unknown_name
from espalier.figures.style import (
    FAINT,
    INK,
    PAPER,
    SMALL_SIZE,
    TEXT_SIZE,
    display_name,
    frame,
    new_figure,
    series_handle,
    series_style,
    styled,
)
from espalier.figures.tables import in_order, in_rising_order, numbers, require, where
from espalier.sculpting.published_recipes import published_densities, published_success
from espalier.sculpting.success import (
    CRITERIA,
    SUCCESS_COLUMNS,
    wilson_interval,
)

# -- success rates -------------------------------------------------------------------------------

_FUNCTION_WORDS = {
    "4-2-4": "input separable",
    "4-1-2-16": "reused",
    "6-3-3-3": "separable and reused",
    "4-1-4": "not modular",
    "two-digits": "two digits",
    "digit-xor": "exclusive or of digits",
}
_CRITERION_WORDS = {
    "hierarchy": "whole hierarchy",
    "inputs": "modules of inputs",
    "intermediate": "intermediate module",
    "middle": "middle layers",
    "outputs": "modules of outputs",
    "hidden_units": "hidden units in output modules",
}
_FAMILY_TITLES = {
    "validation": "Success by depth of the network",
    "use": "Success by use of the output sub-functions",
    "overlap": "Success by inputs shared by two sub-functions",
    "levels": "Success on five hierarchical levels by depth of the network",
    "digits": "Success on pairs of digits by depth of the network",
    "own": "Success by depth of the network",
}
_X_WORDS = {
    "hidden_layers": "hidden layers",
    "use": "times each output sub-function is used",
    "overlap": "shared inputs",
}


@dataclass(frozen=True)
class _Panel:
    """Rates against the column `x`, one line per value of the column `series`."""

    title: str
    rows: pd.DataFrame
    x: str
    series: str


@styled
def success_rates(
    success: pd.DataFrame, family: str, published: pd.DataFrame | None = None
) -> Figure:
    """Draw success rates of one family of functions as the paper arranges them.

    Filled marks are rates with Wilson's 95 % intervals; open marks beside them are the published
    rates. Panels and axes are those of Figure 7 (validation), 8 (use), 10 (overlap), 12 (levels) or
    13 (digits); in the overlap family the trials of all depths are pooled.

    Args:
        success: table with function, family, use, overlap, hidden_layers, criterion, successes and
            trials, as `espalier.sculpting.success_table` gives it.
        family: "validation", "use", "overlap", "levels", "digits" or "own".
        published: table with family, function, hidden_layers, criterion and rate; by default what
            the paper draws. An empty table draws none.

    Raises:
        ConfigurationError: no such family.
        DataError: the table is empty, or lacks columns or rows of the family.
    """
    if family not in _FAMILY_TITLES:
        raise unknown_name("family of functions", family, _FAMILY_TITLES)
    require(success, "modules_success", SUCCESS_COLUMNS)
    rows = where(success, family=family)
    if rows.empty:
        present = ", ".join(map(str, in_order(success, "family")))
        raise DataError(f"the modules_success table has no family {family!r}. It has: {present}")
    theirs = published_success() if published is None else published
    theirs = where(theirs, family=family)
    rows = _with_published(rows, theirs, pooled=family == "overlap")
    panels = _panels(rows, family)
    figure = new_figure(max(3.8, 0.7 + 2.1 * len(panels)), 2.2)
    grid = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    lines = list(dict.fromkeys(line for panel in panels for line in _lines(panel)))
    for axes, panel in zip(grid, panels, strict=True):
        _draw_rates(axes, panel, lines)
    grid[0].set_ylabel("success rate")
    handles: list[Artist] = []
    if len(lines) > 1:
        handles += [
            Line2D([], [], label=_line_words(*line), **_look(lines, line)) for line in lines
        ]
    if np.isfinite(numbers(rows, "rate")).any():
        handles.append(
            Line2D(
                [], [], linestyle="none", marker="o", markerfacecolor=PAPER, markeredgecolor=INK,
                label="published",
            )
        )  # fmt: skip
    trials = numbers(rows, "trials")
    low, high = int(trials.min()), int(trials.max())
    caption = (
        f"Filled: share of trials with its 95 % Wilson interval, n = {low}"
        f"{'' if low == high else f' to {high}'} trials per mark."
    )
    if family == "overlap":
        caption += " Trials of all depths are pooled."
    else:
        over_all = theirs.loc[
            theirs["hidden_layers"].isna() & theirs["function"].isin(rows["function"])
        ]
        for name, rate in zip(over_all["function"], numbers(over_all, "rate"), strict=True):
            caption += f" Published over all depths, {_function_words(name)}: {rate:.2f}."
    frame(figure, _FAMILY_TITLES[family], caption, handles)
    return figure


def _with_published(rows: pd.DataFrame, published: pd.DataFrame, *, pooled: bool) -> pd.DataFrame:
    """Add the column `rate`, the published one or NaN; pool the depths where asked."""
    keys = ["function", "criterion"] if pooled else ["function", "criterion", "hidden_layers"]
    if pooled:
        kinds = {"use": "first", "overlap": "first", "successes": "sum", "trials": "sum"}
        rows = cast(pd.DataFrame, rows.groupby(keys, sort=False, as_index=False).agg(kinds))
    rates = {
        tuple(row[:-1]): row[-1]
        for row in published[[*keys, "rate"]].itertuples(index=False, name=None)
        if pooled or not pd.isna(row[2])
    }
    found = [rates.get(row, np.nan) for row in rows[keys].itertuples(index=False, name=None)]
    return rows.assign(rate=np.array(found, dtype=float))


def _panels(rows: pd.DataFrame, family: str) -> list[_Panel]:
    if family == "use":
        return [_Panel("", rows, "use", "hidden_layers")]
    if family == "overlap":
        criteria = [c for c in CRITERIA[family] if c in set(rows["criterion"])]
        return [
            _Panel(_CRITERION_WORDS[c], where(rows, criterion=c), "overlap", "use")
            for c in criteria
        ]
    if family == "levels":
        panels = []
        parts = rows.loc[np.asarray(rows["criterion"] != "hierarchy")]
        if not parts.empty:
            uses = in_order(parts, "use")
            use = 4 if 4 in uses else uses[0]
            title = f"sub-functions, each used {use} times"
            panels.append(_Panel(title, where(parts, use=use), "hidden_layers", "criterion"))
        whole = where(rows, criterion="hierarchy")
        if not whole.empty:
            panels.append(_Panel("whole hierarchy", whole, "hidden_layers", "use"))
        return panels
    return [
        _Panel(_function_words(name), where(rows, function=name), "hidden_layers", "criterion")
        for name in in_order(rows, "function")
    ]


def _function_words(name: str) -> str:
    task, _, source = name.rpartition("-")
    if task in _FUNCTION_WORDS and name not in _FUNCTION_WORDS:
        return f"{_FUNCTION_WORDS[task]} ({display_name(source)})"
    return f"{name}\n{_FUNCTION_WORDS[name]}" if name in _FUNCTION_WORDS else name


def _lines(panel: _Panel) -> list[tuple[str, Any]]:
    values = in_order(panel.rows, panel.series)
    if panel.series == "criterion":
        return [(panel.series, value) for value in _CRITERION_WORDS if value in values]
    return [(panel.series, value) for value in sorted(map(int, values))]


def _look(lines: Sequence[tuple[str, Any]], line: tuple[str, Any]) -> dict[str, Any]:
    """Return colour, marker and dash of a line; a second kind of line in a figure is grey."""
    if line[0] == lines[0][0]:
        return series_style(lines.index(line))
    alike = [other for other in lines if other[0] == line[0]]
    place = alike.index(line)
    shade = 0.62 * (1 - place / max(1, len(alike) - 1))
    return {
        **series_style(3 + place),
        "color": to_hex((shade, shade, shade)),
        "marker": "vPX*<>"[place % 6],
    }


def _line_words(series: str, value: Any) -> str:
    if series == "criterion":
        return _CRITERION_WORDS.get(value, str(value).replace("_", " "))
    if series == "use":
        return f"used {value} time{'s' * (value != 1)}"
    return f"{value} hidden layer{'s' * (value != 1)}"


def _draw_rates(axes: Axes, panel: _Panel, lines: Sequence[tuple[str, Any]]) -> None:
    own = _lines(panel)
    ticks = sorted({int(value) for value in numbers(panel.rows, panel.x)})
    step = min(float(np.diff(ticks).min(initial=1)), 1.0)
    for line in own:
        rows = in_rising_order(where(panel.rows, **{panel.series: line[1]}), panel.x)
        look = _look(lines, line)
        shift = (own.index(line) - (len(own) - 1) / 2) * min(0.16, 0.7 / len(own)) * step
        x = numbers(rows, panel.x) + shift
        successes, trials = numbers(rows, "successes"), numbers(rows, "trials")
        rate = successes / trials
        low, high = wilson_interval(successes, trials)
        axes.errorbar(
            x, rate, yerr=np.array([rate - low, high - rate]).clip(min=0), elinewidth=0.8,
            zorder=3, **look,
        )  # fmt: skip
        axes.plot(
            x + 0.055 * step, numbers(rows, "rate"), linestyle="none", marker=look["marker"],
            markersize=5.5, markerfacecolor="none", markeredgecolor=look["color"],
            markeredgewidth=0.9, zorder=2.5, gid="published",
        )  # fmt: skip
    axes.set_xticks(ticks)
    axes.set_xlim(ticks[0] - 0.55 * step, ticks[-1] + 0.55 * step)
    axes.set_ylim(-0.04, 1.04)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
    axes.set_xlabel(_X_WORDS[panel.x])
    axes.set_title(panel.title, fontsize=TEXT_SIZE)
    axes.grid(visible=False, axis="x")


# -- densities -----------------------------------------------------------------------------------


@styled
def density_distribution(trials: pd.DataFrame, published: pd.DataFrame | None = None) -> Figure:
    """Draw the density of every pruned network, by function and number of hidden layers.

    Filled marks are trials, one row of them per number of hidden layers; open marks below them are
    the published trials of the same widths.

    Args:
        trials: table with function, hidden_layers, width, seed and density (share of edges kept);
            one trial per row.
        published: table with function, hidden_layers, width and density_percent; by default the
            densities of the authors' networks. An empty table draws none.

    Raises:
        DataError: the table is empty, or lacks columns, or a density is not in (0, 1].
    """
    require(trials, "modules", ["function", "hidden_layers", "width", "seed", "density"])
    density = numbers(trials, "density")
    if not ((density > 0) & (density <= 1)).all():
        raise DataError("the modules table has densities outside (0, 1]; they are shares of edges")
    theirs = published_densities() if published is None else published
    functions = in_order(trials, "function")
    depths = sorted(map(int, in_order(trials, "hidden_layers")))
    rows = [
        (function, depth, where(trials, function=function, hidden_layers=depth))
        for function in functions
        for depth in depths
    ]
    rows = [row for row in rows if not row[2].empty]
    figure = new_figure(5.6, 0.5 + 0.3 * len(rows))
    axes = cast(Axes, figure.subplots())
    shown = 0
    for place, (function, depth, own) in enumerate(rows):
        look = series_style(depths.index(depth))
        _densities(axes, 100 * numbers(own, "density"), place - 0.16, look, filled=True)
        alike = where(theirs, function=function, hidden_layers=depth)
        alike = alike.loc[np.isin(alike["width"], own["width"])]
        if not alike.empty:
            shown += len(alike)
            _densities(axes, numbers(alike, "density_percent"), place + 0.2, look, filled=False)
        if place and rows[place - 1][0] != function:
            axes.axhline(place - 0.5, color=FAINT, linewidth=0.7)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("density: edges kept (%)")
    axes.set_ylim(len(rows) - 0.5, -0.5)
    first = [k for k, row in enumerate(rows) if not k or rows[k - 1][0] != row[0]]
    ends = [*first[1:], len(rows)]
    middles = [(a + b - 1) / 2 for a, b in zip(first, ends, strict=True)]
    axes.set_yticks(middles, [_function_words(rows[k][0]) for k in first])
    axes.tick_params(axis="y", length=0, labelsize=SMALL_SIZE)
    axes.grid(visible=False, axis="y")
    handles: list[Artist] = []
    for k, depth in enumerate(depths):
        handle = series_handle(k, _line_words("hidden_layers", depth))
        handle.set_linestyle("none")
        handles.append(handle)
    caption = f"Filled: {len(trials)} trials, one mark each."
    if shown:
        caption += f" Open: {shown} published trials of the same functions and widths."
    widths = ", ".join(str(width) for width in sorted(map(int, in_order(trials, "width"))))
    caption += f" Hidden layers of {widths} units: in general the wider, the sparser."
    frame(figure, "Density of the pruned networks", caption, handles, 1.2)
    return figure


def _densities(
    axes: Axes, percent: np.ndarray, place: float, look: Mapping[str, Any], *, filled: bool
) -> None:
    axes.plot(
        percent, np.full(len(percent), place), linestyle="none", marker=look["marker"],
        markersize=4.2, markerfacecolor=look["color"] if filled else "none",
        markeredgecolor=look["color"], markeredgewidth=0.0 if filled else 0.7,
        alpha=0.55 if filled else 0.9, gid="trials" if filled else "published",
    )  # fmt: skip
