"""`espalier why` names the module, parameter or file behind a rerun."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from espalier.cli.why import explained, planned_jobs
from espalier.files import write_json

DRY_RUN = """
[Sat Jan  1 00:00:00 2000]
Job 0: Preparing the data set digits
Reason: Params have changed since last execution: Union of exclusive params before and now across \
all output: before: 'aaaaaaaaaaaaaaaa' now: 'bbbbbbbbbbbbbbbb'
Job 1: Writing results/tables/rf.csv
Reason: Input files updated by another job: resources/datasets/digits.npz
Job 2: Drawing a figure
Reason: Missing output files: a.svg; Input files updated by another job: results/tables/rf.csv
"""


def test_causes_and_what_follows_are_told_apart():
    jobs = planned_jobs(DRY_RUN)
    assert [job.follows for job in jobs] == [False, True, False]
    assert jobs[2].reasons[0] == "Missing output files: a.svg"


def test_changed_modules_are_named(tmp_path):
    notes = tmp_path / ".snakemake/espalier_code"
    write_json(notes / "aaaaaaaaaaaaaaaa.json", {"files.py": "1", "data/prepare.py": "1"})
    reason = planned_jobs(DRY_RUN)[0].reasons[0]
    assert "digest aaaaaaaaaaaaaaaa is now bbbbbbbbbbbbbbbb" in explained(reason, tmp_path)[0]
    write_json(notes / "bbbbbbbbbbbbbbbb.json", {"files.py": "1", "data/prepare.py": "2", "x": "1"})
    assert explained(reason, tmp_path) == ["its code changed: data/prepare.py, x (new)"]


def test_a_changed_option_is_named_beside_the_code(tmp_path):
    reason = "Params have changed since last execution: before: {'epochs': 3} now: {'epochs': 4}"
    assert explained(reason, tmp_path) == [
        "a parameter changed: was {'epochs': 3}, is {'epochs': 4}"
    ]


def why(folder, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(folder / "src")}
    command = [sys.executable, "-m", "espalier.cli", "why", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_a_workflow_says_which_module_would_rerun_its_target(root, tmp_path):
    for name in ("src", "workflow", "config", "profiles", "envs"):
        shutil.copytree(root / name, tmp_path / name)
    shutil.copy(root / "Snakefile", tmp_path)
    target = "resources/datasets/digits.npz"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "src")}
    snakemake = [sys.executable, "-m", "snakemake", "--cores", "1", target]
    subprocess.run(snakemake, cwd=tmp_path, env=environment, check=True, capture_output=True)
    assert "up to date" in why(tmp_path, target).stdout
    with (tmp_path / "src/espalier/data/prepare.py").open("a") as handle:
        handle.write("\nUNUSED = 1\n")
    assert "its code changed: data/prepare.py" in why(tmp_path, target).stdout
    unknown = why(tmp_path, "results/nothing.csv")
    assert unknown.returncode == 1 and "No rule to produce" in unknown.stderr
