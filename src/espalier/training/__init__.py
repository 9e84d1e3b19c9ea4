"""Training that resumes after a kill with equal bytes, and the checkpoints it leaves."""

from __future__ import annotations

import importlib
from typing import Any

from espalier.training.recipe import Recipe, checkpoint_epochs, pruning_epoch

_HOMES = {
    "History": "loop",
    "TrainingState": "state",
    "evaluate": "loop",
    "normalised_batches": "inputs",
    "read_checkpoint": "checkpoints",
    "read_training_state": "state",
    "train": "loop",
    "write_checkpoint": "checkpoints",
}

__all__ = ["Recipe", "checkpoint_epochs", "pruning_epoch", *_HOMES]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"espalier.training.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
