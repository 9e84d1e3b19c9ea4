from __future__ import annotations

import gzip
import sys
from pathlib import Path

import igraph
import networkx
import numpy as np
import pytest
from linearised_nets import golden_net
from scipy.sparse import coo_array

from espalier.errors import ConfigurationError, DataError, MissingDependencyError
from espalier.graphs import (
    LayerGraph,
    encode,
    layer_graph,
    read_encoding,
    read_layer_graph,
    to_graph_tool,
    to_igraph,
    to_networkit,
    to_networkx,
    write_edge_list,
    write_encoding,
    write_layer_graph,
    write_layer_graphml,
)


@pytest.fixture(params=["definition", "published"])
def graph(request: pytest.FixtureRequest) -> LayerGraph:
    return layer_graph(*golden_net("tiny_res_s2_09"), convention=request.param)


def coordinates(graph: LayerGraph) -> list[tuple[int, int, float]]:
    matrix = encode(graph).tocoo()
    return list(zip(matrix.row.tolist(), matrix.col.tolist(), matrix.data.tolist(), strict=True))


def test_implicit_form_reads_back(tmp_path: Path) -> None:
    model, shape, masks = golden_net("tiny_res_s2_09")
    graph = layer_graph(model, shape, masks, identity_shortcuts=True)
    write_layer_graph(tmp_path / "graph.npz", graph)
    again = read_layer_graph(tmp_path / "graph.npz")
    assert again.parts == graph.parts
    assert (encode(graph) != encode(again)).nnz == 0
    for kind in ("rolled", "rolled-channel"):
        before, after = encode(graph, kind), encode(again, kind)
        assert list(before) == list(after)
        assert all((before[name] != after[name]).nnz == 0 for name in before)
    assert [b.kind for b in again.blocks] == [b.kind for b in graph.blocks]


def test_implicit_form_is_of_the_definition(tmp_path: Path) -> None:
    graph = layer_graph(*golden_net("tiny_s2_09"), convention="published")
    with pytest.raises(ConfigurationError, match="write_encoding"):
        write_layer_graph(tmp_path / "graph.npz", graph)


def test_explicit_form_reads_back(graph: LayerGraph, tmp_path: Path) -> None:
    write_encoding(tmp_path / "graph.npz", graph)
    pairs = read_encoding(tmp_path / "graph.npz")
    found = set()
    for (source, target), matrix in pairs.items():
        place = matrix.tocoo()
        first = 0 if source < 0 else int(graph.offsets[source])
        second = 0 if target < 0 else int(graph.offsets[target])
        found |= set(
            zip(
                (place.row + first).tolist(),
                (place.col + second).tolist(),
                place.data.tolist(),
                strict=True,
            )
        )
    assert found == set(coordinates(graph))


def test_reading_something_else(tmp_path: Path) -> None:
    graph = layer_graph(*golden_net("tiny_s2_09"))
    write_encoding(tmp_path / "edges.npz", graph, weighted=False)
    with pytest.raises(DataError, match="holds no layer graph; it says 'encoding'"):
        read_layer_graph(tmp_path / "edges.npz")
    with pytest.raises(DataError, match="does not exist"):
        read_encoding(tmp_path / "none.npz")
    assert {*read_encoding(tmp_path / "edges.npz")[0, 1].data.tolist()} == {1.0}


def test_edge_list(graph: LayerGraph, tmp_path: Path) -> None:
    write_edge_list(tmp_path / "edges.txt", graph)
    source, target, weight = np.loadtxt(tmp_path / "edges.txt", ndmin=2).T
    shape = (graph.nodes, graph.nodes)
    ends = (source.astype(int), target.astype(int))
    matrix = coo_array((weight.astype(np.float32), ends), shape=shape).tocsr()
    assert (matrix != encode(graph)).nnz == 0


@pytest.mark.parametrize("ending", ["graphml", "graphml.gz"])
def test_graphml_reads_in_igraph_and_networkx(tmp_path: Path, ending: str) -> None:
    graph = layer_graph(*golden_net("tiny_s2_09"))
    path = tmp_path / f"graph.{ending}"
    write_layer_graphml(path, graph)
    text = gzip.decompress(path.read_bytes()) if ending.endswith("gz") else path.read_bytes()
    (tmp_path / "plain.graphml").write_bytes(text)
    ours = coordinates(graph)
    read = igraph.Graph.Read_GraphML(str(tmp_path / "plain.graphml"))
    assert read.vcount() == graph.nodes
    assert read.is_directed()
    weights = np.array(read.es["weight"], np.float32).tolist()
    edges = [(*edge, weight) for edge, weight in zip(read.get_edgelist(), weights, strict=True)]
    assert sorted(edges) == sorted(ours)
    by_networkx = networkx.read_graphml(tmp_path / "plain.graphml")
    assert by_networkx.number_of_edges() == len(ours)
    part = graph.parts[1]
    node = by_networkx.nodes[f"n{int(graph.offsets[1]) + part.height * part.width + 1}"]
    assert node == {"part": 1, "channel": 1, "row": 0, "column": 1}


def test_equal_graphs_are_equal_files(tmp_path: Path) -> None:
    writers = {
        "a.graphml.gz": write_layer_graphml,
        "a.txt.gz": write_edge_list,
        "implicit.npz": write_layer_graph,
        "explicit.npz": write_encoding,
    }
    for name, write in writers.items():
        write(tmp_path / "one" / name, layer_graph(*golden_net("tiny_s2_09")))
        write(tmp_path / "two" / f"{name}", layer_graph(*golden_net("tiny_s2_09")))
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_networkx_and_igraph(graph: LayerGraph) -> None:
    ours = coordinates(graph)
    by_networkx, by_igraph = to_networkx(graph), to_igraph(graph)
    assert type(by_networkx) is networkx.DiGraph
    assert sorted(by_networkx.edges(data="weight")) == ours
    found = zip(by_igraph.get_edgelist(), by_igraph.es["weight"], strict=True)
    assert sorted((*edge, weight) for edge, weight in found) == ours
    parts = np.repeat(np.arange(len(graph.parts)), np.diff(graph.offsets)).tolist()
    assert by_igraph.vs["part"] == parts
    assert [part for _, part in by_networkx.nodes(data="part")] == parts


@pytest.mark.parametrize(
    ("convert", "package"),
    [
        (to_networkx, "networkx"),
        (to_igraph, "igraph"),
        (to_graph_tool, "graph_tool"),
        (to_networkit, "networkit"),
    ],
)
def test_a_missing_package_is_named(convert, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    graph = layer_graph(*golden_net("tiny_s2_09"))
    with pytest.raises(MissingDependencyError, match=f"{package} is not installed; .*install"):
        convert(graph)


def test_limits_hold_for_exports(tmp_path: Path) -> None:
    graph = layer_graph(*golden_net("tiny_s2_09"))
    with pytest.raises(ConfigurationError, match="max_bytes=10"):
        write_edge_list(tmp_path / "edges.txt", graph, max_bytes=10)
    assert not list(tmp_path.iterdir())
