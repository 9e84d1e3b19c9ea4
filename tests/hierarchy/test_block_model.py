from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from block_graphs import graph_of, graph_tool_or_none

from espalier.errors import (
    ConfigurationError,
    DataError,
    EspalierError,
    MissingDependencyError,
)
from espalier.graphs.coactivation import CoactivationGraph
from espalier.hierarchy import _graph_tool_worker as worker
from espalier.hierarchy import block_model
from espalier.hierarchy.block_model import (
    BlockHierarchy,
    BlockModelOptions,
    class_trees,
    fit_nested_sbm,
    read_hierarchies,
    write_hierarchies,
)
from espalier.hierarchy.trees import parse_newick

WORKER = Path(worker.__file__)
SHORT = {"restarts": 1, "patience": 1, "max_refinements": 4, "burn_in": 2, "sweeps_between": 2}


PYTHON = graph_tool_or_none()
needs_graph_tool = pytest.mark.skipif(
    PYTHON is None, reason="no Python here has graph-tool; see tools/install_graph_tool.sh"
)


def planted(isolated: int = 0, weight=None, size: int = 8) -> tuple[CoactivationGraph, np.ndarray]:
    """Nine leaf groups of `size` in 3 super-groups, then loose nodes.

    The first leaf group holds classes 0 and 1, every other one more class.
    """
    generator = np.random.default_rng(5)
    leaf = np.repeat(np.arange(9), size)
    i, j = np.triu_indices(len(leaf), 1)
    inside, beside = leaf[i] == leaf[j], leaf[i] // 3 == leaf[j] // 3
    kept = generator.random(len(i)) < np.where(inside, 0.95, np.where(beside, 0.2, 0.02))
    strength = np.where(inside, 1.5, np.where(beside, 0.4, 0.3))[kept]
    values = generator.uniform(0.8, 1.2, kept.sum()) * strength if weight is None else weight
    outputs = np.array([0, 1, *range(size + 1, 9 * size, size)])
    n = len(leaf) + isolated
    return graph_of(n, i[kept], j[kept], np.broadcast_to(values, kept.sum()), outputs), leaf


def same_partition(first: np.ndarray, second: np.ndarray) -> bool:
    pairs = len(set(zip(first.tolist(), second.tolist(), strict=True)))
    return pairs == len(set(first.tolist())) == len(set(second.tolist()))


PLANTED_CLUSTERS = {
    frozenset(f"c{k}" for k in group) for group in ((0, 1), (0, 1, 2, 3), (4, 5, 6), (7, 8, 9))
}


@pytest.fixture(scope="module")
def posterior():
    graph, leaf = planted(isolated=3, size=20)
    return graph, leaf, fit_nested_sbm(graph, 3, seed=1, patience=3, restarts=1)


@needs_graph_tool
def test_nested_planted_partition_is_recovered(posterior):
    graph, leaf, hierarchies = posterior
    assert [h.label for h in hierarchies] == ["sample0", "sample1", "sample2"]
    best = min(hierarchies, key=lambda h: h.description_length)
    assert same_partition(best.levels[0][: len(leaf)], leaf)
    super_blocks = best.levels[1][best.levels[0][: len(leaf)]]
    assert same_partition(super_blocks, leaf // 3)
    assert parse_newick(class_trees(graph, [best])[0]).clusters() == PLANTED_CLUSTERS


@needs_graph_tool
def test_levels_are_gapless_nested_and_end_in_one_block(posterior):
    graph, leaf, hierarchies = posterior
    for hierarchy in hierarchies:
        assert len(hierarchy.levels[0]) == graph.n_nodes
        assert (hierarchy.levels[0][len(leaf) :] == -1).all()
        below = np.unique(hierarchy.levels[0][: len(leaf)])
        for number, level in enumerate(hierarchy.levels):
            assert level.dtype == np.int64
            blocks = np.unique(level[level >= 0])
            np.testing.assert_array_equal(blocks, np.arange(hierarchy.blocks[number]))
            if number:
                assert len(level) == len(below)
            below = blocks
        assert hierarchy.blocks[-1] == 1
        assert hierarchy.blocks.count(1) == 1


@needs_graph_tool
def test_same_seed_gives_the_same_bytes_and_another_seed_other_draws(tmp_path):
    graph, _ = planted()
    runs = {}
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        runs[name] = fit_nested_sbm(graph, 2, seed=seed, **SHORT)
        write_hierarchies(tmp_path / f"{name}.npz", runs[name])
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    seeds = {name: run[0].provenance["fits"][0]["seed"] for name, run in runs.items()}
    assert seeds["a"] == seeds["b"] != seeds["c"]


@needs_graph_tool
def test_nodes_without_edges_change_nothing():
    bare, leaf = planted()
    loose, _ = planted(isolated=7)
    first = fit_nested_sbm(bare, 1, seed=2, **SHORT)[0]
    second = fit_nested_sbm(loose, 1, seed=2, **SHORT)[0]
    assert first.description_length == second.description_length
    np.testing.assert_array_equal(first.levels[0], second.levels[0][: len(leaf)])


@needs_graph_tool
def test_class_without_edges_hangs_on_the_root():
    graph, leaf = planted(isolated=1)
    label = graph.label.copy()
    label[len(leaf)] = len(graph.class_names)
    names = (*graph.class_names, "alone")
    arrays = (graph.layer, graph.neuron, label, graph.constant)
    graph = CoactivationGraph(graph.adjacency, *arrays, graph.layer_names, names)
    hierarchies = fit_nested_sbm(graph, 1, seed=1, **SHORT)
    tree = parse_newick(class_trees(graph, hierarchies)[0])
    assert sorted(tree.leaves) == sorted(names)
    assert not any("alone" in cluster for cluster in tree.clusters())


@needs_graph_tool
@pytest.mark.parametrize("draws", ["fresh", "fresh_weighted"])
def test_independent_fits_have_their_own_seeds(draws):
    graph, _ = planted()
    hierarchies = fit_nested_sbm(graph, 2, draws, seed=1, **SHORT)
    assert [h.label for h in hierarchies] == ["fit0", "fit1"]
    fits = hierarchies[0].provenance["fits"]
    assert len({fit["seed"] for fit in fits}) == 2
    assert [h.description_length for h in hierarchies] == pytest.approx(
        [fit["description_length"] for fit in fits]
    )


@needs_graph_tool
def test_restarts_keep_the_lowest_description_length():
    graph, _ = planted()
    hierarchy = fit_nested_sbm(graph, 1, "fresh", seed=1, **{**SHORT, "restarts": 2})[0]
    lengths = [fit["description_length"] for fit in hierarchy.provenance["fits"]]
    assert len(lengths) == 2
    assert [fit["start"] for fit in hierarchy.provenance["fits"]] == ["nested", "flat"]
    assert hierarchy.description_length == pytest.approx(min(lengths))


@needs_graph_tool
def test_warm_start_is_not_worse_than_the_fresh_weighted_fit():
    graph, _ = planted()
    warm = fit_nested_sbm(graph, 1, "fresh", seed=1, patience=5)[0]
    fresh = fit_nested_sbm(graph, 1, "fresh_weighted", seed=1)[0]
    assert warm.description_length <= fresh.description_length + 1e-6
    fit = warm.provenance["fits"][0]
    assert fit["description_length"] <= fit["start_length"]


REBUILD = """
import json, sys, warnings
warnings.simplefilter("ignore")
import numpy as np
from graph_tool import Graph
from graph_tool.inference import NestedBlockState
data = np.load(sys.argv[1])
g = Graph(directed=False)
g.add_vertex(int(data["n"]))
g.add_edge_list(data["edges"])
w = g.new_edge_property("double")
w.a = data["weight"]
levels = [data[f"level{k}"] for k in range(int(data["depth"]))]
weighted = dict(recs=[w], rec_types=["real-exponential"], deg_corr=True)
out = {}
for name, args in (("weighted", weighted), ("bare", dict(deg_corr=True)),
                   ("plain", dict(weighted, deg_corr=False))):
    out[name] = NestedBlockState(g, bs=levels, state_args=args).entropy()
print(json.dumps(out))
"""


@needs_graph_tool
def test_saved_levels_reproduce_the_weighted_degree_corrected_description_length(tmp_path):
    graph, _ = planted()
    hierarchy = fit_nested_sbm(graph, 1, seed=1, **SHORT)[0]
    if not hierarchy.provenance["graph_tool"].startswith("2."):
        pytest.skip("the script speaks to graph-tool 2.x")
    source, target, weight = graph.edges()
    levels = {f"level{k}": level for k, level in enumerate(hierarchy.levels)}
    np.savez(
        tmp_path / "fit.npz",
        n=graph.n_nodes,
        edges=np.column_stack([source, target]),
        weight=weight,
        depth=len(levels),
        **levels,
    )
    finished = subprocess.run(
        [PYTHON, "-c", REBUILD, str(tmp_path / "fit.npz")], capture_output=True, check=True
    )
    found = json.loads(finished.stdout)
    assert found["weighted"] == pytest.approx(hierarchy.description_length, rel=1e-9)
    assert abs(found["bare"] - hierarchy.description_length) > 1
    assert abs(found["plain"] - hierarchy.description_length) > 1


@needs_graph_tool
@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_equal_weights_are_fitted(weight):
    graph, leaf = planted(weight=weight)
    hierarchy = fit_nested_sbm(graph, 1, seed=1, **SHORT)[0]
    assert np.isfinite(hierarchy.description_length)
    assert len(hierarchy.levels[0]) == len(leaf)


@needs_graph_tool
def test_an_edge_of_weight_zero_is_an_edge():
    graph, leaf = planted()
    source, target, weight = graph.edges()
    weight = weight.copy()
    weight[::50] = 0
    zeros = graph_of(len(leaf), source, target, weight, graph.output_nodes)
    assert np.isfinite(fit_nested_sbm(zeros, 1, seed=1, **SHORT)[0].description_length)


@needs_graph_tool
def test_unit_mean_does_not_depend_on_the_unit_of_the_weights():
    graph, leaf = planted()
    source, target, weight = graph.edges()
    tiny = graph_of(len(leaf), source, target, weight / 1024, graph.output_nodes)
    options = {"weight_scale": "unit_mean", **SHORT}
    first = fit_nested_sbm(graph, 1, seed=1, **options)[0]
    second = fit_nested_sbm(tiny, 1, seed=1, **options)[0]
    assert first.description_length == pytest.approx(second.description_length, rel=1e-9)
    np.testing.assert_array_equal(first.levels[0], second.levels[0])


@needs_graph_tool
def test_graph_of_one_block_gives_a_star():
    i, j = np.triu_indices(20, 1)
    generator = np.random.default_rng(0)
    kept = generator.random(len(i)) < 0.5
    graph = graph_of(20, i[kept], j[kept], generator.exponential(1.0, kept.sum()), [0, 1, 2, 3])
    hierarchies = fit_nested_sbm(graph, 2, seed=1, **SHORT)
    assert all(h.blocks == (1,) for h in hierarchies)
    assert set(class_trees(graph, hierarchies)) == {"(c0,c1,c2,c3);"}


@needs_graph_tool
def test_a_single_edge_is_fitted():
    graph = graph_of(3, np.array([0]), np.array([1]), [0.5], [0, 1, 2])
    hierarchy = fit_nested_sbm(graph, 1, seed=1, **SHORT)[0]
    assert hierarchy.levels[0][2] == -1
    assert class_trees(graph, [hierarchy]) == ["(c0,c1,c2);"]


def test_graph_without_edges_gives_stars_and_needs_no_graph_tool(monkeypatch):
    def refuse(_):
        raise AssertionError("looked for graph-tool")

    monkeypatch.setattr(block_model, "find_graph_tool_python", refuse)
    empty = np.zeros(0, int)
    graph = graph_of(5, empty, empty, [], [2, 3, 4], ["a", "b", "c"])
    hierarchies = fit_nested_sbm(graph, 3)
    assert len(hierarchies) == 3
    assert all(h.levels == () and np.isnan(h.description_length) for h in hierarchies)
    assert class_trees(graph, hierarchies) == ["(a,b,c);"] * 3


def test_hierarchies_survive_a_file(tmp_path):
    levels = (np.array([0, 1, -1, 2]), np.array([0, 0, 1]), np.array([0, 0]))
    provenance = {"seed": 3, "options": {"draws": "posterior"}}
    written = [
        BlockHierarchy(levels, 12.5, "sample0", provenance),
        BlockHierarchy((), float("nan"), "sample1", provenance),
    ]
    write_hierarchies(tmp_path / "h.npz", written, {"digest": "x"})
    read = read_hierarchies(tmp_path / "h.npz")
    assert [h.label for h in read] == ["sample0", "sample1"]
    assert read[0].description_length == 12.5
    assert np.isnan(read[1].description_length)
    assert read[1].levels == ()
    for first, second in zip(levels, read[0].levels, strict=True):
        np.testing.assert_array_equal(first, second)
    assert read[0].provenance == provenance


def test_other_npz_files_are_refused(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.arange(3))
    with pytest.raises(DataError, match=r"x\.npz does not hold block hierarchies"):
        read_hierarchies(tmp_path / "x.npz")


def test_unknown_option_names_the_nearest():
    graph, _ = planted()
    with pytest.raises(ConfigurationError, match="Did you mean 'burn_in'"):
        fit_nested_sbm(graph, burnin=3)


@pytest.mark.parametrize(
    "options",
    [
        {"hierarchies": 0},
        {"hierarchies": 2.5},
        {"draws": "posteriors"},
        {"weight_scale": "mean"},
        {"restarts": 0},
        {"sweeps_between": 0},
        {"burn_in": -1},
        {"patience": True},
    ],
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ConfigurationError, match=next(iter(options)).split("_")[0]):
        BlockModelOptions(**options)


@pytest.mark.parametrize("bad", [-0.1, np.nan, np.inf])
def test_weights_that_no_exponential_has_are_refused(bad):
    graph, leaf = planted()
    source, target, weight = graph.edges()
    weight = weight.copy()
    weight[4] = bad
    with pytest.raises(DataError, match="at least 0; 1 of"):
        fit_nested_sbm(graph_of(len(leaf), source, target, weight, graph.output_nodes), 1)


def test_python_without_graph_tool_is_named(tmp_path):
    graph, _ = planted()
    python = tmp_path / "python-without"
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o755)
    with pytest.raises(MissingDependencyError, match="python-without"):
        fit_nested_sbm(graph, 1, python=str(python))


def test_failure_of_the_worker_is_reported_with_its_last_line(tmp_path):
    graph, _ = planted()
    python = tmp_path / "python3"
    python.write_text(
        "#!/bin/sh\ncase $1 in -c) exit 0;; esac\necho trace >&2\necho 'boom: no' >&2\nexit 7\n"
    )
    python.chmod(0o755)
    with pytest.raises(EspalierError, match="exit status 7: boom: no"):
        fit_nested_sbm(graph, 1, python=str(python))


def test_worker_imports_only_graph_tool_numpy_and_the_standard_library():
    allowed = {"graph_tool", "numpy", *sys.stdlib_module_names}
    imported = set()
    for node in ast.walk(ast.parse(WORKER.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            imported.add(node.module.split(".")[0])
    assert "graph_tool" in imported
    assert imported <= allowed


def test_occupied_levels_follow_only_blocks_that_hold_something():
    blocks = [
        np.array([7, 7, 2, 9]),
        np.array([5, 5, 1, 5, 5, 5, 5, 4, 5, 4]),
        np.array([8, 0, 8, 8, 0, 8]),
        np.zeros(9, int),
        np.zeros(1, int),
    ]
    levels = worker.occupied_levels(blocks, 4)
    expected = [[0, 0, 1, 2], [0, 1, 0], [0, 0]]
    assert [level.tolist() for level in levels] == expected


def test_occupied_levels_stop_where_the_hierarchy_does():
    levels = worker.occupied_levels([np.array([1, 0]), np.array([3, 2, 2, 2])], 2)
    assert [level.tolist() for level in levels] == [[0, 1], [0, 1]]


# A stand-in for graph-tool 3.x: the weights have a class of their own, `state_args` is ignored
# with a UserWarning, and each call is written down.
FAKE_GRAPH_TOOL = {
    "__init__.py": """
        __version__ = "3.6"
        calls = []

        def seed_rng(seed):
            calls.append(("seed", seed))

        class _Property:
            a = None

        class Graph:
            def __init__(self, directed=True):
                assert directed is False

            def add_vertex(self, n):
                self.n = n

            def add_edge_list(self, edges):
                self.edges = edges

            def num_edges(self):
                return len(self.edges)

            def new_edge_property(self, kind):
                assert kind == "double"
                return _Property()
        """,
    "inference.py": """
        import warnings
        import numpy as np
        from graph_tool import calls

        IGNORE_WEIGHTS = False

        class BlockState:
            deg_corr = True

        class WeightedBlockState(BlockState):
            pass

        class NestedBlockState:
            def __init__(self, g, bs=None, base_state=BlockState, base_state_args={},
                         state_args=None):
                if state_args is not None:
                    warnings.warn("unrecognized keyword arguments: state_args", UserWarning)
                calls.append(("state", base_state.__name__, dict(base_state_args)))
                self.g = g
                self.weighted = base_state is WeightedBlockState and not IGNORE_WEIGHTS
                self.levels = [base_state()]
                self.levels[0].deg_corr = base_state_args.get("deg_corr", True)
                if self.weighted:
                    self.levels[0].rec_types = list(base_state_args["rec_types"])
                half = np.repeat([3, 5], [g.n // 2, g.n - g.n // 2])
                self.bs = bs or [half, np.zeros(6, int), np.zeros(1, int)]

            def get_bs(self):
                return self.bs

            def entropy(self):
                return float(len(self.g.edges)) * (2 if self.weighted else 1)

            def multiflip_mcmc_sweep(self, niter=1, beta=1.0):
                calls.append(("sweep", niter, float(beta)))

        class _Blocks:
            def __init__(self, n):
                self.a = np.arange(n) % 3

        class _Flat:
            def __init__(self, n):
                self.blocks = _Blocks(n)

            def get_blocks(self):
                return self.blocks

        def minimize_blockmodel_dl(g, state=BlockState, state_args={}):
            calls.append(("minimise flat", state.__name__, dict(state_args)))
            return _Flat(g.n)

        def minimize_nested_blockmodel_dl(g, init_bs=None, base_state=BlockState,
                                          base_state_args={}, state_args=None):
            calls.append(("minimise", base_state.__name__, dict(base_state_args)))
            return NestedBlockState(g, None, base_state, base_state_args, state_args)
        """,
}


@pytest.fixture
def fake_graph_tool(tmp_path, monkeypatch):
    package = tmp_path / "site" / "graph_tool"
    package.mkdir(parents=True)
    for name, text in FAKE_GRAPH_TOOL.items():
        (package / name).write_text(textwrap.dedent(text))
    monkeypatch.syspath_prepend(str(package.parent))
    yield package
    for name in [name for name in sys.modules if name.split(".")[0] == "graph_tool"]:
        del sys.modules[name]


def fake_request(draws: str, hierarchies: int = 1, restarts: int = 1) -> dict:
    options = BlockModelOptions(
        hierarchies, draws, restarts=restarts, patience=1, burn_in=15, sweeps_between=20
    )
    return {**vars(options), "seeds": [11, 12, 13]}


def run_fake(draws: str, hierarchies: int = 1, restarts: int = 1):
    edges = np.array([[0, 1], [1, 2], [2, 3]])
    request = fake_request(draws, hierarchies, restarts)
    return worker.run(4, *edges.T, np.array([0.1, 0.2, 0.3]), request)


def test_version_3_takes_the_weights_through_the_base_state(fake_graph_tool):
    hierarchies, details = run_fake("posterior", 2)
    import graph_tool

    minimised = [call for call in graph_tool.calls if call[0] == "minimise"]
    assert minimised == [("minimise", "BlockState", {"deg_corr": True})]
    weighted = [c[2] for c in graph_tool.calls if c[:2] == ("state", "WeightedBlockState")]
    assert weighted
    for arguments in weighted:
        assert sorted(arguments) == ["deg_corr", "rec", "rec_types"]
        assert arguments["deg_corr"] is True
        assert arguments["rec_types"] == ["real-exponential"]
    given = np.array([0.1, 0.2, 0.3])
    factors = [arguments["rec"][0].a / given for arguments in weighted]
    # Twice the weights only in the check that they arrived, once per fit.
    assert sorted(factor[0] for factor in factors)[-2:] == [1.0, 2.0]
    assert all((factor == factor[0]).all() for factor in factors)
    assert [call[1] for call in graph_tool.calls if call[0] == "seed"] == [11, 12]
    sweeps = [call[1:] for call in graph_tool.calls if call[0] == "sweep"]
    one = (10, 1.0)
    assert sweeps == [(10, np.inf), one, (5, 1.0), one, one, one, one]
    assert details["graph_tool"] == "3.6"
    levels, length = hierarchies[1]
    assert [level.tolist() for level in levels] == [[0, 0, 1, 1], [0, 0]]
    assert length == 6.0


def test_version_3_fresh_weighted_fits_minimise_the_weighted_state(fake_graph_tool):
    hierarchies, details = run_fake("fresh_weighted", 2)
    import graph_tool

    minimised = [call[1] for call in graph_tool.calls if call[0] == "minimise"]
    assert minimised == ["WeightedBlockState"] * 2
    assert not [call for call in graph_tool.calls if call[0] == "sweep"]
    assert len(hierarchies) == len(details["fits"]) == 2


def test_version_3_second_start_is_a_flat_fit_of_the_bare_graph(fake_graph_tool):
    _, details = run_fake("posterior", restarts=2)
    import graph_tool

    flat = [call for call in graph_tool.calls if call[0] == "minimise flat"]
    assert flat == [("minimise flat", "BlockState", {"deg_corr": True})]
    assert [(fit["seed"], fit["start"]) for fit in details["fits"]] == [
        (11, "nested"),
        (12, "flat"),
    ]


def test_weights_that_do_not_arrive_are_noticed(fake_graph_tool):
    import graph_tool.inference

    graph_tool.inference.IGNORE_WEIGHTS = True
    with pytest.raises(RuntimeError, match="left the edge weights out"):
        run_fake("posterior")


def test_ignored_arguments_are_an_error_and_not_a_warning(fake_graph_tool, monkeypatch):
    def old_form(self, weights, degree_corrected=True):
        return {"state_args": {"deg_corr": degree_corrected}}

    monkeypatch.setattr(worker.GraphTool, "_model", old_form)
    with pytest.raises(UserWarning, match="unrecognized keyword arguments"):
        run_fake("posterior")


def test_lost_degree_correction_is_noticed(fake_graph_tool, monkeypatch):
    import graph_tool.inference

    monkeypatch.setattr(graph_tool.inference.WeightedBlockState, "deg_corr", False)
    original = worker.GraphTool._model

    def without(self, weights, degree_corrected=True):
        return original(self, weights, False)

    monkeypatch.setattr(worker.GraphTool, "_model", without)
    with pytest.raises(RuntimeError, match="left the degree correction out"):
        run_fake("posterior")


def test_worker_runs_as_a_program_against_version_3(fake_graph_tool, tmp_path, monkeypatch):
    # A Python whose graph_tool is the stand-in, behind the same interface as the real one.
    monkeypatch.setenv("PYTHONPATH", str(fake_graph_tool.parent))
    python = tmp_path / "python3"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    graph, _ = planted(isolated=2)
    hierarchies = fit_nested_sbm(graph, 2, seed=1, python=str(python))
    assert hierarchies[0].provenance["graph_tool"] == "3.6"
    assert hierarchies[0].description_length == 2 * graph.n_edges
    assert hierarchies[0].levels[0].tolist() == [0] * 36 + [1] * 36 + [-1] * 2


def test_worker_does_not_see_its_own_folder(tmp_path):
    copy = tmp_path / "_graph_tool_worker.py"
    shutil.copy(WORKER, copy)
    (tmp_path / "platform.py").write_text("")
    (tmp_path / "graph_tool.py").write_text("raise SystemExit('imported from beside the worker')")
    np.savez(
        tmp_path / "request.npz",
        n_nodes=2,
        source=[0],
        target=[1],
        weight=[1.0],
        options=json.dumps(fake_request("posterior")),
    )
    finished = subprocess.run(
        [sys.executable, str(copy), str(tmp_path / "request.npz"), str(tmp_path / "out.npz")],
        capture_output=True,
        text=True,
        check=False,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
    )
    assert "imported from beside" not in finished.stderr
