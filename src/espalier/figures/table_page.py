"""A table as one HTML page that sorts and searches in any browser, without a network.

The page holds its style and its script, and its policy lets a browser run or fetch nothing else.
A report embeds pages as data URIs, and Chromium shows no page of more than 2 MiB in that form:
`table_page` keeps below it and says how many rows it shows.
"""

from __future__ import annotations

import base64
import hashlib
import html
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from espalier.figures.page_parts import PAGE, SCRIPT, STYLE
from espalier.files import read_table, write_text

#: Rows that a browser sorts without a noticeable wait.
MAX_ROWS = 5_000
#: Four thirds of this, its size as base64, are below Chromium's 2 MiB for the URI of a page.
MAX_BYTES = 1_500_000

_MISSING = "–"
_SIGNIFICANT_DIGITS = 3
_MOST_DECIMALS = 6
_LEADING_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?(?![\w.])", re.IGNORECASE)

_OF = "_unrooted|_rooted|_mean|_sd|_star|_permuted|_random"
#: Units by the name of a column; the first that fits. Counts, names and scores have none.
_UNITS = (
    (r"((test|train|validation)_)?accuracy(_mean|_sd)?|dense|density|rate", "share"),
    (r"(achieved_)?sparsity", "share removed"),
    (r"drop", "share of dense accuracy"),
    (r".*_bits(_unrooted|_rooted)?", "bits"),
    (rf"(mutual_clustering|hierarchical_mutual)_information({_OF})*", "bits"),
    (r"description_length", "nats"),
    (r".*_p", "p-value"),
    (r".*_seconds|seconds", "s"),
)


def write_table_page(page: str | os.PathLike[str], table: str | os.PathLike[str]) -> None:
    """Write the HTML page of a table of the workflow.

    Args:
        page: the HTML file to write.
        table: the CSV file to read.

    Raises:
        DataError: the table is missing or damaged.
    """
    write_text(page, table_page(read_table(table), os.fspath(table)))


def table_page(
    table: pd.DataFrame,
    source: str,
    *,
    max_rows: int = MAX_ROWS,
    max_bytes: int = MAX_BYTES,
) -> str:
    """Return a self-contained HTML page of a table.

    Numbers are rounded, with as many decimals as the smallest of a column needs for three digits.
    Sorting goes by the values shown and keeps the order of the file among equals.

    Args:
        table: any table; `.attrs["provenance"]` is shown where there is one.
        source: path of the CSV file, which is named as the place of all rows and digits.
        max_rows: rows at most.
        max_bytes: size of the page at most, as UTF-8; fewer rows are shown where it needs them.
    """
    columns = [_Column(str(name), table.iloc[:, index]) for index, name in enumerate(table)]
    # HTML lets the closing tags of cells and rows be left out, which makes room for more rows.
    rows = [
        "<tr>\n" + "".join(f"<td>{html.escape(cell, quote=False)}" for cell in cells)
        for cells in zip(*(column.cells for column in columns), strict=True)
    ]
    style = STYLE + _alignment(columns)

    def page(shown: int) -> str:
        return PAGE.format(
            policy=f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(SCRIPT)}",
            title=html.escape(Path(source).stem),
            size=_size(shown, len(rows), len(columns), source),
            head="".join(column.header() for column in columns),
            body="".join(rows[:shown]),
            provenance=_facts(source, table.attrs.get("provenance", {})),
            style=style,
            script=SCRIPT,
        )

    return page(_rows_that_fit(rows[:max_rows], max_bytes - len(page(0).encode()) - 200))


def _rows_that_fit(rows: Sequence[str], size: int) -> int:
    sizes = np.cumsum([len(row.encode()) for row in rows])
    return int(np.searchsorted(sizes, size, side="right"))


class _Column:
    """A column as it is shown: its cells as text, and whether they are numbers."""

    def __init__(self, name: str, values: pd.Series) -> None:
        self.name = name
        number = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
        self.cells = _numbers(values) if number else _texts(values)
        present = [cell for cell in self.cells if cell != _MISSING]
        # Cells such as "78.3 ± 0.4" are numbers to a reader.
        self.is_number = number or (
            bool(present) and all(_LEADING_NUMBER.match(cell) for cell in present)
        )

    @property
    def unit(self) -> str:
        for pattern, unit in _UNITS:
            if self.is_number and re.fullmatch(pattern, self.name):
                return unit
        return ""

    def header(self) -> str:
        unit = f"<small>{html.escape(self.unit)}</small>" if self.unit else ""
        return (
            f'<th scope="col" aria-sort="none" data-number="{int(self.is_number)}">'
            f'<button type="button">{html.escape(self.name)}</button>{unit}</th>'
        )


def _texts(values: pd.Series) -> list[str]:
    return [_MISSING if missing else str(value) for value, missing in _with_gaps(values)]


def _with_gaps(values: pd.Series) -> zip[tuple[Any, bool]]:
    return zip(values.tolist(), values.isna().tolist(), strict=True)


def _numbers(values: pd.Series) -> list[str]:
    numbers = values.to_numpy(dtype=float, na_value=math.nan)
    finite = numbers[np.isfinite(numbers)]
    decimals = _decimals(finite)

    def show(number: float) -> str:
        if math.isnan(number):
            return _MISSING
        if decimals is None or math.isinf(number):
            return f"{number:.{_SIGNIFICANT_DIGITS}g}"
        return f"{number:.{decimals}f}"

    return [show(number) for number in numbers]


def _decimals(numbers: np.ndarray) -> int | None:
    """Return the decimals that a column needs; None where its numbers are too far apart."""
    sizes = np.abs(numbers[numbers != 0])
    if not sizes.size:
        return 0
    for decimals in range(_MOST_DECIMALS + 1):
        enough = sizes.min() >= 10.0 ** (_SIGNIFICANT_DIGITS - 1 - decimals)
        if enough or np.array_equal(np.round(numbers, decimals), numbers):
            return decimals if sizes.max() < 1e15 else None
    return None


def _alignment(columns: Sequence[_Column]) -> str:
    """Return the rule that aligns text to the left; numbers stand at the right."""
    text = [
        f"t{part}:nth-child({index})"
        for index, column in enumerate(columns, start=1)
        if not column.is_number
        for part in "hd"
    ]
    return f"{','.join(text)}{{text-align:left}}\n" if text else ""


def _size(shown: int, rows: int, columns: int, source: str) -> str:
    if shown == rows:
        return f"{_count(rows, 'row')}, {_count(columns, 'column')}."
    return (
        f"<strong>The first {shown:,} of {rows:,} rows</strong>, {_count(columns, 'column')}. "
        "Sorting and searching see these alone; "
        f"all rows are in <code>{html.escape(source)}</code>."
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _facts(source: str, provenance: Mapping[str, Any]) -> str:
    facts = {"file": source, **provenance}
    return "".join(
        f"<dt>{html.escape(str(name).replace('_', ' '))}</dt><dd>{html.escape(_fact(value))}</dd>"
        for name, value in facts.items()
    )


def _fact(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_fact(item) for item in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_fact(item)}" for key, item in value.items())
    return str(value)


def _hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"
