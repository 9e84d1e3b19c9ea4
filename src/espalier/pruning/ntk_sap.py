"""NTK-SAP: the weights that the network's function is sensitive to, whatever their values are.

With weights w, masks m, Gaussian noise N and Gaussian inputs x the score of a weight is

    | d/dm  sum over x of || f(x; w m) - f(x; (w + epsilon N) m) ||^2 |

summed, before the absolute value, over batches of inputs. The difference stands for the trace of
the neural tangent kernel. Weights, noise and inputs are drawn anew for every batch, so that neither
the data nor the values of the weights count, only the architecture and the masks. Layers are pruned
together, in epochs of an exponential schedule; a weight that is gone stays away. The network that
is trained keeps its own weights.

Source: Wang, Li and Sun (2023), NTK-SAP: Improving neural network pruning by aligning training
dynamics, equation 6 and algorithm 1. As in its authors' code, batch-norm scale and shift are 1 and
0, and batch-norm statistics come from one pass over the same inputs.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from espalier.errors import ConfigurationError
from espalier.pruning.contract import PRUNABLE_LAYERS, Request
from espalier.pruning.option_checks import require_at_least, require_one_of
from espalier.pruning.saliency import (
    all_batches,
    exponential_sparsities,
    full_masks,
    prepare,
    select_among_kept,
)
from espalier.pruning.selection import RULES, require_finite
from espalier.seeds import torch_generator

WHEN = "before"


@dataclass(frozen=True)
class Options:
    """Options of NTK-SAP; the defaults are those of the authors' CIFAR-10 runs of ResNet-20.

    Attributes:
        epochs: scoring and pruning steps of the exponential schedule.
        resamples: how often the batches of an epoch are drawn.
        epsilon: scale of the perturbation of the weights.
        samples_per_class: inputs per class and resample.
        batch_size: inputs of one draw of weights.
        num_batches: full batches per resample, instead of `samples_per_class` inputs per class.
        input_shape: shape of one input; () takes it from the first batch of the data.
        counts: counting rule of every epoch; the original's is "above_kth_smallest".
    """

    epochs: int = 20
    resamples: int = 5
    epsilon: float = 0.01
    samples_per_class: int = 10
    batch_size: int = 256
    num_batches: int | None = None
    input_shape: Sequence[int] = ()
    counts: str = "exact"

    def __post_init__(self) -> None:
        for name in ("epochs", "resamples", "samples_per_class", "batch_size"):
            require_at_least(name, getattr(self, name), 1)
        if self.num_batches is not None:
            require_at_least("num_batches", self.num_batches, 1)
        if not self.epsilon > 0:
            raise ConfigurationError(f"epsilon is {self.epsilon}; it must be positive")
        for size in self.input_shape:
            require_at_least("input_shape", size, 1)
        require_one_of("counts", self.counts, RULES)


@torch.enable_grad()
def mask_gradients(
    model: nn.Module,
    weights: Mapping[str, Tensor],
    masks: Mapping[str, Tensor],
    inputs: Tensor,
    noise: Mapping[str, Tensor],
    epsilon: float = 0.01,
) -> dict[str, Tensor]:
    """Return d/dm sum_x ||f(x; w m) - f(x; (w + epsilon N) m)||^2 for one draw of everything.

    A pure function: the model is not changed, and nothing is drawn.

    Args:
        model: the network; its other parameters are used as they are.
        weights: values of the convolution and dense weights.
        masks: per weight that is scored, 1 for kept and 0 for removed.
        inputs: (batch, ...) inputs.
        noise: N, per weight that is scored.
        epsilon: scale of N.
    """
    model = copy.deepcopy(model).eval()
    variables = {
        name: torch.ones_like(mask, dtype=weights[name].dtype).copy_(mask).requires_grad_()
        for name, mask in masks.items()
    }
    fixed = {name: value.detach() for name, value in weights.items()}
    masked = {name: fixed[name] * mask for name, mask in variables.items()}
    perturbed = {
        name: (fixed[name] + epsilon * noise[name]) * mask for name, mask in variables.items()
    }

    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.reset_running_stats()
            module.momentum = 1.0
            module.train()
    with torch.no_grad():
        functional_call(model, {**fixed, **masked}, (inputs,))
    model.eval()

    difference = functional_call(model, {**fixed, **masked}, (inputs,)) - functional_call(
        model, {**fixed, **perturbed}, (inputs,)
    )
    # Through the norm, not the squares alone: rounding then agrees with the authors' code.
    change = torch.linalg.vector_norm(difference, dim=-1).square().sum()
    gradients = torch.autograd.grad(change, list(variables.values()), materialize_grads=True)
    return dict(zip(variables, gradients, strict=True))


def scores(request: Request, options: Options) -> dict[str, Tensor]:
    """Return the scores of the network before anything is pruned, shaped as the weights.

    Raises:
        ConfigurationError: no batch to take the shape of the inputs from, or shared weights.
        DataError: a score is not finite; the message names the layer.
    """
    masks = full_masks(request.parameters)
    values = _epoch_scores(request, masks, _batch_shapes(request, options), 0, options)
    require_finite(values)
    return values


def prune(request: Request, sparsity: float, options: Options) -> dict[str, Tensor]:
    """Prune to density (1 - sparsity)^(t / epochs) in epoch t, each time by new scores.

    Raises:
        ConfigurationError, DataError: as `scores`; no weight would stay.
    """
    shapes = _batch_shapes(request, options)
    masks = full_masks(request.parameters)
    for epoch, so_far in enumerate(exponential_sparsities(sparsity, options.epochs)):
        values = _epoch_scores(request, masks, shapes, epoch, options)
        masks = select_among_kept(values, masks, so_far, options.counts)
    return masks


def _batch_shapes(request: Request, options: Options) -> list[tuple[int, ...]]:
    """Make the private copy ready and return the shapes of the batches of one resample."""
    prepare(request, "eval")
    for module in request.model.modules():
        if isinstance(module, _BatchNorm) and module.affine:
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
    shape = tuple(options.input_shape) or _first_shape(request)
    if options.num_batches is not None:
        return [(options.batch_size, *shape)] * options.num_batches
    reference = next(iter(request.parameters.values())).detach()
    with torch.no_grad():
        classes = request.model(reference.new_zeros((1, *shape))).shape[-1]
    full, rest = divmod(options.samples_per_class * classes, options.batch_size)
    return [(options.batch_size, *shape)] * full + [(rest, *shape)] * (rest > 0)


def _epoch_scores(
    request: Request,
    masks: Mapping[str, Tensor],
    shapes: Sequence[tuple[int, ...]],
    epoch: int,
    options: Options,
) -> dict[str, Tensor]:
    total = {name: torch.zeros_like(weight) for name, weight in request.parameters.items()}
    for repeat in range(options.resamples):
        for batch, shape in enumerate(shapes):
            generator = torch_generator(request.seed, "ntk_sap", epoch, repeat, batch)
            weights = dict(_drawn_weights(request.model, generator))
            inputs = torch.randn(shape, generator=generator)
            noise = {
                name: torch.randn(weight.shape, generator=generator).to(weight)
                for name, weight in request.parameters.items()
            }
            reference = next(iter(weights.values()))
            gradients = mask_gradients(
                request.model, weights, masks, inputs.to(reference), noise, options.epsilon
            )
            for name, gradient in gradients.items():
                total[name] += gradient
    return {name: value.abs() * masks[name] for name, value in total.items()}


def _drawn_weights(model: nn.Module, generator: torch.Generator) -> Iterator[tuple[str, Tensor]]:
    for name, module in model.named_modules():
        if isinstance(module, PRUNABLE_LAYERS):
            drawn = torch.empty(module.weight.shape)
            nn.init.kaiming_normal_(drawn, generator=generator)
            yield f"{name}.weight" if name else "weight", drawn.to(module.weight)


def _first_shape(request: Request) -> tuple[int, ...]:
    for inputs, _ in all_batches(request):
        return tuple(inputs.shape[1:])
    raise ConfigurationError(
        "ntk_sap takes the shape of its inputs from the first batch, and there is none; "
        "give a batch, or the shape as input_shape"
    )
