from __future__ import annotations

import subprocess
import sys
import warnings
from dataclasses import replace

import networkx as nx
import numpy as np
import pytest
import torch
from hub_graphs import (
    GOLDENS,
    NETWORKS,
    centrality_by_eigenvalues,
    golden,
    layered_adjacency,
    random_weights,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from torch import nn

from espalier.errors import ConfigurationError, DataError
from espalier.files import read_json
from espalier.graphs import encode, layer_graph
from espalier.hubs import PRESETS, laplacian_centrality, network_centrality
from espalier.hubs.centrality import CentralityOptions, laplacian_of_graph
from espalier.hubs.weighted_graphs import LayeredWeights, Sums, _DeviceLayer, network_graph

FORMS = {
    "numpy": lambda w: w,
    "fortran": np.asfortranarray,
    "strided": lambda w: np.repeat(np.repeat(w, 2, 0), 2, 1)[::2, ::2],
    "csr_matrix": sparse.csr_matrix,
    "csr_array": sparse.csr_array,
    "torch": torch.tensor,
    "torch_transposed": lambda w: torch.tensor(w.T.copy()).T,
    "torch_parameter": lambda w: nn.Parameter(torch.tensor(w)),
}


def flat(layers):
    return np.concatenate([np.asarray(layer).reshape(-1) for layer in layers])


def with_outputs(weights):
    """The same network with a further layer, which a graph without outputs leaves out."""
    rng = np.random.default_rng(9)
    return [*weights, rng.standard_normal((weights[-1].shape[1], 4))]


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("form", FORMS)
def test_goldens(name, form):
    weights, values = golden(name)
    given_weights = [FORMS[form](w) for w in weights]

    def computed(**options):
        return flat(laplacian_centrality(given_weights, **options))

    definition = np.array(values["definition_undirected_signed_eig"])
    scale = np.abs(definition).max()
    np.testing.assert_allclose(computed(), definition, rtol=0, atol=1e-9 * max(1, scale))
    np.testing.assert_allclose(
        computed(signed=False), values["definition_undirected_abs_eig"], rtol=1e-9, atol=1e-9
    )
    np.testing.assert_allclose(
        computed(own_term="truncated"),
        values["formula_networkit_undirected"],
        rtol=1e-12,
        atol=1e-12,
    )
    np.testing.assert_allclose(
        computed(graph="out"), values["formula_directed_out_untruncated"], rtol=1e-12, atol=1e-12
    )
    cenbench = flat(
        laplacian_centrality([FORMS[form](w) for w in with_outputs(weights)], preset="cenbench")
    )
    for key in ("formula_networkit_directed", "networkit_directed_signed_AS_IN_CENBENCH"):
        np.testing.assert_allclose(cenbench, values[key], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", NETWORKS)
def test_cenbench_leaves_out_the_output_layer_and_scores_the_last_hidden_one_zero(name):
    weights, values = golden(name)
    layers = laplacian_centrality(weights, preset="cenbench")
    assert [layer.size for layer in layers] == values["layer_sizes"][:-1]
    np.testing.assert_array_equal(layers[-1], 0)
    np.testing.assert_allclose(
        flat(layers), values["cenbench_nodes_without_output"], rtol=1e-12, atol=1e-12
    )
    assert flat(layers).mean() == pytest.approx(values["cenbench_mu"], abs=1e-12)
    assert flat(layers).std() == pytest.approx(values["cenbench_sigma_ddof0"], abs=1e-12)


class ExplicitGraph:
    """A graph that is not layered."""

    def __init__(self, matrix):
        self.shapes = ((len(matrix),),)
        self.names = ("nodes",)
        self.upper = np.triu(matrix)

    def sums(self):
        squares = self.upper**2
        return Sums(self.upper.sum(1), self.upper.sum(0), squares.sum(1), squares.sum(0))

    def products(self, x):
        return self.upper @ x, self.upper.T @ x

    def adjacency(self):
        return sparse.csr_array(self.upper)


def test_worked_examples():
    for name, example in read_json(GOLDENS / "worked_examples.json").items():
        adjacency = np.array(example["A"])
        np.testing.assert_allclose(
            centrality_by_eigenvalues(adjacency), example["lc_eig"], atol=1e-9, err_msg=name
        )
        if "published" in example:
            np.testing.assert_allclose(example["lc_eig"], example["published"], atol=1e-9)
        graph = ExplicitGraph(adjacency)
        np.testing.assert_allclose(
            laplacian_of_graph(graph, CentralityOptions()), example["lc_eig"], atol=1e-9
        )
        if "lc_nk_11_2_2" in example:
            np.testing.assert_allclose(
                laplacian_of_graph(graph, CentralityOptions(own_term="truncated")),
                example["lc_nk_11_2_2"],
                atol=1e-12,
            )
        if "full_energy" in example:
            shares = laplacian_of_graph(graph, CentralityOptions(normalised=True))
            np.testing.assert_allclose(
                shares * example["full_energy"], example["published"], rtol=1e-12
            )


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.booleans())
def test_the_closed_form_is_the_drop_of_the_energy(seed, signed):
    weights = random_weights(seed)
    adjacency = layered_adjacency(weights)
    if not signed:
        adjacency = np.abs(adjacency)
    expected = centrality_by_eigenvalues(adjacency + adjacency.T)
    for form in (np.asarray, sparse.csr_array):
        found = flat(laplacian_centrality([form(w) for w in weights], signed=signed))
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
    assert signed or (found >= 0).all()


@settings(max_examples=20)
@given(st.integers(0, 10_000))
def test_networkx_agrees_on_positive_weights(seed):
    weights = random_weights(seed, signed=False)
    graph = nx.from_numpy_array(layered_adjacency(weights))
    if graph.number_of_edges() == 0:
        return
    expected = nx.laplacian_centrality(graph, normalized=False, weight="weight")
    found = flat(laplacian_centrality(weights))
    np.testing.assert_allclose(found, [expected[v] for v in graph], rtol=1e-9, atol=1e-9)
    energy = np.square(nx.laplacian_spectrum(graph)).sum()
    shares = flat(laplacian_centrality(weights, normalised=True))
    np.testing.assert_allclose(shares, found / energy, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("normalised", [False, True])
def test_networkit_agrees_on_integer_weights(directed, normalised):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        networkit = pytest.importorskip("networkit")
    rng = np.random.default_rng(3)
    weights = [rng.integers(-4, 5, size=shape) for shape in ((6, 5), (5, 4), (4, 3))]
    if not directed:
        weights = [np.abs(w) for w in weights]
    row, column = np.nonzero(layered_adjacency(weights))
    data = layered_adjacency(weights)[row, column]
    # int32 indices crash networkit 11.2.2
    coo = (data, (row.astype(np.uint64), column.astype(np.uint64)))
    graph = networkit.GraphFromCoo(coo, n=18, weighted=True, directed=directed)
    run = networkit.centrality.LaplacianCentrality(graph, normalized=normalised)
    found = flat(
        laplacian_centrality(
            weights, graph="out" if directed else "undirected", normalised=normalised
        )
    )
    np.testing.assert_allclose(found, run.run().scores(), rtol=1e-12, atol=1e-12)


def test_truncation_cuts_towards_zero():
    weights = [np.array([[-1.5]])]
    exact = laplacian_centrality(weights)
    truncated = laplacian_centrality(weights, own_term="truncated")
    for e, t in zip(exact, truncated, strict=True):
        np.testing.assert_allclose(e - t, 1.5**2 - 1)


def test_presets_and_the_options_beside_them():
    weights = with_outputs(golden(NETWORKS[0])[0])
    by_hand = laplacian_centrality(
        weights, "out", True, own_term="truncated", include_output=False, normalised=False
    )
    for own, preset in zip(by_hand, laplacian_centrality(weights, preset="cenbench"), strict=True):
        np.testing.assert_array_equal(own, preset)
    for name in ("definition", "paper"):
        np.testing.assert_array_equal(
            flat(laplacian_centrality(weights, preset=name)), flat(laplacian_centrality(weights))
        )
    assert set(PRESETS) == {"definition", "paper", "cenbench"}
    agreeing = laplacian_centrality(weights, "out", preset="cenbench", own_term="truncated")
    np.testing.assert_array_equal(flat(agreeing), flat(by_hand))
    with pytest.raises(ConfigurationError, match="'cenbench' contradicts graph='undirected'"):
        laplacian_centrality(weights, "undirected", preset="cenbench")
    with pytest.raises(ConfigurationError, match="include_output=False"):
        laplacian_centrality(weights, preset="definition", include_output=False)
    with pytest.raises(ConfigurationError, match="Did you mean 'paper'"):
        laplacian_centrality(weights, preset="papre")
    with pytest.raises(ConfigurationError, match="unknown graph"):
        laplacian_centrality(weights, "directed")
    with pytest.raises(ConfigurationError, match="unknown own term"):
        laplacian_centrality(weights, own_term="trunc")
    with pytest.raises(ConfigurationError, match="signed is 'yes'"):
        laplacian_centrality(weights, signed="yes")


def test_normalised_values_are_shares_of_the_energy():
    weights = random_weights(5, layers=3)
    adjacency = layered_adjacency(weights)
    both = adjacency + adjacency.T
    energy = np.square(np.linalg.eigvalsh(np.diag(both.sum(1)) - both)).sum()
    np.testing.assert_allclose(
        flat(laplacian_centrality(weights, normalised=True)),
        flat(laplacian_centrality(weights)) / energy,
        rtol=1e-9,
    )
    out = np.square(adjacency.sum(1)).sum() + np.square(adjacency).sum()
    np.testing.assert_allclose(
        flat(laplacian_centrality(weights, "out", normalised=True)),
        flat(laplacian_centrality(weights, "out")) / out,
        rtol=1e-9,
    )
    empty = [np.zeros((3, 2)), np.zeros((2, 4))]
    np.testing.assert_array_equal(flat(laplacian_centrality(empty, normalised=True)), 0)


def test_integers_booleans_and_narrow_floats_are_taken_exactly():
    rng = np.random.default_rng(0)
    integers = [rng.integers(-3, 4, size=shape) for shape in ((5, 4), (4, 3))]
    expected = flat(laplacian_centrality([w.astype(float) for w in integers]))
    for dtype in (np.int8, np.int64, np.float16, np.float32):
        found = laplacian_centrality([w.astype(dtype) for w in integers])
        np.testing.assert_array_equal(flat(found), expected)
        np.testing.assert_array_equal(
            flat(laplacian_centrality([torch.tensor(w.astype(dtype)) for w in integers])), expected
        )
    brain = [torch.tensor(w, dtype=torch.bfloat16) for w in integers]
    np.testing.assert_array_equal(flat(laplacian_centrality(brain)), expected)
    masks = [w > 0 for w in integers]
    np.testing.assert_array_equal(
        flat(laplacian_centrality([sparse.csr_array(m) for m in masks])),
        flat(laplacian_centrality([m.astype(float) for m in masks])),
    )


def test_float32_weights_are_added_up_in_float64():
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal((500, 400)).astype(np.float32)]
    expected = flat(laplacian_centrality([weights[0].astype(np.float64)]))
    for form in (np.asarray, sparse.csr_array, torch.tensor):
        found = flat(laplacian_centrality([form(weights[0])]))
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_csr_entries_stored_twice_are_one_edge_and_the_matrix_is_left_alone():
    twice = sparse.csr_array(
        (np.array([1.0, 2.0, 3.0]), np.array([1, 1, 0]), np.array([0, 2, 3])), shape=(2, 2)
    )
    found = laplacian_centrality([twice])
    np.testing.assert_allclose(flat(found), flat(laplacian_centrality([twice.toarray()])))
    assert twice.nnz == 3
    other = sparse.coo_array(twice.toarray())
    np.testing.assert_allclose(flat(laplacian_centrality([other])), flat(found))


def test_torch_sparse_layouts():
    weights = golden(NETWORKS[0])[0]
    expected = flat(laplacian_centrality(weights))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        layouts = [
            [torch.tensor(w).to_sparse_csr() for w in weights],
            [torch.tensor(w).to_sparse() for w in weights],
        ]
    for layout in layouts:
        np.testing.assert_allclose(flat(laplacian_centrality(layout)), expected, atol=1e-12)


def test_a_tensor_on_another_device_is_summed_there(monkeypatch):
    monkeypatch.setattr("espalier.hubs.weighted_graphs._DEVICE_BLOCK", 16)
    weights = golden(NETWORKS[0])[0]
    for absolute in (False, True):
        for w in weights:
            near, there = LayeredWeights([w])._layers[0], _DeviceLayer(torch.tensor(w))
            assert there.shape == w.shape
            x, y = np.arange(w.shape[1], dtype=float), np.arange(w.shape[0], dtype=float)
            for one, other in (
                (near.sums(absolute), there.sums(absolute)),
                (near.products(absolute, x, y), there.products(absolute, x, y)),
            ):
                for a, b in zip(one, other, strict=True):
                    np.testing.assert_allclose(a, b, atol=1e-12)
    if torch.cuda.is_available():
        moved = [torch.tensor(w, device="cuda") for w in weights]
        np.testing.assert_allclose(
            flat(laplacian_centrality(moved)), flat(laplacian_centrality(weights)), atol=1e-12
        )


def test_bad_weights():
    good = np.ones((3, 2))
    with pytest.raises(DataError, match="weights is empty"):
        laplacian_centrality([])
    with pytest.raises(DataError, match=r"one matrix; give a list"):
        laplacian_centrality(good)
    with pytest.raises(DataError, match=r"layers 0 and 1 do not chain.*\(3, 2\) and \(3, 4\)"):
        laplacian_centrality([good, np.ones((3, 4))])
    with pytest.raises(DataError, match=r"layer 1 have shape \(2,\)"):
        laplacian_centrality([good, np.ones(2)])
    with pytest.raises(DataError, match="without units"):
        laplacian_centrality([np.ones((3, 0))])
    with pytest.raises(DataError, match="one layer has no edge left"):
        laplacian_centrality([good], include_output=False)
    for form in (np.asarray, sparse.csr_array, torch.tensor):
        with pytest.raises(DataError, match="complex"):
            laplacian_centrality([form(good * 1j)])
        for value in (np.nan, np.inf, -np.inf):
            bad = np.ones((2, 4))
            bad[1, 2] = value
            for signed in (True, False):
                with pytest.raises(DataError, match=r"layer 1: 1 are not finite.*\(1, 2\)"):
                    laplacian_centrality([form(good), form(bad)], signed=signed)
        with pytest.raises(DataError, match="overflow"):
            laplacian_centrality([form(good * 1e200)])
    with pytest.raises(DataError, match="must be numbers"):
        laplacian_centrality([np.array([["a"]])])
    damaged = sparse.csr_array(good)
    damaged.indices[0] = 7
    with pytest.raises(DataError, match="column indices from"):
        laplacian_centrality([damaged])


class Net(nn.Module):
    """Strides, padding, groups, pooling, a shortcut and a dense layer behind a flattened map."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, padding=1)
        self.grouped = nn.Conv2d(4, 6, 3, stride=2, groups=2)
        self.side = nn.Conv2d(4, 6, 1, stride=2)
        self.last = nn.Linear(6 * 2 * 1, 3)

    def forward(self, x):
        x = torch.relu(self.first(x))
        x = self.grouped(x) + self.side(x)[:, :, :2, :2]
        return self.last(nn.functional.max_pool2d(x, (1, 2)).flatten(1))


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    model = Net()
    masks = {
        name: torch.rand(p.shape) < 0.7
        for name, p in model.named_parameters()
        if name.endswith("weight")
    }
    return layer_graph(model, (2, 5, 5), masks)


def explicit_centrality(adjacency, graph, own_term="exact"):
    undirected = graph == "undirected"
    whole = adjacency + adjacency.T if undirected else adjacency
    x = whole.sum(1)
    own = np.trunc(x) if own_term == "truncated" else x
    return own**2 + (whole**2).sum(1) + 2 * whole @ x


@pytest.mark.parametrize("kind", ["unrolled", "rolled-channel"])
@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("graph", ["undirected", "out"])
def test_networks_with_convolutions_equal_their_explicit_graphs(net, kind, signed, graph):
    units = network_graph(net, kind, signed=signed)
    adjacency = units.adjacency().toarray()
    assert (adjacency < 0).any() == signed
    values = network_centrality(net, kind, graph=graph, signed=signed)
    assert list(values) == [part.name for part in net.parts]
    shapes = [
        (p.channels, p.height, p.width) if kind == "unrolled" else (p.channels,) for p in net.parts
    ]
    assert [v.shape for v in values.values()] == shapes
    expected = explicit_centrality(adjacency, graph)
    np.testing.assert_allclose(flat(values.values()), expected, rtol=1e-9, atol=1e-10)
    if graph == "undirected":
        if not signed:
            oracle = nx.laplacian_centrality(nx.from_numpy_array(adjacency), normalized=False)
            np.testing.assert_allclose(flat(values.values()), list(oracle.values()), rtol=1e-7)
        elif kind == "rolled-channel":
            by_eigenvalues = centrality_by_eigenvalues(adjacency + adjacency.T)
            np.testing.assert_allclose(flat(values.values()), by_eigenvalues, atol=1e-8)


def test_unrolled_edges_are_those_of_the_encoding(net):
    signed = network_graph(net, "unrolled").adjacency()
    encoded = encode(net, "unrolled", dtype=np.float64)
    np.testing.assert_allclose(abs(signed).toarray(), encoded.toarray(), atol=1e-12)


def test_rolled_channels_are_those_of_the_encoding_where_layers_are_convolutions(net):
    adjacency = network_graph(net, "rolled-channel", signed=False).adjacency().toarray()
    encoded = encode(net, "rolled-channel", dtype=np.float64)
    np.testing.assert_allclose(adjacency[:2, 2:6], encoded["first.weight"].toarray(), rtol=1e-6)


def test_signs_of_a_convolution_by_hand():
    model = nn.Sequential(nn.Conv2d(1, 1, (1, 2), bias=False))
    with torch.no_grad():
        model[0].weight[:] = torch.tensor([[[[3.0, -4.0]]]])
    graph = layer_graph(model, (1, 1, 3))
    unrolled = network_graph(graph, "unrolled").adjacency().toarray()
    np.testing.assert_allclose(unrolled[:3, 3:], [[3, 0], [-4, 3], [0, -4]])
    rolled = network_graph(graph, "rolled-channel").adjacency().toarray()
    np.testing.assert_allclose(rolled, [[0, -5], [0, 0]])


def test_dense_layers_are_the_same_as_weights_or_as_a_model():
    torch.manual_seed(1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4))
    weights = [model[1].weight.T, model[3].weight.T]
    for options in ({}, {"preset": "cenbench"}, {"signed": False, "normalised": True}):
        expected = laplacian_centrality(weights, **options)
        found = network_centrality(model, input_shape=(6, 1, 1), **options)
        for a, b in zip(expected, found.values(), strict=True):
            np.testing.assert_allclose(a, b.reshape(-1), rtol=1e-6, atol=1e-7)
    channels = network_centrality(model, "rolled-channel", input_shape=(6, 1, 1))
    for a, b in zip(laplacian_centrality(weights), channels.values(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


def test_bad_networks(net):
    with pytest.raises(ConfigurationError, match="needs input_shape"):
        network_centrality(Net())
    with pytest.raises(ConfigurationError, match="belong to a model"):
        network_centrality(net, input_shape=(2, 5, 5))
    with pytest.raises(ConfigurationError, match="unknown encoding"):
        network_centrality(net, "rolled")
    with pytest.raises(DataError, match="published"):
        network_centrality(replace(net, convention="published"))
    diverged = replace(net.blocks[0], weight=net.blocks[0].weight * np.float32("nan"))
    with pytest.raises(DataError, match=r"'first\.weight' are not finite"):
        network_centrality(replace(net, blocks=(diverged, *net.blocks[1:])))
    single = layer_graph(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), (1, 2, 2))
    with pytest.raises(DataError, match="one layer"):
        network_centrality(single, include_output=False)


def test_importing_the_package_is_light():
    code = (
        "import sys, espalier.hubs; "
        "assert not {'torch', 'numba', 'scipy', 'pandas'} & set(sys.modules); "
        "assert all(hasattr(espalier.hubs, name) for name in espalier.hubs.__all__)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
