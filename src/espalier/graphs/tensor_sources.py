"""Where the numbers of a tensor come from: ranges of channels of parts, through axis relations.

A relation along one axis is a boolean matrix (part's positions, own positions). Pools, slices,
padding and reductions act on it alone; a layer with weights reads it with its kernel.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal

import numpy as np


@dataclass(frozen=True, eq=False)
class Source:
    """A range of a part's channels, seen through row and column relations.

    Attributes:
        part: index of the part.
        channel: first channel of the range.
        rows, columns: (part's positions, own positions) bool; which of the part's positions each
            position is computed from.
        margins: (top, bottom, left, right) positions of `rows` and `columns` that lie in the zero
            padding round the map; only a convolution sees them.
    """

    part: int
    channel: int
    rows: np.ndarray
    columns: np.ndarray
    margins: tuple[int, int, int, int] = (0, 0, 0, 0)

    def trimmed(self) -> Source:
        """Return the source without the zero padding round the map."""
        if not any(self.margins):
            return self
        top, bottom, left, right = self.margins
        return replace(
            self,
            rows=self.rows[:, top : self.rows.shape[1] - bottom],
            columns=self.columns[:, left : self.columns.shape[1] - right],
            margins=(0, 0, 0, 0),
        )

    def key(self) -> tuple[Any, ...]:
        """Return what equal sources share."""
        return (
            self.part,
            self.channel,
            self.rows.shape,
            self.rows.tobytes(),
            self.columns.tobytes(),
            self.margins,
        )


@dataclass(frozen=True, eq=False)
class Segment:
    """A range of channels of a tensor with the sources that are added up in it."""

    channels: int
    height: int
    width: int
    sources: tuple[Source, ...]

    @property
    def features(self) -> int:
        """Return the channels times the positions."""
        return self.channels * self.height * self.width


@dataclass(frozen=True, eq=False)
class Field:
    """What a tensor holds.

    Attributes:
        layout: for each dimension, the axes "N", "C", "H", "W" that it runs over, the outer first;
            "F" is a flat axis of all segments one after the other, each by channel, row, column.
        segments: along the channels.
        fresh: it is the output of the one part in it, element-wise operations apart, and nothing
            but what follows reads that part.
    """

    layout: tuple[tuple[str, ...], ...]
    segments: tuple[Segment, ...]
    fresh: bool = False

    @property
    def height(self) -> int:
        """Return the rows of the map."""
        return self.segments[0].height

    @property
    def width(self) -> int:
        """Return the columns of the map."""
        return self.segments[0].width

    @property
    def channels(self) -> int:
        """Return the channels of all segments."""
        return sum(segment.channels for segment in self.segments)

    def size(self, axis: str) -> int:
        """Return the length of an axis other than "N"."""
        if axis == "F":
            return sum(segment.features for segment in self.segments)
        return {"C": self.channels, "H": self.height, "W": self.width}[axis]

    def parts(self) -> set[int]:
        """Return the parts that the tensor is computed from."""
        return {source.part for segment in self.segments for source in segment.sources}


@cache
def identity(size: int) -> np.ndarray:
    """Return the relation of an axis to itself; shared, not to be written to."""
    return np.eye(size, dtype=bool)


def triples_of(reach: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Return (n, 3) triples (part's position, target position, tap), in no order.

    Args:
        reach: (part's positions, map positions) bool.
        positions: (target positions, taps), the map position that a tap reads.
    """
    target, tap = np.nonzero((positions >= 0) & (positions < reach.shape[1]))
    source, pick = np.nonzero(reach[:, positions[target, tap]])
    return np.column_stack([source, target[pick], tap[pick]])


def pool_windows(
    source: int, size: int, kernel: int, stride: int, padding: int, dilation: int
) -> np.ndarray:
    """Return (source, size) bool: the positions in each window of a pool, clipped at the border."""
    positions = stride * np.arange(size)[:, None] - padding + dilation * np.arange(kernel)
    window = np.zeros((source, size), bool)
    target, tap = np.nonzero((positions >= 0) & (positions < source))
    window[positions[target, tap], target] = True
    return window


def adaptive_windows(source: int, size: int) -> np.ndarray:
    """Return (source, size) bool; window i is [floor(i s/n), ceil((i + 1) s/n)), s to n."""
    position, target = np.arange(source)[:, None], np.arange(size)
    return (position >= target * source // size) & (position < -(-(target + 1) * source // size))


def compose(reach: np.ndarray, window: np.ndarray) -> np.ndarray:
    """Return the relation (part, pooled) from (part, map) and (map, pooled)."""
    if reach.shape[1] == window.shape[1] and np.array_equal(window, identity(len(window))):
        return reach
    return reach.astype(np.float32) @ window.astype(np.float32) > 0


_PADDING_MODES: dict[str, Literal["reflect", "edge", "wrap"]] = {
    "reflect": "reflect",
    "replicate": "edge",
    "circular": "wrap",
}


def padded(reach: np.ndarray, before: int, after: int, mode: str) -> np.ndarray:
    """Return the relation of a map that is padded (or cropped, where negative) along one axis."""
    reach = reach[:, max(-before, 0) : reach.shape[1] - max(-after, 0)]
    width = ((0, 0), (max(before, 0), max(after, 0)))
    if mode == "constant":
        return np.pad(reach, width)
    return np.pad(reach, width, mode=_PADDING_MODES[mode])


def channel_range(segments: Sequence[Segment], start: int, stop: int) -> tuple[Segment, ...]:
    """Return the segments of the channels [start, stop)."""
    kept, first = [], 0
    for segment in segments:
        low, high = max(start, first), min(stop, first + segment.channels)
        if low < high:
            sources = tuple(replace(s, channel=s.channel + low - first) for s in segment.sources)
            kept.append(replace(segment, channels=high - low, sources=sources))
        first += segment.channels
    return tuple(kept)


def united(fields: Sequence[Field]) -> tuple[Segment, ...]:
    """Return segments that hold the sources of all fields; equal sources once."""
    cuts = sorted(
        {int(c) for f in fields for c in np.cumsum([0, *[s.channels for s in f.segments]])}
    )
    segments = []
    for start, stop in itertools.pairwise(cuts):
        pieces = [piece for f in fields for piece in channel_range(f.segments, start, stop)]
        sources = {source.key(): source for piece in pieces for source in piece.sources}
        if len({source.margins for source in sources.values()}) > 1:
            sources = {s.trimmed().key(): s.trimmed() for s in sources.values()}
        segments.append(replace(pieces[0], sources=tuple(sources.values())))
    return tuple(segments)


def by_axes(weight: np.ndarray, axes: Sequence[str], field: Field) -> np.ndarray:
    """Return a dense layer's weight as (outputs, channels, rows, columns).

    Args:
        weight: (outputs, features).
        axes: the axes that the features run over, the outer first.
    """
    weight = weight.reshape(len(weight), *[field.size(axis) for axis in axes])
    missing = [axis for axis in "CHW" if axis not in axes]
    weight = weight.reshape(*weight.shape, *[1] * len(missing))
    order = [*axes, *missing]
    return weight.transpose(0, *[1 + order.index(axis) for axis in "CHW"])
