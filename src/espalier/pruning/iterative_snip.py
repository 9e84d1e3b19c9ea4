"""Iterative SNIP: SNIP repeated on the pruned network, a part of the weights at a time.

In step t of T the score of a kept weight is |w m dL/d(w m)| in the network pruned so far, and the
density falls to (1 - sparsity)^(t/T). A pruned weight never returns. One step is SNIP.

Source: de Jorge et al. (2021), "Progressive skeletonization: trimming more fat from a network at
initialization", section 4 (iterative SNIP), and its public code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from espalier.pruning.contract import Request
from espalier.pruning.option_checks import require_at_least, require_one_of
from espalier.pruning.saliency import (
    BATCH_NORM_MODES,
    first_batches,
    masks_step_by_step,
    mean_gradients,
    scores_of_the_dense_network,
    select_among_kept,
    write_masked,
)
from espalier.pruning.selection import RULES

WHEN = "before"


@dataclass(frozen=True)
class Options:
    """Options of iterative SNIP.

    Attributes:
        steps: times that scores are computed and weights removed.
        num_batches: mini-batches per step over which the gradient is averaged; every step starts
            the batches anew, so a loader that shuffles gives each step its own.
        batch_norm: "train" (statistics of the batch) or "eval" (running statistics).
        counts: how many weights stay after each step. "exact", or the rule of a public code:
            "at_least_kth_largest" (the paper's), "above_kth_smallest" (NTK-SAP).
    """

    steps: int = 10
    num_batches: int = 1
    batch_norm: str = "train"
    counts: str = "exact"

    def __post_init__(self) -> None:
        require_at_least("steps", self.steps, 1)
        require_at_least("num_batches", self.num_batches, 1)
        require_one_of("batch_norm", self.batch_norm, BATCH_NORM_MODES)
        require_one_of("counts", self.counts, RULES)


def step_scores(
    request: Request, dense: Mapping[str, Tensor], masks: Mapping[str, Tensor], num_batches: int
) -> dict[str, Tensor]:
    """Return |w m dL/d(w m)| in the network with the given masks; zero for pruned weights.

    Args:
        request: prepared by `espalier.pruning.saliency.prepare`; its weights are overwritten.
        dense: the weights w, as they were before any pruning.
        masks: boolean masks m.
        num_batches: mini-batches over which the gradient is averaged.

    Raises:
        ConfigurationError: too few batches.
    """
    write_masked(request, dense, masks)
    gradients = mean_gradients(request, first_batches(request, num_batches))
    return {
        name: (weight.detach() * gradients[name]).abs()
        for name, weight in request.parameters.items()
    }


def scores(request: Request, options: Options) -> dict[str, Tensor]:
    """Return the scores of the first step, those of the dense network.

    Raises:
        ConfigurationError: too few batches, or shared weights.
        DataError: a score is not finite; the message names the layer.
    """
    return scores_of_the_dense_network(
        request,
        options.batch_norm,
        lambda dense, masks: step_scores(request, dense, masks, options.num_batches),
    )


def prune(request: Request, sparsity: float, options: Options) -> dict[str, Tensor]:
    """Return the masks after the last step, all layers ranked together in each.

    Raises:
        ConfigurationError, DataError: as `scores`.
    """
    return masks_step_by_step(
        request,
        sparsity,
        options.steps,
        options.batch_norm,
        lambda dense, masks: step_scores(request, dense, masks, options.num_batches),
        lambda values, masks, target: select_among_kept(values, masks, target, options.counts),
    )
