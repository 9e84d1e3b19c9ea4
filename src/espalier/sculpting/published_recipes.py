"""What the authors of Neural Sculpting ran and found: training recipes, densities, success rates.

Facts of Patil et al. (2023), "Neural Sculpting", and of the authors' list of the runs behind its
figures: 1,499 runs on 38 Boolean functions, one per widths and seed (0, 1, 2, 5), some with
alternates.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from espalier.errors import ConfigurationError, unknown_name

if TYPE_CHECKING:
    from espalier.sculpting.training import Recipe

_FOLDER = Path(__file__).parent

SEEDS = (0, 1, 2, 5)
"""The seeds of every published trial."""


def published_recipe(function: str, hidden: Sequence[int]) -> Recipe:
    """Return the recipe that the authors used for a function and these widths of hidden layers.

    Raises:
        ConfigurationError: they trained no network of these widths on this function; the message
            lists the widths that they did train.
    """
    recipes = _recipes()
    functions = list(dict.fromkeys(name for name, _ in recipes))
    if function not in functions:
        raise unknown_name("published function", function, functions)
    if (function, tuple(hidden)) not in recipes:
        trained = ", ".join(
            "-".join(map(str, widths)) for name, widths in recipes if name == function
        )
        raise ConfigurationError(
            f"no published network for {function} has the hidden layers "
            f"{'-'.join(map(str, hidden))}; published are {trained}"
        )
    return recipes[function, tuple(hidden)]


def published_widths(function: str) -> tuple[tuple[int, ...], ...]:
    """Return the hidden layers of every published network for a function.

    Raises:
        ConfigurationError: no published function has this name.
    """
    functions = list(dict.fromkeys(name for name, _ in _recipes()))
    if function not in functions:
        raise unknown_name("published function", function, functions)
    return tuple(widths for name, widths in _recipes() if name == function)


def published_densities() -> pd.DataFrame:
    """Return the lowest density of every published trial.

    Returns:
        One row per function, hidden_layers, width and seed, with density_percent: kept edges in
        percent of the dense network's.
    """
    return pd.read_csv(_FOLDER / "published_densities.csv")


def published_success() -> pd.DataFrame:
    """Return the success rates as the paper draws them (Figures 7, 8, 10, 12 and 13).

    Returns:
        One row per family, function, hidden_layers and criterion, with rate in [0, 1].
        hidden_layers is missing where the paper pools them (the overlap family; two digits).
    """
    table = pd.read_csv(_FOLDER / "published_success.csv")
    table["hidden_layers"] = table["hidden_layers"].astype("Int64")
    return table


@cache
def _recipes() -> dict[tuple[str, tuple[int, ...]], Recipe]:
    # Training needs a compiler at hand; who reads only the tables does not.
    from espalier.sculpting.training import Recipe

    return {
        (row["function"], (int(row["width"]),) * int(row["hidden_layers"])): Recipe(
            learning_rate=float(row["learning_rate"]),
            batch_size=int(row["batch_size"]),
            epochs=int(row["epochs"]),
        )
        for row in _rows("published_recipes.csv")
    }


def _rows(name: str) -> Iterator[dict[str, str]]:
    with open(_FOLDER / name, encoding="utf-8", newline="") as handle:
        yield from csv.DictReader(handle)


__all__ = [
    "SEEDS",
    "published_densities",
    "published_recipe",
    "published_success",
    "published_widths",
]
