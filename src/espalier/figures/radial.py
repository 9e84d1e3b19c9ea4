"""The nested blocks of a co-activation graph on a circle, the tree inside and the edges bundled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from espalier.errors import ConfigurationError, DataError
from espalier.figures.coactivation import (
    check_graph,
    draw_outputs,
    edge_collection,
    layer_colours,
    layer_handles,
    strongest_edges,
)
from espalier.figures.style import (
    GREY,
    INK,
    OKABE_ITO,
    PAPER,
    TEXT_SIZE,
    frame,
    new_figure,
    spread,
    styled,
    text_extent,
)

if TYPE_CHECKING:
    from espalier.graphs.coactivation import CoactivationGraph

_TREE_COLOUR = OKABE_ITO["blue"]
_RIM = 1.0
_LABEL_RADIUS = 1.13
_WIDTH = 7.2  # inches
_CURVE_POINTS = 24


@styled
def radial_hierarchy(
    levels: Sequence[Sequence[int] | np.ndarray],
    graph: CoactivationGraph,
    *,
    title: str = "Nested blocks of the co-activation graph",
    max_edges: int = 3000,
    bundling: float = 0.8,
) -> Figure:
    """Draw nested blocks: units on a rim, the tree of blocks inside, the edges bundled along it.

    Units of a block are neighbours on the rim, coloured by layer; arcs mark the blocks of the
    lowest level. Squares inside are blocks, joined to the block they are part of; blocks with one
    part only are drawn too, until a level has one block. Output units are named by class.

    Args:
        levels: nested blocks as `espalier.hierarchy.extraction.class_tree` takes them: level 0
            gives each of the n units its block, level k each block of level k - 1 its block. Block
            numbers may have gaps; entries of unused blocks are ignored.
        graph: the graph of n units.
        title: title of the figure.
        max_edges: at most this many edges are drawn, the strongest.
        bundling: 0 draws straight chords, 1 follows the tree.

    Raises:
        DataError: no levels, a level of the wrong length, or an empty graph.
        ConfigurationError: `max_edges` is not positive or `bundling` is outside 0 to 1.

    Source: Petkov (2021), Figures 2 and 13, after Peixoto (2014), "Hierarchical block structures
    and high-resolution model selection in large networks"; bundling by Holten (2006),
    "Hierarchical edge bundles".
    """
    if max_edges < 1 or not 0 <= bundling <= 1:
        raise ConfigurationError(
            f"max_edges must be positive and bundling in 0 to 1, not {max_edges} and {bundling}"
        )
    check_graph(graph)
    paths = block_paths(levels, len(graph.layer))
    order = _rim_order(paths, graph)
    angles = _rim_angles(paths, order, graph.label >= 0)
    nodes = np.stack([np.cos(angles), np.sin(angles)], axis=1) * _RIM
    centres = _block_positions(paths, angles)

    names = [graph.class_names[int(graph.label[node])] for node in graph.output_nodes]
    figure = new_figure(_WIDTH, _WIDTH)
    places = _name_places(figure, graph, names, angles)
    half_width, bottom, top = _extent(figure, names, places)
    figure.set_size_inches(_WIDTH, _WIDTH * (top - bottom) / (2 * half_width))
    axes = figure.subplots()
    axes.set_axis_off()
    axes.set_aspect("equal")
    axes.set_xlim(-half_width, half_width)
    axes.set_ylim(bottom, top)

    rows, columns, weights = strongest_edges(graph.adjacency, max_edges)
    curves = _bundled(rows, columns, nodes, paths, centres, bundling)
    axes.add_collection(edge_collection(curves, weights, strongest=0.45), autolim=False)
    _draw_tree(axes, paths, nodes, centres)
    _draw_rim(axes, graph, paths, order, angles, nodes)
    _draw_names(axes, names, angles[graph.output_nodes], places)

    edges = graph.adjacency.nnz // 2
    shown = (
        f"all {edges:,} edges" if len(weights) == edges else
        f"the {len(weights):,} strongest of {edges:,} edges"
    )  # fmt: skip
    counts = " → ".join(f"{len(np.unique(paths[:, level])):,}" for level in range(paths.shape[1]))
    caption = (
        f"Rim: {len(order):,} units, coloured by layer; grey arcs: blocks of the lowest level. "
        f"Squares: blocks, {counts} from the rim inwards. Grey curves: {shown}, darker with "
        "weight, bundled along the tree of blocks."
    )
    frame(figure, title, caption, layer_handles(graph), handle_length=1.0)
    return figure


def block_paths(levels: Sequence[Sequence[int] | np.ndarray], count: int) -> np.ndarray:
    """Return the block of every node at every level, up to the first level with one block.

    Args:
        levels: nested blocks, see `radial_hierarchy`.
        count: number n of nodes.

    Returns:
        (n, depth) int64; a last column of zeros is added when no level joins everything.

    Raises:
        DataError: no levels, level 0 not of length n, or a block without an entry in the level
            above.
    """
    if not len(levels):
        raise DataError("there are no levels of blocks to draw")
    first = np.asarray(levels[0], dtype=np.int64)
    if first.shape != (count,):
        raise DataError(
            f"level 0 gives blocks to {len(first)} nodes, but the co-activation graph has {count}"
        )
    path = [first]
    for number, level in enumerate(levels[1:], 1):
        if len(np.unique(path[-1])) == 1:
            break
        above = np.asarray(level, dtype=np.int64)
        below = path[-1]
        if below.min() < 0 or below.max() >= len(above):
            raise DataError(
                f"level {number} has {len(above)} entries, but level {number - 1} uses the blocks "
                f"{below.min()} to {below.max()}"
            )
        path.append(above[below])
    if len(np.unique(path[-1])) > 1:
        path.append(np.zeros(count, dtype=np.int64))
    return np.stack(path, axis=1)


def _rim_order(paths: np.ndarray, graph: CoactivationGraph) -> np.ndarray:
    """Return the nodes in rim order: blocks together, siblings by mean layer, units by layer."""
    keys: list[np.ndarray] = [graph.neuron, graph.layer]
    for level in range(paths.shape[1]):
        _, index = np.unique(paths[:, level], return_inverse=True)
        mean = np.bincount(index, graph.layer) / np.bincount(index)
        keys += [index, mean[index]]
    return np.lexsort(keys)


def _rim_angles(paths: np.ndarray, order: np.ndarray, is_output: np.ndarray) -> np.ndarray:
    """Return the angle of each node; gaps between blocks grow with the level that parts them.

    Outputs have more room than hidden units, since each carries a name.
    """
    differs = paths[order] != paths[np.roll(order, 1)]
    # Paths are nested, so the number of differing levels is the height of the split.
    height = differs.sum(axis=1).astype(float)
    unit = len(order) / 250
    room = np.where(is_output[order], max(1.3, 1.9 * unit), 1.0)
    room = (room + np.roll(room, 1)) / 2
    steps = room + unit * np.where(height > 0, 0.6 + 0.9 * height, 0)
    turned = np.cumsum(steps) - steps[0]
    angles = np.empty(len(order))
    angles[order] = np.pi / 2 - 2 * np.pi * turned / steps.sum()
    return angles


def _block_positions(paths: np.ndarray, angles: np.ndarray) -> list[dict[int, np.ndarray]]:
    """Return the place of each block, per level; the outermost level lies nearest to the rim."""
    depth = paths.shape[1]
    places = []
    for level in range(depth):
        radius = _RIM * 0.86 * (1 - (level + 1) / depth) ** 0.9
        if level == depth - 1:
            radius = 0.0
        here = {}
        for block in np.unique(paths[:, level]):
            own = angles[paths[:, level] == block]
            # Nodes of a block are neighbours on the rim: the middle of their range is its angle.
            middle = (own.min() + own.max()) / 2
            here[int(block)] = radius * np.array([np.cos(middle), np.sin(middle)])
        places.append(here)
    return places


def _bundled(
    rows: np.ndarray,
    columns: np.ndarray,
    nodes: np.ndarray,
    paths: np.ndarray,
    centres: list[dict[int, np.ndarray]],
    bundling: float,
) -> np.ndarray:
    """Return (m, points, 2) curves: cubic B-splines over the way through the tree.

    Straightened by Holten's rule: control point k of K moves to
    b p_k + (1 - b)(p_0 + k / (K - 1) (p_last - p_0)).
    """
    tables = []
    for level, here in enumerate(centres):
        table = np.zeros((int(paths[:, level].max()) + 1, 2))
        for block, place in here.items():
            table[block] = place
        tables.append(table)
    curves = np.empty((len(rows), _CURVE_POINTS, 2))
    common = (paths[rows] == paths[columns]).argmax(axis=1)  # level of the lowest common block
    for level in np.unique(common):
        chosen = np.flatnonzero(common == level)
        start, end = rows[chosen], columns[chosen]
        up = [tables[k][paths[start, k]] for k in range(level + 1)]
        down = [tables[k][paths[end, k]] for k in range(level - 1, -1, -1)]
        control = np.stack([nodes[start], *up, *down, nodes[end]], axis=1)
        share = np.linspace(0, 1, control.shape[1])[None, :, None]
        straight = control[:, :1] + share * (control[:, -1:] - control[:, :1])
        curves[chosen] = _spline(bundling * control + (1 - bundling) * straight)
    return curves


def _spline(control: np.ndarray) -> np.ndarray:
    """Return points of the clamped uniform cubic B-splines with (m, K, 2) control points."""
    padded = np.concatenate(
        [control[:, :1], control[:, :1], control, control[:, -1:], control[:, -1:]], axis=1
    )
    pieces = padded.shape[1] - 3
    position = np.linspace(0, pieces, _CURVE_POINTS)
    piece = np.minimum(position.astype(int), pieces - 1)
    t = (position - piece)[None, :, None]
    basis = (
        (1 - t) ** 3 / 6,
        (3 * t**3 - 6 * t**2 + 4) / 6,
        (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6,
        t**3 / 6,
    )
    return sum(weight * padded[:, piece + k] for k, weight in enumerate(basis))  # type: ignore[return-value]


def _draw_tree(
    axes: Axes, paths: np.ndarray, nodes: np.ndarray, centres: list[dict[int, np.ndarray]]
) -> None:
    twigs = [[nodes[node], centres[0][int(paths[node, 0])]] for node in range(len(nodes))]
    axes.add_collection(
        LineCollection(
            twigs,
            colors=_TREE_COLOUR,
            linewidths=0.35,
            alpha=0.4 * min(1.0, 150 / len(nodes)) ** 0.7,
            zorder=2,
        ),
        autolim=False,
    )
    branches = []
    for level in range(paths.shape[1] - 1):
        for block, above in np.unique(paths[:, level : level + 2], axis=0):
            branches.append([centres[level][int(block)], centres[level + 1][int(above)]])
    axes.add_collection(
        LineCollection(branches, colors=_TREE_COLOUR, linewidths=1.4, zorder=3, gid="tree"),
        autolim=False,
    )
    for level, here in enumerate(centres):
        places = np.array(list(here.values()))
        axes.scatter(
            *places.T,
            s=16 + 9 * level,
            marker="s",
            c=_TREE_COLOUR,
            edgecolors=PAPER,
            linewidths=0.6,
            zorder=4,
        )


def _draw_rim(
    axes: Axes,
    graph: CoactivationGraph,
    paths: np.ndarray,
    order: np.ndarray,
    angles: np.ndarray,
    nodes: np.ndarray,
) -> None:
    spacing = 2 * np.pi / len(order)
    arcs = []
    for block in np.unique(paths[:, 0]):
        own = angles[paths[:, 0] == block]
        turn = np.linspace(own.min() - spacing / 3, own.max() + spacing / 3, 40)
        arcs.append(1.045 * np.stack([np.cos(turn), np.sin(turn)], axis=1))
    axes.add_collection(
        LineCollection(arcs, colors=GREY, linewidths=1.6, zorder=2, gid="blocks"), autolim=False
    )
    colours = layer_colours(graph)
    hidden = np.flatnonzero(graph.label < 0)
    axes.scatter(
        *nodes[hidden].T,
        s=float(np.clip(3600 / len(order), 9, 20)),
        c=[colours[int(layer)] for layer in graph.layer[hidden]] or None,
        edgecolors=PAPER,
        linewidths=0.2 if len(order) < 400 else 0,
        zorder=5,
    )
    draw_outputs(axes, nodes[graph.output_nodes], size=34, zorder=6)


def _name_places(
    figure: Figure, graph: CoactivationGraph, names: Sequence[str], angles: np.ndarray
) -> np.ndarray:
    """Return the angle of each class name: its output's, moved where outputs are neighbours."""
    wanted = np.mod(angles[graph.output_nodes], 2 * np.pi)
    longest = max(text_extent(figure, name, TEXT_SIZE, "bold")[0] for name in names)
    line = text_extent(figure, "Ag", TEXT_SIZE, "bold")[1]
    gap = 1.1 * line / (_WIDTH / 2 - min(longest, 1.6))  # the rim's radius in inches, at least
    # Cut the circle in the widest gap, so that names never have to move across the cut.
    ordered = np.sort(wanted)
    gaps = np.diff(np.concatenate([ordered, ordered[:1] + 2 * np.pi]))
    cut = ordered[int(np.argmax(gaps))] + gaps.max() / 2
    return spread(np.mod(wanted - cut, 2 * np.pi), gap, 0.0, 2 * np.pi) + cut


def _extent(figure: Figure, names: Sequence[str], places: np.ndarray) -> tuple[float, float, float]:
    """Return half width, bottom and top of the drawing in rim radii, such that all names fit."""
    extents = np.array([text_extent(figure, name, TEXT_SIZE, "bold") for name in names])
    across, up = np.abs(np.cos(places)), np.sin(places)
    # Inches that a name takes beyond its place; half of its height stands out across its ray.
    beyond_x = extents[:, 0] * across + extents[:, 1] / 2 * np.abs(up) + 0.12
    beyond_y = extents[:, 0] * np.abs(up) + extents[:, 1] / 2 * across + 0.12
    inches = _WIDTH / 2
    half_width = float((_LABEL_RADIUS * across * inches / np.maximum(inches - beyond_x, 0.5)).max())
    half_width = max(half_width, 1.1)
    reach = np.sign(up) * beyond_y * half_width / inches + _LABEL_RADIUS * up
    return half_width, min(float(reach.min()), -1.1), max(float(reach.max()), 1.1)


def _draw_names(axes: Axes, names: Sequence[str], angles: np.ndarray, places: np.ndarray) -> None:
    """Write the class names along their rays, each joined to its output."""
    leaders = []
    for name, own, angle in zip(names, angles, places, strict=True):
        outwards = np.array([np.cos(own), np.sin(own)])
        ray = np.array([np.cos(angle), np.sin(angle)])
        leaders.append([1.02 * outwards, 1.055 * outwards, (_LABEL_RADIUS - 0.01) * ray])
        degrees = np.rad2deg(angle) % 360
        left = 90 < degrees < 270
        axes.text(
            _LABEL_RADIUS * ray[0],
            _LABEL_RADIUS * ray[1],
            name,
            rotation=degrees - 180 if left else degrees,
            rotation_mode="anchor",
            ha="right" if left else "left",
            va="center",
            fontsize=TEXT_SIZE,
            fontweight="bold",
            zorder=7,
        )
    axes.add_collection(
        LineCollection(leaders, colors=INK, linewidths=0.6, zorder=5), autolim=False
    )


__all__ = ["block_paths", "radial_hierarchy"]
