"""The unrolled multipartite graph as the public code of its authors builds it.

The public code walks the modules in the order of `named_modules` and joins bipartite graphs of
neighbouring layers by node number. Its edges equal the definition where all strides are 1 and all
pools tile. Elsewhere they do not, and published columns carry the difference:

- A convolution whose kernel does not reach the last padded row crops its input; the padding is then
  removed on both sides, so that one real row and column are lost too. What is left is numbered
  without gaps and read as numbers of the full map: edges start at wrong pixels and channels, and
  end too early by the nodes that were lost, the first of them in the source's own part.
- Pools take windows at every stride, also partial ones at the border. Where these are more than the
  pooled map holds, the following layer reads windows of earlier channels.
- It sees modules only, and the published networks pool globally by a function. A dense layer that
  follows a convolution reads windows of the side sqrt(nodes / features); where nodes and features
  are equal, the layer is dropped. A module `AdaptiveAvgPool2d(1)` counts as that function here.
- Weights are rounded to float16. An edge exists where the weight is not zero.

A shortcut is a convolution whose name holds "shortcut" or "downsample". Where the public code fails
with an error of its own, this module raises one that says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import csr_array

from espalier.errors import ConfigurationError
from espalier.graphs.layer_graph import Layer, LayerGraph, Part

if TYPE_CHECKING:
    from torch import nn

LISTING_BYTES = 42
"""Bytes per edge beside the matrix while it is built: both ends, the order, the weights, a copy."""


@dataclass(frozen=True)
class PublishedLayer:
    """One module as the public code sees it.

    Attributes:
        name: of the module.
        kind: "conv", "residual", "linear" or "pool".
        weight: (out channels, in channels / groups, kernel, kernel) float32, masked; empty for a
            pool.
        kernel, stride, padding: of a square window.
        groups: 1 or, for a depthwise convolution, the input channels.
    """

    name: str
    kind: str
    weight: np.ndarray
    kernel: int = 1
    stride: int = 1
    padding: int = 0
    groups: int = 1


@dataclass(frozen=True)
class _Edges:
    source: np.ndarray
    target: np.ndarray
    weight: np.ndarray


def published_layer_graph(
    model: nn.Module, input_shape: tuple[int, int, int], masks: Mapping[str, Any] | None = None
) -> LayerGraph:
    """Return parts and layers as the public code has them; the graph has no blocks.

    Args:
        model: its modules in the order of `named_modules` are taken for the dataflow.
        input_shape: (channels, side, side).
        masks: parameter name to boolean tensor; masked weights are set to zero.

    Raises:
        ConfigurationError: the public code fails on this network, or what it builds is not known.
        DataError: a mask does not fit or a weight is not finite.
    """
    channels, height, width = input_shape
    if height != width:
        raise _fails(f"the input is {height}x{width}; it takes square maps only")
    layers, stored = _layers(model, masks or {})
    if not any(layer.kind in ("conv", "linear") for layer in layers):
        raise _fails("the network has no convolution and no dense layer")
    parts = _parts(layers, channels, height)
    return LayerGraph(parts, (), "published", stored, layers)


def published_adjacency(graph: LayerGraph, weighted: bool, dtype: Any) -> csr_array:
    """Return the public code's edges as a (nodes, nodes) CSR matrix, columns sorted.

    Edges that the public code lists twice (overlapping pools) are two stored entries.
    """
    edges = _all_edges(graph)
    order = np.lexsort((edges.target, edges.source))
    counts = np.bincount(edges.source, minlength=graph.nodes)
    index = np.int32 if max(graph.nodes, len(order)) <= np.iinfo(np.int32).max else np.int64
    data = edges.weight[order].astype(dtype) if weighted else np.ones(len(order), dtype)
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(index)
    shape = (graph.nodes, graph.nodes)
    return csr_array((data, edges.target[order].astype(index), indptr), shape=shape)


def published_edge_count(graph: LayerGraph) -> int:
    """Return the number of edges of the public code's graph, from the positions of single taps."""
    return sum(step.count() for step in _steps(graph))


# -- layers and parts --------------------------------------------------------------------------


def _fails(reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"convention 'published' has no graph for this network: {reason}. "
        "Use convention 'definition'"
    )


def _layers(
    model: nn.Module, masks: Mapping[str, Any]
) -> tuple[tuple[PublishedLayer, ...], tuple[Layer, ...]]:
    from torch import nn

    from espalier.graphs.tracing import Weights

    weights = Weights(model, masks)
    layers: list[PublishedLayer] = []
    stored: list[Layer] = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            values, mask = weights.arrays(module.weight, f"{name}.weight")
            values = values * mask
            kernel = (*values.shape, 1, 1)[:4]
            values = values.reshape(kernel)
            layer = _weighted_layer(name, module, values)
            layers.append(layer)
            stored.append(Layer(f"{name}.weight", values, values != 0, layer.groups, layer.kind))
        elif isinstance(module, nn.MaxPool2d | nn.AvgPool2d):
            layers.append(_pool_layer(name, module))
        elif isinstance(module, nn.AdaptiveAvgPool2d) and module.output_size not in (1, (1, 1)):
            raise _fails(f"{name} is an AdaptiveAvgPool2d, which has no kernel size")
    return tuple(layers), tuple(stored)


def _weighted_layer(name: str, module: Any, weight: np.ndarray) -> PublishedLayer:
    if not hasattr(module, "kernel_size"):
        return PublishedLayer(name, "linear", weight)
    if module.kernel_size[0] != module.kernel_size[1]:
        raise _fails(f"{name} has a {module.kernel_size[0]}x{module.kernel_size[1]} kernel")
    if isinstance(module.padding, str):
        raise _fails(f"{name} has the padding {module.padding!r}; it takes numbers only")
    if module.groups not in (1, module.in_channels):
        raise _fails(f"{name} has {module.groups} groups; it takes 1 or the input channels")
    residual = any(word in name.lower() for word in ("shortcut", "downsample"))
    return PublishedLayer(
        name,
        "residual" if residual else "conv",
        weight,
        module.kernel_size[0],
        module.stride[0],
        module.padding[0],
        module.groups,
    )


def _pool_layer(name: str, module: Any) -> PublishedLayer:
    kernel, stride, padding = (
        value if isinstance(value, int) else value[0]
        for value in (module.kernel_size, module.stride, module.padding)
    )
    if padding:
        raise _fails(f"{name} pads its input; the size that it takes for the result is not known")
    return PublishedLayer(name, "pool", np.zeros(0, np.float32), kernel, stride)


def _output_side(side: int, layer: PublishedLayer) -> int:
    return (side - layer.kernel + 2 * layer.padding) // layer.stride + 1


def _cropped_side(side: int, layer: PublishedLayer) -> int:
    """Return the side of the padded input without the rows that no window reaches."""
    return (_output_side(side, layer) - 1) * layer.stride + layer.kernel


def _parts(layers: Sequence[PublishedLayer], channels: int, side: int) -> tuple[Part, ...]:
    parts: list[Part] = []
    for place, layer in enumerate(layers):
        if layer.kind == "pool":
            side = _output_side(side, layer)
        if layer.kind in ("pool", "residual"):
            continue
        if not parts:
            if layer.kind == "conv":
                padded = _cropped_side(side, layer)
                parts.append(Part("input", channels, padded, padded, layer.padding))
            else:
                parts.append(Part("input", layer.weight.shape[1], 1, 1))
        elif _is_dropped(layers, place, parts[-1]):
            continue
        side = _output_side(side, layer) if layer.kind == "conv" else 1
        parts.append(Part(layer.name, len(layer.weight), side, side))
    return tuple(parts)


def _is_dropped(layers: Sequence[PublishedLayer], place: int, before: Part) -> bool:
    """Return whether the public code leaves a dense layer out: its features are the nodes."""
    layer = layers[place]
    if layer.kind != "linear" or layers[place - 1].kind not in ("conv", "residual"):
        return False
    if layer.weight.shape[1] != before.nodes:
        return False
    if any(after.kind != "pool" for after in layers[place + 1 :]):
        raise _fails(
            f"it drops the dense layer {layer.name}, whose inputs are all the nodes of "
            f"{before.name}, and what it then does with the following layers is not known"
        )
    return True


# -- edges -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Step:
    """One layer's edges, before they are listed.

    Attributes:
        entries: (n, 4) kept kernel entries (output, input, row, column) and `weights` (n,) float16.
        tap_rows: for each kernel row, the pairs (source position, target row) along one axis; the
            same for columns, since maps are square.
        pitch: side of the map by which sources are numbered; sources of a channel are pitch^2.
        side: of the target map.
        source_start, target_start: the first node of either.
        windows: for each source number the nodes it stands for, where a pool comes before.
    """

    entries: np.ndarray
    weights: np.ndarray
    taps: list[tuple[np.ndarray, np.ndarray]]
    pitch: int
    side: int
    source_start: int
    target_start: int
    windows: list[np.ndarray] | None = None

    def count(self) -> int:
        if self.windows is not None:
            return len(self.edges().source)
        lengths = np.array([len(source) for source, _ in self.taps], np.int64)
        return int((lengths[self.entries[:, 2]] * lengths[self.entries[:, 3]]).sum())

    def edges(self) -> _Edges:
        sources, targets, weights = [], [], []
        kernel = len(self.taps)
        for row in range(kernel):
            for column in range(kernel):
                chosen = (self.entries[:, 2] == row) & (self.entries[:, 3] == column)
                if not chosen.any():
                    continue
                output, channel = self.entries[chosen, 0], self.entries[chosen, 1]
                (source_row, target_row), (source_column, target_column) = (
                    self.taps[row],
                    self.taps[column],
                )
                place = (source_row[:, None] * self.pitch + source_column).ravel()
                result = (target_row[:, None] * self.side + target_column).ravel()
                sources.append((channel[:, None] * self.pitch**2 + place).ravel())
                targets.append((output[:, None] * self.side**2 + result).ravel())
                weights.append(np.repeat(self.weights[chosen], len(place)))
        edges = _concatenated(
            [_Edges(*columns) for columns in zip(sources, targets, weights, strict=True)]
        )
        target = edges.target + self.target_start
        if self.windows is None:
            return _Edges(edges.source + self.source_start, target, edges.weight)
        sizes = np.array([len(window) for window in self.windows], np.int64)
        starts = np.concatenate([[0], np.cumsum(sizes)])
        repeats = sizes[edges.source]
        first = np.repeat(starts[edges.source] - np.cumsum(repeats) + repeats, repeats)
        source = np.concatenate(self.windows)[first + np.arange(len(first))] + self.source_start
        return _Edges(source, np.repeat(target, repeats), np.repeat(edges.weight, repeats))


def _concatenated(edges: Sequence[_Edges]) -> _Edges:
    empty = _Edges(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float16))
    return _Edges(
        *(
            np.concatenate([getattr(part, name) for part in (empty, *edges)])
            for name in ("source", "target", "weight")
        )
    )


def _all_edges(graph: LayerGraph) -> _Edges:
    return _concatenated([step.edges() for step in _steps(graph)])


def _steps(graph: LayerGraph) -> list[_Step]:
    """Return the steps of all layers with edges, in the order of the modules."""
    layers, parts, offsets = graph.published_layers, graph.parts, graph.offsets
    steps: list[_Step] = []
    at = 0
    pool: PublishedLayer | None = None
    pooled = False
    for place, layer in enumerate(layers):
        if layer.kind == "pool":
            if pool is not None:
                raise _fails(f"{layer.name} follows another pool without a layer between")
            pool, pooled = layer, True
            continue
        if layer.kind == "residual":
            if pooled:
                raise _fails(f"the shortcut {layer.name} comes after a pool")
            steps.append(_shortcut_step(layers, place, parts, offsets, at))
            continue
        if at + 1 == len(parts):
            break
        source, start, end = parts[at], int(offsets[at]), int(offsets[at + 1])
        if layer.kind == "conv":
            _check_pool(layer, pool, source, at, layers, place)
            step = _convolution_step(layer, pool, source, parts[at + 1].height, at == 0)
        else:
            step = _dense_step(layer, pool, source)
        # The targets of a convolution follow the sources that it counts, which may be too few.
        last = start + step.target_start if step.windows is None else end
        steps.append(replace(step, source_start=start, target_start=last))
        at, pool = at + 1, None
    return steps


def _entries(layer: PublishedLayer) -> tuple[np.ndarray, np.ndarray]:
    """Return (n, 4) kept kernel entries and their absolute weights as float16."""
    places = np.argwhere(layer.weight != 0)
    if layer.groups > 1:
        # Input channel c reaches output channel c only; further outputs get no edges.
        places = places[places[:, 0] < layer.groups]
    weights = np.abs(layer.weight[tuple(places.T)]).astype(np.float16)
    if layer.groups > 1:
        places[:, 1] = places[:, 0]
    return places, weights


def _taps(layer: PublishedLayer, side: int, low: int, high: int) -> list[Any]:
    """Return for each tap the pairs (source position, target position) with low <= source < high.

    Source positions are numbered from `low`.
    """
    target = np.arange(side)
    pairs = []
    for tap in range(layer.kernel):
        source = target * layer.stride + tap
        kept = (source >= low) & (source < high)
        pairs.append((source[kept] - low, target[kept]))
    return pairs


def _convolution_step(
    layer: PublishedLayer, pool: PublishedLayer | None, source: Part, side: int, first: bool
) -> _Step:
    if first:
        padded, removed = source.height, 0
    else:
        before = source.height if pool is None else _output_side(source.height, pool)
        padded, removed = _cropped_side(before, layer), layer.padding
    pitch = padded - 2 * removed
    channels = layer.weight.shape[1] * layer.groups
    return _Step(
        *_entries(layer),
        taps=_taps(layer, side, removed, padded - removed),
        pitch=pitch,
        side=side,
        source_start=0,
        target_start=channels * pitch**2,
        windows=None if pool is None else _windows(source, pool.kernel, pool.stride),
    )


def _check_pool(
    layer: PublishedLayer,
    pool: PublishedLayer | None,
    source: Part,
    at: int,
    layers: Sequence[PublishedLayer],
    place: int,
) -> None:
    """Raise where the public code fails on a pool between two convolutions."""
    if pool is None:
        return
    if at <= 1:
        raise _fails(f"{pool.name} follows the first layer, where it fails (NameError)")
    side = _output_side(source.height, pool)
    if _cropped_side(side, layer) != side + 2 * layer.padding:
        raise _fails(f"{layer.name} reads a pool and crops it; where its edges go is not known")
    # It deletes by the numbers of the last convolution that reads a convolution.
    earlier = [
        index
        for index in range(1, place)
        if layers[index].kind == "conv" and layers[index - 1].kind in ("conv", "residual")
    ]
    needed = layer.weight.shape[1] * layer.groups * side**2
    if not earlier:
        raise _fails(f"no convolution reads another before {pool.name}; it fails (NameError)")
    last = layers[earlier[-1]]
    if last.weight.shape[1] * last.groups * source.height**2 < needed:
        raise _fails(f"{layer.name} reads more nodes than {last.name}; it fails (IndexError)")


def _dense_step(layer: PublishedLayer, pool: PublishedLayer | None, source: Part) -> _Step:
    features = layer.weight.shape[1]
    windows = None
    if pool is not None:
        windows = _windows(source, pool.kernel, pool.stride)
    elif features != source.nodes:
        window = math.isqrt(source.nodes // features)
        if window < 1:
            raise _fails(f"{layer.name} has {features} features and reads {source.nodes} nodes")
        windows = _windows(source, window, window)
    if windows is not None and len(windows) < features:
        raise _fails(
            f"{layer.name} has {features} features, but the map before it has {len(windows)} "
            "windows (IndexError)"
        )
    one = np.zeros(1, np.int64)
    entries, weights = _entries(layer)
    return _Step(entries, weights, [(one, one)], 1, 1, 0, source.nodes, windows)


def _windows(source: Part, kernel: int, stride: int) -> list[np.ndarray]:
    """Return the nodes of every window, channel by channel; partial windows at the border too."""
    side = source.height
    starts = range(0, side, stride)
    node = np.arange(source.nodes).reshape(source.channels, side, side)
    return [
        node[channel, row : row + kernel, column : column + kernel].ravel()
        for channel in range(source.channels)
        for row in starts
        for column in starts
    ]


def _shortcut_step(
    layers: Sequence[PublishedLayer],
    place: int,
    parts: Sequence[Part],
    offsets: np.ndarray,
    at: int,
) -> _Step:
    """Return the edges of a projection, from the block's input to its last convolution's output."""
    layer = layers[place]
    words = layer.name.split(".")
    cut = next(
        index
        for index, word in enumerate(words)
        if "shortcut" in word.lower() or "downsample" in word.lower()
    )
    block = ".".join(words[:cut]) + "."
    length = sum(other.kind == "conv" and other.name.startswith(block) for other in layers[:place])
    if length == 0 or place <= length or at < length:
        raise _fails(f"the shortcut {layer.name} does not follow the convolutions of its block")
    if layers[place - length - 1].kind == "residual":
        raise _fails(
            f"the block of {layer.name} follows another shortcut directly; the public code then "
            "takes a wrong size for the block's input"
        )
    source, target = parts[at - length], parts[at]
    return _Step(
        *_entries(layer),
        taps=_taps(layer, target.height, 0, source.height),
        pitch=source.height,
        side=target.height,
        source_start=int(offsets[at - length]),
        target_start=int(offsets[at]),
    )
