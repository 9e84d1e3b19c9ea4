"""The documentation builds into a site without a warning, and asks no other site for anything."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest


@pytest.fixture(scope="module")
def site(root, tmp_path_factory):
    pytest.importorskip("mkdocs")
    pytest.importorskip("material")
    folder = tmp_path_factory.mktemp("site")
    # Strict: a broken link, a missing page or a page outside of the navigation is an error.
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return folder


def test_every_page_of_the_docs_is_there(site, root):
    for page in (root / "docs").glob("*.md"):
        name = "" if page.stem == "index" else page.stem
        assert (site / name / "index.html").is_file(), page.name


def test_every_package_has_its_reference(site, root):
    for package in (root / "src/espalier").iterdir():
        if (package / "__init__.py").is_file():
            text = (site / "reference" / package.name / "index.html").read_text()
            assert f"espalier.{package.name}" in text, package.name


def test_no_page_fetches_from_elsewhere(site):
    elsewhere = r'="(?:https?:)?//'
    sources = re.compile(rf"<(?:script|img|iframe)[^>]+src{elsewhere}")
    styles = re.compile(rf"<link[^>]+stylesheet[^>]+href{elsewhere}")
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not sources.search(text) and not styles.search(text), page
