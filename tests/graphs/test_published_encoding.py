from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from linearised_nets import GOLDENS, SHARED, ResidualNet, golden_net
from torch import nn

from espalier.errors import ConfigurationError
from espalier.graphs import LayerGraph, edge_count, encode, layer_graph

TINY = sorted(path.name.removesuffix("_graph.npz") for path in GOLDENS.glob("*_graph.npz"))


def published(case: str, folder: Path = GOLDENS) -> LayerGraph:
    model, shape, masks = golden_net(case, folder)
    return layer_graph(model, shape, masks, convention="published")


def edges_by_parts(graph: LayerGraph) -> dict[str, int]:
    matrix = encode(graph).tocoo()
    source, target = (
        np.searchsorted(graph.offsets, ends, "right") - 1 for ends in (matrix.row, matrix.col)
    )
    pairs, counts = np.unique(source * len(graph.parts) + target, return_counts=True)
    return {
        f"{pair // len(graph.parts)}->{pair % len(graph.parts)}": count
        for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True)
    }


@pytest.mark.parametrize("case", TINY)
def test_golden_edge_lists(case: str) -> None:
    golden = json.loads((GOLDENS / f"{case}.json").read_text())
    graph = published(case)
    matrix = encode(graph)
    with np.load(GOLDENS / f"{case}_graph.npz") as archive:
        order = np.lexsort(archive["edges"].T[::-1])
        expected, weights = archive["edges"][order], archive["weights"][order]
    row = np.repeat(np.arange(graph.nodes), np.diff(matrix.indptr))
    assert np.array_equal(np.column_stack([row, matrix.indices]), expected)
    assert np.array_equal(matrix.data, weights)
    assert [part.nodes for part in graph.parts] == golden["dimension"]
    assert (graph.nodes, edge_count(graph)) == (golden["nodes"], golden["edges"])
    assert edges_by_parts(graph) == golden["edges_by_layer_pair"]


@pytest.mark.parametrize("case", ["conv6_erk_098", "resnet20_erk_098"])
def test_golden_counts_of_large_networks(case: str) -> None:
    if not (SHARED / f"{case}.npz").exists():
        pytest.skip(f"{SHARED} is not there")
    golden = json.loads((SHARED / f"{case}.json").read_text())
    graph = published(case, SHARED)
    assert [part.nodes for part in graph.parts] == golden["dimension"]
    assert (graph.nodes, edge_count(graph)) == (golden["nodes"], golden["edges"])
    assert edges_by_parts(graph) == golden["edges_by_layer_pair"]


def test_equals_the_definition_without_strides_and_with_tiling_pools() -> None:
    model, shape, masks = golden_net("tiny_pool_05")
    ours = encode(layer_graph(model, shape, masks))
    theirs = encode(layer_graph(model, shape, masks, convention="published"))
    assert np.array_equal(ours.indptr, theirs.indptr)
    assert np.array_equal(ours.indices, theirs.indices)
    assert np.array_equal(ours.data.astype(np.float16), theirs.data.astype(np.float16))


def test_a_kept_weight_of_zero_is_no_edge_here() -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False))
    with torch.no_grad():
        model[0].weight.zero_()
    masks = {"0.weight": torch.ones(1, 1, 1, 1, dtype=torch.bool)}
    assert edge_count(layer_graph(model, (1, 2, 2), masks)) == 4
    assert edge_count(layer_graph(model, (1, 2, 2), masks, convention="published")) == 0


def test_depthwise_channels_reach_their_own_output_only() -> None:
    model = nn.Sequential(nn.Conv2d(2, 2, 1), nn.Conv2d(2, 4, 1, groups=2))
    graph = layer_graph(model, (2, 1, 1), convention="published")
    matrix = encode(graph, weighted=False).toarray()
    # Two inputs, two hidden, four outputs; the multiplier's further outputs get no edges.
    assert np.argwhere(matrix).tolist() == [[0, 2], [0, 3], [1, 2], [1, 3], [2, 4], [3, 5]]


def test_a_dense_layer_over_all_nodes_is_dropped() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Flatten(), nn.Linear(8, 3))
    graph = layer_graph(model, (1, 2, 2), convention="published")
    assert [part.nodes for part in graph.parts] == [4, 8]
    assert edge_count(graph) == 8
    with pytest.raises(ConfigurationError, match="drops the dense layer 2"):
        layer_graph(nn.Sequential(*model, nn.Linear(3, 2)), (1, 2, 2), convention="published")


def test_overlapping_pools_list_edges_twice() -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1), nn.MaxPool2d(2, 1), nn.Flatten(), nn.Linear(9, 1)
    )
    graph = layer_graph(model, (1, 4, 4), convention="published")
    matrix = encode(graph)
    # Windows of a 4x4 map at every position, partial at the border; the dense layer reads the
    # first nine of the sixteen, whose first row is four windows, not three.
    sizes = [(2 if y < 3 else 1) * (2 if x < 3 else 1) for y in range(4) for x in range(4)]
    assert matrix.nnz == edge_count(graph) == 16 + 16 + sum(sizes[:9])
    row = np.repeat(np.arange(graph.nodes), np.diff(matrix.indptr))
    pairs = Counter(zip(row.tolist(), matrix.indices.tolist(), strict=True))
    assert max(pairs.values()) == 4


@pytest.mark.parametrize(
    ("model", "shape", "message"),
    [
        (nn.Sequential(nn.Conv2d(1, 1, 1)), (1, 4, 5), "square maps only"),
        (nn.Sequential(nn.Conv2d(1, 1, (1, 3))), (1, 4, 4), "1x3 kernel"),
        (nn.Sequential(nn.Conv2d(4, 4, 1, groups=2)), (4, 4, 4), "2 groups"),
        (nn.Sequential(nn.Conv2d(1, 1, 3, padding="same")), (1, 4, 4), "padding 'same'"),
        (
            nn.Sequential(nn.Conv2d(1, 1, 1), nn.MaxPool2d(2), nn.Conv2d(1, 1, 1)),
            (1, 4, 4),
            "NameError",
        ),
        (
            nn.Sequential(nn.Conv2d(1, 1, 1), nn.AdaptiveAvgPool2d(2), nn.Linear(4, 1)),
            (1, 4, 4),
            "has no kernel size",
        ),
        (nn.Sequential(nn.Conv2d(1, 1, 1), nn.MaxPool2d(3, 2, 1)), (1, 4, 4), "pads its input"),
        (ResidualNet([2, 4, 4], [1, 2, 2], [1, 1, 1], 2), (3, 8, 8), "another shortcut directly"),
    ],
)
def test_networks_that_the_public_code_cannot_build(
    model: nn.Module, shape: tuple[int, int, int], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        encode(layer_graph(model, shape, convention="published"))


def test_options_of_the_definition_are_refused() -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 1))
    for option in ({"padding_nodes": False}, {"identity_shortcuts": True}):
        with pytest.raises(ConfigurationError, match="keeps the padding nodes"):
            layer_graph(model, (1, 2, 2), convention="published", **option)


def test_memory_counts_what_building_needs() -> None:
    graph = published("tiny_pool_05")
    with pytest.raises(ConfigurationError, match="published encoding has 14,463 edges"):
        encode(graph, max_bytes=14_463 * 40)
