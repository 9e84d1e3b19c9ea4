"""One network among those that a call trains, and what it cannot be trained with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from espalier.errors import ConfigurationError
from espalier.files import FilePath
from espalier.pruning.during import Dynamics
from espalier.training.recipe import Recipe
from espalier.training.state import TrainingState


@dataclass(frozen=True, eq=False)
class Member:
    """One network of several that train together; attributes as the arguments of `train`."""

    model: nn.Module
    seed: int
    masks: Mapping[str, Tensor] | None = None
    dynamics: Dynamics | None = None
    start: TrainingState | None = None
    checkpoint_paths: Mapping[FilePath, int] | None = None
    metadata: Mapping[str, str] | None = None
    final_state_path: FilePath | None = None
    mask_history_path: FilePath | None = None
    state_directory: FilePath | None = None


def check_member(
    member: Member, recipe: Recipe, images: int, stop: int, wanted: Mapping[Path, int]
) -> None:
    """Refuse what one network cannot be trained with, before anything is touched.

    Args:
        member: the network and what goes with it.
        recipe: how it is trained.
        images: number of training images.
        stop: epoch after which the call ends.
        wanted: path of each checkpoint -> after how many epochs it is taken.

    Raises:
        ConfigurationError: arguments that exclude or lack each other, epochs out of range, or
            batches that batch norm cannot work with.
    """
    if member.masks and member.dynamics is not None:
        raise ConfigurationError(
            "masks and dynamics exclude each other: the dynamics brings its own masks"
        )
    if member.mask_history_path is not None and member.dynamics is None:
        raise ConfigurationError("mask_history_path needs dynamics: fixed masks have no history")
    first = 0 if member.start is None else member.start.epoch
    _check_epochs(recipe, first, stop, wanted)
    if wanted and member.state_directory is None:
        raise ConfigurationError("checkpoint_paths needs a state_directory to keep them in")
    single = min(recipe.batch_size, images) == 1
    normalising = [
        name
        for name, module in member.model.named_modules()
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d)
    ]
    if single and normalising:
        raise ConfigurationError(
            f"batches of one image (batch_size {recipe.batch_size}, {images} "
            f"images) give the batch norm {normalising[0]} no variance; use at least 2"
        )


def _check_epochs(recipe: Recipe, first: int, stop: int, wanted: Mapping[Path, int]) -> None:
    if not first < stop <= recipe.epochs:
        raise ConfigurationError(
            f"training from epoch {first} to {stop} of {recipe.epochs}: there is nothing to train"
            if first >= stop
            else f"stop_epoch is {stop}, beyond the {recipe.epochs} epochs of the recipe"
        )
    lowest = 0 if first == 0 else first + 1
    for path, epoch in wanted.items():
        if not lowest <= epoch <= stop:
            raise ConfigurationError(
                f"checkpoint {path} is due after epoch {epoch}, but this call trains "
                f"epochs {first + 1} to {stop}"
            )


def check_apart(members: Sequence[Member]) -> None:
    """Refuse members that would overwrite each other.

    Raises:
        ConfigurationError: there are none, or two share a model, a dynamics or a path.
    """
    if not members:
        raise ConfigurationError("there are no networks to train together")
    owned = [
        *(id(member.model) for member in members),
        *(id(member.dynamics) for member in members if member.dynamics is not None),
    ]
    paths = [
        Path(path)
        for member in members
        for path in (
            *(member.checkpoint_paths or {}),
            member.final_state_path,
            member.mask_history_path,
            member.state_directory,
        )
        if path is not None
    ]
    twice = sorted({str(path) for path in paths if paths.count(path) > 1})
    if twice or len(set(owned)) < len(owned):
        raise ConfigurationError(
            f"networks that train together share {', '.join(twice) or 'a model or a dynamics'}; "
            "give each its own"
        )
