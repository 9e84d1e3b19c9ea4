"""The layer graph: feature maps as parts, weighted operations between them as blocks.

A part is a set of nodes (channel, row, column). A block joins two parts: its weight tells which
channels, its two axis relations which rows and columns are joined, and by which entry of the
kernel. Edge (c, r, s) -> (o, y, x) exists iff the weight (o, c, ey, ex) does, for (r, y, ey) in
`rows` and (s, x, ex) in `columns`. Every encoding and every topometric is computed from this.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class Part:
    """The nodes of one feature map, numbered channel by channel and row by row.

    Attributes:
        name: the operation whose result it is, for example "layer1.0.conv2"; "input" for the first.
        channels, height, width: its shape; a dense layer has height and width 1.
        padding: rows and columns of zero padding that the shape includes on every side.
    """

    name: str
    channels: int
    height: int
    width: int
    padding: int = 0

    @property
    def nodes(self) -> int:
        """Return the number of nodes."""
        return self.channels * self.height * self.width


@dataclass(frozen=True)
class AxisRelation:
    """Which positions of two parts are joined along one axis.

    Attributes:
        source_size, target_size: rows (or columns) of the two parts.
        taps: kernel entries along the axis.
        triples: (n, 3) int32, unique rows (source position, target position, tap) sorted by
            (tap, target, source).
    """

    source_size: int
    target_size: int
    taps: int
    triples: np.ndarray


@dataclass(frozen=True)
class Block:
    """One weighted operation between two parts.

    Attributes:
        name: the parameter's name in the state dict, or "identity:<name>" for a shortcut without.
        source, target: indices of the parts.
        weight: (out channels, in channels / groups, taps of rows, taps of columns) float32; edge
            weights are its absolute values.
        mask: same shape, boolean; an edge exists where it is True.
        rows, columns: the axis relations.
        groups: as in a convolution; output channels are split over blocks of input channels.
        source_offset: first channel of the source part that this block reads, target_offset the
            first channel of the target part that it writes (concatenation).
        kind: "conv", "linear", "residual" (projection shortcut) or "identity".
    """

    name: str
    source: int
    target: int
    weight: np.ndarray
    mask: np.ndarray
    rows: AxisRelation
    columns: AxisRelation
    groups: int = 1
    source_offset: int = 0
    target_offset: int = 0
    kind: str = "conv"


@dataclass(frozen=True)
class LayerGraph:
    """A network as parts and blocks.

    Attributes:
        parts: in topological order; the first is the input, the last the classes.
        blocks: in topological order of their targets.
        convention: "definition" or "published".
    """

    parts: tuple[Part, ...]
    blocks: tuple[Block, ...]
    convention: str = "definition"

    @cached_property
    def offsets(self) -> np.ndarray:
        """Return (parts + 1,) int64: the first node of each part, then the number of nodes."""
        return np.concatenate([[0], np.cumsum([part.nodes for part in self.parts])]).astype(
            np.int64
        )

    @property
    def nodes(self) -> int:
        """Return the number of nodes."""
        return int(self.offsets[-1])
