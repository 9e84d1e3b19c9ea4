"""The one look of every figure: palette, markers, sizes, names, framing and saving.

Nothing here uses pyplot or leaves a trace in matplotlib's settings: figures are built on the Agg
canvas inside `styled`, and `save` writes equal bytes for equal figures.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import matplotlib
import matplotlib.style
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.text import Text

from espalier.errors import ConfigurationError
from espalier.files import atomic_path

Parameters = ParamSpec("Parameters")
Value = TypeVar("Value")

#: Okabe and Ito (2008), "Color Universal Design": told apart under every common colour blindness.
OKABE_ITO: Mapping[str, str] = {
    "black": "#000000",
    "orange": "#E69F00",
    "sky blue": "#56B4E9",
    "bluish green": "#009E73",
    "yellow": "#F0E442",
    "blue": "#0072B2",
    "vermillion": "#D55E00",
    "reddish purple": "#CC79A7",
}

INK = "#222222"
GREY = "#6B6B6B"
FAINT = "#B8B8B8"
GRID = "#E4E4E4"
PAPER = "#FFFFFF"

#: Series differ in colour, marker and dash, so that a grey print still tells them apart.
SERIES_COLOURS = tuple(
    OKABE_ITO[name]
    for name in ("blue", "vermillion", "bluish green", "reddish purple", "orange", "sky blue")
)
SERIES_MARKERS = ("o", "s", "^", "D", "v", "P")
SERIES_DASHES: tuple[str | tuple[int, tuple[float, ...]], ...] = (
    "-",
    (0, (5, 1.5)),
    (0, (4, 1.5, 1, 1.5)),
    (0, (1.5, 1.2)),
    (0, (7, 2)),
    (0, (3, 1, 1, 1, 1, 1)),
)

OUTPUT_COLOUR = OKABE_ITO["vermillion"]
OUTPUT_MARKER = "s"

TITLE_SIZE = 10.0
LABEL_SIZE = 8.5
TEXT_SIZE = 8.0
SMALL_SIZE = 7.0

_SETTINGS = {
    "font.family": "DejaVu Sans",  # matplotlib ships it, so the same glyphs everywhere
    "font.size": TEXT_SIZE,
    "axes.titlesize": LABEL_SIZE,
    "axes.titleweight": "bold",
    "axes.labelsize": TEXT_SIZE,
    "axes.labelcolor": INK,
    "axes.edgecolor": GREY,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": SMALL_SIZE,
    "ytick.labelsize": SMALL_SIZE,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "lines.linewidth": 1.3,
    "lines.markersize": 4.5,
    "errorbar.capsize": 2.0,
    "legend.frameon": False,
    "legend.fontsize": TEXT_SIZE,
    "figure.dpi": 100,
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "savefig.dpi": 200,
    "svg.hashsalt": "espalier",
    "svg.fonttype": "path",
    "axes.formatter.useoffset": False,
}

_NAMES = {
    "adjusted_hierarchical_mutual_information": "adjusted hierarchical mutual information",
    "average_linkage": "average linkage",
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "cifar20": "CIFAR-20",
    "class_means": "class means",
    "conv6": "Conv-6",
    "conv6_thesis": "Conv6",
    "digits": "Digits",
    "dsr": "DSR",
    "er": "ER",
    "erk": "ERK",
    "fashion_mnist": "Fashion-MNIST",
    "force": "FORCE",
    "grasp": "GraSP",
    "induced_weights": "induced by weights",
    "infomap": "Infomap",
    "iterative_snip": "iterative SNIP",
    "leiden": "Leiden",
    "medium_cnn": "MediumCNN",
    "mnist": "MNIST",
    "mobilenet_v2": "MobileNet-V2",
    "nested_sbm": "nested SBM",
    "nested_sbm_shuffled": "nested SBM, shuffled",
    "ntk_sap": "NTK-SAP",
    "phew": "PHEW",
    "prospr": "ProsPR",
    "resnet20": "ResNet-20",
    "resnet32": "ResNet-32",
    "resnet8": "ResNet-8",
    "rigl": "RigL",
    "set": "SET",
    "set_itop": "SET-ITOP",
    "small_cnn": "SmallCNN",
    "snfs": "SNFS",
    "snip": "SNIP",
    "synflow": "SynFlow",
    "tiny_imagenet": "Tiny ImageNet",
    "wide_resnet28_2": "WRN-28-2",
}

_FORMATS = {".svg": "svg", ".png": "png"}


def display_name(name: str) -> str:
    """Return the printed name of a dataset, model or detector; unknown names lose underscores."""
    return _NAMES.get(name, name.replace("_", " "))


@contextmanager
def style() -> Iterator[None]:
    """Apply the look inside the block, whatever the user's own matplotlib settings are."""
    with matplotlib.style.context(["default", _SETTINGS]):
        yield


def styled(function: Callable[Parameters, Value]) -> Callable[Parameters, Value]:
    """Run a function that draws inside `style`."""

    @functools.wraps(function)
    def inside(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Value:
        with style():
            return function(*args, **kwargs)

    return inside


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of `width` by `height` inches on an Agg canvas, laid out by need."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    figure.set_layout_engine("constrained", w_pad=0.06, h_pad=0.05, wspace=0.04, hspace=0.03)
    return figure


def series_style(index: int) -> dict[str, Any]:
    """Return colour, marker and dash of the series number `index`."""
    return {
        "color": SERIES_COLOURS[index % len(SERIES_COLOURS)],
        "marker": SERIES_MARKERS[index % len(SERIES_MARKERS)],
        "linestyle": SERIES_DASHES[index % len(SERIES_DASHES)],
    }


def series_handle(index: int, label: str) -> Line2D:
    """Return the legend entry of the series number `index`."""
    return Line2D([], [], label=label, **series_style(index))


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure as SVG or PNG, by the suffix of `path`, atomically.

    Equal figures give equal bytes: no date, and SVG identifiers from the content.

    Raises:
        ConfigurationError: the suffix is neither `.svg` nor `.png`.
    """
    path = Path(path)
    file_format = _FORMATS.get(path.suffix.lower())
    if file_format is None:
        raise ConfigurationError(
            f"{path}: figures are written as {' or '.join(_FORMATS)}, not {path.suffix!r}"
        )
    metadata = {"Date": None} if file_format == "svg" else {}
    with style(), atomic_path(path) as temporary:
        figure.savefig(temporary, format=file_format, metadata=metadata)


def text_extent(figure: Figure, text: str, size: float, weight: str = "normal") -> np.ndarray:
    """Return width and height of a text in inches."""
    artist = Text(0, 0, text, fontsize=size, fontweight=weight, figure=figure)
    box = artist.get_window_extent(_renderer(figure))
    return np.array([box.width, box.height]) / figure.dpi


def wrap(figure: Figure, text: str, size: float, width: float, weight: str = "normal") -> str:
    """Break a text into lines no wider than `width` inches; given line breaks stay."""
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line = ""
        for word in paragraph.split():
            longer = f"{line} {word}".strip()
            if line and text_extent(figure, longer, size, weight)[0] > width:
                lines.append(line)
                line = word
            else:
                line = longer
        lines.append(line)
    return "\n".join(lines)


def frame(
    figure: Figure,
    title: str,
    caption: str,
    handles: Sequence[Artist] = (),
    handle_length: float = 2.6,
) -> None:
    """Put title and legend above the panels and the caption below, growing the figure to fit.

    The panels keep the height that the figure had. Title, legend and caption are wrapped to its
    width. Call it last: it fixes the layout.

    Args:
        figure: the figure with its panels.
        title: bold title; may be empty.
        caption: what the marks and bars are, and n; may be empty.
        handles: legend entries.
        handle_length: width of a legend mark, in font sizes.
    """
    margin, gap = 0.1, 0.08
    width, panels = figure.get_size_inches()
    usable = width - 2 * margin
    title = wrap(figure, title, TITLE_SIZE, usable, "bold")
    title_height = text_extent(figure, title, TITLE_SIZE, "bold")[1] + gap if title else 0.0
    caption = wrap(figure, caption, SMALL_SIZE, usable)
    caption_height = text_extent(figure, caption, SMALL_SIZE)[1] + gap if caption else 0.0

    legend, legend_height = None, 0.0
    for columns in range(len(handles), 0, -1):
        legend = figure.legend(
            handles=list(handles),
            loc="upper left",
            ncols=columns,
            borderaxespad=0,
            borderpad=0,
            columnspacing=1.6,
            handlelength=handle_length,
        )
        box = legend.get_window_extent(_renderer(figure))
        legend_height = box.height / figure.dpi + gap
        if columns == 1 or box.width / figure.dpi <= usable:
            break
        legend.remove()

    above = margin + title_height + legend_height
    below = margin + caption_height
    height = panels + above + below
    figure.set_size_inches(width, height)
    if title:
        figure.text(
            margin / width,
            1 - margin / height,
            title,
            fontsize=TITLE_SIZE,
            fontweight="bold",
            va="top",
            gid="title",
        )
    if legend is not None:
        legend.set_bbox_to_anchor((margin / width, 1 - (margin + title_height) / height))
        legend.set_in_layout(False)
    if caption:
        figure.text(
            margin / width,
            margin / height,
            caption,
            fontsize=SMALL_SIZE,
            color=GREY,
            va="bottom",
            gid="caption",
        )
    engine = figure.get_layout_engine()
    if isinstance(engine, ConstrainedLayoutEngine):
        engine.set(rect=(0.0, below / height, 1.0, panels / height))
    settle(figure)


def settle(figure: Figure) -> None:
    """Fix sizes and positions now, and make the ticks while the style still applies."""
    figure.draw_without_rendering()
    engine = figure.get_layout_engine()
    if isinstance(engine, ConstrainedLayoutEngine):
        figure.draw_without_rendering()  # the first pass moves tick labels, the second settles
        figure.set_layout_engine("none")
    for axes in figure.axes:
        # The layout's solver adds up in an order of its own: the last bits change from run to run.
        bounds = np.round(axes.get_position(original=True).bounds, 6)
        axes.set_position(tuple(float(bound) for bound in bounds))  # type: ignore[arg-type]


def halo(width: float = 2.0) -> withStroke:
    """Return a paper-coloured outline that keeps text readable over lines."""
    return withStroke(linewidth=width, foreground=PAPER)


def spread(wanted: np.ndarray, gap: float | np.ndarray, low: float, high: float) -> np.ndarray:
    """Move numbers as little as possible (least squares) until neighbours lie `gap` apart.

    Args:
        wanted: (k,) positions, in any order; the order of equal ones is kept.
        gap: least distance of neighbours: one number, or (k,) extents, of which neighbours keep
            the mean of theirs apart.
        low: lower end of the room; used before the upper end when there is not room enough.
        high: upper end of the room.

    Returns:
        (k,) positions in the order given.
    """
    count = len(wanted)
    if count == 0:
        return np.empty(0)
    order = np.argsort(wanted, kind="stable")
    extent = np.broadcast_to(np.asarray(gap, dtype=float), (count,))[order]
    offsets = np.concatenate([[0.0], np.cumsum((extent[1:] + extent[:-1]) / 2)])
    # Without the offsets the task is isotonic regression: pool neighbours that are out of order.
    sums: list[float] = []
    sizes: list[int] = []
    for value in np.asarray(wanted, dtype=float)[order] - offsets:
        sums.append(float(value))
        sizes.append(1)
        while len(sums) > 1 and sums[-2] / sizes[-2] > sums[-1] / sizes[-1]:
            sums[-2:] = [sums[-2] + sums[-1]]
            sizes[-2:] = [sizes[-2] + sizes[-1]]
    pooled = np.repeat(np.array(sums) / np.array(sizes), sizes)
    pooled = np.maximum(np.minimum(pooled, high - offsets[-1]), low)
    placed = np.empty(count)
    placed[order] = pooled + offsets
    return placed


def label_points(
    axes: Axes,
    points: np.ndarray,
    labels: Sequence[str],
    *,
    size: float = SMALL_SIZE,
    weight: str = "normal",
    colours: Sequence[str] | None = None,
    obstacles: np.ndarray | None = None,
    radii: Sequence[float] = (6.0, 10.0, 16.0, 24.0, 34.0, 46.0, 60.0),
    leader_from: float = 12.0,
) -> list[Text]:
    """Write a label near each point so that no two labels overlap, where there is room.

    Candidates lie on rings about the point; the cheapest is taken, label by label, and all are
    gone through again until nothing changes. Overlapping another label or leaving the axes costs
    most, then covering a labelled point, then obstacles, then distance. Deterministic. Call it
    when the axes have their final size (`settle`).

    Args:
        axes: where; its limits and place must be final.
        points: (k, 2) in data coordinates.
        labels: k texts.
        size: font size in points.
        weight: font weight.
        colours: k text colours; dark by default.
        obstacles: (m, 2) further places in data coordinates that are better left uncovered.
        radii: distances of the candidate rings in typographic points.
        leader_from: a label at least this many points away gets a line to its point.

    Returns:
        The text artists, in the order of `labels`.
    """
    figure = axes.figure
    scale = figure.dpi / 72
    extents = [text_extent(figure, label, size, weight) * figure.dpi for label in labels]  # type: ignore[arg-type]
    half = np.array(extents).reshape(-1, 2) / 2 + 0.8 * scale
    anchors = axes.transData.transform(np.asarray(points, dtype=float).reshape(-1, 2))
    others = (
        axes.transData.transform(np.asarray(obstacles, dtype=float).reshape(-1, 2))
        if obstacles is not None and len(obstacles)
        else np.empty((0, 2))
    )
    room = axes.bbox
    angles = np.deg2rad([90, 270, 0, 180, 45, 135, 315, 225, 22.5, 157.5, 337.5, 202.5])
    directions = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    candidates = []
    for k in range(len(labels)):
        # From the ring outwards by the label's own half size, so that its edge is on the ring.
        reach = directions * half[k]
        rings = [anchors[k] + directions * radius * scale * 0.7 + reach for radius in radii]
        candidates.append(np.concatenate(rings))
    ring_cost = np.repeat(np.asarray(radii, dtype=float), len(directions)) / radii[0]
    direction_cost = np.tile(np.linspace(0, 0.6, len(directions)), len(radii))

    fixed = []
    for k, centres in enumerate(candidates):
        outside = (
            (centres[:, 0] - half[k, 0] < room.x0)
            | (centres[:, 0] + half[k, 0] > room.x1)
            | (centres[:, 1] - half[k, 1] < room.y0)
            | (centres[:, 1] + half[k, 1] > room.y1)
        )
        covered = _covered(centres, half[k], anchors, 2.5 * scale)
        hidden = _covered(centres, half[k], others, 1.0 * scale)
        fixed.append(ring_cost + direction_cost + 1000.0 * outside + 40.0 * covered + 0.8 * hidden)
    chosen = [int(np.argmin(cost)) for cost in fixed]
    for _ in range(12):
        before = list(chosen)
        for k, centres in enumerate(candidates):
            cost = fixed[k].copy()
            for other in range(len(labels)):
                if other == k:
                    continue
                middle = candidates[other][chosen[other]]
                near = np.abs(centres - middle) < half[k] + half[other]
                cost += 1000.0 * near.all(axis=1)
                cost += 60.0 * _crosses(
                    np.broadcast_to(anchors[k], centres.shape), centres, anchors[other], middle
                )
            chosen[k] = int(np.argmin(cost))
        if chosen == before:
            break

    texts = []
    for k, label in enumerate(labels):
        centre = candidates[k][chosen[k]]
        offset = (centre - anchors[k]) / scale
        texts.append(
            axes.annotate(
                label,
                xy=points[k],
                xytext=offset,
                textcoords="offset points",
                ha="center",
                va="center",
                fontsize=size,
                fontweight=weight,
                color=colours[k] if colours is not None else INK,
                zorder=20,
                path_effects=[halo()],
                annotation_clip=False,
                arrowprops={
                    "arrowstyle": "-",
                    "color": colours[k] if colours is not None else GREY,
                    "linewidth": 0.5,
                    "shrinkA": 0,
                    "shrinkB": 2,
                }
                if ring_cost[chosen[k]] * radii[0] >= leader_from
                else None,
            )
        )
    return texts


def _covered(
    centres: np.ndarray, half: np.ndarray, points: np.ndarray, margin: float
) -> np.ndarray:
    """Return how many points each box (centre, half size) covers."""
    if not len(points):
        return np.zeros(len(centres))
    distance = np.abs(centres[:, None, :] - points[None, :, :])
    return (distance < half + margin).all(axis=2).sum(axis=1)


def _crosses(
    starts: np.ndarray, ends: np.ndarray, start: np.ndarray, end: np.ndarray
) -> np.ndarray:
    """Return which segments `starts`-`ends` cross the segment `start`-`end`."""

    def side(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
        return np.sign(
            (b[..., 0] - a[..., 0]) * (c[..., 1] - a[..., 1])
            - (b[..., 1] - a[..., 1]) * (c[..., 0] - a[..., 0])
        )

    return (side(starts, ends, start) * side(starts, ends, end) < 0) & (
        side(start, end, starts) * side(start, end, ends) < 0
    )


def _renderer(figure: Figure) -> RendererAgg:
    canvas = figure.canvas
    if not isinstance(canvas, FigureCanvasAgg):
        canvas = FigureCanvasAgg(figure)
    return canvas.get_renderer()


__all__ = [
    "OKABE_ITO",
    "display_name",
    "frame",
    "label_points",
    "new_figure",
    "save",
    "series_handle",
    "series_style",
    "settle",
    "spread",
    "style",
    "styled",
    "text_extent",
    "wrap",
]
