from __future__ import annotations

import numpy as np
import pytest
from hub_graphs import NETWORKS, golden
from hypothesis import given
from hypothesis import strategies as st

from espalier.errors import ConfigurationError, DataError
from espalier.hubs import below_sigma, laplacian_centrality, lowest_fraction

LAYERS = [np.array([1.0, 2.0, 3.0]), np.array([-5.0, 4.0]), np.array([2.0, 2.0, 2.0, 9.0])]


@pytest.mark.parametrize("name", NETWORKS)
def test_the_public_codes_rule(name):
    weights, values = golden(name)
    centralities = laplacian_centrality(weights, preset="cenbench")
    for k, expected in values["cenbench_removed_nodes"].items():
        removal = below_sigma(centralities, float(k), allow_empty_layers=True)
        assert np.flatnonzero(np.concatenate(removal.removed)).tolist() == expected
        assert removal.count == len(expected) == sum(removal.counts)


@pytest.mark.parametrize("name", NETWORKS)
def test_absolute_weights_are_below_no_negative_threshold(name):
    weights, values = golden(name)
    centralities = laplacian_centrality(weights, signed=False)
    for k, threshold in values["abs_graph_threshold_mu_minus_k_sigma"].items():
        removal = below_sigma(centralities, float(k), allow_empty_layers=True)
        np.testing.assert_allclose(removal.thresholds, threshold, rtol=1e-9)
        if threshold < 0:
            assert removal.count == 0


def test_mu_minus_k_sigma_of_all_and_of_each_layer():
    pooled = np.concatenate(LAYERS)
    removal = below_sigma(LAYERS, 1.5)
    assert [layer.tolist() for layer in removal.removed] == [
        [False] * 3,
        [True, False],
        [False] * 4,
    ]
    np.testing.assert_allclose(removal.thresholds, pooled.mean() - 1.5 * pooled.std())
    own = below_sigma(LAYERS, 0.5, "layer")
    assert [layer.tolist() for layer in own.removed] == [
        [True, False, False],
        [True, False],
        [True, True, True, False],
    ]
    np.testing.assert_allclose(own.thresholds, [x.mean() - 0.5 * x.std() for x in LAYERS])
    only = below_sigma(LAYERS, 0.5, "layer", layers=[1])
    assert only.counts == (0, 1, 0)
    np.testing.assert_array_equal(np.isnan(only.thresholds), [True, False, True])


def test_the_threshold_is_strict_and_doing_nothing_is_reported():
    equal = [np.full(3, 2.0), np.full(2, 2.0)]
    assert below_sigma(equal, 0).count == 0
    removal = below_sigma(LAYERS, 10)
    assert removal.count == 0
    assert removal.counts == (0, 0, 0)
    assert not any(layer.any() for layer in removal.removed)


def test_a_rule_that_empties_a_layer_is_refused_or_reported():
    layers = [np.array([5.0, 6.0]), np.array([-1.0, -2.0]), np.array([7.0, 5.0])]
    with pytest.raises(DataError, match=r"removes every unit of layer 1.*raise k"):
        below_sigma(layers, 0.5)
    removal = below_sigma(layers, 0.5, allow_empty_layers=True)
    assert removal.emptied == (1,)
    assert removal.counts == (0, 2, 0)
    with pytest.raises(DataError, match=r"layer 1.*lower the fraction"):
        lowest_fraction(layers, 1 / 3)
    assert lowest_fraction(layers, 1 / 3, allow_empty_layers=True).emptied == (1,)
    assert lowest_fraction(layers, 0.5, "layer").emptied == ()


@given(st.integers(0, 1000), st.floats(0, 0.99), st.sampled_from(["all", "layer"]))
def test_the_lowest_fraction_is_exact(seed, fraction, population):
    rng = np.random.default_rng(seed)
    layers = [rng.integers(-3, 4, size=rng.integers(1, 9)).astype(float) for _ in range(3)]
    removal = lowest_fraction(layers, fraction, population, allow_empty_layers=True)
    groups = [np.concatenate(layers)] if population == "all" else layers
    gone = [np.concatenate(removal.removed)] if population == "all" else list(removal.removed)
    for values, removed in zip(groups, gone, strict=True):
        assert removed.sum() == int(fraction * values.size + 1e-9)
        if removed.any() and not removed.all():
            assert values[removed].max() <= values[~removed].min()


def test_ties_go_from_the_first_unit_on_and_shares_are_not_lost_to_rounding():
    removal = lowest_fraction([np.zeros(3), np.ones(2)], 0.4)
    assert removal.removed[0].tolist() == [True, True, False]
    assert lowest_fraction([np.arange(100.0)], 0.29).count == 29
    assert lowest_fraction([np.arange(10.0), np.zeros(10)], 0.5, layers=[0]).counts == (5, 0)
    assert lowest_fraction(LAYERS, 0).count == 0


def test_bad_input():
    for k in (-1, float("nan"), float("inf")):
        with pytest.raises(ConfigurationError, match="k is"):
            below_sigma(LAYERS, k)
    for fraction in (-0.1, 1.0, float("nan")):
        with pytest.raises(ConfigurationError, match="fraction is"):
            lowest_fraction(LAYERS, fraction)
    for rule in (below_sigma, lowest_fraction):
        with pytest.raises(ConfigurationError, match="unknown population"):
            rule(LAYERS, 0.5, "each")
        with pytest.raises(ConfigurationError, match=r"layers are \[3\]"):
            rule(LAYERS, 0.5, layers=[3])
        with pytest.raises(ConfigurationError, match=r"layers are \[\]"):
            rule(LAYERS, 0.5, layers=[])
        with pytest.raises(DataError, match="every layer"):
            rule([], 0.5)
        with pytest.raises(DataError, match="every layer"):
            rule([np.ones(2), np.empty(0)], 0.5)
        with pytest.raises(DataError, match="1 centralities of layer 1 are not finite"):
            rule([np.ones(2), np.array([1.0, np.nan])], 0.5)
