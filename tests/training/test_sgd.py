from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from small_problem import corners, network, weights
from torch import nn
from torch.nn import functional

from espalier import models
from espalier.errors import ConfigurationError, DataError
from espalier.training import (
    PRESETS,
    Recipe,
    evaluate,
    preset_recipe,
    read_training_state,
    train,
)
from espalier.training.loop import _forward_pass

PAPER = preset_recipe("published", epochs=8, batch_size=16, crop_padding=1)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def quiet(line: str) -> None:
    pass


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)])
def test_training_is_that_of_torch(momentum: float, nesterov: bool) -> None:
    images, labels = corners(64)
    recipe = Recipe(
        4, 16, 0.05, 1e-2, "sgd", "milestones", shuffle=False, momentum=momentum,
        nesterov=nesterov, milestones=(1, 3), gamma=0.5,
    )  # fmt: skip
    ours, theirs = (models.build("mlp-64-20-4", 4, (1, 8, 8), seed=0) for _ in range(2))
    train(ours, images, labels, recipe, 0, log=quiet)
    optimizer = torch.optim.SGD(
        theirs.parameters(), 0.05, momentum, weight_decay=1e-2, nesterov=nesterov, foreach=False
    )
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [1, 3], 0.5)
    inputs = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
    targets = torch.from_numpy(labels)
    for _ in range(4):
        for x, y in zip(inputs.split(16), targets.split(16), strict=True):
            optimizer.zero_grad()
            functional.cross_entropy(theirs(x), y).backward()
            optimizer.step()
        schedule.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


def test_published_preset_learns_and_validates_as_it_was_trained() -> None:
    images, labels = corners(200)
    model = network()
    test = corners(100, 1)
    # A mirror image of a corner is another corner, so only the window moves.
    recipe = preset_recipe(
        "published", epochs=16, batch_size=20, crop_padding=1, augmentation="crop",
        learning_rate=0.02,
    )  # fmt: skip
    history = train(model, images, labels, recipe, 0, validation=test, log=quiet)
    assert history.rows[-1]["validation_accuracy"] > 0.9
    accuracy = evaluate(model, *test, normalisation=history.normalisation)
    assert accuracy == history.rows[-1]["validation_accuracy"]
    rates = [row["learning_rate"] for row in history.rows]
    assert rates == pytest.approx([0.02] * 8 + [0.002] * 4 + [0.0002] * 4)


def test_validation_images_are_neither_moved_nor_drawn_for() -> None:
    images, labels = corners(48)
    results = []
    for validation in (None, corners(48, 1)):
        model = network()
        train(model, images, labels, PAPER, 0, validation=validation, log=quiet)
        results.append(weights(model))
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])


class StoppedError(Exception):
    pass


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_killed_run_resumes_with_equal_bytes(tmp_path: Path, momentum: float) -> None:
    images, labels = corners()
    recipe = preset_recipe(
        "published", epochs=6, batch_size=16, crop_padding=2, momentum=momentum, nesterov=False
    )

    def stop(line: str) -> None:
        if line.startswith("epoch 4/"):
            raise StoppedError

    def run(folder: Path, log: Callable[[str], None] = quiet) -> dict[str, bytes]:
        train(
            network(), images, labels, recipe, 3, log=log,
            checkpoint_paths={folder / "c2.safetensors": 2, folder / "c6.safetensors": 6},
            final_state_path=folder / "final.safetensors",
            state_directory=folder / "state", save_every=0,
        )  # fmt: skip
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    whole = run(tmp_path / "whole")
    killed = tmp_path / "killed"
    with pytest.raises(StoppedError):
        run(killed, stop)
    state = read_training_state(killed / "state" / "state.safetensors")
    assert state.epoch == 3
    assert ("sgd.momentum.conv1.weight" in state.tensors) == (momentum > 0)
    lines: list[str] = []
    assert run(killed, lines.append) == whole
    assert lines[0] == "resuming after epoch 3"


def test_stages_joined_by_a_state_are_one_run(tmp_path: Path) -> None:
    images, labels = corners()
    whole, again = network(), network(7)
    expected = train(whole, images, labels, PAPER, 0, log=quiet)
    path = tmp_path / "middle.safetensors"
    train(network(), images, labels, PAPER, 0, stop_epoch=5, final_state_path=path, log=quiet)
    history = train(again, images, labels, PAPER, 0, start=read_training_state(path), log=quiet)
    assert history.rows == expected.rows
    for name, tensor in weights(whole).items():
        assert torch.equal(tensor, weights(again)[name])


def test_frozen_parameters_are_left_alone(tmp_path: Path) -> None:
    images, labels = corners(32)
    for recipe in (Recipe(2, 16), PAPER):
        model = network()
        frozen = model.get_parameter("conv1.weight").requires_grad_(False)
        before = frozen.clone()
        path = tmp_path / f"{recipe.optimizer}.safetensors"
        train(model, images, labels, recipe, 0, stop_epoch=1, final_state_path=path, log=quiet)
        assert not any(
            "conv1.weight" in n for n in read_training_state(path).tensors if "model" not in n
        )
        train(model, images, labels, recipe, 0, start=read_training_state(path), log=quiet)
        assert torch.equal(frozen, before)


def test_presets_are_named_for_what_they_are() -> None:
    paper = preset_recipe("published")
    assert (paper.epochs, paper.batch_size, paper.learning_rate) == (160, 128, 0.1)
    assert (paper.optimizer, paper.momentum, paper.nesterov) == ("sgd", 0.9, False)
    assert paper.weight_decay == 1e-4
    assert paper.milestone_epochs() == [80, 120]
    assert (paper.augmentation, paper.crop_padding) == ("crop_flip", 4)
    assert [paper.learning_rate_at(e) for e in (0, 79, 80, 119, 120, 159)] == pytest.approx(
        [0.1, 0.1, 0.01, 0.01, 0.001, 0.001]
    )
    wide = preset_recipe("published", weight_decay=5e-4, epochs=100, milestones=[30, 60, 80])
    assert wide.milestone_epochs() == [30, 60, 80]
    fast = preset_recipe("fast_not_published")
    assert (fast.precision, fast.compiled) == ("mixed", True)
    for name in set(PRESETS) - {"published"}:
        assert name.endswith("not_published")
    with pytest.raises(ConfigurationError, match=r"unknown preset 'fast'.*fast_not_published"):
        preset_recipe("fast")
    with pytest.raises(ConfigurationError, match="Did you mean 'epochs'"):
        preset_recipe("published", epoch=3)


def test_only_a_gpu_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[object] = []
    monkeypatch.setattr(torch, "compile", lambda f, **options: compiled.append(f) or f)
    recipe = Recipe(1, compiled=True)
    for device, count in (("cpu", 0), ("cuda", 1)):
        _forward_pass(network(), recipe, torch.device(device))
        assert len(compiled) == count


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"milestones": ()}, "at least one"),
        ({"milestones": (5, 3)}, r"after epochs \[5, 3\] of 10"),
        ({"milestones": (3, 3)}, "rising order"),
        ({"milestones": (10,)}, r"after epochs \[10\] of 10"),
        ({"milestones": (0.5, 0.99)}, r"after epochs \[5, 10\] of 10"),
        ({"milestones": (2.5,)}, "whole numbers of epochs, or shares"),
        ({"milestones": (0,)}, "whole numbers of epochs, or shares"),
        ({"milestones": (3,), "gamma": 0}, "gamma is 0"),
    ],
)
def test_a_schedule_out_of_range(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Recipe(10, schedule="milestones", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": "sdg"}, "'adam' or 'sgd'"),
        ({"momentum": 1.0}, r"momentum is 1.0; use a number in \[0, 1\)"),
        ({"optimizer": "sgd", "nesterov": True, "momentum": 0.0}, "nesterov needs a momentum"),
        ({"precision": "half"}, "'float32' or 'mixed'"),
        ({"normalisation": "none"}, "'symmetric' or 'standard'"),
        ({"crop_padding": 0}, "at least 1 pixel"),
    ],
)
def test_bad_recipes_of_sgd(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Recipe(1, **options)  # type: ignore[arg-type]


def test_batches_that_cannot_be_trained_on() -> None:
    images, labels = corners(3)
    with pytest.raises(ConfigurationError, match=r"batch_size 1, 3 images\).*norm1"):
        train(network(), images, labels, Recipe(1, 1), 0, log=quiet)
    with pytest.raises(ConfigurationError, match=r"batch_size 8, 1 images\).*norm1"):
        train(network(), images[:1], labels[:1], Recipe(1, 8), 0, log=quiet)
    with pytest.raises(DataError, match="no training images"):
        train(network(), images[:0], labels[:0], Recipe(1, 8), 0, log=quiet)
    with pytest.raises(ConfigurationError, match="crop_padding is 8, but the images"):
        train(network(), images, labels, Recipe(1, 2, augmentation="crop", crop_padding=8), 0)
    plain = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    history = train(plain, images, labels, Recipe(2, 1), 0, log=quiet)
    assert len(history.rows) == 2
