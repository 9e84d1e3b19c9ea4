"""Pages of tables: what they hold. tests/workflow/test_report.py opens them in a browser."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from espalier.errors import DataError
from espalier.figures.table_page import MAX_BYTES, MAX_ROWS, table_page, write_table_page
from espalier.files import write_table

HOSTILE = "</td></table><script>alert(1)</script><img src=x onerror='alert(2)'>&amp;"


class Page(HTMLParser):
    """What a browser finds in a page: tags, attributes, and the text of cells and headers."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.rows: list[list[str]] = []
        self.headers: list[str] = []
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.inside = tag
        if tag == "tr":
            self.rows.append([])
        elif tag == "td":
            self.rows[-1].append("")
        elif tag == "button":
            self.headers.append("")

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        if self.inside == "td":
            self.rows[-1][-1] += data
        elif self.inside == "button":
            self.headers[-1] += data

    @property
    def body(self) -> list[list[str]]:
        return self.rows[1:]

    def attributes(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.tags if name == tag]


def cells(values) -> list[str]:
    return [row[0] for row in Page(table_page(pd.DataFrame({"x": values}), "x.csv")).body]


def test_every_cell_stands_in_its_place():
    table = pd.DataFrame({"pruner": ["snip", "er"], "seed": [0, 1], "drop": [0.25, math.nan]})
    page = Page(table_page(table, "t.csv"))
    assert page.headers == ["pruner", "seed", "drop"]
    assert page.body == [["snip", "0", "0.25"], ["er", "1", "–"]]
    numbers = [attributes["data-number"] for attributes in page.attributes("th")]
    assert numbers == ["0", "1", "1"]


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([0.5, 0.25], ["0.50", "0.25"]),
        ([0.682451, 0.1002785], ["0.682", "0.100"]),
        ([5411.967, 491.08], ["5412", "491"]),
        ([0.00027131, 0.0333333], ["0.000271", "0.033333"]),
        ([1e-9, 1.5], ["1e-09", "1.5"]),
        ([1e20, 2.0], ["1e+20", "2"]),
        ([0.0, 0.0], ["0", "0"]),
        ([math.inf, 1.5], ["inf", "1.5"]),
        ([-3, 12], ["-3", "12"]),
        ([True, False], ["True", "False"]),
        (pd.array([3, None], dtype="Int64"), ["3", "–"]),
        (["78.3 ± 0.4", None], ["78.3 ± 0.4", "–"]),
        ([], []),
    ],
)
def test_numbers_have_sensible_digits(values, shown):
    assert cells(values) == shown


def test_rounding_loses_no_more_than_the_digits_that_it_drops():
    values = np.random.default_rng(0).uniform(0.1, 5, 200)
    assert np.allclose([float(cell) for cell in cells(values)], values, atol=0.0005)


def test_text_that_begins_with_a_number_counts_as_a_number_only_throughout():
    page = Page(table_page(pd.DataFrame({"a": ["7.5 ± 1", "8"], "b": ["3x3", "1"]}), "t.csv"))
    assert [attributes["data-number"] for attributes in page.attributes("th")] == ["1", "0"]


def test_hostile_text_stays_text_wherever_it_stands():
    table = pd.DataFrame({HOSTILE: [HOSTILE, "y"]})
    table.attrs["provenance"] = {"code": HOSTILE, HOSTILE: [HOSTILE]}
    text = table_page(table, f"{HOSTILE}.csv")
    page = Page(text)
    assert page.body[0] == [HOSTILE] and page.headers == [HOSTILE]
    assert len(page.attributes("script")) == 1 and not page.attributes("img")


def test_a_page_asks_for_nothing_and_runs_nothing_but_its_own_script():
    text = table_page(pd.DataFrame({"x": [1]}), "x.csv")
    page = Page(text)
    assert not re.search(r"https?:|//[a-z]|@import|url\(", text)
    assert not any({"src", "href"} & set(attributes) for _, attributes in page.tags)
    policy = next(a["content"] for a in page.attributes("meta") if "http-equiv" in a)
    assert policy.startswith("default-src 'none';") and "unsafe" not in policy


def test_what_made_the_table_is_shown(tmp_path):
    table = pd.DataFrame({"test_accuracy": [0.5], "pruner": ["snip"]})
    record = {"espalier": "0.1.0", "seed": [0, 1], "configuration": "abc"}
    write_table(tmp_path / "rf.csv", table, record)
    write_table_page(tmp_path / "rf.html", tmp_path / "rf.csv")
    text = (tmp_path / "rf.html").read_text()
    assert "<dt>configuration</dt><dd>abc</dd>" in text and "<dt>seed</dt><dd>0, 1</dd>" in text
    assert "test_accuracy</button><small>share</small>" in text
    assert "pruner</button></th>" in text
    assert "1 row, 2 columns." in text


def test_a_page_is_the_same_for_the_same_table():
    table = pd.DataFrame({"x": [1.0, 2.0]})
    assert table_page(table, "x.csv") == table_page(table.copy(), "x.csv")


def test_a_long_table_says_what_it_leaves_out():
    text = table_page(pd.DataFrame({"x": range(MAX_ROWS + 7)}), "results/tables/x.csv")
    assert len(Page(text).body) == MAX_ROWS
    assert "The first 5,000 of 5,007 rows" in text and "<code>results/tables/x.csv</code>" in text


def test_a_wide_table_stays_below_what_a_browser_opens():
    values = np.random.default_rng(0).random((4000, 90))
    table = pd.DataFrame(values, columns=pd.Index([f"measure_{i}" for i in range(90)]))
    text = table_page(table, "wide.csv")
    shown = len(Page(text).body)
    assert len(text.encode()) <= MAX_BYTES < len(text.encode()) * 1.01
    assert 1000 < shown < 4000 and f"The first {shown:,} of 4,000 rows" in text


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(DataError, match="absent"):
        write_table_page(tmp_path / "page.html", tmp_path / "absent.csv")
    assert not (tmp_path / "page.html").exists()
