"""Networks of the user's own: `my_models.py:build` or `my_package.my_module:build`.

The function is called as `build(num_classes, input_shape)`, where `input_shape` is (channels,
height, width), and returns an `nn.Module` from images to logits. If it has a parameter named
`width`, it is given the configured width as well.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from espalier.errors import ConfigurationError
from espalier.extensions import load_attribute
from espalier.models.forward_check import require_logits


def build(
    name: str, num_classes: int, input_shape: tuple[int, int, int], width: float
) -> nn.Module:
    """Build the network that a function of the user's own returns.

    Raises:
        ConfigurationError: no such file, module or function, a function that cannot be called so
            or does not return an `nn.Module`, or a width that it does not take.
        DataError: the network does not take the images.
    """
    factory = load_attribute(name)
    if not callable(factory):
        raise ConfigurationError(
            f"{name} is a {type(factory).__name__}, not a function (num_classes, input_shape)"
        )
    options = _options(name, factory, width)
    try:
        inspect.signature(factory).bind(num_classes, input_shape, **options)
    except TypeError as error:
        raise ConfigurationError(
            f"{name} cannot be called as (num_classes, input_shape): {error}"
        ) from error
    model = factory(num_classes, input_shape, **options)
    if not isinstance(model, nn.Module):
        raise ConfigurationError(
            f"{name} returned a {type(model).__name__}; expected a torch.nn.Module"
        )
    require_logits(name, model, num_classes, input_shape)
    return model


def _options(name: str, factory: Callable[..., Any], width: float) -> dict[str, float]:
    if "width" in inspect.signature(factory).parameters:
        return {"width": width}
    if width != 1:
        raise ConfigurationError(
            f"width is {width}, but {name} has no parameter named width; leave it at 1"
        )
    return {}
