"""What the pruners that score weights by gradients share.

A mask m multiplies the weights w of a layer. With L the loss of the masked network,

    dL/dm = w * dL/d(w m)

for kept and pruned weights alike, so a gradient with respect to a mask is the weight times an
ordinary gradient, and no layer has to be rewritten. The functions here work on the private copy of
a `Request` and change it freely: `prepare` sets its modes, `write_masked` its weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from espalier.errors import ConfigurationError, DataError
from espalier.pruning.contract import Request
from espalier.pruning.selection import require_finite, select, select_remaining

BATCH_NORM_MODES = ("train", "eval")
StepScores = Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], dict[str, Tensor]]


def prepare(request: Request, batch_norm: str) -> None:
    """Make the private copy ready for gradients with respect to its prunable weights alone.

    Frozen weights get gradients too: whether a weight may be trained says nothing about its mask.
    Every layer but batch norm acts as in evaluation, so that dropout adds no noise to a score.

    Args:
        request: its model is changed in place.
        batch_norm: "train" normalises by the statistics of each scored batch, "eval" by the
            running statistics.
    """
    request.model.eval()
    for module in request.model.modules():
        if isinstance(module, _BatchNorm):
            module.train(batch_norm == "train")
    request.model.requires_grad_(False)
    for weight in request.parameters.values():
        weight.requires_grad_(True)


def first_batches(request: Request, count: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the first `count` batches on the device of the model.

    The iterable is started anew by every call: a list gives the same batches again, a loader that
    shuffles gives new ones.

    Raises:
        ConfigurationError: the batches run out early.
        DataError: a batch is not a pair of tensors.
    """
    found = 0
    for inputs, labels in islice(all_batches(request), count):
        found += 1
        yield inputs, labels
    if found < count:
        raise ConfigurationError(
            f"the weights are scored with {count} batches of (inputs, labels), and {found} came; "
            "pass a list or a data loader with enough of them (an iterator serves only once)"
        )


def all_batches(request: Request) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield every batch on the device of the model.

    Raises:
        DataError: a batch is not a pair of tensors.
    """
    device = next(iter(request.parameters.values())).device
    for index, batch in enumerate(request.batches):
        pair = tuple(batch) if isinstance(batch, tuple | list) else ()
        if len(pair) != 2 or not all(isinstance(item, Tensor) for item in pair):
            raise DataError(f"batch {index} is not a pair of tensors (inputs, labels)")
        inputs, labels = pair
        if not labels.is_floating_point():
            labels = labels.long()
        yield inputs.to(device), labels.to(device)


def dense_weights(request: Request) -> dict[str, Tensor]:
    """Return copies of the prunable weights, shaped as they are."""
    return {name: weight.detach().clone() for name, weight in request.parameters.items()}


def full_masks(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return boolean masks that keep every weight."""
    return {name: torch.ones_like(w, dtype=torch.bool) for name, w in weights.items()}


@torch.no_grad()
def write_masked(
    request: Request, weights: Mapping[str, Tensor], masks: Mapping[str, Tensor]
) -> None:
    """Set the prunable weights of the private copy to weights * masks."""
    for name, parameter in request.parameters.items():
        parameter.copy_(weights[name] * masks[name])


@torch.enable_grad()
def mean_gradients(request: Request, batches: Iterable[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """Return the gradient of the cross entropy, averaged over batches, by each prunable weight.

    One forward and one backward pass per batch, one batch in memory at a time. A weight that the
    output does not depend on has gradient zero.

    Args:
        request: prepared by `prepare`.
        batches: pairs of inputs (batch, ...) and labels (batch,) on the model's device.
    """
    weights = list(request.parameters.values())
    totals = [torch.zeros_like(weight, requires_grad=False) for weight in weights]
    count = 0
    for inputs, labels in batches:
        loss = functional.cross_entropy(request.model(inputs), labels)
        gradients = torch.autograd.grad(loss, weights, materialize_grads=True)
        for total, gradient in zip(totals, gradients, strict=True):
            total += gradient
        count += 1
    return {name: total / count for name, total in zip(request.parameters, totals, strict=True)}


def exponential_sparsities(sparsity: float, steps: int) -> list[float]:
    """Return the sparsity after each step if every step keeps the same share of what is left.

    The density after step t of T is (1 - sparsity)^(t/T). The last entry is `sparsity` itself, to
    the bit, so that the final count is the one asked for.
    """
    return [*(1 - (1 - sparsity) ** (step / steps) for step in range(1, steps)), sparsity]


def select_among_kept(
    scores: Mapping[str, Tensor], masks: Mapping[str, Tensor], sparsity: float, rule: str
) -> dict[str, Tensor]:
    """Return the masks of the next step of an iterative pruner whose weights do not return.

    Rule "exact" ranks the kept weights alone, also where fewer of them have a score above zero than
    must stay. The originals' rules see all scores and no masks: there the pruned weights tie with
    the kept ones of score zero, and a threshold of zero keeps or removes them all.

    Args:
        scores: non-negative saliencies, zero for pruned weights.
        masks: masks of the step before.
        sparsity: share of all weights to have removed after this step.
        rule: one of `espalier.pruning.selection.RULES`.

    Raises:
        ConfigurationError: no weight would stay.
        DataError: a score is not finite; the message names the layer.
    """
    if rule == "exact":
        return select_remaining(scores, masks, sparsity)
    return select(scores, sparsity, rule=rule)


@torch.no_grad()
def redraw_xavier(weights: Mapping[str, Tensor], generator: torch.Generator) -> None:
    """Overwrite weights, in order, by Xavier normal draws of a generator on the CPU."""
    for weight in weights.values():
        drawn = torch.empty(weight.shape, dtype=weight.dtype)
        weight.copy_(nn.init.xavier_normal_(drawn, generator=generator))


def scores_of_the_dense_network(
    request: Request, batch_norm: str, step_scores: StepScores
) -> dict[str, Tensor]:
    """Return what a stepwise algorithm scores before anything is pruned.

    Args:
        request: its model is changed in place.
        batch_norm: as in `prepare`.
        step_scores: (dense weights, masks) to scores.

    Raises:
        DataError: a score is not finite; the message names the layer.
    """
    prepare(request, batch_norm)
    dense = dense_weights(request)
    values = step_scores(dense, full_masks(dense))
    require_finite(values)
    return values


def masks_step_by_step(
    request: Request,
    sparsity: float,
    steps: int,
    batch_norm: str,
    step_scores: StepScores,
    choose: Callable[[dict[str, Tensor], Mapping[str, Tensor], float], dict[str, Tensor]],
) -> dict[str, Tensor]:
    """Return the masks after the last of `steps`, the density falling exponentially.

    Args:
        request, batch_norm, step_scores: as in `scores_of_the_dense_network`.
        sparsity: share to remove in the end.
        steps: times that scores are computed and masks chosen.
        choose: (scores, masks so far, sparsity of the step) to the next masks.
    """
    prepare(request, batch_norm)
    dense = dense_weights(request)
    masks = full_masks(dense)
    for target in exponential_sparsities(sparsity, steps):
        masks = choose(step_scores(dense, masks), masks, target)
    return masks
