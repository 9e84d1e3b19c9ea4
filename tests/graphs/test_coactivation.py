from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_array

from espalier.errors import ConfigurationError, DataError
from espalier.files import read_npz, write_npz
from espalier.graphs.activations import shuffled
from espalier.graphs.coactivation import (
    CoactivationGraph,
    coactivation_graph,
    read_coactivation,
    write_coactivation,
)

GOLDENS = Path(__file__).parents[1] / "goldens" / "class_hierarchies"
NODES = {
    "layer": np.repeat([0, 1, 2], [20, 17, 3]),
    "neuron": np.concatenate([np.arange(20), np.arange(17) + 3, np.arange(3)]),
    "label": np.concatenate([np.full(37, -1), np.arange(3)]),
    "layer_names": ("first", "second", "output"),
    "class_names": ("bag", "coat", "T-shirt/Top & more"),
}


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDENS / "spearman.npz") as archive:
        return dict(archive)


@pytest.fixture
def graph(golden) -> CoactivationGraph:
    return coactivation_graph(golden["activations"], **NODES)


class TestGraph:
    @pytest.mark.parametrize("tile", [None, 6])
    @pytest.mark.parametrize(
        ("rescale", "expected"),
        [
            ("linear", "rescaled_text"),
            ("min-max", "rescaled_minmax_as_in_notebook"),
            ("none", "weight"),
        ],
    )
    def test_golden_edges_and_rescales(self, golden, rescale, expected, tile):
        graph = coactivation_graph(golden["activations"], **NODES, rescale=rescale, tile=tile)
        rows, columns, weights = graph.edges()
        assert np.array_equal(np.stack([rows, columns], 1), golden["edges_ge_0p5"])
        np.testing.assert_allclose(weights, golden[expected], rtol=0, atol=1e-12)

    def test_symmetric_without_diagonal(self, graph):
        dense = graph.adjacency.toarray()
        assert graph.adjacency.dtype == np.float64
        assert np.array_equal(dense, dense.T)
        assert not dense.diagonal().any()
        assert graph.n_edges == 23
        assert graph.n_nodes == 40
        assert graph.adjacency.has_sorted_indices

    def test_constant_units_are_present_without_edges(self, graph):
        assert np.flatnonzero(graph.constant).tolist() == [34, 35]
        assert not np.diff(graph.adjacency.indptr)[[34, 35]].any()

    def test_min_max_keeps_its_edge_of_weight_0(self, golden):
        graph = coactivation_graph(golden["activations"], **NODES, rescale="min-max")
        assert graph.n_edges == 23
        assert graph.edges()[2].min() == 0
        assert graph.edges()[2].max() == 1

    def test_min_max_of_equal_correlations(self):
        column = np.arange(6.0)
        graph = coactivation_graph(
            np.stack([column, column, column], 1),
            [0, 0, 1],
            [0, 1, 0],
            [-1, -1, 0],
            ["a", "b"],
            ["one"],
            rescale="min-max",
        )
        assert graph.edges()[2].tolist() == [1, 1, 1]

    def test_output_nodes_in_class_order(self, golden):
        nodes = NODES | {"label": np.concatenate([np.full(37, -1), [2, 0, 1]])}
        graph = coactivation_graph(golden["activations"], **nodes)
        assert graph.output_nodes.tolist() == [38, 39, 37]

    def test_no_edges(self, golden, tmp_path):
        graph = coactivation_graph(golden["activations"][:, :36], **without_units(4), n_edges=0)
        assert graph.n_edges == 0
        assert [len(part) for part in graph.edges()] == [0, 0, 0]
        write_coactivation(tmp_path / "g.npz", graph)
        assert read_coactivation(tmp_path / "g.npz").n_edges == 0

    @pytest.mark.parametrize("rescale", ["linear", "min-max", "none"])
    def test_threshold_that_nothing_reaches(self, rescale):
        values = np.random.default_rng(0).standard_normal((500, 36))
        graph = coactivation_graph(values, **without_units(4), threshold=0.9, rescale=rescale)
        assert graph.n_edges == 0

    def test_negative_correlation_is_no_edge(self):
        column = np.arange(6.0)
        graph = coactivation_graph(
            np.stack([column, -column], 1), [0, 1], [0, 0], [-1, 0], ["a", "b"], ["one"]
        )
        assert graph.n_edges == 0


def without_units(count: int) -> dict:
    """The node attributes less `count` hidden units."""
    keep = np.r_[count:40]
    return NODES | {name: NODES[name][keep] for name in ("layer", "neuron", "label")}


class TestNullModel:
    def test_same_number_of_edges(self, golden, graph):
        null = coactivation_graph(
            shuffled(golden["activations"], seed=0), **NODES, n_edges=graph.n_edges
        )
        assert null.n_edges == graph.n_edges
        weights = null.edges()[2]
        assert weights.min() == 0
        assert (weights <= 1).all()
        assert np.array_equal(null.constant, graph.constant)
        assert set(zip(*null.edges()[:2], strict=True)) != set(zip(*graph.edges()[:2], strict=True))

    def test_observed_edge_count_gives_the_observed_graph(self, golden, graph):
        again = coactivation_graph(golden["activations"], **NODES, n_edges=graph.n_edges)
        assert (again.adjacency != graph.adjacency).nnz == 0
        assert np.array_equal(again.adjacency.data, graph.adjacency.data)

    def test_negative_correlations_among_the_strongest(self, golden):
        alive = 38 * 37 // 2
        graph = coactivation_graph(golden["activations"], **NODES, n_edges=alive)
        weights = graph.edges()[2]
        assert graph.n_edges == alive
        assert weights.min() == 0
        assert weights.max() == pytest.approx(1)


class TestFiles:
    def test_round_trip(self, graph, tmp_path):
        path = tmp_path / "graph.npz"
        write_coactivation(path, graph, {"seed": 3})
        again = read_coactivation(path)
        for name in ("layer", "neuron", "label", "constant"):
            assert np.array_equal(getattr(again, name), getattr(graph, name))
            assert getattr(again, name).dtype == getattr(graph, name).dtype
        for name in ("indptr", "indices", "data"):
            assert np.array_equal(getattr(again.adjacency, name), getattr(graph.adjacency, name))
        assert again.layer_names == graph.layer_names
        assert again.class_names == graph.class_names
        assert read_npz(path)[1] == {"seed": 3}

    def test_equal_bytes_dense_and_tiled(self, golden, tmp_path):
        for name, tile in (("dense", None), ("tiled", 7)):
            graph = coactivation_graph(golden["activations"], **NODES, tile=tile)
            write_coactivation(tmp_path / name, graph, {"seed": 0})
        assert (tmp_path / "dense").read_bytes() == (tmp_path / "tiled").read_bytes()

    def test_zero_weight_survives(self, golden, tmp_path):
        graph = coactivation_graph(golden["activations"], **NODES, rescale="min-max")
        write_coactivation(tmp_path / "g.npz", graph)
        assert read_coactivation(tmp_path / "g.npz").n_edges == graph.n_edges

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"neuron": np.arange(39)}, r"neuron has shape \(39,\), but layer names 40 units"),
            ({"layer": np.zeros(41, int)}, r"indptr has shape \(41,\).*expected \(42,\)"),
            ({"weights": np.zeros(3)}, r"indices have shape \(46,\) and weights \(3,\)"),
            ({"weights": np.arange(46.0)}, "not symmetric"),
            ({"weights": np.full(46, np.nan)}, "NaN or infinite"),
            ({"indices": np.full(46, 77)}, "77, but there are 40 units"),
            ({"label": np.full(40, -1)}, "every class needs exactly one output unit"),
            ({"layer_names": np.array(["only"])}, "1 layer names"),
            ({"class_names": None}, "lacks class_names"),
        ],
    )
    def test_damaged(self, graph, tmp_path, change, message):
        path = tmp_path / "graph.npz"
        write_coactivation(path, graph)
        arrays, _ = read_npz(path)
        arrays = {k: v for k, v in (arrays | change).items() if v is not None}
        write_npz(path, arrays)
        with pytest.raises(DataError, match=message) as raised:
            read_coactivation(path)
        assert str(path) in str(raised.value)

    def test_loop(self, graph, tmp_path):
        path = tmp_path / "graph.npz"
        arrays = {
            "indptr": np.array([0] + [1] * 40),
            "indices": np.array([0]),
            "weights": np.array([1.0]),
        }
        write_coactivation(path, graph)
        write_npz(path, read_npz(path)[0] | arrays)
        with pytest.raises(DataError, match="unit 0 is joined to itself"):
            read_coactivation(path)

    def test_missing_file(self, tmp_path):
        with pytest.raises(DataError, match="does not exist"):
            read_coactivation(tmp_path / "none.npz")


class TestBadInput:
    def test_units_do_not_fit(self, golden):
        with pytest.raises(DataError, match=r"shape \(500, 39\), but layer names 40 units"):
            coactivation_graph(golden["activations"][:, :39], **NODES)

    def test_not_finite_names_layer_and_unit(self, golden):
        values = golden["activations"].copy()
        values[4, 22] = np.nan
        with pytest.raises(DataError, match=r"unit 5 of layer 'second' .* at sample 4"):
            coactivation_graph(values, **NODES)

    @pytest.mark.parametrize("threshold", [1.0, -1.1, float("nan")])
    def test_threshold(self, golden, threshold):
        with pytest.raises(ConfigurationError, match="threshold is"):
            coactivation_graph(golden["activations"], **NODES, threshold=threshold)

    def test_unknown_names(self, golden):
        with pytest.raises(ConfigurationError, match="Did you mean 'min-max'"):
            coactivation_graph(golden["activations"], **NODES, rescale="minmax")
        with pytest.raises(ConfigurationError, match="Did you mean 'pearson'"):
            coactivation_graph(golden["activations"], **NODES, method="pearsson")

    def test_class_without_output(self, golden):
        nodes = NODES | {"class_names": ("a", "b", "c", "d")}
        with pytest.raises(DataError, match="4 class names"):
            coactivation_graph(golden["activations"], **nodes)

    def test_adjacency_shape(self):
        with pytest.raises(DataError, match=r"shape \(3, 3\), but layer names 2 units"):
            CoactivationGraph(
                csr_array((3, 3)), np.zeros(2, int), np.arange(2), np.array([-1, 0]),
                np.zeros(2, bool), ("a",), ("x",),
            )  # fmt: skip


def test_import_without_torch():
    code = (
        "import sys, espalier.graphs as g; g.spearman; g.coactivation_graph; g.collect; "
        "import espalier.graphs.readout; "
        "assert not {'torch', 'matplotlib', 'sklearn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_curated_names_exist():
    import espalier.graphs

    for name in espalier.graphs.__all__:
        assert callable(getattr(espalier.graphs, name))
