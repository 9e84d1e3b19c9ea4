from __future__ import annotations

import json
import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from espalier.errors import ConfigurationError, TrainingError
from espalier.hubs import laplacian_centrality
from espalier.hubs.centrality import PRESETS
from espalier.hubs.methods import (
    Changes,
    Evolution,
    LayerRemovedWarning,
    NothingRemovedWarning,
    draw_absent,
    rewire,
    set_kept,
    units_kept,
)
from espalier.hubs.options import CENTRALITY_PRESETS, METHODS, MethodOptions, method_options
from espalier.hubs.sparse_layers import build_perceptron
from espalier.hubs.sparse_products import Pattern

SIZES = (40, 30, 20, 5)
ALL = {
    "set": {},
    "set_pure": {},
    "censet": {"k": 1.0, "preset": "cenbench"},
    "censet_fraction": {"fraction": 0.1},
    "katz": {"k": 1.0},
    "strength": {"k": 1.0},
    "accset": {},
    "no_readding": {"k": 1.0, "preset": "cenbench"},
    "readding_while_sd_falls": {"k": 1.0, "preset": "cenbench"},
    "static": {},
    "dense": {},
    "random": {"reference": "x"},
    "random_units": {"reference": "x"},
}
REMOVED = [Changes([4, 3, 2, 0], [20, 15, 0], [20, 15, 0])] * 5


def perceptron(seed=0, sizes=SIZES):
    return build_perceptron(sizes, 4, seed, kernel="compiled")[0]


def edges(network):
    return [layer.pattern.edges for layer in network.layers]


# -- SET's rule ----------------------------------------------------------------------------------


@pytest.mark.parametrize("zeta", ["0.05", "0.2", "0.3"])
def test_set_keeps_what_the_published_code_keeps(root, zeta):
    folder = root / "tests/goldens/hubs"
    expected = json.loads((folder / "set_prune_case.json").read_text())[zeta]
    with np.load(folder / "set_prune_case.npz") as arrays:
        matrix = arrays["W"]
    rows, columns = np.nonzero(matrix)
    kept = set_kept(torch.from_numpy(matrix[rows, columns]), float(zeta))
    assert [[int(r), int(c)] for r, c in zip(rows[kept], columns[kept], strict=True)] == (
        expected["keep"]
    )
    assert int((~kept).sum()) == expected["removed"]


def by_thresholds(values, zeta, variant):
    """SET's rule as its two codes state it: thresholds in the sorted entries."""
    if variant == "set":
        ordered = np.sort(np.concatenate([values, np.zeros(50)]))
        negative, first_positive = (ordered < 0).sum(), (ordered <= 0).sum()
        positive = (ordered > 0).sum()
        high = ordered[int(min(len(ordered) - 1, first_positive + zeta * positive))]
        low = ordered[int((1 - zeta) * negative)]
    else:
        ordered = np.sort(values)
        nearest = int(np.abs(ordered).argmin())
        low = ordered[int((1 - zeta) * nearest)]
        after = nearest + 1
        high = ordered[int(min(len(ordered) - 1, after + zeta * (len(ordered) - after)))]
    return (values < low) | (values > high)


@settings(max_examples=60)
@given(
    st.integers(4, 80),
    st.integers(0, 2**31),
    st.sampled_from([0.05, 0.1, 0.25, 0.3, 0.5]),
    st.sampled_from(["set", "set_pure"]),
    st.floats(-0.8, 0.8),
)
def test_the_counts_are_those_of_the_thresholds(count, seed, zeta, variant, shift):
    values = np.random.default_rng(seed).standard_normal(count) + shift
    if not (values < 0).sum() > 1 < (values > 0).sum():
        return
    kept = set_kept(torch.from_numpy(values), zeta, variant)
    assert np.array_equal(kept, by_thresholds(values, zeta, variant))


def test_weights_of_exactly_zero_go():
    values = torch.tensor([-1.0, 0.0, 2.0, 0.0, -3.0, 1.0])
    for variant in ("set", "set_pure"):
        assert not set_kept(values, 0.0, variant)[[1, 3]].any()


# -- removal and growth --------------------------------------------------------------------------


@settings(max_examples=40)
@given(st.integers(1, 8), st.integers(1, 8), st.integers(0, 2**31), st.integers(0, 70))
def test_growth_draws_absent_places_without_repeats(inputs, outputs, seed, count):
    generator = np.random.default_rng(seed)
    pattern = Pattern(inputs, outputs, np.flatnonzero(generator.random(inputs * outputs) < 0.5))
    kept = generator.random(pattern.edges) < 0.7
    drawn = draw_absent(pattern, kept, count, generator)
    assert len(drawn) == min(count, inputs * outputs - kept.sum())
    assert (np.diff(drawn) > 0).all()
    assert not np.isin(drawn, pattern.positions[kept]).any()
    assert not len(drawn) or (drawn.min() >= 0 and drawn.max() < inputs * outputs)


def test_every_absent_place_is_equally_likely():
    pattern, kept = Pattern(4, 3, np.array([1, 5, 6])), np.array([True, False, True])
    generator = np.random.default_rng(0)
    counts = np.zeros(12)
    for _ in range(3000):
        counts[draw_absent(pattern, kept, 2, generator)] += 1
    absent = np.setdiff1d(np.arange(12), [1, 6])
    assert counts[[1, 6]].sum() == 0
    assert np.abs(counts[absent] - 600).max() < 5 * math.sqrt(600)


@pytest.mark.parametrize("keep_momentum", [False, True])
def test_rewiring_keeps_the_budget_and_the_values_of_what_stays(keep_momentum):
    layer = perceptron().layers[0]
    layer.momenta["values"].normal_()
    old = layer.matrix().toarray()
    momenta = dict(zip(layer.pattern.positions, layer.momenta["values"].tolist(), strict=True))
    kept = np.random.default_rng(1).random(layer.pattern.edges) < 0.8
    staying = layer.pattern.positions[kept]
    budget = layer.pattern.edges
    grown = rewire(layer, kept, budget, np.random.default_rng(0), 0.1, keep_momentum)
    assert layer.pattern.edges == budget and grown == (~kept).sum()
    assert np.isin(staying, layer.pattern.positions).all()
    new = layer.matrix().toarray()
    places = np.unravel_index(staying, (layer.pattern.outputs, layer.pattern.inputs))
    assert np.array_equal(new.T[places], old.T[places])
    fresh = ~np.isin(layer.pattern.positions, staying)
    assert 0.05 < float(layer.values[torch.from_numpy(fresh)].std()) < 0.2
    now = dict(zip(layer.pattern.positions, layer.momenta["values"].tolist(), strict=True))
    expected = {p: momenta[p] if keep_momentum else 0.0 for p in staying}
    assert {p: now[p] for p in staying} == expected
    assert all(value == 0 for p, value in now.items() if p not in expected)


def test_a_removed_unit_loses_its_column_and_its_row():
    layer = perceptron().layers[1]
    removed_in, removed_out = np.arange(30) == 3, np.arange(20) == 7
    kept = units_kept(layer.pattern, removed_in, removed_out)
    matrix = layer.matrix().toarray()
    assert (~kept).sum() == np.count_nonzero(matrix[3]) + np.count_nonzero(matrix[:, 7]) - (
        matrix[3, 7] != 0
    )


# -- methods -------------------------------------------------------------------------------------


def evolution(method, network=None, **changes):
    options = MethodOptions(method=method, **{**ALL[method], **changes})
    reference = REMOVED if options.reference else None
    return Evolution(network or perceptron(), options, 0, reference)


@pytest.mark.parametrize("method", [name for name in METHODS if name != "dense"])
def test_counts_are_told_and_budgets_are_kept(method):
    network = perceptron()
    before = edges(network)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NothingRemovedWarning)
        changes = evolution(method, network).update(1, 0.5)
    after = edges(network)
    assert len(changes.units) == 4 and len(changes.edges) == len(changes.grown) == 3
    for old, gone, came, new in zip(before, changes.edges, changes.grown, after, strict=True):
        assert old - gone + came == new
    assert changes.edges[2] == 0, "the dense output layer stays"
    if method in ("accset", "no_readding"):
        assert sum(changes.grown) == 0 < sum(changes.edges)
    else:
        assert after == before
    if method == "static":
        assert sum(changes.edges) == 0
    if method == "random":
        assert changes.edges == [20, 15, 0]
    if method == "random_units":
        assert changes.units == [4, 3, 2, 0] and sum(changes.edges) > 0


@pytest.mark.parametrize("method", METHODS)
def test_one_seed_gives_one_result(method):
    networks = [perceptron(), perceptron()]
    for network in networks:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NothingRemovedWarning)
            evolution(method, network).update(1, 0.5)
    for one, two in zip(networks[0].layers, networks[1].layers, strict=True):
        assert np.array_equal(one.pattern.positions, two.pattern.positions)
        assert torch.equal(one.values, two.values)


def test_censet_removes_the_units_below_the_threshold():
    network = perceptron()
    values = laplacian_centrality(network.weights(), preset="cenbench")
    pooled = np.concatenate(values)
    low = [layer < pooled.mean() - pooled.std() for layer in values]
    weights = [
        matrix if isinstance(matrix, np.ndarray) else matrix.toarray()
        for matrix in network.weights()
    ]
    gone = [
        np.count_nonzero(weights[0][low[0][:, None] | low[1]]),
        np.count_nonzero(weights[1][low[1][:, None] | low[2]]),
    ]
    changes = evolution("censet", network).update(1, 0.5)
    assert changes.units == [int(layer.sum()) for layer in low] + [0] and sum(changes.units)
    assert changes.edges == [*gone, 0]


def test_a_threshold_that_removes_nothing_warns_once():
    evolving = evolution("censet", k=50.0)
    with pytest.warns(NothingRemovedWarning, match="k = 50 removes no unit"):
        changes = evolving.update(1, 0.5)
    assert sum(changes.units) == sum(changes.edges) == 0
    evolving.update(2, 0.5)
    assert len(evolving.notes) == 1


def test_a_k_that_removes_a_whole_layer():
    def sparse():
        network = perceptron()
        for layer in network.layers[1:]:
            layer.values.fill_(1.0)
        network.layers[0].values.fill_(-0.01)
        return network

    with pytest.warns(LayerRemovedWarning, match=r"removes every unit of layer 0 .*raise k"):
        evolution("censet", sparse(), k=0.0).update(1, 0.5)
    with (
        pytest.warns(LayerRemovedWarning),
        pytest.raises(TrainingError, match=r"k = 0 leaves layer 1 without a weight.*larger k"),
    ):
        evolution("no_readding", sparse(), k=0.0).update(1, 0.5)


def test_accset_grows_back_after_accuracy_fell():
    network = perceptron()
    evolving, first = evolution("accset", network), sum(edges(network))
    assert not sum(evolving.update(1, 0.5).grown)
    assert not sum(evolving.update(2, 0.6).grown)
    assert sum(edges(network)) < first
    assert sum(evolving.update(3, 0.55).grown) and sum(edges(network)) == first


def test_readding_stops_while_the_spread_grows():
    network = perceptron()
    evolving, first = evolution("readding_while_sd_falls", network), sum(edges(network))
    evolving.update(1, 0.5)
    assert sum(edges(network)) == first
    for layer in network.layers:
        layer.values.mul_(3)
    assert not sum(evolving.update(2, 0.5).grown) and sum(edges(network)) < first
    for layer in network.layers:
        layer.values.mul_(0.1)
    with pytest.warns(NothingRemovedWarning):
        evolving.update(3, 0.5)
    assert sum(edges(network)) == first


def test_set_forgets_momentum_and_set_pure_keeps_it():
    for method, stays in (("set", False), ("set_pure", True)):
        network = perceptron()
        for layer in network.layers:
            for momentum in layer.momenta.values():
                momentum.fill_(1.0)
        evolution(method, network).update(1, 0.5)
        assert bool((network.layers[0].momenta["values"] == 1).any()) == stays
        assert bool((network.layers[0].momenta["bias"] == 1).all()) == stays
        new = network.layers[0].values[network.layers[0].momenta["values"] == 0]
        assert bool((new == 0).any()) != stays


# -- options -------------------------------------------------------------------------------------


def test_the_presets_are_those_of_the_centrality():
    assert set(CENTRALITY_PRESETS) == set(PRESETS)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"method": "censett"}, r"unknown hub method 'censett'\. Did you mean 'censet'"),
        ({"method": "censet"}, "'censet' needs option 'k'"),
        ({"method": "set", "k": 2.0}, "'set' has no option 'k'"),
        ({"method": "censet", "k": math.nan}, "k is nan"),
        ({"method": "censet_fraction", "fraction": 1.0}, r"fraction is 1\.0"),
        ({"method": "random"}, "'random' needs option 'reference'"),
        ({"method": "set", "zeta": 1.5}, r"zeta is 1\.5"),
        ({"method": "censet", "k": 1.0, "preset": "papr"}, "Did you mean 'paper'"),
        ({"method": "set", "zetta": 0.1}, "Did you mean 'zeta'"),
    ],
)
def test_bad_options_are_named(values, message):
    with pytest.raises(ConfigurationError, match=message):
        method_options(values)


def test_a_control_needs_the_run_it_repeats():
    options = MethodOptions(method="random", reference="censet")
    with pytest.raises(ConfigurationError, match="give it as reference"):
        Evolution(perceptron(), options, 0)
    evolving = Evolution(perceptron(), options, 0, REMOVED)
    with pytest.raises(ConfigurationError, match="has 5 updates, and update 6"):
        evolving.update(6, 0.5)


def test_diverged_weights_are_an_error():
    network = perceptron()
    network.layers[0].values[2] = math.inf
    with pytest.raises(TrainingError, match="weights of layer 1 are not finite"):
        evolution("set", network).update(1, 0.5)
