"""Global magnitude pruning: remove the weights with the smallest |w| of the whole network.

Source: Han et al. (2015), with one threshold for all layers.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from espalier.pruning.contract import Request
from espalier.pruning.option_checks import require_one_of
from espalier.pruning.selection import RULES, select

WHEN = "after"


@dataclass(frozen=True)
class Options:
    """Options of global magnitude pruning.

    Attributes:
        counts: how many weights stay, a key of `selection.RULES`: "remove_round" is the rule of
            torch.nn.utils.prune, "above_kth_smallest" that of Synaptic-Flow and "above_percentile"
            that of Neural Sculpting.
    """

    counts: str = "exact"

    def __post_init__(self) -> None:
        require_one_of("counts", self.counts, RULES)


def scores(request: Request, options: Options) -> dict[str, Tensor]:
    """Return |w|."""
    return {name: weight.detach().abs() for name, weight in request.parameters.items()}


def prune(request: Request, sparsity: float, options: Options) -> dict[str, Tensor]:
    """Keep the weights with the largest |w| of all; n - floor(sparsity * n) with exact counts.

    Raises:
        ConfigurationError: no weight would stay.
        DataError: a weight is not finite.
    """
    return select(scores(request, options), sparsity, scope="global", rule=options.counts)
