"""Thirty kills at random moments of a full small experiment cost nothing but the jobs in hand."""

from __future__ import annotations

import base64
import contextlib
import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter

import pytest
from result_contents import result_contents

KILLS = 30
TABLES = [f"results/tables/{name}.csv" for name in ("rf_summary", "accuracy")]


def inodes(workflow) -> dict[str, int]:
    """The inode of every result: another one where a file was made again."""
    return {
        str(path.relative_to(workflow.folder)): path.stat().st_ino
        for folder in ("results", "resources")
        for path in workflow.path(folder).rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }


def in_hand(workflow) -> set[str]:
    """The outputs of the jobs that Snakemake had started and not finished."""
    markers = workflow.folder.glob(".snakemake/incomplete/**/*")
    names = set()
    for marker in markers:
        if marker.is_file():
            text = "".join(marker.relative_to(workflow.folder / ".snakemake/incomplete").parts)
            names.add(base64.b64decode(text.replace("@", "")).decode())
    return names


def rules_of(workflow, since: float) -> list[str]:
    """The rules whose logs were written to after a moment and do not end in success."""
    logs = [path for path in workflow.path("logs").rglob("*.log") if path.stat().st_mtime > since]
    running = [path for path in logs if "done in" not in path.read_text()]
    return sorted({path.relative_to(workflow.path("logs")).parts[0] for path in running})


def run_until(workflow, seconds: float) -> bool:
    """Run the whole experiment; kill -9 it after some seconds. Return whether it was killed."""
    process = subprocess.Popen(
        workflow.command("--cores", "2", *TABLES),
        cwd=workflow.folder,
        env=workflow.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        assert process.wait(seconds) == 0
    except subprocess.TimeoutExpired:
        return True
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return False


@pytest.mark.long
def test_thirty_kills(make_workflow, toy_settings, tmp_path):
    settings = {**toy_settings, "seeds": [0], "analyses": ["hierarchy", "accuracy"]}
    undisturbed = make_workflow("undisturbed", settings)
    started = time.monotonic()
    undisturbed.run("--cores", "2", *TABLES)
    whole = time.monotonic() - started
    started = time.monotonic()
    assert not undisturbed.jobs(*TABLES)
    planning = time.monotonic() - started
    print(f"\nundisturbed: {whole:.0f} s, of which planning {planning:.0f} s")
    expected = result_contents(undisturbed.folder)

    rng = random.Random(8)
    hit: Counter[str] = Counter()
    kills, experiment = 0, 0
    print("kill  experiment  after s  files  in hand  killed in")
    while kills < KILLS:
        experiment += 1
        folder = tmp_path / f"killed{experiment}"
        folder.mkdir()
        workflow = type(undisturbed)(folder, undisturbed.folder, settings)
        kept: dict[str, int] = {}
        while True:
            # From the planning on to a third of the work, so that every stage has its turn.
            seconds = rng.uniform(planning / 2, planning + (whole - planning) / 3)
            began = time.time()
            if kills == KILLS or not run_until(workflow, seconds):
                break
            kills += 1
            unfinished = in_hand(workflow)
            there = inodes(workflow)
            assert not [name for name in kept if there.get(name) != kept[name]], "made twice"
            kept = {name: inode for name, inode in there.items() if name not in unfinished}
            rules = rules_of(workflow, began) or ["planning"]
            hit.update(rules)
            print(
                f"{kills:4}  {experiment:10}  {seconds:7.1f}  {len(there):5}  {len(unfinished):7}  "
                f"{', '.join(rules)}",
                flush=True,
            )
            # What `snakemake --unlock` does, without its start.
            shutil.rmtree(workflow.path(".snakemake/locks"), ignore_errors=True)
        workflow.run("--cores", "2", *TABLES)
        made = inodes(workflow)
        assert not [name for name in kept if made[name] != kept[name]], "made twice"
        assert result_contents(folder) == expected
        left = [path for path in workflow.folder.glob("results/**/.*") if path.is_file()]
        assert not [path for path in left if path.suffix == ".tmp"], left
    print(f"{kills} kills in {experiment} experiments: every file equal; killed in {dict(hit)}")
    assert len(hit) >= 4, "the kills came in too few stages"
