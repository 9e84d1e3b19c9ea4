"""Group Hoyer-Square, the regulariser that pushes whole units towards zero before pruning.

Source: Yang, Wen and Li (2020), DeepHoyer, equation 7, summed over output and input channels as
Petkov (2021), section 4.4, uses it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from espalier.errors import ConfigurationError
from espalier.pruning.contract import prunable_parameters


def group_hoyer_square(weight: Tensor) -> Tensor:
    """Return the group Hoyer-Square of one weight, a scalar that scaling the weight leaves alone.

    ((sum over output units of ||W_out||)^2 + (sum over input units of ||W_in||)^2) / ||W||^2

    Each of the two terms lies between 1 (one group holds everything) and the number of groups
    (all norms equal). A weight that is all zero gives 0.

    Args:
        weight: shape (out, in, ...); further axes belong to both kinds of group.
    """
    maps = weight.reshape(weight.shape[0], weight.shape[1], -1)
    # vector_norm has gradient 0 at 0, where the square root of a sum of squares has none.
    outputs = torch.linalg.vector_norm(maps, dim=(1, 2))
    inputs = torch.linalg.vector_norm(maps, dim=(0, 2))
    energy = outputs.square().sum()
    if not bool(energy > 0):
        return energy * 0.0
    return (outputs.sum().square() + inputs.sum().square()) / energy


@dataclass(frozen=True)
class GroupHoyerSquare:
    """The penalty `strength * sum over convolution and dense weights of group_hoyer_square`.

    The output layer counts; biases and normalisation do not.

    Attributes:
        strength: lambda, non-negative.
    """

    strength: float

    def __post_init__(self) -> None:
        if not self.strength >= 0:
            raise ConfigurationError(f"strength is {self.strength}; it must not be negative")

    def __call__(self, model: nn.Module) -> Tensor:
        """Return the penalty of a model as a differentiable scalar."""
        weights = prunable_parameters(model).values()
        return self.strength * torch.stack([group_hoyer_square(w) for w in weights]).sum()
