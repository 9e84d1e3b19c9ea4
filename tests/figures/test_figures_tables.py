from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from figure_fixtures import BASELINES, rf_table
from scipy import stats

from espalier.errors import ConfigurationError, DataError
from espalier.figures.tables import (
    HEADLINE_MEASURES,
    baseline_lines,
    keep,
    last_checkpoints,
    measure_named,
    networks,
    require,
    summarise,
)


@pytest.fixture(scope="module")
def small():
    return pd.DataFrame(
        {
            "group": ["a"] * 5 + ["b"],
            "seed": [0, 0, 1, 1, 1, 0],
            "rf": [2.0, 4.0, 6.0, 6.0, 9.0, 5.0],
        }
    )


def test_sd_is_over_all_trees(small):
    a, b = summarise(small, ["group"], "rf").itertuples(index=False)
    assert (a.mean, a.trees, a.seeds) == (pytest.approx(27 / 5), 5, 2)
    assert a.half == pytest.approx(np.std([2, 4, 6, 6, 9], ddof=1))
    assert b.mean == 5 and np.isnan(b.half) and b.trees == 1


def test_ci_counts_each_seed_once(small):
    a, b = summarise(small, ["group"], "rf", "ci").itertuples(index=False)
    low, high = stats.t.interval(0.95, 1, loc=5.0, scale=stats.sem([3.0, 7.0]))
    assert a.mean == pytest.approx(5.0)
    assert (a.mean - a.half, a.mean + a.half) == (pytest.approx(low), pytest.approx(high))
    assert np.isnan(b.half)


def test_rows_without_a_value_are_left_out(small):
    table = small.assign(rf=[np.nan, 4.0, 6.0, np.inf, 9.0, 5.0])
    assert summarise(table, ["group"], "rf")["trees"].tolist() == [3, 1]
    with pytest.raises(DataError, match="no finite value in the column 'rf'"):
        summarise(small.assign(rf=np.nan), ["group"], "rf")


def test_unknown_spread(small):
    with pytest.raises(ConfigurationError, match="unknown spread 'se'"):
        summarise(small, ["group"], "rf", "se")


def test_last_checkpoints_and_networks():
    rf = rf_table(("cifar20",), 2)
    last = last_checkpoints(rf)
    assert set(last["checkpoint"]) == {10}
    # 3 models, 6 sparsities, 2 seeds.
    assert len(networks(last)) == 3 * 6 * 2
    assert len(networks(rf)) == 3 * 2 * (5 + 11)


def test_require_names_what_is_missing():
    table = pd.DataFrame({"model": ["a"], "dataset": ["b"]})
    with pytest.raises(DataError, match=r"rf table lacks the columns 'epoch', 'datasets'.*dataset"):
        require(table, "rf", ["epoch", "datasets", "model"])
    with pytest.raises(DataError, match="the rf table has no rows"):
        require(table.iloc[:0], "rf", ["model"])


def test_keep_names_the_values_there_are():
    with pytest.raises(DataError, match=r"no row with detector 'leidn'. Did you mean 'leiden'\?"):
        keep(rf_table(("cifar20",), 1), "rf", "detector", "leidn")


def test_baselines_prefer_the_exact_expectation():
    assert baseline_lines(None, "cifar20", "rf_unrooted") == []
    star, permuted, random = baseline_lines(BASELINES, "cifar20", "rf_unrooted")
    assert star[:2] == ("star tree", 9)
    assert permuted == ("permuted truth", 17.9016, 0.437)
    assert random[0] == "random tree" and random[1] == 25.84
    permuted = baseline_lines(BASELINES, "cifar20", "clustering_information_rooted")[1]
    assert permuted[1] == 0.852
    with pytest.raises(DataError, match="no row with dataset 'mnist'"):
        baseline_lines(BASELINES, "mnist", "rf_unrooted")
    with pytest.raises(DataError, match="no row with measure 'quartet'"):
        baseline_lines(BASELINES, "cifar20", "quartet")
    with pytest.raises(DataError, match="baselines table lacks the column 'star'"):
        baseline_lines(BASELINES.drop(columns="star"), "cifar20", "rf_unrooted")


def test_measures_read_as_the_distances_module_defines_them():
    assert measure_named("rf_unrooted").label == "Robinson-Foulds distance (unrooted)"
    assert measure_named("rf_rooted").count
    assert measure_named("triplet").direction == "lower is better"
    adjusted = measure_named("adjusted_hierarchical_mutual_information")
    assert adjusted.direction == "higher is better" and not adjusted.count
    assert all(measure_named(name).better for name in HEADLINE_MEASURES)
    with pytest.raises(ConfigurationError, match="Did you mean 'rf_unrooted'"):
        measure_named("rf_unroted")
