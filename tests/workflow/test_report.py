"""The report: its captions, and the whole of it in a real browser."""

from __future__ import annotations

import base64
import json
import re
import shutil
from itertools import combinations

import jinja2
import numpy as np
import pandas as pd
import pytest
from docutils.core import publish_parts

from espalier.config import load
from espalier.figures import catalogue
from espalier.figures.table_page import table_page
from espalier.files import read_table

TOY = {
    "analyses": ["hierarchy", "accuracy"],
    "models": ["small_cnn"],
    "sparsities": [0.5],
    "seeds": [0],
    "checkpoints": 2,
    "model_options": {"small_cnn": {"width": 0.25}},
    "training": {"epochs": 1, "batch_size": 64, "learning_rate": 0.01},
    "pruning": {"epochs": 2},
    "detectors": ["confusion"],
    "detector_options": {},
    "shuffled": False,
    "distances": {"permutations": 10},
}
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# The result's own picture is there and decoded; the logo of the navigation is another.
IS_DRAWN = """path => [...document.images].some(image =>
    image.getAttribute("src") === results[path].data_uri && image.complete
    && image.naturalWidth > 100)"""


# -- captions ------------------------------------------------------------------------------------


def snakemake_text(root, name, **names):
    """A file of workflow/report as Snakemake's own reporter fills it in."""
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    text = (root / "workflow/report" / name).read_text()
    return environment.from_string(text).render(**names).strip()


def caption(root, name, **wildcards):
    return snakemake_text(root, name, snakemake={"wildcards": wildcards})


def html_of(text):
    html = publish_parts(text, writer="html")["html_body"]
    assert "system-message" not in html, html
    return html


def test_every_caption_file_is_there_and_used(root):
    rules = [path.read_text() for path in (root / "workflow/rules").glob("*.smk")]
    used = {name for text in rules for name in re.findall(r'caption="\.\./report/(.+)\.rst"', text)}
    used.add("workflow")
    assert {path.stem for path in (root / "workflow/report").glob("*.rst")} == used


def test_every_reported_file_has_caption_heading_and_labels(root):
    for path in (root / "workflow/rules").glob("*.smk"):
        for flag in re.findall(r"report\(\n(.*?)\n        \)", path.read_text(), re.DOTALL):
            for key in ("caption", "category", "subcategory", "labels"):
                assert f"{key}=" in flag, f"{path.name} lacks {key}: {flag}"
            assert not re.search(r'caption="[^"]*{', flag), "captions hold no wildcards"


def test_every_figure_has_its_caption_and_no_caption_is_left_over(root):
    for figure in catalogue.FIGURES:
        assert len(html_of(caption(root, "figures.rst", figure=figure))) > 30, figure
    text = (root / "workflow/report/figures.rst").read_text()
    assert sorted(re.findall(r'figure == "(\w+)"', text)) == sorted(catalogue.FIGURES)


def test_every_table_has_its_caption_and_no_caption_is_left_over(root):
    tables = [name for names in catalogue.REPORTED.values() for name in names]
    tables += catalogue.REPORTED_OF_PUBLISHED
    for table in tables:
        assert len(html_of(caption(root, "tables.rst", table=table))) > 30, table
    text = (root / "workflow/report/tables.rst").read_text()
    assert sorted(re.findall(r'table == "(\w+)"', text)) == sorted(tables)


def test_a_figure_without_caption_is_an_error(root):
    with pytest.raises(jinja2.UndefinedError):
        caption(root, "figures.rst", figure="new_figure")
    with pytest.raises(jinja2.UndefinedError):
        caption(root, "tables.rst", table="new_table")


def test_rules_without_the_wildcard_have_captions_of_their_own(root):
    for path in (root / "workflow/report").glob("*.rst"):
        if path.stem not in ("figures", "tables", "workflow"):
            assert html_of(path.read_text())


def front_page(root, **settings):
    config = load(settings).model_dump(mode="json") | {"versions": catalogue.versions()}
    headings = [*catalogue.HEADINGS.values(), catalogue.PUBLISHED_HEADING]
    categories = {heading: [] for heading in headings}
    text = (root / "workflow/report/workflow.rst").read_text()
    links = "\n\n" + "\n".join(f".. _{name}: javascript:app" for name in headings)

    class Category:
        def __init__(self, name):
            self.name = name

        def __lt__(self, other):
            return self.name < other.name

    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    return html_of(
        environment.from_string(text + links).render(
            snakemake={"config": config},
            categories={Category(name): value for name, value in categories.items()},
        )
    )


@pytest.mark.parametrize("size", [1, 2, len(catalogue.HEADINGS)])
def test_the_front_page_fits_every_choice_of_analyses(root, size):
    for analyses in combinations(catalogue.HEADINGS, size):
        html = front_page(
            root,
            analyses=list(analyses),
            seeds=[3, 5],
            pruners=["snip", "er"],
            sculpting={"functions": ["4-2-4", "4-1-4"]},
        )
        pruned = {"hierarchy", "accuracy", "topometrics", "prediction"} & set(analyses)
        assert ("snip, er" in html) == bool(pruned)
        assert ("2 seeds were trained" in html) == bool(pruned or "hubs" in analyses)
        assert ("3, 5" in html) == ("2 seeds were trained" in html)
        assert ("4-2-4, 4-1-4" in html) == ("sculpting" in analyses)
        assert ("Read the table <em>baselines</em> first" in html) == ("hierarchy" in analyses)
        assert "Espalier 0" in html


def test_published_networks_were_not_trained_here(root):
    html = front_page(root, analyses=["prediction"], prediction={"pools": ["published"]})
    assert "takes published neural networks" in html and "published networks, " in html
    assert "trained:" not in html and "Sparsities" not in html and "Seeds" not in html


def test_the_front_page_names_what_is_overridden(root):
    html = front_page(
        root, training_overrides={"digits": {"epochs": 3}}, pruning_overrides={"snip": {}}
    )
    assert "for digits, snip" in html


# -- the whole report ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reported(make_workflow):
    """A toy experiment with its report."""
    workflow = make_workflow("report", TOY)
    workflow.run("--cores", "2")
    workflow.run("--report", "report.html")
    return workflow


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
    with playwright.sync_playwright() as driver:
        options = ["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND"]
        chromium = driver.chromium.launch(executable_path=found, args=options)
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser):
    """A function that opens a file; in the end nothing was wrong and nothing was fetched."""
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    # Waits end when what they wait for is there; the limit is for machines at their limit.
    page.set_default_timeout(120_000)
    wrong, fetched = [], []
    page.on("console", lambda message: message.type == "error" and wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: fetched.append(request.url))

    def open_file(path):
        page.goto(path.as_uri())
        return page

    yield open_file
    page.close()
    assert not wrong
    assert {url.partition(":")[0] for url in fetched} <= {"file", "data", "blob"}


def column(page, index):
    """The visible cells of a column, from the top."""
    return page.locator(f"tbody tr:not([hidden]) td:nth-child({index})").all_inner_texts()


@pytest.mark.slow
def test_every_figure_and_table_is_listed_and_shown(reported, open_page):
    made = {
        f"results/figures/{path.name}" for path in reported.path("results/figures").glob("*.svg")
    }
    made |= {
        f"results/tables/{path.name}" for path in reported.path("results/tables").glob("*.html")
    }
    assert {path.stem for path in reported.path("results/tables").glob("*.csv")} == {
        name.removeprefix("results/tables/").removesuffix(".html")
        for name in made
        if name.endswith(".html")
    }
    page = open_page(reported.path("report.html"))
    page.wait_for_selector("#rulegraph svg, #rulegraph canvas")
    heading = page.locator("h1.title")
    assert heading.bounding_box()["y"] >= 0, "the top of the front page is cut off"
    shown = set()
    for category, subcategories in json.loads(page.evaluate("JSON.stringify(categories)")).items():
        assert page.get_by_role("link", name=category).count(), "a link on the front page"
        for subcategory, paths in subcategories.items():
            page.locator("nav a, li a").filter(has_text=category).first.click()
            page.locator("li a").filter(has_text=re.compile(f"^{subcategory}$")).click()
            rows = page.locator("tbody tr", has=page.locator("td a"))
            rows.nth(len(paths) - 1).wait_for()
            assert rows.count() == len(paths)
            for index in range(len(paths)):
                rows.nth(index).locator("a").first.click()
                path = page.evaluate("app.state.resultPath")
                if path.endswith(".svg"):
                    page.wait_for_function(IS_DRAWN, arg=path)
                else:
                    frame = page.frame_locator("iframe")
                    stem = path.removeprefix("results/tables/").removesuffix(".html")
                    frame.locator("h1", has_text=re.compile(f"^{stem}$")).wait_for()
                    table = read_table(reported.path(f"results/tables/{stem}.csv"))
                    assert frame.locator("tbody tr").count() == len(table)
                rows.nth(index).locator("a").nth(1).click()
                page.get_by_text("Description", exact=True).wait_for()
                assert len(page.locator("li.prose").inner_text()) > 30
                shown.add(path)
                page.locator("nav a, a").filter(
                    has_text=re.compile(f"^{subcategory}$")
                ).first.click()
                rows.nth(len(paths) - 1).wait_for()
            page.evaluate("app.setView({navbarMode: 'menu'})")
    assert shown == made


@pytest.mark.slow
def test_a_table_sorts_and_searches(reported, open_page):
    page = open_page(reported.path("results/tables/rf.html"))
    table = read_table(reported.path("results/tables/rf.csv"))
    names = list(table.columns)
    accuracies = sorted(table["test_accuracy"])
    index = names.index("test_accuracy") + 1
    header = page.locator("th").nth(index - 1)
    for direction, expected in (("ascending", accuracies), ("descending", accuracies[::-1])):
        header.get_by_role("button").click()
        assert header.get_attribute("aria-sort") == direction
        found = [float(cell) for cell in column(page, index)]
        assert found == pytest.approx(expected, abs=0.0005)
    page.get_by_label("Rows that hold").fill("GROUP conf")
    pruners = column(page, names.index("pruner") + 1)
    assert pruners == ["group_magnitude"] * int((table["pruner"] == "group_magnitude").sum())
    assert page.get_by_role("status").inner_text() == f"{len(pruners)} of {len(table)}"
    page.get_by_label("Rows that hold").fill("")
    assert len(column(page, 1)) == len(table)
    page.get_by_label("Columns whose name holds").fill("triplet")
    visible = page.locator("th:visible button").all_inner_texts()
    assert visible == [name for name in names if "triplet" in name]


def test_a_hostile_cell_is_shown_as_text(tmp_path, open_page):
    hostile = (
        "</td><script>document.title = 'run'</script><img src=x onerror=\"document.title='run'\">"
    )
    (tmp_path / "page.html").write_text(table_page(pd.DataFrame({"a": [hostile]}), "hostile.csv"))
    page = open_page(tmp_path / "page.html")
    assert column(page, 1) == [hostile]
    assert page.title() == "hostile"


def test_missing_values_stand_last_and_text_sorts_by_its_numbers(tmp_path, open_page):
    table = pd.DataFrame({"value": [2.5, None, 10.25, -1.0], "name": ["b10", "b9", None, "a"]})
    (tmp_path / "page.html").write_text(table_page(table, "table.csv"))
    page = open_page(tmp_path / "page.html")
    for index, ascending in ((1, ["-1.00", "2.50", "10.25"]), (2, ["a", "b9", "b10"])):
        button = page.locator("th").nth(index - 1).get_by_role("button")
        button.click()
        assert column(page, index) == [*ascending, "–"]
        button.press("Enter")
        assert column(page, index) == [*ascending[::-1], "–"]


def test_the_largest_page_opens_inside_a_report(tmp_path, open_page):
    values = np.random.default_rng(0).random((4000, 90))
    columns = pd.Index([f"measure_{index}" for index in range(90)])
    text = table_page(pd.DataFrame(values, columns=columns), "wide.csv")
    uri = "data:text/html;charset=utf8;filename=wide.html;base64,"
    uri += base64.b64encode(text.encode()).decode()
    (tmp_path / "report.html").write_text(f"<!doctype html><iframe src='{uri}'></iframe>")
    frame = open_page(tmp_path / "report.html").frame_locator("iframe")
    shown = int(re.search(r"The first ([\d,]+) of 4,000 rows", text)[1].replace(",", ""))
    frame.locator("h1").wait_for()
    assert frame.locator("tbody tr").count() == shown > 1000
