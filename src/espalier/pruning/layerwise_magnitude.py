"""Layer-wise magnitude pruning: every layer loses the same share, its smallest |w|.

Source: Han et al. (2015), with one sparsity for all layers.
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
    """Options of layer-wise magnitude pruning.

    Attributes:
        counts: how many weights stay, a key of `selection.RULES`: "remove_round" is the rule of
            torch.nn.utils.prune. All but "exact" count layer by layer, so that the total may be
            off by a weight per layer.
    """

    counts: str = "exact"

    def __post_init__(self) -> None:
        require_one_of("counts", self.counts, RULES)


def scores(request: Request, options: Options) -> dict[str, Tensor]:
    """Return |w|."""
    return {name: weight.detach().abs() for name, weight in request.parameters.items()}


def prune(request: Request, sparsity: float, options: Options) -> dict[str, Tensor]:
    """Keep the largest |w| of each layer; n - floor(sparsity * n) in all with exact counts.

    Raises:
        ConfigurationError: no weight would stay.
        DataError: a weight is not finite.
    """
    return select(scores(request, options), sparsity, scope="layer", rule=options.counts)
