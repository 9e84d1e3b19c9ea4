"""What a pruner that acts during training gives the training loop, and what the loop gives it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor


@dataclass(frozen=True)
class Horizon:
    """How long a network is trained.

    Attributes:
        steps: optimiser steps in all.
        steps_per_epoch: steps of one pass over the training images.
    """

    steps: int
    steps_per_epoch: int


@dataclass(frozen=True)
class LiveTensors:
    """The tensors of the network in training, per prunable parameter; changed in place.

    Attributes:
        weights: values of the parameters; removed ones are zero.
        gradients: dense gradients of this step's loss, removed weights included.
        momenta: the optimiser's first moments (SGD's momentum buffer, Adam's exp_avg); empty
            before the first step or without momentum.
    """

    weights: Mapping[str, Tensor]
    gradients: Mapping[str, Tensor]
    momenta: Mapping[str, Tensor]


class Dynamics(Protocol):
    """Masks that change while one network is trained.

    After every step the loop sets removed weights to zero, and their momenta too where
    `masks_momentum` says so. Draws come from named streams of (seed, step), so that the state
    below is all that a resumed run needs.
    """

    masks: dict[str, Tensor]
    masks_momentum: bool
    replaces_step: bool

    def due(self, step: int) -> bool:
        """Return whether the masks change at step `step`, counted from 0."""
        ...

    def update(self, step: int, tensors: LiveTensors) -> None:
        """Change the masks, and weights and momenta where the method says so.

        Called after the backward pass: after the optimiser's step, or instead of it where
        `replaces_step` is true.
        """
        ...

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the tensors and the JSON values that `restore` needs."""
        ...

    def restore(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Go on from a state."""
        ...
