from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import igraph
import numpy as np
import pytest
import torch
from graphs_by_hand import Hand, edges_by_definition, random_graph
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from torch import nn

from espalier.errors import ConfigurationError, DataError
from espalier.graphs import Layer, LayerGraph, layer_graph
from espalier.topology import csr_kernels, degrees, motifs_of_csr, neighbours, spectra
from espalier.topology import topometrics as function
from espalier.topology.explicit import connected_sets, explicit_measures, two_hop_mean
from espalier.topology.topometrics import (
    ALIASES,
    NAMES,
    REDUNDANT,
    SIZES,
    TOPOMETRICS,
    layer_topometrics,
    topometrics,
    topometrics_report,
)

# The random networks as modules are with the tests of the graphs.
sys.path.append(str(Path(__file__).parents[1] / "graphs"))
from linearised_nets import RandomNet, random_masks, random_nets

Edges = dict[tuple[int, int], float]


def by_igraph(
    parts: list[int], edges: Edges, convention: str = "definition"
) -> dict[str, float | int]:
    """Every topometric, raw, by igraph and dense linear algebra."""
    nodes, first, last = sum(parts), parts[0], parts[-1]
    graph = igraph.Graph(nodes, list(edges), directed=True)
    undirected = igraph.Graph(nodes, list(edges))
    weights = np.zeros((nodes, nodes))
    for (u, v), weight in edges.items():
        weights[u, v] = weights[v, u] = abs(weight)
    into, out = np.array(graph.indegree()), np.array(graph.outdegree())
    sinks, sources = (out == 0) & (into > 0), (into == 0) & (out > 0)
    node = np.arange(nodes)
    values = np.linalg.eigvalsh(weights)
    # Iteration from one vector finds an eigenvalue once, however often it occurs.
    step = np.diff(values, prepend=-np.inf) > 1e-9 * max(values[-1], 1e-300)
    found = values[step] if nodes > spectra.DENSE_NODES else values
    magnitudes = np.append(np.sort(np.abs(found))[::-1], [0.0, 0.0])
    if convention == "definition":
        inner_sinks, inner_sources = sinks & (node < nodes - last), sources & (node >= first)
        local = (inner_sinks.sum(), inner_sources.sum())
        removable = (out[inner_sources].sum(), into[inner_sinks].sum())
        below = values[values < values[-1] - 1e-9 * max(values[-1], 1e-300)]
        gap = values[-1] - below[-1] if below.size else 0.0
    else:
        local = (sinks.sum() - last, sources.sum() - first)
        removable = (
            into[sinks & (node < nodes - 1 - last)].sum(),
            out[sources & (node > first)].sum(),
        )
        gap = magnitudes[0] - magnitudes[2]
    laplacian = np.diag(weights.sum(axis=1)) - weights
    components = len(undirected.connected_components())
    return {
        "nodes": nodes,
        "edges": len(edges),
        "sink_nodes": int(local[0]),
        "source_nodes": int(local[1]),
        "disc_nodes": int(((into == 0) & (out == 0)).sum()),
        "r-out": int(removable[0]),
        "r-in": int(removable[1]),
        "1-hop_nei": float(np.mean(graph.neighborhood_size(order=1, mode="out"))),
        "2-hop_nei": float(np.mean(graph.neighborhood_size(order=2, mode="out"))),
        "motif": undirected.motifs_randesu_no(4) if nodes > 3 else 0,
        "motif3": undirected.motifs_randesu_no(3) if nodes > 2 else 0,
        "k-core": float(np.mean(undirected.coreness())),
        "avg_node_strength": weights.sum() / nodes,
        "no_connected_components": components,
        "mean_connected_components": nodes / components,
        "cut-edges": len(undirected.bridges()),
        "cut-nodes": len(undirected.articulation_points()),
        "spectral_gap": gap,
        "spectral_radius": float(np.linalg.eigvalsh(laplacian)[-1]),
    }


def agree(found: dict[str, float], expected: dict[str, float | int]) -> None:
    scale = max(1.0, expected["spectral_radius"])
    for name, value in expected.items():
        if isinstance(value, int):
            assert found[name] == value and isinstance(found[name], int), name
        elif name.startswith("spectral"):
            assert found[name] == pytest.approx(value, abs=1e-6 * scale), name
        else:
            assert found[name] == pytest.approx(value, rel=1e-6, abs=1e-12), name


def sizes_of(graph: LayerGraph) -> list[int]:
    return [part.nodes for part in graph.parts]


def small_graph(seed: int = 3) -> LayerGraph:
    return random_graph(seed, density=0.5)


# -- every metric against igraph and dense linear algebra -----------------------------------------


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["definition", "published"]))
def test_graphs_by_hand_equal_igraph(seed: int, convention: str) -> None:
    graph = random_graph(seed)
    expected = by_igraph(sizes_of(graph), edges_by_definition(graph), convention)
    for method in ("auto", "explicit"):
        report = topometrics_report(
            graph, names=NAMES, convention=convention, normalise=False, method=method
        )
        agree({name: found.value for name, found in report.items()}, expected)


@settings(max_examples=100, deadline=None)
@given(random_nets(), st.integers(0, 1 << 30), st.booleans(), st.booleans())
def test_traced_networks_equal_igraph(
    net: RandomNet, seed: int, padding_nodes: bool, identity: bool
) -> None:
    torch.manual_seed(seed)
    masks = random_masks(net, seed)
    graph = layer_graph(
        net, net.input_shape, masks, padding_nodes=padding_nodes, identity_shortcuts=identity
    )
    jacobian = net.adjacency(masks, padding_nodes, identity)
    rows, columns = np.nonzero(jacobian)
    edges = {(u, v): jacobian[u, v] for u, v in zip(rows.tolist(), columns.tolist(), strict=True)}
    agree(topometrics(graph, names=NAMES, normalise=False), by_igraph(sizes_of(graph), edges))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.floats(0, 1), st.integers(0, 1 << 30))
def test_connected_sets_of_any_graph(nodes: int, density: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    dense = np.triu(rng.random((nodes, nodes)) < density, 1)
    adjacency = sparse.csr_array(dense.astype(np.float64))
    counted = connected_sets(csr_kernels.undirected(adjacency))
    expected = motifs_of_csr(adjacency)
    assert (counted.path, counted.triangle) == (expected.path, expected.triangle)
    assert counted.four == expected.four
    assert counted.four is not None
    undirected = igraph.Graph(nodes, np.argwhere(dense).tolist())
    if nodes > 3:
        assert counted.four.total == undirected.motifs_randesu_no(4)
    assert two_hop_mean(adjacency) == expected.two_hop_mean
    assert connected_sets(csr_kernels.undirected(adjacency), four=False).four is None


# -- what is asked for, once ----------------------------------------------------------------------


def test_the_default_is_the_published_columns_in_order() -> None:
    found = topometrics(small_graph())
    assert list(found) == ["nodes", "edges", *TOPOMETRICS]
    assert len(TOPOMETRICS) == 16
    assert function is topometrics


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(NAMES), unique=True, max_size=5), st.booleans())
def test_a_subset_has_the_values_of_the_whole(names: list[str], normalise: bool) -> None:
    graph = small_graph()
    whole = topometrics(graph, names=NAMES, normalise=normalise)
    assert topometrics(graph, names=names, normalise=normalise) == {n: whole[n] for n in names}


def test_one_name_need_not_be_in_a_list() -> None:
    assert list(topometrics(small_graph(), names="k-core")) == ["k-core"]


def test_aliases_have_the_value_of_their_column() -> None:
    found = topometrics(small_graph(), names=NAMES)
    for alias, name in ALIASES.items():
        assert found[alias] == found[name]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often each costly step is taken."""
    from espalier.topology import cores, motifs, traversal

    counted: dict[str, int] = {}

    def count(module: Any, name: str) -> None:
        original = getattr(module, name)

        def counting(*arguments: Any, **options: Any) -> Any:
            counted[name] = counted.get(name, 0) + 1
            return original(*arguments, **options)

        monkeypatch.setattr(module, name, counting)

    count(degrees, "degree_fields")
    count(degrees, "strength_fields")
    count(motifs, "subgraph_counts")
    count(neighbours, "neighbours")
    count(traversal, "connectivity")
    count(cores, "cores")
    count(spectra, "spectral_gap")
    count(spectra, "spectral_radius")
    return counted


def test_shared_results_are_computed_once(calls: dict[str, int]) -> None:
    topometrics(small_graph(), names=NAMES)
    assert calls == dict.fromkeys(calls, 1)
    assert len(calls) == 8


@pytest.mark.parametrize(
    ("names", "steps"),
    [
        (["sink_nodes", "r-in", "1-hop_nei"], {"degree_fields"}),
        (["motif", "2-hop_nei"], {"degree_fields", "subgraph_counts"}),
        (["cut-edges", "clusters"], {"degree_fields", "neighbours", "connectivity"}),
        (["k-core"], {"degree_fields", "neighbours", "cores"}),
        (["spectral_radius"], {"spectral_radius"}),
        (["avg_node_strength"], {"degree_fields", "strength_fields"}),
        ([], set()),
    ],
)
def test_nothing_else_is_computed(names: list[str], steps: set[str], calls: dict[str, int]) -> None:
    topometrics(small_graph(), names=names)
    assert set(calls) == steps


# -- normalisation --------------------------------------------------------------------------------


def test_published_normalisation() -> None:
    graph = small_graph(11)
    raw, found = topometrics(graph, normalise=False), topometrics(graph)
    nodes, edges = raw["nodes"], raw["edges"]
    by_nodes = {"sink_nodes", "source_nodes", "disc_nodes", "mean_connected_components"}
    as_they_are = {*SIZES, "no_connected_components", "spectral_gap", "spectral_radius"}
    for name in raw:
        divisor = 1 if name in as_they_are else nodes if name in by_nodes else edges
        assert found[name] == raw[name] / divisor, name


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_redundant_columns_follow_from_the_others(seed: int) -> None:
    found = topometrics(random_graph(seed, density=0.5))
    assert set(REDUNDANT) <= set(found)
    for name, formula in REDUNDANT.items():
        assert found[name] == pytest.approx(eval(formula, dict(found)), rel=1e-12)


def test_no_edges() -> None:
    graph = random_graph(2, density=0.0)
    for method in ("auto", "explicit"):
        raw = topometrics(graph, normalise=False, method=method)
        assert raw["edges"] == raw["motif"] == raw["k-core"] == raw["spectral_radius"] == 0
        assert raw["1-hop_nei"] == 1
        assert raw["no_connected_components"] == raw["disc_nodes"] == raw["nodes"]
        found = topometrics(graph, method=method)
        assert np.isnan(found["1-hop_nei"])
        assert found["mean_connected_components"] == pytest.approx(1 / graph.nodes)


# -- exactness and the ways to it -----------------------------------------------------------------


def test_the_report_tells_how() -> None:
    graph = small_graph()
    report = topometrics_report(graph, names=NAMES)
    for name, found in report.items():
        assert found.method == "edge-free"
        assert found.exact is not name.startswith("spectral")
        assert (found.residual is None) is found.exact
    explicit = topometrics_report(graph, names=NAMES, method="explicit")
    assert {found.method for found in explicit.values()} == {"explicit"}
    for name, found in report.items():
        assert explicit[name].value == pytest.approx(found.value, rel=1e-6, abs=1e-9)


def four_adjacent_parts() -> LayerGraph:
    """Each part reads all parts before it."""
    rng = np.random.default_rng(0)
    hand = Hand(2, 3, 3)
    views = [hand.input]
    for _ in range(3):
        weight = rng.normal(size=(2, 2 * len(views), 1, 1))
        views.append(hand.conv(views, weight, rng.random(weight.shape) < 0.9))
    return hand.graph()


def test_cliques_of_four_nodes_need_edges() -> None:
    graph = four_adjacent_parts()
    report = topometrics_report(graph, names=NAMES, normalise=False)
    assert {n for n, found in report.items() if found.method == "explicit"} == {"motif", "motif4"}
    expected = by_igraph(sizes_of(graph), edges_by_definition(graph))
    agree({name: found.value for name, found in report.items()}, expected)
    counts = motifs_of_csr(sparse.csr_array(to_csr(graph))).four
    assert counts is not None and counts.clique > 0


def to_csr(graph: LayerGraph) -> sparse.csr_array:
    edges = edges_by_definition(graph)
    rows, columns = np.array(list(edges)).T
    shape = (graph.nodes, graph.nodes)
    return sparse.coo_array((list(edges.values()), (rows, columns)), shape=shape).tocsr()


def test_what_would_still_run_is_named_before_memory_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = sys.modules["espalier.topology.topometrics"]

    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError("the graph was encoded")

    monkeypatch.setattr(module, "encode", refuse)
    with pytest.raises(ConfigurationError) as caught:
        topometrics(four_adjacent_parts(), max_bytes=1000)
    message = str(caught.value)
    assert message.startswith("motif need")
    still = message.split("ask only for ")[1]
    for name in {*SIZES, *TOPOMETRICS} - {"motif"}:
        assert name in still
    with pytest.raises(ConfigurationError, match=r"Raise max_bytes$"):
        topometrics(four_adjacent_parts(), names=["motif"], max_bytes=1000)
    assert topometrics(four_adjacent_parts(), names=["2-hop_nei", "motif3"], max_bytes=0)


def test_explicit_measures_fit_by_their_own_needs() -> None:
    graph = small_graph()
    edges = len(edges_by_definition(graph))
    limit = 60 * edges + 60 * graph.nodes
    with pytest.raises(ConfigurationError) as caught:
        topometrics(graph, method="explicit", max_bytes=limit)
    assert str(caught.value).startswith("spectral_gap, spectral_radius need")
    assert str(caught.value).endswith("or use method 'auto'")
    names = str(caught.value).split("ask only for ")[1].split(":")[0].split(", ")
    found = topometrics(graph, names=names, method="explicit", max_bytes=limit)
    assert found == {n: v for n, v in topometrics(graph).items() if n in names}


def test_an_edge_that_is_listed_twice() -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1), nn.MaxPool2d(2, 1), nn.Flatten(), nn.Linear(9, 1)
    )
    graph = layer_graph(model, (1, 4, 4), convention="published")
    for name in ("cut-edges", "k-core"):
        with pytest.raises(DataError, match=r"repeat an edge; (bridges|coreness)"):
            topometrics(graph, names=[name])
    others = [name for name in TOPOMETRICS if name not in ("cut-edges", "k-core")]
    found = topometrics(graph, names=("edges", *others), normalise=False)
    assert found["edges"] == 16 + 16 + 32
    assert found["1-hop_nei"] == pytest.approx(1 + found["edges"] / graph.nodes, rel=1e-12)


# -- rolled ---------------------------------------------------------------------------------------


def rolled_net() -> LayerGraph:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.Conv2d(4, 4, 3, groups=2), nn.Flatten(), nn.Linear(16, 3)
    )
    masks = {
        name: torch.rand(weight.shape) < 0.6
        for name, weight in model.named_parameters()
        if weight.dim() > 1
    }
    return layer_graph(model, (2, 6, 6), masks)


def layer_edges(layer: Layer, kind: str) -> tuple[list[int], Edges]:
    outputs, inputs, height, width = layer.mask.shape
    per_group = outputs // layer.groups
    taps = height * width if kind == "rolled" else 1
    left = inputs * layer.groups * taps
    edges: Edges = {}
    for o, c, y, x in np.argwhere(layer.mask).tolist():
        channel = o // per_group * inputs + c
        place = (y * width + x) if kind == "rolled" else 0
        key = (channel * taps + place, left + o)
        edges[key] = np.hypot(edges.get(key, 0.0), layer.weight[o, c, y, x])
    return [left, outputs], edges


@pytest.mark.parametrize("kind", ["rolled", "rolled-channel"])
def test_layers_equal_igraph(kind: str) -> None:
    graph = rolled_net()
    found = layer_topometrics(graph, kind, names=NAMES, normalise=False)
    assert list(found) == [layer.name for layer in graph.layers]
    for layer in graph.layers:
        expected = by_igraph(*layer_edges(layer, kind))
        values = found[layer.name]
        # Motifs of rolled encodings are of three nodes, as in the paper.
        assert values["motif4"] == expected.pop("motif")
        assert values["motif"] == values["motif3"]
        agree(values, expected)
        assert values["2-hop_nei"] == values["1-hop_nei"]
        assert values["sink_nodes"] == values["source_nodes"] == values["r-in"] == 0


@pytest.mark.parametrize("kind", ["rolled", "rolled-channel"])
@pytest.mark.parametrize("normalise", [True, False])
def test_a_network_is_the_mean_of_its_layers(kind: str, normalise: bool) -> None:
    graph = rolled_net()
    layers = list(layer_topometrics(graph, kind, normalise=normalise).values())
    report = topometrics_report(graph, kind, normalise=normalise)
    for name, found in report.items():
        values = [layer[name] for layer in layers]
        expected = sum(values) if name in SIZES else np.mean(values)
        assert found.value == pytest.approx(expected, rel=1e-12)
        assert found.method == "explicit"
        assert (found.residual is not None) is name.startswith("spectral")


def test_an_empty_layer_counts_as_zero() -> None:
    graph = rolled_net()
    first = graph.layers[0]
    empty = replace(first, mask=np.zeros_like(first.mask))
    graph = replace(graph, layers=(empty, *graph.layers[1:]))
    layers = list(layer_topometrics(graph, "rolled").values())
    assert np.isnan(layers[0]["1-hop_nei"])
    expected = (layers[1]["1-hop_nei"] + layers[2]["1-hop_nei"]) / 3
    assert topometrics(graph, "rolled")["1-hop_nei"] == pytest.approx(expected, rel=1e-12)


# -- bad input ------------------------------------------------------------------------------------


def test_unknown_names() -> None:
    graph = small_graph()
    with pytest.raises(
        ConfigurationError, match=r"unknown topometric 'motifs'\. Did you mean 'motif"
    ):
        topometrics(graph, names=["nodes", "motifs"])
    with pytest.raises(
        ConfigurationError, match=r"unknown encoding 'roled'\. Did you mean 'rolled'"
    ):
        topometrics(graph, "roled")
    with pytest.raises(ConfigurationError, match="unknown convention 'publshed'"):
        topometrics(graph, convention="publshed")
    with pytest.raises(ConfigurationError, match="unknown method"):
        topometrics(graph, method="edges")
    with pytest.raises(ConfigurationError, match="use kind 'rolled'"):
        layer_topometrics(graph, "unrolled")
    with pytest.raises(DataError, match="no layers"):
        topometrics(graph, "rolled")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite(value: float) -> None:
    graph = rolled_net()
    block = graph.blocks[1]
    weight = block.weight.copy()
    place = tuple(np.argwhere(block.mask)[0])
    weight[place] = value
    spoilt = replace(
        graph, blocks=(graph.blocks[0], replace(block, weight=weight), *graph.blocks[2:])
    )
    with pytest.raises(DataError, match=r"'1\.weight' has weights that are not finite"):
        topometrics(spoilt, names=["k-core"])
    masked = replace(block, weight=weight, mask=block.mask & np.isfinite(weight))
    assert topometrics(replace(graph, blocks=(graph.blocks[0], masked, *graph.blocks[2:])))
    layer = replace(graph.layers[1], weight=weight)
    spoilt = replace(graph, layers=(graph.layers[0], layer, graph.layers[2]))
    with pytest.raises(DataError, match=r"'1\.weight' has weights that are not finite"):
        topometrics(spoilt, "rolled")
    adjacency = sparse.csr_array(np.array([[0, value], [0, 0]]))
    with pytest.raises(DataError, match="not finite"):
        explicit_measures(graph, adjacency)


def test_weights_beyond_the_public_codes_float16() -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False))
    with torch.no_grad():
        model[0].weight.fill_(1e6)
    published = layer_graph(model, (1, 2, 2), convention="published")
    with pytest.raises(DataError, match="float16"):
        topometrics(published, convention="published")
    assert topometrics(layer_graph(model, (1, 2, 2)))["edges"] == 4


def test_a_layer_over_the_limit() -> None:
    with pytest.raises(ConfigurationError, match=r"layer '0\.weight'.*over the limit"):
        topometrics(rolled_net(), "rolled", max_bytes=100)
