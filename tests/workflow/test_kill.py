"""A run killed at any moment goes on and ends with the bytes of an undisturbed one."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest

TARGET = "results/tables/rf.csv"
# Longer than the toy, so that there is a middle to kill it in.
LONGER = {
    "training": {"epochs": 12, "batch_size": 32, "learning_rate": 0.003},
    "pruning": {"epochs": 16},
    "seeds": [0],
}


def kill_when(workflow, target: str, condition) -> None:
    """Start the workflow and kill -9 the whole process group once `condition` holds."""
    process = subprocess.Popen(
        workflow.command("--cores", "1", target),
        cwd=workflow.folder,
        env=workflow.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 240
    try:
        while not condition():
            assert process.poll() is None, "the workflow ended before the moment to kill it"
            assert time.monotonic() < deadline, "the moment to kill never came"
            time.sleep(0.02)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def logged(workflow, pattern: str, text: str):
    """Return a condition: a log below `pattern` holds `text`."""

    def holds() -> bool:
        return any(text in path.read_text() for path in workflow.folder.glob(f"logs/{pattern}"))

    return holds


@pytest.fixture(scope="module")
def undisturbed(make_workflow, toy_settings):
    workflow = make_workflow("undisturbed", {**toy_settings, **LONGER})
    workflow.run("--cores", "2", TARGET)
    return workflow


MOMENTS = {
    "training": ("train_dense/**/*.log", "epoch 5/"),
    "fine-tuning": ("finetune_pruned/**/*.log", "sparsity"),
    "block model": ("fit_block_models/**/*.log", "checkpoint0"),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "moment",
    [
        "training",
        pytest.param("fine-tuning", marks=pytest.mark.long),
        pytest.param("block model", marks=pytest.mark.long),
        "table",
    ],
)
def test_a_killed_run_ends_with_the_same_bytes(undisturbed, fresh, toy_settings, moment):
    if moment == "block model" and "nested_sbm" not in toy_settings["detectors"]:
        pytest.skip("no Python on this machine has graph-tool")
    fresh.write_config({**toy_settings, **LONGER})
    if moment == "table":

        def condition() -> bool:
            return bool(list(fresh.folder.glob("results/distances/**/*.csv")))
    else:
        condition = logged(fresh, *MOMENTS[moment])
    kill_when(fresh, TARGET, condition)
    assert not fresh.path(TARGET).exists()
    fresh.run("--unlock")
    fresh.run("--cores", "2", TARGET)
    assert fresh.path(TARGET).read_bytes() == undisturbed.path(TARGET).read_bytes()
    for path in undisturbed.folder.glob("results/checkpoints/**/*.safetensors"):
        twin = fresh.folder / path.relative_to(undisturbed.folder)
        assert twin.read_bytes() == path.read_bytes(), path.name
    left = [path for path in fresh.folder.glob("results/**/.*") if "state" in path.name]
    assert not left, "the resumable state outlived its run"
