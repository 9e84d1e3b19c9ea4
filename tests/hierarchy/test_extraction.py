from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espalier.errors import DataError
from espalier.hierarchy.extraction import class_tree, tree_from_partitions
from espalier.hierarchy.trees import parse_newick

GOLDENS = Path(__file__).parents[1] / "goldens" / "class_hierarchies"
CASES = json.loads((GOLDENS / "tree_extraction.json").read_text())["cases"]


def test_all_goldens_are_here():
    assert len(CASES) == 23


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_golden(case):
    found = class_tree(case["levels"], case["output_nodes"], case["class_names"])
    expected = parse_newick(case["expected_newick"])
    assert parse_newick(found).clusters() == expected.clusters()
    assert set(parse_newick(found).leaves) == set(case["class_names"])


def test_labels_follow_the_class_not_the_position():
    levels = [[0, 0, 1, 1], [0, 0]]
    assert class_tree(levels, [0, 1, None, 2, 3], list("ABCDE")) == "((A,B),C,(D,E));"
    assert class_tree(levels, np.array([0, 1, -1, 2, 3]), list("ABCDE")) == "((A,B),C,(D,E));"


def test_no_output_at_all_is_a_star():
    assert class_tree([[0, 0]], [None, None, None], list("ABC")) == "(A,B,C);"


def test_classes_in_order_of_their_number():
    assert class_tree([[0, 1, 0, 1]], [3, 2, 1, 0], list("ABCD")) == "((A,C),(B,D));"


@pytest.mark.parametrize(
    ("levels", "outputs", "words"),
    [
        ([[0, 0, 1], [0]], [0, 1, 2], ["level 1 has 1 entries", "block of level 0 1", "'C'"]),
        ([[0, 0]], [0, 1, 2], ["level 0 has 2 entries", "node 2"]),
        ([[0, -1, 0]], [0, 1, 2], ["numbered from 0", "'B'", "-1"]),
        ([[0, 0.5, 1]], [0, 1, 2], ["whole block numbers"]),
        ([[[0, 0, 1]]], [0, 1, 2], ["flat list"]),
        ([], [0, 1, 2], ["at least one level"]),
        ([[0, 0, 1]], [0, 1], ["2 output nodes for 3 class names"]),
        ([[0, 0, 1]], [0, 1, 1], ["two classes: [1]"]),
        ([[0, 0, 1]], [0, 1, 1.5], ["whole number"]),
    ],
)
def test_bad_levels(levels, outputs, words):
    with pytest.raises(DataError) as error:
        class_tree(levels, outputs, list("ABC"))
    for word in words:
        assert word in str(error.value)


def test_repeated_class_name():
    with pytest.raises(DataError, match="twice: 'A'"):
        class_tree([[0, 0, 1]], [0, 1, 2], ["A", "A", "B"])


def test_partitions():
    assert tree_from_partitions([[0, 0, 1, 1, 2], [0, 0, 0, 0, 1]], list("ABCDE")) == (
        "(((A,B),(C,D)),E);"
    )
    with pytest.raises(DataError, match="not nested"):
        tree_from_partitions([[0, 0, 1, 1], [0, 1, 1, 0]], list("ABCD"))
    with pytest.raises(DataError, match="groups 3 classes and there are 4"):
        tree_from_partitions([[0, 0, 1]], list("ABCD"))


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_clusters_are_the_class_sets_of_the_blocks(data):
    classes, nodes = data.draw(st.integers(2, 7)), 12
    outputs = data.draw(st.permutations(range(nodes)))[:classes]
    levels, blocks = [], nodes
    for _ in range(data.draw(st.integers(1, 4))):
        above = data.draw(st.integers(1, blocks))
        level = st.lists(st.integers(0, above - 1), min_size=blocks, max_size=blocks)
        levels.append(data.draw(level))
        blocks = above
    names = [f"c{i}" for i in range(classes)]
    expected = set()
    place = list(outputs)
    for level in levels:
        place = [level[block] for block in place]
        for block in set(place):
            expected.add(frozenset(n for n, b in zip(names, place, strict=True) if b == block))
    found = parse_newick(class_tree(levels, outputs, names)).clusters()
    assert found == {cluster for cluster in expected if 1 < len(cluster) < classes}
