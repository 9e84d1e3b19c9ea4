from __future__ import annotations

import warnings
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tree_strategies import clusters_of, tree_pairs

from espalier.errors import DataError
from espalier.hierarchy.trees import (
    Tree,
    as_tree,
    parse_newick,
    parse_newicks,
    random_binary_tree,
    star_tree,
    tree_from_clusters,
    yule_tree,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import dendropy

NAMES = st.lists(
    st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=6),
    min_size=2,
    max_size=7,
    unique=True,
)


def names(count: int) -> list[str]:
    return [f"t{i}" for i in range(count)]


def clades(*groups: str) -> frozenset[frozenset[str]]:
    return frozenset(frozenset(group) for group in groups)


class TestParse:
    def test_clusters_and_splits(self):
        tree = parse_newick("(((a,b),c),(d,e));")
        assert tree.leaves == ("a", "b", "c", "d", "e")
        assert tree.clusters() == clades("ab", "abc", "de")
        # The two edges below the root are one split; a side is named without leaf 0.
        assert tree.splits() == clades("cde", "de")
        assert tree.cluster_matrix().tolist() == [
            [True, True, True, False, False],
            [True, True, False, False, False],
            [False, False, False, True, True],
        ]
        assert not tree.split_matrix()[:, 0].any()

    def test_everything_the_format_allows(self):
        text = """[a tree, with (a comment);]
        ( 'it''s a (leaf)':1.5e-3 , lawn_mower[&!x=1]
          :0 , ('Ankle Boot',"x")inner:2 ) root_name : 1 ;"""
        tree = parse_newick(text)
        assert tree.leaves == ("it's a (leaf)", "lawn_mower", "Ankle Boot", '"x"')
        assert tree.labels[0] == "root_name"
        assert "inner" in tree.labels
        assert parse_newick(tree.newick(internal_labels=True)).labels == tree.labels

    def test_last_semicolon_may_be_missing(self):
        assert parse_newick("(a,b)") == parse_newick("(b,a);")

    def test_leaf_order_can_be_given(self):
        tree = parse_newick("((c,a),b);", leaves=["a", "b", "c"])
        assert tree.leaves == ("a", "b", "c")
        assert tree.newick() == "((a,c),b);"

    def test_many(self):
        trees = parse_newicks("(a,b);\n((a,b),c);\n[end]\n")
        assert [tree.num_leaves for tree in trees] == [2, 3]

    def test_unary_nodes(self):
        text = "((((a,b))),(c));"
        assert parse_newick(text).newick() == "((a,b),c);"
        kept = parse_newick(text, suppress_unary=False)
        assert kept.newick() == text
        assert kept.clusters() == clades("ab")
        assert kept != parse_newick(text)
        assert kept.without_unary_nodes() == parse_newick(text)

    def test_very_deep(self):
        count = 5000
        text = "(" * (count - 1) + "t0," + "),".join(f"t{i}" for i in range(1, count)) + ");"
        tree = parse_newick(text)
        assert tree.depth.max() == count - 1
        assert tree.newick() == text

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("", ["line 1, column 1", "empty"]),
            ("  [only a comment] ;", ["line 1, column 20", "empty"]),
            ("((a,b),c;", ["1 '(' not closed", "column 9"]),
            ("((a,b)", ["1 '(' not closed"]),
            ("(a,b));", ["')' without an open '('", "column 6"]),
            ("a,b;", ["',' without an open '('"]),
            ("(a,\nb,\n a);", ["line 3, column 2", "'a' occurs twice"]),
            ("(a,,b);", ["leaf without a name", "column 4"]),
            ("(a,());", ["leaf without a name"]),
            ("(a,'');", ["leaf without a name"]),
            ("(a,b)(c,d);", ["',' is missing"]),
            ("(Ankle Boot,Bag);", ["'Boot'", "need quotes"]),
            ("(a,'b);", ["quote not closed", "column 4"]),
            ("(a,b[x);", ["comment not closed"]),
            ("(a:x,b);", ["branch length that is no number"]),
            ("(a:1:2,b);", ["branch length without a node"]),
            ("(a,b):", ["branch length that is no number"]),
            ("(a,b]);", ["unexpected ']'", "column 5"]),
            ("(a,b)r,c;", ["without an open"]),
            ("a;", ["at least two leaves"]),
            ("(a,b);(c,d);", ["expected one tree and found 2"]),
        ],
    )
    def test_bad_text_is_named_with_its_place(self, text, words):
        with pytest.raises(DataError) as error:
            parse_newick(text)
        for word in words:
            assert word in str(error.value)

    @given(NAMES, st.data())
    @settings(max_examples=60, deadline=None)
    def test_written_trees_are_read_back(self, labels, data):
        tree = tree_from_clusters(data.draw(clusters_of(labels)), labels)
        again = parse_newick(tree.newick())
        assert again == tree
        assert hash(again) == hash(tree)
        assert again.clusters() == tree.clusters()
        assert parse_newick(tree.newick(), leaves=labels).newick() == tree.newick()

    @given(tree_pairs(3, 9))
    @settings(max_examples=30, deadline=None)
    def test_dendropy_reads_the_same_tree(self, pair):
        tree = pair[0].relabel({"t0": "under_score", "t1": "two-words"})
        read = dendropy.Tree.get(data=tree.newick(), schema="newick")
        found = {
            frozenset(leaf.taxon.label for leaf in node.leaf_iter())
            for node in read.preorder_internal_node_iter()
        }
        assert found - {frozenset(tree.leaves)} == tree.clusters()
        assert parse_newick(read.as_string("newick", suppress_rooting=True)) == tree


class TestTree:
    def test_star(self):
        tree = star_tree(["b", "a", "c"])
        assert tree.newick() == "(b,a,c);"
        assert not tree.clusters()
        assert tree.cluster_matrix().shape == (0, 3)

    def test_arrays_are_read_only(self):
        tree = star_tree(names(4))
        with pytest.raises(ValueError, match="read-only"):
            tree.parent[1] = 3
        with pytest.raises(AttributeError):
            tree.leaves = ()  # type: ignore[misc]

    def test_nodes_are_breadth_first(self):
        tree = parse_newick("((a,(b,c)),(d,e,f));")
        assert tree.parent.tolist() == sorted(tree.parent.tolist())
        assert tree.degree.tolist() == [2, 2, 3, 2]
        assert tree.size[0] == 6
        assert not tree.is_binary

    def test_relabel_and_permute(self):
        tree = parse_newick("((a,b),c);")
        assert tree.relabel({"a": "x"}).clusters() == clades("xb")
        # Leaf 0 goes where leaf 2 was.
        assert tree.permute(np.array([2, 0, 1])).clusters() == clades("bc")
        with pytest.raises(DataError, match=r"no leaf 'aa'.*Did you mean"):
            tree.relabel({"aa": "x"})
        with pytest.raises(DataError, match="twice: 'b'"):
            tree.relabel({"a": "b"})
        with pytest.raises(DataError, match="not a permutation"):
            tree.permute(np.array([0, 0, 1]))

    def test_leaf_order_names_missing_and_extra(self):
        tree = parse_newick("((Sandal,Sneaker),Bag);")
        with pytest.raises(DataError) as error:
            tree.with_leaf_order(["Sandal", "Sneakers", "Bag"])
        message = str(error.value)
        assert "missing: 'Sneakers'" in message
        assert "extra: 'Sneaker'" in message
        assert "Did you mean 'Sneakers'?" in message

    def test_equality(self):
        assert parse_newick("((a,b),c);") == parse_newick("(c,(b,a));")
        assert parse_newick("((a,b),c);") != parse_newick("((a,c),b);")
        assert parse_newick("(a,b);") != parse_newick("(a,c);")
        assert parse_newick("(a,b);") != "(a,b);"

    def test_crossing_clusters(self):
        with pytest.raises(DataError, match=r"not nested.*'b', 'c'.*'a', 'b'"):
            tree_from_clusters(["ab", "bc"], list("abcd"))
        with pytest.raises(DataError, match="no leaf 'z'"):
            tree_from_clusters(["az"], list("abcd"))
        with pytest.raises(DataError, match="twice: 'a'"):
            star_tree(list("aba"))
        with pytest.raises(DataError, match="at least two"):
            star_tree(["a"])

    def test_as_tree(self):
        tree = as_tree("((a),b);")
        assert isinstance(tree, Tree)
        assert as_tree(tree) is tree
        with pytest.raises(DataError, match="int"):
            as_tree(3)  # type: ignore[arg-type]


class TestRandomTrees:
    def test_uniform_over_all_fifteen_trees(self):
        generator = np.random.default_rng(1)
        count = Counter(random_binary_tree(names(4), generator).newick() for _ in range(3000))
        assert len(count) == 15
        # Chi-squared with 14 degrees of freedom; 36 is its 0.999 quantile.
        assert sum((k - 200) ** 2 / 200 for k in count.values()) < 36

    def test_yule_prefers_balance(self):
        # 2 of 3 leaf histories of four leaves give the caterpillar shape, 1 of 3 the balanced.
        generator = np.random.default_rng(2)
        balanced = sum(
            sorted(tree.size.tolist()).count(2) == 2
            for tree in (yule_tree(names(4), generator) for _ in range(3000))
        )
        assert abs(balanced / 3000 - 1 / 3) < 4 * np.sqrt(2 / 9 / 3000)

    @pytest.mark.parametrize("make", [random_binary_tree, yule_tree])
    @pytest.mark.parametrize("count", [2, 3, 50])
    def test_binary_and_repeatable(self, make, count):
        tree = make(names(count), np.random.default_rng(3))
        assert tree.is_binary
        assert len(tree.clusters()) == count - 2
        assert tree.newick() == make(names(count), np.random.default_rng(3)).newick()
