from __future__ import annotations

import json
import math
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
import torch
from graphs_by_hand import Hand, edges_by_definition, pool, random_hand
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from espalier.errors import ConfigurationError, DataError
from espalier.graphs import layer_graph
from espalier.graphs.layer_graph import LayerGraph, Part
from espalier.topology import effective
from espalier.topology.effective import (
    effective_connectivity,
    effective_masks,
    effective_sparsity,
    layer_node_count,
    path_count,
)

RELATED = Path(__file__).parents[1] / "goldens" / "related"
VALUES = json.loads((RELATED / "effective_paths.json").read_text())
PERCEPTRONS = [case for case in VALUES if case.startswith("mlp")]
CONVOLUTIONS = [case for case in VALUES if case.startswith("conv")]


def arrays_of(case: str, kind: str) -> list[np.ndarray]:
    with np.load(RELATED / "effective_paths.npz") as arrays:
        keys = [f"{case}/{kind}{i}" for i in range(9) if f"{case}/{kind}{i}" in arrays]
        return [arrays[key].astype(bool) for key in keys]


def perceptron_graph(masks: list[np.ndarray]) -> LayerGraph:
    generator = torch.Generator().manual_seed(0)
    linears = [nn.Linear(*mask.shape, bias=False) for mask in masks]
    for linear in linears:
        linear.weight.data = torch.randn(linear.weight.shape, generator=generator)
    model = nn.Sequential(nn.Flatten(), *linears)
    named = {f"{k}.weight": torch.tensor(mask.T) for k, mask in enumerate(masks, 1)}
    return layer_graph(model, (masks[0].shape[0], 1, 1), named, padding_nodes=False)


@pytest.mark.parametrize("case", PERCEPTRONS)
def test_goldens_of_perceptrons(case: str) -> None:
    expected, masks = VALUES[case], arrays_of(case, "mask")
    graph = perceptron_graph(masks)
    found = effective_sparsity(graph)
    assert (found.parameters, found.kept) == (expected["params"], expected["nonzero"])
    assert found.effective == expected["effective_nonzero"]
    assert found.direct_sparsity == pytest.approx(expected["direct_sparsity"])
    assert found.effective_sparsity == pytest.approx(expected["effective_sparsity"])
    assert found.direct_compression == pytest.approx(expected["direct_compression"])
    assert found.effective_compression == pytest.approx(
        expected["effective_compression"] or math.inf
    )
    assert found.paths == int(expected["paths"])
    assert found.effective_nodes_per_part == tuple(expected["effective_nodes_per_layer"])
    assert found.collapsed == (expected["effective_nonzero"] == 0)
    assert [layer.effective for layer in found.layers] == [
        layer["effective"] for layer in expected["layers"]
    ]
    found_masks = effective_masks(effective_connectivity(graph)).values()
    chain = [mask[:, :, 0, 0].T for mask in found_masks]
    for mine, golden in zip(chain, arrays_of(case, "effective"), strict=True):
        np.testing.assert_array_equal(mine, golden)
    assert layer_node_count(chain) == expected["npb_intended_node_count"]
    assert layer_node_count(chain, "published") == expected["npb_reference_node_count"]


def channels_last_graph(masks: list[np.ndarray]) -> LayerGraph:
    """The golden's network: convolutions on a 4x4 map, flattened position by position."""
    rng = np.random.default_rng(0)
    hand = Hand(3, 4, 4)
    view = hand.input
    for mask in masks[:2]:
        kernel = mask.transpose(3, 2, 0, 1)
        view = hand.conv(view, rng.normal(size=kernel.shape), kernel, padding=(1, 1))
    first = masks[2].reshape(4, 4, 8, 12).transpose(3, 2, 0, 1).reshape(12, 128)
    view = hand.linear(view, rng.normal(size=first.shape), first)
    hand.linear(view, rng.normal(size=(5, 12)), masks[3].T)
    return hand.graph()


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_goldens_of_convolutions(case: str) -> None:
    graph = channels_last_graph(arrays_of(case, "mask"))
    assert path_count(graph) == int(VALUES[case]["paths_unrolled"])
    for level, kind in (("unit", "exact"), ("channel", "channel_level")):
        connectivity = effective_connectivity(graph, level)
        golden = arrays_of(case, kind)
        for k in (0, 1):
            np.testing.assert_array_equal(connectivity.active[k].transpose(2, 3, 1, 0), golden[k])
        np.testing.assert_array_equal(
            connectivity.active[2].transpose(2, 3, 1, 0).reshape(128, 12), golden[2]
        )
        np.testing.assert_array_equal(connectivity.active[3][:, :, 0, 0].T, golden[3])
        counts = [int(mask.sum()) for mask in connectivity.active]
        assert counts == VALUES[case][f"{kind}_effective"]


def test_golden_of_a_kernel_that_sees_padding_only() -> None:
    hand = Hand(1, 1, 1)
    hand.conv(hand.input, np.ones((1, 1, 3, 3)), padding=(1, 1))
    graph = hand.graph()
    counts = {
        level: int(effective_connectivity(graph, level).active[0].sum())
        for level in ("unit", "channel")
    }
    assert counts["unit"] == VALUES["corner_weight"]["exact_active"]
    assert counts["channel"] == VALUES["corner_weight"]["channel_level_active"]


def test_golden_of_a_pool() -> None:
    hand = Hand(1, 2, 2)
    hand.linear(pool(hand.input, 2, 2), np.ones((1, 1)))
    assert path_count(hand.graph()) == VALUES["avgpool2_scale"]["true_path_count_per_window"]


def unpadded(seed: int) -> Hand:
    """A random network whose input part has no padding nodes, by name at least."""
    hand = random_hand(seed)
    first = hand.parts[0]
    hand.parts[0] = Part(first.name, first.channels, first.height, first.width)
    return hand


@settings(max_examples=35, deadline=None)
@given(st.integers(0, 10_000))
def test_equals_reachability_and_paths_of_networkx(seed: int) -> None:
    graph = unpadded(seed).graph()
    edges = edges_by_definition(graph)
    network = nx.DiGraph()
    network.add_nodes_from(range(graph.nodes))
    network.add_edges_from(edges)
    first, last = range(graph.offsets[1]), range(graph.offsets[-2], graph.nodes)
    reached = set(first).union(*(nx.descendants(network, u) for u in first))
    reaching = set(last).union(*(nx.ancestors(network, v) for v in last))
    counts = dict.fromkeys(range(graph.nodes), 0)
    for node in nx.topological_sort(network):
        counts[node] = (node < graph.offsets[1]) + sum(
            counts[p] for p in network.predecessors(node)
        )
    connectivity = effective_connectivity(graph)
    nodes = np.concatenate([field.reshape(-1) for field in connectivity.nodes])
    assert set(np.flatnonzero(nodes)) == reached & reaching
    assert connectivity.edges == len(edges)
    assert connectivity.effective_edges == sum(u in reached and v in reaching for u, v in edges)
    assert path_count(graph) == sum(counts[v] for v in last)
    # An entry is active iff one of its edges is, and no entry is active at one level only.
    bound = effective_connectivity(graph, "channel")
    for block, active, above in zip(graph.blocks, connectivity.active, bound.active, strict=True):
        assert not (active & ~block.mask).any()
        assert not (active & ~above).any()
    pruned = LayerGraph(
        graph.parts,
        tuple(
            type(block)(**{**vars(block), "mask": active})
            for block, active in zip(graph.blocks, connectivity.active, strict=True)
        ),
    )
    assert path_count(pruned) == path_count(graph)
    again = effective_connectivity(pruned)
    assert again.effective_edges == connectivity.effective_edges
    for block, active in zip(pruned.blocks, again.active, strict=True):
        np.testing.assert_array_equal(active, block.mask)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([2, 3, 8]))
def test_paths_do_not_depend_on_the_size_of_a_limb(seed: int, bits: int) -> None:
    graph = unpadded(seed).graph()
    whole = path_count(graph)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(effective, "_limb_bits", lambda *_: bits)
        assert path_count(graph) == whole


def test_paths_beyond_any_float() -> None:
    masks = [np.ones((100, 100), bool)] * 160
    hand = Hand(100, 1, 1)
    view = hand.input
    for mask in masks:
        view = hand.conv(view, np.ones((100, 100, 1, 1)), mask[:, :, None, None])
    assert path_count(hand.graph()) == 100**161


class Branches(nn.Module):
    """Overlapping pool before a kernel, groups, stride, concatenation, residual, global pool."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, padding=1, bias=False)
        self.pool = nn.AvgPool2d(3, 2, 1)
        self.second = nn.Conv2d(4, 6, 3, padding=1, bias=False)
        self.grouped = nn.Conv2d(6, 6, 3, stride=2, padding=1, groups=3, bias=False)
        self.side = nn.Conv2d(6, 4, 1, stride=2, bias=False)
        self.inner = nn.Conv2d(10, 4, 1, bias=False)
        self.after = nn.Conv2d(4, 10, 3, padding=1, bias=False)
        self.head = nn.Linear(10, 3, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.second(self.pool(self.first(x)))
        x = torch.cat([self.grouped(x), self.side(x)], dim=1)
        x = x + self.after(self.inner(x))
        return self.head(x.mean(dim=(2, 3)))


class Plain(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(2, 3, 3, bias=False),
            nn.AvgPool2d(2),
            nn.Conv2d(3, 4, 3, padding=1, bias=False),
            nn.Flatten(),
            nn.Linear(36, 5, bias=False),
            nn.Linear(5, 3, bias=False),
        )


def by_gradient(model: nn.Module, masks: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """The published test of the linear network: a weight is active iff its gradient is not 0."""
    for name, parameter in model.named_parameters():
        parameter.data = parameter.data.abs() * masks[name]
    model = model.double()
    model(torch.ones(1, 2, 8, 8, dtype=torch.float64)).sum().backward()
    return {
        name: ((parameter.grad != 0) & masks[name]).numpy()
        for name, parameter in model.named_parameters()
    }


@pytest.mark.parametrize("build", [Plain, Branches])
@pytest.mark.parametrize("density", [0.1, 0.3, 0.6])
def test_traced_networks_agree_with_gradients(build: type[nn.Module], density: float) -> None:
    for seed in range(4):
        torch.manual_seed(seed)
        model = build()
        masks = {n: torch.rand(p.shape) < density for n, p in model.named_parameters()}
        graph = layer_graph(model, (2, 8, 8), masks, padding_nodes=False, identity_shortcuts=True)
        found = effective_masks(effective_connectivity(graph))
        assert list(found) == [n for n, _ in model.named_parameters()]
        for name, expected in by_gradient(model, masks).items():
            np.testing.assert_array_equal(found[name].reshape(expected.shape), expected)


def test_merged_operations_are_refused_by_name() -> None:
    class Beside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 2, 1)
            self.other = nn.Conv2d(2, 2, 3, padding=1)
            self.head = nn.Linear(2, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head((self.conv(x) + self.other(x)).mean(dim=(2, 3)))

    graph = layer_graph(Beside(), (2, 4, 4), padding_nodes=False)
    assert effective_connectivity(graph).effective_edges > 0
    with pytest.raises(DataError, match=r"conv\.weight.*merged"):
        effective_sparsity(graph)


def test_summary_without_paths() -> None:
    found = effective_sparsity(perceptron_graph([np.ones((3, 2), bool)] * 1), paths=False)
    assert found.paths is None
    assert math.isnan(found.log10_paths)
    assert found.lost_nodes_per_part == (0, 0)
    collapsed = effective_sparsity(perceptron_graph([np.zeros((3, 2), bool)]))
    assert collapsed.collapsed
    assert collapsed.log10_paths == -math.inf
    assert collapsed.effective_compression == math.inf
    assert effective_sparsity(perceptron_graph([np.ones((5, 2), bool)])).log10_paths == 1


def test_bad_input() -> None:
    graph = Hand(1, 2, 2, padding=1).graph()
    with pytest.raises(ConfigurationError, match="padding_nodes=False"):
        effective_connectivity(graph)
    with pytest.raises(ConfigurationError, match="padding_nodes=False"):
        path_count(graph)
    plain = Hand(1, 2, 2).graph()
    with pytest.raises(ConfigurationError, match="level"):
        effective_connectivity(plain, "kernel")
    with pytest.raises(DataError, match="no layers"):
        effective_sparsity(plain)
    with pytest.raises(ConfigurationError, match="convention"):
        layer_node_count([np.ones((2, 2))], "reference")
