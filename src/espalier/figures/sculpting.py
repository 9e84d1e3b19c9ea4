"""Neural Sculpting: function graphs, pruned networks and their modules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from espalier.errors import DataError
from espalier.figures.style import (
    GREY,
    INK,
    OKABE_ITO,
    PAPER,
    SMALL_SIZE,
    TEXT_SIZE,
    frame,
    halo,
    new_figure,
    spread,
    styled,
)
from espalier.sculpting.functions import FunctionGraph
from espalier.sculpting.modules import Modules
from espalier.sculpting.success import (
    true_subfunctions,
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


# -- the function graph --------------------------------------------------------------------------


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


# -- the pruned network --------------------------------------------------------------------------


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
