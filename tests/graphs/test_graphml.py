from __future__ import annotations

import subprocess
from pathlib import Path

import networkx as nx
import numpy as np
import pytest

from espalier.errors import DataError
from espalier.graphs.coactivation import CoactivationGraph, coactivation_graph
from espalier.graphs.graphml import read_graphml, write_graphml

SYSTEM_PYTHON = Path("/usr/bin/python3")


def example(rescale: str = "linear", n_edges: int | None = None) -> CoactivationGraph:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((90, 2)) @ rng.standard_normal((2, 15))
    values += rng.standard_normal((90, 15))
    values[:, 4] = 0
    return coactivation_graph(
        values,
        layer=np.repeat([0, 1, 2], [6, 5, 4]),
        neuron=np.concatenate([np.arange(6), np.arange(5) + 2, np.arange(4)]),
        label=np.concatenate([np.full(11, -1), [0, 1, 2, 3]]),
        layer_names=("features.conv1", "dense", "output"),
        class_names=("T-shirt/Top", "coat & hat", "<bag>", "Stiefel äöü"),
        threshold=0.3,
        rescale=rescale,
        n_edges=n_edges,
    )


@pytest.mark.parametrize("graph", [example(), example("min-max"), example(n_edges=0)])
def test_round_trip_is_exact(graph, tmp_path):
    path = tmp_path / "graph.graphml"
    write_graphml(path, graph)
    again = read_graphml(path)
    for name in ("layer", "neuron", "label", "constant"):
        assert np.array_equal(getattr(again, name), getattr(graph, name))
    for name in ("indptr", "indices", "data"):
        assert np.array_equal(getattr(again.adjacency, name), getattr(graph.adjacency, name))
    assert again.layer_names == graph.layer_names
    assert again.class_names == graph.class_names


def test_equal_bytes(tmp_path):
    write_graphml(tmp_path / "a", example())
    write_graphml(tmp_path / "b", example())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_networkx_reads_it(tmp_path):
    graph = example("min-max")
    write_graphml(tmp_path / "graph.graphml", graph)
    read = nx.read_graphml(tmp_path / "graph.graphml")
    assert list(read) == [f"n{i}" for i in range(15)]
    for i, (_, data) in enumerate(read.nodes(data=True)):
        label = graph.label[i]
        assert data == {
            "layer": graph.layer[i],
            "neuron": graph.neuron[i],
            "class": "" if label < 0 else graph.class_names[label],
            "constant": graph.constant[i],
        }
    rows, columns, weights = graph.edges()
    found = {(int(a[1:]), int(b[1:])): w for a, b, w in read.edges(data="weight")}
    expected = zip(rows.tolist(), columns.tolist(), strict=True)
    assert found == dict(zip(expected, weights.tolist(), strict=True))
    assert not read.is_directed()


def test_reads_what_networkx_wrote_again(tmp_path):
    graph = example()
    write_graphml(tmp_path / "ours", graph)
    nx.write_graphml(nx.read_graphml(tmp_path / "ours"), tmp_path / "theirs")
    again = read_graphml(tmp_path / "theirs")
    assert np.array_equal(again.adjacency.toarray(), graph.adjacency.toarray())
    assert again.class_names == graph.class_names
    assert np.array_equal(again.label, graph.label)


def test_graph_tool_reads_it(tmp_path):
    if (
        not SYSTEM_PYTHON.exists()
        or subprocess.run(
            [SYSTEM_PYTHON, "-W", "ignore", "-c", "import graph_tool"], capture_output=True
        ).returncode
    ):
        pytest.skip(f"{SYSTEM_PYTHON} has no graph_tool")
    graph = example("min-max")
    path = tmp_path / "graph.graphml"
    write_graphml(path, graph)
    code = (
        "import sys, graph_tool as gt\n"
        "g = gt.load_graph(sys.argv[1])\n"
        "print(g.num_vertices(), g.num_edges(), g.is_directed())\n"
        "print(list(g.vp['layer'].a), list(g.vp['neuron'].a), sum(g.vp['constant'].a))\n"
        "print([g.vp['class'][v] for v in g.vertices()])\n"
        "print(repr(float(g.ep['weight'].a.sum())))\n"
    )
    run = subprocess.run(
        [SYSTEM_PYTHON, "-W", "ignore", "-c", code, path],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    lines = run.stdout.splitlines()
    assert lines[0] == f"15 {graph.n_edges} False"
    assert lines[1] == f"{graph.layer.tolist()} {graph.neuron.tolist()} 1"
    assert lines[2] == repr([""] * 11 + list(graph.class_names))
    assert float(lines[3]) == pytest.approx(graph.edges()[2].sum(), rel=1e-12)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("</graphml>", "", "not valid XML"),
        ('attr.name="neuron"', 'attr.name="nummer"', "lacks 'neuron'"),
        ('attr.name="weight"', 'attr.name="w"', "lacks 'weight'"),
        (">coat &amp; hat</data><data", ">hat</data><data", "lacks 'hat'"),
        ('target="n2"', 'target="n99"', "lacks 'n99'"),
        ('target="n2"', 'target="n0"', "unit 0 is joined to itself"),
        ('target="n2"', 'target="n1"', "listed twice"),
    ],
)
def test_damaged(tmp_path, old, new, message):
    path = tmp_path / "graph.graphml"
    graph = example(n_edges=104 - 13)  # every pair of the 14 units that are not constant
    write_graphml(path, graph)
    text = path.read_text(encoding="utf-8")
    assert old in text
    text = text.replace(old, new, 1)
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message) as raised:
        read_graphml(path)
    assert str(path) in str(raised.value)


def test_missing_file(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        read_graphml(tmp_path / "none.graphml")


def test_control_character(tmp_path):
    graph = example()
    object.__setattr__(graph, "class_names", ("a", "b", "c", "d\x01"))
    with pytest.raises(DataError, match="control character"):
        write_graphml(tmp_path / "graph.graphml", graph)
