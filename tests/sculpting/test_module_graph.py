from __future__ import annotations

import gzip

import igraph
import networkx
import numpy as np
import pytest
from hypothesis import given, settings
from mask_strategies import mask_lists

from espalier.errors import DataError
from espalier.hierarchy.trees import parse_newick
from espalier.sculpting.module_graph import module_hierarchy, write_module_graphml
from espalier.sculpting.modules import detect_modules


def reused():
    """Four inputs feed one unit, which feeds two units with two outputs each."""
    return [np.ones((1, 4), bool), np.ones((2, 1), bool), np.eye(2, dtype=bool).repeat(2, axis=0)]


def both():
    """Three pairs of inputs, each output needs two of them."""
    first = np.eye(3, dtype=bool).repeat(2, axis=1)
    return [first, np.array([[1, 1, 0], [1, 0, 1], [0, 1, 1]], bool)]


def test_a_module_reused_by_two_is_a_tree() -> None:
    hierarchy = module_hierarchy(detect_modules(reused()))
    assert [node.name for node in hierarchy.nodes] == [
        "x1-x4 > y1-y4",
        "x1-x4 > y1,y2",
        "x1-x4 > y3,y4",
    ]
    assert hierarchy.edges.tolist() == [[0, 1, 1], [0, 2, 1]]
    assert [node.level for node in hierarchy.nodes] == [0, 1, 1]
    assert [node.reuse for node in hierarchy.nodes] == [2, 0, 0]
    assert hierarchy.by_layer == ((0,), (), (1, 2), ())
    assert hierarchy.by_level == ((0,), (1, 2))
    assert hierarchy.nodes[0].units == ((0, 1, 2, 3), (0,), (), ())
    assert (hierarchy.nodes[1].first_layer, hierarchy.nodes[1].last_layer) == (2, 3)
    assert hierarchy.is_tree and hierarchy.acyclic
    assert hierarchy.newick() == "('x1-x4 > y1,y2','x1-x4 > y3,y4')'x1-x4 > y1-y4';\n"
    assert parse_newick(hierarchy.newick()).leaves == ("x1-x4 > y1,y2", "x1-x4 > y3,y4")
    assert hierarchy.served[1] == (frozenset(range(4)), frozenset({0, 1}))
    assert repr(hierarchy) == "ModuleHierarchy(3 modules, 2 arrows)"


def test_two_modules_that_feed_one_are_a_tree_with_its_root_at_the_output() -> None:
    masks = [np.eye(2, dtype=bool).repeat(3, axis=1), np.ones((1, 2), bool)]
    hierarchy = module_hierarchy(detect_modules(masks), list("abcdef"), ["sum"])
    assert hierarchy.newick() == "('a-c > sum','d-f > sum')'a-f > sum';\n"


def test_crossing_modules_are_no_tree() -> None:
    hierarchy = module_hierarchy(detect_modules(both()))
    assert len(hierarchy.nodes) == 6 and not hierarchy.is_tree and not hierarchy.is_forest
    with pytest.raises(DataError, match=r"'x1,x2 > y1,y2'.* form no tree.*GraphML"):
        hierarchy.newick()


def test_modules_without_arrows_are_a_forest() -> None:
    masks = [np.kron(np.eye(2), np.ones((3, 2))), np.kron(np.eye(2), np.ones((2, 3)))]
    hierarchy = module_hierarchy(detect_modules(masks))
    assert hierarchy.is_forest and not hierarchy.is_tree
    assert hierarchy.components == ((0,), (1,))
    assert sorted(hierarchy.newick().splitlines()) == ["'x1,x2 > y1,y2';", "'x3,x4 > y3,y4';"]


def test_scattered_units_are_counted_and_equal_names_are_numbered() -> None:
    odd = (np.arange(20) % 2 == 0)[None]
    nodes = module_hierarchy(detect_modules([odd, np.ones((1, 1), bool)])).nodes
    assert [node.name for node in nodes] == ["x1,...,x19 (10) > y1"]
    dead = module_hierarchy(detect_modules([np.zeros((2, 3), bool)]))
    assert [node.name for node in dead.nodes] == ["none > y1", "none > y2"]
    # Two units of one layer between the same inputs and outputs are two modules of one name.
    crossed = [np.ones((1, 4)), np.ones((3, 1)), np.eye(3), np.ones((1, 3))]
    names = [node.name for node in module_hierarchy(detect_modules(crossed)).nodes]
    assert len(set(names)) == len(names)


@settings(max_examples=80)
@given(mask_lists())
def test_agrees_with_networkx(masks) -> None:
    modules = detect_modules(masks, 0.3, 0.6)
    hierarchy = module_hierarchy(modules)
    graph = networkx.DiGraph()
    graph.add_nodes_from(range(modules.num_modules))
    graph.add_edges_from(modules.edges[:, :2].tolist())
    assert hierarchy.acyclic == networkx.is_directed_acyclic_graph(graph)
    condensed = networkx.condensation(graph)
    level: dict[int, int] = {}
    for node in networkx.topological_sort(condensed):
        level[node] = max((1 + level[p] for p in condensed.predecessors(node)), default=0)
    for node in hierarchy.nodes:
        assert node.level == level[condensed.graph["mapping"][node.index]]
        assert node.reuse == graph.out_degree(node.index)
        assert node.sources == tuple(sorted(graph.predecessors(node.index)))
    parts = [graph.subgraph(part) for part in networkx.weakly_connected_components(graph)]
    rooted = [networkx.is_arborescence(p) or networkx.is_arborescence(p.reverse()) for p in parts]
    assert hierarchy.is_forest == all(rooted)
    assert {frozenset(c) for c in hierarchy.components} == {frozenset(p) for p in parts}
    assert len({node.name for node in hierarchy.nodes}) == modules.num_modules


@settings(max_examples=40)
@given(mask_lists())
def test_served_inputs_and_outputs_agree_with_paths(masks) -> None:
    modules = detect_modules(masks)
    graph = networkx.DiGraph()
    for layer, mask in enumerate(masks):
        rows, columns = np.nonzero(mask)
        graph.add_edges_from(
            ((layer, i), (layer + 1, j))
            for j, i in zip(rows.tolist(), columns.tolist(), strict=True)
        )
    for node in module_hierarchy(modules).nodes:
        units = {(layer, i) for layer, held in enumerate(node.units) for i in held}
        known = [unit for unit in units if unit in graph]
        above = units.union(*(networkx.ancestors(graph, unit) for unit in known))
        below = units.union(*(networkx.descendants(graph, unit) for unit in known))
        live = set(modules.alive[0].tolist())
        assert set(node.inputs) == {i for layer, i in above if layer == 0} & live
        assert set(node.outputs) == {i for layer, i in below if layer == len(masks)}


@pytest.mark.parametrize("ending", ["graphml", "graphml.gz"])
def test_graphml_reads_in_igraph_and_networkx(tmp_path, ending: str) -> None:
    hierarchy = module_hierarchy(detect_modules(both()), output_names=["a<b", "a&b", "c"])
    path = tmp_path / f"modules.{ending}"
    write_module_graphml(path, hierarchy)
    content = path.read_bytes()
    write_module_graphml(path, hierarchy)
    assert path.read_bytes() == content
    plain = tmp_path / "plain.graphml"
    plain.write_bytes(gzip.decompress(content) if ending.endswith("gz") else content)
    by_networkx = networkx.read_graphml(plain)
    by_igraph = igraph.Graph.Read_GraphML(str(plain))
    assert by_igraph.vs["name"] == [node.name for node in hierarchy.nodes]
    for node in hierarchy.nodes:
        data = by_networkx.nodes[f"n{node.index}"]
        assert data["level"] == node.level and data["reuse"] == node.reuse
        assert data["size"] == node.size and data["first_layer"] == node.first_layer
        assert data["inputs"] == " ".join(map(str, node.inputs))
    for source, target, count in hierarchy.edges.tolist():
        assert by_networkx.edges[f"n{source}", f"n{target}"]["edges"] == count


def test_unusable_names_are_refused(tmp_path) -> None:
    modules = detect_modules(reused())
    with pytest.raises(DataError, match="3 input names for a network with 4 inputs"):
        module_hierarchy(modules, ["a", "b", "c"])
    with pytest.raises(DataError, match="output name 'a' is given more than once"):
        module_hierarchy(modules, None, ["a", "a", "b", "c"])
    odd = module_hierarchy(modules, None, ["a\n", "b", "c", "d"])
    with pytest.raises(DataError, match="control character"):
        write_module_graphml(tmp_path / "modules.graphml", odd)
    assert not list(tmp_path.iterdir())
