"""SNIP: keep the weights whose removal would change the loss most, to first order.

The score of weight w is |dL/dm| = |w dL/dw| at m = 1, with L the cross entropy of one mini-batch;
all layers are ranked together and the largest scores stay.

Source: Lee, Ajanthan and Torr (2019), "SNIP: single-shot network pruning based on connection
sensitivity", equations 4 to 6. The paper's own code scores with batch norm in evaluation mode; the
widely used PyTorch port, whose defaults these are, with the statistics of the batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from espalier.pruning.contract import Request
from espalier.pruning.option_checks import require_at_least, require_one_of
from espalier.pruning.saliency import (
    BATCH_NORM_MODES,
    first_batches,
    mean_gradients,
    prepare,
    redraw_xavier,
)
from espalier.pruning.selection import RULES, require_finite, select
from espalier.seeds import torch_generator

WHEN = "before"


@dataclass(frozen=True)
class Options:
    """Options of SNIP.

    Attributes:
        num_batches: mini-batches over which the gradient is averaged before its absolute value.
        batch_norm: "train" (statistics of the batch) or "eval" (running statistics).
        counts: how many weights stay. "exact", or the rule of a public code:
            "at_least_kth_largest" (PyTorch port), "keep_round" (the paper's), "above_kth_smallest"
            (Synaptic-Flow).
        reinitialise: "none" scores the weights of the model. "xavier" scores Xavier normal weights
            drawn from the seed in their place, as a public port does: the masks then belong to
            weights that are never trained.
        normalise: divide the scores by their sum; the masks do not depend on it.
    """

    num_batches: int = 1
    batch_norm: str = "train"
    counts: str = "exact"
    reinitialise: str = "none"
    normalise: bool = False

    def __post_init__(self) -> None:
        require_at_least("num_batches", self.num_batches, 1)
        require_one_of("batch_norm", self.batch_norm, BATCH_NORM_MODES)
        require_one_of("counts", self.counts, RULES)
        require_one_of("reinitialise", self.reinitialise, ("none", "xavier"))


def scores(request: Request, options: Options) -> dict[str, Tensor]:
    """Return |w dL/dw| of every prunable weight, shaped as the weight.

    Raises:
        ConfigurationError: too few batches, or shared weights.
        DataError: a score is not finite; the message names the layer.
    """
    values = _saliency(request, options)
    require_finite(values)
    if options.normalise:
        total = torch.cat([value.flatten() for value in values.values()]).sum()
        values = {name: value / total for name, value in values.items()}
    return values


def prune(request: Request, sparsity: float, options: Options) -> dict[str, Tensor]:
    """Return the masks of the weights with the largest scores, all layers ranked together.

    Raises:
        ConfigurationError, DataError: as `scores`.
    """
    return select(_saliency(request, options), sparsity, rule=options.counts)


def _saliency(request: Request, options: Options) -> dict[str, Tensor]:
    prepare(request, options.batch_norm)
    if options.reinitialise == "xavier":
        redraw_xavier(request.parameters, torch_generator(request.seed, "snip", "xavier"))
    gradients = mean_gradients(request, first_batches(request, options.num_batches))
    return {
        name: (weight.detach() * gradients[name]).abs()
        for name, weight in request.parameters.items()
    }
