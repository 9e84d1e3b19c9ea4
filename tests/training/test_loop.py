from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from small_problem import RECIPE, corners, network, weights
from torch import nn
from torch.nn import functional

from espalier import models
from espalier.data import normalised_batches
from espalier.errors import ConfigurationError, DataError
from espalier.pruning import GroupHoyerSquare, group_hoyer_square, prune, read_masks, unit_masks
from espalier.pruning.masks import removed_entries, write_masks
from espalier.training import (
    Recipe,
    checkpoint_epochs,
    evaluate,
    pruning_epoch,
    read_checkpoint,
    read_training_state,
    train,
)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def quiet(line: str) -> None:
    pass


def test_it_learns_and_reports() -> None:
    images, labels = corners(200)
    recipe = Recipe(20, batch_size=20, learning_rate=3e-3)
    model = network()
    lines: list[str] = []
    test = corners(100, 1)
    history = train(model, images, labels, recipe, 0, validation=test, log=lines.append)
    assert len(lines) == len(history.rows) == 20
    assert history.rows[-1]["validation_accuracy"] == evaluate(model, *test) > 0.95
    assert history.rows[-1]["loss"] < 0.5 * history.rows[0]["loss"]
    assert lines[0].startswith("epoch 1/20  loss ")
    assert not model.training


def test_same_seed_same_bytes_and_other_seeds_differ() -> None:
    images, labels = corners()
    results = []
    for seed in (0, 0, 1):
        model = network()
        torch.manual_seed(len(results))  # the global generator has no influence
        train(model, images, labels, RECIPE, seed, log=quiet)
        results.append(weights(model))
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])
    assert not torch.equal(results[0]["conv1.weight"], results[2]["conv1.weight"])


def test_global_generator_is_left_alone() -> None:
    images, labels = corners(32)
    before = torch.random.get_rng_state()
    train(network(), images, labels, Recipe(1, batch_size=16), 0, log=quiet)
    assert torch.equal(before, torch.random.get_rng_state())


def test_one_epoch_is_plain_adam() -> None:
    images, labels = corners(64)
    recipe = Recipe(2, 16, 1e-2, 1e-3, schedule="constant", shuffle=False)
    ours = models.build("mlp-64-20-4", 4, (1, 8, 8), seed=0)
    theirs = models.build("mlp-64-20-4", 4, (1, 8, 8), seed=0)
    train(ours, images, labels, recipe, 0, log=quiet)
    optimizer = torch.optim.Adam(theirs.parameters(), 1e-2, weight_decay=1e-3)
    inputs = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
    targets = torch.from_numpy(labels)
    for _ in range(2):
        for x, y in zip(inputs.split(16), targets.split(16), strict=True):
            optimizer.zero_grad()
            functional.cross_entropy(theirs(x), y).backward()
            optimizer.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_cosine_is_that_of_torch() -> None:
    recipe = Recipe(7, learning_rate=0.05)
    optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)], 0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 7)
    for epoch in range(7):
        assert recipe.learning_rate_at(epoch) == pytest.approx(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert Recipe(7, schedule="constant").learning_rate_at(6) == 1e-3


def test_history_has_the_rates() -> None:
    images, labels = corners(32)
    history = train(network(), images, labels, Recipe(4, 16), 0, stop_epoch=2, log=quiet)
    assert [row["learning_rate"] for row in history.rows] == [
        1e-3, 1e-3 * (1 + math.cos(math.pi / 4)) / 2,
    ]  # fmt: skip


def test_checkpoints_are_the_weights_at_their_epochs(tmp_path: Path) -> None:
    images, labels = corners()
    paths = {tmp_path / f"{epoch}.safetensors": epoch for epoch in (0, 2, 6)}
    train(
        network(), images, labels, RECIPE, 0, checkpoint_paths=paths, metadata={"model": "m"},
        state_directory=tmp_path / "state", log=quiet,
    )  # fmt: skip
    for epoch in (2, 6):
        model, expected = network(9), network()
        facts = read_checkpoint(tmp_path / f"{epoch}.safetensors", model)
        assert facts == {"model": "m", "epoch": str(epoch), "seed": "0"}
        train(expected, images, labels, RECIPE, 0, stop_epoch=epoch, log=quiet)
        for name, tensor in weights(expected).items():
            assert torch.equal(tensor, weights(model)[name])
    first = network(9)
    read_checkpoint(tmp_path / "0.safetensors", first)
    moved = (first.get_parameter("conv1.weight") - network().get_parameter("conv1.weight")).abs()
    # Adam's first step has the length of the learning rate in every coordinate.
    assert float(moved.max().detach()) == pytest.approx(RECIPE.learning_rate, rel=1e-2)
    assert int(first.get_buffer("norm1.num_batches_tracked")) == 1


def test_checkpoint_epochs() -> None:
    assert checkpoint_epochs(100) == [0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100]
    assert checkpoint_epochs(120, first="epoch") == [1, *range(12, 121, 12)]
    assert checkpoint_epochs(3, 5) == [0, 1, 2, 3, 3]
    assert pruning_epoch(100) == 70
    assert pruning_epoch(1) == 1
    with pytest.raises(ConfigurationError):
        checkpoint_epochs(10, 1)
    with pytest.raises(ConfigurationError, match="'update' or 'epoch'"):
        checkpoint_epochs(10, 2, "step")


def unstructured(model: nn.Module) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    masks = {
        name: torch.rand(weight.shape, generator=generator) < 0.4
        for name, weight in model.named_parameters()
        if name.endswith("weight") and "norm" not in name
    }
    masks["dense1.weight"][:2] = False
    return masks


@pytest.mark.parametrize("kind", ["units", "weights"])
def test_masked_weights_stay_exactly_zero(tmp_path: Path, kind: str) -> None:
    images, labels = corners()
    model = network()
    path = tmp_path / "state.safetensors"
    train(
        model, images, labels, RECIPE, 0, regulariser=GroupHoyerSquare(1e-3), stop_epoch=3,
        final_state_path=path, log=quiet,
    )  # fmt: skip
    masks = prune("group_magnitude", model, (), 0.5) if kind == "units" else unstructured(model)
    write_masks(tmp_path / "mask.npz", masks, 0.5)
    masks, _ = read_masks(tmp_path / "mask.npz")
    before = weights(model)
    fine = network(3)
    outputs = {tmp_path / f"c{epoch}.safetensors": epoch for epoch in (4, 6)}
    history = train(
        fine, images, labels, RECIPE, 0, masks=masks, start=read_training_state(path),
        checkpoint_paths=outputs, state_directory=tmp_path / "s", save_every=0,
        final_state_path=tmp_path / "end.safetensors", log=quiet,
    )  # fmt: skip
    assert [row["epoch"] for row in history.rows] == [1, 2, 3, 4, 5, 6]
    for file in outputs:
        model = network(1)
        read_checkpoint(file, model)
        parameters = dict(model.named_parameters())
        entries = removed_entries(model, masks)
        assert entries["dense1.bias"].any()
        for name, removed in entries.items():
            values = parameters[name].detach()[removed]
            assert len(values)
            assert not values.any()
            assert not torch.signbit(values).any()
        for name, mask in masks.items():
            kept = parameters[name].detach()[mask]
            assert (kept != before[name][mask]).float().mean() > 0.9
    end = read_training_state(tmp_path / "end.safetensors")
    assert end.epoch == 6
    assert end.tensors["adam.first.conv1.weight"].shape == before["conv1.weight"].shape


def test_training_without_removed_units_is_masked_training(monkeypatch: pytest.MonkeyPatch) -> None:
    from espalier.data import inputs
    from espalier.training import sparse

    images, labels = corners(64)
    recipe = Recipe(3, 16, learning_rate=1e-3)
    results = []
    for whole in (False, True):
        model = network()
        for layer in model:
            if isinstance(layer, nn.Dropout):
                layer.p = 0.0
        model.double()
        masks = prune("group_magnitude", model, (), 0.5)
        if whole:
            monkeypatch.setattr(
                sparse, "compact_for_training", lambda m, k: (m, dict(k), sparse.Compaction({}))
            )
        monkeypatch.setattr(
            inputs.Normalisation, "of_pixels", lambda self, x: x.double() / 127.5 - 1
        )
        train(model, images, labels, recipe, 0, masks=masks, log=quiet)
        results.append((weights(model), unit_masks(masks)))
    alive = {name.split(".")[0]: units for name, units in results[0][1].items()}
    alive |= {"norm1": alive["conv1"], "norm2": alive["conv2"]}
    for name, tensor in results[0][0].items():
        kept = alive[name.split(".")[0]]
        other = results[1][0][name]
        if tensor.dim():
            tensor, other = tensor[kept], other[kept]
        if not name.endswith(("conv1.bias", "conv2.bias")):  # no gradient ahead of batch norm
            torch.testing.assert_close(tensor, other, atol=1e-7, rtol=1e-6)


def test_regulariser_lowers_its_penalty() -> None:
    images, labels = corners()
    values = []
    for regulariser in (None, GroupHoyerSquare(1e-1)):
        model = network()
        train(model, images, labels, RECIPE, 0, regulariser=regulariser, log=quiet)
        values.append(float(group_hoyer_square(model.get_parameter("dense1.weight")).detach()))
    assert values[1] < 0.9 * values[0]


def test_published_evaluation_moves_running_statistics() -> None:
    images, labels = corners(48)
    results = []
    for evaluation in ("eval", "published"):
        model = network()
        recipe = Recipe(1, 16, evaluation=evaluation)
        train(model, images, labels, recipe, 0, validation=corners(48, 1), log=quiet)
        results.append(weights(model))
    assert torch.equal(results[0]["conv1.weight"], results[1]["conv1.weight"])
    assert int(results[0]["norm1.num_batches_tracked"]) == 3
    assert int(results[1]["norm1.num_batches_tracked"]) == 6


def test_last_batch_of_one_image_is_left_out() -> None:
    images, labels = corners(33)
    train(network(), images, labels, Recipe(1, 16), 0, log=quiet)


def test_evaluate_counts_and_restores_the_mode() -> None:
    images, labels = corners(50)
    model = network().train()
    with torch.no_grad():
        logits = network().eval()(torch.from_numpy(images).permute(0, 3, 1, 2) / 127.5 - 1)
    expected = float((logits.argmax(1).numpy() == labels).mean())
    assert evaluate(model, images, labels, batch_size=7) == pytest.approx(expected)
    assert model.training


def test_normalised_batches() -> None:
    images = np.array([0, 51, 255], dtype=np.uint8).reshape(3, 1, 1, 1)
    batches = list(normalised_batches(images, np.array([2, 1, 0]), batch_size=2))
    assert [len(labels) for _, labels in batches] == [2, 1]
    values = torch.cat([inputs for inputs, _ in batches]).flatten()
    torch.testing.assert_close(values, torch.tensor([-1.0, -0.6, 1.0]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs"),
        ({"optimizer": "adm"}, "use 'adam'"),
        ({"schedule": "step"}, "'cosine' or 'constant'"),
        ({"augmentation": "flip"}, "'none' or 'thesis'"),
        ({"learning_rate": 0.0}, "must be positive"),
        ({"weight_decay": -1.0}, "not negative"),
    ],
)
def test_bad_recipes(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Recipe(**{"epochs": 1, **options})  # type: ignore[arg-type]


def test_bad_arguments(tmp_path: Path) -> None:
    images, labels = corners(32)
    recipe = Recipe(2, 16)

    def failing(error: type[Exception], match: str, **options: object) -> None:
        arguments = {"images": images, "labels": labels, **options}
        with pytest.raises(error, match=match):
            train(network(), recipe=recipe, seed=0, log=quiet, **arguments)  # type: ignore[arg-type]

    failing(DataError, r"expected uint8", images=images.astype(np.float32))
    failing(DataError, r"\(31,\) labels for 32 images", labels=labels[:31])
    failing(ConfigurationError, "beyond the 2 epochs", stop_epoch=3)
    failing(ConfigurationError, "needs a state_directory", checkpoint_paths={tmp_path / "a": 1})
    failing(ConfigurationError, "due after epoch 5", checkpoint_paths={tmp_path / "a": 5})
    other = prune("group_magnitude", models.build("small_cnn", 4, (1, 8, 8)), (), 0.5)
    failing(DataError, "they belong to different models", masks=other)
    state = tmp_path / "state.safetensors"
    train(network(), images, labels, recipe, 0, stop_epoch=1, final_state_path=state, log=quiet)
    wide = models.build("small_cnn", 4, (1, 8, 8), seed=0)
    with pytest.raises(DataError, match=r"state.safetensors: conv1.weight has shape"):
        train(wide, images, labels, recipe, 0, start=read_training_state(state), log=quiet)
