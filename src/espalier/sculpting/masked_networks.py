"""Masks of any network of a single chain of layers, as module detection wants them.

The network is run once and traced, so that the order of its layers and any shortcut are seen and
not guessed. A unit of a dense layer is a node; a unit of a convolution is a channel: two channels
are joined if any entry of the kernel between them is kept (the rolled-channel graph). Where a
feature map is flattened into a dense layer, the positions of a channel are one unit. The inputs of
a network are channels if a convolution reads them and single numbers if a dense layer does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from espalier.errors import ConfigurationError, DataError, EspalierError, unknown_name
from espalier.graphs import bipartite, layer_graph
from espalier.graphs.layer_graph import Block, LayerGraph
from espalier.sculpting.modules import (
    MERGE_THRESHOLD,
    MODULARITY_THRESHOLD,
    Modules,
    detect_modules,
)

PARTS = ("network", "linear")

_PREFIX = "flattened."


class _Flat(nn.Module):
    """A network of vectors behind the feature maps that tracing feeds."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.flattened = network

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.flattened(inputs.flatten(1))


def masks_of(
    model: nn.Module,
    masks: Mapping[str, Any] | None = None,
    input_shape: Sequence[int] | None = None,
    part: str = "network",
) -> dict[str, np.ndarray]:
    """Return the masks of a network, layer by layer, for `detect_modules(list(masks.values()))`.

    Args:
        model: any module whose layers with weights form one chain.
        masks: parameter name to boolean tensor, True where a weight is kept; a layer without a
            mask, and every layer when this is None, has an edge where its weight is not zero.
        input_shape: (features,) or (channels, height, width) of one input. It may be left out
            for a network of dense layers only; its inputs are then those of its first layer.
        part: "network" for all layers; "linear" for the chain of dense layers at the end, for
            example the classifier behind any feature extractor, which may then have shortcuts.

    Returns:
        Layer name to (n_out, n_in) Boolean array, from the inputs on.

    Raises:
        ConfigurationError: an unknown part, a shortcut or another branch (the message names it), a
            network without layers, without dense layers at its end, or with an operation that
            tracing does not know, or no input_shape where one is needed.
        DataError: a mask's name or shape does not fit, or the network rejects the input.
    """
    if part not in PARTS:
        raise unknown_name("part of a network", part, PARTS)
    graph = _traced(model, masks, input_shape)
    chain = _chain(graph) if part == "network" else _linear_chain(graph)
    first = graph.blocks[chain[0]]
    found = {}
    for number in chain:
        block = graph.blocks[number]
        by_node = block is first and block.source == 0 and _reads_nodes(graph, block)
        matrix = _node_mask(graph, number) if by_node else _channel_mask(graph, block)
        found[graph.parts[block.target].name.removeprefix(_PREFIX)] = matrix
    return found


def network_modules(
    model: nn.Module,
    masks: Mapping[str, Any] | None = None,
    input_shape: Sequence[int] | None = None,
    part: str = "network",
    modularity_threshold: float = MODULARITY_THRESHOLD,
    merge_threshold: float = MERGE_THRESHOLD,
) -> Modules:
    """Find the modules of a network: `masks_of`, then `detect_modules`.

    Raises:
        ConfigurationError, DataError: as these two.
    """
    matrices = masks_of(model, masks, input_shape, part)
    return detect_modules(list(matrices.values()), modularity_threshold, merge_threshold)


def _traced(
    model: nn.Module, masks: Mapping[str, Any] | None, input_shape: Sequence[int] | None
) -> LayerGraph:
    shape = _input_shape(model) if input_shape is None else tuple(input_shape)
    if len(shape) == 3:
        channels, height, width = shape
        traced, kept = model, masks
    elif len(shape) == 1:
        channels, height, width = shape[0], 1, 1
        traced = _Flat(model)
        kept = masks and {f"{_PREFIX}{name}": mask for name, mask in masks.items()}
    else:
        raise DataError(
            f"input_shape is {shape}; expected (features,) or (channels, height, width)"
        )
    try:
        graph = layer_graph(
            traced, (channels, height, width), kept, padding_nodes=False, identity_shortcuts=True
        )
    except EspalierError as error:
        raise type(error)(str(error).replace(_PREFIX, "")) from error
    if not graph.blocks:
        raise ConfigurationError("the network has no convolution and no dense layer")
    return graph


def _input_shape(model: nn.Module) -> tuple[int]:
    weighted = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, (nn.Linear, nn.modules.conv._ConvNd))
    }
    for name, module in weighted.items():
        if not isinstance(module, nn.Linear):
            raise ConfigurationError(
                f"input_shape is needed: {name!r} is a {type(module).__name__}, whose input has a "
                "shape that no weight tells; give (channels, height, width)"
            )
    if not weighted:
        raise ConfigurationError("the network has no convolution and no dense layer")
    return (int(next(iter(weighted.values())).weight.shape[1]),)


def _chain(graph: LayerGraph) -> list[int]:
    """Return the blocks of a network of one chain, inputs first."""
    chain = []
    for part in range(1, len(graph.parts)):
        arriving = _arriving(graph, part)
        refusal = _refusal(graph, part, arriving)
        if refusal:
            raise refusal
        chain += arriving
    return chain


def _linear_chain(graph: LayerGraph) -> list[int]:
    """Return the blocks of the chain of dense layers at the end of a network, first one first."""
    chain: list[int] = []
    part = len(graph.parts) - 1
    while part > 0:
        arriving = _arriving(graph, part)
        refusal = _refusal(graph, part, arriving)
        if refusal or graph.blocks[arriving[0]].kind != "linear":
            break
        chain += arriving
        part -= 1
    if not chain:
        raise _refusal(graph, part, _arriving(graph, part)) or ConfigurationError(
            f"the network ends in {_shown(graph.parts[-1].name)}, which is no dense layer; "
            "use part='network'"
        )
    return chain[::-1]


def _arriving(graph: LayerGraph, part: int) -> list[int]:
    return [number for number, block in enumerate(graph.blocks) if block.target == part]


def _refusal(graph: LayerGraph, part: int, arriving: Sequence[int]) -> ConfigurationError | None:
    """Return the error for a part that is not one layer's reading of all of the part before it."""
    blocks = [graph.blocks[number] for number in arriving]
    layers = {layer.name for layer in graph.layers}
    name = _shown(graph.parts[part].name)
    if len(blocks) == 1 and blocks[0].source == part - 1 and blocks[0].name in layers:
        read = blocks[0].weight.shape[1] * blocks[0].groups
        present = graph.parts[part - 1].channels
        if read == present:
            return None
        found = (
            f"{name} reads {read} of the {present} channels or units of "
            f"{_shown(graph.parts[part - 1].name)}"
        )
    else:
        found = f"{name} is made from " + " and ".join(
            f"{_shown(graph.parts[block.source].name)} (through {_shown(block.name)})"
            for block in blocks
        )
    return ConfigurationError(
        f"{found}; module detection is defined for one chain of layers, each read as a whole by "
        "the next alone. For a network with shortcuts or branches use part='linear', or give the "
        "masks of one chain of its layers to detect_modules"
    )


def _reads_nodes(graph: LayerGraph, block: Block) -> bool:
    """Whether a dense layer contracts every position of the inputs."""
    target = graph.parts[block.target]
    return block.kind == "linear" and target.height == target.width == 1


def _node_mask(graph: LayerGraph, number: int) -> np.ndarray:
    return bipartite(graph, number, weighted=False).toarray().astype(bool).T


def _channel_mask(graph: LayerGraph, block: Block) -> np.ndarray:
    """Return (channels out, channels in): whether a kernel entry that joins positions is kept."""
    met = np.outer(block.rows.tap_counts > 0, block.columns.tap_counts > 0)
    kept = np.any(block.mask & met, axis=(2, 3))
    outputs, per_group = kept.shape
    matrix = np.zeros(
        (graph.parts[block.target].channels, graph.parts[block.source].channels), bool
    )
    each = outputs // block.groups
    for group in range(block.groups):
        rows = slice(group * each, (group + 1) * each)
        columns = slice(group * per_group, (group + 1) * per_group)
        matrix[rows, columns] = kept[rows]
    return matrix


def _shown(name: str) -> str:
    return repr(name.replace(_PREFIX, ""))
