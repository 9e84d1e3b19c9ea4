"""A network of dense layers with its hub neurons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgba_array
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy import sparse

from espalier.errors import ConfigurationError, DataError
from espalier.figures.style import (
    FAINT,
    INK,
    OKABE_ITO,
    SMALL_SIZE,
    frame,
    new_figure,
    styled,
)
from espalier.seeds import numpy_generator

_POSITIVE = OKABE_ITO["blue"]
_NEGATIVE = OKABE_ITO["vermillion"]
_HUB = OKABE_ITO["orange"]
# Of an edge that joins no hub, one, or two.
_OPACITY = np.array([0.2, 0.6, 0.85])


@styled
def hub_network(
    weights: Sequence[Any],
    centralities: Sequence[np.ndarray],
    *,
    top: float = 0.02,
    edges_per_layer: int = 400,
    title: str = "Hubs of the network",
    seed: int = 0,
) -> Figure:
    """Draw a network of dense layers, layer above layer, with its hubs.

    A layer is a row of dots in the order of centrality, the most central in the middle; hubs, the
    most central of all units, are marked. All edges between hubs are drawn, up to the limit, and a
    sample of the others, chosen by absolute weight.

    Args:
        weights: one (n_in, n_out) matrix per layer, dense or CSR.
        centralities: one (units,) array per layer, of all layers or of all but the last.
        top: share of all units that count as hubs.
        edges_per_layer: at most this many edges of a layer are drawn.
        title: title of the figure.
        seed: seed of the choice of edges.

    Raises:
        ConfigurationError: top is not between 0 and 1, or edges_per_layer not positive.
        DataError: weights and centralities do not fit each other.
    """
    if not 0 < top < 1:
        raise ConfigurationError(f"top is {top}; it must be between 0 and 1")
    if edges_per_layer < 1:
        raise ConfigurationError(f"edges_per_layer must be positive, not {edges_per_layer}")
    layers = [sparse.coo_array(matrix) for matrix in weights]
    sizes = [_shape(layers[0])[0], *(_shape(layer)[1] for layer in layers)]
    values = [np.asarray(layer, dtype=float).reshape(-1) for layer in centralities]
    found = [layer.size for layer in values]
    if found not in (sizes, sizes[:-1]):
        raise DataError(f"centralities of {found} units do not fit layers of {sizes}")
    known = len(values)
    pooled = np.concatenate(values)
    count = max(1, int(np.ceil(top * pooled.size - 1e-9)))
    rank = np.empty(pooled.size)
    rank[np.argsort(-pooled, kind="stable")] = np.arange(pooled.size)
    ranks = np.split(rank, np.cumsum(found)[:-1])
    ranks += [np.full(size, np.inf) for size in sizes[known:]]

    figure = new_figure(7.2, 0.95 * len(sizes) + 0.35)
    axes = figure.subplots()
    axes.set_axis_off()
    places = [_middle_first(own) for own in ranks]
    generator = numpy_generator(seed, "hub_network")
    drawn = [0, 0]
    for index, layer in enumerate(layers):
        row, column, data = _edges_shown(layer, ranks, index, count, edges_per_layer, generator)
        drawn = [drawn[0] + len(data), drawn[1] + int(np.count_nonzero(layer.data))]
        ends = np.stack(
            [
                np.stack([places[index][row], np.full(len(row), -float(index))], axis=1),
                np.stack([places[index + 1][column], np.full(len(row), -index - 1.0)], axis=1),
            ],
            axis=1,
        )
        joined = (ranks[index][row] < count).astype(int) + (ranks[index + 1][column] < count)
        strongest = float(np.abs(data).max()) if len(data) else 1.0
        for chosen, width in ((joined < 2, 0.7), (joined == 2, 1.3)):
            colours = np.where(data[chosen] > 0, _POSITIVE, _NEGATIVE).tolist()
            axes.add_collection(
                LineCollection(
                    list(ends[chosen]),
                    colors=to_rgba_array(colours, _OPACITY[joined[chosen]]),
                    linewidths=(0.15 + width * np.abs(data[chosen]) / strongest).tolist(),
                    zorder=1,
                    gid="edges",
                )
            )
    for index, own in enumerate(ranks):
        hub = own < count
        height = np.full(own.size, -float(index))
        size = float(np.clip(2500 / own.size, 1.5, 26))
        axes.scatter(places[index][~hub], height[~hub], s=size, color=FAINT, linewidths=0, zorder=2)
        axes.scatter(
            places[index][hub], height[hub], s=max(18.0, size), color=_HUB, edgecolors=INK,
            linewidths=0.6, zorder=3, gid="hubs",
        )  # fmt: skip
        last = index == len(sizes) - 1
        name = "inputs" if index == 0 else "outputs" if last else f"hidden {index}"
        hubs = "1 hub" if hub.sum() == 1 else f"{hub.sum()} hubs"
        shown = "not ranked" if index >= known else hubs
        axes.text(
            1.02, -index, f"{name}: {own.size:,} units\n{shown}", fontsize=SMALL_SIZE,
            va="center", color=INK,
        )  # fmt: skip
    axes.set_xlim(-0.02, 1.24)
    axes.set_ylim(-len(sizes) + 0.7, 0.3)
    handles = [
        Line2D(
            [], [], linestyle="", marker="o", markersize=5, markerfacecolor=_HUB,
            markeredgecolor=INK, label=f"hub: among the {count:,} most central units",
        ),
        Line2D([], [], linestyle="", marker="o", markersize=3, color=FAINT, label="other unit"),
        Line2D([], [], color=_POSITIVE, label="positive weight"),
        Line2D([], [], color=_NEGATIVE, label="negative weight"),
    ]  # fmt: skip
    edges = (
        f"All {drawn[1]:,} edges are drawn"
        if drawn[0] == drawn[1]
        else f"{drawn[0]:,} of {drawn[1]:,} edges are drawn: those between hubs, then others with "
        f"chances by absolute weight, up to {edges_per_layer:,} per layer"
    )
    frame(
        figure,
        title,
        f"Units of a layer in the order of centrality, the most central in the middle. {edges}; "
        "their width is the absolute weight over the layer's largest. Edges of a hub are strong, "
        "those between two hubs strongest.",
        handles,
        handle_length=1.4,
    )
    return figure


# -- the network ---------------------------------------------------------------------------------


def _shape(matrix: sparse.coo_array) -> tuple[int, int]:
    shape: Any = matrix.shape
    return int(shape[0]), int(shape[1])


def _middle_first(ranks: np.ndarray) -> np.ndarray:
    """Return places from 0 to 1: the first in rank in the middle, the next to either side."""
    n = ranks.size
    order = np.argsort(ranks, kind="stable")
    steps = (np.arange(n) + 1) // 2 * np.where(np.arange(n) % 2 == 0, 1, -1)
    places = np.empty(n)
    places[order] = 0.5 + (steps + (0.5 if n % 2 == 0 else 0)) / max(n, 2)
    return places


def _edges_shown(
    layer: sparse.coo_array,
    ranks: Sequence[np.ndarray],
    index: int,
    hubs: int,
    most: int,
    generator: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rows, columns and weights of the edges drawn: those of two hubs come first."""
    kept = np.flatnonzero(layer.data)
    row, column, data = layer.row[kept], layer.col[kept], layer.data[kept]
    if data.size > most:
        both = (ranks[index][row] < hubs) & (ranks[index + 1][column] < hubs)
        weight = np.abs(data).astype(float)
        # Efraimidis and Spirakis (2006): the largest keys are a sample without replacement.
        keys = np.log(1 - generator.random(data.size)) / weight
        keys[both] = weight[both]
        chosen = np.argpartition(-keys, most - 1)[:most]
        row, column, data = row[chosen], column[chosen], data[chosen]
    order = np.argsort(np.abs(data), kind="stable")
    return row[order], column[order], data[order]
