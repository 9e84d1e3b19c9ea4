"""Functions, shapes, recipes and variants of an experiment."""

from __future__ import annotations

import pytest

from espalier.config import load
from espalier.errors import ConfigurationError
from espalier.sculpting.experiments import (
    DIGIT_FUNCTIONS,
    chosen_recipe,
    drawn_variant,
    families_of,
    function_label,
    hidden_label,
    hidden_of_label,
    hidden_shapes,
    listed_functions,
)
from espalier.sculpting.function_families import FAMILIES, published_functions
from espalier.sculpting.tasks import DIGIT_SOURCES, DIGIT_TASKS
from espalier.sculpting.training import Recipe

GIVEN = {"learning_rate": None, "batch_size": None, "epochs": None, "checkpoint_loss": "mean"}


def settings(**section):
    return load({"analyses": ["sculpting"], "sculpting": section})


def test_a_family_stands_for_its_functions_each_once():
    assert listed_functions(["validation", "use"]) == [
        *FAMILIES["validation"],
        *(name for name in FAMILIES["use"] if name != "4-1-2-16"),
    ]
    assert listed_functions(FAMILIES) == list(published_functions())
    assert set(DIGIT_FUNCTIONS) == {f"{a}-{b}" for a in DIGIT_TASKS for b in DIGIT_SOURCES}


def test_files_are_named_after_their_stem():
    assert function_label("some/where/mine.yaml") == "mine" and function_label("4-2-4") == "4-2-4"
    with pytest.raises(ConfigurationError, match="called mine"):
        listed_functions(["a/mine.yaml", "b/mine.yml"])
    with pytest.raises(ConfigurationError, match="called 4-2-4"):
        listed_functions(["4-2-4", "4-2-4.yaml"])
    with pytest.raises(ConfigurationError, match="letters, digits"):
        function_label("a b.yaml")
    with pytest.raises(ConfigurationError, match="Did you mean '4-1-4'"):
        listed_functions(["4-1-5"])


@pytest.mark.parametrize("shape", [(24,), (24, 36, 48)])
def test_labels_of_shapes_can_be_read(shape):
    assert hidden_of_label(hidden_label(shape)) == shape


def test_shapes_are_those_published_unless_both_keys_are_given():
    assert hidden_shapes("4-2-4", [], [24, 36]) == [
        (width,) * depth for depth in (1, 2, 3) for width in (24, 36)
    ]
    assert len(hidden_shapes("4-1-2-16", [2], [])) == 7
    assert hidden_shapes("4-2-4", [2, 1], [5]) == [(5, 5), (5,)]
    assert hidden_shapes("two-digits-digits", [2], [32]) == [(32, 32)]
    with pytest.raises(ConfigurationError, match="published are 24, 36, 48, 24-24"):
        hidden_shapes("4-2-4", [], [25])
    with pytest.raises(ConfigurationError, match="set hidden_layers and widths"):
        hidden_shapes("mine.yaml", [2], [])


def test_recipes_are_published_unless_given():
    assert chosen_recipe("4-2-4", (24, 24), GIVEN) == {
        "learning_rate": 0.05,
        "batch_size": 8,
        "epochs": 10,
        "checkpoint_loss": "mean",
    }
    assert chosen_recipe("4-2-4", (24, 24), {**GIVEN, "epochs": 3})["epochs"] == 3
    own = {**GIVEN, "learning_rate": 0.1, "batch_size": 4, "epochs": 2}
    assert chosen_recipe("4-2-4", (5,), own) == chosen_recipe("own.yaml", (5,), own) == own
    with pytest.raises(ConfigurationError, match="set learning_rate, epochs"):
        chosen_recipe("own.yaml", (5,), {**GIVEN, "batch_size": 2})
    with pytest.raises(ConfigurationError, match="no published network"):
        chosen_recipe("4-2-4", (5,), GIVEN)


def test_families_of_functions():
    names = ["4-1-2-16", "8-2-2", "two-digits-mnist", "mine.yaml", "4-2-4"]
    assert families_of(names) == ["validation", "use", "overlap", "digits", "own"]


def test_the_variant_in_figures():
    assert drawn_variant(["edge_only", "sculpted"]) == "sculpted"
    assert drawn_variant(["mine", "alone"]) == "mine"


def test_variants_and_overrides_change_the_section():
    chosen = settings(
        functions=["validation"],
        widths=[24],
        epochs=7,
        variants={"a": {}, "b": {"functions": ["4-1-4"], "epochs": 9, "rules": "paper"}},
        overrides={"4-1-4": {"hidden_layers": [3], "epochs": 8}},
    )
    networks = chosen.sculpted_networks()
    assert networks == [
        *(("a", name, (24,) * d) for name in ("4-2-4", "4-1-2-16", "6-3-3-3") for d in (1, 2, 3)),
        ("a", "4-1-4", (24, 24, 24)),
        ("b", "4-1-4", (24, 24, 24)),
    ]
    assert [chosen.sculpting_recipe(*networks[k])["epochs"] for k in (0, -2, -1)] == [7, 8, 9]
    assert chosen.sculpting_of("b", "4-1-4").rules == "paper"
    for variant, function, hidden in networks:
        Recipe(**chosen.sculpting_recipe(variant, function, hidden))


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"variants": {"a": {"rulez": 1}}}, "sculpting.variants.a.rulez: unknown key"),
        ({"overrides": {"4-2-4": {"epochs": 0}}}, "sculpting.overrides.4-2-4.epochs"),
        ({"overrides": {"8-2-2": {}}}, "unknown function of sculpting.overrides"),
        ({"seeds": [0, 0]}, "more than once"),
        ({"unit_steps": [100]}, "unit_steps"),
        ({"functions": []}, "functions"),
        ({"learning_rate": 0}, "learning_rate"),
    ],
)
def test_bad_sections_are_refused(section, message):
    with pytest.raises(ConfigurationError, match=message):
        settings(**section)


def test_a_section_that_is_not_used_is_not_checked():
    load({"sculpting": {"functions": ["4-2-5"]}})
