from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from small_problem import RECIPE, corners, network, run_slowly, weights

from espalier.errors import DataError, TrainingError
from espalier.training import (
    Recipe,
    TrainingState,
    read_checkpoint,
    read_training_state,
    train,
    write_checkpoint,
)
from espalier.training.state import write_training_state

SCRIPT = Path(__file__).with_name("small_problem.py")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}


def test_killed_run_resumes_with_equal_bytes(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run_slowly(str(whole))
    expected = contents(whole)
    assert len(expected) == 5
    assert not (whole / "state").exists()

    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(SCRIPT), str(killed)]
    state = killed / "state" / "state.safetensors"
    kills = 0
    for wanted_epoch in (3, 10):
        process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            if state.exists() and read_training_state(state).epoch >= wanted_epoch:
                process.send_signal(signal.SIGKILL)
                kills += process.wait() == -signal.SIGKILL
                break
            time.sleep(0.005)
        assert process.stderr is not None
        process.stderr.close()
    assert kills == 2
    assert 10 <= read_training_state(state).epoch < 24
    assert contents(killed) == {}  # no output before the end
    finished = subprocess.run(
        command, env=environment, stderr=subprocess.PIPE, check=True, text=True
    )
    assert "resuming after epoch" in finished.stderr
    assert contents(killed) == expected
    assert not (killed / "state").exists()


class StoppedError(Exception):
    pass


def stop_after(epochs: int) -> Callable[[str], None]:
    def log(line: str) -> None:
        if line.startswith(f"epoch {epochs + 1}/"):
            raise StoppedError

    return log


@pytest.mark.parametrize(
    "change", ["seed", "recipe", "data", "labels", "model", "checkpoints", "damaged", "stash"]
)
def test_state_of_another_run_is_ignored(tmp_path: Path, change: str) -> None:
    images, labels = corners()
    lines: list[str] = []
    epochs = {0: "a", 2: "b", 6: "c"}
    paths = {tmp_path / f"{name}.safetensors": epoch for epoch, name in epochs.items()}
    common = {"state_directory": tmp_path / "state", "save_every": 0}
    with pytest.raises(StoppedError):
        log = stop_after(3)
        train(network(), images, labels, RECIPE, 0, checkpoint_paths=paths, log=log, **common)
    assert read_training_state(tmp_path / "state" / "state.safetensors").epoch == 3

    seed, recipe, model = 0, RECIPE, network()
    if change == "seed":
        seed = 1
    elif change == "recipe":
        recipe = Recipe(6, batch_size=16, learning_rate=1e-3, augmentation="thesis")
    elif change == "data":
        images = images.copy()
        images[0, 0, 0, 0] += 1
    elif change == "labels":
        labels = (labels + 1) % 4
    elif change == "model":
        model = network(5)
    elif change == "checkpoints":
        paths = {tmp_path / "d.safetensors": 1, **paths}
    elif change == "damaged":
        path = tmp_path / "state" / "state.safetensors"
        path.write_bytes(path.read_bytes()[:-50])
    else:
        (tmp_path / "state" / "checkpoint2.safetensors").unlink()
    fresh = weights(model)
    history = train(
        model, images, labels, recipe, seed, checkpoint_paths=paths, log=lines.append, **common
    )
    assert lines[0].startswith("starting anew")
    assert lines[1].startswith("epoch 1/")
    assert [row["epoch"] for row in history.rows] == [1, 2, 3, 4, 5, 6]

    model.load_state_dict(fresh)
    undisturbed = train(model, images, labels, recipe, seed, log=lines.append)
    assert undisturbed.rows == history.rows
    read_checkpoint(tmp_path / "c.safetensors", network())


def test_unsaved_work_is_only_repeated(tmp_path: Path) -> None:
    images, labels = corners()
    with pytest.raises(StoppedError):
        log = stop_after(3)
        train(network(), images, labels, RECIPE, 0, state_directory=tmp_path, save_every=0, log=log)
    lines: list[str] = []
    resumed, whole = network(), network()
    train(resumed, images, labels, RECIPE, 0, state_directory=tmp_path, log=lines.append)
    assert lines[0] == "resuming after epoch 3"
    train(whole, images, labels, RECIPE, 0, log=lines.append)
    for name, tensor in weights(whole).items():
        assert torch.equal(tensor, weights(resumed)[name])


def test_other_files_of_the_state_directory_survive(tmp_path: Path) -> None:
    images, labels = corners()
    (tmp_path / "mine.txt").write_text("keep")
    train(network(), images, labels, RECIPE, 0, state_directory=tmp_path, save_every=0, log=print)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_stages_joined_by_a_state_are_one_run(tmp_path: Path) -> None:
    images, labels = corners()
    whole, parts = network(), network()
    expected = train(whole, images, labels, RECIPE, 0, log=print)
    path = tmp_path / "middle.safetensors"
    train(parts, images, labels, RECIPE, 0, stop_epoch=4, final_state_path=path, log=print)
    again = network(7)
    history = train(again, images, labels, RECIPE, 0, start=read_training_state(path), log=print)
    assert history.rows == expected.rows
    for name, tensor in weights(whole).items():
        assert torch.equal(tensor, weights(again)[name])


def test_divergence_is_an_error_and_writes_nothing(tmp_path: Path) -> None:
    images, labels = corners()
    recipe = Recipe(3, batch_size=16, learning_rate=1e30)
    with pytest.raises(
        TrainingError, match=r"epoch 1, batch \d+ \(learning rate 1e\+30\)"
    ) as caught:
        train(
            network(), images, labels, recipe, 0, log=print,
            checkpoint_paths={tmp_path / "out.safetensors": 3}, state_directory=tmp_path / "state",
        )  # fmt: skip
    assert "Lower the learning rate" in str(caught.value)
    assert not (tmp_path / "out.safetensors").exists()
    assert not (tmp_path / "state").exists()


def test_a_checkpoint_is_no_state(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "c.safetensors", network())
    with pytest.raises(DataError, match="is a checkpoint, not a training state"):
        read_training_state(tmp_path / "c.safetensors")
    state = train_to_state(tmp_path / "s.safetensors")
    write_training_state(tmp_path / "t.safetensors", state)
    assert (tmp_path / "t.safetensors").read_bytes() == (tmp_path / "s.safetensors").read_bytes()


def train_to_state(path: Path) -> TrainingState:
    images, labels = corners()
    train(network(), images, labels, RECIPE, 0, stop_epoch=1, final_state_path=path, log=print)
    return read_training_state(path)
