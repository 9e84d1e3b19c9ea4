"""Training that resumes after a kill with equal bytes, and the checkpoints it leaves."""

from __future__ import annotations

import importlib
from typing import Any

from espalier.training.recipe import (
    PRESETS,
    Recipe,
    checkpoint_epochs,
    preset_recipe,
    pruning_epoch,
)

_HOMES = {
    "History": "loop",
    "Member": "members",
    "Normalisation": "inputs",
    "TrainingState": "state",
    "evaluate": "evaluation",
    "horizon": "sparse",
    "normalised_batches": "inputs",
    "read_checkpoint": "checkpoints",
    "read_mask_history": "mask_history",
    "read_training_state": "state",
    "train": "loop",
    "train_together": "loop",
    "write_checkpoint": "checkpoints",
}

__all__ = [
    "PRESETS",
    "Recipe",
    "checkpoint_epochs",
    "preset_recipe",
    "pruning_epoch",
    *_HOMES,
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"espalier.training.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
