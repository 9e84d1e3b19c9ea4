"""Every bad input of the list is refused by a message, and the page in docs/ shows it."""

from __future__ import annotations

import importlib.util
import os
import tracemalloc
from collections import Counter

import pytest
from bad_inputs import CASES

from espalier.errors import EspalierError
from espalier.jobs import job

# Far below what a hostile file claims, above what the largest case writes.
MOST_MEMORY = 300e6


@pytest.fixture
def in_folder(tmp_path, monkeypatch):
    """The folder of an experiment without results, as a job of the workflow sees it."""
    monkeypatch.chdir(tmp_path)
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(variable, os.environ.get(variable, "1"))
    monkeypatch.setenv("NUMEXPR_NUM_THREADS", "1")
    (tmp_path / "input").mkdir()
    return tmp_path


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.group}: {case.what[:50]}")
def test_it_is_refused(in_folder, case, capsys):
    with pytest.raises(SystemExit), job("logs/job.log", 1):
        case.feed(in_folder / "input")
    log = (in_folder / "logs/job.log").read_text()
    assert log.startswith("error: ") and "Traceback" not in log, log
    assert "Traceback" not in capsys.readouterr().err
    assert sorted(path.name for path in in_folder.iterdir()) == ["input", "logs"]
    assert not list(in_folder.rglob("*.tmp"))


@pytest.mark.parametrize(
    "case",
    [case for case in CASES if case.what.startswith(("NPZ", "safetensors", "GraphML", "JSON"))],
    ids=lambda case: case.what,
)
def test_a_hostile_file_takes_no_memory(in_folder, case):
    tracemalloc.start()
    try:
        with pytest.raises(EspalierError):
            case.feed(in_folder / "input")
        assert tracemalloc.get_traced_memory()[1] < MOST_MEMORY
    finally:
        tracemalloc.stop()


def test_there_are_sixty_and_more_over_all_groups():
    counts = Counter(case.group for case in CASES)
    assert len({(case.group, case.what) for case in CASES}) == len(CASES) >= 60
    assert set(counts) == {"config", "data", "models", "masks", "trees", "files"}
    assert min(counts.values()) >= 5


def test_the_page_shows_the_messages(root):
    path = root / "tools/bad_input_table.py"
    spec = importlib.util.spec_from_file_location("bad_input_table", path)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    assert (root / "docs/bad_input.md").read_text() == tool.page(), (
        "run `python tools/bad_input_table.py`"
    )


HOSTILE_YAML = {
    "an unknown key": ("seed: [0]\n", "seed: unknown key. Did you mean 'seeds'?"),
    "a tag that runs code": (
        'seeds: !!python/object/apply:os.system ["touch was_run"]\n',
        "Config file is not valid JSON or YAML",
    ),
    "a million aliases": (
        "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]\n" for k in range(1, 6))
        + "seeds: *a5\n",
        "more than 100000 values",
    ),
}


@pytest.mark.parametrize("name", HOSTILE_YAML)
def test_the_workflow_refuses_a_hostile_configuration(fresh, name):
    text, message = HOSTILE_YAML[name]
    fresh.path("hostile.yaml").write_text(text)
    output = fresh.run("--cores", "1", "--configfile", "hostile.yaml", check=False)
    assert message in output
    assert "Traceback" not in output and ", line " not in output, output
    assert not fresh.path("was_run").exists() and not fresh.path("results").exists()
