from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from graphs_by_hand import golden_graph
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from espalier.errors import ConfigurationError, DataError
from espalier.graphs.encodings import bipartite
from espalier.graphs.layer_graph import Layer, LayerGraph
from espalier.topology.persistence import (
    neural_persistence,
    neural_persistence_of_graph,
    spanning_tree_weights,
)

RELATED = Path(__file__).parents[1] / "goldens" / "related"
VALUES = json.loads((RELATED / "neural_persistence.json").read_text())


def golden_weights(case: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
    count = len(VALUES[case]["layers"])
    with np.load(RELATED / "neural_persistence.npz") as arrays:
        return (
            [arrays[f"{case}/w{i}"] for i in range(count)],
            [np.sort(arrays[f"{case}/deaths{i}"]) for i in range(count)],
        )


@pytest.mark.parametrize("case", VALUES)
@pytest.mark.parametrize("stored", ["dense", "sparse"])
def test_goldens(case: str, stored: str) -> None:
    weights, deaths = golden_weights(case)
    layers = weights if stored == "dense" else [sparse.csr_array(w) for w in weights]
    definition = neural_persistence(layers)
    published = neural_persistence(layers, convention="published")
    first_norm = neural_persistence(layers, convention="published", p=1)
    own_scale = neural_persistence(layers, convention="published", scale="layer")
    assert definition.scales[0] == VALUES[case]["W"]
    close = {"rel": 1e-12, "abs": 1e-12}
    for i, expected in enumerate(VALUES[case]["layers"]):
        # Bit for bit, as the authors' library has them.
        np.testing.assert_array_equal(definition.layers[i].deaths, deaths[i])
        assert published.layers[i].persistence == pytest.approx(expected["p2"], **close)
        assert published.layers[i].persistence == pytest.approx(expected["reference_p2"], **close)
        assert published.layers[i].normalised == pytest.approx(expected["p2_normalised"], **close)
        assert first_norm.layers[i].persistence == pytest.approx(expected["p1"], **close)
        assert first_norm.layers[i].normalised == pytest.approx(expected["p1_normalised"], **close)
        assert definition.layers[i].persistence == pytest.approx(
            expected["p2_no_essential"], **close
        )
        assert definition.layers[i].normalised == pytest.approx(
            expected["p2_no_essential_normalised"], **close
        )
        assert own_scale.layers[i].normalised == pytest.approx(
            expected.get("p2_normalised_layer_scaled", math.nan), nan_ok=True, **close
        )
    assert published.total == pytest.approx(VALUES[case]["sum_p2"], **close)
    assert published.mean == pytest.approx(VALUES[case]["mean_p2_normalised"], **close)
    assert definition.mean == pytest.approx(
        VALUES[case]["mean_p2_no_essential_normalised"], **close
    )


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000))
def test_deaths_are_a_maximum_spanning_tree_of_networkx(seed: int) -> None:
    rng = np.random.default_rng(seed)
    inputs, outputs = rng.integers(1, 8, size=2)
    weight = rng.integers(-3, 4, size=(inputs, outputs)) * rng.choice([0.5, 0.7])
    graph = nx.Graph()
    for i in range(inputs):
        for j in range(outputs):
            graph.add_edge(i, inputs + j, weight=abs(weight[i, j]))
    tree = nx.maximum_spanning_tree(graph)
    expected = sorted(w for _, _, w in tree.edges(data="weight"))
    np.testing.assert_array_equal(spanning_tree_weights(weight), expected)
    np.testing.assert_array_equal(spanning_tree_weights(sparse.csr_array(weight)), expected)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([1.0, 2.0, 3.5]))
def test_bounds_and_symmetries(seed: int, p: float) -> None:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 7, size=3)
    weights = [rng.normal(size=(a, b)) for a, b in itertools.pairwise(sizes)]
    value = neural_persistence(weights, p=p)
    for layer in value.layers:
        assert 0 <= layer.normalised <= 1
    # Units have no order, weights no sign, and the whole network no scale.
    order = rng.permutation(sizes[1])
    other = neural_persistence([-3 * weights[0][:, order], -3 * weights[1][order]], p=p)
    for mine, theirs in zip(value.layers, other.layers, strict=True):
        assert mine.persistence == pytest.approx(theirs.persistence)


def test_a_layer_of_zeros() -> None:
    weights = [np.ones((2, 3)), np.zeros((3, 2))]
    definition = neural_persistence(weights)
    assert definition.layers[1].normalised == 1
    assert definition.layers[0].normalised == 0
    published = neural_persistence(weights, convention="published")
    assert published.layers[1].normalised == pytest.approx(math.sqrt(5 / 4))
    own = neural_persistence(weights, scale="layer")
    assert math.isnan(own.layers[1].normalised)
    assert math.isnan(own.scales[1])
    with pytest.raises(DataError, match="every weight of the network is 0"):
        neural_persistence([np.zeros((2, 2))])


def test_biases_are_one_more_input() -> None:
    rng = np.random.default_rng(0)
    weights, bias = rng.normal(size=(4, 3)), rng.normal(size=3)
    with_bias = neural_persistence([weights], biases=[bias])
    stacked = neural_persistence([np.vstack([weights, bias])])
    assert with_bias.layers[0].persistence == stacked.layers[0].persistence
    assert with_bias.layers[0].units == 8
    with pytest.raises(DataError, match="3 outputs"):
        neural_persistence([weights], biases=[np.ones(4)])
    with pytest.raises(DataError, match="1 layers and 2 biases"):
        neural_persistence([weights], biases=[bias, bias])


def test_convolutions_by_encoding() -> None:
    graph = golden_graph("tiny_s2_05")
    unrolled = neural_persistence_of_graph(graph, "unrolled")
    matrices = [bipartite(graph, k, dtype=np.float64).toarray() for k in range(len(graph.blocks))]
    assert list(unrolled) == [block.name for block in graph.blocks]
    for found, expected in zip(unrolled.values(), neural_persistence(matrices).layers, strict=True):
        assert found.persistence == pytest.approx(expected.persistence)
    kernel = np.zeros((2, 1, 2, 2), np.float32)
    kernel[0, 0] = [[3, 0], [0, 4]]
    network = LayerGraph((), (), layers=(Layer("conv", kernel, kernel != 0),))
    channel = neural_persistence_of_graph(network)["conv"]
    np.testing.assert_array_equal(channel.deaths, [0, 1])
    rolled = neural_persistence_of_graph(network, "rolled")["conv"]
    np.testing.assert_array_equal(rolled.deaths, [0, 0, 0, 0.75, 1])


def test_bad_input() -> None:
    weight = np.ones((2, 2))
    with pytest.raises(ConfigurationError, match="scale"):
        neural_persistence([weight], scale="layers")
    with pytest.raises(ConfigurationError, match="convention"):
        neural_persistence([weight], convention="reference")
    with pytest.raises(ConfigurationError, match="at least 1"):
        neural_persistence([weight], p=0.5)
    with pytest.raises(DataError, match="at least one layer"):
        neural_persistence([])
    with pytest.raises(DataError, match="both sides"):
        neural_persistence([np.ones((0, 2))])
    with pytest.raises(DataError, match="finite"):
        neural_persistence([np.array([[np.inf]])])
    with pytest.raises(ConfigurationError, match="encoding"):
        neural_persistence_of_graph(LayerGraph((), ()), "channel")
