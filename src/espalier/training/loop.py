"""The training loop: one epoch after the other, each a pure function of the state before it."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from espalier.errors import ConfigurationError, DataError, TrainingError
from espalier.files import atomic_path
from espalier.provenance import code_of, digest
from espalier.pruning.compaction import Compaction, compact
from espalier.pruning.masks import apply_masks, removed_entries
from espalier.seeds import derive_seed, torch_generator
from espalier.training.augmentation import augment, draw_augmentation
from espalier.training.checkpoints import write_checkpoint
from espalier.training.fused import training_forward
from espalier.training.inputs import (
    as_maps,
    image_tensor,
    label_tensor,
    normalise,
    normalised_batches,
)
from espalier.training.recipe import Recipe
from espalier.training.state import (
    TrainingState,
    capture,
    read_training_state,
    write_training_state,
)

_SAVE_EVERY_SECONDS = 20.0

Images = np.ndarray | Tensor
Regulariser = Callable[[nn.Module], Tensor]


@dataclass(frozen=True)
class History:
    """What training measured.

    Attributes:
        rows: per epoch, counted from 1: epoch, learning_rate, loss (mean cross-entropy over the
            images, penalty left out), train_accuracy (of the batches as they were trained on),
            validation_accuracy (None without validation images).
        seconds: time spent in all, killed runs that were resumed included.
    """

    rows: list[dict[str, Any]]
    seconds: float


def evaluate(
    model: nn.Module,
    images: Images,
    labels: Images,
    batch_size: int = 500,
    device: torch.device | str = "cpu",
) -> float:
    """Return the accuracy (0..1) in evaluation mode; the model's mode is restored.

    Args:
        model: a network from images to logits, on `device`.
        images: uint8 (n, height, width, channels).
        labels: (n,) class indices.
        batch_size: images per forward pass; no influence on the result beyond rounding.
        device: where the model is.

    Raises:
        DataError: images and labels do not match.
    """
    was_training = model.training
    model.eval()
    correct = 0
    with torch.inference_mode():
        for inputs, targets in normalised_batches(images, labels, batch_size, device):
            correct += int((model(inputs).argmax(dim=1) == targets).sum())
    model.train(was_training)
    return correct / max(1, len(labels))


def train(
    model: nn.Module,
    images: Images,
    labels: Images,
    recipe: Recipe,
    seed: int,
    *,
    validation: tuple[Images, Images] | None = None,
    masks: Mapping[str, Tensor] | None = None,
    regulariser: Regulariser | None = None,
    start: TrainingState | None = None,
    stop_epoch: int | None = None,
    checkpoint_paths: Mapping[str | os.PathLike[str], int] | None = None,
    metadata: Mapping[str, str] | None = None,
    final_state_path: str | os.PathLike[str] | None = None,
    state_directory: str | os.PathLike[str] | None = None,
    save_every: float = _SAVE_EVERY_SECONDS,
    device: torch.device | str = "cpu",
    log: Callable[[str], None] | None = None,
) -> History:
    """Train a model in place; it ends on `device`, in evaluation mode.

    Every random draw comes from (seed, stream, epoch), so that on a CPU, with the same number of
    threads, the result has the same bytes however often the run was killed and resumed.

    **Checkpoints and kills.** `checkpoint_paths` and `final_state_path` are written when training
    is complete, and not before. Until then each checkpoint lies in `state_directory`, beside the
    state from which the run resumes. So a workflow may delete the outputs of a killed job, and
    nothing is lost: the next call with the same arguments goes on from the last saved epoch and
    delivers every checkpoint. A state of another recipe, seed, data, model, mask or code is left
    alone and overwritten. At the end the files are removed, and the directory if nothing else is
    in it.

    Args:
        model: a network from images to logits, with fresh weights unless `start` is given.
        images: uint8 (n, height, width, channels).
        labels: (n,) class indices.
        recipe: epochs, batch size, rates and the rest.
        seed: root of the order of images, of augmentation and dropout.
        validation: images and labels to measure accuracy on after every epoch.
        masks: kept weights by parameter name. Removed weights, and the biases of hidden units
            without incoming weights, are exactly 0 from before the first step to the end.
        regulariser: maps the model to a penalty that is added to the loss of every batch. Leave it
            out when fine-tuning: after pruning the thesis's code sets its weight to 0.
        start: where an earlier stage stopped; weights, Adam's moments and epoch are taken over.
        stop_epoch: end after this many epochs (counted from the start of the recipe) instead of
            recipe.epochs; the schedule still runs over recipe.epochs.
        checkpoint_paths: path -> after how many epochs it is taken; 0 is after one update.
        metadata: strings for the checkpoints' metadata; epoch and seed are added.
        final_state_path: also write the state at the end, for a later stage to `start` from.
        state_directory: where to keep the resumable state; None trains without one.
        save_every: seconds between two saves of the state, which happen at epoch ends.
        device: where to train.
        log: takes one line per epoch; standard error by default.

    Returns:
        The history, that of `start` included.

    Raises:
        DataError: images, labels, masks or `start` do not fit the model or each other.
        ConfigurationError: a checkpoint outside the epochs that this call trains.
        TrainingError: the loss is not finite; nothing is written.
    """
    log = log or _to_standard_error
    stop = recipe.epochs if stop_epoch is None else stop_epoch
    first = 0 if start is None else start.epoch
    wanted = {Path(path): epoch for path, epoch in (checkpoint_paths or {}).items()}
    _check_epochs(recipe, first, stop, wanted)
    if wanted and state_directory is None:
        raise ConfigurationError("checkpoint_paths needs a state_directory to keep them in")

    device = torch.device(device)
    stored = image_tensor(images)
    targets = label_tensor(labels, stored).to(device)
    if start is not None:
        start.load_model(model)
    run = _run_digest(model, stored, targets, recipe, seed, masks, regulariser, start, stop, wanted)
    network = _Network(model, masks or {}, recipe, device)
    stash = None if state_directory is None else _Stash(Path(state_directory), run, wanted, log)

    state = stash.resume() if stash is not None else None
    if state is not None:
        state.restore(network.trained, network.optimizer)
    elif start is not None:
        state = start
        start.converted(network.back.take).restore(network.trained, network.optimizer)
    rows = list(state.rows) if state is not None else []
    epoch = state.epoch if state is not None else 0
    earlier = state.seconds if state is not None else 0.0
    facts = {**(metadata or {}), "seed": str(seed)}

    def take_checkpoint(at: int) -> None:
        if stash is not None and at in wanted.values():
            write_checkpoint(stash.checkpoint(at), network.full(), {**facts, "epoch": str(at)})

    started = saved = time.monotonic()
    epochs = _Epochs(network, stored, targets, recipe, seed, device, regulariser)
    with torch.random.fork_rng(devices=[] if device.type == "cpu" else None):
        while epoch < stop:
            began = time.monotonic()
            row = epochs.run(epoch, (lambda: take_checkpoint(0)) if epoch == 0 else None)
            epoch += 1
            row["validation_accuracy"] = epochs.validate(validation, epoch)
            rows.append(row)
            take_checkpoint(epoch)
            now = time.monotonic()
            log(_progress(row, recipe, stop, len(stored), now - began))
            if stash is not None and epoch < stop and now - saved >= save_every:
                stash.save(network, epoch, rows, earlier + now - started)
                saved = now
    network.full().eval()
    if final_state_path is not None:
        write_training_state(final_state_path, network.full_state(epoch, run, rows))
    if stash is not None:
        stash.deliver()
    return History(rows, earlier + time.monotonic() - started)


class _Network:
    """The caller's model, and what is trained in its place: itself, or itself without dead units.

    Units that masks remove entirely cannot influence the outputs, so training without them gives
    the same network for a fraction of the work.
    """

    def __init__(
        self,
        model: nn.Module,
        masks: Mapping[str, Tensor],
        recipe: Recipe,
        device: torch.device,
    ) -> None:
        self._model = model.to(device)
        apply_masks(model, masks)
        self.trained, kept, self.back = (
            compact(model, masks) if masks else (model, {}, Compaction({}))
        )
        self.trained.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        parameters = dict(self.trained.named_parameters())
        removed = removed_entries(self.trained, kept)
        self._removed = [(parameters[name], entries) for name, entries in removed.items()]
        self.optimizer = torch.optim.Adam(
            parameters.values(), recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
        )

    def update(self, loss: Tensor) -> None:
        """Take one step of the optimiser; what masks remove stays exactly zero."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        with torch.no_grad():
            for parameter, entries in self._removed:
                parameter.masked_fill_(entries, 0.0)

    def full(self) -> nn.Module:
        """Return the caller's model with the trained values."""
        if self.trained is not self._model:
            self.back.restore(self._model, self.trained)
        return self._model

    def full_state(self, epoch: int, run: str, rows: list[dict[str, Any]]) -> TrainingState:
        """Return the state of the caller's model; removed units have no momentum."""
        shapes = self._model.state_dict()

        def expand(name: str, part: Tensor) -> Tensor:
            full = torch.zeros_like(shapes[name])
            self.back.put(name, full, part)
            return full

        state = capture(self.trained, self.optimizer, epoch, run, rows).converted(expand)
        return state.with_model(self.full())


class _Stash:
    """The directory from which a killed run resumes: its state and the checkpoints so far."""

    def __init__(
        self, directory: Path, run: str, wanted: Mapping[Path, int], log: Callable[[str], None]
    ) -> None:
        self._directory = directory
        self._state = directory / "state.safetensors"
        self._run = run
        self._wanted = wanted
        self._log = log

    def checkpoint(self, epoch: int) -> Path:
        """Return where the checkpoint after `epoch` epochs is kept."""
        return self._directory / f"checkpoint{epoch}.safetensors"

    def resume(self) -> TrainingState | None:
        """Return the state of this very run, or None (with a log line) where it is unusable."""
        if not self._state.exists():
            return None
        try:
            state = read_training_state(self._state)
        except DataError as error:
            self._log(f"starting anew: {error}")
            return None
        if state.digest != self._run:
            self._log(f"starting anew: {self._state} is of another recipe, seed, data or code")
            return None
        due = [epoch for epoch in self._wanted.values() if epoch <= state.epoch]
        if not all(self.checkpoint(epoch).exists() for epoch in due):
            self._log(f"starting anew: {self._directory} lacks checkpoints")
            return None
        self._log(f"resuming after epoch {state.epoch}")
        return state

    def save(
        self, network: _Network, epoch: int, rows: list[dict[str, Any]], seconds: float
    ) -> None:
        """Write the state from which the next call goes on."""
        state = capture(network.trained, network.optimizer, epoch, self._run, rows, seconds)
        write_training_state(self._state, state)

    def deliver(self) -> None:
        """Copy every checkpoint to its place, then remove what the stash holds."""
        for path, epoch in self._wanted.items():
            with atomic_path(path) as temporary:
                shutil.copyfile(self.checkpoint(epoch), temporary)
        self._state.unlink(missing_ok=True)
        for epoch in self._wanted.values():
            self.checkpoint(epoch).unlink(missing_ok=True)
        if self._directory.is_dir() and not any(self._directory.iterdir()):
            self._directory.rmdir()


class _Epochs:
    """Runs single epochs; holds what stays the same from one to the next."""

    def __init__(
        self,
        network: _Network,
        images: Tensor,
        targets: Tensor,
        recipe: Recipe,
        seed: int,
        device: torch.device,
        regulariser: Regulariser | None,
    ) -> None:
        self.network = network
        self.model = network.trained
        self.forward = training_forward(self.model)
        self.recipe = recipe
        self.seed = seed
        self.device = device
        self.regulariser = regulariser
        self.targets = targets
        # Without augmentation the inputs are the same in every epoch, so they are made once.
        self.images = images.to(device)
        if recipe.augmentation == "none":
            self.images = normalise(self.images)

    def run(self, epoch: int, after_first_update: Callable[[], None] | None) -> dict[str, Any]:
        """Train one epoch, counted from 0, and return its row."""
        torch.manual_seed(derive_seed(self.seed, "dropout", epoch))
        rate = self.recipe.learning_rate_at(epoch)
        for group in self.network.optimizer.param_groups:
            group["lr"] = rate
        self.model.train()
        losses, sizes = [], []
        correct = torch.zeros((), dtype=torch.int64, device=self.device)
        for number, (inputs, targets) in enumerate(self._batches(epoch)):
            logits = self.forward(inputs)
            loss = functional.cross_entropy(logits, targets)
            total = loss if self.regulariser is None else loss + self.regulariser(self.model)
            if self.device.type == "cpu" and not bool(torch.isfinite(total)):
                raise _not_finite(epoch, number, rate)
            self.network.update(total)
            losses.append(loss.detach())
            sizes.append(len(targets))
            correct += (logits.detach().argmax(dim=1) == targets).sum()
            if number == 0 and after_first_update is not None:
                after_first_update()
        per_batch = torch.stack(losses).double()
        # On a GPU, asking after every batch would stall it; one question per epoch does not.
        failed = (~torch.isfinite(per_batch)).nonzero().flatten()
        if len(failed):
            raise _not_finite(epoch, int(failed[0]), rate)
        weights = torch.tensor(sizes, dtype=torch.float64, device=self.device)
        return {
            "epoch": epoch + 1,
            "learning_rate": rate,
            "loss": float((per_batch * weights).sum() / weights.sum()),
            "train_accuracy": int(correct) / sum(sizes),
        }

    def validate(self, validation: tuple[Images, Images] | None, epoch: int) -> float | None:
        """Return the accuracy on validation images after an epoch, as the recipe evaluates."""
        if validation is None:
            return None
        if self.recipe.evaluation == "eval":
            return evaluate(self.model, *validation, device=self.device)
        torch.manual_seed(derive_seed(self.seed, "validation dropout", epoch))
        self.model.train()
        correct = 0
        size = self.recipe.batch_size
        with torch.no_grad():
            for inputs, targets in normalised_batches(*validation, size, self.device):
                correct += int((self.model(inputs).argmax(dim=1) == targets).sum())
        return correct / len(validation[1])

    def _batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        count, size = len(self.targets), self.recipe.batch_size
        if self.recipe.shuffle:
            order = torch.randperm(count, generator=torch_generator(self.seed, "shuffle", epoch))
        else:
            order = torch.arange(count)
        order = order.to(self.device)
        draws = torch_generator(self.seed, "augmentation", epoch)
        for begin in range(0, count, size):
            chosen = order[begin : begin + size]
            if len(chosen) == 1 and count > 1:
                return  # batch norm has no variance to estimate from a single image
            inputs = as_maps(self.images.index_select(0, chosen))
            if self.recipe.augmentation == "thesis":
                drawn = draw_augmentation(len(chosen), draws)
                inputs = augment(inputs.to(torch.float32).div_(255), drawn)
                inputs = inputs.mul_(2).sub_(1).contiguous(memory_format=torch.channels_last)
            yield inputs, self.targets.index_select(0, chosen)


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


def _not_finite(epoch: int, batch: int, rate: float) -> TrainingError:
    return TrainingError(
        f"the loss is not finite in epoch {epoch + 1}, batch {batch + 1} (learning rate {rate:g}); "
        "nothing was written. Lower the learning rate, or the strength of the regulariser"
    )


def _run_digest(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    recipe: Recipe,
    seed: int,
    masks: Mapping[str, Tensor] | None,
    regulariser: Regulariser | None,
    start: TrainingState | None,
    stop: int,
    wanted: Mapping[Path, int],
) -> str:
    """Identify everything that the state of a run depends on, so that no other run resumes it."""
    facts = {
        "recipe": dataclasses.asdict(recipe),
        "seed": seed,
        "images": _content(images),
        "labels": _content(targets),
        "model": str(model),
        "weights": {name: _content(tensor) for name, tensor in model.state_dict().items()},
        "masks": {name: _content(mask) for name, mask in (masks or {}).items()},
        "regulariser": repr(regulariser),
        "start": None if start is None else [start.digest, start.epoch],
        "stop": stop,
        "checkpoints": sorted(set(wanted.values())),
        "code": code_of("training.loop"),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }
    return digest(facts)


def _content(tensor: Tensor) -> str:
    array = np.ascontiguousarray(tensor.detach().cpu().numpy())
    return hashlib.blake2b(array.data, digest_size=16).hexdigest()


def _progress(row: dict[str, Any], recipe: Recipe, stop: int, images: int, seconds: float) -> str:
    validation = row["validation_accuracy"]
    accuracy = "" if validation is None else f"  validation {validation:.4f}"
    left = round((stop - row["epoch"]) * seconds)
    return (
        f"epoch {row['epoch']}/{recipe.epochs}  loss {row['loss']:.4f}  "
        f"train {row['train_accuracy']:.4f}{accuracy}  {images / seconds:,.0f} images/s  "
        f"{left // 60}:{left % 60:02d} left"
    )


def _to_standard_error(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
