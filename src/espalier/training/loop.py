"""The training loop: one epoch after the other, each a pure function of the state before it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from espalier.data.inputs import (
    SYMMETRIC,
    Normalisation,
    image_tensor,
    label_tensor,
)
from espalier.errors import TrainingError
from espalier.pruning.during import Dynamics
from espalier.seeds import derive_seed
from espalier.training.batches import TrainingImages
from espalier.training.checkpoints import write_checkpoint
from espalier.training.evaluation import Images, evaluate, evaluate_in_training_mode
from espalier.training.fused import training_forward
from espalier.training.mask_history import MaskHistory
from espalier.training.members import FilePath, Member, check_apart, check_member
from espalier.training.recipe import Recipe
from espalier.training.sparse import SparseNetwork
from espalier.training.stash import Stash, content_digest, run_digest
from espalier.training.state import TrainingState, write_training_state

_SAVE_EVERY_SECONDS = 20.0

Regulariser = Callable[[nn.Module], Tensor]
Log = Callable[[str], None]


@dataclass(frozen=True)
class History:
    """What training measured.

    Attributes:
        rows: per epoch, counted from 1: epoch, learning_rate, loss (mean cross-entropy over the
            images, penalty left out), train_accuracy (of the batches as they were trained on),
            validation_accuracy (None without validation images).
        seconds: time spent in all, killed runs that were resumed included.
        masks: the masks in force at the end, by parameter name; none for a dense network.
        normalisation: what the network was fed with, and must be fed with from now on.
    """

    rows: list[dict[str, Any]]
    seconds: float
    masks: dict[str, Tensor] = field(default_factory=dict)
    normalisation: Normalisation = SYMMETRIC


def train(
    model: nn.Module,
    images: Images,
    labels: Images,
    recipe: Recipe,
    seed: int,
    *,
    validation: tuple[Images, Images] | None = None,
    masks: Mapping[str, Tensor] | None = None,
    dynamics: Dynamics | None = None,
    regulariser: Regulariser | None = None,
    normalisation: Normalisation | None = None,
    start: TrainingState | None = None,
    stop_epoch: int | None = None,
    checkpoint_paths: Mapping[FilePath, int] | None = None,
    metadata: Mapping[str, str] | None = None,
    final_state_path: FilePath | None = None,
    mask_history_path: FilePath | None = None,
    state_directory: FilePath | None = None,
    save_every: float = _SAVE_EVERY_SECONDS,
    device: torch.device | str = "cpu",
    log: Log | None = None,
) -> History:
    """Train a model in place; it ends on `device`, in evaluation mode.

    Every random draw comes from (seed, stream, epoch), so that on a CPU, with the same number of
    threads, the result has the same bytes however often the run was killed and resumed.

    **Checkpoints and kills.** `checkpoint_paths`, `final_state_path` and `mask_history_path` are
    written when training is complete, and not before. Until then each checkpoint lies in
    `state_directory`, beside the state from which the run resumes. So a workflow may delete the
    outputs of a killed job, and nothing is lost: the next call with the same arguments goes on
    from the last saved epoch and delivers every checkpoint. A state of another recipe, seed, data,
    model, mask or code is left alone and overwritten. At the end the files are removed, and the
    directory if nothing else is in it.

    Args:
        model: a network from images to logits, with fresh weights unless `start` is given.
        images: uint8 (n, height, width, channels).
        labels: (n,) class indices.
        recipe: epochs, batch size, rates and the rest.
        seed: root of the order of images, of augmentation and dropout.
        validation: images and labels to measure accuracy on after every epoch.
        masks: kept weights by parameter name. Removed weights, and the biases of hidden units
            without incoming weights, are exactly 0 from before the first step to the end.
        dynamics: masks that change, in place of `masks`; a fresh object for every call. Removed
            weights are exactly 0 after every step, whatever the masks are by then. Units without
            incoming weights keep their biases, since their weights may grow again.
        regulariser: maps the model to a penalty that is added to the loss of every batch. Leave it
            out when fine-tuning: after pruning the thesis's code sets its weight to 0.
        normalisation: how pixels become inputs; as `recipe.normalisation` says, over `images`, if
            left out. The checkpoints' metadata and the history hold it.
        start: where an earlier stage stopped; weights, the optimiser's moments, the epoch and the
            state of the dynamics, where it has one, are taken over.
        stop_epoch: end after this many epochs (counted from the start of the recipe) instead of
            recipe.epochs; the schedule still runs over recipe.epochs.
        checkpoint_paths: path -> after how many epochs it is taken; 0 is after one update.
        metadata: strings for the metadata of checkpoints and mask history; epoch, seed, and the
            normalisation where it is not the default, are added.
        final_state_path: also write the state at the end, for a later stage to `start` from.
        mask_history_path: also write the masks of every epoch (`read_mask_history`).
        state_directory: where to keep the resumable state; None trains without one.
        save_every: seconds between two saves of the state, which happen at epoch ends.
        device: where to train.
        log: takes one line per epoch; standard error by default.

    Returns:
        The history, that of `start` included.

    Raises:
        DataError: images, labels, masks or `start` do not fit the model or each other.
        ConfigurationError: a checkpoint outside the epochs that this call trains, arguments that
            exclude each other, or batches that batch norm cannot work with.
        TrainingError: the loss is not finite, or the dynamics gave masks that do not fit; nothing
            is written.
    """
    member = Member(
        model, seed, masks, dynamics, start, checkpoint_paths, metadata, final_state_path,
        mask_history_path, state_directory,
    )  # fmt: skip
    setting = _Setting.of(images, labels, recipe, normalisation, device)
    run = _Run(
        member, setting, validation, regulariser, stop_epoch, save_every, log or _to_standard_error
    )
    return _complete([run])[0]


def train_together(
    members: Sequence[Member],
    images: Images,
    labels: Images,
    recipe: Recipe,
    *,
    validation: tuple[Images, Images] | None = None,
    regulariser: Regulariser | None = None,
    normalisation: Normalisation | None = None,
    stop_epoch: int | None = None,
    save_every: float = _SAVE_EVERY_SECONDS,
    device: torch.device | str = "cpu",
    log: Log | None = None,
) -> list[History]:
    """Train several networks on the same images in one process, an epoch of each in turn.

    The images are prepared and kept on the device once. Each network ends as if it had been
    trained alone, with the same bytes on a CPU. All outputs are delivered at the end, together. On
    a CPU this takes as long as one network after the other; it saves the memory of the images, and
    the start of a process per network.

    Args:
        members: networks, with seeds, masks and outputs of their own; a state directory, where
            there is one, is of one member alone.
        images, labels, recipe, validation, regulariser, normalisation, stop_epoch, save_every,
            device, log: as in `train`, shared by all; lines of the log start with the seed.

    Returns:
        The histories, in the order of the members.

    Raises:
        ConfigurationError: members share a model, a dynamics or a path; and as `train`.
        DataError, TrainingError: as `train`.
    """
    check_apart(members)
    setting = _Setting.of(images, labels, recipe, normalisation, device)
    tell = log or _to_standard_error
    runs = [
        _Run(
            member, setting, validation, regulariser, stop_epoch, save_every,
            lambda line, seed=member.seed: tell(f"seed {seed}  {line}"),
        )
        for member in members
    ]  # fmt: skip
    return _complete(runs)


def _complete(runs: Sequence[_Run]) -> list[History]:
    """Train all runs to their ends, those that are furthest behind first, then deliver."""
    devices = [] if all(run.setting.device.type == "cpu" for run in runs) else None
    with torch.random.fork_rng(devices=devices):
        while unfinished := [run for run in runs if not run.finished]:
            min(unfinished, key=lambda run: run.epoch).advance()
    return [run.finish() for run in runs]


@dataclass(frozen=True, eq=False)
class _Setting:
    """What all networks that train together share."""

    data: TrainingImages
    recipe: Recipe
    normalisation: Normalisation
    device: torch.device
    content: dict[str, Any]

    @classmethod
    def of(
        cls,
        images: Images,
        labels: Images,
        recipe: Recipe,
        normalisation: Normalisation | None,
        device: torch.device | str,
    ) -> _Setting:
        where = torch.device(device)
        stored = image_tensor(images)
        targets = label_tensor(labels, stored)
        if normalisation is None:
            normalisation = Normalisation.named(recipe.normalisation, stored)
        data = TrainingImages(stored, targets, recipe, normalisation, where)
        content = {"images": content_digest(stored), "labels": content_digest(targets)}
        return cls(data, recipe, normalisation, where, content)


class _Run:
    """One network on its way through the epochs."""

    def __init__(
        self,
        member: Member,
        setting: _Setting,
        validation: tuple[Images, Images] | None,
        regulariser: Regulariser | None,
        stop_epoch: int | None,
        save_every: float,
        log: Log,
    ) -> None:
        recipe = setting.recipe
        self.setting = setting
        self._member = member
        self._validation = validation
        self._regulariser = regulariser
        self._stop = recipe.epochs if stop_epoch is None else stop_epoch
        self._save_every = save_every
        self._log = log
        self._wanted = {Path(path): at for path, at in (member.checkpoint_paths or {}).items()}
        check_member(member, recipe, len(setting.data), self._stop, self._wanted)

        if member.start is not None:
            member.start.load_model(member.model)
        self._digest = self._identity()
        self._network = SparseNetwork(
            member.model, recipe, setting.device, member.masks, member.dynamics
        )
        self._model = self._network.trained
        self._forward = _forward_pass(self._model, recipe, setting.device)
        self._history = None if member.mask_history_path is None else MaskHistory()
        self._stash = (
            None
            if member.state_directory is None
            else Stash(Path(member.state_directory), self._digest, self._wanted, log)
        )

        state = self._stash.resume() if self._stash is not None else None
        if state is not None:
            self._network.resume(state)
            if self._history is not None:
                self._history.restore(state.mask_history(), self._network.masks)
        else:
            state = member.start
            if state is not None:
                self._network.start_from(state)
            if self._history is not None:
                self._history.record(0 if state is None else state.epoch, self._network.masks)
        self.epoch = 0 if state is None else state.epoch
        self._rows = [] if state is None else list(state.rows)
        self._seconds = 0.0 if state is None else state.seconds
        self._saved_at = time.monotonic()

    @property
    def finished(self) -> bool:
        """Whether every epoch is done."""
        return self.epoch >= self._stop

    def advance(self) -> None:
        """Train one epoch, validate, and keep what must outlive a kill."""
        began = time.monotonic()
        row = self._train_epoch()
        self.epoch += 1
        row["validation_accuracy"] = self._validate()
        self._rows.append(row)
        if self._history is not None:
            self._history.record(self.epoch, self._network.masks)
        self._take_checkpoint(self.epoch)
        now = time.monotonic()
        self._log(_progress(row, self.setting, self._stop, now - began))
        self._seconds += now - began
        if (
            self._stash is not None
            and not self.finished
            and now - self._saved_at >= self._save_every
        ):
            self._stash.save(self._resumable_state())
            self._saved_at = now

    def finish(self) -> History:
        """Write every output and return the history."""
        self._network.full().eval()
        member = self._member
        if member.final_state_path is not None:
            state = self._network.full_state(self.epoch, self._digest, self._rows)
            write_training_state(member.final_state_path, state)
        if self._history is not None and member.mask_history_path is not None:
            self._history.write(member.mask_history_path, self._facts())
        if self._stash is not None:
            self._stash.deliver()
        return History(self._rows, self._seconds, self._network.masks, self.setting.normalisation)

    def _train_epoch(self) -> dict[str, Any]:
        epoch, recipe, device = self.epoch, self.setting.recipe, self.setting.device
        torch.manual_seed(derive_seed(self._member.seed, "dropout", epoch))
        rate = recipe.learning_rate_at(epoch)
        for group in self._network.optimizer.param_groups:
            group["lr"] = rate
        self._model.train()
        losses, sizes = [], []
        correct = torch.zeros((), dtype=torch.int64, device=device)
        step = epoch * recipe.steps_per_epoch(len(self.setting.data))
        for number, (inputs, targets) in enumerate(
            self.setting.data.batches(self._member.seed, epoch)
        ):
            logits = self._forward(inputs)
            loss = functional.cross_entropy(logits, targets)
            total = loss if self._regulariser is None else loss + self._regulariser(self._model)
            if device.type == "cpu" and not bool(torch.isfinite(total)):
                raise _not_finite(epoch, number, rate)
            self._network.update(total, step + number)
            losses.append(loss.detach())
            sizes.append(len(targets))
            correct += (logits.detach().argmax(dim=1) == targets).sum()
            if step + number == 0:
                self._take_checkpoint(0)
        per_batch = torch.stack(losses).double()
        # On a GPU, asking after every batch would stall it; one question per epoch does not.
        failed = (~torch.isfinite(per_batch)).nonzero().flatten()
        if len(failed):
            raise _not_finite(epoch, int(failed[0]), rate)
        weights = torch.tensor(sizes, dtype=torch.float64, device=device)
        return {
            "epoch": epoch + 1,
            "learning_rate": rate,
            "loss": float((per_batch * weights).sum() / weights.sum()),
            "train_accuracy": int(correct) / sum(sizes),
        }

    def _validate(self) -> float | None:
        """Return the accuracy on validation images after an epoch, as the recipe evaluates."""
        if self._validation is None:
            return None
        device, normalisation = self.setting.device, self.setting.normalisation
        if self.setting.recipe.evaluation == "eval":
            return evaluate(
                self._model, *self._validation, device=device, normalisation=normalisation
            )
        torch.manual_seed(derive_seed(self._member.seed, "validation dropout", self.epoch))
        size = self.setting.recipe.batch_size
        return evaluate_in_training_mode(
            self._model, *self._validation, size, device, normalisation
        )

    def _take_checkpoint(self, at: int) -> None:
        if self._stash is not None and at in self._wanted.values():
            facts = {**self._facts(), "epoch": str(at)}
            write_checkpoint(self._stash.checkpoint(at), self._network.full(), facts)

    def _facts(self) -> dict[str, str]:
        own = {**self.setting.normalisation.metadata(), "seed": str(self._member.seed)}
        return {**(self._member.metadata or {}), **own}

    def _resumable_state(self) -> TrainingState:
        state = self._network.state(self.epoch, self._digest, self._rows, self._seconds)
        return state if self._history is None else state.with_mask_history(self._history.tensors())

    def _identity(self) -> str:
        member, setting = self._member, self.setting
        start = member.start
        return run_digest(
            {
                **setting.content,
                "recipe": setting.recipe,
                "normalisation": setting.normalisation,
                "seed": member.seed,
                "model": str(member.model),
                "weights": member.model.state_dict(),
                "masks": member.masks,
                "dynamics": member.dynamics,
                "mask history": member.mask_history_path is not None,
                "regulariser": self._regulariser,
                "start": None if start is None else [start.digest, start.epoch],
                "stop": self._stop,
                "checkpoints": sorted(set(self._wanted.values())),
            }
        )


def _forward_pass(
    model: nn.Module, recipe: Recipe, device: torch.device
) -> Callable[[Tensor], Tensor]:
    """Return the fastest pass in training mode that the recipe allows on a device."""

    def mixed(inputs: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16):
            return model(inputs).float()

    forward = training_forward(model) if recipe.precision == "float32" else mixed
    compiling = recipe.compiled and device.type == "cuda"
    return torch.compile(forward, dynamic=False) if compiling else forward


def _not_finite(epoch: int, batch: int, rate: float) -> TrainingError:
    return TrainingError(
        f"the loss is not finite in epoch {epoch + 1}, batch {batch + 1} (learning rate {rate:g}); "
        "nothing was written. Lower the learning rate, or the strength of the regulariser"
    )


def _progress(row: dict[str, Any], setting: _Setting, stop: int, seconds: float) -> str:
    validation = row["validation_accuracy"]
    accuracy = "" if validation is None else f"  validation {validation:.4f}"
    left = round((stop - row["epoch"]) * seconds)
    return (
        f"epoch {row['epoch']}/{setting.recipe.epochs}  loss {row['loss']:.4f}  "
        f"train {row['train_accuracy']:.4f}{accuracy}  {len(setting.data) / seconds:,.0f} images/s"
        f"  {left // 60}:{left % 60:02d} left"
    )


def _to_standard_error(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
