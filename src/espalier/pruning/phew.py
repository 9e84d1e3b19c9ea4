"""PHEW: switch on the weights of random paths that prefer large weights; no data.

A path goes from an input channel to an output unit, or the other way. Its steps are drawn by the
magnitudes of the weights (`espalier.pruning.random_walks`). Forward and backward paths take turns,
their first units go round robin, and every weight on a path is kept, until enough are.

Source: Patil and Dovrolis (2021), PHEW: Constructing sparse networks that learn fast and generalize
well without training data, section 4 and algorithm 1.

The paths follow the dataflow of the model, traced symbolically: channels pass through
normalisation, activations and pooling, through a flattening to a uniformly drawn feature of
their block, and at a fork to one of the branches, uniformly.

The time grows with the share of weights that are kept, and steeply below sparsity 0.1: the last
weights are those that walks visit least, and each takes as long to find as its probability says.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor, nn

from espalier.errors import ConfigurationError
from espalier.pruning.contract import Request
from espalier.pruning.dataflow import Step, trace
from espalier.pruning.option_checks import require_at_least, require_one_of
from espalier.pruning.random_walks import Site, expected_visits, walk_blocks
from espalier.pruning.selection import keep_count, largest, require_finite

WHEN = "before"


@dataclass(frozen=True)
class Options:
    """Options of PHEW.

    Attributes:
        identity_shortcuts: whether a path may skip a residual branch; the original's always goes
            through the weights, and forks only at shortcuts that have some.
        patience: give up walking when a block of walks brings less than one new weight in
            this many walks. The weights that are missing then are those that a walk is most likely
            to visit, ties by index.
        counts: "exact" cuts the last path where enough weights are kept. "published" is the
            original's rule: int((1 - sparsity) n) weights, and the last path is completed.
    """

    identity_shortcuts: bool = False
    patience: int = 1000
    counts: str = "exact"

    def __post_init__(self) -> None:
        require_at_least("patience", self.patience, 1)
        require_one_of("counts", self.counts, ("exact", "published"))


def unit_graph(model: nn.Module, identity_shortcuts: bool = False) -> tuple[Site, ...]:
    """Return the sites of a network in topological order: first the input, last the output.

    Every site lies on a path from the input to the output.

    Args:
        model: any network of one input and one output that torch.fx can trace.
        identity_shortcuts: keep the operand of a sum that another operand was computed from.

    Raises:
        ConfigurationError: the model cannot be traced, has several inputs or outputs, or units
            cannot be followed through one of its operations.
    """
    builder = _Builder(trace(model).steps, identity_shortcuts)
    return builder.sites()


def prune(request: Request, sparsity: float, options: Options) -> dict[str, Tensor]:
    """Return the masks of the weights that walks visit first.

    Masks of one seed are nested: a higher sparsity keeps a part of what a lower one keeps.

    Raises:
        ConfigurationError: as `unit_graph`; a prunable layer lies on no path; weights are not
            finite; or no weight would stay.
    """
    sites = unit_graph(request.model, options.identity_shortcuts)
    weights = _layer_weights(request.model, sites)
    _require_on_paths(sites, request.parameters)
    sizes = [weight.numel() for weight in request.parameters.values()]
    total = sum(sizes)
    if options.counts == "exact":
        target = keep_count(total, sparsity)
    else:
        target = int((1 - sparsity) * total)
    if target < 1:
        raise ConfigurationError(
            f"sparsity {sparsity} would leave none of {total} weights; lower it"
        )
    kept = torch.ones(total, dtype=torch.bool)
    if target < total:
        kept = _visited(request, sites, weights, target, options)
    return {
        name: part.reshape(weight.shape)
        for (name, weight), part in zip(request.parameters.items(), kept.split(sizes), strict=True)
    }


def _visited(
    request: Request,
    sites: Sequence[Site],
    weights: Mapping[str, Tensor],
    target: int,
    options: Options,
) -> Tensor:
    kept = np.zeros(sum(weight.numel() for weight in request.parameters.values()), dtype=bool)
    missing = target
    for visits in walk_blocks(sites, weights, request.parameters, request.seed):
        steps = visits.reshape(-1)
        fresh = np.flatnonzero((steps >= 0) & ~kept[steps])
        new, first = np.unique(steps[fresh], return_index=True)
        first = fresh[first]
        order = np.argsort(first)
        if len(new) >= missing:
            chosen = order[:missing]
            if options.counts == "published":
                walk = first[order[missing - 1]] // visits.shape[1]
                chosen = order[first[order] // visits.shape[1] <= walk]
            kept[new[chosen]] = True
            return torch.from_numpy(kept)
        kept[new] = True
        missing -= len(new)
        if len(new) * options.patience < len(visits):
            break
    expected = expected_visits(sites, weights)
    ranked = np.concatenate([expected[name].reshape(-1) for name in request.parameters])
    ranked[kept] = -1
    return torch.from_numpy(kept) | largest(torch.from_numpy(ranked), missing)


def _layer_weights(model: nn.Module, sites: Sequence[Site]) -> dict[str, Tensor]:
    names = dict.fromkeys(site.parameter for site in sites if site.parameter)
    weights: dict[str, Tensor] = {name: model.get_parameter(name) for name in names}
    require_finite(weights)
    return weights


def _require_on_paths(sites: Sequence[Site], names: Collection[str]) -> None:
    reached = {site.parameter for site in sites}
    missing = [name for name in names if name not in reached]
    if missing:
        raise ConfigurationError(
            f"{', '.join(missing)}: on no path from the input to the output, so that phew would "
            "remove all of it; exclude it to leave it dense"
        )


@dataclass(frozen=True)
class _Unfollowed:
    """The result of an operation that units cannot be followed through."""

    operation: str
    origins: frozenset[int] = frozenset()


_Place = int | _Unfollowed | None
"""The site whose units a step's result holds; None for sizes and constants."""


class _Builder:
    """Turns the steps of a network, one after the other, into sites."""

    def __init__(self, steps: Sequence[Step], identity_shortcuts: bool) -> None:
        self._steps = steps
        self._identity_shortcuts = identity_shortcuts
        self._sites: list[Site] = []
        self._ancestors: list[frozenset[int]] = []
        self._places: list[_Place] = []

    def sites(self) -> tuple[Site, ...]:
        """Return the sites that lead to the output, numbered from 0."""
        output = None
        for step in self._steps:
            if step.operation == "output":
                output = self._output(step)
            self._places.append(self._place(step))
        assert output is not None
        live = sorted(self._ancestors[output] | {output})
        number = {old: new for new, old in enumerate(live)}
        return tuple(
            replace(site, sources=tuple(number[source] for source in site.sources))
            for site in (self._sites[index] for index in live)
        )

    def _place(self, step: Step) -> _Place:
        operands = [self._places[index] for index in step.inputs]
        if step.operation in ("constant", "output"):
            return None
        if step.operation == "input":
            return self._input(step)
        if step.operation in ("layer", "shared layer"):
            return self._layer(step, operands[0])
        if step.operation == "concatenate":
            return self._concatenation(step, operands)
        if step.operation == "opaque":
            return _lost(step, operands)
        return self._meeting(step, operands)

    def _append(self, site: Site) -> int:
        self._sites.append(site)
        ancestors = frozenset(site.sources).union(*(self._ancestors[s] for s in site.sources))
        self._ancestors.append(ancestors)
        return len(self._sites) - 1

    def _input(self, step: Step) -> int:
        if self._sites:
            raise ConfigurationError(
                f"phew walks from one input, and the model has a second one, {step.name}"
            )
        return self._append(Site(step.name, 0))

    def _output(self, step: Step) -> int:
        places = [self._places[index] for index in step.inputs]
        if len(places) == 1 and isinstance(places[0], int) and self._sites[places[0]].units:
            return places[0]
        raise ConfigurationError(
            "phew cannot follow units to one output tensor of the model"
            f"{_culprit(places[0] if len(places) == 1 else None)}; prune it by another algorithm"
        )

    def _layer(self, step: Step, at: _Place) -> int:
        name = step.name
        if not isinstance(at, int):
            raise ConfigurationError(
                f"phew cannot follow units{_culprit(at)} to {name}; prune the model by another "
                "algorithm"
            )
        weight = step.module.weight
        groups = int(getattr(step.module, "groups", 1))
        inputs = weight.shape[1] * groups
        units = self._units(at, inputs)
        is_dense = isinstance(step.module, nn.Linear)
        layout = self._steps[step.inputs[0]].layout
        is_readable = layout == "any" or (layout == "maps") is not is_dense
        if inputs % units or (inputs != units and not is_dense) or not is_readable:
            raise ConfigurationError(
                f"phew cannot follow {units} units of {self._sites[at].name} into the {inputs} "
                f"inputs of {name}; prune the model by another algorithm"
            )
        return self._append(
            Site(name, len(weight), (at,), (0,), f"{name}.weight", inputs // units, groups)
        )

    def _units(self, at: int, expected: int) -> int:
        """Return the units of a site; those of the input are what the first to ask expects."""
        if not self._sites[at].units:
            self._sites[at] = replace(self._sites[at], units=expected)
        return self._sites[at].units

    def _meeting(self, step: Step, operands: Sequence[_Place]) -> _Place:
        sources = list(dict.fromkeys(at for at in operands if isinstance(at, int)))
        skips = step.adds and not self._identity_shortcuts
        for at in operands:
            if isinstance(at, _Unfollowed) and not (skips and self._before(at.origins, sources)):
                return at
        if skips:
            sources = [at for at in sources if not self._before({at}, sources)]
        if len(sources) < 2:
            return sources[0] if sources else None
        known = max(self._sites[at].units for at in sources)
        if any(self._units(at, known) != known for at in sources):
            return _lost(step, operands)
        return self._append(Site(step.name, known, tuple(sources), (0,) * len(sources)))

    def _before(self, sites: Collection[int], others: Collection[int]) -> bool:
        """Return whether one of the other sites was computed from all of these."""
        return any(self._ancestors[other].issuperset(sites) for other in others)

    def _concatenation(self, step: Step, operands: Sequence[_Place]) -> _Place:
        sources = [at for at in operands if isinstance(at, int) and self._sites[at].units]
        if len(sources) < len(operands):
            return _lost(step, operands)
        widths = [self._sites[at].units for at in sources]
        offsets = (0, *accumulate(widths[:-1]))
        return self._append(Site(step.name, sum(widths), tuple(sources), offsets))


def _lost(step: Step, operands: Sequence[_Place]) -> _Unfollowed:
    """Return the first operand that was lost before, or else what this step loses."""
    for at in operands:
        if isinstance(at, _Unfollowed):
            return at
    origins = frozenset(at for at in operands if isinstance(at, int))
    return _Unfollowed(f"{step.name} ({step.called})", origins)


def _culprit(place: _Place) -> str:
    return f" through {place.operation}" if isinstance(place, _Unfollowed) else ""
