from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from espalier.errors import ConfigurationError, MissingDependencyError
from espalier.hierarchy import graph_tool_python
from espalier.hierarchy.graph_tool_python import (
    ENVIRONMENT_VARIABLE,
    find_graph_tool_python,
    graph_tool_version,
    has_graph_tool,
)

SCRIPT = Path(__file__).parents[2] / "tools" / "install_graph_tool.sh"


@pytest.fixture(autouse=True)
def no_variable(monkeypatch):
    monkeypatch.delenv(ENVIRONMENT_VARIABLE, raising=False)
    has_graph_tool.cache_clear()
    yield
    has_graph_tool.cache_clear()


def fake_python(folder: Path, status: int, name: str = "python3") -> str:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\necho asked >> {folder}/log\nexit {status}\n")
    path.chmod(0o755)
    return str(path)


def only(monkeypatch, *candidates: str) -> None:
    monkeypatch.setattr(graph_tool_python, "_all_candidates", lambda: iter(candidates))


def test_explicit_path_is_used_before_everything_else(tmp_path, monkeypatch):
    chosen = fake_python(tmp_path / "chosen", 0)
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, fake_python(tmp_path / "variable", 0))
    assert find_graph_tool_python(chosen) == chosen
    assert find_graph_tool_python(Path(chosen)) == chosen


def test_environment_variable_comes_before_the_search(tmp_path, monkeypatch):
    named = fake_python(tmp_path / "variable", 0)
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, named)
    only(monkeypatch, fake_python(tmp_path / "other", 0))
    assert find_graph_tool_python() == named


def test_explicit_path_without_graph_tool_is_an_error_that_names_it(tmp_path):
    chosen = fake_python(tmp_path / "bare", 1)
    with pytest.raises(MissingDependencyError, match=r"graph_tool_python is .*bare"):
        find_graph_tool_python(chosen)


def test_environment_variable_without_graph_tool_is_not_passed_over(tmp_path, monkeypatch):
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, fake_python(tmp_path / "bare", 1))
    only(monkeypatch, fake_python(tmp_path / "other", 0))
    with pytest.raises(MissingDependencyError, match=ENVIRONMENT_VARIABLE):
        find_graph_tool_python()


def test_a_path_that_is_no_program_is_a_configuration_error(tmp_path):
    with pytest.raises(ConfigurationError, match="no program"):
        find_graph_tool_python(str(tmp_path / "nothing"))


def test_search_takes_the_first_that_has_it_and_asks_each_once(tmp_path, monkeypatch):
    first, second, third = (
        fake_python(tmp_path / name, status) for name, status in (("a", 1), ("b", 0), ("c", 0))
    )
    only(monkeypatch, first, first, second, third)
    assert find_graph_tool_python() == second
    assert find_graph_tool_python() == second
    assert (tmp_path / "a" / "log").read_text() == "asked\n"
    assert not (tmp_path / "c" / "log").exists()


def test_a_candidate_that_cannot_run_has_no_graph_tool(tmp_path):
    broken = tmp_path / "python3"
    broken.write_text("not a program")
    broken.chmod(0o755)
    assert not has_graph_tool(str(broken))


def test_absent_everywhere_says_what_to_do(monkeypatch):
    only(monkeypatch)
    with pytest.raises(MissingDependencyError) as caught:
        find_graph_tool_python()
    message = str(caught.value)
    for remedy in ("python3-graph-tool", "conda-forge", "graph_tool_python", "nested_sbm"):
        assert remedy in message
    assert "\n" not in message


def test_candidates_are_this_python_then_path_then_conda(tmp_path, monkeypatch):
    on_path = fake_python(tmp_path / "bin", 0)
    environment = tmp_path / "conda" / "envs" / "tools"
    (environment / "lib" / "python3.12" / "site-packages" / "graph_tool").mkdir(parents=True)
    (tmp_path / "conda" / "envs" / "other").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("MAMBA_ROOT_PREFIX", str(tmp_path / "conda"))
    monkeypatch.setenv("HOME", str(tmp_path))
    found = list(graph_tool_python._candidates())
    assert found[:2] == [sys.executable, on_path]
    assert str(environment / "bin" / "python3") in found
    assert not any("other" in candidate for candidate in found)
    assert len(found) == len(set(found))


def run_script(tmp_path: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(SCRIPT)],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def test_install_script_prints_a_python_that_is_there_already(tmp_path):
    there = fake_python(tmp_path / "there", 0)
    finished = run_script(tmp_path, ESPALIER_GRAPH_TOOL_PYTHON=there)
    assert (finished.returncode, finished.stdout) == (0, f"{there}\n")


def test_install_script_fails_nothing_when_graph_tool_cannot_be_had(tmp_path):
    # Every python3, apt-get, mamba and conda that the script can see refuses.
    refusing = tmp_path / "bin"
    bare = fake_python(refusing, 1)
    for name in ("apt-get", "mamba", "micromamba", "conda"):
        fake_python(refusing, 1, name)
    for name in ("id", "sed"):
        (refusing / name).symlink_to(shutil.which(name))
    script = tmp_path / "script.sh"
    script.write_text(SCRIPT.read_text().replace("/usr/bin/python3", bare).replace("/opt/", "/no/"))
    finished = subprocess.run(
        [shutil.which("bash"), str(script)],
        env={"PATH": str(refusing), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (finished.returncode, finished.stdout) == (0, "")
    assert "everything else will" in finished.stderr


def test_the_version_is_that_of_the_other_python(tmp_path):
    path = tmp_path / "python3"
    path.write_text("#!/bin/sh\necho '2.45 (commit 1234, )'\n")
    path.chmod(0o755)
    assert graph_tool_version(str(path)) == "2.45"


def test_a_graph_tool_that_cannot_be_imported_says_why(tmp_path):
    path = tmp_path / "python3"
    path.write_text("#!/bin/sh\necho 'ImportError: no libcairo' >&2\nexit 1\n")
    path.chmod(0o755)
    with pytest.raises(MissingDependencyError, match=r"cannot import it .*no libcairo"):
        graph_tool_version(str(path))
