"""Training that resumes after a kill with equal bytes, and the checkpoints it leaves."""

from __future__ import annotations

from espalier.lazy import lazily
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
    "TrainingState": "state",
    "evaluate": "evaluation",
    "horizon": "sparse",
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

__getattr__, __dir__ = lazily(__name__, _HOMES)
