"""Neural Sculpting: function graphs, pruned networks and modules, success rates, densities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex, to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator

from espalier.errors import DataError, unknown_name
from espalier.figures.style import (
    FAINT,
    GREY,
    INK,
    OKABE_ITO,
    PAPER,
    SMALL_SIZE,
    TEXT_SIZE,
    display_name,
    frame,
    halo,
    new_figure,
    series_handle,
    series_style,
    spread,
    styled,
)
from espalier.figures.tables import in_order, in_rising_order, numbers, require, where
from espalier.sculpting.functions import FunctionGraph
from espalier.sculpting.modules import Modules
from espalier.sculpting.published_recipes import published_densities, published_success
from espalier.sculpting.success import (
    CRITERIA,
    SUCCESS_COLUMNS,
    true_subfunctions,
    wilson_interval,
)

MODULE_COLOURS = tuple(
    OKABE_ITO[name]
    for name in (
        "blue", "vermillion", "bluish green", "orange", "reddish purple", "sky blue", "yellow",
    )
)  # fmt: skip
"""Colours of the first modules or sub-functions; later ones are grey and told apart by number."""

_LATER_COLOUR = "#8F8F8F"
_LEVEL_WIDTH = 1.15  # inches between levels
_ROW_HEIGHT = 0.3
_SYMBOLS = {"and": "∧", "or": "∨", "xor": "⊕", "identity": "="}
_MOST_VECTORS = 6000
_MOST_NAMED = 24
_MOST_COUNTS = 40


# -- layered drawings ----------------------------------------------------------------------------


def _sweep(
    columns: Sequence[Sequence[Any]],
    edges: Sequence[tuple[Any, Any]],
    groups: Mapping[Any, Any],
    rounds: int = 12,
) -> list[list[Any]]:
    """Order the nodes of every column so that few edges cross and groups stay together.

    Barycentre sweeps (Sugiyama et al. 1981): a node is put at the mean place of its neighbours, a
    group at the mean place of its nodes.
    """
    neighbours: dict[Any, list[Any]] = {node: [] for column in columns for node in column}
    for source, target in edges:
        neighbours[source].append(target)
        neighbours[target].append(source)
    ordered = [list(column) for column in columns]
    ends = (ordered[0], ordered[-1])
    natural = {node: k for column in columns for k, node in enumerate(column)}
    place = {node: (k + 0.5) / len(column) for column in ordered for k, node in enumerate(column)}
    for turn in range(rounds):
        for column in ordered if turn % 2 == 0 else reversed(ordered):
            means = {
                node: float(np.mean([place[other] for other in neighbours[node]] or [place[node]]))
                for node in column
            }
            held: dict[Any, list[float]] = {}
            for node in column:
                held.setdefault(groups[node], []).append(means[node])
            middle = {group: float(np.mean(values)) for group, values in held.items()}
            rank = {group: k for k, group in enumerate(sorted(middle, key=middle.__getitem__))}
            # Inputs and outputs of a group stay in the order of their numbers.
            own = natural if column in ends else means
            keys = {
                node: (rank[groups[node]], round(own[node], 9), natural[node]) for node in column
            }
            column.sort(key=keys.__getitem__)
            place.update({node: (k + 0.5) / len(column) for k, node in enumerate(column)})
    return ordered


def _positions(
    columns: Sequence[Sequence[Any]],
    edges: Sequence[tuple[Any, Any]],
    width: float,
    gap: float,
    height: float,
) -> dict[Any, tuple[float, float]]:
    """Return a position in inches per node: columns side by side, nodes near their neighbours."""
    place: dict[Any, tuple[float, float]] = {}
    for x, column in enumerate(columns):
        middle = (np.arange(len(column)) - (len(column) - 1) / 2) * -gap
        place.update({n: (x * width, float(y)) for n, y in zip(column, middle, strict=True)})
    neighbours: dict[Any, list[Any]] = {node: [] for column in columns for node in column}
    for source, target in edges:
        neighbours[source].append(target)
        neighbours[target].append(source)
    for turn in range(8):
        for x, column in enumerate(columns) if turn % 2 else reversed(list(enumerate(columns))):
            wanted = [
                -float(np.mean([place[other][1] for other in neighbours[node]] or [place[node][1]]))
                for node in column
            ]
            # In the order of the column: a strictly rising tie-break keeps it through `spread`.
            kept = np.maximum.accumulate(np.array(wanted))
            moved = -spread(kept, gap, -height / 2, height / 2)
            place.update({n: (x * width, float(y)) for n, y in zip(column, moved, strict=True)})
    return place


def _colour(index: int) -> str:
    return MODULE_COLOURS[index] if index < len(MODULE_COLOURS) else _LATER_COLOUR


def _bare(axes: Axes) -> None:
    axes.set_axis_off()
    axes.grid(visible=False)


def _limits(axes: Axes, points: np.ndarray, x_margin: float, y_margin: float) -> None:
    """Show all points with a margin in inches; an inch of data is an inch of paper at most."""
    axes.set_xlim(points[:, 0].min() - x_margin, points[:, 0].max() + x_margin)
    axes.set_ylim(points[:, 1].min() - y_margin, points[:, 1].max() + y_margin)


# -- (a) the function graph ----------------------------------------------------------------------


@styled
def function_graph(graph: FunctionGraph, *, title: str | None = None) -> Figure:
    """Draw a function graph: inputs left, outputs right, gates by level, colours by sub-function.

    ∧ is AND, ∨ OR, ⊕ XOR and = identity; a ring where an edge ends says that it negates.

    Args:
        graph: with at most 256 nodes.
        title: above the drawing; by default the function's name.

    Raises:
        DataError: too many nodes to draw.

    Source: Patil et al. (2023), Figures 6, 8, 9 and 11.
    """
    if len(graph.nodes) > 256:
        raise DataError(f"{graph.name} has {len(graph.nodes)} nodes; at most 256 can be drawn")
    parts = true_subfunctions(graph)
    home = {node: k for k, part in enumerate(parts) for node in part.nodes}
    gates = {gate.name: gate for gate in (*graph.gates, *graph.outputs)}
    edges = [(edge.source, name) for name, gate in gates.items() for edge in gate.edges]
    columns = _sweep(
        [[n for n in graph.nodes if graph.levels[n] == k] for k in range(graph.depth)], edges, home
    )
    tallest = max(map(len, columns))
    height = _ROW_HEIGHT * max(3, tallest)
    place = _positions(columns, edges, _LEVEL_WIDTH, _ROW_HEIGHT, height)
    figure = new_figure(max(3.6, _LEVEL_WIDTH * (graph.depth - 1) + 1.4), height + 0.3)
    axes = cast(Axes, figure.subplots())
    _bare(axes)
    _limits(axes, np.array(list(place.values())), 0.55, 0.25)
    for name, gate in gates.items():
        for edge in gate.edges:
            _draw_edge(axes, place[edge.source], place[name], _edge_colour(home, edge.source, name))
            if edge.negated:
                _ring(axes, place[edge.source], place[name])
    ends = {*graph.inputs, *(gate.name for gate in graph.outputs)}
    for name, (x, y) in place.items():
        gate = gates.get(name)
        axes.plot(
            [x], [y], marker="s" if name in ends else "o", markersize=13,
            markerfacecolor=_colour(home[name]), markeredgecolor=PAPER, markeredgewidth=1.0,
            zorder=3, gid="node",
        )  # fmt: skip
        axes.text(
            x, y, name if gate is None else _SYMBOLS[gate.kind], ha="center", va="center",
            fontsize=SMALL_SIZE - 0.5 if gate is None else TEXT_SIZE + 1,
            color=_text_colour(_colour(home[name])), zorder=4,
        )  # fmt: skip
        if gate is not None and name in ends:
            axes.text(x + 0.17, y, name, ha="left", va="center", fontsize=SMALL_SIZE, zorder=4)
    handles = [_square(k, part.name.replace("_", " ")) for k, part in enumerate(parts)]
    handles.append(
        Line2D(
            [], [], linestyle="none", marker="o", markersize=4, markerfacecolor=PAPER,
            markeredgecolor=INK, label="negated edge",
        )
    )  # fmt: skip
    caption = (
        f"{len(graph.inputs)} inputs, {len(graph.gates)} gates and {len(graph.outputs)} outputs on "
        f"{graph.depth} levels. ∧ AND, ∨ OR, ⊕ XOR, = identity; colours are sub-functions."
    )
    heading = title if title is not None else f"Function graph {graph.name}"
    frame(figure, heading, caption, handles, 1.2)
    return figure


def _edge_colour(home: Mapping[Any, int], source: Any, target: Any) -> str:
    return _colour(home[source]) if home[source] == home[target] else GREY


def _text_colour(background: str) -> str:
    red, green, blue, _ = to_rgba(background)
    return INK if 0.299 * red + 0.587 * green + 0.114 * blue > 0.55 else PAPER


def _draw_edge(
    axes: Axes, start: tuple[float, float], end: tuple[float, float], colour: str
) -> None:
    axes.plot(*zip(start, end, strict=True), color=colour, linewidth=0.9, alpha=0.8, zorder=1)


def _ring(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Mark a negated edge near its end."""
    away = np.subtract(start, end)
    x, y = np.asarray(end) + away / np.linalg.norm(away) * 0.19
    axes.plot(
        [x], [y], marker="o", markersize=3.6, markerfacecolor=PAPER, markeredgecolor=INK,
        markeredgewidth=0.8, zorder=5, gid="negated",
    )  # fmt: skip


def _square(index: int, label: str) -> Line2D:
    return Line2D(
        [], [], linestyle="none", marker="s", markersize=6, color=_colour(index), label=label
    )


# -- (b) the pruned network ----------------------------------------------------------------------


@styled
def pruned_network(
    modules: Modules,
    *,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    title: str = "Pruned network and its modules",
) -> Figure:
    """Draw the live units of a network by layer, coloured by module, and the graph of its modules.

    Left: dots are units, inputs at the left; edges within a module have its colour, others are
    grey. Layers of more than 48 units are drawn as several columns. Right: one box per module with
    the inputs and outputs that it holds; numbers on the lines count edges.

    Args:
        modules: of the network, from `detect_modules`.
        input_names, output_names: of all units of the first and last layer; x1, x2, ... and
            y1, y2, ... by default. They are written where at most 24 units are alive.
        title: above the panels.

    Raises:
        DataError: names are too few or too many.

    Source: Patil et al. (2023), Figures 14 to 33.
    """
    sizes = modules.sizes
    names = [
        _names("input", "x", sizes[0], input_names),
        _names("output", "y", sizes[-1], output_names),
    ]
    edges = _live_edges(modules)
    home = {
        (layer, int(unit)): int(label)
        for layer, (alive, labels) in enumerate(zip(modules.alive, modules.modules, strict=True))
        for unit, label in zip(alive, labels, strict=True)
    }
    columns = _sweep(
        [[(layer, int(unit)) for unit in alive] for layer, alive in enumerate(modules.alive)],
        edges,
        home,
    )
    place, height = _unit_positions(columns, edges)
    points = np.array(list(place.values()))
    graph_width = max(2.6, 1.0 + 1.15 * _module_depth(modules))
    drawing_width = float(np.ptp(points[:, 0])) + 1.1
    figure = new_figure(drawing_width + graph_width + 0.4, max(height, 1.6) + 0.4)
    left, right = figure.subplots(1, 2, width_ratios=[drawing_width, graph_width])
    _draw_units(left, modules, place, edges, home, names)
    left.set_title(f"live units ({len(home)}) and edges ({len(edges)})", fontsize=TEXT_SIZE)
    _draw_module_graph(right, modules, names)
    many = modules.num_modules
    right.set_title(f"modules ({many}) and edges between them", fontsize=TEXT_SIZE)
    dense = sum(a * b for a, b in pairwise(sizes))
    caption = (
        f"Layers of {'-'.join(map(str, sizes))} units; {len(edges):,} of {dense:,} edges are live "
        f"({100 * len(edges) / dense:.2g} %). What lies on no path from an input to an output is "
        "left out. "
        "Colours are modules; grey edges join two of them."
    )
    frame(figure, title, caption)
    return figure


def _names(kind: str, letter: str, count: int, given: Sequence[str] | None) -> list[str]:
    if given is not None and len(given) != count:
        raise DataError(f"{len(given)} {kind} names were given for {count} {kind} units")
    return list(given) if given is not None else [f"{letter}{k + 1}" for k in range(count)]


def _live_edges(modules: Modules) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    edges = []
    for layer, mask in enumerate(modules.masks):
        sources, targets = modules.alive[layer], modules.alive[layer + 1]
        for row, column in np.argwhere(mask):
            edges.append(((layer, int(sources[column])), (layer + 1, int(targets[row]))))
    return edges


def _unit_positions(
    columns: Sequence[Sequence[Any]], edges: Sequence[tuple[Any, Any]]
) -> tuple[dict[Any, tuple[float, float]], float]:
    """Return the place of every unit in inches and the height of the drawing."""
    largest = max(map(len, columns))
    if largest <= 48:
        gap = float(np.clip(3.6 / max(largest, 1), 0.1, 0.3))
        height = gap * max(largest, 4)
        return _positions(columns, edges, 1.05, gap, height), height
    place, left, gap, height = {}, 0.0, 0.07, 3.4
    for column in columns:
        beside = max(1, -(-len(column) // 48))
        below = -(-len(column) // beside)
        step = min(0.24, height / max(below, 1))
        for k, node in enumerate(column):
            row, across = k % below, k // below
            place[node] = (left + gap * across, ((below - 1) / 2 - row) * step)
        left += gap * (beside - 1) + 0.95
    return place, height


def _draw_units(
    axes: Axes,
    modules: Modules,
    place: Mapping[Any, tuple[float, float]],
    edges: Sequence[tuple[Any, Any]],
    home: Mapping[Any, int],
    names: Sequence[list[str]],
) -> None:
    _bare(axes)
    _limits(axes, np.array(list(place.values())), 0.5, 0.2)
    opacity = float(np.clip(150 / max(1, len(edges)), 0.08, 0.8))
    inner = [_colour(home[a]) if home[a] == home[b] else GREY for a, b in edges]
    axes.add_collection(
        LineCollection(
            [(place[a], place[b]) for a, b in edges],
            colors=[to_rgba(colour, opacity) for colour in inner],
            linewidths=0.9 if len(edges) < 400 else 0.4,
            rasterized=len(edges) > _MOST_VECTORS,
            zorder=1,
            gid="edges",
        )
    )
    points = np.array([place[node] for node in home])
    size = 6.5 if len(home) <= 150 else 2.4
    axes.scatter(
        *points.T, s=size**2, c=[_colour(label) for label in home.values()],
        edgecolors=PAPER, linewidths=0.5 if size > 3 else 0.1, zorder=3, gid="units",
    )  # fmt: skip
    last = len(modules.alive) - 1
    for layer, sign, words in ((0, -1, names[0]), (last, 1, names[1])):
        if len(modules.alive[layer]) > _MOST_NAMED:
            continue
        for unit in modules.alive[layer].tolist():
            x, y = place[layer, unit]
            axes.text(
                x + sign * 0.12, y, words[unit], ha="right" if sign < 0 else "left", va="center",
                fontsize=SMALL_SIZE, gid="unit",
            )  # fmt: skip


def _module_levels(modules: Modules) -> np.ndarray:
    """Return the longest path of modules that ends in each one."""
    levels = np.zeros(modules.num_modules, dtype=np.int64)
    pairs = [(source, target) for source, target, _ in modules.edges.tolist()]
    for _ in range(modules.num_modules):
        before = levels.copy()
        for source, target in pairs:
            levels[target] = max(levels[target], levels[source] + 1)
        if np.array_equal(before, levels):
            break
    return levels


def _module_depth(modules: Modules) -> int:
    return int(_module_levels(modules).max(initial=0)) + 1


def _draw_module_graph(axes: Axes, modules: Modules, names: Sequence[list[str]]) -> None:
    _bare(axes)
    levels = _module_levels(modules)
    edges = [(source, target) for source, target, _ in modules.edges.tolist()]
    members = list(range(modules.num_modules))
    columns = _sweep(
        [[m for m in members if levels[m] == k] for k in range(int(levels.max(initial=0)) + 1)],
        edges,
        {m: m for m in members},
    )
    gap = float(np.clip(3.6 / max(map(len, columns)), 0.28, 0.75))
    place = _positions(columns, edges, 1.15, gap, gap * max(map(len, columns)))
    _limits(axes, np.array(list(place.values())), 0.6, 0.4)
    boxes = {}
    for label, (x, y) in place.items():
        words = _module_words(modules, label, names)
        text = axes.text(
            x, y, words, fontsize=SMALL_SIZE - 0.5, ha="center", va="center", linespacing=1.15,
            color=_text_colour(_colour(label)), zorder=4, gid="module",
            bbox={
                "boxstyle": "round,pad=0.35", "facecolor": _colour(label), "edgecolor": PAPER,
                "linewidth": 0.8,
            },
        )  # fmt: skip
        boxes[label] = text.get_bbox_patch()
    largest = max((count for *_, count in modules.edges.tolist()), default=1)
    for source, target, count in modules.edges.tolist():
        start, end = np.array(place[source]), np.array(place[target])
        axes.annotate(
            "", xy=tuple(end), xytext=tuple(start), zorder=1,
            arrowprops={
                "arrowstyle": "-|>", "color": GREY, "shrinkA": 1, "shrinkB": 2,
                "patchA": boxes[source], "patchB": boxes[target], "mutation_scale": 8,
                "linewidth": 0.7 + 0.9 * count / largest,
            },
        )  # fmt: skip
        if len(edges) <= _MOST_COUNTS:
            x, y = start + 0.45 * (end - start)
            axes.text(
                x, y, f"{count}", fontsize=SMALL_SIZE - 0.5, ha="center", va="center",
                path_effects=[halo()], zorder=2, gid="count",
            )  # fmt: skip


def _module_words(modules: Modules, label: int, names: Sequence[list[str]]) -> str:
    """Return the inputs, the number of hidden units and the outputs of a module, on three lines."""
    last = len(modules.alive) - 1
    lines = []
    for layer, words, kind in ((0, names[0], "inputs"), (last, names[1], "outputs")):
        held = modules.alive[layer][modules.modules[layer] == label].tolist()
        lines.append(_listed([words[unit] for unit in held], kind) if held else "")
    units = sum(int((own == label).sum()) for own in modules.modules[1:-1])
    lines.insert(1, f"{units} unit{'s' * (units > 1)}" if units else "")
    return "\n".join(line for line in lines if line)


def _listed(words: Sequence[str], kind: str) -> str:
    if len(words) <= 4:
        return " ".join(words)
    return (
        f"{words[0]} {words[1]} … {words[-1]} ({len(words)})"
        if len(words) <= 24
        else (f"{len(words)} {kind}")
    )


# -- (c) success rates ---------------------------------------------------------------------------

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


# -- (d) densities -------------------------------------------------------------------------------


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


__all__ = [
    "MODULE_COLOURS",
    "density_distribution",
    "function_graph",
    "pruned_network",
    "success_rates",
]
