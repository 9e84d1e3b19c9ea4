"""The registry: one module per model, found by its file and imported when it is built.

Models are listed nowhere, so that a new one changes no other file's code digest. This module does
not import torch, so that a workflow can check names without paying for it.
"""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from typing import TYPE_CHECKING

from espalier.errors import ConfigurationError, unknown_name
from espalier.seeds import derive_seed

if TYPE_CHECKING:
    from torch import nn

_NOT_MODELS = {"fitting", "layers", "mlp", "registry"}


def names() -> list[str]:
    """Return the names of the fixed models; `mlp-<inputs>-<hidden>-...-<outputs>` comes on top."""
    modules = {module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)])}
    return sorted(modules - _NOT_MODELS)


def module_of(name: str) -> str:
    """Return the dotted name of the module that defines a model, without importing it.

    Raises:
        ConfigurationError: no family has this name.
    """
    if name.startswith("mlp-"):
        return "espalier.models.mlp"
    if name not in names():
        raise unknown_name("model", name, [*names(), "mlp-784-256-10"])
    return f"espalier.models.{name}"


def build(
    name: str,
    num_classes: int,
    input_shape: tuple[int, int, int],
    width: float = 1.0,
    seed: int | None = None,
) -> nn.Module:
    """Build a network with fresh weights; it maps images to logits.

    Args:
        name: `small_cnn`, `medium_cnn`, `conv6_thesis` or `mlp-<inputs>-<hidden>-...-<outputs>`.
        num_classes: number of logits.
        input_shape: (channels, height, width) of one image.
        width: factor on the number of units of every hidden layer (rounded, at least one).
        seed: draws the weights from the stream (seed, "initial weights") and leaves torch's global
            generator as it was. None draws from the global generator.

    Returns:
        A `torch.nn.Sequential` whose children are named layers, every activation a `nn.ReLU`.

    Raises:
        ConfigurationError: an unknown name, or a width, class count or layer size out of range.
        DataError: the model does not fit the image size.
    """
    module = importlib.import_module(module_of(name))
    if num_classes < 2:
        raise ConfigurationError(f"num_classes is {num_classes}; a classifier needs two or more")
    if width <= 0:
        raise ConfigurationError(f"width is {width}; it multiplies the hidden units: give it > 0")
    if len(input_shape) != 3 or min(input_shape) < 1:
        raise ConfigurationError(
            f"input_shape is {tuple(input_shape)}; expected (channels, height, width), all >= 1"
        )
    if seed is None:
        return module.build(name, num_classes, tuple(input_shape), width)

    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "initial weights"))
        return module.build(name, num_classes, tuple(input_shape), width)


def hidden_units(model: nn.Module) -> int:
    """Return the number of convolution channels and dense units before the output layer."""
    from torch import nn

    layers = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    return sum(layer.weight.shape[0] for layer in layers[:-1])
