from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_problem import corners, network, weights
from tiny_dynamics import ByGradient, ByMomentum, Rewiring, random_masks, removed_values
from torch import Tensor, nn
from torch.nn import functional

from espalier import models, pruning
from espalier.errors import ConfigurationError, DataError, TrainingError
from espalier.pruning.contract import dynamics as dynamics_of
from espalier.pruning.during import LiveTensors
from espalier.training import (
    Recipe,
    horizon,
    read_checkpoint,
    read_mask_history,
    read_training_state,
    train,
)
from espalier.training.sparse import SparseNetwork
from espalier.training.state import first_moments

SGD = Recipe(4, 16, 0.05, 1e-3, "sgd", "milestones", "crop_flip", milestones=(0.5,), nesterov=True)
ADAM = Recipe(4, 16, 3e-3)
MIXED = Recipe(4, 16, 0.05, 1e-3, "sgd", "constant", precision="mixed")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def quiet(line: str) -> None:
    pass


class StoppedError(Exception):
    pass


def stop_after(epochs: int) -> Callable[[str], None]:
    def log(line: str) -> None:
        if f"epoch {epochs + 1}/" in line:
            raise StoppedError

    return log


def stop_at_once(line: str) -> None:
    raise StoppedError(line)


@pytest.fixture
def spied(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Check after every step, whatever the loop does, that what is removed is exactly zero."""
    steps: list[int] = []
    update = SparseNetwork.update

    def checking(self: SparseNetwork, loss: Tensor, step: int) -> None:
        update(self, loss, step)
        steps.append(step)
        for name, mask in self.masks.items():
            parameter = self.trained.get_parameter(name)
            if parameter.shape != mask.shape:
                continue  # trained without its removed units
            assert parameter.dtype == torch.float32
            values = parameter.detach()[~mask]
            assert not values.any()
            assert not torch.signbit(values).any()
            moments = first_moments(self.optimizer, parameter)
            dynamics = self._dynamics
            if moments is not None and (dynamics is None or dynamics.masks_momentum):
                assert not moments[~mask].any()

    monkeypatch.setattr(SparseNetwork, "update", checking)
    return steps


@pytest.mark.parametrize("recipe", [SGD, ADAM, MIXED], ids=["sgd", "adam", "mixed"])
@pytest.mark.parametrize("kind", ["static", ByGradient, ByMomentum])
def test_removed_weights_are_zero_after_every_step(
    spied: list[int], tmp_path: Path, recipe: Recipe, kind: Any
) -> None:
    images, labels = corners()
    model = network()
    masks = random_masks(model)
    sparse = {"masks": masks} if kind == "static" else {"dynamics": kind(masks)}
    outputs = {tmp_path / f"c{epoch}.safetensors": epoch for epoch in (0, 2, 4)}
    history = train(
        model, images, labels, recipe, 0, checkpoint_paths=outputs,
        state_directory=tmp_path / "state", log=quiet,
        mask_history_path=None if kind == "static" else tmp_path / "history.npz", **sparse,
    )  # fmt: skip
    assert spied == list(range(4 * 6))
    assert list(history.masks) == list(masks)
    assert not any(values.any() for values in removed_values(model, history.masks))
    if kind == "static":
        assert all(torch.equal(history.masks[name], mask) for name, mask in masks.items())
        recorded = dict.fromkeys(outputs.values(), masks)
    else:
        snapshots, facts = read_mask_history(tmp_path / "history.npz")
        assert facts["epochs"] == [0, 1, 2, 3, 4]
        assert facts["seed"] == "0"
        recorded = {
            epoch: {name: rows[epoch] for name, rows in snapshots.items()} for epoch in (2, 4)
        }
        for name, rows in snapshots.items():
            assert torch.equal(rows[0], masks[name])
            assert torch.equal(rows[4], history.masks[name])
            assert len(set(rows.flatten(1).sum(1).tolist())) == 1
        assert not all(torch.equal(rows[2], rows[4]) for rows in snapshots.values())
    for path, epoch in outputs.items():
        other = network(9)
        read_checkpoint(path, other)
        if epoch in recorded:
            assert not any(values.any() for values in removed_values(other, recorded[epoch]))


def test_momentum_is_the_growth_signal_only_where_the_method_keeps_it(tmp_path: Path) -> None:
    images, labels = corners()
    shares = {}
    for kind in (ByGradient, ByMomentum):
        model = network()
        path = tmp_path / f"{kind.__name__}.safetensors"
        history = train(
            model, images, labels, SGD, 0, dynamics=kind(random_masks(model)),
            final_state_path=path, log=quiet,
        )  # fmt: skip
        momentum = read_training_state(path).tensors["sgd.momentum.conv2.weight"]
        shares[kind] = float((momentum[~history.masks["conv2.weight"]] != 0).float().mean())
    assert shares[ByGradient] == 0
    assert shares[ByMomentum] > 0.9


def plain_training(model: nn.Module, dynamics: Rewiring | None, masks: dict[str, Tensor]) -> None:
    """Nesterov's SGD with masks, as the formula says and in the plainest way."""
    images, labels = corners(64)
    inputs = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
    targets = torch.from_numpy(labels)
    buffers: dict[str, Tensor] = {}
    with torch.no_grad():
        for name, mask in masks.items():
            model.get_parameter(name).mul_(mask)
    for step in range(12):
        part = slice(16 * (step % 4), 16 * (step % 4) + 16)
        model.zero_grad()
        functional.cross_entropy(model(inputs[part]), targets[part]).backward()
        due = dynamics is not None and dynamics.due(step)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                assert weight.grad is not None
                if due and dynamics is not None and dynamics.replaces_step:
                    continue
                gradient = weight.grad + 1e-3 * weight
                buffers[name] = 0.9 * buffers[name] + gradient if name in buffers else gradient
                weight -= 0.05 * (gradient + 0.9 * buffers[name])
                if name in masks:
                    weight *= masks[name]
            if due and dynamics is not None:
                names = list(masks)
                live = LiveTensors(
                    {name: model.get_parameter(name).detach() for name in names},
                    {name: model.get_parameter(name).grad for name in names},  # type: ignore[misc]
                    {name: buffers[name] for name in names if name in buffers},
                )
                dynamics.update(step, live)
                masks = dict(dynamics.masks)
            for name, mask in masks.items():
                model.get_parameter(name).mul_(mask)
                if name in buffers and (dynamics is None or dynamics.masks_momentum):
                    buffers[name] *= mask


@pytest.mark.parametrize("kind", [None, ByGradient, ByMomentum])
def test_training_is_the_plain_formula(kind: type[Rewiring] | None) -> None:
    images, labels = corners(64)
    recipe = Recipe(3, 16, 0.05, 1e-3, "sgd", "constant", shuffle=False, nesterov=True)
    ours, theirs = (models.build("mlp-64-20-4", 4, (1, 8, 8), seed=0) for _ in range(2))
    masks = random_masks(ours)
    if kind is None:
        train(ours, images, labels, recipe, 0, masks=masks, log=quiet)
        plain_training(theirs, None, masks)
    else:
        history = train(ours, images, labels, recipe, 0, dynamics=kind(masks, 3), log=quiet)
        plain = kind(masks, 3)
        plain_training(theirs, plain, masks)
        for name, mask in history.masks.items():
            assert torch.equal(mask, plain.masks[name])
            assert not torch.equal(mask, masks[name])
    for (name, one), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize("kind", [ByGradient, ByMomentum])
def test_a_killed_run_resumes_with_its_masks(tmp_path: Path, kind: type[Rewiring]) -> None:
    images, labels = corners()

    def run(folder: Path, log: Callable[[str], None] = quiet) -> dict[str, bytes]:
        model = network()
        dynamics = kind(random_masks(model), period=5)
        history = train(
            model, images, labels, SGD, 2, dynamics=dynamics, log=log,
            checkpoint_paths={folder / "c1.safetensors": 1, folder / "c4.safetensors": 4},
            final_state_path=folder / "final.safetensors",
            mask_history_path=folder / "history.npz",
            state_directory=folder / "state", save_every=0,
        )  # fmt: skip
        assert all(torch.equal(history.masks[n], mask) for n, mask in dynamics.masks.items())
        if isinstance(dynamics, ByMomentum):
            assert dynamics.rewirings == 5
        assert [row["epoch"] for row in history.rows] == [1, 2, 3, 4]
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    whole = run(tmp_path / "whole")
    assert len(whole) == 4
    killed = tmp_path / "killed"
    for epochs in (1, 3):
        with pytest.raises(StoppedError):
            run(killed, stop_after(epochs))
    assert [path.name for path in killed.iterdir()] == ["state"]
    lines: list[str] = []
    assert run(killed, lines.append) == whole
    assert lines[0] == "resuming after epoch 3"


def test_a_state_of_another_method_is_ignored(tmp_path: Path) -> None:
    images, labels = corners()
    masks = random_masks(network())
    with pytest.raises(StoppedError):
        train(
            network(), images, labels, SGD, 0, dynamics=ByMomentum(masks), log=stop_after(2),
            state_directory=tmp_path, save_every=0,
        )  # fmt: skip
    for other in (ByMomentum(masks, period=3), ByMomentum(masks, seed=1), ByGradient(masks)):
        with pytest.raises(StoppedError, match="starting anew"):
            train(
                network(), images, labels, SGD, 0, dynamics=other, state_directory=tmp_path,
                log=stop_at_once,
            )  # fmt: skip
    lines = []
    train(
        network(), images, labels, SGD, 0, dynamics=ByMomentum(masks), log=lines.append,
        state_directory=tmp_path,
    )  # fmt: skip
    assert lines[0] == "resuming after epoch 2"


def test_stages_with_dynamics_are_one_run(tmp_path: Path) -> None:
    images, labels = corners()
    whole, parts = network(), network()
    masks = random_masks(whole)
    expected = train(whole, images, labels, SGD, 0, dynamics=ByMomentum(masks), log=quiet)
    path = tmp_path / "middle.safetensors"
    train(
        parts, images, labels, SGD, 0, dynamics=ByMomentum(masks), stop_epoch=2,
        final_state_path=path, log=quiet,
    )  # fmt: skip
    again = network(7)
    history = train(
        again, images, labels, SGD, 0, dynamics=ByMomentum(masks),
        start=read_training_state(path), mask_history_path=tmp_path / "history.npz", log=quiet,
    )  # fmt: skip
    assert history.rows == expected.rows
    assert read_mask_history(tmp_path / "history.npz")[1]["epochs"] == [2, 3, 4]
    for name, tensor in weights(whole).items():
        assert torch.equal(tensor, weights(again)[name])


def test_dynamics_sees_steps_from_zero_and_dense_gradients() -> None:
    images, labels = corners(40)  # 16 + 16 + 8: three steps an epoch
    seen: list[int] = []
    gradients: list[float] = []

    class Watching(ByGradient):
        def due(self, step: int) -> bool:
            seen.append(step)
            return True

        def update(self, step: int, tensors: Any) -> None:
            removed = ~self.masks["dense1.weight"]
            gradients.append(
                float((tensors.gradients["dense1.weight"][removed] != 0).float().mean())
            )
            assert not tensors.momenta  # every step was replaced

    model = models.build("mlp-64-20-4", 4, (1, 8, 8), seed=0)
    before = weights(model)
    recipe = Recipe(2, 16, 0.1, optimizer="sgd", schedule="constant")
    masks = random_masks(model)
    train(model, images, labels, recipe, 0, dynamics=Watching(masks), log=quiet)
    assert seen == list(range(6))
    assert horizon(recipe, 40).steps == 6
    assert horizon(recipe, 33).steps_per_epoch == 2  # a last image alone is left out
    assert min(gradients) > 0.5
    for name, tensor in weights(model).items():
        assert torch.equal(tensor, before[name] * masks.get(name, torch.ones(())))


@pytest.mark.parametrize(
    "name",
    ["set", "set_itop", "rigl", "snfs", "dsr", "gradual_magnitude"],
)
def test_every_method_keeps_the_invariant(spied: list[int], tmp_path: Path, name: str) -> None:
    if name not in pruning.names():
        pytest.skip(f"there is no pruner {name}")
    images, labels = corners()
    recipe = Recipe(4, 16, 0.05, 1e-4, "sgd", "constant")
    model = network()
    masks = pruning.prune(name, model, (), 0.7, seed=1)
    options = {"period": 3}

    def run(folder: Path, log: Callable[[str], None] = quiet) -> tuple[bytes, dict[str, Tensor]]:
        model = network()
        method = dynamics_of(name, masks, 0.7, horizon(recipe, len(images)), 1, **options)
        history = train(
            model, images, labels, recipe, 1, dynamics=method, log=log,
            checkpoint_paths={folder / "c.safetensors": 4}, state_directory=folder / "s",
            mask_history_path=folder / "h.npz", save_every=0,
        )  # fmt: skip
        return (folder / "c.safetensors").read_bytes(), history.masks

    whole, final = run(tmp_path / "whole")
    assert spied == list(range(24))
    assert not all(mask.all() for mask in final.values())
    with pytest.raises(StoppedError):
        run(tmp_path / "killed", stop_after(2))
    again, resumed = run(tmp_path / "killed")
    assert again == whole
    assert all(torch.equal(final[key], resumed[key]) for key in final)
    snapshots, _ = read_mask_history(tmp_path / "whole" / "h.npz")
    assert any(len(torch.unique(rows, dim=0)) > 1 for rows in snapshots.values())


def test_frozen_biases_stay_zero_beside_removed_units(tmp_path: Path) -> None:
    images, labels = corners()
    model = models.build("small_cnn", 4, (1, 8, 8), width=0.25, seed=0)
    for name, parameter in model.named_parameters():
        if name.endswith("bias") and "norm" not in name:
            nn.init.zeros_(parameter)
            parameter.requires_grad_(False)
    masks = pruning.prune("group_magnitude", model, (), 0.5)
    path = tmp_path / "state.safetensors"
    train(
        model, images, labels, SGD, 0, masks=masks, stop_epoch=2, final_state_path=path, log=quiet
    )
    train(model, images, labels, SGD, 0, masks=masks, start=read_training_state(path), log=quiet)
    for name, parameter in model.named_parameters():
        if name.endswith("bias") and "norm" not in name:
            assert not parameter.any()
        else:
            assert parameter.detach().any()


def test_start_weights_are_masked_before_the_first_step(tmp_path: Path) -> None:
    images, labels = corners()
    path = tmp_path / "dense.safetensors"
    train(network(), images, labels, ADAM, 0, stop_epoch=1, final_state_path=path, log=quiet)
    model = network()
    masks = random_masks(model)
    seen: list[bool] = []

    def looking(trained: nn.Module) -> Tensor:
        seen.append(any(bool(values.any()) for values in removed_values(trained, masks)))
        return torch.zeros(())

    state = read_training_state(path)
    train(model, images, labels, ADAM, 0, masks=masks, start=state, regulariser=looking, log=quiet)
    assert seen == [False] * 18


def test_mixed_precision_learns_in_float32_weights() -> None:
    images, labels = corners(200)
    results = {}
    for precision in ("float32", "mixed"):
        recipe = Recipe(12, 20, 0.05, 1e-4, "sgd", "constant", precision=precision)
        model = network()
        masks = random_masks(model, 0.5)
        history = train(
            model, images, labels, recipe, 0, masks=masks, validation=corners(100, 1), log=quiet
        )
        assert all(tensor.dtype != torch.bfloat16 for tensor in weights(model).values())
        results[precision] = history.rows
        assert history.rows[-1]["validation_accuracy"] > 0.9
    first = [results[precision][0]["loss"] for precision in ("float32", "mixed")]
    assert first[0] != first[1]
    assert first[0] == pytest.approx(first[1], rel=0.05)


def changed(change: Callable[[Rewiring], None]) -> Rewiring:
    class Faulty(ByGradient):
        def update(self, step: int, tensors: Any) -> None:
            change(self)

    return Faulty(random_masks(network()), period=7)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda it: it.masks.update({"conv1.weight": torch.ones(2, 2).bool()}), r"shape \(2, 2\)"),
        (
            lambda it: it.masks.update({"conv1.weight": it.masks["conv1.weight"].float()}),
            "type torch.float32",
        ),
        (lambda it: it.masks.pop("conv1.weight"), r"changed which .* \['conv1.weight'\]"),
        (lambda it: it.masks.update(more=torch.ones(1).bool()), "'more'"),
    ],
)
def test_masks_that_stop_fitting_are_an_error(
    change: Callable[[Rewiring], None], message: str
) -> None:
    images, labels = corners(32)
    with pytest.raises(TrainingError, match=f"Faulty.*{message}"):
        train(network(), images, labels, SGD, 0, dynamics=changed(change), log=quiet)


def test_bad_sparse_arguments(tmp_path: Path) -> None:
    images, labels = corners(32)
    good = random_masks(network())

    def failing(error: type[Exception], match: str, **options: Any) -> None:
        with pytest.raises(error, match=match):
            train(network(), images, labels, SGD, 0, log=quiet, **options)

    failing(ConfigurationError, "exclude each other", masks=good, dynamics=ByGradient(good))
    failing(ConfigurationError, "needs dynamics", masks=good, mask_history_path=tmp_path / "h.npz")
    wide = random_masks(models.build("small_cnn", 4, (1, 8, 8)))
    failing(DataError, r"ByGradient: the mask of conv1.weight has shape", dynamics=ByGradient(wide))
    named = {"conv9.weight": good["conv1.weight"]}
    failing(DataError, "in masks of ByGradient 'conv9.weight'", dynamics=ByGradient(named))
    path = tmp_path / "sgd.safetensors"
    train(network(), images, labels, SGD, 0, stop_epoch=1, final_state_path=path, log=quiet)
    with pytest.raises(DataError, match=r"written by another optimiser than Adam"):
        train(network(), images, labels, ADAM, 0, start=read_training_state(path), log=quiet)


def test_mask_history_is_small_and_exact(tmp_path: Path) -> None:
    from espalier.training.mask_history import MaskHistory

    generator = np.random.default_rng(0)
    history = MaskHistory()
    shapes = {"a": (3, 5), "b": (7, 2, 3, 3)}
    expected = []
    for epoch in range(3):
        masks = {k: torch.from_numpy(generator.random(s) < 0.3) for k, s in shapes.items()}
        expected.append(masks)
        history.record(epoch, masks)
    again = MaskHistory()
    again.restore(history.tensors(), expected[0])
    again.write(tmp_path / "h.npz", {"model": "m"})
    read, facts = read_mask_history(tmp_path / "h.npz")
    assert facts["model"] == "m"
    for epoch, masks in enumerate(expected):
        for name, mask in masks.items():
            assert torch.equal(read[name][epoch], mask)
    with np.load(tmp_path / "h.npz") as archive:
        assert archive["b"].shape == (3, 16)
        assert archive["b"].dtype == np.uint8
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(DataError, match="is not a history of masks"):
        read_mask_history(tmp_path / "other.npz")
