from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from small_problem import corners, network, weights
from tiny_dynamics import ByMomentum, random_masks

from espalier.errors import ConfigurationError
from espalier.training import History, Member, Recipe, train, train_together

RECIPE = Recipe(4, 16, 0.05, 1e-4, "sgd", "milestones", "crop_flip", milestones=(2,))


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def quiet(line: str) -> None:
    pass


def members(folder: Path) -> list[Member]:
    """Three seeds: dense, with fixed masks, and with masks that change."""
    networks = [network(seed) for seed in range(3)]
    masks = random_masks(networks[0])
    kinds = [{}, {"masks": masks}, {"dynamics": ByMomentum(masks)}]
    return [
        Member(
            networks[seed],
            seed,
            checkpoint_paths={folder / f"{seed}.safetensors": 4},
            final_state_path=folder / f"final{seed}.safetensors",
            state_directory=folder / f"state{seed}",
            **kinds[seed],
        )
        for seed in range(3)
    ]


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}


def alone(folder: Path) -> list[History]:
    histories = []
    for member in members(folder):
        options = {key: value for key, value in vars(member).items() if key != "model"}
        histories.append(
            train(member.model, *corners(), RECIPE, validation=corners(40, 1), log=quiet, **options)
        )
    return histories


def test_each_network_is_as_if_trained_alone(tmp_path: Path) -> None:
    expected = alone(tmp_path / "alone")
    lines: list[str] = []
    before = torch.random.get_rng_state()
    group = members(tmp_path / "together")
    histories = train_together(
        group, *corners(), RECIPE, validation=corners(40, 1), log=lines.append
    )
    assert torch.equal(before, torch.random.get_rng_state())
    assert [history.rows for history in histories] == [history.rows for history in expected]
    assert len(files(tmp_path / "alone")) == 6
    assert files(tmp_path / "together") == files(tmp_path / "alone")
    starts = [line.split("  loss")[0] for line in lines]
    assert starts[:4] == [f"seed {k}  epoch 1/4" for k in range(3)] + ["seed 0  epoch 2/4"]
    assert not any(member.model.training for member in group)


class StoppedError(Exception):
    pass


def stop_at(start: str) -> Callable[[str], None]:
    def log(line: str) -> None:
        if line.startswith(start):
            raise StoppedError

    return log


def test_a_killed_group_resumes_and_delivers_together(tmp_path: Path) -> None:
    alone(tmp_path / "alone")
    folder = tmp_path / "together"

    def run(log: Callable[[str], None]) -> None:
        train_together(
            members(folder), *corners(), RECIPE, validation=corners(40, 1), save_every=0, log=log
        )

    for line in ("seed 1  epoch 2/4", "seed 2  epoch 4/4"):
        with pytest.raises(StoppedError):
            run(stop_at(line))
        assert files(folder) == {}
    lines: list[str] = []
    run(lines.append)
    assert lines[:3] == [f"seed {k}  resuming after epoch 3" for k in range(3)]
    assert files(folder) == files(tmp_path / "alone")


def test_members_must_be_apart(tmp_path: Path) -> None:
    model = network()
    for group, message in (
        ([Member(model, 0), Member(model, 1)], "share a model or a dynamics"),
        (
            [Member(network(), k, state_directory=tmp_path / "s") for k in range(2)],
            r"share .*s; give each its own",
        ),
        ([], "no networks"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            train_together(group, *corners(), RECIPE, log=quiet)
    assert torch.equal(weights(model)["conv1.weight"], weights(network())["conv1.weight"])
