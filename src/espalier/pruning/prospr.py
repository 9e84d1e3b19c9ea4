"""ProsPR: keep the weights that matter for the loss after the first steps of training.

With masks m = 1 the weights w m and all other parameters take M steps of SGD on the cross entropy.
The score of a weight is |dL/dm|, the derivative of the loss after the last step by the mask before
the first, through all M updates. All layers are ranked together and the largest scores stay.
Without inner steps this is SNIP.

Source: Alizadeh et al. (2022), Prospect Pruning: finding trainable weights at initialization using
meta-gradients, equations 4 to 6 and algorithm 1.

Memory: the full gradient keeps the graphs of M + 1 forward and M backward passes at once, about
2 M + 1 times the activations of one training step. "first_order" keeps one forward pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from espalier.errors import ConfigurationError
from espalier.pruning.contract import Request
from espalier.pruning.option_checks import require_at_least, require_one_of
from espalier.pruning.saliency import (
    BATCH_NORM_MODES,
    all_batches,
    prepare,
)
from espalier.pruning.selection import RULES, require_finite, select

WHEN = "before"


@dataclass(frozen=True)
class Options:
    """Options of ProsPR; the defaults are those of the authors' command line.

    Attributes:
        inner_steps: SGD steps before the loss that is differentiated.
        inner_learning_rate: their learning rate.
        inner_momentum: their momentum, in [0, 1).
        detach_first_momentum: keep the first momentum buffer out of the graph, as the authors' code
            does; the gradient then does not go through the first step's gradients. Without
            momentum it has no effect.
        meta_gradients: "full", or "first_order", which takes the updates as constants.
        new_data: take the next batch after every inner step; False uses the first one throughout.
        batch_norm: "train" (statistics of the batch) or "eval" (running statistics).
        counts: how many weights stay. "exact", or a rule of a public code; the authors' is
            "keep_ceil".
    """

    inner_steps: int = 3
    inner_learning_rate: float = 0.1
    inner_momentum: float = 0.0
    detach_first_momentum: bool = True
    meta_gradients: str = "full"
    new_data: bool = False
    batch_norm: str = "train"
    counts: str = "exact"

    def __post_init__(self) -> None:
        require_at_least("inner_steps", self.inner_steps, 0)
        require_at_least("inner_learning_rate", self.inner_learning_rate, 0)
        if not 0 <= self.inner_momentum < 1:
            raise ConfigurationError(
                f"inner_momentum is {self.inner_momentum}; it must lie in [0, 1)"
            )
        require_one_of("meta_gradients", self.meta_gradients, ("full", "first_order"))
        require_one_of("batch_norm", self.batch_norm, BATCH_NORM_MODES)
        require_one_of("counts", self.counts, RULES)


def scores(request: Request, options: Options) -> dict[str, Tensor]:
    """Return |dL/dm| of every prunable weight, shaped as the weight.

    Raises:
        ConfigurationError: no batches, or shared weights.
        DataError: a score is not finite, for example because the inner steps diverge.
    """
    values = _meta_gradients(request, options)
    require_finite(values)
    return values


def prune(request: Request, sparsity: float, options: Options) -> dict[str, Tensor]:
    """Return the masks of the weights with the largest scores, all layers ranked together.

    Raises:
        ConfigurationError, DataError: as `scores`.
    """
    return select(scores(request, options), sparsity, rule=options.counts)


@torch.enable_grad()
def _meta_gradients(request: Request, options: Options) -> dict[str, Tensor]:
    frozen = {name for name, p in request.model.named_parameters() if not p.requires_grad}
    prepare(request, options.batch_norm)
    masks = {
        name: torch.ones_like(weight, requires_grad=True)
        for name, weight in request.parameters.items()
    }
    values = {
        name: parameter.detach() * masks[name] if name in masks else parameter.detach().clone()
        for name, parameter in request.model.named_parameters()
    }
    for name in values.keys() - masks.keys() - frozen:
        values[name].requires_grad_()

    full = options.meta_gradients == "full"
    trained = [name for name in values if name not in frozen]
    momenta: dict[str, Tensor] = {}
    batches = _endless(request)
    batch = next(batches)
    for _ in range(options.inner_steps):
        gradients = _gradients(request.model, values, trained, batch, create_graph=full)
        momenta = _momenta(momenta, gradients, options)
        values = values | {
            name: values[name].add(momenta[name], alpha=-options.inner_learning_rate)
            for name in trained
        }
        if options.new_data:
            batch = next(batches)
    gradients = torch.autograd.grad(
        _loss(request.model, values, batch), list(masks.values()), materialize_grads=True
    )
    return {name: gradient.abs() for name, gradient in zip(masks, gradients, strict=True)}


def _endless(request: Request) -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        empty = True
        for batch in all_batches(request):
            empty = False
            yield batch
        if empty:
            raise ConfigurationError(
                "no batches of (inputs, labels) are left to score the weights; pass a list or a "
                "data loader with at least one (an iterator serves only once)"
            )


def _gradients(
    model: nn.Module,
    values: Mapping[str, Tensor],
    names: list[str],
    batch: tuple[Tensor, Tensor],
    *,
    create_graph: bool,
) -> dict[str, Tensor]:
    gradients = torch.autograd.grad(
        _loss(model, values, batch),
        [values[name] for name in names],
        create_graph=create_graph,
        materialize_grads=True,
    )
    return dict(zip(names, gradients, strict=True))


def _loss(model: nn.Module, values: Mapping[str, Tensor], batch: tuple[Tensor, Tensor]) -> Tensor:
    inputs, labels = batch
    # Every pass updates statistics of its own, and none that an earlier graph still needs.
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    logits = functional_call(model, {**values, **buffers}, (inputs,))
    return functional.cross_entropy(logits, labels)


def _momenta(
    momenta: Mapping[str, Tensor], gradients: dict[str, Tensor], options: Options
) -> dict[str, Tensor]:
    """Return what SGD subtracts from each parameter, before the learning rate."""
    if options.inner_momentum == 0:
        return gradients
    if momenta:
        return {
            name: options.inner_momentum * momenta[name] + gradient
            for name, gradient in gradients.items()
        }
    if options.detach_first_momentum:
        return {name: gradient.detach() for name, gradient in gradients.items()}
    return gradients
