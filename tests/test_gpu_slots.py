"""Processes that compete for pretended GPUs: a lock per slot, freed however its holder ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

from espalier import devices
from espalier.errors import ConfigurationError

# Takes a slot, says so, and holds it until its standard input is closed.
HOLDER = """
import json, os, sys
import torch
from espalier.devices import lock_free_gpu
torch.cuda.device_count = lambda: int(sys.argv[2])
index = lock_free_gpu(sys.argv[1], patience=0.02)
print(json.dumps([index, os.environ.get("CUDA_VISIBLE_DEVICES")]), flush=True)
sys.stdin.read()
"""


class Holder:
    def __init__(self, folder, gpus: int, jobs_per_gpu: int, **variables: str) -> None:
        environment = {k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES"}
        environment |= {"ESPALIER_JOBS_PER_GPU": str(jobs_per_gpu), **variables}
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(folder), str(gpus)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def taken(self) -> list:
        """Wait for the slot; return the GPU and CUDA_VISIBLE_DEVICES."""
        line = self.process.stdout.readline()
        assert line, self.process.stderr.read()
        return json.loads(line)

    def end(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=30)


@pytest.fixture
def start(tmp_path):
    holders: list[Holder] = []

    def begin(gpus: int, jobs_per_gpu: int = 1, **variables: str) -> Holder:
        holders.append(Holder(tmp_path, gpus, jobs_per_gpu, **variables))
        return holders[-1]

    yield begin
    for holder in holders:
        holder.end()


def test_no_gpu_gets_more_jobs_than_allowed(start):
    crowd = [start(gpus=2, jobs_per_gpu=2) for _ in range(5)]
    # Four of the five print a line; the fifth waits, whichever it is.
    deadline = time.monotonic() + 60
    got: list = []
    waiting = list(crowd)
    for holder in waiting:
        os.set_blocking(holder.process.stdout.fileno(), False)
    while len(got) < 4:
        assert time.monotonic() < deadline, got
        time.sleep(0.05)
        for holder in list(waiting):
            line = holder.process.stdout.readline()
            if line:
                got.append(json.loads(line))
                waiting.remove(holder)
    (last,) = waiting
    assert Counter(index for index, _ in got) == {0: 2, 1: 2}
    assert all(visible == str(index) for index, visible in got)
    time.sleep(0.3)
    assert last.process.stdout.readline() == "", "a fifth job found a slot"
    # kill -9 of a holder frees its slot for the one that waits.
    victim = next(holder for holder in crowd if holder is not last)
    victim.process.send_signal(signal.SIGKILL)
    os.set_blocking(last.process.stdout.fileno(), True)
    assert last.taken()[0] in (0, 1)


def test_a_second_job_goes_to_the_gpu_that_has_none(start):
    assert start(gpus=2, jobs_per_gpu=2).taken()[0] == 0
    assert start(gpus=2, jobs_per_gpu=2).taken()[0] == 1


def test_a_choice_of_the_scheduler_stands(start):
    first = start(gpus=1, CUDA_VISIBLE_DEVICES="GPU-7f")
    assert first.taken() == [None, "GPU-7f"]
    assert start(gpus=1).taken() == [0, "0"], "and holds no slot"


def test_a_machine_without_gpus_is_left_alone(start):
    assert start(gpus=0).taken() == [None, None]


@pytest.mark.parametrize("jobs", ["0", "-1", "two", "1.5", ""])
def test_jobs_per_gpu_is_a_whole_number(monkeypatch, tmp_path, jobs):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("ESPALIER_JOBS_PER_GPU", jobs)
    with pytest.raises(ConfigurationError, match=r"ESPALIER_JOBS_PER_GPU is .* above 0"):
        devices.lock_free_gpu(tmp_path)


def test_the_lock_names_its_holder(start, tmp_path):
    holder = start(gpus=1)
    holder.taken()
    assert (tmp_path / "gpu0.lock").read_text() == f"{holder.process.pid}\n"
