from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch
from small_problem import network, weights

from espalier import models
from espalier.errors import DataError
from espalier.training import read_checkpoint, write_checkpoint

FACTS = {key: f"value {key}" for key in ("model", "epoch", "seed", "configuration", "code")}


def test_round_trip_and_plain_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    model = network()
    write_checkpoint(path, model, FACTS)
    other = network(1)
    assert read_checkpoint(path, other) == FACTS
    for name, tensor in safetensors.torch.load_file(path).items():
        assert torch.equal(tensor, weights(model)[name])
        assert torch.equal(tensor, weights(other)[name])


def test_bytes_depend_on_the_content_alone(tmp_path: Path) -> None:
    model = network()
    for number in range(6):
        facts = dict(reversed(FACTS.items())) if number % 2 else FACTS
        write_checkpoint(tmp_path / f"{number}.safetensors", model, facts)
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1


@pytest.mark.parametrize("damage", ["empty", "short", "truncated", "garbage"])
def test_damaged_files_are_named(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "c.safetensors"
    write_checkpoint(path, network(), FACTS)
    data = path.read_bytes()
    path.write_bytes(
        {"empty": b"", "short": data[:100], "truncated": data[:-4], "garbage": b"x" * 400}[damage]
    )
    with pytest.raises(DataError, match=r"c.safetensors is not a readable safetensors file"):
        read_checkpoint(path, network())


def test_missing_and_unfitting_files(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    with pytest.raises(DataError, match=r"c.safetensors does not exist"):
        read_checkpoint(path, network())
    write_checkpoint(path, network())
    with pytest.raises(
        DataError, match=r"conv1.weight has shape \(8, 1, 3, 3\) in the file, \(32, 1, 3, 3\)"
    ):
        read_checkpoint(path, models.build("small_cnn", 4, (1, 8, 8)))
    with pytest.raises(
        DataError, match=r"belongs to another model: it lacks nothing and has \['conv1.bias'"
    ):
        read_checkpoint(path, models.build("mlp-64-5-4", 4, (1, 8, 8)))
