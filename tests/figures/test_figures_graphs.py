from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from figure_fixtures import CIFAR20, FASHION, activation_graph, assert_no_overlap, caption
from scipy import sparse

from espalier.errors import ConfigurationError, DataError
from espalier.figures.coactivation import (
    coactivation_graph,
    force_layout,
    keep_apart,
    layer_colours,
    strongest_edges,
)
from espalier.figures.radial import block_paths, radial_hierarchy
from espalier.figures.style import OUTPUT_COLOUR, save


@pytest.fixture(scope="module")
def fashion():
    return activation_graph()


@pytest.fixture(scope="module")
def cifar():
    return activation_graph(class_names=CIFAR20, constant=20)


def names_in(figure):
    return [text for text in figure.axes[0].texts if text.get_text()]


def test_bytes_are_equal_on_repeat(tmp_path, fashion):
    graph, levels = fashion
    for name in "ab":
        for kind, figure in (
            ("graph", coactivation_graph(graph, iterations=30)),
            ("radial", radial_hierarchy(levels, graph)),
        ):
            save(figure, tmp_path / f"{kind}_{name}.svg")
            save(figure, tmp_path / f"{kind}_{name}.png")
    for first in tmp_path.glob("*_a.*"):
        second = tmp_path / first.name.replace("_a.", "_b.")
        assert first.read_bytes() == second.read_bytes(), first.name
    assert len(list(tmp_path.iterdir())) == 8


@pytest.mark.parametrize("which", ["fashion", "cifar"])
def test_every_class_is_named_once_without_overlap(which, request):
    graph, levels = request.getfixturevalue(which)
    figure = coactivation_graph(graph, iterations=60)
    assert [text.get_text() for text in names_in(figure)] == list(graph.class_names)
    assert_no_overlap(figure, names_in(figure))
    radial = radial_hierarchy(levels, graph)
    assert [text.get_text() for text in names_in(radial)] == list(graph.class_names)
    # Rotated names: none leaves the page.
    renderer = radial.canvas.get_renderer()
    boxes = [text.get_window_extent(renderer) for text in names_in(radial)]
    assert min(box.x0 for box in boxes) >= 0
    assert max(box.x1 for box in boxes) <= radial.bbox.x1


def test_legend_and_caption_count_units_and_edges(fashion):
    graph, levels = fashion
    figure = coactivation_graph(graph, max_edges=100, iterations=5)
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["conv1 (32)", "conv2 (64)", "fc1 (64)", "fc2 (32)", "output (10)"]
    assert f"The 100 strongest of {graph.n_edges:,} edges are drawn" in caption(figure)
    alone = int((np.diff(graph.adjacency.indptr) == 0).sum())
    assert f"{alone} units stand without edges" in caption(figure)
    assert "192 hidden, 10 outputs" in caption(figure)
    figure = coactivation_graph(graph, max_edges=10**6, iterations=5)
    assert f"All {graph.n_edges:,} edges are drawn" in caption(figure)
    assert "15 → 5 → 2 → 1" in caption(radial_hierarchy(levels, graph))


def test_the_drawn_edges_are_the_strongest(fashion):
    graph, _ = fashion
    rows, columns, weights = strongest_edges(graph.adjacency, 50)
    every = np.sort(graph.edges()[2])
    assert weights == pytest.approx(every[-50:])
    assert np.asarray(graph.adjacency[rows, columns]).ravel() == pytest.approx(weights)
    figure = coactivation_graph(graph, max_edges=50, iterations=5)
    edges = next(c for c in figure.axes[0].collections if c.get_gid() == "edges")
    assert len(edges.get_segments()) == 50


def test_edges_of_weight_zero_count_as_edges():
    adjacency = sparse.csr_array(
        (np.array([0.0, 0.0, 1.0, 1.0]), np.array([1, 0, 3, 2]), np.array([0, 1, 2, 3, 4])),
        shape=(4, 4),
    )
    rows, columns, weights = strongest_edges(adjacency, 10)
    assert list(zip(rows.tolist(), columns.tolist(), weights.tolist(), strict=True)) == [
        (0, 1, 0.0),
        (2, 3, 1.0),
    ]


def test_layout_is_seeded_and_keeps_groups_together():
    group = np.repeat([0, 1, 2], 20)
    rng = np.random.default_rng(0)
    chance = np.where(group[:, None] == group, 0.6, 0.02)
    drawn = np.triu(rng.random((60, 60)) < chance, 1).astype(float)
    adjacency = sparse.csr_array(drawn + drawn.T)
    points = force_layout(adjacency, seed=1)
    assert np.array_equal(points, force_layout(adjacency, seed=1))
    assert not np.array_equal(points, force_layout(adjacency, seed=2))
    centres = np.array([points[group == k].mean(axis=0) for k in range(3)])
    nearest = np.linalg.norm(points[:, None] - centres, axis=2).argmin(axis=1)
    assert (nearest == group).mean() > 0.95
    assert np.ptp(points[:, 0]) >= 0.8 * np.ptp(points[:, 1])
    assert np.sqrt((points**2).sum(axis=1).mean()) == pytest.approx(1)


def test_keep_apart_removes_overlap_and_moves_nothing_else():
    points = np.array([[0.0, 0.0], [0.0, 0.0], [0.1, 0.0], [5.0, 5.0]])
    moved = keep_apart(points, np.full(4, 0.2), rounds=200)
    distance = np.linalg.norm(moved[:, None] - moved, axis=2) + np.eye(4)
    assert distance.min() >= 0.4 - 0.01
    assert np.array_equal(moved[3], points[3])


def test_layer_colours_are_distinct_and_outputs_stand_out(fashion):
    graph, _ = fashion
    colours = layer_colours(graph)
    assert len(set(colours.values())) == 5
    assert colours[4] == OUTPUT_COLOUR
    deep, _ = activation_graph(widths=(4,) * 12, constant=1)
    assert len(set(layer_colours(deep).values())) == 13


def test_a_graph_without_edges_is_drawn(fashion):
    graph, levels = fashion
    empty = replace(graph, adjacency=sparse.csr_array(graph.adjacency.shape))
    figure = coactivation_graph(empty)
    assert "All 0 edges" in caption(figure)
    assert {text.get_text() for text in names_in(figure)} == set(FASHION)
    assert "all 0 edges" in caption(radial_hierarchy(levels, empty))


def test_block_paths_follow_occupied_blocks_only():
    # Block numbers have gaps; the unused entries of level 1 must not count.
    paths = block_paths([[5, 5, 2, 0], [1, 9, 1, 9, 9, 0], [0, 0], [0]], 4)
    assert paths.tolist() == [[5, 0, 0], [5, 0, 0], [2, 1, 0], [0, 1, 0]]
    # Levels that repeat a single block end the path; without one, a root is added.
    assert block_paths([[0, 0], [0], [0]], 2).tolist() == [[0], [0]]
    assert block_paths([[0, 1]], 2).tolist() == [[0, 0], [1, 0]]


def test_blocks_are_neighbours_on_the_rim(fashion):
    graph, levels = fashion
    figure = radial_hierarchy(levels, graph)
    arcs = next(c for c in figure.axes[0].collections if c.get_gid() == "blocks").get_segments()
    assert len(arcs) == len(np.unique(levels[0]))
    spans = []
    for arc in arcs:
        angle = np.unwrap(np.arctan2(arc[:, 1], arc[:, 0]))
        spans.append(np.ptp(angle))
    assert sum(spans) < 2 * np.pi
    tree = next(c for c in figure.axes[0].collections if c.get_gid() == "tree").get_segments()
    assert len(tree) == 15 + 5 + 2


def test_straight_chords_join_the_nodes(fashion):
    graph, levels = fashion
    figure = radial_hierarchy(levels, graph, bundling=0.0, max_edges=20)
    edges = next(c for c in figure.axes[0].collections if c.get_gid() == "edges").get_segments()
    for curve in edges:
        assert np.linalg.norm(curve[[0, -1]], axis=1) == pytest.approx([1, 1])
        along = curve[-1] - curve[0]
        offset = curve - curve[0]
        assert np.abs(along[0] * offset[:, 1] - along[1] * offset[:, 0]).max() < 1e-9


def test_bad_input_is_named(fashion):
    graph, levels = fashion
    with pytest.raises(DataError, match="no levels"):
        radial_hierarchy([], graph)
    with pytest.raises(DataError, match=r"level 0 gives blocks to 3 nodes, but .* graph has 202"):
        radial_hierarchy([[0, 0, 0]], graph)
    with pytest.raises(DataError, match="level 1 has 2 entries, but level 0 uses the blocks 0 to"):
        radial_hierarchy([levels[0], [0, 0]], graph)
    with pytest.raises(ConfigurationError, match="bundling in 0 to 1"):
        radial_hierarchy(levels, graph, bundling=1.5)
    with pytest.raises(ConfigurationError, match="max_edges"):
        coactivation_graph(graph, max_edges=0)
    broken = SimpleNamespace(
        adjacency=graph.adjacency, layer=graph.layer, neuron=graph.neuron[:5], label=graph.label,
        output_nodes=graph.output_nodes,
    )  # fmt: skip
    with pytest.raises(DataError, match="202 nodes but 5 entries in 'neuron'"):
        coactivation_graph(broken)
    nothing = SimpleNamespace(adjacency=sparse.csr_array((0, 0)), output_nodes=np.array([]))
    with pytest.raises(DataError, match="no nodes"):
        coactivation_graph(nothing)
