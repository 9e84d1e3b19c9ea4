from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from espalier.errors import ConfigurationError, DataError
from espalier.sculpting.function_families import published_function, published_functions
from espalier.sculpting.functions import Edge, FunctionGraph, Gate
from espalier.sculpting.modules import Modules, detect_modules
from espalier.sculpting.published_recipes import (
    SEEDS,
    published_densities,
    published_recipe,
    published_success,
    published_widths,
)
from espalier.sculpting.success import (
    CRITERIA,
    SUCCESS_COLUMNS,
    compare_hierarchy,
    layered_masks,
    success_table,
    trial_successes,
    true_subfunctions,
    wilson_interval,
)

GOLDEN = Path(__file__).parents[1] / "goldens" / "neural_sculpting" / "published_modules.json"


def modules_of(alive, labels, edges, sizes=None):
    units = tuple(np.array(own, dtype=np.int64) for own in alive)
    found = tuple(np.array(own, dtype=np.int64) for own in labels)
    if sizes is None:
        sizes = [1 + max(own, default=0) for own in alive]
    return Modules(
        sizes=tuple(sizes),
        alive=units,
        clusters=found,
        modules=found,
        edges=np.array(edges, dtype=np.int64).reshape(-1, 3),
        masks=(),
        layers=(),
    )


def layers(*labels, edges=()):
    """Modules of a network whose units are all alive."""
    return modules_of([range(len(own)) for own in labels], labels, edges)


def judged(function, modules):
    return {(s.family, s.criterion): s.success for s in trial_successes(function, modules)}


def golden():
    return json.loads(GOLDEN.read_text())


def test_published_networks_of_figure_7():
    """The authors' own networks, seeds 0 and 1: every trial is judged as in the paper."""
    successes, trials = Counter(), Counter()
    for run in golden():
        if run["sizes"][1] < 24:
            continue
        modules = modules_of(run["alive"], run["modules"], run["edges"], run["sizes"])
        key = run["function"], len(run["sizes"]) - 2
        trials[key] += 1
        successes[key] += judged(run["function"], modules)["validation", "hierarchy"]
    assert set(trials.values()) == {6}
    assert len(trials) == 12
    # Of the published 11 in 12 of 4-1-2-16 with 3 hidden layers, the failure is in another seed.
    expected = {key: 0 if key == ("4-1-2-16", 1) else 6 for key in trials}
    assert dict(successes) == expected


def test_published_networks_and_the_true_hierarchy():
    for run in golden():
        modules = modules_of(run["alive"], run["modules"], run["edges"], run["sizes"])
        comparison = compare_hierarchy(modules, published_function(run["function"]))
        if run["function"] == "4-1-2-16" and len(run["sizes"]) == 3:
            assert comparison.named("merged") == ("shared", "first", "second")
        else:
            assert comparison.exact


@pytest.mark.parametrize("name", published_functions())
def test_a_function_graph_read_as_a_network_is_a_success(name):
    graph = published_function(name)
    found = detect_modules(layered_masks(graph)[0])
    assert all(success.success for success in trial_successes(name, found))
    assert compare_hierarchy(found, graph).exact
    families = {success.family for success in trial_successes(name, found)}
    assert families == ({"validation", "use"} if name == "4-1-2-16" else families)
    # The sub-functions as defined are those that detection finds.
    undeclared = true_subfunctions(replace(graph, subfunctions=()))
    assert {part.nodes for part in undeclared} == {part.nodes for part in graph.subfunctions}


def test_layered_masks_pass_on_what_skips_levels():
    graph = published_function("6-3-3-3")
    masks, units = layered_masks(graph)
    assert [mask.shape for mask in masks] == [(3, 6), (3, 3)]
    deep = FunctionGraph(
        "deep", ("x1", "x2", "x3"),
        (Gate("g", "and", (Edge("x1"), Edge("x2"))),),
        (Gate("y1", "or", (Edge("g"), Edge("x3"))),),
    )  # fmt: skip
    masks, units = layered_masks(deep)
    assert units == [("x1", "x2", "x3"), ("x3", "g"), ("y1",)]
    assert masks[0].tolist() == [[False, False, True], [True, True, False]]


# -- one change breaks one criterion -------------------------------------------------------------


def test_validation_needs_inputs_outputs_and_the_number_of_modules():
    key = "validation", "hierarchy"
    assert judged("4-2-4", layers([0, 0, 1, 1], [0, 1], [0, 0, 1, 1]))[key]
    assert not judged("4-2-4", layers([0, 1, 0, 1], [0, 1], [0, 0, 1, 1]))[key]
    assert not judged("4-2-4", layers([0, 0, 1, 1], [0, 1], [0, 1, 0, 1]))[key]
    assert not judged("4-2-4", layers([0, 0, 1, 1], [0, 2], [0, 0, 1, 1]))[key]
    outputs = [1, 2] * 8
    assert judged("4-1-2-16", layers([0] * 4, [1, 2], outputs))[key]
    # Figure 8 counts modules only.
    spread = judged("4-1-2-16", layers([0, 0, 0, 1], [1, 2], outputs))
    assert spread == {key: False, ("use", "hierarchy"): True}


def test_overlap_criteria():
    def overlap(*labels):
        found = judged("6-3-2-4", layers(*labels))
        return [found["overlap", name] for name in CRITERIA["overlap"]]

    inputs, outputs = [0, 0, 1, 1, 2, 2], [3, 4, 3, 4]
    assert overlap(inputs, [3, 4], outputs) == [True, True, True]
    assert overlap([0, 0, 0, 1, 2, 2], [3, 4], outputs) == [False, True, True]
    assert overlap(inputs, [3, 5, 4], outputs) == [True, True, False]
    assert overlap(inputs, [3, 4], [3, 3, 4, 4]) == [True, False, False]


def test_levels_criteria():
    first, second = [0] * 4, [1] * 4
    whole = judged(
        "8-2-1-2-4",
        layers(
            [*first, *second], [0, 1], [2, 2], [3, 4], [3, 4, 3, 4],
            edges=[(0, 2, 3), (1, 2, 3), (2, 3, 2), (2, 4, 2)],
        ),
    )  # fmt: skip
    assert len(whole) == 4
    assert all(whole.values())
    shallow = layers([*first, *second], [0, 1], [2, 2], [2, 2, 2, 2], edges=[(0, 2, 3), (1, 2, 3)])
    found = {name: value for (_, name), value in judged("8-2-1-2-4", shallow).items()}
    # With two hidden layers three modules are the hierarchy; the outputs are in one of them.
    assert found == {"inputs": True, "intermediate": True, "outputs": False, "hierarchy": True}
    apart = layers(
        [*first, *second], [0, 1], [2, 3], [2, 3, 2, 3], edges=[(0, 2, 1), (1, 2, 1), (1, 3, 1)]
    )
    assert not judged("8-2-1-2-4", apart)["levels", "intermediate"]
    # Outputs used once have several function graphs; one hidden layer has none.
    assert ("levels", "hierarchy") not in judged(
        "8-2-1-2-2", layers([*first, *second], [0, 1], [2, 2], [2, 2])
    )
    assert ("levels", "hierarchy") not in judged("8-2-1-2-4", layers([0] * 8, [0], [0] * 4))


def of_two_digits(modules):
    return {name: value for (_, name), value in judged("two-digits-mnist", modules).items()}


def test_digit_criteria():
    # Live pixels in the first row of the image, and one below the left digit's first.
    alive = [[0, 7, 56, 28, 55], [0, 1], list(range(20))]
    labels = [[0, 0, 0, 1, 1], [0, 1], [0] * 10 + [1] * 10]
    two = modules_of(alive, labels, [], (1568, 9, 20))
    assert of_two_digits(two) == {"hierarchy": True, "inputs": True, "outputs": True}
    swapped = modules_of(alive, [*labels[:2], [1] * 10 + [0] * 10], [], (1568, 9, 20))
    assert of_two_digits(swapped) == {"hierarchy": False, "inputs": True, "outputs": True}
    stray = modules_of(alive, [[0, 0, 1, 1, 1], *labels[1:]], [], (1568, 9, 20))
    assert of_two_digits(stray) == {"hierarchy": True, "inputs": False, "outputs": True}
    mixed = modules_of(alive, [[0, 0, 0, 0, 1], *labels[1:]], [], (1568, 9, 20))
    assert of_two_digits(mixed)["hierarchy"]
    half = modules_of(alive, [[0, 0, 1, 1, 0], *labels[1:]], [], (1568, 9, 20))
    assert not of_two_digits(half)["hierarchy"]
    loose = modules_of(alive, [labels[0], [0, 1], [0] * 10 + [1] * 9 + [2]], [], (1568, 9, 20))
    assert of_two_digits(loose) == {"hierarchy": False, "inputs": True, "outputs": False}
    dead_inputs = modules_of([[], [], alive[2]], [[], [], labels[2]], [], (1568, 9, 20))
    assert not of_two_digits(dead_inputs)["hierarchy"]
    xor = modules_of(
        [[0, 28], [0, 1, 2], [0, 1, 2]], [[0, 1], [2, 2, 3], [3, 4, 5]], [], (1568, 9, 3)
    )
    found = {name: value for (_, name), value in judged("digit-xor-mnist", xor).items()}
    assert found == {"inputs": True, "middle": False, "outputs": True}
    joined = modules_of([[0, 28], [0], [0, 1, 2]], [[0, 1], [2], [2, 2, 3]], [], (1568, 9, 3))
    found = {name: value for (_, name), value in judged("digit-xor-mnist", joined).items()}
    assert found == {"inputs": True, "middle": True, "outputs": False}
    dead = modules_of([[], [], [0, 1, 2]], [[], [], [0, 1, 2]], [], (128, 9, 3))
    assert not judged("digit-xor-digits", dead)["digits", "inputs"]
    with pytest.raises(DataError, match="more inputs"):
        judged("digit-xor-digits", modules_of([[200], [0], [0]], [[0], [0], [0]], []))
    with pytest.raises(ConfigurationError, match="unknown digit task"):
        judged("digit-xor-emnist", xor)


# -- found, merged, split ------------------------------------------------------------------------


def outcomes(modules, name="4-1-2-4"):
    comparison = compare_hierarchy(modules, published_function(name))
    return {match.name: match.outcome for match in comparison.matches}, comparison


def test_found_merged_split_and_missed():
    edges = [(0, 1, 2), (0, 2, 2)]
    found, comparison = outcomes(layers([0] * 4, [0] * 3, [1, 2], [1, 2, 1, 2], edges=edges))
    assert set(found.values()) == {"found"}
    assert comparison.exact
    merged, comparison = outcomes(layers([0] * 4, [0] * 3, [1], [1] * 4, edges=[(0, 1, 3)]))
    assert merged == {"shared": "found", "first": "merged", "second": "merged"}
    assert comparison.matches[1].merged_with == ("second",)
    split, comparison = outcomes(
        layers([0] * 4, [3] * 3, [1, 2], [1, 2, 1, 2], edges=[(0, 3, 4), (3, 1, 2), (3, 2, 2)])
    )
    assert split == {"shared": "split", "first": "found", "second": "found"}
    assert comparison.matches[0].modules == (0, 3)
    assert not comparison.exact
    both, _ = outcomes(
        layers([0, 0, 1, 1], [0, 1], [2, 0], [2, 0, 2, 0], edges=[(0, 2, 1), (1, 0, 1), (1, 2, 1)])
    )
    assert both["shared"] == "split and merged"
    assert both["second"] == "merged"


def test_inner_modules_stand_for_inner_subfunctions():
    inputs = [0] * 4 + [1] * 4
    edges = [(0, 2, 3), (1, 2, 3), (2, 3, 2), (2, 4, 2)]
    shape = (inputs, [0, 1], [2, 2], [3, 4], [3, 4, 3, 4])
    found, comparison = outcomes(layers(*shape, edges=edges), "8-2-1-2-4")
    assert comparison.exact
    assert set(found.values()) == {"found"}
    # The intermediate module lost into the outputs.
    shape = (inputs, [0, 1], [2, 3], [2, 3, 2, 3])
    edges = [(0, 2, 1), (0, 3, 1), (1, 2, 1), (1, 3, 1)]
    found, comparison = outcomes(layers(*shape, edges=edges), "8-2-1-2-4")
    assert found["intermediate"] == "missed"
    assert comparison.named("found") == (
        "first_inputs", "second_inputs", "first_outputs", "second_outputs",
    )  # fmt: skip
    # A module that serves one output only stands for none.
    shape = (inputs, [0, 1, 5], [2, 2], [3, 4], [3, 4, 3, 4])
    edges = [(0, 2, 3), (1, 2, 3), (2, 3, 2), (2, 4, 2), (0, 5, 1), (5, 3, 1)]
    _, comparison = outcomes(layers(*shape, edges=edges), "8-2-1-2-4")
    assert comparison.unexplained == (5,)
    assert not comparison.exact


def test_a_function_of_ones_own_is_judged_by_its_own_hierarchy():
    graph = replace(published_function("6-3-3-3"), name="mine")
    masks, _ = layered_masks(graph)
    assert judged(graph, detect_modules(masks)) == {("own", name): True for name in CRITERIA["own"]}
    merged = layers([0] * 6, [0] * 3, [0] * 3)
    assert judged(graph, merged) == {("own", name): False for name in CRITERIA["own"]}
    # The same name with other gates is not the published function.
    other = replace(graph, name="6-3-3-3", subfunctions=())
    assert {family for family, _ in judged(other, detect_modules(masks))} == {"own"}


def test_networks_of_another_function_are_refused():
    with pytest.raises(DataError, match="4-2-4 has 4 outputs, the network 3"):
        trial_successes("4-2-4", layers([0] * 4, [0] * 3))
    with pytest.raises(DataError, match="more inputs than 4-2-4"):
        trial_successes("4-2-4", layers([0] * 5, [0] * 4))
    with pytest.raises(ConfigurationError, match="unknown published function '4-3-4'"):
        trial_successes("4-3-4", layers([0] * 4, [0] * 4))


# -- tables --------------------------------------------------------------------------------------


def test_success_table_counts_cells():
    trials = pd.DataFrame(
        [
            ("5-3-2-8", "overlap", depth, "inputs", success)
            for depth, success in ((1, True), (1, False), (2, True))
        ]
        + [("4-2-4", "validation", 1, "hierarchy", True)],
        columns=["function", "family", "hidden_layers", "criterion", "success"],
    )
    table = success_table(trials)
    assert tuple(table.columns) == SUCCESS_COLUMNS
    assert table["successes"].tolist() == [1, 1, 1]
    assert table["trials"].tolist() == [2, 1, 1]
    assert table["use"].tolist()[:2] == [4, 4]
    assert table["overlap"].tolist()[:2] == [3, 3]
    assert table.loc[2, ["use", "overlap"]].isna().all()
    with pytest.raises(DataError, match="lacks the columns criterion"):
        success_table(trials.drop(columns="criterion"))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 200), st.floats(0, 1))
def test_wilson_agrees_with_scipy(trials, share):
    successes = round(share * trials)
    low, high = wilson_interval(successes, trials)
    theirs = stats.binomtest(successes, trials).proportion_ci(method="wilson")
    assert (float(low), float(high)) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert low <= successes / trials <= high


def test_wilson_needs_trials():
    for successes, trials in ((0, 0), (3, 2), (-1, 2)):
        with pytest.raises(DataError, match="needs one trial"):
            wilson_interval(successes, trials)


# -- published facts -----------------------------------------------------------------------------


def test_published_recipes():
    def facts(function, hidden):
        recipe = published_recipe(function, hidden)
        return recipe.learning_rate, recipe.batch_size, recipe.epochs

    assert [facts("4-2-4", (24,) * k) for k in (1, 2, 3)] == [
        (0.05, 8, 15), (0.05, 8, 10), (0.05, 8, 20),
    ]  # fmt: skip
    assert [facts("6-3-3-3", [48] * k)[1:] for k in (1, 2, 3)] == [(32, 15), (32, 10), (32, 15)]
    assert facts("4-1-4", (24, 24)) == (0.05, 8, 30)
    assert [facts("4-1-2-16", (w, w)) for w in (24, 36, 48)] == [
        (0.1, 8, 40), (0.1, 8, 30), (0.1, 8, 20),
    ]  # fmt: skip
    assert facts("4-1-2-16", (48, 48, 48)) == (0.1, 16, 30)
    with pytest.raises(ConfigurationError, match="published are 24, 36, 48, 24-24"):
        published_recipe("4-2-4", (25,))
    with pytest.raises(ConfigurationError, match="Did you mean '4-2-4'"):
        published_recipe("4-2-5", (24,))


def test_every_published_function_has_its_trials():
    densities = published_densities()
    assert set(densities["function"]) == set(published_functions())
    assert set(densities["seed"]) == set(SEEDS)
    assert densities["density_percent"].between(0.1, 25).all()
    for name in published_functions():
        widths = published_widths(name)
        own = densities[densities["function"] == name]
        assert len(own) == len(widths) * len(SEEDS)
        counted = {(row.hidden_layers, row.width) for row in own.itertuples()}
        assert counted == {(len(hidden), hidden[0]) for hidden in widths}
    lowest = densities[(densities["function"] == "6-3-3-3") & (densities["width"] == 24)]
    assert lowest[lowest["hidden_layers"] == 2]["density_percent"].min() == pytest.approx(
        1.894, abs=1e-3
    )


def test_published_success_rates_name_known_criteria():
    rates = published_success()
    assert rates["rate"].between(0, 1).all()
    for row in rates.itertuples():
        assert row.criterion in CRITERIA[row.family]
    reused = rates[(rates["family"] == "validation") & (rates["function"] == "4-1-2-16")]
    assert reused["rate"].tolist() == [0, 1, 0.92]
    assert rates.groupby("family").size().to_dict() == {
        "digits": 13, "levels": 21, "overlap": 75, "use": 15, "validation": 12,
    }  # fmt: skip
