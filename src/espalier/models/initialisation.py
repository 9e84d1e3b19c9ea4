"""How the weights of a network are drawn, and biases that stay zero."""

from __future__ import annotations

import torch
from torch import nn

from espalier.errors import unknown_name

INITIALISATIONS = ("default", "kaiming_normal")

_WEIGHTED = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


def initialise(
    model: nn.Module, initialisation: str, generator: torch.Generator | None = None
) -> None:
    """Draw the weights of every convolution and dense layer anew, in place.

    Args:
        model: any network; batch norm is left as it is.
        initialisation: "default" changes nothing. "kaiming_normal" draws from N(0, 2 / fan-in),
            layer by layer in the order of `named_modules`, and sets the biases to zero (He et al.,
            2015, equation 10). The fan-in of a layer is the number of weights of one of its units.
        generator: source of the draws; torch's global generator if None.

    Raises:
        ConfigurationError: an unknown initialisation.
    """
    if initialisation not in INITIALISATIONS:
        raise unknown_name("initialisation", initialisation, INITIALISATIONS)
    if initialisation == "default":
        return
    for layer in model.modules():
        if isinstance(layer, _WEIGHTED):
            nn.init.kaiming_normal_(layer.weight, generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def freeze_biases(model: nn.Module) -> None:
    """Set the bias of every convolution and dense layer to zero and exempt it from training.

    Batch norm keeps its trainable shift. Source: the public code of Cunegatti et al. (2024).
    """
    for layer in model.modules():
        if isinstance(layer, _WEIGHTED) and layer.bias is not None:
            nn.init.zeros_(layer.bias)
            layer.bias.requires_grad_(False)
