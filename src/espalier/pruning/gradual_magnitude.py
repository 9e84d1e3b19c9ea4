"""Gradual magnitude pruning: the sparsity grows along a cubic while the network is trained.

At update i of n the share s_i = s_f + (s_0 - s_f) (1 - i / n)^3 of each layer's weights, those with
the smallest |w|, is removed. Source: Zhu and Gupta (2017), eq. 1.

Removed weights are exactly zero after every step and do not return. Zhu and Gupta leave their
values behind the mask, so that a weight may return when those that stayed have shrunk below it;
`returns` does that with the value a weight had when it was removed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from espalier.errors import ConfigurationError, DataError
from espalier.pruning.contract import Request
from espalier.pruning.during import Horizon, LiveTensors
from espalier.pruning.option_checks import require_one_of
from espalier.pruning.selection import RULES, SCOPES, select, select_remaining

WHEN = "during"

_SCHEDULES = ("zhu_gupta", "itop_off_by_one")


@dataclass(frozen=True)
class Options:
    """Options of gradual magnitude pruning.

    Attributes:
        initial_sparsity: sparsity of the first update, s_0.
        begin: first update, as a share of the training steps.
        end: latest time of the last update, as a share of the training steps.
        period: steps from one update to the next.
        scope: "layer" gives every layer the same sparsity, "global" ranks all weights together.
        returns: whether removed weights keep their last value aside and compete with it.
        schedule: "zhu_gupta", or "itop_off_by_one": n + 1 in place of n, as in the ITOP code, which
            never reaches the sparsity asked for (0.9793 for 0.98 and n = 10).
        counts: how many weights stay, a key of `selection.RULES`.
    """

    initial_sparsity: float = 0.0
    begin: float = 0.0
    end: float = 0.75
    period: int = 100
    scope: str = "layer"
    returns: bool = False
    schedule: str = "zhu_gupta"
    counts: str = "exact"

    def __post_init__(self) -> None:
        if not 0 <= self.initial_sparsity < 1:
            raise ConfigurationError(
                f"initial_sparsity is {self.initial_sparsity}; it is the share removed, in [0, 1)"
            )
        if not 0 <= self.begin <= self.end <= 1:
            raise ConfigurationError(
                f"begin is {self.begin} and end is {self.end}; they are shares of the training "
                "with 0 <= begin <= end <= 1"
            )
        if self.period < 1:
            raise ConfigurationError(f"period is {self.period}; it is 1 step or more")
        require_one_of("scope", self.scope, SCOPES)
        require_one_of("schedule", self.schedule, _SCHEDULES)
        require_one_of("counts", self.counts, RULES)


def cubic_sparsity(
    update: int,
    updates: int,
    final: float,
    initial: float = 0.0,
    schedule: str = "zhu_gupta",
) -> float:
    """Return the sparsity after an update.

    Args:
        update: which one, 0 to `updates`.
        updates: number of the last one, n; 0 for a single update, which goes to `final`.
        final, initial: sparsities s_f and s_0.
        schedule: see `Options`.
    """
    intervals = updates + (schedule == "itop_off_by_one")
    if not intervals:
        return final
    return final + (initial - final) * (1 - update / intervals) ** 3


def scores(request: Request, options: Options) -> dict[str, Tensor]:
    """Return |w|."""
    return {name: weight.detach().abs() for name, weight in request.parameters.items()}


def prune(request: Request, sparsity: float, options: Options) -> dict[str, Tensor]:
    """Return the masks of the schedule's end for the network as it stands.

    Training does not start from them: `dynamics` takes their names and shapes alone.

    Raises:
        ConfigurationError: no weight would stay.
        DataError: a weight is not finite.
    """
    return select(scores(request, options), sparsity, scope=options.scope, rule=options.counts)


def dynamics(
    masks: Mapping[str, Tensor], sparsity: float, options: Options, horizon: Horizon, seed: int
) -> GradualMagnitude:
    """Return the schedule, with all weights kept up to the first update; it draws nothing.

    Args:
        masks: names and shapes of the parameters; what they keep is ignored.
        sparsity: sparsity after the last update.
        options, horizon: see there.
        seed: not used.

    Raises:
        ConfigurationError: `initial_sparsity` exceeds the sparsity.
    """
    return GradualMagnitude(masks, sparsity, options, horizon)


class GradualMagnitude:
    """Masks that lose weights along the cubic; see `espalier.pruning.during.Dynamics`."""

    masks_momentum = True
    replaces_step = False

    def __init__(
        self, masks: Mapping[str, Tensor], sparsity: float, options: Options, horizon: Horizon
    ) -> None:
        if options.initial_sparsity > sparsity:
            raise ConfigurationError(
                f"initial_sparsity is {options.initial_sparsity}, above the sparsity {sparsity} "
                "that it should grow to"
            )
        self.masks = {name: torch.ones_like(mask, dtype=torch.bool) for name, mask in masks.items()}
        self._sparsity = sparsity
        self._options = options
        last_step = horizon.steps - 1
        self._begin = min(round(options.begin * horizon.steps), last_step)
        latest = min(round(options.end * horizon.steps), last_step)
        self._updates = (latest - self._begin) // options.period
        self._removed: dict[str, Tensor] = {}

    def due(self, step: int) -> bool:
        """Return whether an update is due: every `period` steps from begin to end."""
        update, rest = divmod(step - self._begin, self._options.period)
        return rest == 0 and 0 <= update <= self._updates

    def sparsity_at(self, step: int) -> float:
        """Return the sparsity after the update that is due at `step`."""
        update = (step - self._begin) // self._options.period
        return cubic_sparsity(
            update,
            self._updates,
            self._sparsity,
            self._options.initial_sparsity,
            self._options.schedule,
        )

    def update(self, step: int, tensors: LiveTensors) -> None:
        """Remove the smallest |w| up to the sparsity of this update."""
        sparsity = self.sparsity_at(step)
        weights = {name: tensors.weights[name].detach() for name in self.masks}
        masks = {name: mask.to(weights[name].device) for name, mask in self.masks.items()}
        scope, rule = self._options.scope, self._options.counts
        if not self._options.returns:
            magnitudes = {name: weight.abs() for name, weight in weights.items()}
            self.masks = select_remaining(magnitudes, masks, sparsity, scope=scope, rule=rule)
            return
        values = {
            name: torch.where(masks[name], weight, self._removed.get(name, weight).to(weight))
            for name, weight in weights.items()
        }
        magnitudes = {name: value.abs() for name, value in values.items()}
        self.masks = select(magnitudes, sparsity, scope=scope, rule=rule)
        for name, weight in weights.items():
            returning = self.masks[name] & ~masks[name]
            weight[returning] = values[name][returning]
        self._removed = {
            name: values[name].masked_fill(mask, 0.0) for name, mask in self.masks.items()
        }

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the masks and, where weights may return, the values of the removed ones."""
        tensors = {f"mask/{name}": mask for name, mask in self.masks.items()}
        tensors.update({f"removed/{name}": value for name, value in self._removed.items()})
        return tensors, {}

    def restore(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Go on from a state.

        Raises:
            DataError: the state lacks a mask.
        """
        missing = [name for name in self.masks if f"mask/{name}" not in tensors]
        if missing:
            raise DataError(
                f"the state of gradual magnitude pruning lacks the masks of {', '.join(missing)}; "
                "it belongs to another network"
            )
        self.masks = {name: tensors[f"mask/{name}"].to(torch.bool) for name in self.masks}
        self._removed = {
            name: tensors[f"removed/{name}"] for name in self.masks if f"removed/{name}" in tensors
        }
