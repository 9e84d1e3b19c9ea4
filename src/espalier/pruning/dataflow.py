"""Which units of a network belong together: its dataflow, traced channel by channel.

A unit is an output channel of a convolution or an output of a dense layer. Where tensors are added,
their channels are tied: they can only be removed together. Of some operations it is only known that
channels can be followed through them, not what a missing channel does; one that is not known here
may do anything with its inputs. The units that reach either kind are pinned: never removed.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from espalier.errors import ConfigurationError
from espalier.models.evaluation_mode import in_evaluation_mode

Units = NDArray[np.int64]
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_PASSING_MODULES = (
    nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout,
    nn.FeatureAlphaDropout,
)  # fmt: skip
_POINTWISE_MODULES = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Tanh,
    nn.Sigmoid, nn.Softplus, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid,
)  # fmt: skip
_POINTWISE_FUNCTIONS = frozenset({
    functional.relu, functional.relu6, functional.leaky_relu, functional.elu, functional.gelu,
    functional.silu, functional.mish, functional.hardswish, functional.hardsigmoid,
    functional.hardtanh, functional.softplus, functional.sigmoid, functional.tanh, torch.relu,
    torch.sigmoid, torch.tanh, torch.add, torch.sub, torch.mul, operator.add, operator.iadd,
    operator.sub, operator.isub, operator.mul, operator.imul, operator.neg,
})  # fmt: skip
_POINTWISE_METHODS = frozenset({
    "relu", "relu_", "sigmoid", "tanh", "add", "add_", "sub", "sub_", "mul", "mul_", "contiguous",
    "clone", "neg",
})  # fmt: skip
_DROPOUTS = frozenset({functional.dropout, functional.dropout2d, functional.dropout3d})
_MAX_POOLS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
_AVERAGE_POOLS = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
_ADAPTIVE_POOLS = (
    nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d, nn.AdaptiveMaxPool1d,
    nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d,
)  # fmt: skip
_ADAPTIVE_FUNCTIONS = frozenset({
    functional.adaptive_avg_pool1d, functional.adaptive_avg_pool2d, functional.adaptive_avg_pool3d,
})  # fmt: skip
_MAX_POOL_FUNCTIONS = frozenset({
    functional.max_pool1d, functional.max_pool2d, functional.max_pool3d,
})  # fmt: skip
_AVERAGE_POOL_FUNCTIONS = frozenset({
    functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d,
})  # fmt: skip
_ALLOCATING_MODULES = (
    *_CONVOLUTIONS, *_NORMS, *_MAX_POOLS, *_AVERAGE_POOLS, *_ADAPTIVE_POOLS, nn.Linear,
)  # fmt: skip
_POOL_FUNCTIONS = _ADAPTIVE_FUNCTIONS | _MAX_POOL_FUNCTIONS | _AVERAGE_POOL_FUNCTIONS
_ALLOCATING_FUNCTIONS = _POINTWISE_FUNCTIONS | _POOL_FUNCTIONS | {torch.cat}

# Channels are followed through these as well. Functions and methods go by their names.
_FOLLOWED_MODULES = (
    *_PASSING_MODULES, *_POINTWISE_MODULES, *_NORMS, nn.InstanceNorm1d, nn.InstanceNorm2d,
    nn.InstanceNorm3d, nn.SyncBatchNorm, nn.GroupNorm, nn.LayerNorm, nn.LogSigmoid, nn.LogSoftmax,
    nn.PReLU, nn.Softmax, nn.Softsign,
)  # fmt: skip
_FOLLOWED_NAMES = frozenset(
    {function.__name__ for function in _POINTWISE_FUNCTIONS | _DROPOUTS}
    | {name.strip("_") for name in _POINTWISE_METHODS}
    | {
        "abs", "alpha_dropout", "batch_norm", "celu", "clamp", "detach", "div", "dropout1d", "exp",
        "float", "group_norm", "half", "idiv", "instance_norm", "itruediv", "layer_norm",
        "log_softmax", "logsigmoid", "maximum", "minimum", "prelu", "selu", "softmax", "softsign",
        "sqrt", "square", "stochastic_depth", "to", "truediv",
    }
)  # fmt: skip
_FOLLOWED_MAP_MODULES = (
    *_MAX_POOLS, *_AVERAGE_POOLS, *_ADAPTIVE_POOLS, nn.LocalResponseNorm, nn.Upsample, nn.ZeroPad2d,
)  # fmt: skip
_FOLLOWED_MAP_NAMES = frozenset(
    {function.__name__ for function in _POOL_FUNCTIONS}
    | {
        "adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d", "interpolate",
        "local_response_norm",
    }
)  # fmt: skip
_ADDITIONS = frozenset({"add", "iadd"})
_REDUCTIONS = frozenset({"amax", "amin", "mean", "sum"})
_CONCATENATIONS = frozenset({"cat", "concat", "concatenate"})
_SIZES = frozenset({"dim", "numel", "size"})
_SIZE_ATTRIBUTES = frozenset({"device", "dtype", "ndim", "shape"})


@dataclass(frozen=True, eq=False)
class Step:
    """One operation of the network.

    Attributes:
        operation: what it does with channels. "layer" (convolution or dense), "norm", "pointwise",
            "spatial" (pooling, flattening: every channel on its own) and "concatenate" are known in
            full; all that the others read stays as it is. "shared layer": a layer that is used
            twice. "followed": its channels are those of its inputs, one by one, but may depend on
            each other. "input", "output" (of the network), "constant" (sizes, parameters, what is
            computed from these), and "opaque" (whatever is not known).
        inputs: the steps whose outputs it reads.
        units: per channel of the output the unit it carries; None where nobody may remove it.
        layout: where the channels lie. "maps": along the second axis. "vector": along the second of
            two. "last": along the last axis of a tensor of unknown rank. "any": not known.
        name: the module's name, or else that of the node in the traced graph.
        called: the function or method, or the type of module.
        module: the module, of a layer or norm.
        function: of a pointwise step, from the values of its inputs to the value of its output.
        adds: whether its output is the sum of its inputs.
        pads_with_zeros: of a convolution or pool, whether zeros beyond the border enter its output.
    """

    operation: str
    inputs: tuple[int, ...] = ()
    units: Units | None = None
    layout: str = "maps"
    name: str = ""
    called: str = ""
    module: Any = None
    function: Callable[..., Tensor] | None = None
    adds: bool = False
    pads_with_zeros: bool = False


@dataclass(eq=False)
class Dataflow:
    """The steps of a network in the order in which they run, and the ties between their units."""

    steps: list[Step] = field(default_factory=list)
    pinned: set[int] = field(default_factory=set)
    _ties: list[int] = field(default_factory=list)
    _roots: Units | None = None

    def new_units(self, count: int) -> Units:
        """Return fresh units, tied to none."""
        self._roots = None
        first = len(self._ties)
        self._ties.extend(range(first, first + count))
        return np.arange(first, first + count)

    def tie(self, one: Iterable[int], other: Iterable[int]) -> None:
        """Tie units pair by pair: they are kept or removed together."""
        self._roots = None
        for a, b in zip(one, other, strict=True):
            self._ties[self._root(int(a))] = self._root(int(b))

    def representatives(self) -> Units:
        """Return per unit the one that stands for it and for all that it is tied to."""
        if self._roots is None:
            roots = [self._root(unit) for unit in range(len(self._ties))]
            self._roots = np.array(roots, dtype=np.int64)
        return self._roots

    def spread(self, marked: Iterable[int]) -> NDArray[np.bool_]:
        """Return per unit whether it is tied to one that is marked or pinned (itself included)."""
        roots = self.representatives()
        chosen = np.zeros(len(roots), dtype=bool)
        chosen[roots[[*marked, *self.pinned]]] = True
        return chosen[roots]

    def layers(self) -> Iterator[Step]:
        """Yield the convolutions and dense layers."""
        return (step for step in self.steps if step.operation == "layer")

    def inputs_of(self, step: Step) -> Units | None:
        """Return the units that a layer or norm reads, or None where nobody may remove them."""
        return self.steps[step.inputs[0]].units

    def kept_indices(self, kept: NDArray[np.bool_]) -> dict[str, tuple[Tensor, ...]]:
        """Return the indices, along the first axes, that each tensor of the network keeps.

        Args:
            kept: per unit whether it stays.

        Returns:
            Per entry of the state dict that belongs to a layer or norm; every other stays whole.
        """
        indices: dict[str, tuple[Tensor, ...]] = {}
        for step in self.steps:
            if step.operation == "layer":
                assert step.units is not None
                rows = torch.from_numpy(kept[step.units]).nonzero().flatten()
                indices[f"{step.name}.bias"] = (rows,)
                indices[f"{step.name}.weight"] = (rows,)
                if getattr(step.module, "groups", 1) == 1:
                    width = step.module.weight.shape[1]
                    units = self.inputs_of(step)
                    columns = torch.ones(width, dtype=torch.bool)
                    if units is not None:
                        flags = torch.from_numpy(kept[units])
                        columns = flags.repeat_interleave(width // len(units))
                    indices[f"{step.name}.weight"] = (rows, columns.nonzero().flatten())
            elif step.operation == "norm" and step.units is not None:
                rows = torch.from_numpy(kept[step.units]).nonzero().flatten()
                for key in ("weight", "bias", "running_mean", "running_var"):
                    indices[f"{step.name}.{key}"] = (rows,)
        return indices

    def _root(self, unit: int) -> int:
        while self._ties[unit] != unit:
            self._ties[unit] = self._ties[self._ties[unit]]
            unit = self._ties[unit]
        return unit


def per_channel(step: Step, entries: Tensor, inputs: int) -> Tensor:
    """Sum the entries of a layer's weight per pair of output and input channel.

    Args:
        step: a layer.
        entries: a tensor shaped as its weight.
        inputs: number of input channels; behind a flattening, a channel has several columns.

    Returns:
        (outputs, inputs); pairs of different groups of a convolution are 0.
    """
    outputs = len(entries)
    groups = getattr(step.module, "groups", 1)
    if groups == 1:
        return entries.reshape(outputs, inputs, -1).sum(dim=2)
    sums = entries.reshape(groups, outputs // groups, inputs // groups, -1).sum(dim=3)
    return torch.block_diag(*sums)


def trace(model: nn.Module) -> Dataflow:
    """Follow the channels of a network from its inputs to its outputs, as in evaluation mode.

    Raises:
        ConfigurationError: torch.fx cannot trace the network (its control flow depends on the
            data), or a layer is parametrised.
    """
    for name, module in model.named_modules():
        if parametrize.is_parametrized(module):
            raise ConfigurationError(
                f"layer {name} is parametrised; call "
                "torch.nn.utils.parametrize.remove_parametrizations on it first"
            )
    try:
        with in_evaluation_mode(model):
            graph = fx.Tracer().trace(model)
    except Exception as error:
        raise ConfigurationError(
            f"torch.fx cannot trace {type(model).__name__}: {error}. Its forward pass must not "
            "decide by the values of tensors"
        ) from error
    return _Reader(model, graph).read()


class _Reader:
    """Turns a traced graph into steps."""

    def __init__(self, model: nn.Module, graph: fx.Graph) -> None:
        self._modules = dict(model.named_modules())
        self._graph = graph
        self._flow = Dataflow()
        self._step_of: dict[fx.Node, int] = {}
        self._shared = _shared_modules(model, graph)

    def read(self) -> Dataflow:
        for node in self._graph.nodes:
            if _is_batch_size(node):
                continue
            step = self._known(node)
            if step is None:
                step = self._irremovable(node)
            self._step_of[node] = len(self._flow.steps)
            name, called = self._names(node)
            self._flow.steps.append(replace(step, name=name, called=called))
        return self._flow

    def _names(self, node: fx.Node) -> tuple[str, str]:
        if node.op == "call_module":
            name = str(node.target)
            return name, type(self._modules[name]).__name__
        return node.name, _function_name(node)

    def _irremovable(self, node: fx.Node) -> Step:
        """Return the step of a node whose inputs must all stay."""
        inputs = tuple(self._step_of[n] for n in node.all_input_nodes if n in self._step_of)
        for index in inputs:
            units = self._flow.steps[index].units
            if units is not None:
                self._flow.pinned.update(units.tolist())
        sources = [self._flow.steps[index] for index in inputs]
        sources = [step for step in sources if step.operation != "constant"]
        if node.op == "placeholder":
            # A further input with a default value keeps it.
            is_first = all(step.operation != "input" for step in self._flow.steps)
            return Step("input" if is_first or not node.args else "constant", layout="any")
        if node.op == "output":
            return Step("output", inputs, layout="any")
        if node.op != "call_module" and (not sources or _asks_for_size(node)):
            return Step("constant", inputs, layout="any")
        return self._followed(node, inputs, sources) or Step("opaque", inputs, layout="any")

    def _followed(self, node: fx.Node, inputs: tuple[int, ...], sources: list[Step]) -> Step | None:
        """Return the step of a node that keeps channels apart, or None."""
        layouts = {step.layout for step in sources} - {"any"}
        if len(layouts) > 1:
            return None
        before = layouts.pop() if layouts else "any"
        if node.op == "call_module":
            module = self._modules[str(node.target)]
            if len(inputs) != 1 or node.kwargs:
                return None
            if isinstance(module, (*_CONVOLUTIONS, nn.Linear)):
                return self._shared_layer(str(node.target), module, inputs[0])
            after = _layout_behind_module(module, before)
        elif _plain_name(node) in _CONCATENATIONS:
            return self._joined(node, before)
        else:
            after = _layout_behind_function(node, before)
        if after is None:
            return None
        adds = _plain_name(node) in _ADDITIONS
        return Step("followed", inputs, layout=after, adds=adds)

    def _shared_layer(self, name: str, module: Any, index: int) -> Step | None:
        before = self._flow.steps[index]
        if name not in self._shared or not _accepts(module, before):
            return None
        layout = _layout_behind_layer(module, before)
        return Step("shared layer", (index,), layout=layout, module=module)

    def _joined(self, node: fx.Node, layout: str) -> Step | None:
        parts = _argument(node, 0, "tensors", ())
        if _argument(node, 1, "dim", 0) != 1 or not isinstance(parts, tuple | list):
            return None
        known = [self._step_of[part] for part in parts if part in self._step_of]  # type: ignore[index]
        if len(known) != len(parts) or layout == "last":
            return None
        return Step("concatenate", tuple(known), layout=layout)

    def _known(self, node: fx.Node) -> Step | None:
        if node.op == "call_module":
            return self._module(node, self._modules[str(node.target)])
        if node.op == "call_function":
            return self._function(node)
        if node.op == "call_method":
            return self._method(node)
        return None

    def _source(self, node: fx.Node, position: int = 0) -> tuple[int, Step] | None:
        if len(node.args) <= position or not isinstance(node.args[position], fx.Node):
            return None
        index = self._step_of.get(node.args[position])  # type: ignore[arg-type]
        return None if index is None else (index, self._flow.steps[index])

    def _module(self, node: fx.Node, module: nn.Module) -> Step | None:
        source = self._source(node)
        if source is None or len(node.all_input_nodes) != 1 or node.kwargs:
            return None
        index, before = source
        name = str(node.target)
        if isinstance(module, (*_CONVOLUTIONS, nn.Linear)):
            return None if name in self._shared else self._layer(name, module, index, before)
        if isinstance(module, _NORMS):
            fits = before.units is not None and len(before.units) == module.num_features
            if name in self._shared or not fits:
                return None
            return self._as_before("norm", index, name=name, module=module)
        if isinstance(module, nn.Flatten):
            return self._flattened(index, module.start_dim, module.end_dim)
        if before.units is None:
            return None
        if isinstance(module, _PASSING_MODULES):
            return self._as_before("pointwise", index, function=_identity)
        if isinstance(module, _POINTWISE_MODULES):
            in_place = getattr(module, "inplace", False) and self._is_read_elsewhere(node.args[0])
            return None if in_place else self._as_before("pointwise", index, function=module)
        if before.layout != "maps" or getattr(module, "return_indices", False):
            return None
        if isinstance(module, (*_MAX_POOLS, *_ADAPTIVE_POOLS)):
            return self._as_before("spatial", index)
        if isinstance(module, _AVERAGE_POOLS) and getattr(module, "divisor_override", None) is None:
            pads = _is_padded(module.padding) and module.count_include_pad
            return self._as_before("spatial", index, pads_with_zeros=pads)
        return None

    def _as_before(self, operation: str, index: int, **facts: Any) -> Step:
        before = self._flow.steps[index]
        return Step(operation, (index,), before.units, before.layout, **facts)

    def _layer(self, name: str, module: Any, index: int, before: Step) -> Step | None:
        if not _accepts(module, before):
            return None
        is_dense = isinstance(module, nn.Linear)
        groups = 1 if is_dense else module.groups
        outputs = module.out_features if is_dense else module.out_channels
        units = self._flow.new_units(outputs)
        if groups > 1:
            self._tie_groups(groups, units, before.units)
        pads = not is_dense and module.padding_mode == "zeros" and _pads(module)
        layout = _layout_behind_layer(module, before)
        return Step("layer", (index,), units, layout, name, module=module, pads_with_zeros=pads)

    def _tie_groups(self, groups: int, units: Units, inputs: Units | None) -> None:
        """Tie all channels of a group: groups of unequal size do not exist."""
        if inputs is None:
            self._flow.pinned.update(units.tolist())
            return
        members = np.concatenate((units.reshape(groups, -1), inputs.reshape(groups, -1)), axis=1)
        for group in members:
            self._flow.tie(group[1:], group[:-1])

    def _function(self, node: fx.Node) -> Step | None:
        target: Any = node.target
        if target in _POINTWISE_FUNCTIONS:
            return self._pointwise(node, target)
        if target is torch.cat:
            return self._concatenate(node)
        source = self._source(node)
        if source is None or len(node.all_input_nodes) != 1:
            return None
        index, before = source
        if target is torch.flatten:
            start, end = _argument(node, 1, "start_dim", 0), _argument(node, 2, "end_dim", -1)
            return self._flattened(index, start, end)
        if before.units is None:
            return None
        if target in _DROPOUTS:
            training = _argument(node, 2, "training", True)
            return None if training else self._as_before("pointwise", index, function=_identity)
        if before.layout != "maps":
            return None
        if target is torch.mean:
            return self._mean(node, index)
        if target in _ADAPTIVE_FUNCTIONS:
            return self._as_before("spatial", index)
        if target in _MAX_POOL_FUNCTIONS:
            indices = _argument(node, 6, "return_indices", False)
            return None if indices else self._as_before("spatial", index)
        if (
            target in _AVERAGE_POOL_FUNCTIONS
            and _argument(node, 6, "divisor_override", None) is None
        ):
            pads = _is_padded(_argument(node, 3, "padding", 0))
            pads = pads and _argument(node, 5, "count_include_pad", True)
            return self._as_before("spatial", index, pads_with_zeros=pads)
        return None

    def _method(self, node: fx.Node) -> Step | None:
        name = str(node.target)
        if name in _POINTWISE_METHODS:
            return self._pointwise(node, lambda x, *rest, **more: getattr(x, name)(*rest, **more))
        source = self._source(node)
        if source is None:
            return None
        index, before = source
        if name == "mean" and before.units is not None and before.layout == "maps":
            return self._mean(node, index)
        if name == "flatten":
            start, end = _argument(node, 1, "start_dim", 0), _argument(node, 2, "end_dim", -1)
            return self._flattened(index, start, end)
        if name in ("view", "reshape"):
            # A batch size written out as a number would change with the channels.
            by_rows = len(node.args) == 3 and node.args[2] == -1
            by_rows = by_rows and isinstance(node.args[1], fx.Node)
            if by_rows and _is_batch_size(node.args[1]):
                return self._flattened(index, 1, -1)
        return None

    def _is_read_elsewhere(self, node: Any) -> bool:
        """Return whether a tensor that is overwritten may be read later under another name."""
        while len(node.users) == 1 and not self._makes_new_tensor(node):
            if not node.all_input_nodes:
                return False
            node = node.all_input_nodes[0]
        return len(node.users) > 1

    def _makes_new_tensor(self, node: fx.Node) -> bool:
        if node.op == "call_module":
            module = self._modules[str(node.target)]
            if isinstance(module, _POINTWISE_MODULES):
                return not getattr(module, "inplace", False)
            return isinstance(module, _ALLOCATING_MODULES)
        target: Any = node.target
        return target in _ALLOCATING_FUNCTIONS and not _writes_in_place(node)

    def _flattened(self, index: int, start: Any, end: Any) -> Step | None:
        before = self._flow.steps[index]
        if (start, end) != (1, -1) or before.layout == "last":
            return None
        operation = "followed" if before.units is None else "spatial"
        return Step(operation, (index,), before.units, "vector")

    def _mean(self, node: fx.Node, index: int) -> Step | None:
        axes = _argument(node, 1, "dim", None)
        if not isinstance(axes, tuple | list) or sorted(axes) not in ([2, 3], [-2, -1]):  # type: ignore[type-var]
            return None
        keeps_axes = bool(_argument(node, 2, "keepdim", False))
        units = self._flow.steps[index].units
        return Step("spatial", (index,), units, "maps" if keeps_axes else "vector")

    def _pointwise(self, node: fx.Node, function: Callable[..., Tensor]) -> Step | None:
        operands = [argument for argument in node.args if isinstance(argument, fx.Node)]
        if any(isinstance(argument, fx.Node) for argument in node.kwargs.values()):
            return None
        indices = [self._step_of.get(operand) for operand in operands]
        known = [index for index in indices if index is not None]
        before = [self._flow.steps[index] for index in known]
        if len(known) != len(operands) or any(step.units is None for step in before):
            return None
        layouts = {(len(_units(step)), step.layout) for step in before}
        if len(layouts) != 1 or (_writes_in_place(node) and self._is_read_elsewhere(node.args[0])):
            return None
        for step in before[1:]:
            self._flow.tie(_units(before[0]), _units(step))

        def evaluate(*values: Tensor) -> Tensor:
            given = iter(values)
            arguments = [next(given) if isinstance(a, fx.Node) else a for a in node.args]
            return function(*arguments, **node.kwargs)

        first = before[0]
        adds = _plain_name(node) in _ADDITIONS
        return Step(
            "pointwise", tuple(known), first.units, first.layout, function=evaluate, adds=adds
        )

    def _concatenate(self, node: fx.Node) -> Step | None:
        parts = _argument(node, 0, "tensors", ())
        if _argument(node, 1, "dim", 0) != 1 or not isinstance(parts, tuple | list):
            return None
        indices = [self._step_of.get(part) for part in parts]  # type: ignore[arg-type]
        known = [index for index in indices if index is not None]
        before = [self._flow.steps[index] for index in known]
        if len(known) != len(parts) or any(s.units is None or s.layout != "maps" for s in before):
            return None
        return Step("concatenate", tuple(known), np.concatenate([_units(step) for step in before]))


def _accepts(layer: Any, before: Step) -> bool:
    """Return whether the channels of a step can be those that a layer reads."""
    if not isinstance(layer._parameters.get("weight"), nn.Parameter):
        return False
    if before.units is None:
        return True
    if isinstance(layer, nn.Linear):
        return before.layout != "maps" and layer.in_features % len(before.units) == 0
    return before.layout == "maps" and layer.in_channels == len(before.units)


def _layout_behind_layer(layer: nn.Module, before: Step) -> str:
    if not isinstance(layer, nn.Linear):
        return "maps"
    return "vector" if before.layout == "vector" else "last"


def _layout_behind_module(module: Any, before: str) -> str | None:
    """Return where a module leaves the channels of its input, None where nobody knows."""
    if isinstance(module, _FOLLOWED_MODULES):
        return before
    if isinstance(module, nn.Flatten):
        return _layout_behind_flatten(before, module.start_dim, module.end_dim)
    if isinstance(module, _FOLLOWED_MAP_MODULES) and not getattr(module, "return_indices", False):
        return _if_maps(before)
    return None


def _layout_behind_function(node: fx.Node, before: str) -> str | None:
    """Return where a function or method leaves the channels of its inputs, None if not known."""
    name = _plain_name(node)
    if name in _FOLLOWED_NAMES:
        return before
    if name in _FOLLOWED_MAP_NAMES or (name == "pad" and _pads_positions(node)):
        return _if_maps(before)
    if name == "flatten":
        start, end = _argument(node, 1, "start_dim", 0), _argument(node, 2, "end_dim", -1)
        return _layout_behind_flatten(before, start, end)
    if name == "squeeze":
        return "any" if before == "maps" else before
    if name in ("view", "reshape"):
        return _layout_behind_view(node, before)
    if name == "getitem":
        return _layout_behind_index(node.args[1], before)
    if name in _REDUCTIONS:
        return _layout_behind_reduction(node, before)
    return None


def _if_maps(layout: str) -> str | None:
    return layout if layout in ("maps", "any") else None


def _layout_behind_flatten(before: str, start: Any, end: Any) -> str | None:
    if before == "last" or end != -1:
        return None
    return {1: "vector", 2: before}.get(start)


def _layout_behind_view(node: fx.Node, before: str) -> str | None:
    """Only (batch, features) keeps channels apart, with further axes of size 1 or without."""
    shape = node.args[1:]
    if len(shape) == 1 and isinstance(shape[0], tuple | list):
        shape = tuple(shape[0])
    if before == "last" or len(shape) < 2 or any(n != 1 for n in shape[2:]):
        return None
    return "maps" if len(shape) > 2 else "vector"


def _layout_behind_index(index: Any, before: str) -> str | None:
    """Follow x[:, :, ::2, ::2], which leaves the first two axes alone."""
    if not isinstance(index, tuple) or index[:2] != (slice(None), slice(None)) or before == "last":
        return None
    return before if all(isinstance(part, slice) for part in index) else "any"


def _layout_behind_reduction(node: fx.Node, before: str) -> str | None:
    axes = _argument(node, 1, "dim", None)
    axes = axes if isinstance(axes, tuple | list) else (axes,)
    if _if_maps(before) is None or any(not isinstance(a, int) or a in (0, 1) for a in axes):
        return None
    if _argument(node, 2, "keepdim", False):
        return before
    return "vector" if sorted(axes) in ([2, 3], [-2, -1]) else "any"  # type: ignore[type-var]


def _pads_positions(node: fx.Node) -> bool:
    widths = _argument(node, 1, "pad", None)
    return isinstance(widths, tuple | list) and len(widths) <= 4


def _asks_for_size(node: fx.Node) -> bool:
    name = _plain_name(node)
    return name in _SIZES or (name == "getattr" and node.args[1] in _SIZE_ATTRIBUTES)


def _function_name(node: fx.Node) -> str:
    target = node.target
    return target if isinstance(target, str) else getattr(target, "__name__", str(target))


def _plain_name(node: fx.Node) -> str:
    """Return a function's or method's name, without the underscores of what writes in place."""
    return _function_name(node).strip("_")


def _units(step: Step) -> Units:
    assert step.units is not None
    return step.units


def _identity(values: Tensor) -> Tensor:
    return values


def _argument(node: fx.Node, position: int, name: str, default: Any) -> Any:
    if len(node.args) > position:
        return node.args[position]
    return node.kwargs.get(name, default)


def _is_batch_size(node: Any) -> bool:
    """Return whether a node is `x.size(0)`, or `x.shape` of which only `[0]` is read, or that."""
    if not isinstance(node, fx.Node):
        return False
    if node.op == "call_method" and node.target == "size":
        return tuple(node.args[1:]) == (0,) and not node.kwargs
    if node.op != "call_function":
        return False
    if node.target is getattr:
        return node.args[1] == "shape" and all(_is_first_item(user) for user in node.users)
    return _is_first_item(node) and _is_batch_size(node.args[0])


def _is_first_item(node: fx.Node) -> bool:
    return node.target is operator.getitem and bool(node.args[1] == 0)


def _writes_in_place(node: fx.Node) -> bool:
    target: Any = node.target
    if node.op == "call_method":
        return target.endswith("_")
    in_place = (operator.iadd, operator.isub, operator.imul)
    return target in in_place or bool(node.kwargs.get("inplace", False))


def _is_padded(padding: Any) -> bool:
    return any(padding) if isinstance(padding, tuple | list) else bool(padding)


def _pads(convolution: Any) -> bool:
    if isinstance(convolution.padding, str):
        return convolution.padding == "same" and any(size > 1 for size in convolution.kernel_size)
    return _is_padded(convolution.padding)


def _shared_modules(model: nn.Module, graph: fx.Graph) -> set[str]:
    """Return the modules that are called twice, share a parameter, or are read from outside."""
    called = [str(node.target) for node in graph.nodes if node.op == "call_module"]
    shared = {name for name in called if called.count(name) > 1}
    shared |= {str(n.target).rpartition(".")[0] for n in graph.nodes if n.op == "get_attr"}
    owners: dict[nn.Parameter, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        owners.setdefault(parameter, []).append(name.rpartition(".")[0])
    for names in owners.values():
        if len(names) > 1:
            shared.update(names)
    return shared
