from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from tree_strategies import tree_pairs

import espalier.hierarchy
from espalier.errors import ConfigurationError, DataError
from espalier.hierarchy.baselines import (
    baseline_table,
    baselines,
    direction,
    expected_quartets,
    expected_robinson_foulds,
    expected_triplets,
    p_value,
    permuted_exact,
    permuted_values,
    random_values,
    star_values,
)
from espalier.hierarchy.distances import MEASURES, compare_trees, tree_distances
from espalier.hierarchy.tree_pairs import TreePair
from espalier.hierarchy.trees import parse_newick

GOLDENS = Path(__file__).parents[1] / "goldens" / "class_hierarchies"
GOLDEN = json.loads((GOLDENS / "tree_distances.json").read_text())
TRUTHS = {
    name: next(c["tree1"] for c in GOLDEN["pairs"] if c["id"] == f"truth_{name}_self")
    for name in ("fashion", "cifar20")
}
FIGURE_3 = next(c["tree2"] for c in GOLDEN["pairs"] if c["id"] == "truth_fashion_fig3")
GOLDEN_NAMES = {
    "rf_unrooted": "rf_unrooted",
    "rf_rooted": "rf_rooted",
    "normalised_rf_rooted": "rf_rooted_norm_present",
    "triplet": "triplet_distance_norm",
    "triplet_recall": "triplet_recall",
    "triplet_symmetric": "triplet_symdiff",
    "quartet": "quartet_distance_norm",
    "quartet_precision": "quartet_precision",
    "clustering_information_unrooted": "cid_unrooted_norm_sum",
    "clustering_information_rooted": "cid_rooted_norm_sum",
    "hierarchical_mutual_information": "hmi_cell_bits",
    "normalised_hierarchical_mutual_information": "hmi_cell_norm_max",
    "adjusted_hierarchical_mutual_information": "ahmi_cell_max",
    "adjusted_hierarchical_mutual_information_mean": "ahmi_cell_mean",
    "adjusted_hierarchical_mutual_information_singleton": "ahmi_singleton_max",
    "matching_cluster": "mcd_padded",
    "matching_split": "msd_padded",
}


def test_function_and_module_share_a_name():
    assert espalier.hierarchy.baselines is baselines
    assert "baselines" in dir(espalier.hierarchy)


class TestExact:
    @pytest.mark.parametrize("case", GOLDEN["pairs"], ids=[c["id"] for c in GOLDEN["pairs"]])
    def test_goldens(self, case):
        truth = parse_newick(case["tree1"])
        observed = parse_newick(case["tree2"], leaves=truth.leaves)
        found = {
            f"rf_{form}": expected_robinson_foulds(truth, observed, form == "rooted")
            for form in ("rooted", "unrooted")
        }
        for name, expected in (
            ("triplet", expected_triplets(truth, observed)),
            ("quartet", expected_quartets(truth, observed)),
        ):
            found[f"{name}_s"] = expected.same
            found[f"{name}_distance"] = expected.distance
            found[f"{name}_half"] = expected.half_distance
            found[f"{name}_conflict"] = expected.different
        for convention in ("cell", "singleton"):
            information = TreePair(observed, truth).hierarchical_information(convention)
            found[f"hmi_{convention}_bits"] = information.expected
        expected = case.get("expected_under_leaf_permutation") or {}
        for name, value in expected.items():
            assert found[name] == pytest.approx(value, rel=1e-9, abs=1e-9), name

    def test_goldens_are_here(self):
        assert sum("expected_under_leaf_permutation" in c for c in GOLDEN["pairs"]) > 100

    @given(tree_pairs(3, 5))
    @settings(max_examples=15, deadline=None)
    def test_complete_enumeration(self, pair):
        truth, observed = pair
        orders = list(itertools.permutations(range(truth.num_leaves)))
        trees = [observed.permute(np.array(order)) for order in orders]
        for rooted in (False, True):
            table = compare_trees(trees, truth, rooted)
            for name, values in table.items():
                exact = permuted_exact(truth, name, rooted, observed)
                if exact is None:
                    assert MEASURES[name].group in ("clustering", "matching_cluster") or (
                        name.endswith("matching_split")
                    )
                elif math.isnan(exact):
                    assert np.isnan(values).all()
                else:
                    assert values.mean() == pytest.approx(exact, abs=1e-10), name

    def test_exact_values_of_the_true_trees(self):
        assert permuted_exact(TRUTHS["fashion"], "rf") == pytest.approx(9.7675, abs=5e-5)
        assert permuted_exact(TRUTHS["fashion"], "rf", True) == pytest.approx(9.7865, abs=5e-5)
        assert permuted_exact(TRUTHS["cifar20"], "rf") == pytest.approx(17.9016, abs=5e-5)
        assert permuted_exact(TRUTHS["fashion"], "rf", observed=FIGURE_3) == pytest.approx(
            6.9643, abs=5e-5
        )
        assert permuted_exact(TRUTHS["fashion"], "matching_cluster") is None
        with pytest.raises(ConfigurationError, match="unknown tree measure"):
            permuted_exact(TRUTHS["fashion"], "robinson")


class TestBaselines:
    @pytest.mark.parametrize("name", ["fashion", "cifar20"])
    def test_published_table(self, name):
        truth, golden = TRUTHS[name], GOLDEN["truth_baselines"][name]
        found = {
            "star": star_values(truth, "both"),
            "perm": permuted_values(truth, rooted="both"),
            "binary": random_values(truth, rooted="both"),
            "yule": random_values(truth, rooted="both", model="yule"),
        }
        exact = {
            column: row["permuted_exact"] for column, row in baseline_table(truth, n=1).items()
        }
        for column, key in GOLDEN_NAMES.items():
            star, expected = found["star"][column], golden["star"][key]
            assert math.isnan(star) if expected is None else star == pytest.approx(expected)
            for null in ("perm", "binary", "yule"):
                values, theirs = found[null][column], golden[null][key]
                error = math.hypot(values.std(), theirs["sd"]) / math.sqrt(200)
                # 3 nulls, 17 measures, 2 trees: four standard errors leave room for chance.
                assert abs(values.mean() - theirs["mean"]) <= 4 * error + 1e-9, (column, null)
            if exact[column] is not None:
                values = found["perm"][column]
                error = values.std() / math.sqrt(200)
                assert abs(values.mean() - exact[column]) <= 4 * error + 1e-9, column

    def test_star_is_nearer_than_most_published_trees(self):
        # Published means for CIFAR20: 9.78, 12.04, 14.96.
        assert star_values(TRUTHS["fashion"])["rf"] == 5
        assert star_values(TRUTHS["cifar20"])["rf"] == 9
        assert star_values(TRUTHS["cifar20"], rooted=True)["rf"] == 10

    def test_keys_and_agreement_with_the_table(self):
        one = baselines(TRUTHS["fashion"], "triplet", n=50, seed=3)
        assert list(one) == [
            "star",
            "permuted_mean",
            "permuted_sd",
            "permuted_exact",
            "random_mean",
            "random_sd",
            "n",
        ]
        table = baseline_table(TRUTHS["fashion"], "both", ["rf", "triplet"], n=50, seed=3)
        assert list(table) == ["rf_unrooted", "rf_rooted", "triplet"]
        assert table["triplet"] == one
        assert table["rf_rooted"] == baselines(TRUTHS["fashion"], "rf", rooted=True, n=50, seed=3)
        assert one != baselines(TRUTHS["fashion"], "triplet", n=50, seed=4)

    def test_undefined_for_the_star(self):
        assert math.isnan(baselines(TRUTHS["fashion"], "triplet_precision", n=5)["star"])
        row = baselines("(a,b,c,d);", "triplet_recall", n=5)
        assert math.isnan(row["permuted_mean"])
        assert math.isnan(row["permuted_exact"])

    def test_bad_words(self):
        with pytest.raises(ConfigurationError, match="Did you mean 'triplet'"):
            baselines(TRUTHS["fashion"], "triplets")
        with pytest.raises(ConfigurationError, match="model of random trees"):
            random_values(TRUTHS["fashion"], model="coalescent")  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match="n is 0"):
            permuted_values(TRUTHS["fashion"], n=0)


class TestPValue:
    def test_counts_and_directions(self):
        null = np.array([1.0, 2.0, 3.0, 4.0])
        assert p_value(2, null, "rf") == 3 / 5
        assert p_value(2, null, "triplet_recall") == 4 / 5
        assert p_value(0, null, "rf_unrooted") == 1 / 5
        assert p_value(0.5, null, "clustering_information_rooted") == 1 / 5
        assert p_value([2, 9, np.nan], null, "rf") == pytest.approx([3 / 5, 1, np.nan], nan_ok=True)

    def test_rounding_is_a_tie(self):
        null = np.array([0.1 + 0.2, 0.5])
        assert p_value(0.3, null, "triplet") == 2 / 3
        assert p_value(0.3, null, "triplet_recall") == 1

    def test_figure_3(self):
        values = tree_distances(FIGURE_3, TRUTHS["fashion"], "both")
        null = permuted_values(TRUTHS["fashion"], rooted="both")
        assert p_value(values["triplet"], null["triplet"], "triplet") == 1 / 201
        column = "normalised_hierarchical_mutual_information"
        # 13.5 percent of the shuffled truths reach Figure 3 by this measure.
        assert p_value(values[column], null[column], column) == pytest.approx(0.135, abs=0.07)

    def test_a_truth_is_uniform_under_its_own_null(self):
        truth = TRUTHS["fashion"]
        null = permuted_values(truth, measures=["triplet"], n=400, seed=0)["triplet"]
        fresh = permuted_values(truth, measures=["triplet"], n=400, seed=1)["triplet"]
        assert np.mean(p_value(fresh, null, "triplet") <= 0.05) <= 0.09

    def test_bad_input(self):
        with pytest.raises(ConfigurationError, match="only counts"):
            direction("splits_observed_rooted")
        with pytest.raises(ConfigurationError, match="unknown tree measure"):
            direction("triplet_rooted")
        with pytest.raises(DataError, match="no null values"):
            p_value(1, np.array([np.nan]), "rf")
