from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from espalier.errors import ConfigurationError
from espalier.pruning.contract import prunable_parameters
from espalier.pruning.selection import keep_count
from espalier.training.keeping import Kept
from espalier.training.state import TrainingState
from espalier.training.tickets import train_tickets

SPARSITIES = [0.5, 0.9]


class Trainer:
    """Stands in for the training loop: remembers where each level starts, and moves the weights."""

    def __init__(self) -> None:
        self.starts: list[dict[str, torch.Tensor]] = []
        self.masks: list[dict[str, torch.Tensor]] = []

    def __call__(self, model, *, masks=None, start=None, final_state_path=None, **outputs):
        self.starts.append({name: value.clone() for name, value in model.state_dict().items()})
        with torch.no_grad():
            for number, weight in enumerate(prunable_parameters(model).values()):
                generator = torch.Generator().manual_seed(number + 10 * len(self.starts))
                weight.add_(torch.randn(weight.shape, generator=generator))
        if final_state_path is not None:
            from espalier.training.state import write_training_state

            tensors = {f"model.{k}": v.clone() for k, v in model.state_dict().items()}
            write_training_state(final_state_path, TrainingState(tensors, 1, "digest"))
            return None
        self.masks.append(dict(masks))
        for name, mask in masks.items():
            model.get_parameter(name).data.mul_(mask)
        return SimpleNamespace(masks=dict(masks))


def network() -> tuple[nn.Module, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    return model, {name: value.clone() for name, value in model.state_dict().items()}


def run(folder: Path, trainer: Trainer, **options):
    model, initial = network()
    kept = Kept(folder, "tickets")
    one = train_tickets(
        "lottery_ticket", trainer, model, initial, SPARSITIES, {"fraction": 0.5, **options}, kept
    )
    return [one(position).masks for position in range(len(SPARSITIES))], initial


def test_levels_nest_and_every_sparsity_is_exact(tmp_path: Path) -> None:
    trainer = Trainer()
    (denser, sparser), initial = run(tmp_path, trainer)
    total = sum(mask.numel() for mask in denser.values())
    for masks, sparsity in ((sparser, 0.9), (denser, 0.5)):
        assert sum(int(m.sum()) for m in masks.values()) == keep_count(total, sparsity)
    for name, mask in sparser.items():
        assert not bool((mask & ~denser[name]).any())
    assert len(trainer.masks) == 5, "densities 1, .5, .25, .125 and .1, each trained once"
    for start in trainer.starts:
        assert all(torch.equal(start[name], value) for name, value in initial.items())


def test_a_second_call_goes_on_from_the_masks_that_are_there(tmp_path: Path) -> None:
    first = Trainer()
    tickets, _ = run(tmp_path, first)
    second = Trainer()
    again, _ = run(tmp_path, second)
    assert len(second.masks) == 2, "only the tickets themselves are trained anew"
    for before, after in zip(tickets, again, strict=True):
        assert all(torch.equal(before[name], after[name]) for name in before)


def test_rewinding_starts_every_level_from_the_early_network(tmp_path: Path) -> None:
    trainer = Trainer()
    _, initial = run(tmp_path, trainer, rewind_epoch=1)
    name = "0.weight"
    assert torch.equal(trainer.starts[0][name], initial[name])
    rewound = trainer.starts[1][name]
    assert not torch.equal(rewound, initial[name])
    assert all(torch.equal(start[name], rewound) for start in trainer.starts[1:])


def test_no_sparsity_is_an_error(tmp_path: Path) -> None:
    model, initial = network()
    with pytest.raises(ConfigurationError, match="at least one sparsity"):
        train_tickets("lottery_ticket", Trainer(), model, initial, [], {}, Kept(tmp_path, "x"))
