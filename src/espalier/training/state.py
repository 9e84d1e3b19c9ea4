"""What training needs to go on where it stopped: weights, moments, masks, epoch and history."""

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

_MODEL, _STEPS = "model.", "adam.steps"
# torch's name of each per-parameter tensor of an optimiser, and its prefix in the file.
_ADAM = {"exp_avg": "adam.first.", "exp_avg_sq": "adam.second."}
_SGD = {"momentum_buffer": "sgd.momentum."}
_MOMENTS = {**_ADAM, **_SGD}
_DYNAMICS, _MASK_HISTORY = "dynamics.", "mask_history."


@dataclass(frozen=True)
class TrainingState:
    """A point between two epochs.

    Attributes:
        tensors: model, optimiser, and what changes the masks, as in the file.
        epoch: epochs done.
        digest: identifies the run that wrote the state.
        rows: the history so far.
        seconds: time spent so far, 0 where the file is to have equal bytes for equal runs.
        dynamics: JSON values of what changes the masks, None where masks stay.
        origin: the file, for messages.
    """

    tensors: Mapping[str, Tensor]
    epoch: int
    digest: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    dynamics: dict[str, Any] | None = None
    origin: str = "training state"

    def load_model(self, model: nn.Module) -> None:
        """Copy the weights and buffers into a model.

        Raises:
            DataError: the state belongs to another model.
        """
        load_tensors(model, self.model_tensors(), self.origin)

    def model_tensors(self) -> dict[str, Tensor]:
        """Return the state dict of the model."""
        return self._below(_MODEL)

    def dynamics_tensors(self) -> dict[str, Tensor]:
        """Return the tensors of what changes the masks; none where masks stay."""
        return self._below(_DYNAMICS)

    def mask_history(self) -> dict[str, Tensor]:
        """Return the masks recorded so far; none where they are not recorded."""
        return self._below(_MASK_HISTORY)

    def restore(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Copy the state into a model of the same shape and its optimiser.

        Raises:
            DataError: the state belongs to another model or optimiser.
        """
        self.load_model(model)
        foreign = _ADAM if isinstance(optimizer, torch.optim.SGD) else _SGD
        if any(name.startswith(tuple(foreign.values())) for name in self.tensors):
            raise DataError(
                f"{self.origin} was written by another optimiser than "
                f"{type(optimizer).__name__}; go on with the recipe that it was trained with"
            )
        for name, parameter in model.named_parameters():
            # The moments must have the memory layout of the parameter, or the sums would round
            # differently after a resume.
            moments = {
                key: torch.zeros_like(parameter).copy_(self.tensors[prefix + name])
                for key, prefix in _MOMENTS.items()
                if prefix + name in self.tensors
            }
            if "exp_avg" in moments:
                moments["step"] = self.tensors[_STEPS].clone().to(parameter.device)
            if moments:
                optimizer.state[parameter] = moments

    def with_model(self, model: nn.Module) -> TrainingState:
        """Return the state with the weights and buffers of `model`."""
        return self._with(_MODEL, model.state_dict())

    def with_dynamics(
        self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]
    ) -> TrainingState:
        """Return the state with a copy of what changes the masks."""
        copies = {name: tensor.detach().clone() for name, tensor in tensors.items()}
        return dataclasses.replace(self._with(_DYNAMICS, copies), dynamics=dict(values))

    def with_mask_history(self, tensors: Mapping[str, Tensor]) -> TrainingState:
        """Return the state with the masks recorded so far."""
        return self._with(_MASK_HISTORY, tensors)

    def converted(self, convert: Callable[[str, Tensor], Tensor]) -> TrainingState:
        """Return the state with `convert(name in the state dict, tensor)` of model and moments."""
        tensors = dict(self.tensors)
        for name, tensor in tensors.items():
            for prefix in (_MODEL, *_MOMENTS.values()):
                if name.startswith(prefix):
                    tensors[name] = convert(name.removeprefix(prefix), tensor)
        return dataclasses.replace(self, tensors=tensors)

    def _below(self, prefix: str) -> dict[str, Tensor]:
        return {
            name.removeprefix(prefix): tensor
            for name, tensor in self.tensors.items()
            if name.startswith(prefix)
        }

    def _with(self, prefix: str, tensors: Mapping[str, Tensor]) -> TrainingState:
        own = {prefix + name: tensor for name, tensor in tensors.items()}
        return dataclasses.replace(self, tensors={**self.tensors, **own})


def capture(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    epoch: int,
    digest: str,
    rows: list[dict[str, Any]],
    seconds: float = 0.0,
) -> TrainingState:
    """Return the state of a model and its optimiser, Adam or SGD.

    A parameter that was never updated, because it is frozen, has no moments.
    """
    tensors = {_MODEL + name: tensor for name, tensor in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        values = optimizer.state.get(parameter, {})
        for key, prefix in _MOMENTS.items():
            if values.get(key) is not None:
                tensors[prefix + name] = values[key]
        if "step" in values:
            tensors[_STEPS] = values["step"]
    tensors = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    return TrainingState(tensors, epoch, digest, list(rows), seconds)


def first_moments(optimizer: torch.optim.Optimizer, parameter: Tensor) -> Tensor | None:
    """Return SGD's momentum or Adam's first moment of a parameter; None before its first step."""
    values = optimizer.state.get(parameter, {})
    moments = values.get("momentum_buffer")
    return values.get("exp_avg") if moments is None else moments


def write_training_state(path: str | os.PathLike[str], state: TrainingState) -> None:
    """Write a state as safetensors, atomically."""
    facts: dict[str, Any] = {
        "epoch": state.epoch,
        "digest": state.digest,
        "rows": state.rows,
        "seconds": state.seconds,
    }
    if state.dynamics is not None:
        facts["dynamics"] = state.dynamics
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
