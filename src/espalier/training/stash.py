"""The directory from which a killed run resumes, and what identifies a run."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from espalier.errors import DataError
from espalier.files import atomic_path
from espalier.provenance import code_of, digest
from espalier.training.state import TrainingState, read_training_state, write_training_state


class Stash:
    """The state of a run and the checkpoints so far, until training is complete."""

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

    def save(self, state: TrainingState) -> None:
        """Write the state from which the next call goes on."""
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


def run_digest(facts: Mapping[str, Any]) -> str:
    """Identify everything that the state of a run depends on, so that no other run resumes it.

    Args:
        facts: what the caller knows of the run; tensors count by their content, objects by their
            class, its source file and their attributes.
    """
    here = {
        "code": code_of("training.loop"),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }
    return digest(_plain({**facts, **here}))


def content_digest(tensor: Tensor) -> list[Any]:
    """Return a checksum of a tensor's values, and its type and shape, as JSON values."""
    array = np.ascontiguousarray(tensor.detach().cpu().numpy())
    checksum = hashlib.blake2b(array.data, digest_size=16).hexdigest()
    return [checksum, str(array.dtype), list(array.shape)]


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, Tensor | np.ndarray):
        return content_digest(torch.as_tensor(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    attributes = {} if inspect.isroutine(value) else dict(getattr(value, "__dict__", {}))
    if dataclasses.is_dataclass(value):
        attributes |= {
            field.name: getattr(value, field.name) for field in dataclasses.fields(value)
        }
    if not attributes or isinstance(value, type):
        # Where this holds an address no later process resumes the run, which is slow but right.
        return repr(value)
    return [_class_identity(type(value)), _plain(attributes)]


def _class_identity(kind: type) -> list[str]:
    try:
        source = code_of(Path(inspect.getfile(kind)))
    except (TypeError, OSError):  # a builtin class, or one typed into a notebook
        source = ""
    return [f"{kind.__module__}.{kind.__qualname__}", source]
