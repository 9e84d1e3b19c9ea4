from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from graphs_by_hand import Hand, edges_by_definition, random_hand
from hypothesis import given, settings
from hypothesis import strategies as st

from espalier.errors import ConfigurationError, DataError
from espalier.graphs.layer_graph import LayerGraph
from espalier.topology.stability import SharedEdges, stability, stability_settings


def two_masks(seed: int) -> tuple[LayerGraph, LayerGraph]:
    """Two graphs of one random network that differ in their masks."""
    rng = np.random.default_rng(seed)
    graph = random_hand(seed, density=1.0).graph()

    def masked() -> LayerGraph:
        blocks = []
        for block in graph.blocks:
            mask = block.mask & (rng.random(block.mask.shape) < rng.choice([0.0, 0.3, 0.8]))
            blocks.append(type(block)(**{**vars(block), "mask": mask}))
        return LayerGraph(graph.parts, tuple(blocks))

    return masked(), masked()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_layers_equal_sets_of_enumerated_edges(seed: int) -> None:
    first, second = two_masks(seed)
    found = stability(first, second)
    jaccard, overlap, weights = 0.0, 0.0, 0.0
    for k, layer in enumerate(found.layers):
        alone = [
            set(edges_by_definition(LayerGraph(g.parts, (g.blocks[k],)))) for g in (first, second)
        ]
        shared, union = len(alone[0] & alone[1]), len(alone[0] | alone[1])
        assert (layer.first, layer.second) == (len(alone[0]), len(alone[1]))
        assert layer.shared == shared
        weight = (len(alone[0]) + len(alone[1])) / 2
        weights += weight
        if union:
            jaccard += weight * shared / union
            smaller = min(map(len, alone))
            overlap += weight * (shared / smaller if smaller else 0.0)
    if weights:
        assert found.jaccard == pytest.approx(jaccard / weights)
        assert found.overlap == pytest.approx(overlap / weights)
        assert 0 <= found.jaccard <= found.overlap <= 1
    else:
        assert math.isnan(found.jaccard)
        assert math.isnan(found.overlap)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_symmetric_and_one_with_itself(seed: int) -> None:
    first, second = two_masks(seed)
    there, back = stability(first, second), stability(second, first)
    assert there.jaccard == back.jaccard or math.isnan(there.jaccard)
    assert there.overlap == back.overlap or math.isnan(there.overlap)
    own = stability(first, first)
    assert own.jaccard in (pytest.approx(1), pytest.approx(math.nan, nan_ok=True))
    assert own.jaccard == own.overlap or math.isnan(own.jaccard)


def test_a_subset_has_overlap_one() -> None:
    large = {"a": np.array([True, True, True, True])}
    small = {"a": np.array([True, False, False, False])}
    found = stability(large, small)
    assert (found.jaccard, found.overlap) == (0.25, 1.0)


def test_equation_by_hand_on_masks() -> None:
    first = {"a": torch.tensor([True, True, False, False]), "b": torch.tensor([True, False])}
    second = {"a": torch.tensor([True, False, True, True]), "b": torch.tensor([True, True])}
    found = stability(first, second)
    # a: 1 shared of 4, e = 2.5; b: 1 shared of 2, e = 1.5
    assert found.jaccard == pytest.approx((2.5 * 1 / 4 + 1.5 * 1 / 2) / 4)
    assert found.overlap == pytest.approx((2.5 * 1 / 2 + 1.5 * 1 / 1) / 4)


def test_padding_makes_unrolled_differ_from_rolled() -> None:
    def graph(kept: list[tuple[int, int]]) -> tuple[LayerGraph, dict[str, np.ndarray]]:
        mask = np.zeros((1, 1, 3, 3), bool)
        for place in kept:
            mask[(0, 0, *place)] = True
        hand = Hand(1, 4, 4)
        hand.conv(hand.input, np.ones((1, 1, 3, 3)), mask, padding=(1, 1), name="conv")
        return hand.graph(), {"conv": mask}

    first, first_masks = graph([(1, 1), (0, 0)])
    second, second_masks = graph([(1, 1), (2, 1)])
    # The centre joins 16 positions, a corner 9, an edge 12.
    assert stability(first, second).jaccard == pytest.approx(16 / (16 + 9 + 12))
    assert stability(first_masks, second_masks).jaccard == pytest.approx(1 / 3)


def test_empty_layers() -> None:
    none = SharedEdges("x", 0, 0, 0)
    assert math.isnan(none.jaccard)
    assert math.isnan(none.overlap)
    assert SharedEdges("x", 0, 5, 0).overlap == 0
    found = stability(
        {"a": np.array([True]), "b": np.array([False])},
        {"a": np.array([True]), "b": np.array([False])},
    )
    assert (found.jaccard, found.overlap) == (1, 1)


def test_both_settings() -> None:
    rng = np.random.default_rng(0)
    networks = {
        (data, seed): {"conv": rng.random(50) < 0.5, "head": rng.random((classes, 4)) < 0.5}
        for data, classes in (("cifar10", 10), ("cifar100", 100))
        for seed in (0, 1, 2)
    }
    rows = stability_settings(networks, different_shapes="skip")
    assert [(row.dataset, row.seed) for row in rows] == list(networks)
    row = rows[1]
    init = [stability(networks["cifar10", 1], networks["cifar10", s]) for s in (0, 2)]
    data = stability(networks["cifar10", 1], networks["cifar100", 1], different_shapes="skip")
    assert data.skipped == ("head",)
    assert row.jaccard_init == pytest.approx(np.mean([s.jaccard for s in init]))
    assert row.overlap_init == pytest.approx(np.mean([s.overlap for s in init]))
    assert row.jaccard_data == pytest.approx(data.jaccard)
    assert row.overlap_data == pytest.approx(data.overlap)
    assert (row.partners_init, row.partners_data) == (2, 1)
    alone = stability_settings({("cifar10", 0): networks["cifar10", 0]})[0]
    assert math.isnan(alone.jaccard_init)
    assert alone.partners_data == 0


def test_pad_compares_class_by_class() -> None:
    small = {"head": np.array([[True, False], [True, True]])}
    large = {"head": np.array([[True, True], [False, True], [True, True]])}
    found = stability(small, large, different_shapes="pad")
    assert found.layers[0] == SharedEdges("head", 3, 5, 2)


def test_bad_input() -> None:
    mask = {"a": np.ones(3, bool)}
    with pytest.raises(ConfigurationError, match="Did you mean 'skip'"):
        stability(mask, mask, different_shapes="skp")
    with pytest.raises(DataError, match="skip"):
        stability(mask, {"a": np.ones(4, bool)})
    with pytest.raises(DataError, match="same layers"):
        stability(mask, {"b": np.ones(3, bool)})
    with pytest.raises(DataError, match="not boolean"):
        stability(mask, {"a": np.ones(3)})
    graph = Hand(1, 2, 2).graph()
    with pytest.raises(DataError, match="alike"):
        stability(graph, mask)
    with pytest.raises(DataError, match="convention"):
        published = LayerGraph(graph.parts, (), convention="published")
        stability(published, published)
