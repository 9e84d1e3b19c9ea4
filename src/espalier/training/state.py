"""What training needs to go on where it stopped: weights, Adam's moments, epoch and history."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from espalier.errors import DataError
from espalier.training.checkpoints import load_tensors, read_tensors, write_tensors

_MODEL, _FIRST, _SECOND, _STEPS = "model.", "adam.first.", "adam.second.", "adam.steps"


@dataclass(frozen=True)
class TrainingState:
    """A point between two epochs.

    Attributes:
        tensors: model and optimiser, as in the file.
        epoch: epochs done.
        digest: identifies the run that wrote the state.
        rows: the history so far.
        seconds: time spent so far, 0 where the file is to have equal bytes for equal runs.
        origin: the file, for messages.
    """

    tensors: Mapping[str, Tensor]
    epoch: int
    digest: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    origin: str = "training state"

    def load_model(self, model: nn.Module) -> None:
        """Copy the weights and buffers into a model.

        Raises:
            DataError: the state belongs to another model.
        """
        load_tensors(model, self.model_tensors(), self.origin)

    def model_tensors(self) -> dict[str, Tensor]:
        """Return the state dict of the model."""
        return {
            name.removeprefix(_MODEL): tensor
            for name, tensor in self.tensors.items()
            if name.startswith(_MODEL)
        }

    def restore(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Copy the state into a model of the same shape and its optimiser.

        Raises:
            DataError: the state belongs to another model.
        """
        self.load_model(model)
        for name, parameter in model.named_parameters():
            # The moments must have the memory layout of the parameter, or the sums would round
            # differently after a resume.
            optimizer.state[parameter] = {
                "step": self.tensors[_STEPS].clone(),
                "exp_avg": torch.zeros_like(parameter).copy_(self.tensors[_FIRST + name]),
                "exp_avg_sq": torch.zeros_like(parameter).copy_(self.tensors[_SECOND + name]),
            }

    def with_model(self, model: nn.Module) -> TrainingState:
        """Return the state with the weights and buffers of `model`."""
        own = {_MODEL + name: tensor for name, tensor in model.state_dict().items()}
        return dataclasses.replace(self, tensors={**self.tensors, **own})

    def converted(self, convert: Callable[[str, Tensor], Tensor]) -> TrainingState:
        """Return the state with `convert(name in the state dict, tensor)` for every tensor."""
        tensors = {
            name: tensor if name == _STEPS else convert(_bare_name(name), tensor)
            for name, tensor in self.tensors.items()
        }
        return dataclasses.replace(self, tensors=tensors)


def _bare_name(name: str) -> str:
    for prefix in (_MODEL, _FIRST, _SECOND):
        name = name.removeprefix(prefix)
    return name


def capture(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    epoch: int,
    digest: str,
    rows: list[dict[str, Any]],
    seconds: float = 0.0,
) -> TrainingState:
    """Return the state of a model and the Adam optimiser over all its parameters."""
    tensors = {_MODEL + name: tensor for name, tensor in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        moments = optimizer.state[parameter]
        tensors[_FIRST + name] = moments["exp_avg"]
        tensors[_SECOND + name] = moments["exp_avg_sq"]
        tensors[_STEPS] = moments["step"]
    tensors = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    return TrainingState(tensors, epoch, digest, rows, seconds)


def write_training_state(path: str | os.PathLike[str], state: TrainingState) -> None:
    """Write a state as safetensors, atomically."""
    facts = {
        "epoch": state.epoch,
        "digest": state.digest,
        "rows": state.rows,
        "seconds": state.seconds,
    }
    write_tensors(path, state.tensors, {"state": json.dumps(facts)})


def read_training_state(path: str | os.PathLike[str]) -> TrainingState:
    """Read a state written by `train(..., final_state_path=...)`.

    Raises:
        DataError: the file is missing or damaged, or is not a training state.
    """
    tensors, metadata = read_tensors(path)
    if "state" not in metadata:
        raise DataError(f"{path} is a checkpoint, not a training state: it has no optimiser")
    return TrainingState(tensors, origin=str(path), **json.loads(metadata["state"]))
