"""Find a Python that has graph-tool, which PyPI does not offer and which is often another one."""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from espalier.errors import ConfigurationError, MissingDependencyError

ENVIRONMENT_VARIABLE = "ESPALIER_GRAPH_TOOL_PYTHON"

HOW_TO_INSTALL = (
    "Install it with `apt-get install python3-graph-tool` on Debian or Ubuntu, or with "
    "`conda install -c conda-forge graph-tool`, or run tools/install_graph_tool.sh. If it is "
    "installed, set graph_tool_python in the configuration, or the environment variable "
    f"{ENVIRONMENT_VARIABLE}, to the Python that has it. Without it, leave nested_sbm out of the "
    "detectors and set shuffled to false: everything else works."
)

_PROBE = (
    "import importlib.util as u, sys; "
    "sys.exit(not (u.find_spec('graph_tool') and u.find_spec('numpy')))"
)
_PROBE_SECONDS = 60


def find_graph_tool_python(preference: str | os.PathLike[str] = "auto") -> str:
    """Return the path of a Python in which graph-tool is installed.

    Tried in this order: `preference`, when it is a path or a command; the environment variable
    ESPALIER_GRAPH_TOOL_PYTHON; this Python; every python3 on PATH; /usr/bin/python3; the conda
    and mamba environments of this machine. Each is asked whether it could import graph_tool,
    without importing it; the answers are kept while this process lives.

    Raises:
        ConfigurationError: `preference` or the environment variable names no program.
        MissingDependencyError: the Python that was named has no graph-tool, or no Python has.
    """
    preference = os.fspath(preference)
    if preference != "auto":
        return _required(preference, "graph_tool_python")
    named = os.environ.get(ENVIRONMENT_VARIABLE)
    if named:
        return _required(named, ENVIRONMENT_VARIABLE)
    for candidate in _candidates():
        if has_graph_tool(candidate):
            return candidate
    raise MissingDependencyError(
        f"the nested block model needs graph-tool, and no Python here has it. {HOW_TO_INSTALL}"
    )


def _required(name: str, source: str) -> str:
    python = shutil.which(str(Path(name).expanduser()))
    if python is None:
        raise ConfigurationError(f"{source} is {name!r}, which is no program that can be run")
    if not has_graph_tool(python):
        raise MissingDependencyError(
            f"{source} is {name!r}, and that Python has no graph-tool. {HOW_TO_INSTALL}"
        )
    return python


@functools.cache
def has_graph_tool(python: str) -> bool:
    """Say whether the Python at this path could import graph_tool and numpy."""
    if python == sys.executable:
        return all(importlib.util.find_spec(name) for name in ("graph_tool", "numpy"))
    try:
        probe = subprocess.run(
            [python, "-c", _PROBE], capture_output=True, timeout=_PROBE_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return probe.returncode == 0


def graph_tool_version(python: str) -> str:
    """Return the version of the graph-tool of a Python.

    Raises:
        MissingDependencyError: graph-tool is there but cannot be imported.
    """
    call = "import warnings; warnings.simplefilter('ignore'); import graph_tool as g"
    done = subprocess.run(
        [python, "-c", f"{call}; print(g.__version__)"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise MissingDependencyError(
            f"{python} has graph-tool, but cannot import it ({reason}). {HOW_TO_INSTALL}"
        )
    return done.stdout.split()[0]


def _candidates() -> Iterator[str]:
    seen: set[str] = set()
    for candidate in _all_candidates():
        if candidate not in seen:
            seen.add(candidate)
            yield candidate


def _all_candidates() -> Iterator[str]:
    yield sys.executable
    for folder in os.get_exec_path():
        python = Path(folder) / "python3"
        if python.is_file() and os.access(python, os.X_OK):
            yield str(python)
    if Path("/usr/bin/python3").is_file():
        yield "/usr/bin/python3"
    for environment in _conda_environments():
        # A look at the folder is much cheaper than a start of each environment's Python.
        if any(environment.glob("lib/python3*/site-packages/graph_tool")):
            yield str(environment / "bin" / "python3")


def _conda_environments() -> Iterator[Path]:
    home = Path.home()
    if "CONDA_PREFIX" in os.environ:
        yield Path(os.environ["CONDA_PREFIX"])
    registered = home / ".conda" / "environments.txt"
    if registered.is_file():
        yield from (Path(line) for line in registered.read_text().split("\n") if line.strip())
    roots = [Path(os.environ[name]) for name in ("MAMBA_ROOT_PREFIX",) if name in os.environ]
    if "CONDA_EXE" in os.environ:
        roots.append(Path(os.environ["CONDA_EXE"]).parent.parent)
    names = ("miniforge3", "mambaforge", "miniconda3", "anaconda3", "micromamba", ".micromamba")
    roots += [home / name for name in names]
    roots += [Path("/opt/conda"), Path("/opt/miniforge3")]
    for root in roots:
        yield root
        yield from sorted((root / "envs").glob("*"))
