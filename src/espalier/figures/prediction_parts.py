"""What the figures of prediction share: names of settings, checks of tables, marks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from espalier.errors import DataError
from espalier.figures.style import INK, OKABE_ITO, PAPER, SMALL_SIZE, display_name, halo

#: Colour and marker by what a predictor is told.
FAMILY_LOOKS: Mapping[str, tuple[str, str]] = {
    "topometrics": (OKABE_ITO["blue"], "o"),
    "layer density": (OKABE_ITO["bluish green"], "^"),
    "no graph": (OKABE_ITO["vermillion"], "s"),
}
OTHER_LOOK = (INK, "v")

DASHED = (0, (4, 2))

_MEASURES = {"delta_r": "Δr", "delta_r_imdb": "Δr_imdb", "lambda_imsg": "λ_imsg"}


def is_sparsity(setting: object) -> bool:
    """Return whether a setting is a sparsity, as "0.9", and not an architecture."""
    try:
        return 0 <= float(str(setting)) < 1
    except ValueError:
        return False


def setting_words(setting: object) -> str:
    """Return how a setting is printed: "90 %" for "0.9", else its display name."""
    return (
        f"{100 * float(str(setting)):g} %" if is_sparsity(setting) else display_name(str(setting))
    )


def settings_by_kind(settings: Sequence[str]) -> dict[str, list[str]]:
    """Return settings under the title of their panel: those of one sparsity, and the others."""
    parts = {
        "one sparsity": [s for s in settings if is_sparsity(s)],
        "one architecture": [s for s in settings if not is_sparsity(s)],
    }
    return {title: part for title, part in parts.items() if part}


def with_numbers(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the rows of a table that have numbers: those without a problem.

    Raises:
        DataError: no row is left; the message has the first problem.
    """
    if "problem" not in table.columns:
        return table
    problems = np.array([isinstance(text, str) and text != "" for text in table["problem"]])
    if problems.all():
        raise DataError(f"the {name} table has no numbers: {problems_of(table)[0]}")
    return table.loc[~problems]


def problems_of(table: pd.DataFrame) -> list[str]:
    """Return what the column problem says, each sentence once; a table may be without it."""
    texts = table["problem"] if "problem" in table.columns else []
    return list(dict.fromkeys(text for text in texts if isinstance(text, str) and text))


def refuse_repeated(table: pd.DataFrame, name: str, keys: Sequence[str]) -> None:
    """Check that no two rows of a table agree in the named columns.

    Raises:
        DataError: some do; the message names the table and the first of them.
    """
    repeated = np.asarray(table.duplicated(list(keys)))
    if repeated.any():
        first = table.loc[repeated].iloc[0]
        raise DataError(
            f"the {name} table has {int(repeated.sum())} rows that it has already, the first for "
            f"{', '.join(f'{key} {first[key]}' for key in keys)}: choose one data set, target or "
            "method"
        )


def draw_interval(
    axes: Axes,
    point: Mapping[Any, Any],
    place: float,
    look: tuple[str, str],
    edge: float = np.inf,
) -> None:
    """Draw a value with its interval on a horizontal line; a difference that may be 0 is open.

    What lies beyond `edge` on either side is cut off there, at an arrow head.
    """
    value, low, high = (float(point[key]) for key in ("value", "low", "high"))
    colour, marker = look
    unsure = _is_name(point["minus"]) and low <= 0 <= high
    ends = np.clip([low, high], -edge, edge)
    axes.plot(ends, [place, place], color=colour, linewidth=1.2, zorder=3, gid="interval")
    for end, head, beyond in ((-edge, "<", low < -edge), (edge, ">", high > edge)):
        if beyond:
            axes.plot([end], [place], marker=head, color=colour, markersize=4, zorder=3)
    if abs(value) > edge:
        axes.annotate(
            f"{value:.1f}",
            xy=(np.copysign(edge, value), place),
            xytext=(np.copysign(5, -value), 0),
            textcoords="offset points",
            ha="left" if value < 0 else "right",
            va="center",
            fontsize=SMALL_SIZE,
            color=colour,
            path_effects=[halo()],
            zorder=5,
        )
        return
    axes.plot(
        [value], [place], linestyle="none", marker=marker, color=colour, markersize=4.5,
        markerfacecolor=PAPER if unsure else colour, zorder=4,
    )  # fmt: skip


def _is_name(minus: object) -> bool:
    return isinstance(minus, str) and bool(minus)


def without_reference(table: pd.DataFrame) -> np.ndarray:
    """Return which rows are values of their own and no differences: those with an empty minus."""
    return np.array([not _is_name(minus) for minus in table["minus"]], dtype=bool)


def point_handle(colour: str, marker: str, label: str, size: float = 5) -> Line2D:
    """Return a legend entry that is a mark without a line."""
    return Line2D(
        [], [], linestyle="none", color=colour, marker=marker, markersize=size, label=label
    )


def spaced(name: str) -> str:
    """Return the printed name of a protocol, predictor or strategy."""
    if name in _MEASURES:
        return _MEASURES[name]
    words = name.replace("leave-", "leave out ").replace("-out", "")
    return words.replace("dataset", "data set").replace("_", " ")
