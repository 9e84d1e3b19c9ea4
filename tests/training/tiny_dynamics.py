"""Two methods that rewire a network, in the two forms that the training loop must serve."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from espalier.pruning import prunable_parameters
from espalier.pruning.during import LiveTensors
from espalier.seeds import torch_generator


def random_masks(model: nn.Module, density: float = 0.4, seed: int = 5) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.rand(weight.shape, generator=generator) < density
        for name, weight in prunable_parameters(model).items()
    }


class Rewiring:
    """Drops the smallest fifth of each layer and grows as many elsewhere."""

    masks_momentum = True
    replaces_step = False

    def __init__(self, masks: Mapping[str, Tensor], period: int = 4, seed: int = 0) -> None:
        self.masks = dict(masks)
        self.period = period
        self.seed = seed

    def due(self, step: int) -> bool:
        return step % self.period == 0

    def update(self, step: int, tensors: LiveTensors) -> None:
        for name, mask in self.masks.items():
            weights = tensors.weights[name]
            assert not weights[~mask].any()
            count = int(mask.sum()) // 5
            order = torch.where(mask, weights.abs(), torch.inf).flatten().argsort(stable=True)
            kept = mask.flatten().clone()
            kept[order[:count]] = False
            appeal = self.appeal(step, name, tensors)
            order = torch.where(mask.flatten(), -torch.inf, appeal.flatten()).argsort(
                descending=True, stable=True
            )
            kept[order[:count]] = True
            self.masks[name] = kept.reshape(mask.shape)

    def appeal(self, step: int, name: str, tensors: LiveTensors) -> Tensor:
        raise NotImplementedError

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return dict(self.masks), {}

    def restore(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        self.masks = {name: tensors[name] for name in self.masks}


class ByGradient(Rewiring):
    """Grows where the dense gradient is largest, in place of the step (as RigL does)."""

    replaces_step = True

    def appeal(self, step: int, name: str, tensors: LiveTensors) -> Tensor:
        return tensors.gradients[name].abs()


class ByMomentum(Rewiring):
    """Grows where the momentum is largest, which is therefore not masked (as SNFS does).

    Remembers which weights were ever kept, and how often it rewired.
    """

    masks_momentum = False

    def __init__(self, masks: Mapping[str, Tensor], period: int = 4, seed: int = 0) -> None:
        super().__init__(masks, period, seed)
        self.ever = dict(self.masks)
        self.rewirings = 0

    def update(self, step: int, tensors: LiveTensors) -> None:
        super().update(step, tensors)
        self.ever = {name: self.ever[name] | mask for name, mask in self.masks.items()}
        self.rewirings += 1

    def appeal(self, step: int, name: str, tensors: LiveTensors) -> Tensor:
        noise = torch.rand(self.masks[name].shape, generator=torch_generator(self.seed, name, step))
        momenta = tensors.momenta.get(name)
        return noise if momenta is None else momenta.abs() + 1e-6 * noise

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        ever = {f"ever {name}": mask for name, mask in self.ever.items()}
        return {**self.masks, **ever}, {"rewirings": self.rewirings}

    def restore(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        super().restore(tensors, values)
        self.ever = {name: tensors[f"ever {name}"] for name in self.masks}
        self.rewirings = values["rewirings"]


def removed_values(model: nn.Module, masks: Mapping[str, Tensor]) -> Iterator[Tensor]:
    """Yield the values of the removed weights of each parameter."""
    for name, mask in masks.items():
        yield model.get_parameter(name).detach()[~mask]
