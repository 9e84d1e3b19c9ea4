"""GraSP: keep the weights that the gradient flow of the network needs.

With g the gradient of the loss by the prunable weights and H its Hessian, both of logits divided by
a temperature, removing weight w_q changes the flow g.g, to first order, in proportion to
-w_q (H g)_q. The paper calls that its score and removes the largest. Here low scores go first, so
the score is its negative

    w_q (H g)_q

and the smallest are removed, all layers ranked together: the same masks.

The paper's code takes the same number of samples of every class, in the order of the data, puts
them class by class, and cuts them into two halves of different classes. The mean gradients of the
halves are added to g and their Hessian products with g to H g.

Source: Wang, Zhang and Grosse (2020), "Picking winning tickets before training by preserving
gradient flow", equation 8 and algorithm 2, and its public code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from espalier.errors import DataError
from espalier.pruning.contract import Request
from espalier.pruning.option_checks import require_at_least, require_one_of
from espalier.pruning.saliency import (
    BATCH_NORM_MODES,
    all_batches,
    first_batches,
    prepare,
    redraw_xavier,
)
from espalier.pruning.selection import RULES, require_finite, select

WHEN = "before"

Batch = tuple[Tensor, Tensor]

# Of the original: keeps the division defined where the scores cancel.
_EPSILON = 1e-10

# Classes that an error names before it only counts.
_LISTED = 8


@dataclass(frozen=True)
class Options:
    """Options of GraSP.

    Attributes:
        data: "classes" takes `samples_per_class` samples of each class, cut in two halves, as the
            paper's code does. "batch" takes whole mini-batches, as Synaptic-Flow does.
        samples_per_class: samples of each class for data "classes".
        num_batches: mini-batches for data "batch".
        temperature: divides the logits.
        batch_norm: "train" (statistics of each half or batch) or "eval" (running statistics).
        counts: how many weights stay. "exact", or the rule of a public code: "threshold_stays"
            (the paper's), "above_kth_smallest" (Synaptic-Flow).
        reinitialise: "none" scores the weights of the model. "head" first draws the dense layers
            of the scored copy anew (Xavier normal), as the paper's code does unless told not to;
            the draws are those that follow `torch.manual_seed(seed)`.
        normalise: divide the scores by the absolute value of their sum, as the paper's code does;
            the masks do not depend on it.
    """

    data: str = "classes"
    samples_per_class: int = 10
    num_batches: int = 1
    temperature: float = 200.0
    batch_norm: str = "train"
    counts: str = "exact"
    reinitialise: str = "none"
    normalise: bool = True

    def __post_init__(self) -> None:
        require_one_of("data", self.data, ("classes", "batch"))
        require_at_least("samples_per_class", self.samples_per_class, 1)
        require_at_least("num_batches", self.num_batches, 1)
        require_at_least("temperature", self.temperature, 1e-6)
        require_one_of("batch_norm", self.batch_norm, BATCH_NORM_MODES)
        require_one_of("counts", self.counts, RULES)
        require_one_of("reinitialise", self.reinitialise, ("none", "head"))


def class_halves(request: Request, samples_per_class: int) -> list[Batch]:
    """Return the first samples of every class, in order of class, cut in two halves.

    The network says how many classes there are: as many as it has outputs. Batches are read until
    every class is complete, and no further.

    Returns:
        Two pairs of inputs (n, ...) and labels (n,), n half of classes * samples_per_class.

    Raises:
        DataError: a class has too few samples, or a label has no output.
    """
    classes = 0
    inputs_of: list[list[Tensor]] = []
    missing: list[int] = []
    for inputs, labels in all_batches(request):
        if not classes:
            classes = _width_of_logits(request.model, inputs)
            inputs_of, missing = [[] for _ in range(classes)], [samples_per_class] * classes
        _require_classes(labels, classes)
        for label in labels.unique().tolist():
            taken = (labels == label).nonzero().flatten()[: missing[label]]
            inputs_of[label].append(inputs[taken])
            missing[label] -= len(taken)
        if not any(missing):
            break
    if not classes or any(missing):
        raise DataError(_lacking(samples_per_class, missing))
    inputs = torch.cat([part for parts in inputs_of for part in parts])
    labels = torch.arange(classes, device=inputs.device).repeat_interleave(samples_per_class)
    half = len(labels) // 2
    return [(inputs[:half], labels[:half]), (inputs[half:], labels[half:])]


def _require_classes(labels: Tensor, classes: int) -> None:
    if labels.dim() != 1:
        raise DataError(
            f"GraSP needs one class index per input to sort by class; found labels of shape "
            f"{tuple(labels.shape)}"
        )
    outside = labels[(labels < 0) | (labels >= classes)]
    if len(outside):
        raise DataError(
            f"label {int(outside[0])} has no output: the network has {classes}, for classes 0 to "
            f"{classes - 1}"
        )


def _lacking(samples_per_class: int, missing: Sequence[int]) -> str:
    need = f"GraSP needs {samples_per_class} samples of every class"
    if not missing:
        return f"{need}; no batch of (inputs, labels) came"
    short = [label for label, lack in enumerate(missing) if lack]
    found = [f"{samples_per_class - missing[label]} of class {label}" for label in short[:_LISTED]]
    more = f" and too few of {len(short) - _LISTED} more" if len(short) > _LISTED else ""
    return (
        f"{need}; the batches hold only {', '.join(found)}{more}. Give more batches, lower "
        "samples_per_class, or score whole batches with data='batch'"
    )


@torch.no_grad()
def _width_of_logits(model: nn.Module, inputs: Tensor) -> int:
    model.eval()
    return model(inputs[:1]).shape[-1]


@torch.enable_grad()
def hessian_gradient(
    request: Request, parts: Sequence[Batch], temperature: float
) -> dict[str, Tensor]:
    """Return H g of the prunable weights, summed over parts of the data.

    g is the sum of the parts' mean gradients and is held constant; each part then adds the gradient
    of its own mean gradient times g. One part is in memory at a time.

    Args:
        request: prepared by `espalier.pruning.saliency.prepare`.
        parts: pairs of inputs and labels on the model's device.
        temperature: divides the logits.
    """
    weights = list(request.parameters.values())

    def gradients(part: Batch, create_graph: bool) -> tuple[Tensor, ...]:
        inputs, labels = part
        loss = functional.cross_entropy(request.model(inputs) / temperature, labels)
        return torch.autograd.grad(loss, weights, create_graph=create_graph, materialize_grads=True)

    flow = [torch.zeros_like(weight, requires_grad=False) for weight in weights]
    for part in parts:
        for total, gradient in zip(flow, gradients(part, create_graph=False), strict=True):
            total += gradient
    products = [torch.zeros_like(weight, requires_grad=False) for weight in weights]
    for part in parts:
        inner = torch.stack(
            [
                (total * gradient).sum()
                for total, gradient in zip(flow, gradients(part, create_graph=True), strict=True)
            ]
        ).sum()
        second = torch.autograd.grad(inner, weights, materialize_grads=True)
        for total, product in zip(products, second, strict=True):
            total += product
    return dict(zip(request.parameters, products, strict=True))


def reinitialise_head(model: nn.Module, generator: torch.Generator) -> None:
    """Overwrite the weight of every dense layer by Xavier normal draws, in module order."""
    redraw_xavier(
        {
            name: module.weight
            for name, module in model.named_modules()
            if isinstance(module, nn.Linear)
        },
        generator,
    )


def scores(request: Request, options: Options) -> dict[str, Tensor]:
    """Return w (H g) of every prunable weight, shaped as the weight; low scores go first.

    Raises:
        ConfigurationError: too few batches, or shared weights.
        DataError: a class has too few samples, or a score is not finite.
    """
    values = _saliency(request, options)
    require_finite(values)
    if options.normalise:
        total = torch.cat([value.flatten() for value in values.values()]).sum().abs()
        values = {name: value / (total + _EPSILON) for name, value in values.items()}
    return values


def prune(request: Request, sparsity: float, options: Options) -> dict[str, Tensor]:
    """Return the masks of the weights with the largest scores, all layers ranked together.

    Raises:
        ConfigurationError, DataError: as `scores`.
    """
    return select(_saliency(request, options), sparsity, rule=options.counts)


def _saliency(request: Request, options: Options) -> dict[str, Tensor]:
    if options.data == "classes":
        parts = class_halves(request, options.samples_per_class)
    else:
        parts = list(first_batches(request, options.num_batches))
    prepare(request, options.batch_norm)
    if options.reinitialise == "head":
        # The original draws from torch's global generator; its user seeds that one.
        reinitialise_head(request.model, torch.Generator().manual_seed(request.seed))
    products = hessian_gradient(request, parts, options.temperature)
    return {name: weight.detach() * products[name] for name, weight in request.parameters.items()}
