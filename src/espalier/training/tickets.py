"""Lottery tickets: train, prune, rewind, train again, level by level."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from espalier.errors import ConfigurationError
from espalier.pruning.contract import prunable_parameters
from espalier.pruning.masks import read_masks, write_masks
from espalier.pruning.registry import load
from espalier.training.checkpoints import load_tensors
from espalier.training.keeping import Kept
from espalier.training.loop import History
from espalier.training.state import TrainingState, read_training_state


def train_tickets(
    algorithm: str,
    train: Callable[..., History],
    model: nn.Module,
    initial: Mapping[str, Tensor],
    sparsities: Sequence[float],
    options: Mapping[str, Any],
    kept: Kept,
    exclude: Collection[str] = (),
) -> Callable[..., History]:
    """Return a function that trains the ticket of the sparsity at a position.

    All sparsities share one chain of levels. Every level leaves the masks of the next one in the
    folder of `kept`, so that asked for from the lowest sparsity up no level is trained twice.

    Args:
        algorithm: a pruner with `level_densities` and `next_masks`, as lottery_ticket.
        train: trains a model with the options of `espalier.training.loop.train`.
        model: the network, in which every level is trained.
        initial: its initial state dict.
        sparsities: shares to remove, in any order.
        options: fields of the pruner's `Options`.
        kept: where finished levels wait.
        exclude: parameters that stay dense.

    Source: Frankle and Carbin (2019); rewinding: Frankle et al. (2020).
    """
    module = load(algorithm)
    chosen = module.Options(**options)
    densities = [1.0, *module.level_densities(sparsities, chosen.fraction)]

    def masks_path(level: int) -> Path:
        return kept.path(f"level{level}.masks.npz")

    def masks_of(level: int) -> dict[str, Tensor]:
        """Return the masks of a level, training the levels before it where that is not done."""
        if level == 0:
            weights = prunable_parameters(model, exclude)
            return {name: torch.ones_like(w, dtype=torch.bool) for name, w in weights.items()}
        if not masks_path(level).exists():
            train_level(level - 1, state_directory=kept.folder / f"level{level - 1}")
        return read_masks(masks_path(level))[0]

    def train_level(level: int, **outputs: Any) -> History:
        """Train the network of a level from the rewinding point, and choose the next masks."""
        masks = masks_of(level)
        print(f"level {level}: density {densities[level]:.4g}", file=sys.stderr)
        start = rewinding_point()
        load_tensors(
            model, initial if start is None else start.model_tensors(), "the rewound state"
        )
        history = train(model, masks=masks, start=start, **outputs)
        if level + 1 < len(densities):
            chosen_masks = module.next_masks(
                {
                    name: weight.cpu()
                    for name, weight in prunable_parameters(model, exclude).items()
                },
                masks,
                1 - densities[level + 1],
                scope=chosen.scope,
                counts=chosen.counts,
                previous_sparsity=1 - densities[level],
            )
            write_masks(masks_path(level + 1), chosen_masks, 1 - densities[level + 1])
        return history

    def rewinding_point() -> TrainingState | None:
        """Return the dense network at the rewinding epoch; None for its initialisation."""
        if chosen.rewind_epoch == 0:
            return None
        path = kept.path("rewind.safetensors")
        if not path.exists():
            load_tensors(model, initial, "the initial weights")
            train(
                model,
                stop_epoch=chosen.rewind_epoch,
                final_state_path=path,
                state_directory=kept.folder / "rewind",
            )
        return read_training_state(path)

    def train_one(position: int, **outputs: Any) -> History:
        goal = 1 - sparsities[position]
        level = min(range(len(densities)), key=lambda number: abs(densities[number] - goal))
        return train_level(level, **outputs)

    if not sparsities:
        raise ConfigurationError("lottery tickets need at least one sparsity")
    return train_one
