"""PHEW: switch on the weights of random paths that prefer large weights; no data.

A path goes from an input channel to an output unit, or the other way. Its steps are drawn by the
magnitudes of the weights: from input unit i of a layer to output unit o with probability
proportional to the sum of |w| over the kernel (o, i), backwards from o to i likewise, and within
the kernel to one weight, proportional to |w|. Where all of these are zero the draw is uniform.
Forward and backward paths take turns, their first units go round robin, and every weight on a path
is kept, until enough are.

Source: Patil and Dovrolis (2021), PHEW: Constructing sparse networks that learn fast and generalize
well without training data, section 4 and algorithm 1.

The paths follow the dataflow of the model, traced symbolically: channels pass through
normalisation, activations and pooling, through a flattening to a uniformly drawn feature of
their block, and at a fork to one of the branches, uniformly.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, count
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _NormBase

from espalier.errors import ConfigurationError
from espalier.pruning.contract import PRUNABLE_LAYERS, Request
from espalier.pruning.saliency import require_at_least, require_one_of
from espalier.pruning.selection import keep_count, largest, require_finite
from espalier.seeds import numpy_generator

WHEN = "before"

BLOCK = 2048
"""Forward walks, and backward walks, that are drawn together; part of what a seed means."""


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


@dataclass(frozen=True)
class Site:
    """A place that a path passes: the input, a layer, or where activations meet.

    Attributes:
        name: node of the traced graph.
        units: channels, or features of a dense layer.
        sources: the sites whose units come in, by index.
        offsets: the first unit of each source; not 0 behind a concatenation only.
        parameter: name of the layer's weight; "" for a site without weights.
        block: inputs of the layer per unit of its source, more than 1 behind a flattening.
        groups: groups of a convolution.
    """

    name: str
    units: int
    sources: tuple[int, ...] = ()
    offsets: tuple[int, ...] = ()
    parameter: str = ""
    block: int = 1
    groups: int = 1


def transition_probabilities(weight: Tensor, groups: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return the probabilities of the next unit, forwards and backwards.

    Args:
        weight: (out, in / groups, ...) weight of a convolution or dense layer.
        groups: groups of the convolution.

    Returns:
        forward (in, out / groups) float64: from an input unit to the outputs of its group; backward
        (out, in / groups) float64: from an output unit to the inputs of its group. Rows sum to 1.
    """
    kernels = _magnitudes(weight)
    forward = _normalised(_by_input(kernels, groups)).reshape(
        groups * kernels.shape[1], kernels.shape[0] // groups, -1
    )
    backward = _normalised(kernels.reshape(len(kernels), -1)).reshape(kernels.shape)
    return forward.sum(axis=2), backward.sum(axis=2)


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
    try:
        graph = fx.Tracer().trace(model)
    except Exception as error:
        raise ConfigurationError(
            f"phew follows the dataflow of a model, and torch.fx cannot trace this one: {error}"
        ) from error
    builder = _Builder(model, identity_shortcuts)
    for node in graph.nodes:
        builder.add(node)
    return builder.finish()


def expected_visits(sites: Sequence[Site], weights: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Return how often a walk visits each weight, on average over forward and backward walks.

    Args:
        sites: as `unit_graph` returns them.
        weights: the weights of all layers.

    Returns:
        float64 arrays shaped as the weights; each layer's entries sum to the share of walks that go
        through the layer.
    """
    visits = _Walker(sites, weights).expected_visits()
    return {name: visits[name].reshape(tuple(weight.shape)) for name, weight in weights.items()}


def walk_blocks(
    sites: Sequence[Site], weights: Mapping[str, Tensor], names: Collection[str], seed: int
) -> Iterator[np.ndarray]:
    """Draw walks without end, 2 BLOCK at a time.

    Args:
        sites: as `unit_graph` returns them.
        weights: the weights of all layers.
        names: the layers whose weights are listed; they are numbered through in this order.
        seed: root of the draws.

    Yields:
        (2 BLOCK, layers) int64: one row per walk, forward and backward in turn, and in it the
        numbers of the weights in the order of the steps, then -1.
    """
    sizes = [weights[name].numel() for name in names]
    walker = _Walker(sites, weights, dict(zip(names, np.cumsum([0, *sizes]), strict=False)))
    for block in count():
        numbers = np.arange(block * BLOCK, (block + 1) * BLOCK)
        visits = [
            walker.walk(numbers, forward, numpy_generator(seed, "phew", block, direction))
            for forward, direction in ((True, "forward"), (False, "backward"))
        ]
        yield np.stack(visits, axis=1).reshape(2 * BLOCK, -1)


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
        new, first = np.unique(steps, return_index=True)
        fresh = (new >= 0) & ~kept[new]
        new, first = new[fresh], first[fresh]
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


class _Layer:
    """The steps from the inputs to the outputs of one layer, and back."""

    def __init__(self, kernels: np.ndarray, groups: int) -> None:
        outputs, self._inputs, self._taps = kernels.shape
        self._outputs, self._groups = outputs // groups, groups
        self._by_input = _normalised(_by_input(kernels, groups))
        self._by_output = _normalised(kernels.reshape(outputs, -1))
        self._forward = _cumulative(self._by_input)
        self._backward = _cumulative(self._by_output)

    @property
    def inputs(self) -> int:
        return self._inputs * self._groups

    def forward_step(self, inputs: np.ndarray, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the next output unit and the weight of every walk."""
        output, tap = divmod(_drawn(self._forward, self._by_input, inputs, draws), self._taps)
        group, within = divmod(inputs, self._inputs)
        outputs = group * self._outputs + output
        return outputs, (outputs * self._inputs + within) * self._taps + tap

    def backward_step(
        self, outputs: np.ndarray, draws: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the next input unit and the weight of every walk."""
        position = _drawn(self._backward, self._by_output, outputs, draws)
        inputs = outputs // self._outputs * self._inputs + position // self._taps
        return inputs, outputs * self._inputs * self._taps + position

    def forward_spread(self, mass: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the probability of each output and weight, from that of each input."""
        visits = (self._by_input * mass[:, None]).reshape(
            self._groups, self._inputs, self._outputs, self._taps
        )
        return visits.sum(axis=(1, 3)).reshape(-1), visits.transpose(0, 2, 1, 3).reshape(-1)

    def backward_spread(self, mass: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the probability of each input and weight, from that of each output."""
        visits = (self._by_output * mass[:, None]).reshape(
            self._groups, self._outputs, self._inputs, self._taps
        )
        return visits.sum(axis=(1, 3)).reshape(-1), visits.reshape(-1)


class _Walker:
    """Draws many walks at once, or follows their probability, along the sites of a network."""

    def __init__(
        self,
        sites: Sequence[Site],
        weights: Mapping[str, Tensor],
        offsets: Mapping[str, int] | None = None,
    ) -> None:
        self._sites = sites
        self._offsets = offsets or {}
        self._layers = {
            site.parameter: _Layer(_magnitudes(weights[site.parameter]), site.groups)
            for site in sites
            if site.parameter
        }
        self._depth = sum(bool(site.parameter) for site in sites)
        self._targets: list[list[tuple[int, int]]] = [[] for _ in sites]
        for index, site in enumerate(sites):
            for source, offset in zip(site.sources, site.offsets, strict=True):
                self._targets[source].append((index, offset))

    def walk(
        self, numbers: np.ndarray, forward: bool, generator: np.random.Generator
    ) -> np.ndarray:
        """Return the weights on walks as (walks, layers), -1 where there are fewer.

        Walk number n starts at unit n modulo the number of units. Weights are numbered from the
        offset of their layer; those of a layer without one are not listed.
        """
        start = 0 if forward else len(self._sites) - 1
        at = np.full(len(numbers), start)
        units = numbers % self._sites[start].units
        visits = np.full((len(numbers), self._depth), -1)
        steps = np.zeros(len(numbers), dtype=np.int64)
        for index in self._order(forward):
            here = np.flatnonzero(at == index)
            site = self._sites[index]
            if len(here) == 0:
                continue
            if site.parameter:
                units[here], visited = self._step(site, units[here], forward, generator)
                if site.parameter in self._offsets:
                    visits[here, steps[here]] = visited + self._offsets[site.parameter]
                    steps[here] += 1
            if forward and self._targets[index]:
                targets, offsets = np.array(self._targets[index]).T
                chosen = generator.integers(len(targets), size=len(here))
                at[here], units[here] = targets[chosen], units[here] + offsets[chosen]
            elif not forward and site.sources:
                sources, offsets = np.array(site.sources), np.array(site.offsets)
                if offsets.any():
                    chosen = np.searchsorted(offsets, units[here], side="right") - 1
                else:
                    chosen = generator.integers(len(sources), size=len(here))
                at[here], units[here] = sources[chosen], units[here] - offsets[chosen]
        return visits

    def expected_visits(self) -> dict[str, np.ndarray]:
        """Return per layer the flat mean number of visits of a walk, over both directions."""
        visits = {name: np.zeros(1) for name in self._layers}
        for forward in (True, False):
            mass = [np.zeros(self._arriving(site, forward)) for site in self._sites]
            start = mass[0 if forward else -1]
            start += 0.5 / len(start)
            for index in self._order(forward):
                site, here = self._sites[index], mass[index]
                if site.parameter:
                    here, visited = self._spread(site, here, forward)
                    visits[site.parameter] = visits[site.parameter] + visited
                targets = self._targets[index] if forward else ()
                for target, offset in targets:
                    mass[target][offset : offset + len(here)] += here / len(targets)
                sources = () if forward else site.sources
                shared = 1 if any(site.offsets) else len(sources)
                for source, offset in zip(sources, site.offsets, strict=False):
                    mass[source] += here[offset : offset + len(mass[source])] / shared
        return visits

    def _order(self, forward: bool) -> range:
        return range(len(self._sites)) if forward else range(len(self._sites) - 1, -1, -1)

    def _arriving(self, site: Site, forward: bool) -> int:
        if forward and site.parameter:
            return self._layers[site.parameter].inputs // site.block
        return site.units

    def _step(
        self, site: Site, units: np.ndarray, forward: bool, generator: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        layer, draws = self._layers[site.parameter], generator.random(len(units))
        if forward:
            within = generator.integers(site.block, size=len(units))
            return layer.forward_step(units * site.block + within, draws)
        inputs, visited = layer.backward_step(units, draws)
        return inputs // site.block, visited

    def _spread(self, site: Site, mass: np.ndarray, forward: bool) -> tuple[np.ndarray, np.ndarray]:
        layer = self._layers[site.parameter]
        if forward:
            return layer.forward_spread(np.repeat(mass / site.block, site.block))
        inputs, visited = layer.backward_spread(mass)
        return inputs.reshape(-1, site.block).sum(axis=1), visited


def _magnitudes(weight: Tensor) -> np.ndarray:
    magnitudes = weight.detach().cpu().to(torch.float64).abs().numpy()
    return magnitudes.reshape(*magnitudes.shape[:2], -1)


def _by_input(kernels: np.ndarray, groups: int) -> np.ndarray:
    """Return kernels (out, in / groups, taps) as one row per input, of (out / groups, taps)."""
    outputs, inputs, taps = kernels.shape
    split = kernels.reshape(groups, outputs // groups, inputs, taps)
    return split.transpose(0, 2, 1, 3).reshape(groups * inputs, -1)


def _normalised(rows: np.ndarray) -> np.ndarray:
    """Return rows that sum to 1; rows of zeros become uniform."""
    totals = rows.sum(axis=1, keepdims=True)
    return np.where(totals > 0, rows, 1.0) / np.where(totals > 0, totals, rows.shape[1])


def _cumulative(probabilities: np.ndarray) -> np.ndarray:
    """Return row number plus cumulative probability, one ascending sequence for all rows."""
    sums = np.cumsum(probabilities, axis=1)
    return (sums / sums[:, -1:] + np.arange(len(sums))[:, None]).reshape(-1)


def _drawn(
    cumulative: np.ndarray, probabilities: np.ndarray, rows: np.ndarray, draws: np.ndarray
) -> np.ndarray:
    """Return a column per row, for uniform draws in [0, 1); one of probability 0 never."""
    # Large row numbers round sums up: a draw must not reach the next row.
    values = np.minimum(rows + draws, np.nextafter(rows + 1.0, 0.0))
    return np.searchsorted(cumulative, values, side="right") - rows * probabilities.shape[1]


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


_PASSING_LAYERS = (
    _NormBase,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.LocalResponseNorm,
    nn.Identity,
    nn.Flatten,
    nn.AlphaDropout,
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.CELU,
    nn.ELU,
    nn.GELU,
    nn.Hardsigmoid,
    nn.Hardswish,
    nn.Hardtanh,
    nn.LeakyReLU,
    nn.LogSigmoid,
    nn.LogSoftmax,
    nn.Mish,
    nn.PReLU,
    nn.ReLU,
    nn.SELU,
    nn.Sigmoid,
    nn.SiLU,
    nn.Softmax,
    nn.Softplus,
    nn.Softsign,
    nn.Tanh,
    nn.AdaptiveAvgPool1d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveAvgPool3d,
    nn.AdaptiveMaxPool1d,
    nn.AdaptiveMaxPool2d,
    nn.AdaptiveMaxPool3d,
    nn.AvgPool1d,
    nn.AvgPool2d,
    nn.AvgPool3d,
    nn.MaxPool1d,
    nn.MaxPool2d,
    nn.MaxPool3d,
    nn.Upsample,
    nn.ZeroPad2d,
)
# Functions and methods by name; their first argument is the activation.
# fmt: off
_PASSING = frozenset((
    "abs", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d",
    "adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d", "alpha_dropout",
    "avg_pool1d", "avg_pool2d", "avg_pool3d", "batch_norm", "celu", "clamp", "clone",
    "contiguous", "detach", "dropout", "dropout1d", "dropout2d", "dropout3d", "elu", "exp",
    "flatten", "float", "gelu", "group_norm", "half", "hardsigmoid", "hardswish", "hardtanh",
    "instance_norm", "interpolate", "layer_norm", "leaky_relu", "local_response_norm",
    "log_softmax", "logsigmoid", "max_pool1d", "max_pool2d", "max_pool3d", "mish", "neg",
    "prelu", "relu", "relu6", "selu", "sigmoid", "silu", "softmax", "softplus", "softsign",
    "sqrt", "square", "squeeze", "stochastic_depth", "tanh", "to",
))
_MEETING = frozenset((
    "add", "iadd", "sub", "isub", "mul", "imul", "div", "idiv", "truediv", "itruediv",
    "maximum", "minimum",
))
# fmt: on
_REDUCING = frozenset(("mean", "sum", "amax", "amin"))
_RESHAPING = frozenset(("view", "reshape"))
_CONCATENATING = frozenset(("cat", "concat", "concatenate"))
_WITHOUT_UNITS = frozenset(("size", "dim", "numel"))


@dataclass(frozen=True)
class _Unfollowed:
    """The result of an operation that units cannot be followed through."""

    operation: str
    origins: frozenset[int] = frozenset()


class _Builder:
    """Turns the nodes of a traced graph, one after the other, into sites."""

    def __init__(self, model: nn.Module, identity_shortcuts: bool) -> None:
        self._model = model
        self._identity_shortcuts = identity_shortcuts
        self._sites: list[Site] = []
        self._ancestors: list[frozenset[int]] = []
        # The site whose units a node's result holds; None for sizes and constants.
        self._at: dict[fx.Node, int | _Unfollowed | None] = {}
        self._output: int | None = None

    def add(self, node: fx.Node) -> None:
        if node.op == "placeholder":
            self._at[node] = self._input(node)
        elif node.op == "output":
            self._finish_at(node)
        elif node.op == "get_attr":
            self._at[node] = None
        elif node.op == "call_module":
            self._at[node] = self._module(node)
        else:
            self._at[node] = self._function(node)

    def finish(self) -> tuple[Site, ...]:
        """Return the sites that lead to the output, numbered anew."""
        assert self._output is not None
        live = sorted(self._ancestors[self._output] | {self._output})
        number = {old: new for new, old in enumerate(live)}
        return tuple(
            replace(site, sources=tuple(number[source] for source in site.sources))
            for site in (self._sites[index] for index in live)
        )

    def _append(self, site: Site) -> int:
        self._sites.append(site)
        ancestors = frozenset(site.sources).union(*(self._ancestors[s] for s in site.sources))
        self._ancestors.append(ancestors)
        return len(self._sites) - 1

    def _input(self, node: fx.Node) -> int | None:
        if not self._sites:
            return self._append(Site(node.name, 0))
        if node.args:  # an argument with a default
            return None
        raise ConfigurationError(
            f"phew walks from one input, and the model has a second one, {node.name}"
        )

    def _finish_at(self, node: fx.Node) -> None:
        result = node.args[0]
        at = self._at.get(result) if isinstance(result, fx.Node) else None
        if isinstance(at, int) and self._sites[at].units:
            self._output = at
            return
        culprit = f" through {at.operation}" if isinstance(at, _Unfollowed) else ""
        raise ConfigurationError(
            f"phew cannot follow units to one output tensor of the model{culprit}; prune it by "
            "another algorithm"
        )

    def _module(self, node: fx.Node) -> int | _Unfollowed | None:
        name = str(node.target)
        module = self._model.get_submodule(name)
        at = self._at[node.all_input_nodes[0]] if node.all_input_nodes else None
        if isinstance(module, PRUNABLE_LAYERS):
            return self._layer(node, name, module, at)
        if isinstance(module, _PASSING_LAYERS) and len(node.all_input_nodes) == 1:
            return at
        return self._lost(node, f"{name} ({type(module).__name__})")

    def _layer(
        self, node: fx.Node, name: str, module: nn.Module, at: int | _Unfollowed | None
    ) -> int:
        if not isinstance(at, int):
            culprit = f"through {at.operation} " if isinstance(at, _Unfollowed) else ""
            raise ConfigurationError(
                f"phew cannot follow units {culprit}to {name}; prune the model by another algorithm"
            )
        weight = module.get_parameter("weight")
        groups = int(getattr(module, "groups", 1))
        inputs = weight.shape[1] * groups
        units = self._units(at, inputs)
        dense = isinstance(module, nn.Linear)
        if inputs % units or (inputs != units and not dense):
            raise ConfigurationError(
                f"phew cannot follow {units} units of {self._sites[at].name} into the {inputs} "
                f"inputs of {name}; prune the model by another algorithm"
            )
        return self._append(
            Site(node.name, len(weight), (at,), (0,), f"{name}.weight", inputs // units, groups)
        )

    def _units(self, at: int, expected: int) -> int:
        """Return the units of a site; those of the input are what the first to ask expects."""
        if not self._sites[at].units:
            self._sites[at] = replace(self._sites[at], units=expected)
        return self._sites[at].units

    def _function(self, node: fx.Node) -> int | _Unfollowed | None:
        name = _function_name(node).strip("_")
        operands = [self._at[operand] for operand in node.all_input_nodes]
        if all(at is None for at in operands) or name in _WITHOUT_UNITS:
            return None
        if name == "getattr":
            return (
                None if node.args[1] in ("shape", "ndim", "dtype", "device") else self._lost(node)
            )
        first = node.args[0] if node.args else node.kwargs.get("input")
        at = self._at[first] if isinstance(first, fx.Node) else None
        if name in _MEETING:
            return self._meeting(node, name, operands)
        if name in _CONCATENATING:
            return self._concatenation(node)
        followed = (
            name in _PASSING
            or (name == "pad" and _pads_pixels(node))
            or (name == "getitem" and _takes_pixels(node))
            or (name in _REDUCING and _keeps_units(node))
            or (name in _RESHAPING and _only_flattens(node))
        )
        return at if followed else self._lost(node)

    def _lost(self, node: fx.Node, operation: str = "") -> _Unfollowed:
        origins: frozenset[int] = frozenset()
        for operand in node.all_input_nodes:
            at = self._at[operand]
            if isinstance(at, _Unfollowed):
                return at
            origins |= frozenset(() if at is None else (at,))
        return _Unfollowed(operation or f"{_function_name(node)} ({node.name})", origins)

    def _meeting(
        self, node: fx.Node, name: str, operands: Sequence[int | _Unfollowed | None]
    ) -> int | _Unfollowed | None:
        sources = list(dict.fromkeys(at for at in operands if isinstance(at, int)))
        skipping = name not in ("add", "iadd") or self._identity_shortcuts
        for at in operands:
            if isinstance(at, _Unfollowed) and (skipping or not self._before(at.origins, sources)):
                return at
        if not skipping:
            sources = [at for at in sources if not self._before({at}, sources)]
        if len(sources) == 1:
            return sources[0]
        known = max(self._sites[at].units for at in sources)
        if any(self._units(at, known) != known for at in sources):
            return self._lost(node)
        return self._append(Site(node.name, known, tuple(sources), (0,) * len(sources)))

    def _before(self, sites: Collection[int], others: Collection[int]) -> bool:
        """Return whether one of the other sites was computed from all of these."""
        return any(self._ancestors[other].issuperset(sites) for other in others)

    def _concatenation(self, node: fx.Node) -> int | _Unfollowed:
        parts = node.args[0] if node.args else node.kwargs.get("tensors")
        axis = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
        sources: list[int] = []
        for part in parts if isinstance(parts, tuple | list) else ():
            at = self._at[part] if isinstance(part, fx.Node) else None
            if isinstance(at, _Unfollowed):
                return at
            if at is None or not self._sites[at].units:
                return self._lost(node)
            sources.append(at)
        if axis != 1 or not sources:
            return self._lost(node)
        widths = [self._sites[at].units for at in sources]
        offsets = (0, *accumulate(widths[:-1]))
        return self._append(Site(node.name, sum(widths), tuple(sources), offsets))


def _function_name(node: fx.Node) -> str:
    return node.target if isinstance(node.target, str) else node.target.__name__


def _arguments(node: fx.Node) -> tuple[Any, ...]:
    """Return the arguments after the tensor, of f(x, 1, 2) and f(x, (1, 2)) alike."""
    rest = node.args[1:]
    if len(rest) == 1 and isinstance(rest[0], tuple | list):
        return tuple(rest[0])
    return tuple(rest)


def _keeps_units(node: fx.Node) -> bool:
    axes = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else None)
    axes = axes if isinstance(axes, tuple | list) else (axes,)
    return all(isinstance(axis, int) and axis not in (0, 1) for axis in axes)


def _pads_pixels(node: fx.Node) -> bool:
    widths = node.args[1]
    return isinstance(widths, tuple | list) and len(widths) <= 4


def _takes_pixels(node: fx.Node) -> bool:
    """Return whether an index such as x[:, :, ::2, ::2] leaves the first two axes alone."""
    index = node.args[1]
    return isinstance(index, tuple) and index[:2] == (slice(None), slice(None))


def _only_flattens(node: fx.Node) -> bool:
    """Return whether a shape is (batch, features), with further axes of size 1 or without."""
    shape = _arguments(node)
    return len(shape) >= 2 and all(isinstance(n, int) and n == 1 for n in shape[2:])
