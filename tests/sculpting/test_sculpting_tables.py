"""The tables of Neural Sculpting on known counts."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from espalier.sculpting.function_families import FAMILIES
from espalier.sculpting.success import wilson_interval
from espalier.sculpting.tables import (
    compared_densities,
    compared_rates,
    rates_of,
    recipe_rates,
)


def judged(function, family, criterion, hidden_layers, successes, trials, variant="a"):
    return pd.DataFrame(
        {
            "variant": variant, "function": function, "family": family,
            "criterion": criterion, "hidden_layers": hidden_layers, "width": 24,
            "learning_rate": 0.1, "batch_size": 8, "epochs": 10,
            "success": [True] * successes + [False] * (trials - successes),
        }
    )  # fmt: skip


def test_rates_stand_beside_the_published_ones():
    trials = pd.concat(
        [
            judged("4-1-2-16", "validation", "hierarchy", 2, 9, 12),
            judged("4-1-2-16", "validation", "hierarchy", 7, 1, 2),
            judged("5-3-2-4", "overlap", "outputs", 1, 3, 12),
            judged("5-3-2-4", "overlap", "outputs", 2, 5, 12),
        ]
    )
    rates = rates_of(trials)
    low, high = wilson_interval(9, 12)
    first = rates.iloc[0]
    assert (first["rate"], first["low"], first["high"]) == (0.75, low, high)
    compared = compared_rates(rates).set_index("function")
    assert len(compared) == 2  # a depth that was not published is not compared
    reused = compared.loc["4-1-2-16"]
    assert reused["p_value"] == pytest.approx(stats.fisher_exact([[9, 3], [12, 0]]).pvalue)
    overlap = compared.loc["5-3-2-4"]
    assert (overlap["successes"], overlap["trials"], overlap["published_trials"]) == (8, 24, 36)
    assert pd.isna(overlap["hidden_layers"]) and overlap["overlap"] == 3 and overlap["use"] == 2


def test_all_validation_graphs_together_are_compared_with_table_4():
    parts = [judged(name, "validation", "hierarchy", 2, 10, 12) for name in FAMILIES["validation"]]
    shallow = judged("4-1-2-16", "validation", "hierarchy", 1, 1, 12)  # left out
    whole = pd.concat([*parts, shallow])
    compared = compared_rates(rates_of(whole))
    row = compared[compared["function"] == "all"].iloc[0]
    assert (row["successes"], row["trials"], row["published_rate"]) == (40, 48, 0.99)


def test_variants_are_counted_apart():
    trials = pd.concat(
        [
            judged("4-2-4", "validation", "hierarchy", 1, 3, 4),
            judged("4-2-4", "validation", "hierarchy", 1, 1, 4, variant="b"),
        ]
    )
    assert rates_of(trials)[["variant", "successes"]].values.tolist() == [["a", 3], ["b", 1]]
    recipes = recipe_rates(trials)
    assert recipes["successes"].tolist() == [3, 1] and recipes["rate"].tolist() == [0.75, 0.25]
    assert len(compared_rates(rates_of(trials))) == 2


def test_no_validation_graph_gives_no_rows_by_recipe():
    assert recipe_rates(judged("8-2-2", "overlap", "inputs", 1, 1, 2)).empty


def test_densities_stand_beside_the_published_ones():
    trials = pd.DataFrame(
        {
            "variant": "a",
            "function": ["4-2-4", "4-2-4", "4-2-4", "mine"],
            "hidden_layers": [1, 1, 1, 2],
            "width": [24, 24, 24, 5],
            "density": [0.08, 0.09, 1.0, 0.5],
            "reached": [True, True, False, True],
        }
    )
    table = compared_densities(trials).set_index("function")
    own = table.loc["4-2-4"]
    assert own["density_trials"] == 2 and own["density_mean"] == pytest.approx(8.5)
    assert own["difference"] == pytest.approx(8.5 - own["published_density_mean"])
    assert own["published_density_mean"] == pytest.approx(8.3333)
    assert np.isnan(table.loc["mine", "difference"])
