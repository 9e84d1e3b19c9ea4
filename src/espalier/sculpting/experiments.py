"""Which networks an experiment of Neural Sculpting trains: functions, shapes, recipes, variants.

Nothing heavy is imported here: the workflow asks before it starts its jobs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from espalier.errors import ConfigurationError, unknown_name
from espalier.sculpting.function_families import FAMILIES, published_functions

DIGIT_FUNCTIONS = (
    "two-digits-mnist", "two-digits-digits", "digit-xor-mnist", "digit-xor-digits",
)  # fmt: skip

_RECIPE = ("learning_rate", "batch_size", "epochs")


def listed_functions(names: Iterable[str]) -> list[str]:
    """Return functions, each once; the name of a family stands for its functions.

    Raises:
        ConfigurationError: a name is no function, family, digit task or YAML file, or two files
            have one name.
    """
    functions = list(
        dict.fromkeys(function for name in names for function in FAMILIES.get(name, (name,)))
    )
    known = [*published_functions(), *FAMILIES, *DIGIT_FUNCTIONS]
    for function in functions:
        if not is_file(function) and function not in known:
            raise unknown_name("function", function, known)
    labels = [function_label(function) for function in functions]
    for label in labels:
        if labels.count(label) > 1:
            raise ConfigurationError(
                f"two of the functions are called {label}; rename the file of one of them"
            )
    return functions


def families_of(functions: Iterable[str]) -> list[str]:
    """Return the families whose criteria functions are judged by, in order."""
    families: dict[str, None] = {}
    for function in functions:
        own = [family for family, names in FAMILIES.items() if function in names]
        if not own:
            own = ["digits"] if function in DIGIT_FUNCTIONS else ["own"]
        families.update(dict.fromkeys(own))
    return list(families)


def drawn_variant(variants: Iterable[str]) -> str:
    """Return the variant that figures show: "sculpted" where there is one, else the first."""
    names = list(variants)
    return "sculpted" if "sculpted" in names else names[0]


def is_file(function: str) -> bool:
    """Return whether a function is the path of a YAML file."""
    return function.endswith((".yaml", ".yml"))


def function_label(function: str) -> str:
    """Return a function as it stands in paths and tables: its name, or its file's without suffix.

    Raises:
        ConfigurationError: a file's name would not do in a path.
    """
    if not is_file(function):
        return function
    label = PurePath(function).stem
    if not label.replace("-", "").replace("_", "").isalnum() or not label.isascii():
        raise ConfigurationError(
            f"function file {function}: its name may hold letters, digits, - and _ only, because "
            "results are named after it"
        )
    return label


def hidden_label(hidden: Sequence[int]) -> str:
    """Return the widths of hidden layers as they stand in paths: 24-24."""
    return "-".join(map(str, hidden))


def hidden_of_label(label: str) -> tuple[int, ...]:
    """Return the widths of hidden layers from their label."""
    return tuple(int(width) for width in label.split("-"))


def hidden_shapes(
    function: str, hidden_layers: Sequence[int], widths: Sequence[int]
) -> list[tuple[int, ...]]:
    """Return the hidden layers of every network of a function.

    If depths and widths are both given, all of their combinations; else the published networks of
    the function, of these depths or widths.

    Raises:
        ConfigurationError: no published network remains, or there is none of this function.
    """
    if hidden_layers and widths:
        return [(width,) * depth for depth in hidden_layers for width in widths]
    if function not in published_functions():
        raise ConfigurationError(
            f"no network was published for {function}: set hidden_layers and widths"
        )
    from espalier.sculpting.published_recipes import published_widths

    published = published_widths(function)
    chosen = [
        shape
        for shape in published
        if (not hidden_layers or len(shape) in hidden_layers) and (not widths or shape[0] in widths)
    ]
    if not chosen:
        raise ConfigurationError(
            f"no published network for {function} has these hidden_layers or widths; published "
            f"are {', '.join(map(hidden_label, published))}. Give both to train others"
        )
    return chosen


def chosen_recipe(function: str, hidden: Sequence[int], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return how the networks of a function and shape are trained, as fields of `Recipe`.

    Args:
        function: published name, digit task or YAML file.
        hidden: widths of the hidden layers.
        given: fields of `Recipe`; a learning rate, batch size or number of epochs that is None is
            the published one.

    Raises:
        ConfigurationError: none was published, or a value is out of its range.
    """
    from espalier.sculpting.published_recipes import published_recipe
    from espalier.sculpting.training import Recipe

    fields = dict(given)
    missing = [key for key in _RECIPE if fields[key] is None]
    if missing and function not in published_functions():
        raise ConfigurationError(
            f"no recipe was published for {function}: set {', '.join(missing)}"
        )
    if missing:
        published = published_recipe(function, hidden)
        fields.update({key: getattr(published, key) for key in missing})
    Recipe(**fields)
    return fields


__all__ = [
    "DIGIT_FUNCTIONS",
    "chosen_recipe",
    "drawn_variant",
    "families_of",
    "function_label",
    "hidden_label",
    "hidden_of_label",
    "hidden_shapes",
    "is_file",
    "listed_functions",
]
