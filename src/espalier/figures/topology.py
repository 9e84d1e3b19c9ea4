"""Sparse networks: their accuracy and topometrics by pruner."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Annotation

from espalier.errors import ConfigurationError, DataError
from espalier.figures.style import (
    FAINT,
    GREY,
    INK,
    PAPER,
    SERIES_COLOURS,
    SERIES_MARKERS,
    SMALL_SIZE,
    display_name,
    frame,
    new_figure,
    spread,
    styled,
    text_extent,
)
from espalier.figures.tables import (
    count_in_words,
    in_order,
    in_rising_order,
    keep,
    numbers,
    require,
    where,
)
from espalier.pruning.registry import acts, names

if TYPE_CHECKING:
    pass

#: When a pruner acts: the dash of its lines, and how the legend says it.
_TIMES: Mapping[str, tuple[Any, str]] = {
    "before": ("-", "before training"),
    "during": ((0, (5, 1.5)), "during training"),
    "after": ((0, (1.2, 1.2)), "after training"),
    "other": ((0, (4, 1.5, 1, 1.5)), "at an unknown time"),
}
#: More pruners than this do not fit one panel: each time of pruning gets a column of its own.
_LOOKS_PER_PANEL = 12
_LOG_FROM = 30.0
_LABEL_ROW = 0.125
_KEY_OFFSET = 0.25

#: Printed name of every topometric, and its unit as the published tables have it and unnormalised.
TOPOMETRIC_TITLES: Mapping[str, tuple[str, str, str]] = {
    "sink_nodes": ("sink nodes", "share of nodes", "nodes"),
    "source_nodes": ("source nodes", "share of nodes", "nodes"),
    "disc_nodes": ("disconnected nodes", "share of nodes", "nodes"),
    "r-out": ("removable out-edges", "share of edges", "edges"),
    "r-in": ("removable in-edges", "share of edges", "edges"),
    "1-hop_nei": ("1-hop neighbours", "nodes / edges", "nodes"),
    "2-hop_nei": ("2-hop neighbours", "nodes / edges", "nodes"),
    "motif": ("motifs of 4 nodes", "motifs / edges", "motifs"),
    "k-core": ("mean coreness", "coreness / edges", "coreness"),
    "avg_node_strength": ("mean node strength", "weight / edges", "weight"),
    "no_connected_components": ("components", "count", "count"),
    "mean_connected_components": ("mean component size", "share of nodes", "nodes"),
    "cut-edges": ("cut edges (bridges)", "share of edges", "edges"),
    "cut-nodes": ("cut nodes", "nodes / edges", "nodes"),
    "spectral_gap": ("spectral gap", "eigenvalue", "eigenvalue"),
    "spectral_radius": ("spectral radius", "eigenvalue", "eigenvalue"),
}


@styled
def accuracy_by_sparsity(networks: pd.DataFrame) -> Figure:
    """Draw test accuracy against sparsity, one line per pruner.

    One panel per data set and model. More than twelve pruners make it a row of panels, a column for
    every time of pruning (before, during, after training), the other pruners in grey.
    Pruners keep their colour and marker over the whole figure; the dash says when they act. Each
    line ends at its name.

    Args:
        networks: one row per network with dataset, model, pruner, sparsity (0 to 1), seed,
            test_accuracy (0 to 1) and, if known, collapsed_layers (layers without a weight). Rows
            of the pruner "dense" are drawn as a band.

    Raises:
        DataError: the table is empty, lacks columns or pruned networks, has no finite accuracy, a
            sparsity outside 0 to below 1, or a network twice.

    Source: Cunegatti et al. (2024), Tables 8 to 10, as a figure.
    """
    required = ["dataset", "model", "pruner", "sparsity", "seed", "test_accuracy"]
    require(networks, "networks", required)
    rows = _finite(networks, "networks", ["test_accuracy"])
    _require_shares(rows, "networks")
    _refuse_repeated(rows, "networks", required[:-1])
    pruned = rows.loc[np.asarray(rows["pruner"] != "dense")]
    if pruned.empty:
        raise DataError("the networks table has dense networks only: no accuracy against sparsity")
    lines = _over_seeds(pruned, ["dataset", "model", "pruner", "sparsity"], "test_accuracy")
    dense = where(rows, pruner="dense")
    bands = _over_seeds(dense, ["dataset", "model"], "test_accuracy") if len(dense) else None
    pruners = _Pruners.of(in_order(pruned, "pruner"))

    places = list(dict.fromkeys(zip(rows["dataset"], rows["model"], strict=True)))
    figure, panels = _panels(places, pruners)
    ends = []
    for panel in panels:
        dataset, model = panel.place
        here = where(lines, dataset=dataset, model=model)
        if bands is not None:
            _dense_band(panel.axes, where(bands, dataset=dataset, model=model), 100, ("sd", "sd"))
        ends.append(_pruner_lines(panel, here, pruners, 100, ("sd", "sd")))
        if "collapsed_layers" in pruned.columns:
            own = where(pruned, dataset=dataset, model=model)
            _mark_collapsed(panel, here, own, pruners)
        panel.write_title(f"{display_name(dataset)}, {display_name(model)}")
        panel.axes.set_ylabel("test accuracy (%)")
        panel.axes.set_ylim(top=min(panel.axes.get_ylim()[1], 100.5))
        _sparsity_axis(panel.axes, numbers(here, "sparsity"))
    _share_axes(panels, pruners.split)

    handles = pruners.handles()
    if bands is not None:
        handles.append(Patch(color=FAINT, alpha=0.6, label="dense networks (mean ± 1 sd)"))
    caption = (
        "Lines: mean test accuracy; bars: ± 1 standard deviation over seeds (n - 1), "
        f"n = {count_in_words(lines, 'seeds')} per point (no bar for one seed). "
        f"{_SPARSITY_IN_WORDS} {_SHIFT_IN_WORDS}"
    )
    if bands is not None:
        caption += f" Dense: n = {count_in_words(bands, 'seeds')}."
    if "collapsed_layers" in pruned.columns and numbers(pruned, "collapsed_layers").any():
        caption += " ×: in at least one of these networks a layer has no weight left."
    frame(figure, "Test accuracy against sparsity", caption, handles)
    _write_keys(panels, ends)
    return figure


@styled
def topometric_trends(
    table: pd.DataFrame,
    columns: Sequence[str] | None = None,
    *,
    dataset: str | None = None,
    model: str | None = None,
    normalised: bool = True,
) -> Figure:
    """Draw topometrics of one data set and model against sparsity, one line per pruner.

    One panel per topometric. More than twelve pruners make it a row of panels, as in
    `accuracy_by_sparsity`, whose colours, markers and dashes are the same for the same pruners. An
    axis is logarithmic where all values are positive and span more than a factor of 30.

    Args:
        table: one row per network with pruning, sparsity (0 to 1), model, dataset, seed and the
            columns to draw.
        columns: which columns; the sixteen topometrics when None. Any column of numbers will do.
        dataset, model: which rows; needed where the table has several.
        normalised: the values are divided by nodes or edges as in the published tables; it changes
            the units on the axes only.

    Raises:
        DataError: the table is empty, lacks columns or rows, has several data sets or models and
            none is chosen, has a sparsity outside 0 to below 1 or a network twice, or a column has
            no finite value.
        ConfigurationError: no columns.

    Source: topometrics of Cunegatti et al. (2024), section 3.3.
    """
    chosen = list(TOPOMETRIC_TITLES) if columns is None else list(columns)
    if not chosen:
        raise ConfigurationError("columns is empty: name a topometric, or None for all sixteen")
    keys = ["dataset", "model", "pruning", "sparsity", "seed"]
    require(table, "topometrics", [*keys, *chosen])
    rows = _one_place(table, dataset, model)
    _require_shares(rows, "topometrics")
    _refuse_repeated(rows, "topometrics", keys)
    rows = rows.rename(columns={"pruning": "pruner"})
    dense = where(rows, pruner="dense")
    rows = rows.loc[np.asarray(rows["pruner"] != "dense")]
    if rows.empty:
        raise DataError("the topometrics table has dense networks only: no trend against sparsity")
    pruners = _Pruners.of(in_order(rows, "pruner"))

    figure, panels = _panels([(name, "") for name in chosen], pruners, per_row=4, small=True)
    ends, counts = [], []
    for panel in panels:
        name, axes = panel.place[0], panel.axes
        lines = _over_seeds(_finite(rows, "topometrics", [name]), ["pruner", "sparsity"], name)
        counts.append(lines)
        if len(dense):
            _dense_band(axes, _over_seeds(dense, ["pruner"], name), 1, ("below", "above"))
        ends.append(_pruner_lines(panel, lines, pruners, 1, ("below", "above")))
        title, unit = _topometric_words(name, normalised)
        panel.write_title(title)
        axes.set_ylabel(unit)
        _sparsity_axis(axes, numbers(rows, "sparsity"))
        low, high = float(numbers(lines, "low").min()), float(numbers(lines, "high").max())
        if low > 0 and high / low > _LOG_FROM:
            axes.set_yscale("log")
    _share_axes(panels, pruners.split)

    place = f"{display_name(rows['model'].iloc[0])} on {display_name(rows['dataset'].iloc[0])}"
    caption = (
        "Lines: mean over seeds; bars: from the smallest to the largest value, "
        f"n = {count_in_words(pd.concat(counts), 'seeds')} per point. "
        f"{_SPARSITY_IN_WORDS} {_SHIFT_IN_WORDS}"
    )
    handles = pruners.handles()
    if len(dense):
        handles.append(Patch(color=FAINT, alpha=0.6, label="dense networks (mean and range)"))
    frame(figure, f"Topometrics against sparsity, {place}", caption, handles)
    _write_keys(panels, ends)
    return figure


# -- tables ------------------------------------------------------------------------------------

_SPARSITY_IN_WORDS = (
    "Sparsity as asked for, share of weights removed; the axis is logarithmic in the weights kept."
)
_SHIFT_IN_WORDS = "Pruners are shifted sideways a little, so that their bars stay apart."


@dataclass(frozen=True)
class _Pruners:
    """The pruners of a figure, their times and looks.

    Attributes:
        times: by pruner, the key of `_TIMES`; pruners in the order of their times.
        split: each time has panels of its own.
    """

    times: Mapping[str, str]
    split: bool

    @classmethod
    def of(cls, pruners: Iterable[str]) -> _Pruners:
        known = names()
        found = {name: acts(name) if name in known else "other" for name in pruners}
        times = {name: time for time in _TIMES for name in found if found[name] == time}
        several = len(set(times.values())) > 1
        return cls(times, several and len(times) > _LOOKS_PER_PANEL)

    @property
    def columns(self) -> list[str]:
        """The time of pruning of every column of panels; one without a name when not split."""
        return list(dict.fromkeys(self.times.values())) if self.split else [""]

    def shown(self, time: str) -> list[str]:
        return [name for name, own in self.times.items() if time in ("", own)]

    @property
    def most(self) -> int:
        return max(len(self.shown(time)) for time in self.columns)

    def look(self, name: str) -> dict[str, Any]:
        """Colour, marker and dash of a pruner, the same in every panel."""
        index = self.shown(self.times[name] if self.split else "").index(name)
        turn = index // len(SERIES_COLOURS)
        colour = SERIES_COLOURS[index % len(SERIES_COLOURS)]
        return {
            "color": colour,
            "marker": SERIES_MARKERS[(index + turn) % len(SERIES_MARKERS)],
            "markerfacecolor": PAPER if turn % 2 else colour,
            "linestyle": _TIMES[self.times[name]][0],
        }

    def handles(self) -> list[Artist]:
        handles: list[Artist] = [
            Line2D([], [], color=INK, linestyle=dash, label=f"pruner acts {words}")
            for dash, words in (_TIMES[time] for time in dict.fromkeys(self.times.values()))
        ]
        if self.split:
            handles.append(Line2D([], [], color=FAINT, label="pruners of the other columns"))
        return handles


def _finite(table: pd.DataFrame, name: str, columns: Sequence[str]) -> pd.DataFrame:
    rows = table
    for key in columns:
        rows = rows.loc[np.isfinite(numbers(rows, key))]
        if rows.empty:
            raise DataError(f"the {name} table has no finite value in the column {key!r}")
    return rows


def _require_shares(table: pd.DataFrame, name: str) -> None:
    sparsities = numbers(table, "sparsity")
    wrong = sparsities[~((sparsities >= 0) & (sparsities < 1))]
    if len(wrong):
        raise DataError(
            f"the {name} table has the sparsity {wrong[0]:g}: write shares of weights removed, "
            "from 0 to below 1"
        )


def _refuse_repeated(table: pd.DataFrame, name: str, keys: Sequence[str]) -> None:
    repeated = table.loc[np.asarray(table.duplicated(list(keys)))]
    if len(repeated):
        first = ", ".join(f"{key} {repeated[key].iloc[0]}" for key in keys)
        raise DataError(
            f"the {name} table has {len(repeated)} rows for networks that it has already, the "
            f"first with {first}: keep one row per network"
        )


def _one_place(table: pd.DataFrame, dataset: str | None, model: str | None) -> pd.DataFrame:
    rows = table
    for key, value in (("dataset", dataset), ("model", model)):
        if value is not None:
            rows = keep(rows, "topometrics", key, value)
    places = dict.fromkeys(zip(rows["dataset"], rows["model"], strict=True))
    if len(places) > 1:
        listing = ", ".join(f"{d}/{m}" for d, m in places)
        raise DataError(
            f"the topometrics table has {len(places)} pairs of data set and model ({listing}): "
            "choose one with dataset and model"
        )
    return rows


def _over_seeds(table: pd.DataFrame, keys: Sequence[str], name: str) -> pd.DataFrame:
    """Return mean, sd (NaN for one seed), low, high, their distances, and seeds per group."""
    groups = table.groupby(list(keys), sort=True)[name]
    summary = groups.agg(mean="mean", sd="std", low="min", high="max", seeds="size").reset_index()
    # The mean of equal values can lie outside them by a rounding error.
    return summary.assign(
        below=(summary["mean"] - summary["low"]).clip(lower=0),
        above=(summary["high"] - summary["mean"]).clip(lower=0),
    )


class _Panel(NamedTuple):
    """One panel: what it shows, where lines go, and where their names go.

    Attributes:
        place: data set and model, or a topometric.
        time: the time of pruning whose pruners it shows; all of them when empty.
        axes: for the lines.
        room: keeps a place at the right of `axes` for their names while the figure is laid out.
    """

    place: tuple[str, str]
    time: str
    axes: Axes
    room: Annotation

    def write_title(self, title: str) -> None:
        self.axes.set_title(f"{title}: {_TIMES[self.time][1]}" if self.time else title, loc="left")


def _panels(
    places: Sequence[tuple[str, str]],
    pruners: _Pruners,
    per_row: int | None = None,
    small: bool = False,
) -> tuple[Figure, list[_Panel]]:
    """Return a figure and its panels.

    Split pruners: a row per place, a column per time. Else rows of `per_row` places, or a row per
    first and a column per second name of the places.
    """
    firsts, seconds = (list(dict.fromkeys(names)) for names in zip(*places, strict=True))
    times = pruners.columns
    if pruners.split:
        shape = (len(places), len(times))
    elif per_row is not None:
        shape = (-(-len(places) // per_row), min(per_row, len(places)))
    else:
        shape = (len(firsts), len(seconds))
    height = max(1.55 if small else 2.1, 0.65 + _LABEL_ROW * pruners.most)
    plot_width = 1.65 if small else 2.2
    figure = new_figure(1.0, 1.0)
    widths = {
        name: text_extent(figure, display_name(name), SMALL_SIZE)[0] for name in pruners.times
    }
    longest = {time: max(pruners.shown(time), key=widths.__getitem__) for time in times}
    key_widths = [_KEY_OFFSET + widths[name] for name in longest.values()]
    key_width = sum(key_widths) if pruners.split else shape[1] * key_widths[0]
    figure.set_size_inches(shape[1] * (plot_width + 0.75) + key_width, shape[0] * height)
    grid = figure.subplots(*shape, squeeze=False)
    panels = []
    for number, place in enumerate(places):
        for column, time in enumerate(times):
            if pruners.split:
                cell = (number, column)
            elif per_row is not None:
                cell = divmod(number, per_row)
            else:
                cell = (firsts.index(place[0]), seconds.index(place[1]))
            room = grid[cell].annotate(
                display_name(longest[time]),
                xy=(1.0, 0.5),
                xycoords="axes fraction",
                xytext=(72 * _KEY_OFFSET, 0),
                textcoords="offset points",
                fontsize=SMALL_SIZE,
            )
            panels.append(_Panel(place, time, grid[cell], room))
    used = {panel.axes for panel in panels}
    for axes in grid.flat:
        axes.set_visible(axes in used)
    return figure, panels


def _kept(sparsity: np.ndarray) -> np.ndarray:
    """Return the position of sparsities on the axis: decades of weights removed."""
    return -np.log10(1 - np.asarray(sparsity, dtype=float))


def _shifts(lines: pd.DataFrame, shown: Sequence[str]) -> dict[str, float]:
    """Return how far each pruner moves sideways: together a quarter of the least gap."""
    places = np.unique(_kept(numbers(lines, "sparsity")))
    gap = float(np.diff(places).min()) if len(places) > 1 else 0.3
    steps = np.arange(len(shown)) - (len(shown) - 1) / 2
    return dict(zip(shown, steps * min(gap, 0.3) / 4 / max(1, len(shown) - 1), strict=True))


def _pruner_lines(
    panel: _Panel,
    lines: pd.DataFrame,
    pruners: _Pruners,
    factor: float,
    bars: tuple[str, str],
) -> list[tuple[str, float, dict[str, Any]]]:
    """Draw the lines of one panel; return name, last value and look of each."""
    axes, shifts = panel.axes, _shifts(lines, pruners.shown(panel.time))
    ends = []
    for pruner in pruners.times:
        line = in_rising_order(where(lines, pruner=pruner), "sparsity")
        if line.empty:
            continue
        x, y = _kept(numbers(line, "sparsity")), factor * numbers(line, "mean")
        if pruner not in shifts:
            axes.plot(x, y, color=FAINT, linewidth=0.7, zorder=1.2, gid="other pruner")
            continue
        look = pruners.look(pruner)
        lengths = [factor * np.nan_to_num(numbers(line, key)) for key in bars]
        axes.errorbar(
            x + shifts[pruner],
            y,
            yerr=lengths,
            elinewidth=0.8,
            capsize=0,
            linewidth=1.1,
            markersize=4.0,
            markeredgewidth=1.0,
            zorder=3,
            **look,
        )
        ends.append((display_name(pruner), float(y[-1]), look))
    return ends


def _dense_band(axes: Axes, band: pd.DataFrame, factor: float, bars: tuple[str, str]) -> None:
    if band.empty:
        return
    mean = factor * numbers(band, "mean")[0]
    below, above = (factor * np.nan_to_num(numbers(band, key))[0] for key in bars)
    axes.axhspan(mean - below, mean + above, color=FAINT, alpha=0.6, linewidth=0, zorder=1)
    axes.axhline(mean, color=GREY, linewidth=0.8, zorder=1.1, gid="dense")


def _mark_collapsed(
    panel: _Panel, lines: pd.DataFrame, networks: pd.DataFrame, pruners: _Pruners
) -> None:
    shifts = _shifts(lines, pruners.shown(panel.time))
    collapsed = networks.loc[numbers(networks, "collapsed_layers") > 0]
    points = dict.fromkeys(zip(collapsed["pruner"], collapsed["sparsity"], strict=True))
    for pruner, sparsity in points:
        if pruner in shifts:
            value = 100 * numbers(where(lines, pruner=pruner, sparsity=sparsity), "mean")
            place = _kept(np.array([sparsity])) + shifts[pruner]
            panel.axes.plot(place, value, "x", color=INK, markersize=6, zorder=6, gid="collapsed")


def _sparsity_axis(axes: Axes, sparsities: np.ndarray) -> None:
    values = np.unique(sparsities)
    places = _kept(values)
    room = max(float(np.ptp(places)), 0.2)
    axes.set_xlim(places[0] - 0.08 * room, places[-1] + 0.08 * room)
    labelled: list[int] = []
    for index in reversed(range(len(values))):
        if not labelled or places[labelled[-1]] - places[index] > 0.11 * room:
            labelled.append(index)
    axes.set_xticks(places, minor=True)
    axes.set_xticks(places[labelled], [f"{100 * values[index]:g}" for index in labelled])
    axes.tick_params(which="minor", length=1.5, color=FAINT)
    axes.set_xlabel("sparsity (%)")


def _share_axes(panels: Sequence[_Panel], split: bool) -> None:
    """Give the panels of one place one range, and name axes at the edges of the figure only."""
    lowest: dict[int, int] = {}
    ranges: dict[tuple[str, str], list[float]] = {}
    for place, _, axes, _ in panels:
        row, column = _row_and_column(axes)
        lowest[column] = max(row, lowest.get(column, 0))
        ranges.setdefault(place, []).extend(axes.get_ylim())
    for place, _, axes, _ in panels:
        row, column = _row_and_column(axes)
        axes.set_ylim(min(ranges[place]), max(ranges[place]))
        if row < lowest[column]:
            axes.set_xlabel("")
        if split and column:
            axes.set_ylabel("")


def _row_and_column(axes: Axes) -> tuple[int, int]:
    place = axes.get_subplotspec()
    assert place is not None
    return place.rowspan.start, place.colspan.start


def _topometric_words(name: str, normalised: bool) -> tuple[str, str]:
    if name not in TOPOMETRIC_TITLES:
        return display_name(name), ""
    title, published, raw = TOPOMETRIC_TITLES[name]
    return title, published if normalised else raw


def _write_keys(
    panels: Sequence[_Panel], ends: Sequence[Sequence[tuple[str, float, dict[str, Any]]]]
) -> None:
    """Name the lines of every panel at its right edge, in the order of their last values."""
    for (_, _, axes, room), lines in zip(panels, ends, strict=True):
        room.remove()
        if not lines:
            continue
        figure = axes.get_figure(root=True)
        assert figure is not None
        inches = figure.dpi_scale_trans
        box = axes.get_window_extent().transformed(inches.inverted())
        points = np.array([(1.0, value) for _, value, _ in lines])
        ends_at = inches.inverted().transform(axes.transData.transform(points))[:, 1]
        placed = spread(ends_at, _LABEL_ROW, box.y0, box.y1)
        for (name, _, look), own, moved in zip(lines, ends_at, placed, strict=True):
            for x, y, style in (
                ([box.x1, box.x1 + 0.12], [own, moved], {"color": look["color"], "linewidth": 0.6}),
                ([box.x1 + 0.17], [moved], {"markersize": 3.8, **look}),
            ):
                figure.add_artist(Line2D(x, y, transform=inches, **style))
            figure.text(
                box.x1 + _KEY_OFFSET,
                moved,
                name,
                transform=inches,
                fontsize=SMALL_SIZE,
                va="center_baseline",
                gid="pruner",
            )
