from __future__ import annotations

import itertools
import json
import math
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from tree_strategies import (
    count_agreement,
    recursive_mutual_information,
    resolved_quartets,
    resolved_triplets,
    tree_pairs,
)

from espalier.errors import ConfigurationError, DataError
from espalier.hierarchy.distances import MEASURES, TreeComparer, compare_trees, tree_distances
from espalier.hierarchy.tree_pairs import TreePair
from espalier.hierarchy.trees import (
    Tree,
    parse_newick,
    random_binary_tree,
    star_tree,
    tree_from_clusters,
    yule_tree,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import dendropy
    from dendropy.calculate import treecompare

GOLDENS = Path(__file__).parents[1] / "goldens" / "class_hierarchies"
PAIRS = json.loads((GOLDENS / "tree_distances.json").read_text())["pairs"]
RF_PAIRS = json.loads((GOLDENS / "newick_rf.json").read_text())["pairs"]
CONTRACT = {
    "rf",
    "false_positives",
    "false_negatives",
    "splits_observed",
    "splits_truth",
    "normalised_rf",
    "triplet",
    "quartet",
    "clustering_information",
    "hierarchical_mutual_information",
    "adjusted_hierarchical_mutual_information",
    "matching_cluster",
}
FIGURE_4 = (
    "(((('T-shirt/Top',Shirt),Pullover,Coat),(Dress,Trouser)),(Sandal,Sneaker,'Ankle Boot'),Bag);"
)
FIGURE_3 = (
    "((Sandal,Sneaker,'Ankle Boot'),(Bag,('T-shirt/Top',Trouser,Pullover,Dress,Coat,Shirt)));"
)
FEW = settings(max_examples=40, deadline=None)


def raw_values(truth: Tree, observed: Tree) -> dict[str, float | None]:
    """Every quantity of the golden file under its name there; None for 0/0."""
    pair = TreePair(observed, truth)
    star = star_tree(truth.leaves)
    values: dict[str, float | None] = {"n_leaves": pair.n}
    for rooted, form, sets in ((False, "unrooted", "splits"), (True, "rooted", "clusters")):
        splits = pair.robinson_foulds(rooted)
        most = 2 * (pair.n - 3 + rooted)
        values |= {
            f"rf_{form}": splits.distance,
            f"rf_{form}_norm_present": splits.normalised_distance,
            f"rf_{form}_norm_binarymax": splits.distance / most if most else None,
            f"n_{sets}_1": splits.truth,
            f"n_{sets}_2": splits.observed,
            f"rf_{form}_missing_from_2": splits.missing,
            f"rf_{form}_extra_in_2": splits.extra,
        }
        information = pair.clustering_information(rooted)
        values |= {
            f"mci_{form}": information.mutual,
            f"clustering_entropy_{form}_1": information.truth_entropy,
            f"clustering_entropy_{form}_2": information.observed_entropy,
            f"cid_{form}": information.distance,
            f"cid_{form}_norm_sum": information.normalised_distance,
            f"mci_{form}_norm_tree1": information.recall,
        }
        for by in ("mean", "max", "min"):
            values[f"mci_{form}_norm_{by}"] = information.normalised(by)
        name = "mcd" if rooted else "msd"
        values[f"{name}_matched_only"] = pair.matching_distance(rooted, "free")
        values[f"{name}_padded"] = pair.matching_distance(rooted)
        for number, tree in ((1, truth), (2, observed)):
            to_star = TreePair(star, tree).matching_distance(rooted)
            values[f"{name}_padded_to_star_{number}"] = to_star
    for convention in ("cell", "singleton"):
        shared = pair.hierarchical_information(convention)
        values |= {
            f"hmi_{convention}_bits": shared.mutual,
            f"hierarchical_entropy_{convention}_bits_1": shared.truth_entropy,
            f"hierarchical_entropy_{convention}_bits_2": shared.observed_entropy,
            f"hvi_{convention}_bits": shared.variation,
            f"ehmi_exact_{convention}_bits": shared.expected,
        }
        for by in ("max", "mean"):
            values[f"hmi_{convention}_norm_{by}"] = shared.normalised(by)
            values[f"ahmi_{convention}_{by}"] = shared.adjusted(by)
    for name, agreement in (("triplet", pair.triplets), ("quartet", pair.quartets)):
        total = agreement.total
        for letter, count in zip(("s", "d", "r1", "r2", "u"), agreement, strict=True):
            values[f"{name}_{letter}"] = count
        values |= {
            f"{name}_total": total,
            f"{name}_distance": agreement.distance,
            f"{name}_distance_norm": agreement.normalised_distance,
            f"{name}_half": agreement.half_distance,
            f"{name}_half_norm": agreement.half_distance / total if total else None,
            f"{name}_conflict": agreement.different,
            f"{name}_recall": agreement.recall,
            f"{name}_precision": agreement.precision,
            f"{name}_symdiff": agreement.symmetric_difference,
        }
    return values


class TestGoldens:
    def test_all_are_here(self):
        assert len(PAIRS) == 126
        assert len(RF_PAIRS) == 43

    @pytest.mark.parametrize("case", PAIRS, ids=[case["id"] for case in PAIRS])
    def test_every_value(self, case):
        values = raw_values(parse_newick(case["tree1"]), parse_newick(case["tree2"]))
        assert values.keys() == case["values"].keys()
        for name, expected in case["values"].items():
            if expected is not None:
                assert values[name] == pytest.approx(expected, rel=1e-9, abs=1e-9), name

    def test_published_values(self):
        checked = 0
        for case in PAIRS:
            for published in case.get("published", []):
                values = raw_values(parse_newick(case["tree1"]), parse_newick(case["tree2"]))
                value, printed = values[published["measure"]], published["published"]
                slack = published["tolerance"]
                if published["tolerance_kind"] == "relative":
                    slack *= abs(printed)
                if published["comparison"] == "less than":
                    assert value < printed
                else:
                    assert value == pytest.approx(printed, rel=0, abs=slack + 1e-12)
                checked += 1
        assert checked == 155

    def test_unary_nodes_kept(self):
        cases = [case for case in PAIRS if "kept_unary" in case]
        assert len(cases) == 3
        for case in cases:
            truth, observed = (
                parse_newick(case[key], suppress_unary=False) for key in ("tree1", "tree2")
            )
            found = TreePair(observed, truth).hierarchical_information()
            expected = case["kept_unary"]
            assert found == pytest.approx(
                (
                    expected["hmi_cell_bits"],
                    expected["hierarchical_entropy_cell_bits_1"],
                    expected["hierarchical_entropy_cell_bits_2"],
                    expected["ehmi_exact_cell_bits"],
                ),
                rel=1e-9,
            )
            assert found.adjusted() == pytest.approx(expected["ahmi_cell_max"], rel=1e-9)

    @pytest.mark.parametrize("case", RF_PAIRS, ids=[case["name"] for case in RF_PAIRS])
    @pytest.mark.parametrize("form", ["unrooted", "rooted"])
    def test_robinson_foulds(self, case, form):
        found = tree_distances(case["comparison"], case["reference"], rooted=form == "rooted")
        expected = case[form]
        assert found["rf"] == expected["rf"]
        assert found["false_positives"] == expected["fp"]
        assert found["false_negatives"] == expected["fn"]
        assert found["splits_truth"] == expected["n_ref"]
        assert found["splits_observed"] == expected["n_cmp"]

    def test_the_published_three_is_unrooted(self):
        assert tree_distances(FIGURE_3, FIGURE_4)["rf"] == 3
        assert tree_distances(FIGURE_3, FIGURE_4, rooted=True)["rf"] == 4


class TestBruteForce:
    @given(tree_pairs(2, 8))
    @FEW
    def test_triplets_and_quartets(self, pair):
        truth, observed = pair
        n = truth.num_leaves
        found = TreePair(observed, truth)
        triplets = [resolved_triplets(tree) for tree in pair]
        quartets = [resolved_quartets(tree) for tree in pair]
        assert found.triplets == count_agreement(*triplets, math.comb(n, 3))
        assert found.quartets == count_agreement(*quartets, math.comb(n, 4))

    @given(tree_pairs(2, 7))
    @FEW
    def test_matchings(self, pair):
        truth, observed = pair
        n = truth.num_leaves
        found = TreePair(observed, truth)
        for rooted in (True, False):
            first, second = (list(tree.clusters() if rooted else tree.splits()) for tree in pair)

            def cost(a, b, rooted=rooted):
                moved = len(a ^ b)
                return moved if rooted else min(moved, n - moved)

            empty: frozenset[str] = frozenset()
            # Padding both sides with empty sets allows every partial matching.
            left = first + [empty] * len(second)
            right = second + [empty] * len(first)
            if len(left) > 7:
                continue
            best = min(sum(map(cost, left, order)) for order in itertools.permutations(right))
            assert found.matching_distance(rooted) == best
            assert found.matching_distance_bound(rooted) == sum(
                cost(a, empty) for a in first + second
            )

    @given(tree_pairs(2, 7))
    @FEW
    def test_clustering_information(self, pair):
        truth, observed = pair
        found = TreePair(observed, truth).clustering_information()
        everything = frozenset(truth.leaves)

        def entropy(*parts):
            shares = [len(part) / len(everything) for part in parts if part]
            return -sum(share * math.log2(share) for share in shares)

        def shared(a, b):
            joint = (a & b, a - b, b - a, everything - a - b)
            return entropy(a, everything - a) + entropy(b, everything - b) - entropy(*joint)

        first, second = (list(tree.splits()) for tree in pair)
        shorter, longer = sorted((first, second), key=len)
        best = max(
            sum(shared(a, b) for a, b in zip(shorter, order, strict=False))
            for order in itertools.permutations(longer, len(shorter))
        )
        assert found.mutual == pytest.approx(best, abs=1e-12)
        both = [sum(entropy(a, everything - a) for a in side) for side in (first, second)]
        assert found.distance == pytest.approx(sum(both) - 2 * best, abs=1e-12)

    @given(tree_pairs(2, 9))
    @FEW
    def test_hierarchical_information(self, pair):
        truth, observed = pair
        for convention in ("cell", "singleton"):
            found = TreePair(observed, truth).hierarchical_information(convention)
            expected = recursive_mutual_information(truth, observed, convention)
            assert found.mutual == pytest.approx(expected, abs=1e-12)
            own = recursive_mutual_information(truth, truth, convention)
            assert found.truth_entropy == pytest.approx(own, abs=1e-12)

    @given(tree_pairs(2, 12))
    @settings(max_examples=60, deadline=None)
    def test_robinson_foulds_of_dendropy(self, pair):
        truth, observed = pair
        space = dendropy.TaxonNamespace()
        for rooted in (True, False):
            ours = tree_distances(observed, truth, rooted)
            theirs = [
                dendropy.Tree.get(
                    data=tree.newick(),
                    schema="newick",
                    taxon_namespace=space,
                    rooting="force-rooted" if rooted else "force-unrooted",
                )
                for tree in pair
            ]
            positives, negatives = treecompare.false_positives_and_negatives(*theirs)
            assert (ours["false_positives"], ours["false_negatives"]) == (positives, negatives)

    def test_blocks_and_wide_nodes_of_the_quartet_count(self, monkeypatch):
        generator = np.random.default_rng(5)
        names = [f"t{i}" for i in range(60)]
        wide = tree_from_clusters([names[:30], names[:4], names[40:]], names)
        trees = [wide, star_tree(names), yule_tree(names, generator)]
        trees.append(wide.permute(generator.permutation(60)))
        pairs = list(itertools.product(trees, repeat=2))
        expected = [TreePair(a, b).quartets for a, b in pairs]
        for (a, b), counts in zip(pairs, expected, strict=True):
            assert min(counts) >= 0
            same, different, one, two, rest = TreePair(b, a).quartets
            assert counts == (same, different, two, one, rest)
        # The sums over pairs of branches, the matrix products and single blocks must agree.
        monkeypatch.setattr("espalier.hierarchy.tree_pairs._BLOCK_ENTRIES", 1)
        for widest in (1, 1000):
            monkeypatch.setattr("espalier.hierarchy.tree_pairs._WIDE_NODE", widest)
            assert [TreePair(a, b).quartets for a, b in pairs] == expected


class TestIdentities:
    @given(tree_pairs(3, 9))
    @FEW
    def test_identical_trees(self, pair):
        tree = pair[0]
        values = tree_distances(tree.newick(), tree, rooted="both")
        for column, value in values.items():
            name = column.removesuffix("_unrooted").removesuffix("_rooted")
            if MEASURES[name].better == "lower":
                assert value == 0, column
            elif "recall" in name or "precision" in name:
                assert value == 1 or math.isnan(value), column
            elif "normalised" in name or "adjusted" in name:
                assert value == 1, column

    @given(tree_pairs(3, 9))
    @FEW
    def test_exchange_of_the_trees(self, pair):
        forth = tree_distances(pair[0], pair[1], rooted=True)
        back = tree_distances(pair[1], pair[0], rooted=True)
        mirrored = {
            "false_positives": "false_negatives",
            "splits_observed": "splits_truth",
            "split_recall": "split_precision",
            "triplet_recall": "triplet_precision",
            "quartet_recall": "quartet_precision",
        }
        mirrored |= {value: key for key, value in mirrored.items()}
        for name, value in forth.items():
            if name != "clustering_information_recall":
                assert back[mirrored.get(name, name)] == pytest.approx(
                    value, abs=1e-12, nan_ok=True
                )

    @given(tree_pairs(3, 9))
    @FEW
    def test_ranges_and_order_of_leaves(self, pair):
        observed, truth = pair
        values = tree_distances(observed, truth)
        for name in ("normalised_rf", "triplet", "quartet", "clustering_information"):
            assert 0 <= values[name] <= 1 + 1e-12
        assert 0 <= values["normalised_matching_cluster"] <= 1
        assert values["hierarchical_mutual_information"] >= 0
        assert values["adjusted_hierarchical_mutual_information"] <= 1
        turned = truth.with_leaf_order(truth.leaves[::-1])
        assert tree_distances(observed, turned) == pytest.approx(values, nan_ok=True)

    @given(tree_pairs(3, 8))
    @FEW
    def test_root_leaf_trick(self, pair):
        # A leaf on the root turns each cluster into a split.
        hung = [
            tree_from_clusters(
                [*tree.clusters(), frozenset(tree.leaves)], [*tree.leaves, "root leaf"]
            )
            for tree in pair
        ]
        rooted, unrooted = TreePair(*pair), TreePair(*hung)
        assert rooted.robinson_foulds(True) == unrooted.robinson_foulds(False)
        one = rooted.clustering_information(True)
        two = unrooted.clustering_information(False)
        assert one.distance == pytest.approx(two.distance, abs=1e-12)

    @given(tree_pairs(5, 5), tree_pairs(5, 5))
    @FEW
    def test_triangles(self, first, second):
        a, b, c = first[0], first[1], second[0]
        metrics = ["rf", "triplet_distance", "quartet_distance", "clustering_information_bits"]
        metrics += ["matching_cluster", "matching_split"]
        for rooted in (False, True):
            ab, bc, ac = (
                tree_distances(x, y, rooted, metrics) for x, y in ((a, b), (b, c), (a, c))
            )
            for name in metrics:
                assert ac[name] <= ab[name] + bc[name] + 1e-12

    def test_star_against_star(self):
        values = tree_distances("(a,b,c,d,e);", "(e,d,c,b,a);", rooted="both")
        for column, value in values.items():
            if "recall" in column or "precision" in column:
                assert math.isnan(value), column
            elif "adjusted" in column or "normalised_hier" in column:
                assert value == 1, column
            else:
                assert value == 0, column

    def test_star_against_resolved(self):
        values = tree_distances("(a,b,c,d,e);", "(((a,b),c),(d,e));", rooted="both")
        assert values["normalised_rf_rooted"] == 1
        assert values["clustering_information_unrooted"] == 1
        assert values["adjusted_hierarchical_mutual_information"] == 0
        assert values["adjusted_hierarchical_mutual_information_singleton"] == 0
        assert values["triplet_recall"] == 0
        assert math.isnan(values["triplet_precision"])
        assert values["normalised_matching_cluster"] == 1

    @pytest.mark.parametrize("leaves", [2, 3])
    def test_fewest_leaves(self, leaves):
        names = list("abc")[:leaves]
        values = tree_distances(star_tree(names), star_tree(names), rooted="both")
        assert values["quartet"] == 0
        assert values["rf_rooted"] == 0


class TestInterface:
    def test_contract_keys(self):
        values = tree_distances(FIGURE_3, FIGURE_4)
        assert values.keys() >= CONTRACT
        assert values.keys() == MEASURES.keys()
        assert tree_distances(FIGURE_3, FIGURE_4, measures=["triplet"]).keys() == {"triplet"}

    def test_figures_of_the_thesis(self):
        values = tree_distances(FIGURE_3, FIGURE_4, rooted="both")
        expected = {
            "rf_unrooted": 3,
            "false_positives_unrooted": 0,
            "false_negatives_unrooted": 3,
            "rf_rooted": 4,
            "false_positives_rooted": 1,
            "normalised_rf_rooted": 0.5,
            "triplet": 0.3,
            "triplet_recall": 0.818,
            "quartet": 0.395,
            "quartet_precision": 1,
            "clustering_information_unrooted": 0.395,
            "clustering_information_rooted": 0.378,
            "hierarchical_mutual_information": 0.881,
            "adjusted_hierarchical_mutual_information": 0.283,
            "adjusted_hierarchical_mutual_information_mean": 0.384,
            "adjusted_hierarchical_mutual_information_singleton": 0.542,
            "matching_cluster": 7,
            "matching_split": 8,
        }
        for column, value in expected.items():
            assert values[column] == pytest.approx(value, abs=5e-4), column

    def test_many_trees(self):
        generator = np.random.default_rng(0)
        names = [f"t{i}" for i in range(8)]
        truth = yule_tree(names, generator)
        trees: list[Tree | str] = [random_binary_tree(names, generator) for _ in range(5)]
        trees += [trees[0].newick(), trees[0].newick(), star_tree(names[::-1])]
        table = compare_trees(trees, truth, rooted="both")
        assert table["rf_rooted"].dtype == np.int64
        assert table["triplet"].dtype == np.float64
        for row, tree in enumerate(trees):
            single = tree_distances(tree, truth, rooted="both")
            assert {key: values[row] for key, values in table.items()} == pytest.approx(
                single, nan_ok=True
            )

    def test_equal_trees_are_computed_once(self, monkeypatch):
        comparer = TreeComparer("((a,b),(c,d));")
        calls = []
        compute = comparer._values
        monkeypatch.setattr(comparer, "_values", lambda tree: calls.append(1) or compute(tree))
        for text in ("((a,c),(b,d));", "((d,b),(c,a));", "((a,c),(b,d));"):
            comparer(text)["rf"] = 99
        assert len(calls) == 1
        assert comparer("((a,c),(b,d));")["rf"] == 2

    def test_other_leaves(self):
        with pytest.raises(DataError) as error:
            tree_distances("((Sandal,Sneakers),Boot);", "((Sandal,Sneaker),Bag);")
        for word in ("observed tree", "missing: 'Sneaker', 'Bag'", "extra: 'Sneakers', 'Boot'"):
            assert word in str(error.value)
        with pytest.raises(DataError, match="missing: 'c'"):
            TreePair(parse_newick("(a,b);"), parse_newick("(a,b,c);"))

    def test_unknown_words(self):
        with pytest.raises(ConfigurationError, match=r"'triplets'.*Did you mean 'triplet'"):
            tree_distances("(a,b);", "(a,b);", measures=["triplets"])
        with pytest.raises(ConfigurationError, match="rooted must be"):
            tree_distances("(a,b);", "(a,b);", rooted="yes")  # type: ignore[arg-type]
        pair = TreePair(parse_newick("(a,b,c);"), parse_newick("((a,b),c);"))
        with pytest.raises(ConfigurationError, match="leaf convention"):
            pair.hierarchical_information("cells")  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match="surplus"):
            pair.matching_distance(True, "paid")  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match="normaliser"):
            pair.hierarchical_information().adjusted("median")  # type: ignore[arg-type]

    def test_large_trees(self):
        generator = np.random.default_rng(7)
        names = [f"t{i}" for i in range(300)]
        truth, observed = yule_tree(names, generator), random_binary_tree(names, generator)
        values = tree_distances(observed, truth)
        # Binary trees are fully resolved, and a random one is right in about a third.
        assert values["triplet_recall"] == values["triplet_precision"]
        assert values["quartet"] == pytest.approx(2 / 3, abs=0.05)
        assert tree_distances(truth, truth)["quartet_recall"] == 1
