"""Faults of disk, clock and user: what is lost, what is said, and that the next run mends it."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from result_contents import result_contents

from espalier.errors import EspalierError
from espalier.files import write_json

TARGET = "results/tables/accuracy.csv"
STATE = "results/regularised/digits/small_cnn/group_magnitude/0.5/seed0.safetensors"
MASKS = "results/masks/digits/small_cnn/group_magnitude/0.5/seed0.npz"
METRICS = "results/metrics/digits/small_cnn/group_magnitude/0.5/seed0.json"
# Each is made from the one before it.
CHAIN = [STATE, MASKS, METRICS, TARGET]
SMALL = {
    "analyses": ["accuracy"],
    "seeds": [0],
    "checkpoints": 2,
    "detectors": ["confusion"],
    "detector_options": {},
    "shuffled": False,
}


@pytest.fixture(scope="module")
def small_settings(toy_settings):
    return {**toy_settings, **SMALL}


@pytest.fixture(scope="module")
def done(make_workflow, small_settings):
    workflow = make_workflow("faults", small_settings)
    workflow.run("--cores", "2", TARGET)
    return workflow


@pytest.fixture
def copy(done, tmp_path):
    """A copy of the finished experiment, to be damaged."""
    duplicate = object.__new__(type(done))
    duplicate.folder = tmp_path / "copy"
    shutil.copytree(done.folder, duplicate.folder, symlinks=True)
    return duplicate


def flip_a_bit(path: Path) -> None:
    """Change one bit in the middle of the content and keep size and times."""
    times = path.stat()
    data = bytearray(path.read_bytes())
    data[-len(data) // 3] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.slow
@pytest.mark.parametrize("damaged", CHAIN[:-1])
def test_a_damaged_intermediate_is_named_and_made_anew(copy, done, damaged):
    """Damaged before anything after it was made, as by a disk that fails during a run."""
    flip_a_bit(copy.path(damaged))
    for path in CHAIN[CHAIN.index(damaged) + 1 :]:
        copy.path(path).unlink()
    output = copy.run("--cores", "1", TARGET, check=False)
    assert f"error: {damaged} is" in output
    assert f"it was moved to {damaged}.damaged; the next run makes it anew" in output
    assert "Traceback" not in output
    copy.run("--cores", "1", TARGET)
    copy.path(f"{damaged}.damaged").unlink()
    assert result_contents(copy.folder) == result_contents(done.folder)


def test_two_runs_at_once(copy, done):
    for path in CHAIN:
        copy.path(path).unlink()
    first = subprocess.Popen(
        copy.command("--cores", "1", TARGET),
        cwd=copy.folder,
        env=copy.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while not list(copy.folder.glob(".snakemake/locks/*.lock")):
        assert first.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    output = copy.run("--cores", "1", TARGET, check=False)
    assert "Directory cannot be locked" in output and "--unlock" in output
    assert first.wait(120) == 0
    assert result_contents(copy.folder) == result_contents(done.folder)


def test_a_clock_that_jumps_reruns_nothing(copy):
    """Every result gets a time between 1995 and 2050, in no order."""
    rng = random.Random(0)
    for path in [*copy.path("results").rglob("*"), *copy.path("resources").rglob("*")]:
        moment = rng.randrange(800_000_000, 2_500_000_000)
        os.utime(path, (moment, moment))
    assert not copy.jobs(TARGET)


@pytest.fixture
def mount():
    """Return a function that mounts a file system on a folder until the end of the test."""
    mounted: list[Path] = []

    def mount_on(folder: Path, *options: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(["mount", *options, str(folder)], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"no right to mount a file system here: {done.stderr.strip()}")
        mounted.append(folder)

    if not shutil.which("mount"):
        pytest.skip("no mount command")
    yield mount_on
    for folder in reversed(mounted):
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.slow
def test_a_full_disk(tmp_path, small_settings, done, mount):
    empty = type(done)(tmp_path, done.folder, small_settings)
    mount(empty.path("results"), "-t", "tmpfs", "-o", "size=40k", "none")
    output = empty.run("--cores", "1", TARGET, check=False)
    assert "no space left on the disk; nothing was written" in output
    assert "Traceback" not in output
    assert not list(empty.folder.glob("results/**/*.tmp"))
    subprocess.run(["mount", "-o", "remount,size=10m", str(empty.path("results"))], check=True)
    empty.run("--cores", "1", TARGET)
    assert result_contents(empty.folder) == result_contents(done.folder)


def test_results_that_cannot_be_written(copy, done, mount):
    results = copy.path("results")
    copy.path(TARGET).unlink()
    mount(results, "--bind", str(results))
    subprocess.run(["mount", "-o", "remount,ro,bind", str(results)], check=True)
    output = copy.run("--cores", "1", TARGET, check=False)
    assert "Write-protected output files" in output and "results/tables" in output
    with pytest.raises(EspalierError, match=r"new\.json cannot be written \(Read-only file system"):
        write_json(results / "new.json", {})
    subprocess.run(["mount", "-o", "remount,rw,bind", str(results)], check=True)
    copy.run("--cores", "1", TARGET)
    assert result_contents(copy.folder) == result_contents(done.folder)
