"""SynFlow: keep the synaptic flow through the network; no data.

Every weight, bias and batch-norm value is replaced by its absolute value, an input of ones is sent
through, and R is the sum of the outputs. The score of weight w is |w| m dR/d(|w| m) at the masks m
so far. In step t of T the density falls to (1 - sparsity)^(t/T), all layers ranked together.

R multiplies the layers' sums of weights, so it leaves the range of single precision in deep
networks (2e40 in ResNet-32 with Kaiming weights). Scores are computed in double precision.

Source: Tanaka, Kunin, Yamins and Ganguli (2020), "Pruning neural networks without any data by
iteratively conserving synaptic flow", equation 2 and algorithm 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from espalier.errors import ConfigurationError
from espalier.pruning.contract import Request
from espalier.pruning.option_checks import require_at_least, require_one_of
from espalier.pruning.saliency import (
    BATCH_NORM_MODES,
    all_batches,
    dense_weights,
    exponential_sparsities,
    full_masks,
    prepare,
    select_among_kept,
    write_masked,
)
from espalier.pruning.selection import RULES, largest, require_finite

WHEN = "before"


@dataclass(frozen=True)
class Options:
    """Options of SynFlow.

    Attributes:
        steps: times that scores are computed and weights removed.
        batch_norm: "eval" (running statistics). "train" normalises the one image of ones by its
            own statistics, so that signal no longer adds up; its masks are of little use.
        double: score in double precision. Single precision overflows in deep networks, which is
            then an error.
        input_shape: shape of one input, such as (3, 32, 32); () takes it from the first batch.
        counts: how many weights stay after each step: "exact", or "above_kth_smallest", the rule
            of the paper's code.
        schedule: "exponential" is the paper's. "published" is that of the code of Cunegatti et
            al.: biases of the pruned layers are ranked and removed with the weights, and each step
            removes a rounded share 1 - (1 - sparsity)^(1/steps) of what is left.
    """

    steps: int = 100
    batch_norm: str = "eval"
    double: bool = True
    input_shape: Sequence[int] = ()
    counts: str = "exact"
    schedule: str = "exponential"

    def __post_init__(self) -> None:
        require_at_least("steps", self.steps, 1)
        require_one_of("batch_norm", self.batch_norm, BATCH_NORM_MODES)
        require_one_of("counts", self.counts, RULES)
        require_one_of("schedule", self.schedule, ("exponential", "published"))
        if self.schedule == "published" and self.counts != "exact":
            raise ConfigurationError(
                f"schedule 'published' sets how many weights stay; leave out counts={self.counts!r}"
            )
        if any(not isinstance(size, int) or size < 1 for size in self.input_shape):
            raise ConfigurationError(
                f"input_shape is {self.input_shape!r}; give the sizes of one input, for example "
                "(3, 32, 32)"
            )


def input_of_ones(request: Request, options: Options) -> Tensor:
    """Return ones (1, ...) in the shape of one input, on the device and in the precision scored.

    Raises:
        ConfigurationError: neither `input_shape` nor a batch says what an input looks like.
    """
    weight = next(iter(request.parameters.values()))
    shape = tuple(options.input_shape)
    if not shape:
        inputs, _ = next(all_batches(request), (None, None))
        if inputs is None:
            raise ConfigurationError(
                "SynFlow needs the shape of one input; set input_shape, for example (3, 32, 32), "
                "or pass a batch"
            )
        shape = tuple(inputs.shape[1:])
    dtype = torch.float64 if options.double else weight.dtype
    return torch.ones((1, *shape), dtype=dtype, device=weight.device)


@torch.no_grad()
def linearise(model: nn.Module) -> None:
    """Replace every floating-point value of the state by its absolute value, in place.

    Counters and other whole-number buffers stay as they are.
    """
    for value in model.state_dict().values():
        if value.is_floating_point():
            value.abs_()


@torch.enable_grad()
def step_scores(
    request: Request, dense: Mapping[str, Tensor], masks: Mapping[str, Tensor], ones: Tensor
) -> dict[str, Tensor]:
    """Return |w| m dR/d(|w| m) in the linearised network; zero for pruned weights.

    Args:
        request: its model is linearised and prepared; its weights are overwritten.
        dense: |w| before any pruning.
        masks: boolean masks m.
        ones: input (1, ...).
    """
    write_masked(request, dense, masks)
    weights = request.parameters
    flow = request.model(ones).sum()
    gradients = torch.autograd.grad(flow, list(weights.values()), materialize_grads=True)
    return {
        name: (weight.detach() * gradient).abs()
        for (name, weight), gradient in zip(weights.items(), gradients, strict=True)
    }


def scores(request: Request, options: Options) -> dict[str, Tensor]:
    """Return the scores of the first step, those of the dense network.

    Raises:
        ConfigurationError: the shape of an input is unknown, or shared weights.
        DataError: a score is not finite; the message names the layer.
    """
    ones = _linearised(request, options)
    dense = dense_weights(request)
    values = step_scores(request, dense, full_masks(dense), ones)
    require_finite(values)
    return values


def prune(request: Request, sparsity: float, options: Options) -> dict[str, Tensor]:
    """Return the masks after the last step, all layers ranked together in each.

    Raises:
        ConfigurationError, DataError: as `scores`.
    """
    if options.schedule == "published":
        return _prune_weights_and_biases(request, sparsity, options)
    ones = _linearised(request, options)
    dense = dense_weights(request)
    masks = full_masks(dense)
    for target in exponential_sparsities(sparsity, options.steps):
        values = step_scores(request, dense, masks, ones)
        masks = select_among_kept(values, masks, target, options.counts)
    return masks


def _linearised(request: Request, options: Options) -> Tensor:
    ones = input_of_ones(request, options)
    if options.double:
        request.model.double()
    linearise(request.model)
    prepare(request, options.batch_norm)
    return ones


def _prune_weights_and_biases(
    request: Request, sparsity: float, options: Options
) -> dict[str, Tensor]:
    pool = Request(request.model, _with_biases(request), request.batches, request.seed)
    ones = _linearised(pool, options)
    dense = dense_weights(pool)
    masks = full_masks(dense)
    share = 1 - (1 - sparsity) ** (1 / options.steps)
    for _ in range(options.steps):
        values = step_scores(pool, dense, masks, ones)
        require_finite(values)
        masks = _without_lowest(values, masks, share)
    return {name: masks[name] for name in request.parameters}


def _with_biases(request: Request) -> dict[str, nn.Parameter]:
    found = dict(request.parameters)
    for name, module in request.model.named_modules():
        prefix = f"{name}." if name else ""
        if f"{prefix}weight" in request.parameters and module.bias is not None:
            found[f"{prefix}bias"] = module.get_parameter("bias")
    return found


def _without_lowest(
    values: Mapping[str, Tensor], masks: Mapping[str, Tensor], share: float
) -> dict[str, Tensor]:
    """Remove the lowest round(share * kept) of the kept entries."""
    kept = torch.cat([mask.flatten() for mask in masks.values()])
    alive = kept.nonzero().flatten()
    flat = torch.cat([value.flatten() for value in values.values()])[alive]
    kept[alive] = largest(flat, len(alive) - round(share * len(alive)))
    parts = kept.split([mask.numel() for mask in masks.values()])
    return {
        name: part.reshape(mask.shape)
        for (name, mask), part in zip(masks.items(), parts, strict=True)
    }
