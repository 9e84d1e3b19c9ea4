"""The contract of every pruner: a pure function from (model, data, sparsity, seed) to masks.

An algorithm is one module: of `espalier.pruning`, named as the algorithm, or of the user's own,
named by import path or file. It defines

    WHEN = "before"                         # or "during" or "after" training

    @dataclass(frozen=True)
    class Options: ...                      # every option with its default

    def scores(request: Request, options: Options) -> dict[str, Tensor]
    def prune(request: Request, sparsity: float, options: Options) -> dict[str, Tensor]

where `scores` may be left out. The registry finds it by these names. Names, options, sparsity and
the result are checked here, and the algorithm works on a copy of the model, so that no scoring pass
can change the weights or the batch-norm statistics of the network that is trained.

An algorithm that acts during training also defines

    def dynamics(masks, sparsity, options, horizon, seed) -> espalier.pruning.during.Dynamics

whose masks the training loop follows. Its `prune` gives the masks of the first step where the
method has a topology from the start, and those of the last for the network as it stands where it
removes weights bit by bit.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from espalier.errors import ConfigurationError, EspalierError, unknown_name
from espalier.pruning.during import Dynamics, Horizon
from espalier.pruning.registry import load

PRUNABLE_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


@dataclass(frozen=True)
class Request:
    """What an algorithm is given.

    Attributes:
        model: a private copy; the algorithm may change it at will.
        parameters: the prunable weights of that copy, in module order.
        batches: iterable of (inputs, labels); algorithms that need no data ignore it.
        seed: root of every random draw.
    """

    model: nn.Module
    parameters: Mapping[str, nn.Parameter]
    batches: Iterable[tuple[Tensor, Tensor]]
    seed: int


def prunable_parameters(model: nn.Module, exclude: Collection[str] = ()) -> dict[str, nn.Parameter]:
    """Return the weights of every convolution and dense layer, in the order of `named_modules`.

    First, last and shortcut layers are in the set; biases and normalisation parameters are not.

    Args:
        model: any network made of convolution, dense and parameterless or normalising layers.
        exclude: names of parameters to leave out, for example {"output.weight"}.

    Raises:
        ConfigurationError: an excluded name does not exist; a layer of an unknown type holds a
            weight matrix, which must not be skipped without a word; a weight is parametrised, or
            shared by two layers.
    """
    found: dict[str, nn.Parameter] = {}
    unknown: dict[str, str] = {}
    for module_name, module in model.named_modules():
        prefix = f"{module_name}." if module_name else ""
        if isinstance(module, PRUNABLE_LAYERS):
            if not isinstance(module._parameters.get("weight"), nn.Parameter):
                raise ConfigurationError(
                    f"{prefix}weight is computed from other tensors (weight norm, a "
                    "parametrisation or a mask of torch.nn.utils.prune), which no pruner handles; "
                    "remove that from the layer first"
                )
            found[f"{prefix}weight"] = module.get_parameter("weight")
            continue
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.dim() > 1:
                unknown[f"{prefix}{name}"] = type(module).__name__
    for name in exclude:
        if name not in found and name not in unknown:
            raise unknown_name("parameter in exclude", name, [*found, *unknown])
    for name, kind in unknown.items():
        if name not in exclude:
            raise ConfigurationError(
                f"{name} belongs to a {kind}, which no pruner handles; "
                "exclude it by name to leave it dense"
            )
    chosen = {name: weight for name, weight in found.items() if name not in exclude}
    _require_unshared(model, chosen)
    return chosen


def _require_unshared(model: nn.Module, weights: Mapping[str, nn.Parameter]) -> None:
    owners: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        owners.setdefault(id(parameter), []).append(name)
    for name, weight in weights.items():
        names = owners[id(weight)]
        if len(names) > 1:
            raise ConfigurationError(
                f"{' and '.join(names)} are one shared weight, which cannot have a mask of each "
                f"layer's own; untie them, or exclude {name} to leave it dense"
            )


def prune(
    name: str,
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    sparsity: float,
    seed: int = 0,
    *,
    exclude: Collection[str] = (),
    **options: Any,
) -> dict[str, Tensor]:
    """Return a boolean mask (True = kept) for every prunable parameter; the model is not changed.

    Args:
        name: algorithm, one of `espalier.pruning.names()`, or import path or file of your own.
        model: the network as it is at the moment of pruning.
        batches: iterable of (inputs, labels); `()` for algorithms that need no data.
        sparsity: share to remove, in [0, 1); of weights, or of units for a unit-level algorithm.
        seed: root of the algorithm's random draws.
        exclude: parameter names that stay dense and get no mask.
        **options: fields of the algorithm's `Options`.

    Raises:
        ConfigurationError: unknown name or option, or sparsity outside [0, 1).
    """
    module, chosen = _algorithm(name, options)
    if not 0 <= sparsity < 1:
        raise ConfigurationError(f"sparsity is {sparsity}; it is the share removed, in [0, 1)")
    request = _request(model, batches, seed, exclude)
    masks = module.prune(request, float(sparsity), chosen)
    _check_shapes(name, masks, request.parameters)
    return {key: masks[key].to("cpu", torch.bool) for key in request.parameters}


def scores(
    name: str,
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    seed: int = 0,
    exclude: Collection[str] = (),
    **options: Any,
) -> dict[str, Tensor]:
    """Return the saliency of every prunable weight, shaped as the weight; low scores go first.

    Args, errors: as in `prune`.

    Raises:
        ConfigurationError: unknown name or option, or an algorithm that ranks nothing.
    """
    module, chosen = _algorithm(name, options)
    if not hasattr(module, "scores"):
        raise ConfigurationError(f"pruner {name!r} does not rank weights; it has no scores")
    request = _request(model, batches, seed, exclude)
    values = module.scores(request, chosen)
    _check_shapes(name, values, request.parameters)
    return {key: values[key].detach().cpu() for key in request.parameters}


def dynamics(
    name: str,
    masks: Mapping[str, Tensor],
    sparsity: float,
    horizon: Horizon,
    seed: int = 0,
    **options: Any,
) -> Dynamics:
    """Return what changes the masks while a network is trained, by an algorithm that does.

    Args:
        name, sparsity, seed, options: as in `prune`.
        masks: the masks that `prune` returned.
        horizon: how long the network is trained.

    Raises:
        ConfigurationError: unknown name or option, or an algorithm with masks that stay.
    """
    module, chosen = _algorithm(name, options)
    if not hasattr(module, "dynamics"):
        raise ConfigurationError(f"pruner {name!r} does not change masks during training")
    return module.dynamics(dict(masks), float(sparsity), chosen, horizon, seed)


def _algorithm(name: str, options: Mapping[str, Any]) -> tuple[ModuleType, Any]:
    module = load(name)
    known = [field.name for field in dataclasses.fields(module.Options)]
    for key in options:
        if key not in known:
            raise unknown_name(f"option of pruner {name!r}", key, known)
    return module, module.Options(**options)


def _request(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    seed: int,
    exclude: Collection[str],
) -> Request:
    private = copy.deepcopy(model)
    return Request(private, prunable_parameters(private, exclude), batches, seed)


def _check_shapes(
    name: str, values: Mapping[str, Tensor], parameters: Mapping[str, Tensor]
) -> None:
    expected = {key: tuple(weight.shape) for key, weight in parameters.items()}
    returned = {key: tuple(value.shape) for key, value in values.items()}
    if expected != returned:
        raise EspalierError(f"pruner {name!r} returned shapes {returned}, expected {expected}")
