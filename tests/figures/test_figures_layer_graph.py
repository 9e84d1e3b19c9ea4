from __future__ import annotations

import numpy as np
import pytest
import torch
from figure_fixtures import assert_no_overlap, caption, legend
from torch import nn

from espalier.errors import ConfigurationError, DataError
from espalier.figures.drawing import draw_topology
from espalier.figures.layer_graph import _sampled_edges, degree_distributions, draw_layer_graph
from espalier.figures.style import save
from espalier.graphs import encode, layer_graph, write_layer_graph
from espalier.models import build
from espalier.pruning import prune
from espalier.seeds import numpy_generator
from espalier.topology.degrees import degree_fields, disconnected_mask, local_counts


@pytest.fixture(scope="module")
def graph():
    model = build("resnet8", 10, (1, 8, 8), width=0.25, seed=0)
    return layer_graph(model, (1, 8, 8), prune("uniform", model, [], 0.97, seed=0))


class Branches(nn.Module):
    """Groups, a stride, a slice and a shortcut of two parts: blocks with both offsets."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, padding=1)
        self.grouped = nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2)
        self.side = nn.Conv2d(3, 2, 1, stride=2)
        self.deep = nn.Sequential(nn.Conv2d(8, 5, 1), nn.Conv2d(5, 8, 3, padding=1))
        self.last = nn.Linear(8, 3)

    def forward(self, inputs):
        features = torch.relu(self.first(inputs))
        both = torch.cat([self.grouped(features), self.side(features[:, 1:])], dim=1)
        both = both + self.deep(both)
        return self.last(nn.functional.adaptive_avg_pool2d(both, 1).flatten(1))


@pytest.fixture(scope="module")
def branches():
    torch.manual_seed(0)
    model = Branches()
    generator = torch.Generator().manual_seed(0)
    masks = {
        name: torch.rand(parameter.shape, generator=generator) < 0.5
        for name, parameter in model.named_parameters()
        if name.endswith("weight")
    }
    return layer_graph(model, (2, 7, 6), masks, identity_shortcuts=True)


def collections(figure, gid):
    return [found for found in figure.axes[0].collections if found.get_gid() == gid]


def test_all_edges_of_a_block_are_those_of_the_encoding(branches, graph):
    for network in (branches, graph):
        found = [
            _sampled_edges(network, block, 10**9, numpy_generator(0, "edges"))
            for block in network.blocks
        ]
        edges = np.concatenate(found)
        order = np.lexsort((edges[:, 1], edges[:, 0]))
        adjacency = encode(network).tocoo()
        assert np.array_equal(edges[order], np.stack([adjacency.row, adjacency.col], axis=1))
    for name in ("source_offset", "target_offset"):
        assert max(getattr(block, name) for block in branches.blocks) > 0
    assert max(block.groups for block in branches.blocks) > 1


def test_sampled_edges_are_distinct_seeded_and_spread_over_the_block(branches):
    block = max(branches.blocks, key=lambda b: int(b.mask.sum()))
    every = {tuple(e) for e in _sampled_edges(branches, block, 10**9, numpy_generator(0, "a"))}
    one = _sampled_edges(branches, block, 40, numpy_generator(0, "a"))
    assert len(one) == 40 and len({tuple(edge) for edge in one}) == 40
    assert {tuple(edge) for edge in one} < every
    assert np.array_equal(one, _sampled_edges(branches, block, 40, numpy_generator(0, "a")))
    assert not np.array_equal(one, _sampled_edges(branches, block, 40, numpy_generator(1, "a")))


def test_nodes_of_every_state_are_drawn_and_counted(graph):
    figure = draw_layer_graph(graph, edges_per_block=30)
    degrees = degree_fields(graph)
    counts = local_counts(degrees)
    expected = {
        "source": counts.source_nodes,
        "sink": counts.sink_nodes,
        "disconnected": counts.disconnected_nodes,
    }
    expected["connected"] = graph.nodes - sum(expected.values())
    assert min(expected.values()) > 0
    for state, count in expected.items():
        (drawn,) = collections(figure, state)
        assert len(drawn.get_offsets()) == count
        assert any(f"({count:,})" in words for words in legend(figure))
    places = np.concatenate([collections(figure, state)[0].get_offsets() for state in expected])
    assert len(np.unique(np.round(places, 6), axis=0)) == graph.nodes
    alone = collections(figure, "disconnected")[0].get_offsets()
    assert len(alone) == int(disconnected_mask(degrees).sum())


def test_the_caption_says_how_many_edges_are_drawn(graph):
    figure = draw_layer_graph(graph, edges_per_block=30)
    drawn = sum(len(lines.get_paths()) for lines in collections(figure, "edges"))
    edges = local_counts(degree_fields(graph)).edges
    assert drawn < edges
    assert f"{drawn:,} of {edges:,} edges are drawn, at most 30 per layer" in caption(figure)
    everything = draw_layer_graph(graph, edges_per_block=10**6)
    assert f"All {edges:,} edges are drawn" in caption(everything)
    assert len(collections(everything, "edges")) == len(graph.blocks)


def test_edges_join_their_nodes_and_shortcuts_pass_above(graph):
    figure = draw_layer_graph(graph, edges_per_block=20)
    nodes = np.concatenate(
        [
            collections(figure, state)[0].get_offsets()
            for state in ("connected", "source", "sink", "disconnected")
        ]
    )
    top = nodes[:, 1].max()
    for block, lines in zip(graph.blocks, collections(figure, "edges"), strict=True):
        skips = block.target > block.source + 1
        for path in lines.get_paths():
            corners = path.vertices
            assert len(corners) == (4 if skips else 2)
            for end in (corners[0], corners[-1]):
                assert np.abs(nodes - end).sum(axis=1).min() < 1e-9
            assert corners[0, 0] < corners[-1, 0]
            if skips:  # the middle of the Bezier curve
                assert corners[:, 1] @ [1, 3, 3, 1] / 8 > top
    assert "edge of a projection shortcut" in legend(figure)


def test_parts_are_named_without_overlap_in_the_order_of_the_network(graph):
    figure = draw_layer_graph(graph, edges_per_block=1)
    texts = figure.axes[0].texts
    assert_no_overlap(figure, texts)
    names = ["".join(text.get_text().split("\n")[:-1]) for text in texts]
    assert names == [part.name for part in graph.parts]
    assert texts[0].get_text() == "input\n1 × 10 × 10" and texts[-1].get_text() == "output\n10"
    assert [text.get_position()[0] for text in texts] == sorted(t.get_position()[0] for t in texts)
    assert len(figure.axes[0].patches) == 1 and "zero padding" in caption(figure)


def test_many_channels_take_several_columns():
    model = build("mlp-16-300-200-10", 10, (1, 4, 4), seed=0)
    figure = draw_layer_graph(layer_graph(model, (1, 4, 4)), edges_per_block=5)
    places = collections(figure, "connected")[0].get_offsets()
    assert len(np.unique(np.round(places, 6), axis=0)) == 16 + 300 + 200 + 10
    assert np.ptp(places[:, 1]) < 5


def test_graphs_that_cannot_be_drawn_are_refused(graph):
    with pytest.raises(ConfigurationError, match="1,262 nodes, more than max_nodes = 1,000"):
        draw_layer_graph(graph, max_nodes=1000)
    with pytest.raises(ConfigurationError, match="edges_per_block must be positive, not 0"):
        draw_layer_graph(graph, edges_per_block=0)
    model = build("mlp-4-6-3", 3, (1, 2, 2), seed=0)
    published = layer_graph(model, (1, 2, 2), convention="published")
    for function in (draw_layer_graph, degree_distributions):
        with pytest.raises(DataError, match="'published' convention has no blocks to draw"):
            function(published)


def test_degree_rows_say_median_and_share_without_edges(graph):
    figure = degree_distributions(graph)
    degrees = degree_fields(graph)
    labels = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    assert labels == [f"{part.name} ({part.nodes:,})" for part in graph.parts]
    for axes, fields, exempt in (
        (figure.axes[0], degrees.incoming, 0),
        (figure.axes[1], degrees.outgoing, len(graph.parts) - 1),
    ):
        texts = [text.get_text() for text in axes.texts]
        expected_medians, expected_shares = [], []
        for row, field in enumerate(fields):
            if row == exempt:
                continue
            some = field[field > 0]
            expected_medians.append(f"{np.median(some):g}")
            if len(some) < field.size:
                expected_shares.append(f"{100 * (1 - len(some) / field.size):.1f} %")
        assert [text for text in texts if text.replace(".", "").isdigit()] == expected_medians
        assert [text for text in texts if text.endswith(" %")] == expected_shares
        assert expected_shares
        assert sum("part has no" in text for text in texts) == 1
        assert len([c for c in axes.collections if c.get_gid() == "degrees"]) == len(fields) - 1
    assert f"{graph.nodes:,} nodes, {local_counts(degrees).edges:,} edges" in caption(figure)


def test_degree_areas_are_shares_of_nodes():
    """A dense layer of 8 inputs and a layer of two kinds of nodes: 6 with 1 edge, 2 with 4."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(8, 8), nn.Linear(8, 4))
    masks = {
        "1.weight": torch.ones(8, 8, dtype=torch.bool),
        "2.weight": torch.zeros(4, 8, dtype=torch.bool),
    }
    masks["2.weight"][0, :6] = True
    masks["2.weight"][:, 6:] = True
    figure = degree_distributions(layer_graph(model, (8, 1, 1), masks))
    polygons = [c for c in figure.axes[1].collections if c.get_gid() == "degrees"]
    x, y = polygons[1].get_paths()[0].vertices.T
    area = {}
    for degree in (1, 4):
        # The outline is a staircase: at the left end of a bin it goes up to the bin's height.
        height = y.max() - y[np.isclose(x, degree - 0.5)].min()
        area[degree] = height * np.log10((degree + 0.5) / (degree - 0.5))
    assert area[1] / area[4] == pytest.approx(3)
    assert len(np.unique(x)) > 4 and y.max() - y[np.isclose(x, 2.5)].min() == pytest.approx(0)


def test_bytes_are_equal_on_repeat(tmp_path, branches):
    for name in "ab":
        save(draw_layer_graph(branches, edges_per_block=50), tmp_path / f"graph_{name}.svg")
        save(degree_distributions(branches), tmp_path / f"degrees_{name}.svg")
    for kind in ("graph", "degrees"):
        first, again = ((tmp_path / f"{kind}_{name}.svg").read_bytes() for name in "ab")
        assert first == again


def test_figures_are_drawn_from_files(tmp_path, graph):
    stored = tmp_path / "graphs/digits/resnet8/uniform/0.97/seed0.npz"
    write_layer_graph(stored, graph, {"seed": 0})
    for figure in ("layer_graph", "degree_distributions"):
        draw_topology(figure, stored, [tmp_path / f"{figure}.svg"])
        assert (tmp_path / f"{figure}.svg").stat().st_size > 0
    with pytest.raises(ConfigurationError, match="unknown figure of a layer graph 'graph'"):
        draw_topology("graph", stored, [])
