from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espalier.errors import ConfigurationError, DataError
from espalier.sculpting.function_families import (
    FAMILIES,
    function_overlap,
    function_use,
    published_function,
    published_functions,
)
from espalier.sculpting.functions import Edge, FunctionGraph, Gate, read_function


def first(bits):
    return tuple(bits) in {(0, 0, 1, 1), (1, 0, 1, 0), (1, 1, 0, 0)}


def second(bits):
    return tuple(bits) in {(0, 1, 0, 1), (1, 0, 0, 1), (1, 1, 1, 1)}


def in_turn(odd, even, count):
    return [odd, even] * (count // 2)


def formula(name, x):
    """The outputs by the published formulas, without a graph."""
    numbers = [int(part) for part in name.split("-")]
    n, m = numbers[0], numbers[-1]
    if name == "4-2-4":
        return [x[0] != x[1], x[0] == x[1], x[2] != x[3], x[2] == x[3]]
    if name == "6-3-3-3":
        p, q, r = x[0] and x[1], x[2] and x[3], x[4] and x[5]
        return [p or q, p or r, q or r]
    if name == "4-1-4":
        return [first(x)] * 4
    if name in FAMILIES["use"]:
        g1, g2, g3 = x == (0, 0, 1, 1), x == (1, 0, 1, 0), x == (1, 1, 0, 0)
        return in_turn(g2 or g3, g1 or g2, m)
    a, b = first(x[:4]), second(x[n - 4 :])
    if name in FAMILIES["levels"]:
        return in_turn(a and not b, b and not a, m)
    return in_turn(a, b, m)


def test_there_are_39_published_functions_in_four_families():
    assert sum(len(names) for names in FAMILIES.values()) == 39
    assert len(published_functions()) == 38
    assert [len(names) for names in FAMILIES.values()] == [4, 5, 25, 5]


@pytest.mark.parametrize("name", published_functions())
def test_truth_tables_bit_by_bit(name):
    graph = published_function(name)
    inputs, targets = graph.truth_table
    rows = list(itertools.product((0, 1), repeat=int(name.split("-")[0])))
    assert inputs.tolist() == [list(row) for row in rows]
    assert targets.astype(bool).tolist() == [list(map(bool, formula(name, row))) for row in rows]
    assert targets.shape == (len(rows), int(name.split("-")[-1]))
    assert targets.dtype == np.uint8


@pytest.mark.parametrize("name", published_functions())
def test_names_count_the_inputs_outputs_and_subfunctions(name):
    graph = published_function(name)
    numbers = [int(part) for part in name.split("-")]
    assert (len(graph.inputs), len(graph.outputs)) == (numbers[0], numbers[-1])
    # With four shared inputs the paper counts the ANDs and the OR of a sub-function apart.
    expected = 3 if name.startswith("4-1-2-2-") else sum(numbers[1:-1])
    assert len(graph.subfunctions) == expected
    assert re.fullmatch(r"[A-Za-z0-9_-]+", graph.name)


def test_levels_and_what_gates_serve():
    graph = published_function("8-2-1-2-4")
    assert graph.depth == 5
    assert [graph.levels[node] for node in ("x1", "a1", "b", "f1", "y4")] == [0, 1, 2, 3, 4]
    assert graph.inputs_of("a2") == frozenset(range(4))
    assert graph.inputs_of("f1") == frozenset(range(8))
    assert graph.outputs_of("a2") == frozenset(range(4))
    assert graph.outputs_of("f2") == frozenset({1, 3})
    assert graph.inputs_of("x8") == frozenset({7})
    with pytest.raises(ConfigurationError, match=r"unknown node of 8-2-1-2-4 'f3'"):
        graph.inputs_of("f3")


def test_use_and_overlap_of_the_families():
    assert function_use("4-1-2-16") == 8
    assert function_use("6-3-3-3") is None
    assert function_overlap("6-3-2-12") == 2
    assert function_overlap("4-1-2-2-2") == 4
    assert function_overlap("4-1-2-2") is None
    with pytest.raises(ConfigurationError, match="Did you mean '4-1-2-16'"):
        published_function("4-1-2-15")


GOOD = """
inputs: 4
gates:
  left: {and: [x1, not x2]}
  right: {or: [x3, x4]}
outputs:
  y1: {xor: [left, right]}
  y2: {identity: [not right]}
subfunctions:
  first: [x1, x2, left]
  second: [x3, x4, right, y2]
  third: [y1]
"""


def written(tmp_path, text, name="mine.yaml"):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_a_function_of_ones_own(tmp_path):
    graph = read_function(written(tmp_path, GOOD))
    assert graph.name == "mine"
    _, targets = graph.truth_table
    for row, (a, b, c, d) in enumerate(itertools.product((0, 1), repeat=4)):
        right = bool(c or d)
        assert targets[row].tolist() == [int((a and not b) != right), int(not right)]
    assert [part.name for part in graph.subfunctions] == ["first", "second", "third"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("gates:", "gate:", "Did you mean 'gates'"),
        ("inputs: 4", "inputs: 5", r"no gate takes the input x5"),
        ("inputs: 4", "inputs: 0", "at least one input"),
        ("inputs: 4", "inputs: [x1, x1, x2, x3, x4]", "x1 more than once"),
        ("inputs: 4", "inputs: 40", "at most 2\\^16 rows"),
        ("inputs: 4", "inputs: [x1, x2, x3, 4]", "inputs: expected a list of names"),
        ("{or: [x3, x4]}", "{or: [x3, x4, more]}\n  more: {and: [right, x1]}", "form a cycle"),
        ("{or: [x3, x4]}", "{or: [x3, right]}", "cycle, right -> right"),
        ("{or: [x3, x4]}", "{nor: [x3, x4]}", "kind of gate right in mine: 'nor'. Did you mean"),
        ("{or: [x3, x4]}", "{or: [x3, x5]}", "unknown source of gate right in mine: 'x5'"),
        ("{or: [x3, x4]}", "{or: [x3, y1]}", "outputs feed nothing"),
        ("{or: [x3, x4]}", "{or: [x3, not x3]}", "x3 more than once"),
        ("{or: [x3, x4]}", "{or: [x3]}", "two sources or more"),
        ("{or: [x3, x4]}", "{or: [x3, x4], and: [x1]}", "must be one kind"),
        ("{identity: [not right]}", "{identity: [left, right]}", "exactly one source"),
        ("{identity: [not right]}", "{identity: right}", "expected a list of names"),
        ("  left:", "  same: {and: [not x2, x1]}\n  left:", "same and left are the same"),
        ("  left:", "  idle: {and: [x2, x1]}\n  left:", "no gate takes the gate idle"),
        ("  left:", "  not: {and: [x2, x1]}\n  left:", "'not' is not a node name"),
        ("  left:", "  right: {and: [x2, x1]}\n  left:", "'right' occurs twice"),
        ("third: [y1]", "third: [y1, x1]", "x1 is in 2 sub-functions"),
        ("  third: [y1]", "", "y1 in no sub-function"),
        ("third: [y1]", "third: [y1]\n  fourth: []", "fourth has no nodes"),
        ("third: [y1]", "third: [y1, y3]", "Did you mean 'y2'|Did you mean 'y1'"),
        ("inputs: 4", "name: a/b\ninputs: 4", "file names hold it"),
        ("outputs:\n", "output:\n", "Did you mean 'outputs'"),
    ],
)
def test_bad_functions_are_refused(tmp_path, old, new, message):
    assert old in GOOD
    path = written(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(DataError, match=message) as caught:
        read_function(path)
    assert str(path) in str(caught.value)


def test_constant_outputs_and_inputs_without_effect():
    def gate(name, kind, *edges):
        return Gate(name, kind, tuple(Edge(source, negated) for source, negated in edges))

    a = gate("a", "or", ("x1", False), ("x2", False))
    b = gate("b", "and", ("x1", True), ("x2", True))
    with pytest.raises(DataError, match="output y1 is always 1"):
        FunctionGraph(
            "f", ("x1", "x2"), (a, b), (gate("y1", "xor", ("a", False), ("b", False)),)
        )  # a or not a
    c, d = (gate(n, "and", ("x1", False), ("x2", k)) for n, k in (("c", False), ("d", True)))
    with pytest.raises(DataError, match="no output ever changes with the input x2"):
        FunctionGraph("f", ("x1", "x2"), (c, d), (gate("y1", "or", ("c", False), ("d", False)),))


def test_files_that_are_no_function(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_function(tmp_path / "none.yaml")
    with pytest.raises(DataError, match="not valid YAML"):
        read_function(written(tmp_path, "a: [1"))
    with pytest.raises(DataError, match="expected the keys name, inputs"):
        read_function(written(tmp_path, "- 1"))
    with pytest.raises(DataError, match="the keys inputs, outputs must be there"):
        read_function(written(tmp_path, "name: f"))


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_negated_edges_obey_de_morgan(data):
    negated = data.draw(st.lists(st.booleans(), min_size=3, max_size=3))
    inputs = ("x1", "x2", "x3")
    edges = tuple(Edge(x, flag) for x, flag in zip(inputs, negated, strict=True))
    flipped = tuple(Edge(edge.source, not edge.negated) for edge in edges)
    both = FunctionGraph(
        "f", inputs, (Gate("g", "or", flipped),),
        (Gate("y1", "and", edges), Gate("y2", "identity", (Edge("g", True),))),
    )  # fmt: skip
    _, targets = both.truth_table
    assert np.array_equal(targets[:, 0], targets[:, 1])
