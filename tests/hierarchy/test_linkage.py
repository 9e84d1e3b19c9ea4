from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import pdist, squareform
from tree_strategies import tree_pairs

from espalier.errors import ConfigurationError, DataError
from espalier.hierarchy.distances import tree_distances
from espalier.hierarchy.linkage import (
    class_mean_hierarchy,
    confusion_hierarchy,
    dendrogram_purity,
    induced_hierarchy,
    pooled_covariance,
    tree_from_linkage,
)
from espalier.hierarchy.tree_pairs import TreePair
from espalier.hierarchy.trees import parse_newick

GOLDENS = Path(__file__).parents[1] / "goldens" / "related"
GOLDEN = json.loads((GOLDENS / "class_hierarchies.json").read_text())
with np.load(GOLDENS / "class_hierarchies.npz") as archive:
    ARRAYS = {name: archive[name] for name in archive.files}
VARIANTS = {
    "ward_raw_code": {"linkage": "ward", "normalise": False},
    "ward_normalised_paper": {},
    "average_euclidean": {"linkage": "average", "normalise": False},
    "average_cosine": {"linkage": "average", "normalise": False, "metric": "cosine"},
    "complete_euclidean": {"linkage": "complete", "normalise": False},
}
WEIGHTS = ("planted_20x16", "norms_vary_12x8", "random_10x6")


def class_names(count: int) -> list[str]:
    return [f"c{i}" for i in range(count)]


class TestInduced:
    @pytest.mark.parametrize("case", WEIGHTS)
    @pytest.mark.parametrize("variant", VARIANTS)
    def test_golden(self, case, variant):
        weights = ARRAYS[f"{case}/W"]
        found = induced_hierarchy(weights, class_names(len(weights)), **VARIANTS[variant])
        tree = parse_newick(found.newick)
        assert tree == parse_newick(GOLDEN[case]["newick"][variant])
        np.testing.assert_allclose(found.linkage, ARRAYS[f"{case}/Z_{variant}"], atol=1e-9)
        raw = induced_hierarchy(weights, class_names(len(weights)), normalise=False).newick
        distance = TreePair(tree, parse_newick(raw)).robinson_foulds(True).distance
        assert distance == GOLDEN[case]["clade_difference_vs_code"][variant]

    def test_details_name_the_choice(self):
        weights = np.array([[1.0, 0], [0, 0], [1, 0.1]])
        found = induced_hierarchy(weights, list("abc"))
        assert found.details["normalise"] is True
        assert found.details["zero_rows"] == ["b"]
        assert found.newick == "((a,c),b);"

    def test_equal_rows_are_one_polytomy(self):
        weights = np.array([[1.0, 0], [1, 0], [1, 0], [0, 1]])
        assert induced_hierarchy(weights, list("abcd")).newick == "((a,b,c),d);"
        resolved = induced_hierarchy(weights, list("abcd"), collapse_ties=False)
        assert parse_newick(resolved.newick).is_binary
        assert resolved.details["tied_fraction"] == 1

    def test_bad_input(self):
        with pytest.raises(DataError, match="one row for each of 3 classes"):
            induced_hierarchy(np.zeros((2, 4)), list("abc"))
        with pytest.raises(DataError, match="not finite for 'b'"):
            induced_hierarchy(np.array([[0.0], [np.nan]]), list("ab"))
        with pytest.raises(ConfigurationError, match="Did you mean 'average'"):
            induced_hierarchy(np.eye(3), list("abc"), linkage="averag")
        with pytest.raises(ConfigurationError, match="ward linkage needs Euclidean"):
            induced_hierarchy(np.eye(3), list("abc"), metric="cosine")
        with pytest.raises(DataError, match="not zero: 'a'"):
            induced_hierarchy(np.diag([0, 1, 1]), list("abc"), "average", metric="cosine")
        with pytest.raises(ConfigurationError, match="unknown distance"):
            induced_hierarchy(np.eye(3), list("abc"), metric="cityblock")  # type: ignore[arg-type]
        with pytest.raises(DataError, match="at least two classes"):
            induced_hierarchy(np.eye(1), ["a"])


class TestConfusion:
    def test_golden(self):
        found = confusion_hierarchy(ARRAYS["conf/cm"], class_names(12))
        np.testing.assert_allclose(found.linkage, ARRAYS["conf/Z_confusion_average"], atol=1e-9)
        # The three merges at height 1 are one root with four children.
        assert found.newick == "(((c0,c2),c1),((c3,c5),c4),(c6,(c7,c8)),((c9,c11),c10));"
        assert found.details["unconfused_pairs"] == GOLDEN["confusion_12"]["zero_offdiag_pairs"]
        assert found.details["tied_fraction"] == pytest.approx(56 / 66)
        golden = parse_newick(GOLDEN["confusion_12"]["newick"]["confusion_average"])
        resolved = confusion_hierarchy(ARRAYS["conf/cm"], class_names(12), collapse_ties=False)
        assert parse_newick(resolved.newick) == golden

    def test_rows_are_shares(self):
        # b has ten times the images of a and c; its shares decide, not its counts.
        counts = np.array([[8, 0, 2], [10, 90, 0], [2, 0, 8]])
        assert confusion_hierarchy(counts, list("abc")).newick == "((a,c),b);"

    def test_class_without_samples(self):
        counts = np.array([[8, 2, 0, 0], [2, 8, 0, 0], [0, 0, 9, 1], [0, 0, 0, 0]])
        found = confusion_hierarchy(counts, list("abcd"))
        assert found.details["classes_without_samples"] == ["d"]
        assert found.newick == "((a,b),(c,d));"

    def test_perfect_network_is_a_star(self):
        found = confusion_hierarchy(np.eye(5) * 100, list("abcde"))
        assert found.newick == "(a,b,c,d,e);"
        assert found.details["tied_fraction"] == 1

    def test_bad_input(self):
        with pytest.raises(DataError, match=r"need a \(3, 3\) confusion matrix, not \(2, 2\)"):
            confusion_hierarchy(np.eye(2), list("abc"))
        with pytest.raises(DataError, match="negative"):
            confusion_hierarchy(np.array([[1, -1], [0, 1]]), list("ab"))
        with pytest.raises(ConfigurationError, match="ward linkage needs Euclidean"):
            confusion_hierarchy(np.eye(3), list("abc"), linkage="ward")


class TestClassMeans:
    @pytest.mark.parametrize(
        ("key", "options"),
        [
            ("class_mean_average_euclidean", {}),
            ("class_mean_average_cosine", {"metric": "cosine"}),
            ("class_mean_ward", {"linkage": "ward"}),
        ],
    )
    def test_golden(self, key, options):
        found = class_mean_hierarchy(ARRAYS["conf/means"], class_names(12), **options)
        np.testing.assert_allclose(found.linkage, ARRAYS[f"conf/Z_{key}"], atol=1e-9)
        golden = parse_newick(GOLDEN["confusion_12"]["newick"][key])
        assert parse_newick(found.newick) == golden

    def test_mahalanobis_golden(self):
        labels = ARRAYS["conf/y"]
        covariance = pooled_covariance(ARRAYS["conf/X"], labels)
        # The golden divides by N, pooled_covariance by N - C.
        covariance *= (len(labels) - 12) / len(labels)
        found = class_mean_hierarchy(
            ARRAYS["conf/means"], class_names(12), "mahalanobis", covariance=covariance
        )
        expected = ARRAYS["conf/Z_class_mean_average_mahalanobis"]
        np.testing.assert_allclose(found.linkage, expected, atol=1e-9)
        inverse = np.linalg.inv(covariance)
        square = squareform(pdist(ARRAYS["conf/means"], "mahalanobis", VI=inverse))
        np.testing.assert_allclose(square, ARRAYS["conf/D_mahalanobis_pooled"], atol=1e-9)

    def test_pooled_covariance(self):
        features, labels = np.random.default_rng(0).normal(size=(40, 3)), np.arange(40) % 4
        parts = [np.cov(features[labels == c].T) * 9 for c in range(4)]
        np.testing.assert_allclose(pooled_covariance(features, labels), sum(parts) / 36)
        with pytest.raises(DataError, match="too few"):
            pooled_covariance(np.zeros((2, 3)), np.array([0, 1]))

    def test_collapse_shows_in_the_variation(self):
        equiangular = class_mean_hierarchy(np.eye(6), class_names(6))
        assert equiangular.details["coefficient_of_variation"] == pytest.approx(0, abs=1e-12)
        assert not parse_newick(equiangular.newick).clusters()

    def test_bad_input(self):
        with pytest.raises(ConfigurationError, match="needs the covariance"):
            class_mean_hierarchy(np.eye(3), list("abc"), "mahalanobis")
        with pytest.raises(DataError, match="singular; give a ridge"):
            class_mean_hierarchy(
                np.eye(3), list("abc"), "mahalanobis", covariance=np.diag([1.0, 1, 0])
            )
        ridged = class_mean_hierarchy(
            np.eye(3), list("abc"), "mahalanobis", covariance=np.diag([1.0, 1, 0]), ridge=0.1
        )
        assert ridged.newick == "((a,b),c);"
        with pytest.raises(DataError, match=r"need a \(3, 3\) covariance, not \(2, 2\)"):
            class_mean_hierarchy(np.eye(3), list("abc"), "mahalanobis", covariance=np.eye(2))


class TestTreeFromLinkage:
    def test_ties(self):
        merges = np.array([[0, 1, 1.0, 2], [2, 3, 1.0, 2], [4, 5, 1.0, 4]])
        assert tree_from_linkage(merges, list("abcd")) == "(a,b,c,d);"
        assert tree_from_linkage(merges, list("abcd"), False) == "((a,b),(c,d));"
        merges[2, 2] = 2.0
        assert tree_from_linkage(merges, list("abcd")) == "((a,b),(c,d));"

    def test_random_linkage_has_the_clusters_of_scipy(self):
        points = np.random.default_rng(1).normal(size=(15, 2))
        merges = linkage(points, "average")
        members = [{name} for name in class_names(15)]
        for left, right in merges[:, :2].astype(int):
            members.append(members[left] | members[right])
        tree = parse_newick(tree_from_linkage(merges, class_names(15)))
        assert tree.clusters() == {frozenset(m) for m in members[15:-1]}

    def test_bad_linkage(self):
        with pytest.raises(DataError, match=r"shape \(2, 4\) and this has \(1, 4\)"):
            tree_from_linkage(np.zeros((1, 4)), list("abc"))
        with pytest.raises(DataError, match=r"row 1 .* 0 and 2"):
            tree_from_linkage(np.array([[0, 1, 1, 2], [0, 2, 1, 2]]), list("abc"))


class TestPurity:
    @given(tree_pairs(4, 8))
    @settings(max_examples=30, deadline=None)
    def test_brute_force(self, pair):
        tree = pair[0]
        groups = {name: i % 3 for i, name in enumerate(tree.leaves)}
        shares = []
        everything = {*tree.clusters(), frozenset(tree.leaves)}
        for a, b in itertools.combinations(tree.leaves, 2):
            if groups[a] == groups[b]:
                around = min((c for c in everything if {a, b} <= c), key=len)
                shares.append(np.mean([groups[name] == groups[a] for name in around]))
        assert dendrogram_purity(tree, groups) == pytest.approx(np.mean(shares))

    def test_finer_than_the_groups_is_pure(self):
        groups = {"a": 1, "b": 1, "c": 1, "d": 2, "e": 2}
        assert dendrogram_purity("(((a,b),c),(d,e));", groups) == 1
        assert tree_distances("(((a,b),c),(d,e));", "((a,b,c),(d,e));", rooted=True)["rf"] == 1
        with pytest.raises(DataError, match="missing: 'e'"):
            dendrogram_purity("(a,b,c,d);", groups)
        with pytest.raises(DataError, match="no two leaves"):
            dendrogram_purity("(a,b);", {"a": 1, "b": 2})

    def test_published_trees(self):
        path = Path(__file__).parents[3] / "shared" / "goldens" / "related" / "public_trees.json"
        if not path.exists():
            pytest.skip("the trees of published networks are not part of the repository")
        published = json.loads(path.read_text())
        root = Path(__file__).parents[2] / "config" / "hierarchies"
        truth = parse_newick((root / "cifar100.nwk").read_text())
        above = [truth.labels[parent] for parent in truth.parent]
        groups = {
            truth.leaves[leaf]: above[node] for node, leaf in enumerate(truth.leaf) if leaf >= 0
        }
        checked = 0
        for case in published.values():
            if isinstance(case, dict) and "dendrogram_purity_superclass" in case:
                purity = dendrogram_purity(case["newick"], groups)
                assert purity == pytest.approx(case["dendrogram_purity_superclass"])
                distances = tree_distances(case["newick"], truth, rooted=True)
                assert distances["rf"] == case["rooted_rf_to_superclass_tree"]
                checked += 1
        assert checked == 5
