"""The co-activation graph of a network, drawn by forces."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex, to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy import sparse
from scipy.spatial import KDTree

from espalier.errors import ConfigurationError, DataError
from espalier.figures.style import (
    GREY,
    INK,
    OKABE_ITO,
    OUTPUT_COLOUR,
    OUTPUT_MARKER,
    PAPER,
    SMALL_SIZE,
    frame,
    label_points,
    new_figure,
    settle,
    styled,
)
from espalier.seeds import numpy_generator

if TYPE_CHECKING:
    from espalier.graphs.coactivation import CoactivationGraph

_LAYER_COLOURS = tuple(
    OKABE_ITO[name]
    for name in ("sky blue", "blue", "bluish green", "yellow", "orange", "reddish purple", "black")
)


@styled
def coactivation_graph(
    graph: CoactivationGraph,
    *,
    title: str = "Co-activation graph",
    max_edges: int = 15_000,
    iterations: int = 150,
    seed: int = 0,
) -> Figure:
    """Draw a co-activation graph: units coloured by layer, outputs named by class.

    Units that co-activate strongly are drawn close together. Units without edges stand in rows
    below the drawing.

    Args:
        graph: the graph of n units; edge weights are not negative.
        title: title of the figure.
        max_edges: at most this many edges are drawn, the strongest; all of them shape the layout.
        iterations: steps of the layout; the time grows with n squared (about 5 s at n = 1,500).
        seed: seed of the layout's starting positions.

    Raises:
        DataError: the graph has no nodes, or its arrays differ in length.
        ConfigurationError: `max_edges` or `iterations` is not positive.

    Source: Petkov (2021), Figure 1; layout: `force_layout`.
    """
    if max_edges < 1 or iterations < 1:
        raise ConfigurationError(
            f"max_edges and iterations must be positive, not {max_edges} and {iterations}"
        )
    check_graph(graph)
    adjacency = sparse.csr_array(graph.adjacency)
    has_edges = np.diff(adjacency.indptr) > 0
    connected, alone = np.flatnonzero(has_edges), np.flatnonzero(~has_edges)
    outputs = np.asarray(graph.output_nodes)
    positions = np.zeros((len(graph.layer), 2))
    if len(connected):
        part = sparse.csr_array(adjacency[connected][:, connected])
        size = 1.1 / np.sqrt(len(positions))
        room = np.where(graph.label[connected] >= 0, 1.2 * max(size, 0.045), 0.55 * size)
        positions[connected] = keep_apart(
            force_layout(part, iterations=iterations, seed=seed), room
        )
    positions[alone] = _rows_below(len(alone), positions[connected])

    low, high = positions.min(axis=0), positions.max(axis=0)
    extent = np.maximum(high - low, 1e-6) * (1.16, 1.08)
    width = 7.2
    height = float(np.clip(width * extent[1] / extent[0], 2.5, 6.2))
    # Widen the shorter side to the shape of the page, so that labels have all of it.
    extent = np.maximum(extent, extent[::-1] * (width / height, height / width))
    figure = new_figure(width, height)
    axes = figure.subplots()
    axes.set_axis_off()
    axes.set_aspect("equal")
    axes.set_xlim((low + high)[0] / 2 - extent[0] / 2, (low + high)[0] / 2 + extent[0] / 2)
    axes.set_ylim((low + high)[1] / 2 - extent[1] / 2, (low + high)[1] / 2 + extent[1] / 2)
    rows, columns, weights = strongest_edges(adjacency, max_edges)
    axes.add_collection(
        edge_collection(positions[np.stack([rows, columns], axis=1)], weights, strongest=0.5),
        autolim=False,
    )

    is_output = graph.label >= 0
    colours = layer_colours(graph)
    size = float(np.clip(2600 / max(1, len(positions)), 5, 22))
    hidden = np.flatnonzero(~is_output)
    # Layers are interleaved at random, so that no layer hides another where units are dense.
    hidden = numpy_generator(seed, "drawing order").permutation(hidden)
    axes.scatter(
        *positions[hidden].T,
        s=size,
        c=[colours[int(layer)] for layer in graph.layer[hidden]] or None,
        edgecolors=PAPER,
        linewidths=0.3,
        zorder=3,
    )
    draw_outputs(axes, positions[outputs], size=38, zorder=5)

    edges = adjacency.nnz // 2
    drawn = (
        f"All {edges:,} edges are drawn"
        if len(weights) == edges
        else f"The {len(weights):,} strongest of {edges:,} edges are drawn"
    )
    caption = (
        f"{len(positions):,} units: {int((~is_output).sum()):,} hidden, {len(outputs)} outputs. "
        f"{drawn}, darker with weight; all shape the layout, in which units that co-activate "
        "attract each other."
    )
    if len(alone):
        caption += f" {_units(len(alone))} without edges in the rows below."
    frame(figure, title, caption, layer_handles(graph), handle_length=1.0)
    names = [graph.class_names[int(graph.label[node])] for node in outputs]
    label_points(
        axes,
        positions[outputs],
        names,
        size=SMALL_SIZE + 0.5,
        weight="bold",
        obstacles=positions[hidden],
        leader_from=12.0,
    )
    settle(figure)
    return figure


def force_layout(
    adjacency: sparse.csr_array, *, iterations: int = 150, seed: int = 0
) -> np.ndarray:
    """Place the nodes of a weighted graph so that dense groups stand apart.

    Lowers an energy between Noack's LinLog and that of Fruchterman and Reingold: the sum of
    w_ij d_ij^(3/2) / (3/2) over edges less the sum of m_i m_j ln d_ij over pairs, d_ij the distance
    and m_i growing with the root of the weighted degree. LinLog (exponent 1) shrinks groups to
    points, Fruchterman and Reingold (exponent 3) hides them. A weak pull to the centre keeps
    components in sight. Steps shorten to 0. All sums are taken in a fixed order without BLAS,
    so the same input and seed give the same bytes.

    Args:
        adjacency: (n, n) symmetric, weights not negative, no diagonal.
        iterations: number of steps.
        seed: seed of the starting positions.

    Returns:
        (n, 2) positions, centred, the longer axis of the drawing along x, with the root mean
        square distance from the centre 1.

    Source: Noack (2007), "Energy models for graph clustering", JGAA 11(2).
    """
    count = len(adjacency.indptr) - 1
    if count == 1:
        return np.zeros((1, 2))
    # A graph rescaled to [0, 1] may have edges of weight 0: they still bind a little.
    largest = float(adjacency.data.max(initial=0.0)) or 1.0
    weights = np.asarray(adjacency.data, dtype=np.float64) / largest + 0.05
    rows = np.repeat(np.arange(count), np.diff(adjacency.indptr))
    columns = adjacency.indices
    degree = np.bincount(rows, weights, minlength=count)
    mass = np.sqrt(degree / max(degree.mean(), 1e-12)) + 0.3
    strength = weights / max(weights.sum(), 1e-12) * count
    x, y = numpy_generator(seed, "layout").normal(size=(2, count))
    for step in range(iterations):
        # Repulsion m_i m_j / distance, averaged over the other nodes.
        dx, dy = x[:, None] - x[None, :], y[:, None] - y[None, :]
        push = mass[None, :] / (dx * dx + dy * dy + 1e-4)
        force_x = mass * (push * dx).sum(axis=1) / count
        force_y = mass * (push * dy).sum(axis=1) / count
        # Attraction w_ij times the root of the distance.
        ex, ey = x[columns] - x[rows], y[columns] - y[rows]
        pull = strength / np.sqrt(np.sqrt(ex * ex + ey * ey + 1e-8))
        force_x += np.bincount(rows, pull * ex, minlength=count) - 0.1 * mass * x
        force_y += np.bincount(rows, pull * ey, minlength=count) - 0.1 * mass * y
        length = np.sqrt(force_x**2 + force_y**2) + 1e-12
        reach = 0.35 * (1 - step / iterations)
        move = np.minimum(0.7 * length / mass, reach) / length
        x += move * force_x
        y += move * force_y
    points = np.stack([x - x.mean(), y - y.mean()], axis=1)
    return _along_x(points) / max(float(np.sqrt((points**2).sum(axis=1).mean())), 1e-12)


def keep_apart(points: np.ndarray, radius: np.ndarray, rounds: int = 60) -> np.ndarray:
    """Push overlapping discs apart, both by half of the overlap, round by round.

    Args:
        points: (n, 2) centres.
        radius: (n,) radii in the same unit.
        rounds: at most this many rounds; a very dense place may stay tight.

    Returns:
        (n, 2) new centres.
    """
    moved = points.copy()
    for _ in range(rounds):
        pairs = KDTree(moved).query_pairs(2 * float(radius.max()), output_type="ndarray")
        if not len(pairs):
            break
        first, second = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))].T
        gap = moved[second] - moved[first]
        distance = np.sqrt((gap**2).sum(axis=1))
        overlap = radius[first] + radius[second] - distance
        close = overlap > 1e-9
        if not close.any():
            break
        first, second = first[close], second[close]
        # Two discs at one place part along a direction of their own.
        turn = 2.4 * (first + second)
        way = np.where(
            distance[close, None] > 1e-9,
            gap[close] / np.maximum(distance[close, None], 1e-9),
            np.stack([np.cos(turn), np.sin(turn)], axis=1),
        )
        step = 0.4 * overlap[close, None] * way
        for axis in (0, 1):
            moved[:, axis] += np.bincount(second, step[:, axis], minlength=len(moved))
            moved[:, axis] -= np.bincount(first, step[:, axis], minlength=len(moved))
    return moved


def strongest_edges(
    adjacency: sparse.csr_array, limit: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rows, columns and weights of the `limit` strongest edges, weakest first.

    Each undirected edge comes once; equal weights are taken in the order of rows and columns.
    """
    upper = sparse.coo_array(sparse.triu(adjacency, k=1))
    weights = np.asarray(upper.data, dtype=np.float64)
    order = np.lexsort((upper.col, upper.row, -weights))[:limit][::-1]
    return upper.row[order], upper.col[order], weights[order]


def edge_collection(
    segments: np.ndarray, weights: np.ndarray, *, strongest: float, width: float = 0.45
) -> LineCollection:
    """Return lines whose opacity grows with their rank by weight; many become one bitmap.

    Args:
        segments: (m, points, 2) polylines, weakest first.
        weights: (m,) weights.
        strongest: opacity of the strongest edge.
        width: line width in points.
    """
    rank = np.searchsorted(np.sort(weights), weights, side="right") / max(1, len(weights))
    # Many edges share one budget of ink.
    ceiling = strongest * min(1.0, (1500 / max(1, len(weights))) ** 0.35)
    colours = np.tile(to_rgba(GREY), (len(weights), 1))
    colours[:, 3] = ceiling * (0.15 + 0.85 * rank**2)
    lines = LineCollection(list(segments), colors=colours, linewidths=width, zorder=1)
    lines.set_rasterized(len(weights) > 1500)
    lines.set_gid("edges")
    return lines


def draw_outputs(axes: Axes, positions: np.ndarray, size: float, zorder: float) -> None:
    """Mark the output units of a network at (outputs, 2) positions."""
    axes.scatter(
        *positions.T,
        s=size,
        marker=OUTPUT_MARKER,
        c=OUTPUT_COLOUR,
        edgecolors=INK,
        linewidths=0.7,
        zorder=zorder,
    )


def layer_colours(graph: CoactivationGraph) -> dict[int, str]:
    """Return a colour for every hidden layer that has units, and for the outputs.

    Up to seven hidden layers take the Okabe-Ito palette; more take viridis, which runs from dark
    to light with depth.
    """
    hidden = [int(layer) for layer in np.unique(graph.layer[graph.label < 0])]
    if len(hidden) <= len(_LAYER_COLOURS):
        colours = dict(zip(hidden, _LAYER_COLOURS, strict=False))
    else:
        from matplotlib import colormaps

        shades = colormaps["viridis"](np.linspace(0, 1, len(hidden)))
        colours = {layer: to_hex(shade) for layer, shade in zip(hidden, shades, strict=True)}
    for layer in np.unique(graph.layer[graph.label >= 0]):
        colours[int(layer)] = OUTPUT_COLOUR
    return colours


def layer_handles(graph: CoactivationGraph) -> list[Line2D]:
    """Return the legend: one entry per layer, with the number of its units."""
    colours = layer_colours(graph)
    handles = []
    for layer in np.unique(graph.layer):
        is_output = bool((graph.label[graph.layer == layer] >= 0).any())
        name = graph.layer_names[layer] if layer < len(graph.layer_names) else f"layer {layer}"
        count = int((graph.layer == layer).sum())
        handles.append(
            Line2D(
                [],
                [],
                linestyle="none",
                marker=OUTPUT_MARKER if is_output else "o",
                markersize=6 if is_output else 5,
                color=colours[int(layer)],
                markeredgecolor=INK if is_output else PAPER,
                markeredgewidth=0.7 if is_output else 0.3,
                label=f"{name} ({count})",
            )
        )
    return handles


def check_graph(graph: CoactivationGraph) -> None:
    """Check that the arrays of a graph fit each other.

    Raises:
        DataError: no nodes, no outputs, or arrays of different length.
    """
    count = len(graph.adjacency.indptr) - 1
    if count == 0 or len(graph.output_nodes) == 0:
        raise DataError("the co-activation graph has no nodes or no outputs: nothing to draw")
    for name in ("layer", "neuron", "label"):
        length = len(getattr(graph, name))
        if length != count:
            raise DataError(
                f"the co-activation graph has {count} nodes but {length} entries in {name!r}"
            )


def _along_x(points: np.ndarray) -> np.ndarray:
    """Turn points so that they spread most along x; closed form, without LAPACK."""
    xx, yy, xy = (points[:, 0] ** 2).sum(), (points[:, 1] ** 2).sum(), points.prod(axis=1).sum()
    angle = 0.5 * np.arctan2(2 * xy, xx - yy)
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.stack(
        [
            cosine * points[:, 0] + sine * points[:, 1],
            cosine * points[:, 1] - sine * points[:, 0],
        ],
        axis=1,
    )


def _rows_below(count: int, placed: np.ndarray) -> np.ndarray:
    """Return positions in rows below the placed points, from their left end on."""
    low, bottom, span = -1.5, 0.0, 3.0
    if len(placed):
        low, bottom = placed.min(axis=0)
        span = max(float(np.ptp(placed[:, 0])), 1.0)
    per_row = 50
    step = span / (per_row - 1)
    index = np.arange(count)
    return np.stack(
        [low + (index % per_row) * step, bottom - (4 + 1.3 * (index // per_row)) * step], axis=1
    )


def _units(count: int) -> str:
    return f"{count:,} unit stands" if count == 1 else f"{count:,} units stand"


__all__ = ["coactivation_graph", "force_layout"]
