from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from linearised_nets import (
    GOLDENS,
    SHARED,
    RandomNet,
    golden_net,
    random_masks,
    random_nets,
)
from torch import nn

from espalier.errors import ConfigurationError
from espalier.graphs import bipartite, edge_count, encode, encoding_bytes, layer_graph

TINY = sorted(path.name.removesuffix("_bruteforce.json") for path in GOLDENS.glob("*_brute*"))


@pytest.mark.parametrize("case", TINY)
def test_golden_edges_of_the_definition(case: str) -> None:
    golden = json.loads((GOLDENS / f"{case}_bruteforce.json").read_text())
    graph = layer_graph(*golden_net(case))
    matrix = encode(graph)
    assert [part.nodes for part in graph.parts] == golden["dim_correct"]
    assert matrix.nnz == edge_count(graph) == golden["edges_correct"]
    weights = matrix.data.astype(np.float16).sum(dtype=np.float64)
    strength = golden["metrics_on_correct_graph"]["avg_node_strength"]
    assert 2 * weights / graph.nodes == pytest.approx(strength, rel=1e-12)


@pytest.mark.parametrize("case", ["conv6_erk_098", "resnet20_erk_098"])
def test_golden_edges_of_large_networks(case: str) -> None:
    if not (SHARED / f"{case}.npz").exists():
        pytest.skip(f"{SHARED} is not there")
    golden = json.loads((SHARED / f"{case}_correct.json").read_text())
    graph = layer_graph(*golden_net(case, SHARED))
    matrix = encode(graph)
    assert [part.nodes for part in graph.parts] == golden["dimension"]
    assert matrix.nnz == edge_count(graph) == golden["edges"]
    pairs = {
        f"{block.source}->{block.target}": bipartite(graph, number).nnz
        for number, block in enumerate(graph.blocks)
    }
    assert pairs == golden["edges_by_layer_pair"]


@given(random_nets(), st.integers(0, 2**31), st.booleans(), st.booleans())
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_equals_the_jacobians_of_random_networks(
    net: RandomNet, seed: int, padding_nodes: bool, identity: bool
) -> None:
    masks = random_masks(net, seed)
    graph = layer_graph(
        net,
        net.input_shape,
        masks,
        padding_nodes=padding_nodes,
        identity_shortcuts=identity,
    )
    expected = net.adjacency(masks, padding_nodes, identity)
    matrix = encode(graph, dtype=np.float64)
    assert matrix.shape == expected.shape
    assert matrix.nnz == edge_count(graph) == np.count_nonzero(expected)
    np.testing.assert_allclose(matrix.toarray(), expected, rtol=1e-6)
    assert_sorted_upper(matrix)
    for number, block in enumerate(graph.blocks):
        low, high = graph.offsets[block.source], graph.offsets[block.source + 1]
        left, right = graph.offsets[block.target], graph.offsets[block.target + 1]
        pair = bipartite(graph, number, dtype=np.float64).toarray()
        np.testing.assert_allclose(pair, expected[low:high, left:right], rtol=1e-6)


def assert_sorted_upper(matrix) -> None:
    row = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    code = row.astype(np.int64) * matrix.shape[1] + matrix.indices
    assert np.all(np.diff(code) > 0)
    assert np.all(matrix.indices > row)


def test_unweighted_entries_are_one() -> None:
    graph = layer_graph(*golden_net("tiny_pool_05"))
    weighted, plain = encode(graph), encode(graph, weighted=False, dtype=np.int8)
    assert np.array_equal(weighted.indices, plain.indices)
    assert plain.dtype == np.int8
    assert set(plain.data.tolist()) == {1}


def test_memory_is_checked_before_anything_is_allocated() -> None:
    graph = layer_graph(*golden_net("tiny_pool_05"))
    needed = encoding_bytes(graph.nodes, edge_count(graph))
    matrix = encode(graph, max_bytes=needed)
    assert matrix.data.nbytes + matrix.indices.nbytes + matrix.indptr.nbytes == needed
    with pytest.raises(ConfigurationError, match=rf"{needed:,} bytes.*max_bytes.*topometrics"):
        encode(graph, max_bytes=needed - 1)
    with pytest.raises(ConfigurationError, match=r"bipartite conv1\.weight"):
        bipartite(graph, 0, max_bytes=100)


def test_a_graph_beyond_32_bits_is_counted_not_built() -> None:
    model = nn.Sequential(nn.Conv2d(8, 64, 3, padding=1), nn.Conv2d(64, 64, 3, padding=1))
    graph = layer_graph(model, (8, 512, 512), padding_nodes=False)
    # Border rows and columns lose one kernel row or column each: (3 n - 2)^2 pairs.
    edges = (8 * 64 + 64 * 64) * (3 * 512 - 2) ** 2
    assert edge_count(graph) == edges > 2**31
    assert encoding_bytes(graph.nodes, edges) == 12 * edges + 8 * (graph.nodes + 1)
    with pytest.raises(ConfigurationError, match=f"{edges:,} edges"):
        encode(graph)


def test_rolled_entries_are_the_kernel() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(4, 6, (2, 3), groups=2), nn.Flatten(), nn.Linear(24, 3))
    masks = random_masks(model, 5) | {"0.weight": torch.rand(6, 2, 2, 3) < 0.4}
    graph = layer_graph(model, (4, 3, 4), masks)
    rolled, channel = encode(graph, "rolled"), encode(graph, "rolled-channel")
    assert list(rolled) == list(channel) == ["0.weight", "2.weight"]
    weight = (model[0].weight.detach() * masks["0.weight"]).numpy()
    expected, norms = np.zeros((4 * 2 * 3, 6), np.float32), np.zeros((4, 6))
    for output in range(6):
        for own in range(2):
            source = 2 * (output // 3) + own
            expected[source * 6 : source * 6 + 6, output] = np.abs(weight[output, own]).ravel()
            norms[source, output] = np.linalg.norm(weight[output, own].astype(np.float64))
    np.testing.assert_array_equal(rolled["0.weight"].toarray(), expected)
    np.testing.assert_allclose(channel["0.weight"].toarray(), norms, rtol=1e-6)
    dense = (model[2].weight.detach() * masks["2.weight"]).abs().T.numpy()
    np.testing.assert_array_equal(rolled["2.weight"].toarray(), dense)
    np.testing.assert_array_equal(channel["2.weight"].toarray(), dense)


@pytest.mark.parametrize("case", ["tiny_s2_05", "tiny_s2_09"])
def test_golden_rolled_encodings(case: str) -> None:
    golden = json.loads((GOLDENS / f"{case}_rolled_ramanujan.json").read_text())
    graph = layer_graph(*golden_net(case), convention="published")
    for kind in ("rolled", "rolled-channel"):
        encoded = encode(graph, kind)
        for entry in golden[kind]:
            matrix = encoded[f"{entry['layer']}.weight"]
            assert (*matrix.shape, matrix.nnz) == (entry["L"], entry["R"], entry["edges"])
            strength = 2 * matrix.data.sum(dtype=np.float64) / sum(matrix.shape)
            assert strength == pytest.approx(entry["topometrics"]["strength"], rel=1e-6)


def test_unknown_kind_and_block() -> None:
    graph = layer_graph(*golden_net("tiny_s2_09"))
    with pytest.raises(ConfigurationError, match=r"unknown encoding 'roled'.*'rolled'"):
        encode(graph, "roled")
    with pytest.raises(ConfigurationError, match="blocks 0 to 2"):
        bipartite(graph, 3)
    published = layer_graph(*golden_net("tiny_s2_09"), convention="published")
    with pytest.raises(ConfigurationError, match="has no blocks"):
        bipartite(published, 0)
