"""The network in training: its optimiser, its masks, and the step that keeps removed weights zero.

Masks act on the weights after every step, not on the gradients or in the forward pass. So the
gradients are dense, which methods that regrow weights need, and a removed weight is exactly zero
in memory whenever anything outside a step can look at it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from espalier.errors import DataError, EspalierError, TrainingError, unknown_name
from espalier.pruning.compaction import Compaction, compact_for_training
from espalier.pruning.during import Dynamics, Horizon, LiveTensors
from espalier.pruning.masks import apply_masks, removed_entries
from espalier.training.recipe import Recipe
from espalier.training.state import TrainingState, capture, first_moments


def horizon(recipe: Recipe, images: int) -> Horizon:
    """Return how long a recipe trains on `images` training images, in steps."""
    steps = recipe.steps_per_epoch(images)
    return Horizon(steps=recipe.epochs * steps, steps_per_epoch=steps)


def build_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Return the recipe's optimiser over all parameters; frozen ones are never updated."""
    # The fused forms leave the gradients as they are; others add the momentum into them.
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            model.parameters(),
            recipe.learning_rate,
            recipe.momentum,
            weight_decay=recipe.weight_decay,
            nesterov=recipe.nesterov,
            fused=True,
        )
    return torch.optim.Adam(
        model.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
    )


class SparseNetwork:
    """The caller's model, and what is trained in its place: itself, or itself without dead units.

    Units that fixed masks remove entirely cannot influence the outputs, so training without them
    gives the same network for a fraction of the work. Where masks change, units may come back,
    and the whole model is trained.

    Args:
        model: the caller's model; it moves to `device`, and its removed weights become zero.
        recipe: for the optimiser.
        device: where to train.
        masks: fixed masks, or none.
        dynamics: what changes the masks, in place of fixed ones.

    Raises:
        DataError: masks do not fit the model.
    """

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe,
        device: torch.device,
        masks: Mapping[str, Tensor] | None = None,
        dynamics: Dynamics | None = None,
    ) -> None:
        self._model = self.trained = model.to(device)
        self._back = Compaction({})
        self._fixed = dict(masks or {})
        self._dynamics = dynamics
        kept: Mapping[str, Tensor] = {}
        if self._fixed:
            apply_masks(model, self._fixed)
            self.trained, kept, self._back = compact_for_training(model, self._fixed)
        self.trained.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._parameters = dict(self.trained.named_parameters())
        self.optimizer = build_optimizer(self.trained, recipe)
        self._masks_momentum = dynamics is None or dynamics.masks_momentum
        if dynamics is None:
            removed = removed_entries(self.trained, kept)
        else:
            removed = self._removed_weights(dynamics, DataError)
        # In the parameter's memory layout the two are traversed together.
        self._removed = {
            name: torch.empty_like(self._parameters[name], dtype=torch.bool).copy_(entries)
            for name, entries in removed.items()
        }
        self._zero_removed()

    @property
    def masks(self) -> dict[str, Tensor]:
        """The masks in force, by parameter of the caller's model, on the CPU; {} if dense."""
        masks = self._fixed if self._dynamics is None else self._dynamics.masks
        return {name: mask.detach().to("cpu", copy=True) for name, mask in masks.items()}

    def update(self, loss: Tensor, step: int) -> None:
        """Take step `step`, counted from 0 over the whole run.

        Raises:
            TrainingError: the masks after a change do not fit the model.
        """
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        dynamics = self._dynamics
        if dynamics is None or not dynamics.due(step):
            self.optimizer.step()
        else:
            if not dynamics.replaces_step:
                self.optimizer.step()
                self._zero_removed()
            with torch.no_grad():
                dynamics.update(step, self._live_tensors(dynamics))
            self._follow(dynamics)
        self._zero_removed()

    def start_from(self, state: TrainingState) -> None:
        """Go on from an earlier stage: a state of the caller's model, with or without masks.

        Raises:
            DataError: the state belongs to another model, optimiser or method.
        """
        self.resume(state.converted(self._back.take))

    def resume(self, state: TrainingState) -> None:
        """Go on from a state that `state` of this very network returned.

        Raises:
            DataError: the state belongs to another model, optimiser or method.
        """
        state.restore(self.trained, self.optimizer)
        if self._dynamics is not None and state.dynamics is not None:
            self._dynamics.restore(state.dynamics_tensors(), state.dynamics)
            self._follow(self._dynamics)
        self._zero_removed()

    def state(
        self, epoch: int, run: str, rows: list[dict[str, Any]], seconds: float = 0.0
    ) -> TrainingState:
        """Return the state of what is trained."""
        state = capture(self.trained, self.optimizer, epoch, run, rows, seconds)
        return state if self._dynamics is None else state.with_dynamics(*self._dynamics.state())

    def full_state(self, epoch: int, run: str, rows: list[dict[str, Any]]) -> TrainingState:
        """Return the state of the caller's model; removed units have no momentum."""
        shapes = self._model.state_dict()

        def expand(name: str, part: Tensor) -> Tensor:
            full = torch.zeros_like(shapes[name])
            self._back.put(name, full, part)
            return full

        return self.state(epoch, run, rows).converted(expand).with_model(self.full())

    def full(self) -> nn.Module:
        """Return the caller's model with the trained values."""
        if self.trained is not self._model:
            self._back.restore(self._model, self.trained)
        return self._model

    def _zero_removed(self) -> None:
        with torch.no_grad():
            for name, entries in self._removed.items():
                parameter = self._parameters[name]
                parameter.masked_fill_(entries, 0.0)
                moments = first_moments(self.optimizer, parameter)
                if moments is not None and self._masks_momentum:
                    moments.masked_fill_(entries, 0.0)

    def _live_tensors(self, dynamics: Dynamics) -> LiveTensors:
        weights, gradients, momenta = {}, {}, {}
        for name in dynamics.masks:
            parameter = self._parameters[name]
            weights[name] = parameter.detach()
            gradients[name] = (
                torch.zeros_like(weights[name]) if parameter.grad is None else parameter.grad
            )
            moments = first_moments(self.optimizer, parameter)
            if moments is not None:
                momenta[name] = moments
        return LiveTensors(weights, gradients, momenta)

    def _follow(self, dynamics: Dynamics) -> None:
        """Take over changed masks."""
        if dynamics.masks.keys() != self._removed.keys():
            raise TrainingError(
                f"{type(dynamics).__name__} changed which parameters have a mask: "
                f"{sorted(dynamics.masks.keys() ^ self._removed.keys())}"
            )
        for name, entries in self._removed_weights(dynamics, TrainingError).items():
            self._removed[name].copy_(entries)

    def _removed_weights(self, dynamics: Dynamics, error: type[EspalierError]) -> dict[str, Tensor]:
        """Check the masks, move them to their parameters, and return the removed weights."""
        method = type(dynamics).__name__
        for name, mask in dynamics.masks.items():
            if name not in self._parameters:
                raise unknown_name(f"parameter in masks of {method}", name, self._parameters, error)
            parameter = self._parameters[name]
            if mask.shape != parameter.shape or mask.dtype != torch.bool:
                raise error(
                    f"{method}: the mask of {name} has shape {tuple(mask.shape)} and type "
                    f"{mask.dtype}, the parameter shape {tuple(parameter.shape)}; a mask is "
                    "boolean and shaped as its parameter"
                )
            dynamics.masks[name] = mask.to(parameter.device)
        return {name: ~mask for name, mask in dynamics.masks.items()}
