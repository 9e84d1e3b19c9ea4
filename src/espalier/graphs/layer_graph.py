"""The layer graph: feature maps as parts, weighted operations between them as blocks.

A part is a set of nodes (channel, row, column). A block joins two parts: its weight tells which
channels, its two axis relations which rows and columns are joined, and by which entry of the
kernel. Edge (c, r, s) -> (o, y, x) exists iff the weight (o, c, ey, ex) does, for (r, y, ey) in
`rows` and (s, x, ex) in `columns`. Every encoding and every topometric is computed from this.

In this package the name `layer_graph` is the function; `from espalier.graphs.layer_graph import`
reaches the classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from espalier.errors import ConfigurationError, unknown_name

if TYPE_CHECKING:
    from torch import nn

    from espalier.graphs.published_encoding import PublishedLayer

CONVENTIONS = ("definition", "published")


@dataclass(frozen=True)
class Part:
    """The nodes of one feature map, numbered channel by channel and row by row.

    Attributes:
        name: the operation whose result it is, for example "layer1.0.conv2"; "input" for the first.
        channels, height, width: its shape; a dense layer has height and width 1.
        padding: rows and columns of zero padding that the shape includes on every side; the most
            on any side where the sides differ.
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

    Two positions are joined by one tap at most.

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

    @cached_property
    def tap_counts(self) -> np.ndarray:
        """Return (taps,) int64: the pairs of positions that each tap joins."""
        return np.bincount(self.triples[:, 2], minlength=self.taps)

    @cached_property
    def source_counts(self) -> np.ndarray:
        """Return (source_size, taps) int64: the target positions of each source position."""
        return self._counts(0, self.source_size)

    @cached_property
    def target_counts(self) -> np.ndarray:
        """Return (target_size, taps) int64: the source positions of each target position."""
        return self._counts(1, self.target_size)

    def _counts(self, end: int, size: int) -> np.ndarray:
        code = self.triples[:, end].astype(np.int64) * self.taps + self.triples[:, 2]
        return np.bincount(code, minlength=size * self.taps).reshape(size, self.taps)


@dataclass(frozen=True)
class Block:
    """One weighted operation between two parts; no two blocks join the same two parts.

    Attributes:
        name: the parameter's name in the state dict, or "identity:<name of the target part>" for a
            shortcut without parameter; several names joined by "+" where operations were merged.
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
class Layer:
    """One layer with weights as the network stores it; the rolled encodings need no more.

    Attributes:
        name: the parameter's name in the state dict.
        weight: (out channels, in channels / groups, kernel rows, kernel columns) float32; kernel
            1x1 for a dense layer.
        mask: same shape, boolean.
        groups: as in a convolution.
        kind: "conv", "linear" or "residual" (projection shortcut).
    """

    name: str
    weight: np.ndarray
    mask: np.ndarray
    groups: int = 1
    kind: str = "conv"


@dataclass(frozen=True)
class LayerGraph:
    """A network as parts and blocks.

    The published convention has edges that no axis relation can express. Such a graph has no
    blocks; `espalier.graphs.encode` builds its edges from `published_layers`.

    Attributes:
        parts: in topological order; the first is the input, the last the classes.
        blocks: in topological order of their targets.
        convention: "definition" or "published".
        layers: the layers with weights, in the order in which the network calls them.
        published_layers: what the published encoding works from; empty under the definition.
    """

    parts: tuple[Part, ...]
    blocks: tuple[Block, ...]
    convention: str = "definition"
    layers: tuple[Layer, ...] = ()
    published_layers: tuple[PublishedLayer, ...] = ()

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


def layer_graph(
    model: nn.Module,
    input_shape: tuple[int, int, int],
    masks: Mapping[str, Any] | None = None,
    *,
    convention: str = "definition",
    padding_nodes: bool = True,
    identity_shortcuts: bool = False,
) -> LayerGraph:
    """Trace a network and return it as parts and blocks.

    The network runs once on zeros, in eval mode; its mode is restored. Parts are the input and the
    output of every convolution and dense layer; operations without weights between two layers
    (pooling, reshaping, slicing) are composed into the axis relations. The rules for sums,
    products and concatenations are in docs/encodings.md. Source: the multipartite graph of
    Cunegatti et al., "Understanding sparse neural networks from their topology via multipartite
    graph representations", TMLR 2024, section 3.

    Args:
        model: any module that maps (batch, channels, height, width) to one tensor.
        input_shape: (channels, height, width) of one input.
        masks: parameter name to boolean tensor, True where a weight is kept; a layer without a
            mask, and every layer when this is None, has an edge where its weight is not zero.
        convention: "definition", or "published" for the public code's edges with its errors.
        padding_nodes: the input part includes the zero padding of the first convolution, as the
            paper says.
        identity_shortcuts: represent shortcuts without weights as edges of weight 1; the paper
            leaves them out.

    Raises:
        ConfigurationError: an operation is not known (the message names it and its module), or an
            option is not usable.
        DataError: a mask's name or shape does not fit, a weight is not finite, or the network
            rejects the input.
    """
    if convention not in CONVENTIONS:
        raise unknown_name("convention", convention, CONVENTIONS)
    if convention == "published":
        if not padding_nodes or identity_shortcuts:
            raise ConfigurationError(
                "convention 'published' always keeps the padding nodes of the first layer and has "
                "no identity shortcuts; leave padding_nodes and identity_shortcuts at their "
                "defaults or use convention 'definition'"
            )
        from espalier.graphs.published_encoding import published_layer_graph

        return published_layer_graph(model, input_shape, masks)
    from espalier.graphs.tracing import traced_layer_graph

    return traced_layer_graph(model, input_shape, masks, padding_nodes, identity_shortcuts)
