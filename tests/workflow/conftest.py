"""A copy of the workflow in a folder of its own, and a toy experiment that runs in seconds."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from espalier.errors import MissingDependencyError
from espalier.hierarchy.graph_tool_python import find_graph_tool_python

TOY = {
    "models": ["small_cnn"],
    "sparsities": [0.5],
    "seeds": [0, 1],
    "checkpoints": 3,
    "model_options": {"small_cnn": {"width": 0.25}},
    "training": {"epochs": 2, "batch_size": 32, "learning_rate": 0.01},
    "pruning": {"epochs": 3},
    "detectors": ["nested_sbm", "confusion"],
    "detector_options": {"nested_sbm": {"hierarchies": 2}},
    "distances": {"permutations": 20},
}
PARTS = ("Snakefile", "workflow", "src", "config", "envs", "profiles")


def has_graph_tool() -> bool:
    try:
        find_graph_tool_python("auto")
    except MissingDependencyError:
        return False
    return True


class Workflow:
    """A checkout in a temporary folder."""

    def __init__(self, folder: Path, root: Path, settings: dict) -> None:
        self.folder = folder
        for part in PARTS:
            copy = shutil.copytree if (root / part).is_dir() else shutil.copy
            copy(root / part, folder / part)
        self.write_config(settings)

    def write_config(self, settings: dict) -> None:
        (self.folder / "toy.yaml").write_text(yaml.safe_dump(settings))

    def command(self, *arguments: str) -> list[str]:
        # After the targets, because --configfile takes every word that follows.
        settings = [] if "--configfile" in arguments else ["--configfile", "toy.yaml"]
        return [sys.executable, "-m", "snakemake", *arguments, *settings]

    @property
    def environment(self) -> dict[str, str]:
        # The copy's own library, not the installed one.
        return {
            **os.environ,
            "PYTHONPATH": str(self.folder / "src"),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }

    def run(self, *arguments: str, check: bool = True) -> str:
        done = subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=1500,
        )
        output = done.stdout + done.stderr
        assert not check or done.returncode == 0, output[-5000:]
        assert check or done.returncode != 0, output[-5000:]
        return output

    def jobs(self, *arguments: str) -> Counter[str]:
        """Return how many jobs of each rule would run."""
        lines = self.run(*arguments, "-n", "--quiet", "rules").splitlines()
        counts: Counter[str] = Counter()
        for line in lines:
            parts = line.split()
            if len(parts) == 2 and parts[1].isdigit() and parts[0] != "total":
                counts[parts[0]] = int(parts[1])
        return counts

    def path(self, name: str) -> Path:
        return self.folder / name


@pytest.fixture(scope="session")
def toy_settings() -> dict:
    settings = dict(TOY)
    if not has_graph_tool():
        settings |= {"detectors": ["leiden", "confusion"], "shuffled": False}
        settings["detector_options"] = {}
    return settings


@pytest.fixture(scope="session")
def make_workflow(tmp_path_factory, root) -> Callable[[str, dict], Workflow]:
    """Return a function that makes a checkout with the given settings."""
    return lambda name, settings: Workflow(tmp_path_factory.mktemp(name), root, settings)


@pytest.fixture(scope="session")
def finished(make_workflow, toy_settings) -> Workflow:
    """The toy experiment, run to the end on two cores."""
    workflow = make_workflow("toy", toy_settings)
    workflow.run("--cores", "2", "results/tables/rf.csv", "results/tables/rf_summary.csv")
    return workflow


@pytest.fixture
def fresh(tmp_path, root, toy_settings) -> Workflow:
    return Workflow(tmp_path, root, toy_settings)
