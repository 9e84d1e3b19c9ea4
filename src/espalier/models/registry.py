"""The registry: one module per model, found by its file and imported when it is built.

Models are listed nowhere, so that a new one changes no other file's code digest. This module does
not import torch, so that a workflow can check names without paying for it.
"""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espalier.errors import ConfigurationError, unknown_name
from espalier.extensions import is_extension, source_of
from espalier.seeds import derive_seed, torch_generator

if TYPE_CHECKING:
    from torch import nn

_NOT_MODELS = {
    "evaluation_mode",
    "extension_models",
    "fitting",
    "forward_check",
    "initialisation",
    "layers",
    "mlp",
    "registry",
    "residual_layers",
    "torchvision_models",
}


def names() -> list[str]:
    """Return the names of the fixed models; perceptrons, torchvision's and your own come on top."""
    modules = {module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)])}
    return sorted(modules - _NOT_MODELS)


def module_of(name: str) -> str:
    """Return what defines a model, without importing it: a dotted module name, or a file.

    Raises:
        ConfigurationError: no family has this name, or there is no such file or module.
        MissingDependencyError: a model of torchvision, and torchvision is not installed.
    """
    if name.startswith("torchvision:"):
        _import("torchvision_models").require_name(name)
        return "espalier.models.torchvision_models"
    if is_extension(name):
        return str(source_of(name))
    if name.startswith("mlp-"):
        return "espalier.models.mlp"
    if name not in names():
        raise unknown_name("model", name, [*names(), "mlp-784-256-10", "torchvision:resnet18"])
    return f"espalier.models.{name}"


def build(
    name: str,
    num_classes: int,
    input_shape: tuple[int, int, int],
    width: float = 1.0,
    seed: int | None = None,
    initialisation: str = "default",
    frozen_biases: bool = False,
) -> nn.Module:
    """Build a network with fresh weights; it maps images to logits.

    Args:
        name: one of `names()`; `mlp-<inputs>-<hidden>-...-<outputs>`; `torchvision:<classifier>`;
            or a function of your own by file or import path, `my_models.py:build`, called as
            `build(num_classes, input_shape)` (`espalier.models.extension_models`).
        num_classes: number of logits.
        input_shape: (channels, height, width) of one image.
        width: factor on the number of units of every hidden layer (rounded, at least one).
        seed: draws the weights from streams of its own and leaves torch's global generator as it
            was. None draws from the global generator.
        initialisation: "default" for what the layers of torch do, "kaiming_normal" for N(0, 2 /
            fan-in) weights and zero biases in every convolution and dense layer.
        frozen_biases: the biases of convolutions and dense layers are zero and are not trained.

    Returns:
        A `torch.nn.Module`; of this package's own, the chains are a `torch.nn.Sequential` of named
        layers, and every activation is a `nn.ReLU`.

    Raises:
        ConfigurationError: an unknown name, or a width, class count or layer size out of range.
        DataError: the model does not fit the image size.
    """
    home = module_of(name)
    module = _import("extension_models" if home.endswith(".py") else home.rpartition(".")[2])
    if num_classes < 2:
        raise ConfigurationError(f"num_classes is {num_classes}; a classifier needs two or more")
    if width <= 0:
        raise ConfigurationError(f"width is {width}; it multiplies the hidden units: give it > 0")
    if len(input_shape) != 3 or min(input_shape) < 1:
        raise ConfigurationError(
            f"input_shape is {tuple(input_shape)}; expected (channels, height, width), all >= 1"
        )
    arguments = (name, num_classes, tuple(input_shape), width)

    import torch

    from espalier.models.initialisation import freeze_biases, initialise

    if seed is None:
        model = module.build(*arguments)
        initialise(model, initialisation)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(seed, "initial weights"))
            model = module.build(*arguments)
        # A stream of its own: the draws do not depend on what the layers of torch draw first.
        initialise(model, initialisation, torch_generator(seed, "kaiming normal weights"))
    if frozen_biases:
        freeze_biases(model)
    return model


def _import(module: str) -> Any:
    return importlib.import_module(f"espalier.models.{module}")


def hidden_units(model: nn.Module) -> int:
    """Return the number of convolution channels and dense units before the output layer."""
    from torch import nn

    layers = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    return sum(layer.weight.shape[0] for layer in layers[:-1])
