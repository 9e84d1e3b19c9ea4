"""Stability of pruning: how many edges two sparse networks share (SJ and SO).

Edges are counted layer by layer and the layers' ratios averaged with weight
e = (edges of the first + edges of the second) / 2. Nothing is enumerated: in an unrolled layer a
kept kernel entry stands for as many edges as its taps join positions.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from espalier.errors import DataError, unknown_name
from espalier.graphs.layer_graph import Block, LayerGraph
from espalier.topology.blocks import checked_blocks

DIFFERENT_SHAPES = ("error", "skip", "pad")

Network = LayerGraph | Mapping[str, Any]


@dataclass(frozen=True)
class SharedEdges:
    """What one layer of two networks shares.

    Attributes:
        name: of the layer.
        first, second: edges of either network.
        shared: edges of both.
    """

    name: str
    first: int
    second: int
    shared: int

    @property
    def jaccard(self) -> float:
        """Return shared edges over edges of either; NaN where neither has one."""
        union = self.first + self.second - self.shared
        return self.shared / union if union else float("nan")

    @property
    def overlap(self) -> float:
        """Return shared edges over those of the smaller; 0 where one is empty, NaN where both."""
        if not self.first + self.second:
            return float("nan")
        smaller = min(self.first, self.second)
        return self.shared / smaller if smaller else 0.0


@dataclass(frozen=True)
class Stability:
    """Shared edges of two networks.

    Attributes:
        jaccard: SJ, in [0, 1]; NaN where neither network has an edge.
        overlap: SO, likewise; at least SJ.
        layers: what they are computed from.
        skipped: names of layers left out because their shapes differ.
    """

    jaccard: float
    overlap: float
    layers: tuple[SharedEdges, ...]
    skipped: tuple[str, ...] = ()


@dataclass(frozen=True)
class NetworkStability:
    """A network's mean stability against the others in both settings.

    Attributes:
        dataset, seed: of the network.
        jaccard_init, overlap_init: SJ and SO, mean over networks of the same data set and another
            seed; NaN where there is none.
        jaccard_data, overlap_data: over networks of the same seed and another data set.
        partners_init, partners_data: how many networks the means are over.
    """

    dataset: Hashable
    seed: Hashable
    jaccard_init: float
    overlap_init: float
    jaccard_data: float
    overlap_data: float
    partners_init: int
    partners_data: int


def stability(first: Network, second: Network, *, different_shapes: str = "error") -> Stability:
    """Stability-Jaccard (SJ) and Stability-Overlap (SO) of two networks of one architecture.

    Args:
        first, second: two layer graphs of the convention "definition" (edges of the unrolled
            encoding, one layer per block), or two mappings from parameter name to boolean mask
            (edges of the rolled encoding, one per kept weight).
        different_shapes: what to do where a layer's shapes differ, as the classifiers of two data
            sets do: "error", "skip" the layer, or "pad" the smaller one with absent edges, so that
            class i is compared with class i.

    Raises:
        ConfigurationError: an unknown `different_shapes`.
        DataError: the networks are of different kinds, their layers have different names, or
            shapes differ under "error".

    Source: Cunegatti et al. (arXiv 2305.17079), equation 4. Where one of two layers is empty its
    overlap, 0/0 there, is 0; a layer that is empty in both has weight 0.
    """
    if different_shapes not in DIFFERENT_SHAPES:
        raise unknown_name("handling of different shapes", different_shapes, DIFFERENT_SHAPES)
    if isinstance(first, LayerGraph) and isinstance(second, LayerGraph):
        ours, theirs = _counted_blocks(first), _counted_blocks(second)
    elif isinstance(first, LayerGraph) or isinstance(second, LayerGraph):
        raise DataError("one network is a layer graph, the other a mapping; give two alike")
    else:
        ours, theirs = _counted_masks(first), _counted_masks(second)
    if list(ours) != list(theirs):
        odd = sorted(set(ours) ^ set(theirs)) or list(ours)
        raise DataError(
            f"the networks do not have the same layers in the same order; look at {odd[:3]}"
        )
    layers, skipped = [], []
    for name, (mask, edges) in ours.items():
        other, other_edges = theirs[name]
        if mask.shape != other.shape or not np.array_equal(edges, other_edges):
            if different_shapes == "error":
                raise DataError(
                    f"layer {name!r} is {mask.shape} in one network and {other.shape} in the "
                    "other, or joins other positions; use different_shapes='skip' or 'pad'"
                )
            if different_shapes == "skip":
                skipped.append(name)
                continue
            if edges.shape != other_edges.shape or not np.array_equal(edges, other_edges):
                raise DataError(
                    f"layer {name!r} joins other positions in the two networks, so that no edge "
                    "of one corresponds to one of the other; use different_shapes='skip'"
                )
        counts = (_edges(mask, edges), _edges(other, edges), _shared(mask, other, edges))
        layers.append(SharedEdges(name, *counts))
    return Stability(
        _weighted_mean(layers, [layer.jaccard for layer in layers]),
        _weighted_mean(layers, [layer.overlap for layer in layers]),
        tuple(layers),
        tuple(skipped),
    )


def stability_settings(
    networks: Mapping[tuple[Hashable, Hashable], Network], *, different_shapes: str = "error"
) -> list[NetworkStability]:
    """Mean SJ and SO of every network in the init and in the data setting.

    In the init setting the seed changes and the data set stays; in the data setting the data set
    changes and the seed stays. Architecture, pruner and sparsity are the same throughout.

    Args:
        networks: (data set, seed) to network, as in `stability`.
        different_shapes: as in `stability`, for the data setting; networks of one data set must
            agree.

    Returns:
        One item per network, in the order of `networks`.

    Raises:
        ConfigurationError, DataError: as in `stability`.
    """
    keys = list(networks)
    found: dict[tuple[int, int], Stability] = {}
    for i, (dataset, seed) in enumerate(keys):
        for j, (other_dataset, other_seed) in enumerate(keys[:i]):
            if (dataset == other_dataset) == (seed == other_seed):
                continue
            rule = "error" if dataset == other_dataset else different_shapes
            pair = stability(networks[keys[i]], networks[keys[j]], different_shapes=rule)
            found[i, j] = found[j, i] = pair
    result = []
    for i, (dataset, seed) in enumerate(keys):
        partners = [[], []]
        for j, (other, _) in enumerate(keys):
            if (i, j) in found:
                partners[dataset != other].append(found[i, j])
        init, data = partners
        result.append(
            NetworkStability(
                dataset,
                seed,
                _mean([s.jaccard for s in init]),
                _mean([s.overlap for s in init]),
                _mean([s.jaccard for s in data]),
                _mean([s.overlap for s in data]),
                len(init),
                len(data),
            )
        )
    return result


_Counted = dict[str, tuple[np.ndarray, np.ndarray]]
"""Mask, and the edges of each kernel entry: an array over the last axes of the mask."""


def _counted_blocks(graph: LayerGraph) -> _Counted:
    counted: _Counted = {}
    for block in checked_blocks(graph):
        key = block.name
        if key in counted:
            # A layer that reads several parts has one block for each of them.
            key = f"{block.name} ({graph.parts[block.source].name})"
        counted[key] = (block.mask, _pairs(block))
    return counted


def _pairs(block: Block) -> np.ndarray:
    return np.multiply.outer(block.rows.tap_counts, block.columns.tap_counts)


def _counted_masks(masks: Mapping[str, Any]) -> _Counted:
    counted: _Counted = {}
    for name, mask in masks.items():
        array = mask.detach().cpu().numpy() if hasattr(mask, "detach") else np.asarray(mask)
        if array.dtype != bool:
            raise DataError(f"the mask {name!r} is {array.dtype}, not boolean")
        counted[name] = (array, np.array(1))
    return counted


def _edges(mask: np.ndarray, edges: np.ndarray) -> int:
    axes = tuple(range(mask.ndim - edges.ndim))
    return int((np.count_nonzero(mask, axis=axes) * edges).sum(dtype=np.int64))


def _shared(first: np.ndarray, second: np.ndarray, edges: np.ndarray) -> int:
    # Entries outside the smaller array are absent in it.
    common = tuple(slice(min(a, b)) for a, b in zip(first.shape, second.shape, strict=True))
    return _edges(first[common] & second[common], edges)


def _weighted_mean(layers: list[SharedEdges], values: list[float]) -> float:
    weights = [(layer.first + layer.second) / 2 for layer in layers]
    total = sum(weights)
    if not total:
        return float("nan")
    return sum(w * v for w, v in zip(weights, values, strict=True) if w) / total


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else float("nan")
