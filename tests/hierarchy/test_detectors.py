from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import networkx as nx
import numpy as np
import pytest
from block_graphs import graph_of, graph_tool_or_none
from scipy.cluster.hierarchy import cophenet, linkage
from scipy.spatial.distance import squareform

from espalier.errors import ConfigurationError, DataError, MissingDependencyError
from espalier.graphs.coactivation import CoactivationGraph
from espalier.hierarchy import detectors
from espalier.hierarchy.detectors import (
    Detection,
    detect,
    detector_names,
    detector_options,
)
from espalier.hierarchy.linkage import (
    class_mean_hierarchy,
    confusion_hierarchy,
    induced_hierarchy,
)
from espalier.hierarchy.trees import parse_newick

NAMES = (
    "average_linkage",
    "class_means",
    "confusion",
    "induced_weights",
    "infomap",
    "leiden",
    "nested_sbm",
)


def planted(isolated: bool = False) -> CoactivationGraph:
    """Nine cliques of 8 in 3 super-groups of classes 0-2, 3-5 and 6-8.

    Classes 0 and 1 share the first clique. With `isolated` a tenth class has no edge.
    """
    generator = np.random.default_rng(2)
    leaf = np.repeat(np.arange(9), 8)
    i, j = np.triu_indices(len(leaf), 1)
    inside, beside = leaf[i] == leaf[j], leaf[i] // 3 == leaf[j] // 3
    kept = generator.random(len(i)) < np.where(inside, 1.0, np.where(beside, 0.45, 0.02))
    weight = generator.uniform(0.8, 1.0, kept.sum()) * np.where(inside, 1.0, 0.4)[kept]
    outputs = np.array([0, 1, 16, 24, 32, 40, 48, 56, 64])
    n = len(leaf)
    if isolated:
        n, outputs = n + 1, np.append(outputs, n)
    return graph_of(n, i[kept], j[kept], weight, outputs)


def no_edges() -> CoactivationGraph:
    empty = np.zeros(0, int)
    return graph_of(5, empty, empty, [], np.array([1, 2, 3]))


def readout(classes: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    activations = generator.normal(size=(50, classes))
    return {
        "output_weights": generator.normal(size=(classes, 6)),
        "confusion": generator.integers(0, 30, (classes, classes))
        + 100 * np.eye(classes, dtype=int),
        "class_means": generator.normal(size=(classes, 6)),
        "output_correlation": np.corrcoef(activations, rowvar=False),
    }


def cluster(*classes: int) -> frozenset[str]:
    return frozenset(f"c{k}" for k in classes)


SUPER = {cluster(0, 1, 2), cluster(3, 4, 5), cluster(6, 7, 8)}


def test_registry_lists_the_modules():
    assert detector_names() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_options_are_frozen_with_defaults(name):
    options = detectors._module(name).Options()
    first = dataclasses.fields(options)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(options, first, None)
    json.dumps(detector_options(name))


def test_unknown_detector_names_the_nearest():
    with pytest.raises(ConfigurationError, match="Did you mean 'leiden'"):
        detect("lieden", planted(), {}, 0)


@pytest.mark.parametrize("name", NAMES)
def test_unknown_option_names_the_known(name):
    known = next(iter(detector_options(name)))
    with pytest.raises(ConfigurationError, match=f"detector {name} .*{known}"):
        detect(name, planted(), {}, 0, **{known + "x": 1})


def test_a_detector_is_one_new_file(tmp_path, monkeypatch):
    (tmp_path / "by_name.py").write_text(
        "from dataclasses import dataclass\n"
        "from espalier.hierarchy.detectors import Detection\n"
        "@dataclass(frozen=True)\n"
        "class Options:\n"
        "    suffix: str = ';'\n"
        "def detect(graph, readout, seed, options):\n"
        "    star = '(' + ','.join(graph.class_names) + ')' + options.suffix\n"
        "    return Detection((star,), ('a',))\n"
    )
    monkeypatch.setattr(detectors, "__path__", [*detectors.__path__, str(tmp_path)])
    assert "by_name" in detector_names()
    assert detect("by_name", no_edges(), {}, 0).newicks == ("(c0,c1,c2);",)


def test_detection_checks_its_labels():
    with pytest.raises(DataError, match="2 trees for 1 sample"):
        Detection(("(a,b);", "(a,b);"), ("fit0",))


def test_the_package_imports_no_detector_library():
    code = (
        "import sys, espalier.hierarchy.detectors as d; d.detector_names(); "
        "heavy = {'leidenalg', 'igraph', 'infomap', 'graph_tool', 'torch', 'sklearn'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("name", "package"), [("leiden", "leidenalg"), ("leiden", "igraph"), ("infomap", "infomap")]
)
def test_missing_package_says_how_to_install_it(name, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependencyError, match=rf"pip install {package}.*leave {name} out"):
        detect(name, planted(), {}, 0)


@pytest.mark.parametrize("name", NAMES)
def test_every_detector_gives_trees_over_all_classes(name):
    if name == "nested_sbm" and graph_tool_or_none() is None:
        pytest.skip("no Python here has graph-tool; see tools/install_graph_tool.sh")
    graph = planted(isolated=True)
    options = (
        {"hierarchies": 2, "burn_in": 0, "restarts": 1, "patience": 2}
        if name == "nested_sbm"
        else {}
    )
    found = detect(name, graph, readout(10), 3, **options)
    assert len(found.newicks) == len(found.samples) == len(set(found.samples))
    for newick in found.newicks:
        assert sorted(parse_newick(newick).leaves) == sorted(graph.class_names)
    json.dumps(found.details)


@pytest.mark.parametrize("name", ["leiden", "infomap", "nested_sbm"])
def test_graph_detectors_give_a_star_without_edges(name):
    found = detect(name, no_edges(), {}, 0)
    assert set(found.newicks) == {"(c0,c1,c2);"}
    assert set(found.details["levels"]) == {0}


@pytest.mark.parametrize("name", ["leiden", "infomap"])
def test_weights_of_zero_alone_give_a_star(name):
    graph = graph_of(4, np.array([0, 1]), np.array([1, 2]), [0.0, 0.0], np.arange(4))
    assert set(detect(name, graph, {}, 0).newicks) == {"(c0,c1,c2,c3);"}


@pytest.mark.parametrize("name", ["leiden", "infomap", "nested_sbm"])
def test_planted_groups_are_found_and_a_seed_repeats_them(name):
    if name == "nested_sbm" and graph_tool_or_none() is None:
        pytest.skip("no Python here has graph-tool; see tools/install_graph_tool.sh")
    graph = planted()
    options = {
        "leiden": {"resolutions": (0.5, 4.0)},
        "infomap": {},
        "nested_sbm": {"hierarchies": 1, "burn_in": 0, "restarts": 1, "patience": 3},
    }[name]
    first = detect(name, graph, {}, 7, **options)
    tree = parse_newick(first.newicks[-1])
    # The map equation sees two of the three: it stops where a random walk would not stay.
    assert len(tree.clusters() & SUPER) >= (2 if name == "infomap" else 3)
    again = detect(name, graph, {}, 7, **options)
    assert first.newicks == again.newicks


@pytest.mark.parametrize("name", ["leiden", "infomap"])
def test_class_without_edges_hangs_on_the_root(name):
    for newick in detect(name, planted(isolated=True), {}, 0).newicks:
        assert not any("c9" in found for found in parse_newick(newick).clusters())


def test_leiden_labels_resolutions_in_the_order_given():
    found = detect("leiden", planted(), {}, 0, resolutions=[4, 0.5])
    assert found.samples == ("resolution4", "resolution0.5", "nested")
    fine, coarse, nested = (parse_newick(newick).clusters() for newick in found.newicks)
    assert coarse == SUPER
    assert cluster(0, 1) in fine
    assert nested == SUPER | {cluster(0, 1)}
    assert found.details["communities"] == [9, 3]
    assert found.details["nested_communities"] == [9, 3]


def test_leiden_at_resolution_one_reaches_a_modularity_as_high_as_louvain():
    graph = planted()
    source, target, weight = graph.edges()
    network = nx.Graph()
    network.add_weighted_edges_from(zip(source, target, weight, strict=True))
    louvain = nx.community.louvain_communities(network, seed=1)
    modularity = nx.community.modularity(network, louvain)
    found = detect("leiden", graph, {}, 0, resolutions=(1.0,))
    assert found.details["modularities"][0] >= modularity - 1e-9


def test_leiden_quality_of_aggregated_communities_is_the_quality_on_the_graph():
    leidenalg = pytest.importorskip("leidenalg")
    igraph = pytest.importorskip("igraph")
    from espalier.hierarchy.detectors.leiden import aggregated

    graph = planted()
    source, target, weight = graph.edges()
    network = igraph.Graph(graph.n_nodes, np.column_stack([source, target]).tolist())
    network.es["weight"] = weight
    kind = leidenalg.RBConfigurationVertexPartition
    fine = leidenalg.find_partition(
        network, kind, weights="weight", resolution_parameter=4.0, seed=1
    )
    above = leidenalg.find_partition(
        aggregated(fine),
        kind,
        weights="weight",
        resolution_parameter=0.5,
        seed=1,
    )
    membership = np.asarray(above.membership)[fine.membership].tolist()
    projected = kind(network, membership, weights="weight", resolution_parameter=0.5)
    assert above.quality() == pytest.approx(projected.quality(), rel=1e-12)


@pytest.mark.parametrize(
    "options",
    [
        {"resolutions": ()},
        {"resolutions": (1.0, -1.0)},
        {"resolutions": (1.0, 1)},
        {"iterations": 0},
    ],
)
def test_leiden_refuses_options_out_of_range(options):
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        detect("leiden", planted(), {}, 0, **options)


@pytest.mark.parametrize("options", [{"trials": 0}, {"markov_time": 0.0}])
def test_infomap_refuses_options_out_of_range(options):
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        detect("infomap", planted(), {}, 0, **options)


def test_infomap_turns_paths_into_nested_levels():
    graph = graph_of(6, np.arange(5), np.arange(1, 6), np.ones(5), np.arange(5))
    paths = {0: (1, 1, 1), 1: (1, 1, 2), 2: (1, 2), 3: (2,), 4: (2,)}
    levels, outputs = detectors._module("infomap")._levels(paths, graph)
    at = np.arange(5)
    groups = []
    for level in levels:
        at = level[at]
        groups.append({tuple(np.flatnonzero(at == block)) for block in set(at.tolist())})
    assert groups == [
        {(0,), (1,), (2,), (3, 4)},
        {(0, 1), (2,), (3, 4)},
        {(0, 1, 2), (3, 4)},
    ]
    assert outputs.tolist() == [0, 1, 2, 3, 4]


def test_average_linkage_is_scipy_on_one_minus_rho():
    graph = planted()
    rho = readout(9)["output_correlation"]
    found = detect("average_linkage", graph, {"output_correlation": rho}, 0)
    merges = linkage(squareform(1 - rho, checks=False), "average")
    heights = squareform(cophenet(merges))
    expected = set()
    for height in merges[:-1, 2]:
        for row in heights <= height + 1e-12:
            members = set(np.flatnonzero(row))
            if 2 <= len(members) < 9:
                expected.add(cluster(*members))
    # Diagonal of the cophenetic matrix is 0, so every row holds its own class.
    assert parse_newick(found.newicks[0]).clusters() == expected


def test_average_linkage_hangs_constant_outputs_on_the_root():
    rho = readout(9)["output_correlation"].copy()
    rho[4] = rho[:, 4] = np.nan
    found = detect("average_linkage", planted(), {"output_correlation": rho}, 0)
    tree = parse_newick(found.newicks[0])
    assert len(tree.leaves) == 9
    assert not any("c4" in group for group in tree.clusters())
    assert found.details["constant_outputs"] == ["c4"]


def test_average_linkage_with_every_output_constant_is_a_star():
    rho = np.full((9, 9), np.nan)
    found = detect("average_linkage", planted(), {"output_correlation": rho}, 0)
    assert parse_newick(found.newicks[0]).clusters() == frozenset()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rho: rho[:-1], r"shape \(8, 9\)"),
        (lambda rho: rho * 2, "between -1 and 1"),
        (lambda rho: rho + np.triu(np.full(rho.shape, -0.1), 1), "symmetric"),
    ],
)
def test_average_linkage_refuses_what_is_no_correlation_matrix(change, message):
    rho = change(readout(9)["output_correlation"] * 0.9 + 0.1 * np.eye(9))
    with pytest.raises(DataError, match=message):
        detect("average_linkage", planted(), {"output_correlation": rho}, 0)


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("average_linkage", "output_correlation"),
        ("induced_weights", "output_weights"),
        ("confusion", "confusion"),
        ("class_means", "class_means"),
    ],
)
def test_missing_readout_array_is_named(name, array):
    arrays = {key: value for key, value in readout(9).items() if key != array}
    with pytest.raises(DataError, match=f"{name} needs '{array}'; the readout holds .*_"):
        detect(name, planted(), arrays, 0)


def test_readout_detectors_are_the_linkage_functions():
    arrays, names = readout(9), planted().class_names
    for name, expected in (
        ("induced_weights", induced_hierarchy(arrays["output_weights"], names)),
        ("confusion", confusion_hierarchy(arrays["confusion"], names)),
        ("class_means", class_mean_hierarchy(arrays["class_means"], names)),
    ):
        assert detect(name, planted(), arrays, 0).newicks == (expected.newick,)


def test_readout_detectors_pass_their_options_on():
    arrays, names = readout(9), planted().class_names
    raw = induced_hierarchy(arrays["output_weights"], names, normalise=False, linkage="average")
    found = detect("induced_weights", planted(), arrays, 0, normalise=False, linkage="average")
    assert found.newicks == (raw.newick,)
    assert found.details["normalise"] is False
