"""Layer graphs: the multipartite graph of a small network, and the degrees of any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.path import Path
from matplotlib.ticker import FixedLocator, NullLocator

from espalier.errors import ConfigurationError, DataError
from espalier.figures.style import (
    FAINT,
    GREY,
    GRID,
    INK,
    OKABE_ITO,
    SMALL_SIZE,
    frame,
    new_figure,
    styled,
    text_extent,
)
from espalier.seeds import numpy_generator

if TYPE_CHECKING:
    from espalier.graphs.layer_graph import Block, LayerGraph, Part
    from espalier.topology.degrees import NodeFields

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


# -- nodes and edges -----------------------------------------------------------------------------

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
