from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse, stats

from espalier.errors import ConfigurationError, DataError
from espalier.hubs import (
    ablation_curve,
    ablation_curves,
    centrality_summary,
    compare_tails,
    gini,
    hub_order,
    hub_overlap,
    hub_persistence,
    laplacian_centrality,
    null_comparison,
    rewired_weights,
    tail_statistics,
)
from espalier.hubs.formation import TAIL_STATISTICS, excess_kurtosis, hill, top_share

finite = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20)


@given(finite)
def test_gini_is_the_mean_difference_and_below_one(values):
    x = np.array(values)
    total = np.abs(x).sum()
    pairs = np.abs(x[:, None] - x[None]).sum()
    expected = 0 if total == 0 else pairs / (2 * x.size * total)
    assert gini(x) == pytest.approx(expected, abs=1e-9)
    assert -1e-12 <= gini(x) < 1


@given(st.integers(0, 1000), st.floats(0.01, 1000))
def test_the_statistics_are_free_of_scale(seed, factor):
    values = np.random.default_rng(seed).lognormal(size=100)
    for statistic in TAIL_STATISTICS.values():
        assert statistic(values * factor) == pytest.approx(statistic(values), rel=1e-9)


def test_statistics_by_hand_and_by_scipy():
    rng = np.random.default_rng(0)
    values = rng.standard_normal((3, 50))
    np.testing.assert_allclose(excess_kurtosis(values), stats.kurtosis(values, axis=1))
    assert gini(np.array([0.0, 0, 0, 4])) == pytest.approx(0.75)
    assert top_share(np.array([1.0, 2, 3, 4]), 0.5) == pytest.approx(0.7)
    assert hill(np.array([1.0, 2, 4, 8]), 0.5) == pytest.approx(np.log(4 * 8 / 4) / 2)
    pareto = rng.pareto(2.0, size=200_000) + 1
    assert hill(pareto) == pytest.approx(0.5, abs=0.02)
    assert np.isnan(hill(np.arange(10.0)))
    assert np.isnan(hill(-np.arange(100.0)))
    assert np.isnan(excess_kurtosis(np.full(9, 0.1)))
    assert gini(np.zeros(4)) == top_share(np.zeros(4)) == 0
    assert set(tail_statistics(pareto)) == set(TAIL_STATISTICS)


def test_summary_has_the_columns_of_the_table():
    values = np.arange(101.0)
    summary = centrality_summary(values)
    assert list(summary) == [
        "neurons", "mean", "sd", "min", "max", "gini",
        "q05", "q10", "q25", "q50", "q75", "q90", "q95",
    ]  # fmt: skip
    assert summary["neurons"] == 101
    assert summary["sd"] == pytest.approx(values.std())
    assert [summary[q] for q in ("q05", "q50", "q95")] == pytest.approx([5, 50, 95])
    with pytest.raises(DataError, match="empty"):
        centrality_summary(np.empty(0))
    with pytest.raises(DataError, match="not finite"):
        tail_statistics(np.array([1.0, np.nan]))


def heavy(seed, n=400):
    return np.random.default_rng(seed).lognormal(sigma=2.0, size=n)


def light(seed, n=400):
    return np.random.default_rng(100 + seed).uniform(1, 2, size=n) * 50


def test_a_heavy_tail_is_told_from_a_light_one_in_one_network():
    for row in compare_tails(heavy(0), light(0), replicates=200):
        assert row.value > row.control
        assert row.difference == pytest.approx(row.value - row.control)
        # The bootstrap of a heavy tail's kurtosis is biased, but not to the control's side.
        assert 0 < row.low < row.high
        # One value decides the kurtosis, and half of all permutations leave it where it was.
        assert row.p_value < (0.5 if row.statistic == "excess_kurtosis" else 0.01)
    for row in compare_tails(light(0), heavy(0), replicates=200):
        assert row.high < 0
        assert row.p_value > 0.9


def test_networks_of_several_seeds_are_compared_by_networks():
    many = compare_tails([heavy(s) for s in range(4)], [light(s) for s in range(4)], replicates=100)
    assert [row.p_value for row in many] == pytest.approx([1 / 70] * 4)
    assert all(row.low > 0 for row in many)
    alike = compare_tails(
        [heavy(s) for s in range(4)], [heavy(10 + s) for s in range(4)], ["gini"], replicates=200
    )
    assert alike[0].p_value > 0.05
    assert alike[0].low < 0 < alike[0].high
    mixed = compare_tails([heavy(s) for s in range(3)], heavy(9), ["gini"], replicates=50)
    assert mixed[0].p_value > 1 / 51


def test_permutations_of_networks_by_brute_force():
    groups = [[heavy(s, 60) for s in range(3)], [heavy(50 + s, 60) for s in range(3)]]
    row = compare_tails(*groups, ["gini"], replicates=10)[0]
    values = [float(gini(x)) for x in itertools.chain(*groups)]
    differences = [
        np.mean([values[i] for i in chosen])
        - np.mean([values[i] for i in range(6) if i not in chosen])
        for chosen in itertools.combinations(range(6), 3)
    ]
    assert row.p_value == pytest.approx(np.mean(np.array(differences) >= differences[0] - 1e-12))


def test_the_interval_of_a_bootstrap_covers():
    rng = np.random.default_rng(0)
    true = 1 / 3  # of uniform values from 0 to 1
    inside = 0
    for trial in range(60):
        sample = rng.uniform(size=150)
        control = np.ones(10)
        row = compare_tails(sample, control, ["gini"], replicates=150, seed=trial)[0]
        inside += row.low <= true <= row.high
    assert inside >= 50


def test_comparisons_are_the_same_for_the_same_seed_and_nan_where_a_statistic_is():
    one = compare_tails(heavy(0), light(0), replicates=50, seed=3)
    assert one == compare_tails(heavy(0), light(0), replicates=50, seed=3)
    assert one != compare_tails(heavy(0), light(0), replicates=50, seed=4)
    small = compare_tails(np.arange(5.0), np.arange(6.0), ["hill"], replicates=5)[0]
    assert np.isnan([small.value, small.low, small.high, small.p_value]).all()


def random_network(seed=0, heavy_tailed=False):
    rng = np.random.default_rng(seed)
    result = []
    for shape in ((60, 50), (50, 40)):
        w = rng.standard_normal(shape) * (rng.random(shape) < 0.2)
        if heavy_tailed:
            w *= rng.lognormal(sigma=1.5, size=(shape[0], 1))
        result.append(w)
    return result


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array])
@pytest.mark.parametrize("null", ["weights", "edges", "normal"])
def test_random_networks_keep_count_and_scale(form, null):
    weights = [form(w) for w in random_network()]
    rewired = rewired_weights(weights, null, seed=1)
    for old, new in zip(random_network(), rewired, strict=True):
        assert new.shape == old.shape
        assert new.nnz == np.count_nonzero(old)
        same_edges = np.array_equal(new.toarray() != 0, old != 0)
        assert same_edges == (null != "edges")
        if null == "normal":
            assert new.data.std() == pytest.approx(old[old != 0].std(), rel=0.15)
        else:
            np.testing.assert_allclose(np.sort(new.data), np.sort(old[old != 0]))
        assert not np.array_equal(new.toarray(), old)
    again = rewired_weights(weights, null, seed=1)
    for a, b in zip(rewired, again, strict=True):
        np.testing.assert_array_equal(a.toarray(), b.toarray())


def test_hubs_of_arrangement_are_found_and_none_where_there_are_none():
    found = null_comparison(random_network(heavy_tailed=True), "weights", replicates=60)
    by_name = {row.statistic: row for row in found}
    assert by_name["gini"].p_value == pytest.approx(1 / 61)
    assert by_name["gini"].low > 0
    p_values = [
        null_comparison(random_network(seed), "edges", ["gini"], replicates=40)[0].p_value
        for seed in range(8)
    ]
    assert np.median(p_values) > 0.1
    own = null_comparison(random_network(), "weights", ["gini"], layer=1, replicates=5)[0]
    assert own.value == pytest.approx(float(gini(laplacian_centrality(random_network())[1])))
    out = null_comparison(random_network(), "weights", ["gini"], replicates=5, preset="cenbench")[0]
    cenbench = np.concatenate(laplacian_centrality(random_network(), preset="cenbench"))
    assert out.value == pytest.approx(float(gini(cenbench)))


def test_overlap_by_enumeration():
    n, count = 7, 3
    first = np.arange(n)[::-1].astype(float)
    top = set(range(count))
    jaccards, shares = [], []
    for other in itertools.combinations(range(n), count):
        second = np.zeros(n)
        second[list(other)] = 1
        overlap = hub_overlap(first, second, top=3 / 7)
        both = len(top & set(other))
        assert (overlap.hubs, overlap.shared) == (count, both)
        assert overlap.jaccard == pytest.approx(both / len(top | set(other)))
        jaccards.append(overlap.jaccard)
        shares.append(both)
    assert overlap.expected_jaccard == pytest.approx(np.mean(jaccards))
    assert overlap.expected_shared == pytest.approx(np.mean(shares))
    assert overlap.p_value == pytest.approx(np.mean(np.array(shares) >= overlap.shared))
    same = hub_overlap(first, first, top=3 / 7)
    assert same.jaccard == 1
    assert same.p_value == pytest.approx(1 / 35)
    assert hub_overlap(np.arange(100.0), np.arange(100.0), 0.29).hubs == 29
    assert hub_overlap(np.arange(10.0), -np.arange(10.0), 0.1).p_value == pytest.approx(1)


def test_persistence_over_epochs():
    rng = np.random.default_rng(0)
    base = rng.lognormal(size=200)
    rows = np.stack([base, base * rng.uniform(0.9, 1.1, 200), rng.lognormal(size=200)])
    table = hub_persistence(rows, ["e0", "e1", "e2"])
    assert list(zip(table["first"], table["second"], strict=True)) == [("e0", "e1"), ("e1", "e2")]
    assert table["jaccard"][0] > 0.6 > 0.3 > table["jaccard"][1]
    assert table["p_value"][0] < 1e-6 < table["p_value"][1]
    assert len(hub_persistence(rows, pairs="all")) == 3
    assert hub_persistence(rows, pairs="last")["second"].tolist() == [2, 2]
    assert hub_persistence(rows, pairs="last")["first"].tolist() == [0, 1]


LAYERS = [np.array([5.0, 1.0]), np.array([3.0, -2.0, 3.0]), np.array([9.0])]


def test_orders():
    assert hub_order(LAYERS).tolist() == [5, 0, 2, 4, 1, 3]
    assert hub_order(LAYERS, "bottom").tolist() == [3, 1, 2, 4, 0, 5]
    assert hub_order(LAYERS, layers=[1]).tolist() == [2, 4, 3]
    random = hub_order(LAYERS, "random", layers=[0, 1], seed=1)
    assert sorted(random.tolist()) == [0, 1, 2, 3, 4]
    assert random.tolist() == hub_order(LAYERS, "random", layers=[0, 1], seed=1).tolist()


def test_ablation_curves_remove_what_the_order_says():
    worth = np.concatenate(LAYERS)

    def evaluate(removed):
        assert [layer.size for layer in removed] == [2, 3, 1]
        assert all(layer.dtype == bool for layer in removed)
        return worth[~np.concatenate(removed)].sum()

    curve = ablation_curve(evaluate, hub_order(LAYERS), [2, 3, 1], [0, 1, 3])
    assert curve["removed"].tolist() == [0, 1, 3]
    assert curve["accuracy"].tolist() == [19, 10, 2]
    table = ablation_curves(evaluate, LAYERS, [0, 2], layers=[0, 1], repeats=3)
    assert list(table.columns) == ["order", "repeat", "removed", "neurons", "accuracy"]
    assert table.groupby("order").size().to_dict() == {"bottom": 2, "random": 6, "top": 2}
    assert (table["neurons"] == 5).all()
    last = table[table["removed"] == 2].groupby("order")["accuracy"].mean()
    assert last["top"] == 11
    assert last["bottom"] == 20
    assert last["top"] < last["random"] < last["bottom"]
    pd.testing.assert_frame_equal(
        table, ablation_curves(evaluate, LAYERS, [0, 2], layers=[0, 1], repeats=3)
    )


def test_bad_input():
    with pytest.raises(ConfigurationError, match="unknown tail statistic"):
        compare_tails(heavy(0), light(0), ["variance"])
    with pytest.raises(ConfigurationError, match="replicates is 0"):
        compare_tails(heavy(0), light(0), replicates=0)
    with pytest.raises(ConfigurationError, match="level is 95"):
        compare_tails(heavy(0), light(0), level=95)
    with pytest.raises(DataError, match="no network"):
        compare_tails([], light(0))
    with pytest.raises(ConfigurationError, match="unknown null network"):
        rewired_weights(random_network(), "shuffled")
    with pytest.raises(DataError, match="not finite"):
        rewired_weights([np.full((2, 2), np.nan)])
    with pytest.raises(ConfigurationError, match="layer is 3"):
        null_comparison(random_network(), layer=3, replicates=1)
    with pytest.raises(ConfigurationError, match="top is 1"):
        hub_overlap(np.ones(3), np.ones(3), 1)
    with pytest.raises(DataError, match="3 and 4 units"):
        hub_overlap(np.ones(3), np.ones(4))
    with pytest.raises(DataError, match="two snapshots"):
        hub_persistence(np.ones((1, 5)))
    with pytest.raises(DataError, match="3 labels"):
        hub_persistence(np.ones((2, 5)), [0, 1, 2])
    with pytest.raises(ConfigurationError, match="unknown choice of pairs"):
        hub_persistence(np.ones((2, 5)), pairs="first")
    with pytest.raises(ConfigurationError, match="unknown order"):
        hub_order(LAYERS, "best")
    with pytest.raises(ConfigurationError, match="layers are"):
        hub_order(LAYERS, layers=[4])
    for order in ([0, 0], [6], [-1]):
        with pytest.raises(DataError, match="order must name"):
            ablation_curve(lambda removed: 0.0, np.array(order), [2, 3, 1], [0])
    for counts in ([], [7], [-1]):
        with pytest.raises(DataError, match="counts are"):
            ablation_curve(lambda removed: 0.0, hub_order(LAYERS), [2, 3, 1], counts)
