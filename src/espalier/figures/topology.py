"""Sparse networks: their accuracy and topometrics by pruner, their graphs, their degrees."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.path import Path
from matplotlib.text import Annotation
from matplotlib.ticker import FixedLocator, NullLocator

from espalier.errors import ConfigurationError, DataError
from espalier.figures.style import (
    FAINT,
    GREY,
    GRID,
    INK,
    OKABE_ITO,
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
from espalier.seeds import numpy_generator

if TYPE_CHECKING:
    from espalier.graphs.layer_graph import Block, LayerGraph, Part
    from espalier.topology.degrees import NodeFields

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

_NODE_LOOKS: Mapping[str, tuple[str, str, float]] = {
    "connected": (OKABE_ITO["blue"], "o", 1.0),
    "source": (OKABE_ITO["orange"], "^", 1.5),
    "sink": (OKABE_ITO["reddish purple"], "v", 1.5),
    "disconnected": (GREY, "x", 1.3),
}
_NODE_WORDS = {
    "connected": "connected node",
    "source": "source: no incoming edge",
    "sink": "sink: no outgoing edge",
    "disconnected": "disconnected: no edge",
}
_EDGE_LOOKS: Mapping[str, tuple[str, str]] = {
    "layer": (GREY, "edge of a layer"),
    "residual": (OKABE_ITO["bluish green"], "edge of a projection shortcut"),
    "identity": (OKABE_ITO["vermillion"], "edge of an identity shortcut"),
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


@styled
def draw_layer_graph(
    graph: LayerGraph,
    *,
    edges_per_block: int = 300,
    max_nodes: int = 20_000,
    title: str = "Multipartite graph",
    seed: int = 0,
) -> Figure:
    """Draw the multipartite graph of a small network, part after part from left to right.

    A part is a column of grids of nodes, one grid per channel; a part of many channels takes
    several columns of grids. Edges that skip a part pass above it. Sources, sinks and disconnected
    nodes are marked; the input's nodes are no sources and the classes no sinks.

    Args:
        graph: from `espalier.graphs.layer_graph` with the convention "definition".
        edges_per_block: at most this many edges are drawn per pair of parts, chosen at random with
            equal chance.
        max_nodes: the largest graph to draw.
        title: title of the figure.
        seed: seed of the choice of edges.

    Raises:
        ConfigurationError: the graph has more than `max_nodes` nodes, or `edges_per_block` is not
            positive.
        DataError: the graph is of the published convention, or a block does not fit its parts.

    Source: Cunegatti et al. (2024), Figure 13.
    """
    from espalier.topology.degrees import degree_fields, edge_count

    _require_blocks(graph)
    if edges_per_block < 1:
        raise ConfigurationError(f"edges_per_block must be positive, not {edges_per_block}")
    if graph.nodes > max_nodes:
        raise ConfigurationError(
            f"the graph has {graph.nodes:,} nodes, more than max_nodes = {max_nodes:,}: such a "
            "picture cannot be read. Draw a narrower network on smaller images, or use "
            "degree_distributions"
        )
    degrees = degree_fields(graph)
    positions, columns, height = _node_positions(graph.parts)
    width = float(positions[:, 0].max()) + 0.3
    above = 0.6 if any(block.target > block.source + 1 for block in graph.blocks) else 0.1
    figure = new_figure(max(width, 5.7) + 0.4, height + above + 0.6)
    axes = figure.subplots()
    axes.set_axis_off()
    axes.set_aspect("equal")

    drawn, edge_handles = _draw_edges(axes, graph, positions, height, edges_per_block, seed)
    node_handles = _draw_nodes(axes, positions, _node_states(degrees), _pitch(graph.parts))
    bottom = _label_parts(figure, axes, graph.parts, columns)
    axes.set_xlim(-0.3, max(width, 5.7))
    axes.set_ylim(bottom, height + above)

    edges = edge_count(degrees)
    shown = (
        f"All {edges:,} edges are drawn"
        if drawn == edges
        else f"{drawn:,} of {edges:,} edges are drawn, at most {edges_per_block:,} per layer, "
        "chosen at random"
    )
    caption = (
        f"{graph.nodes:,} nodes in {len(graph.parts)} parts; dots are nodes, a grid of dots is a "
        f"channel. {shown}; edges run from left to right. Below a part: its name and channels × "
        "height × width."
    )
    if graph.parts[0].padding:
        _frame_image(axes, graph.parts[0], positions)
        caption += " In the input the frames hold the image; outside them is its zero padding."
    frame(figure, title, caption, [*node_handles, *edge_handles], handle_length=1.6)
    return figure


@styled
def degree_distributions(graph: LayerGraph, *, title: str = "Degrees by part") -> Figure:
    """Draw the distributions of in-degrees and of out-degrees, a row for every part.

    Args:
        graph: from `espalier.graphs.layer_graph` with the convention "definition"; of any size, no
            edge is listed.
        title: title of the figure.

    Raises:
        DataError: the graph is of the published convention, or a block does not fit its parts.
    """
    from espalier.topology.degrees import degree_fields, edge_count

    _require_blocks(graph)
    degrees = degree_fields(graph)
    count = len(graph.parts)
    figure = new_figure(8.6, 0.55 + count * (0.3 if count <= 30 else 0.22))
    panels = figure.subplots(1, 2, sharey=True, sharex=True)
    largest = max(int(field.max()) for field in (*degrees.incoming, *degrees.outgoing))
    for axes, fields, exempt, words in (
        (panels[0], degrees.incoming, 0, "incoming"),
        (panels[1], degrees.outgoing, count - 1, "outgoing"),
    ):
        _ridges(axes, fields, exempt, words, largest)
        axes.set_title(f"{words} edges per node", loc="left", pad=14)
        axes.set_xlabel("degree (edges per node)")
    panels[0].set_yticks(
        np.arange(count) + 0.15, [f"{part.name} ({part.nodes:,})" for part in graph.parts]
    )
    panels[0].set_ylim(count - 0.5, -1.0)
    caption = (
        f"{graph.nodes:,} nodes, {edge_count(degrees):,} edges. Rows: the parts of the graph in "
        "the order of the network, with their number of nodes. Areas: how the nodes that have "
        "edges spread over degrees (logarithmic axis; each row scaled to its own peak); black tick "
        "and number at the right: their median. Number at the left: share of the part's nodes "
        "that have none."
    )
    frame(figure, title, caption)
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


# -- graphs ------------------------------------------------------------------------------------

_TALLEST = 4.4  # inches
_ROWS = 96
_MOST_SPREAD = 4.0
_MOST_VECTORS = 6000


def _require_blocks(graph: LayerGraph) -> None:
    if graph.convention != "definition":
        raise DataError(
            f"a graph of the {graph.convention!r} convention has no blocks to draw: trace the "
            "network with the convention 'definition'"
        )


def _grid_of_channels(part: Part) -> tuple[int, int, float]:
    """Return how many channels stand below and beside each other, and the room between them."""
    room = 1.0 if part.height * part.width > 1 else 0.0
    below = max(1, int((_ROWS + room) // (part.height + room)))
    beside = -(-part.channels // below)
    return -(-part.channels // beside), beside, room


def _rows_of(part: Part) -> float:
    below, _, room = _grid_of_channels(part)
    return below * (part.height + room) - room


def _pitch(parts: Sequence[Part]) -> float:
    """Return the distance of neighbouring nodes in inches."""
    return min(0.09, _TALLEST / max(24.0, *(_rows_of(part) for part in parts)))


def _node_positions(parts: Sequence[Part]) -> tuple[np.ndarray, list[tuple[float, float]], float]:
    """Return (nodes, 2) positions in inches, the left and right end of each part, the height."""
    pitch = _pitch(parts)
    tallest = max(_rows_of(part) for part in parts)
    positions, columns, left = [], [], 0.0
    for part in parts:
        below, _, room = _grid_of_channels(part)
        # Few channels are drawn apart, so that a part of ten nodes is not a speck.
        wide = (0.8 * tallest - part.height * below) / max(1, below - 1)
        room = float(np.clip(wide, room, max(room, _MOST_SPREAD - part.height)))
        channel, row, column = (
            axis.reshape(-1) for axis in np.indices((part.channels, part.height, part.width))
        )
        x = (channel // below) * (part.width + 1.0) + column
        y = (channel % below) * (part.height + room) + row
        top = (tallest + below * (part.height + room) - room) / 2
        positions.append(np.column_stack([left + pitch * x, pitch * (top - y)]))
        columns.append((left, left + pitch * float(x.max())))
        left = columns[-1][1] + 0.62
    return np.concatenate(positions), columns, pitch * tallest


def _sampled_edges(
    graph: LayerGraph, block: Block, limit: int, generator: np.random.Generator
) -> np.ndarray:
    """Return (edges, 2) source and target nodes: all of a block's edges, or `limit` of them.

    Edges are numbered by mask entry, then by pair of rows, then by pair of columns, so that a
    number is decoded without a list of edges.
    """
    output, channel, row_tap, column_tap = np.nonzero(block.mask)
    rows, columns = block.rows, block.columns
    sizes = rows.tap_counts[row_tap] * columns.tap_counts[column_tap]
    ends = np.cumsum(sizes)
    total = int(ends[-1]) if len(ends) else 0
    chosen = np.arange(total)
    if total > limit:
        chosen = np.sort(generator.choice(total, limit, replace=False))
    entry = np.searchsorted(ends, chosen, side="right")
    rest = chosen - (ends - sizes)[entry]
    row, column = np.divmod(rest, columns.tap_counts[column_tap[entry]])
    first_row = np.cumsum(rows.tap_counts) - rows.tap_counts
    first_column = np.cumsum(columns.tap_counts) - columns.tap_counts
    r, y = rows.triples[first_row[row_tap[entry]] + row, :2].T.astype(np.int64)
    s, x = columns.triples[first_column[column_tap[entry]] + column, :2].T.astype(np.int64)
    outputs_per_group = block.mask.shape[0] // block.groups
    inputs_per_group = block.mask.shape[1]
    source, target = graph.parts[block.source], graph.parts[block.target]
    c = channel[entry] + output[entry] // outputs_per_group * inputs_per_group
    c, o = c + block.source_offset, output[entry] + block.target_offset
    return np.column_stack(
        [
            graph.offsets[block.source] + (c * source.height + r) * source.width + s,
            graph.offsets[block.target] + (o * target.height + y) * target.width + x,
        ]
    )


def _draw_edges(
    axes: Axes, graph: LayerGraph, positions: np.ndarray, height: float, limit: int, seed: int
) -> tuple[int, list[Artist]]:
    """Draw at most `limit` edges of every block; return how many, and the legend's entries."""
    drawn, handles = 0, {}
    for block in graph.blocks:
        generator = numpy_generator(seed, "edges", block.source, block.target)
        edges = _sampled_edges(graph, block, limit, generator)
        drawn += len(edges)
        kind = block.kind if block.kind in _EDGE_LOOKS else "layer"
        colour, words = _EDGE_LOOKS[kind]
        handles[kind] = Line2D([], [], color=colour, linewidth=1.2, label=words)
        skips = block.target > block.source + 1
        paths = _arcs(positions[edges], height + 0.45) if skips else _chords(positions[edges])
        # Many edges share one budget of ink; those of an arc run side by side.
        opacity = float(np.clip(60 / max(1, len(edges)), 0.12, 0.6)) * (0.7 if skips else 1.0)
        axes.add_collection(
            PathCollection(
                paths,
                facecolors="none",
                edgecolors=[to_rgba(colour, opacity)],
                linewidths=0.4,
                zorder=1,
                gid="edges",
            )
        )
    if drawn > _MOST_VECTORS:
        for lines in axes.collections:
            lines.set_rasterized(True)
    return drawn, list(handles.values())


def _chords(ends: np.ndarray) -> list[Path]:
    """Return straight lines between (edges, 2, 2) positions."""
    return [Path(pair) for pair in ends]


def _arcs(ends: np.ndarray, above: float) -> list[Path]:
    """Return curves between (edges, 2, 2) positions that rise to about the height `above`."""
    (start_x, start_y), (end_x, end_y) = ends[:, 0].T, ends[:, 1].T
    # Higher nodes get higher arcs: the arcs do not meet in one point.
    middle = (start_y + end_y) / 2
    top = above - 0.4 * (1 - middle / above)
    # A Bezier curve of degree 3 with both handles at height h rises to 3/4 h + 1/4 middle.
    lift = (top - 0.25 * middle) / 0.75
    near = np.stack([0.7 * start_x + 0.3 * end_x, lift], axis=1)
    far = np.stack([0.3 * start_x + 0.7 * end_x, lift], axis=1)
    codes = [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4]
    return [
        Path(corners, codes) for corners in np.stack([ends[:, 0], near, far, ends[:, 1]], axis=1)
    ]


def _draw_nodes(
    axes: Axes, positions: np.ndarray, states: np.ndarray, pitch: float
) -> list[Artist]:
    """Draw the nodes by state; return the legend's entries, with the number of nodes."""
    handles: list[Artist] = []
    for state, (colour, marker, factor) in _NODE_LOOKS.items():
        here = positions[states == state]
        size = float(np.clip(0.62 * 72 * pitch, 1.2, 4.5)) * factor
        edge_width = 0.7 if marker == "x" else 0.0
        axes.scatter(
            *here.T, s=size**2, c=colour, marker=marker, linewidths=edge_width, zorder=3, gid=state
        )
        handles.append(
            Line2D(
                [],
                [],
                linestyle="none",
                marker=marker,
                color=colour,
                markersize=5,
                label=f"{_NODE_WORDS[state]} ({len(here):,})",
            )
        )
    return handles


def _node_states(degrees: NodeFields) -> np.ndarray:
    """Return (nodes,) keys of `_NODE_LOOKS`."""
    from espalier.topology.degrees import disconnected_mask, sink_mask, source_mask

    sinks, sources = sink_mask(degrees), source_mask(degrees)
    sources[: degrees.incoming[0].size] = False
    sinks[sinks.size - degrees.incoming[-1].size :] = False
    states = np.full(sinks.size, "connected", dtype="<U12")
    states[sources], states[sinks] = "source", "sink"
    states[disconnected_mask(degrees)] = "disconnected"
    return states


def _label_parts(
    figure: Figure, axes: Axes, parts: Sequence[Part], columns: Sequence[tuple[float, float]]
) -> float:
    """Write name and shape below each part; return where the lowest label ends."""
    most_lines = 0
    centres = np.array([(left + right) / 2 for left, right in columns])
    pitch = float(np.diff(centres).min(initial=1.0)) - 0.06
    for part, centre in zip(parts, centres, strict=True):
        shape = f"{part.channels} × {part.height} × {part.width}"
        name = _broken_at_dots(figure, part.name, pitch)
        label = f"{name}\n{shape}" if part.height * part.width > 1 else f"{name}\n{part.channels}"
        most_lines = max(most_lines, label.count("\n") + 1)
        axes.text(
            centre,
            -0.1,
            label,
            fontsize=SMALL_SIZE - 0.5,
            ha="center",
            va="top",
            linespacing=1.15,
        )
    return -0.12 - 0.115 * most_lines


def _broken_at_dots(figure: Figure, name: str, width: float) -> str:
    lines = [""]
    for piece in name.replace(".", ". ").split():
        longer = lines[-1] + piece
        if lines[-1] and text_extent(figure, longer, SMALL_SIZE - 0.5)[0] > width:
            lines.append(piece)
        else:
            lines[-1] = longer
    return "\n".join(lines)


def _frame_image(axes: Axes, part: Part, positions: np.ndarray) -> None:
    """Frame the image in every channel of an input with padding."""
    inset = part.padding
    grid = positions[: part.nodes].reshape(part.channels, part.height, part.width, 2)
    inner = grid[:, inset : part.height - inset, inset : part.width - inset]
    if not inner.size:
        return
    half = 0.5 * abs(float(grid[0, 0, -1, 0] - grid[0, 0, 0, 0])) / max(1, part.width - 1)
    for channel in inner:
        low, high = channel.min(axis=(0, 1)) - half, channel.max(axis=(0, 1)) + half
        axes.add_patch(
            Rectangle(tuple(low), *(high - low), fill=False, edgecolor=INK, linewidth=0.7, zorder=4)
        )


def _ridges(
    axes: Axes, fields: Sequence[np.ndarray], exempt: int, words: str, largest: int
) -> None:
    """Draw one histogram per part over a logarithmic axis of degrees."""
    axes.set_xscale("log")
    # Whole degrees while they are apart, bins of a sixteenth of a decade from there on.
    steps = np.arange(16 * (np.log10(max(largest, 1)) + 1 / 8) + 1)
    edges = np.append(np.unique(np.round(10 ** (steps / 16))), 2.0 * largest + 1) - 0.5
    edges = edges[: int(np.searchsorted(edges, largest, side="right")) + 1]
    high = max(4.0, 1.25 * largest)
    axes.set_xlim(0.4 * (high / 0.4) ** -0.18, high)
    axes.axvline(0.4, color=FAINT, linewidth=0.7)
    axes.xaxis.set_major_locator(FixedLocator([10.0**k for k in range(int(np.log10(high)) + 1)]))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(visible=False, axis="y")
    axes.text(
        0.02,
        1.0,
        "none",
        transform=axes.transAxes,
        fontsize=SMALL_SIZE,
        color=GREY,
        va="bottom",
    )
    axes.text(
        1.02,
        1.0,
        "median",
        transform=axes.transAxes,
        fontsize=SMALL_SIZE,
        color=GREY,
        va="bottom",
    )
    axes.tick_params(axis="y", length=0)
    for row, field in enumerate(fields):
        base = row + 0.4
        axes.axhline(base, color=GRID, linewidth=0.6, zorder=1)
        if row == exempt:
            end = "first" if row == 0 else "last"
            axes.text(
                0.5, row + 0.15, f"the {end} part has no {words} edges", fontsize=SMALL_SIZE,
                color=GREY, style="italic", va="center",
            )  # fmt: skip
            continue
        values = field.reshape(-1)
        some = values[values > 0]
        if len(some) < values.size:
            axes.text(
                0.02,
                row + 0.15,
                _percent(1 - len(some) / values.size),
                transform=axes.get_yaxis_transform(),
                fontsize=SMALL_SIZE,
                color=OKABE_ITO["vermillion"],
                va="center",
            )
        if not len(some):
            continue
        counts, _ = np.histogram(some, edges)
        heights = counts / np.diff(np.log10(edges))
        heights = 0.85 * heights / heights.max()
        outline = np.repeat(edges, 2)[1:-1]
        axes.fill_between(
            outline, base, base - np.repeat(heights, 2), color=OKABE_ITO["sky blue"], linewidth=0,
            zorder=2, gid="degrees",
        )  # fmt: skip
        median = float(np.median(some))
        axes.plot([median, median], [base, base - 0.42], color=INK, linewidth=1.2, zorder=3)
        axes.annotate(
            f"{median:,.10g}",
            xy=(1.02, row + 0.15),
            xycoords=("axes fraction", "data"),
            fontsize=SMALL_SIZE,
            va="center",
        )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share >= 0.001 else "< 0.1 %"
