"""The notebooks run from top to bottom and hold the tables that they show."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).resolve().parent.parent / "notebooks").glob("*.ipynb"))
RUN = """
import sys, nbformat
from nbclient import NotebookClient
book = nbformat.read(sys.argv[1], as_version=4)
NotebookClient(book, timeout=300, kernel_name="python3").execute()
nbformat.write(book, sys.argv[2])
"""


def tables(path: Path) -> list[str]:
    """The text of every table that the notebook shows."""
    cells = json.loads(path.read_text())["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    found = [output["data"] for output in outputs if output["output_type"] == "execute_result"]
    return ["".join(data["text/plain"]) for data in found if "text/html" in data]


def test_there_are_three() -> None:
    assert len(NOTEBOOKS) == 3


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_its_table(path: Path, tmp_path: Path) -> None:
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    again = tmp_path / path.name
    # A process of its own: the kernel's messages are not this project's warnings.
    command = [sys.executable, "-c", RUN, str(path), str(again)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(tables(again)) == len(tables(path)) == 1
    assert tables(again)[0].split("\n")[0] == tables(path)[0].split("\n")[0]
