"""From a recorded run of a network to its layer graph.

Every tensor of the run is described by where its numbers come from: for each range of channels, the
parts (with a row and a column relation) that it is an element-wise function, a pool or a slice of.
A layer with weights turns that description into weighted operations and starts a part of its own.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from espalier.errors import ConfigurationError, DataError, nearest_hint
from espalier.graphs.block_merging import WeightedOperation, merged_block
from espalier.graphs.layer_graph import Block, Layer, LayerGraph, Part
from espalier.graphs.recording import Operation, Recording, Value, record
from espalier.graphs.tensor_sources import (
    Field,
    Segment,
    Source,
    adaptive_windows,
    by_axes,
    channel_range,
    compose,
    identity,
    padded,
    pool_windows,
    triples_of,
    united,
)

_INPUT = 0
_MAPS = (("N",), ("C",), ("H",), ("W",))

# Results keep the positions of their one tensor argument: activations, normalisations, copies.
_ELEMENTWISE_NAMES = """
    relu relu6 leaky_relu elu selu celu gelu silu mish hardswish hardsigmoid hardtanh sigmoid tanh
    softplus softsign softmax log_softmax logsigmoid prelu rrelu threshold hardshrink softshrink
    tanhshrink clamp clip abs neg exp expm1 log log1p sqrt rsqrt pow square sin cos erf
    dropout dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout
    batch_norm layer_norm group_norm instance_norm local_response_norm rms_norm
    contiguous clone detach to float double half bfloat16 type type_as data alias
    """
_ELEMENTWISE = frozenset(_ELEMENTWISE_NAMES.split())
_SUMS = frozenset({"add", "radd", "sub", "rsub", "subtract"})
_PRODUCTS = frozenset(
    {"mul", "rmul", "multiply", "div", "truediv", "rtruediv", "divide", "true_divide"}
)
_RESHAPES = frozenset(
    {"flatten", "view", "reshape", "squeeze", "unsqueeze", "unflatten", "view_as"}
)
_CONSTANTS = frozenset(
    {"zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full"}
)
_REDUCTIONS = frozenset({"mean", "sum", "amax"})


def traced_layer_graph(
    model: nn.Module,
    input_shape: tuple[int, int, int],
    masks: Mapping[str, Any] | None,
    padding_nodes: bool,
    identity_shortcuts: bool,
) -> LayerGraph:
    """Return the layer graph of a network; arguments and errors as in `layer_graph`."""
    recording = record(model, input_shape)
    tracer = _Tracer(recording, model, masks or {}, padding_nodes, identity_shortcuts)
    tracer.run()
    return tracer.graph()


class Weights:
    """The weights and masks of a network's layers as arrays, checked.

    Args:
        model: gives the parameters and their names.
        masks: parameter name to boolean array or tensor.

    Raises:
        DataError: a mask is named after no parameter.
    """

    def __init__(self, model: nn.Module, masks: Mapping[str, Any]) -> None:
        self._names: dict[int, str] = {}
        # A shared parameter has several names; the first one stands for all.
        first = {f"{name}.weight": f"{name}.weight" for name, _ in model.named_modules()}
        for name, tensor in model.named_parameters(remove_duplicate=False):
            first[name] = self._names.setdefault(id(tensor), name)
        self._masks = {}
        for name, mask in masks.items():
            if name in first:
                self._masks[first[name]] = mask
            else:
                raise DataError(
                    f"the mask {name!r} fits no parameter of the network."
                    f"{nearest_hint(name, first)} Masks are named as in the state dict"
                )

    def name_of(self, weight: torch.Tensor, module: str) -> str:
        """Return a weight's name; one that is computed (a parametrisation) has its module's."""
        return self._names.get(id(weight), f"{module}.weight" if module else "weight")

    def arrays(self, weight: torch.Tensor, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return a copy of the weight as float32 and its mask, both of the weight's shape.

        Raises:
            DataError: the weight is not finite or the mask has another shape.
        """
        values = weight.detach().to("cpu", torch.float32).numpy().copy()
        if not np.isfinite(values).all():
            raise DataError(
                f"{name} holds {int((~np.isfinite(values)).sum())} weights that are not finite; "
                "a graph needs finite weights"
            )
        mask = self._masks.get(name)
        if mask is None:
            return values, values != 0
        if isinstance(mask, torch.Tensor):
            mask = mask.detach().cpu().numpy()
        mask = np.array(mask, dtype=bool)
        if mask.shape != values.shape:
            raise DataError(
                f"the mask of {name} has shape {mask.shape}, the weight {values.shape}; "
                "give a mask of the same network"
            )
        return values, mask


class _Tracer:
    def __init__(
        self,
        recording: Recording,
        model: nn.Module,
        masks: Mapping[str, Any],
        padding_nodes: bool,
        identity_shortcuts: bool,
    ) -> None:
        self.recording = recording
        self.operations = recording.relevant()
        self.weights = Weights(model, masks)
        self.identity_shortcuts = identity_shortcuts
        self.fields: dict[int, Field] = {}
        self.uses = Counter(
            value.index for operation in self.operations for value in operation.inputs()
        )
        self.parts: list[Part] = []
        self.ancestors: list[set[int]] = []
        self.depth: list[int] = []
        self.weighted: list[WeightedOperation] = []
        self.layers: dict[str, Layer] = {}
        self.merged_into: dict[int, int] = {}
        margins = self._first_padding() if padding_nodes else (0, 0, 0, 0)
        self.fields[recording.input.index] = self._input_field(margins)

    # -- the run ---------------------------------------------------------------------------------

    def run(self) -> None:
        for operation in self.operations:
            fields = self._handler(operation)(operation)
            for value, field in zip(operation.results, fields, strict=True):
                self.fields[value.index] = field

    def _handler(self, operation: Operation) -> Callable[[Operation], Sequence[Field]]:
        name = operation.name
        if name in _ELEMENTWISE:
            return self._elementwise
        for names, handler in (
            (_SUMS, self._sum),
            (_PRODUCTS, self._product),
            (_RESHAPES, self._reshape),
            (_CONSTANTS, self._constant),
            (_REDUCTIONS, self._reduction),
        ):
            if name in names:
                return handler
        handlers: dict[str, Callable[[Operation], Sequence[Field]]] = {
            "conv2d": self._convolution,
            "linear": self._linear,
            "max_pool2d": self._max_pool,
            "avg_pool2d": self._average_pool,
            "adaptive_avg_pool2d": self._adaptive_pool,
            "adaptive_max_pool2d": self._adaptive_pool,
            "cat": self._concatenation,
            "concat": self._concatenation,
            "concatenate": self._concatenation,
            "pad": self._pad,
            "getitem": self._getitem,
            "chunk": self._split,
            "split": self._split,
            "permute": self._permute,
            "transpose": self._permute,
            "swapaxes": self._permute,
            "expand": self._expand,
            "expand_as": self._expand,
        }
        if name not in handlers:
            raise ConfigurationError(
                f"a layer graph does not know the operation {operation.where}; it knows "
                "convolutions and dense layers, pooling, sums, products, concatenation, reshaping "
                "and slicing that keep channels apart, normalisation, activations and dropout"
            )
        return handlers[name]

    def graph(self) -> LayerGraph:
        """Return the parts, in topological order, and the blocks between them."""
        weighted = [
            replace(operation, target=self._alive(operation.target), kind="residual")
            if self._alive(operation.target) != operation.target
            else operation
            for operation in self.weighted
        ]
        order = self._order(weighted)
        rank = {part: position for position, part in enumerate(order)}
        parts = tuple(self.parts[part] for part in order)
        groups: dict[tuple[int, int], list[WeightedOperation]] = defaultdict(list)
        for operation in weighted:
            source, target = rank[operation.source], rank[operation.target]
            groups[target, source].append(replace(operation, source=source, target=target))
        blocks: list[Block] = [merged_block(groups[pair], parts) for pair in sorted(groups)]
        residual = {operation.name for operation in weighted if operation.kind == "residual"}
        layers = tuple(
            replace(layer, kind="residual") if name in residual else layer
            for name, layer in self.layers.items()
        )
        return LayerGraph(parts, tuple(blocks), "definition", layers)

    def _alive(self, part: int) -> int:
        while part in self.merged_into:
            part = self.merged_into[part]
        return part

    def _order(self, weighted: Sequence[WeightedOperation]) -> list[int]:
        """Return the parts sorted topologically, earlier ones first where there is a choice."""
        targets: dict[int, set[int]] = defaultdict(set)
        waiting: Counter[int] = Counter()
        for operation in weighted:
            if operation.target not in targets[operation.source]:
                targets[operation.source].add(operation.target)
                waiting[operation.target] += 1
        alive = [part for part in range(len(self.parts)) if part not in self.merged_into]
        heap = [part for part in alive if not waiting[part]]
        heapq.heapify(heap)
        order = []
        while heap:
            part = heapq.heappop(heap)
            order.append(part)
            for target in targets[part]:
                waiting[target] -= 1
                if not waiting[target]:
                    heapq.heappush(heap, target)
        return order

    # -- the input -------------------------------------------------------------------------------

    def _first_padding(self) -> tuple[int, int, int, int]:
        """Return the zero padding (top, bottom, left, right) of what convolves the input itself."""
        direct = {self.recording.input.index}
        margins = [(0, 0, 0, 0)]
        for operation in self.operations:
            inputs = operation.inputs()
            if not any(value.index in direct for value in inputs):
                continue
            if operation.name == "conv2d":
                margins.append(_convolution_geometry(operation).padding)
            elif operation.name in _ELEMENTWISE or (
                operation.name in _SUMS | _PRODUCTS and len(inputs) == 1
            ):
                direct.update(result.index for result in operation.results)
        top, bottom, left, right = (max(side) for side in zip(*margins, strict=True))
        return top, bottom, left, right

    def _input_field(self, margins: tuple[int, int, int, int]) -> Field:
        _, channels, height, width = self.recording.input.shape
        top, bottom, left, right = margins
        padded_height, padded_width = top + height + bottom, left + width + right
        self.parts.append(Part("input", channels, padded_height, padded_width, max(margins)))
        self.ancestors.append(set())
        self.depth.append(0)
        rows, columns = identity(padded_height), identity(padded_width)
        source = Source(_INPUT, 0, rows, columns, margins)
        return Field(_MAPS, (Segment(channels, height, width, (source,)),))

    # -- layers with weights -----------------------------------------------------------------------

    def _convolution(self, operation: Operation) -> list[Field]:
        geometry = _convolution_geometry(operation)
        value = _arguments(operation, _CONVOLUTION_ARGUMENTS)["input"]
        field = self._maps(operation, value)
        _, _, height, width = operation.results[0].shape
        kernel = geometry.weight.shape[2:]
        top, _, left, _ = geometry.padding
        rows, columns = (
            stride * np.arange(size)[:, None] - before + dilation * np.arange(taps)
            for stride, size, before, dilation, taps in zip(
                geometry.stride,
                (height, width),
                (top, left),
                geometry.dilation,
                kernel,
                strict=True,
            )
        )
        name = self.weights.name_of(geometry.weight, operation.module)
        weight, mask = self._layer(geometry.weight, name, geometry.groups, "conv")
        part = self._new_part(name, weight.shape[0], height, width, field)
        channel = 0
        for segment in field.segments:
            for piece in _group_pieces(weight.shape, geometry.groups, channel, segment.channels):
                self._join(
                    name,
                    "conv",
                    segment,
                    part,
                    weight[piece.place],
                    mask[piece.place],
                    rows,
                    columns,
                    groups=piece.groups,
                    source_shift=piece.source_shift,
                    target_offset=piece.target_offset,
                )
            channel += segment.channels
        return [self._part_field(part, _MAPS)]

    def _linear(self, operation: Operation) -> list[Field]:
        bound = _arguments(operation, ("input", "weight", "bias"))
        value, tensor = bound["input"], bound["weight"]
        if not isinstance(value, Value) or not isinstance(tensor, torch.Tensor):
            raise _refusal(operation, "its weight depends on the input")
        field = self.fields[value.index]
        contracted = field.layout[-1]
        if "F" not in contracted and "C" not in contracted:
            raise _refusal(operation, "it mixes positions and keeps channels apart")
        name = self.weights.name_of(tensor, operation.module)
        weight, mask = self._layer(tensor, name, 1, "linear")
        outputs = weight.shape[0]
        flat = "F" in contracted
        height = 1 if flat or "H" in contracted else field.height
        width = 1 if flat or "W" in contracted else field.width
        part = self._new_part(name, outputs, height, width, field)
        start = 0
        for segment in field.segments:
            if flat:
                stop = start + segment.features
                shape = (outputs, segment.channels, segment.height, segment.width)
                kernels = [array[:, start:stop].reshape(shape) for array in (weight, mask)]
            else:
                stop = start + segment.channels
                kernels = [
                    by_axes(array, contracted, field)[:, start:stop] for array in (weight, mask)
                ]
            start = stop
            rows, columns = (
                np.arange(size)[None, :]
                if kernels[0].shape[dim] == size
                else np.arange(size)[:, None]
                for dim, size in ((2, segment.height), (3, segment.width))
            )
            self._join(name, "linear", segment, part, kernels[0], kernels[1], rows, columns)
        if flat or {"H", "W"} <= set(contracted):
            layout = (*field.layout[:-1], ("C", "H", "W"))
        else:
            # The contracted axes live on with size 1.
            layout = (*field.layout[:-1], contracted)
        return [self._part_field(part, layout)]

    def _layer(
        self, tensor: torch.Tensor, name: str, groups: int, kind: str
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return weight and mask in the layer's shape; keep them for the rolled encodings."""
        if name not in self.layers:
            weight, mask = self.weights.arrays(tensor, name)
            kernel = (*weight.shape, 1, 1)[:4]
            self.layers[name] = Layer(
                name, weight.reshape(kernel), mask.reshape(kernel), groups, kind
            )
        layer = self.layers[name]
        shape = tuple(tensor.shape)
        return layer.weight.reshape(shape), layer.mask.reshape(shape)

    def _new_part(self, name: str, channels: int, height: int, width: int, field: Field) -> int:
        sources = {self._alive(part) for part in field.parts()}
        # A module may be called twice; its parts get different names.
        own = name.removesuffix(".weight")
        calls = sum(part.name.split("#")[0] == own for part in self.parts)
        self.parts.append(Part(f"{own}#{calls + 1}" if calls else own, channels, height, width))
        self.ancestors.append(sources.union(*(self.ancestors[part] for part in sources)))
        self.depth.append(1 + max((self.depth[part] for part in sources), default=0))
        return len(self.parts) - 1

    def _part_field(self, part: int, layout: tuple[tuple[str, ...], ...]) -> Field:
        shape = self.parts[part]
        source = Source(part, 0, identity(shape.height), identity(shape.width))
        segment = Segment(shape.channels, shape.height, shape.width, (source,))
        return Field(layout, (segment,), fresh=True)

    def _join(
        self,
        name: str,
        kind: str,
        segment: Segment,
        target: int,
        weight: np.ndarray,
        mask: np.ndarray,
        rows: np.ndarray,
        columns: np.ndarray,
        *,
        groups: int = 1,
        source_shift: int = 0,
        target_offset: int = 0,
    ) -> None:
        """Add the weighted operations from all sources of a segment into a part.

        Args:
            rows, columns: (target positions, taps) integers, the segment's position that each tap
                reads; positions outside the map and its kept padding are skipped.
        """
        for source in segment.sources:
            top, _, left, _ = source.margins
            self.weighted.append(
                WeightedOperation(
                    name=name,
                    source=self._alive(source.part),
                    target=target,
                    weight=weight,
                    mask=mask,
                    rows=triples_of(source.rows, rows + top),
                    columns=triples_of(source.columns, columns + left),
                    groups=groups,
                    source_offset=source.channel + source_shift,
                    target_offset=target_offset,
                    kind=kind,
                )
            )

    # -- sums and products -----------------------------------------------------------------------

    def _operands(self, operation: Operation) -> list[Field]:
        """Return the fields of a binary operation, broadcast to the shape of the result."""
        values = operation.inputs()
        shape = operation.results[0].shape
        fields = []
        for value in values:
            field = self.fields[value.index]
            if self.uses[value.index] > 1:
                field = replace(field, fresh=False)
            fields.append(self._broadcast(operation, field, value.shape, shape))
        if len({field.layout for field in fields}) > 1:
            raise _refusal(operation, "its operands have their axes in different orders")
        return fields

    def _broadcast(
        self, operation: Operation, field: Field, shape: Sequence[int], target: Sequence[int]
    ) -> Field:
        if tuple(shape) == tuple(target):
            return field
        differing = [
            dim for dim, wanted in enumerate(target) if shape[dim:] and shape[dim] != wanted
        ]
        axes = {field.layout[dim] for dim in differing}
        if len(shape) != len(target) or not axes <= {("H",), ("W",)}:
            raise _refusal(operation, f"it broadcasts {tuple(shape)} to {tuple(target)}")
        sizes = {field.layout[dim]: target[dim] for dim in differing}
        return self._mapped(
            field,
            lambda reach: reach.repeat(sizes.get(("H",), 1), axis=1),
            lambda reach: reach.repeat(sizes.get(("W",), 1), axis=1),
        )

    def _sum(self, operation: Operation) -> list[Field]:
        fields = self._operands(operation)
        if len(fields) == 1:
            return [self._carried(operation)]
        first, second = fields
        if first.fresh and second.fresh:
            return [self._merged(first, second)]
        shortcuts = [self._is_shortcut(second, first), self._is_shortcut(first, second)]
        if shortcuts[0] and not shortcuts[1]:
            return [self._with_shortcut(first, second)]
        if shortcuts[1] and not shortcuts[0]:
            return [self._with_shortcut(second, first)]
        return [self._union(operation, fields)]

    def _is_shortcut(self, field: Field, main: Field) -> bool:
        """Return whether a summand holds nothing but what the other was computed from."""
        before = set().union(*(self.ancestors[self._alive(part)] for part in main.parts()))
        return {self._alive(part) for part in field.parts()} <= before

    def _merged(self, first: Field, second: Field) -> Field:
        """Join the parts of two summands: the deeper one stays, the other is a projection of it."""
        (one,), (two,) = ({self._alive(part) for part in f.parts()} for f in (first, second))
        main, other = (two, one) if self.depth[two] > self.depth[one] else (one, two)
        self.merged_into[other] = main
        self.ancestors[main] |= self.ancestors[other]
        for part, above in enumerate(self.ancestors):
            if part != main and main in above:
                above |= self.ancestors[main]
        return self._part_field(main, first.layout)

    def _with_shortcut(self, main: Field, shortcut: Field) -> Field:
        if not self.identity_shortcuts:
            return main
        if not main.fresh:
            return Field(main.layout, united([main, shortcut]))
        (part,) = main.parts()
        part = self._alive(part)
        channel = 0
        for segment in shortcut.segments:
            ones = np.ones((segment.channels, 1, 1, 1), np.float32)
            self._join(
                f"identity:{self.parts[part].name}",
                "identity",
                segment,
                part,
                ones,
                ones.astype(bool),
                np.arange(segment.height)[:, None],
                np.arange(segment.width)[:, None],
                groups=segment.channels,
                target_offset=channel,
            )
            channel += segment.channels
        return main

    def _product(self, operation: Operation) -> list[Field]:
        fields = self._operands(operation)
        if len(fields) == 1:
            return [self._carried(operation)]
        return [self._union(operation, fields)]

    def _union(self, operation: Operation, fields: Sequence[Field]) -> Field:
        if any(axes == ("F",) for axes in fields[0].layout):
            shapes = [[(s.channels, s.height, s.width) for s in f.segments] for f in fields]
            if shapes[0] != shapes[1]:
                raise _refusal(operation, "its operands are concatenations of different maps")
        return Field(fields[0].layout, united(fields))

    # -- operations without weights ----------------------------------------------------------------

    def _elementwise(self, operation: Operation) -> list[Field]:
        if len(operation.inputs()) > 1:
            raise _refusal(operation, "more than one of its arguments depends on the input")
        return [self._carried(operation)] * len(operation.results)

    def _carried(self, operation: Operation) -> Field:
        """Return the field of the one argument as that of the result."""
        (value,) = operation.inputs()
        if value.shape != operation.results[0].shape:
            raise _refusal(
                operation, f"it changes the shape {value.shape} to {operation.results[0].shape}"
            )
        field = self.fields[value.index]
        return replace(field, fresh=field.fresh and self.uses[value.index] == 1)

    def _mapped(
        self,
        field: Field,
        rows: Callable[[np.ndarray], np.ndarray],
        columns: Callable[[np.ndarray], np.ndarray],
    ) -> Field:
        """Return the field whose positions are those of another through two functions."""
        segments = []
        for segment in field.segments:
            sources = []
            for source in (s.trimmed() for s in segment.sources):
                sources.append(
                    replace(source, rows=rows(source.rows), columns=columns(source.columns))
                )
            # A segment without sources, a constant, has the shape all the same.
            height = rows(identity(segment.height)).shape[1]
            width = columns(identity(segment.width)).shape[1]
            segments.append(Segment(segment.channels, height, width, tuple(sources)))
        return Field(field.layout, tuple(segments))

    def _pooled(self, field: Field, rows: np.ndarray, columns: np.ndarray) -> Field:
        return self._mapped(
            field, lambda reach: compose(reach, rows), lambda reach: compose(reach, columns)
        )

    def _max_pool(self, operation: Operation) -> list[Field]:
        names = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode")
        return self._pool(operation, (*names, "return_indices"))

    def _average_pool(self, operation: Operation) -> list[Field]:
        names = ("input", "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad")
        return self._pool(operation, (*names, "divisor_override"))

    def _pool(self, operation: Operation, names: Sequence[str]) -> list[Field]:
        bound = _arguments(operation, names)
        field = self._maps(operation, bound["input"])
        kernel = _pair(bound["kernel_size"])
        stride = _pair(bound["stride"]) if bound["stride"] not in (None, (), []) else kernel
        padding, dilation = _pair(bound["padding"] or 0), _pair(bound.get("dilation") or 1)
        sizes = operation.results[0].shape[2:]
        rows, columns = (
            pool_windows(source, size, *geometry)
            for source, size, *geometry in zip(
                (field.height, field.width), sizes, kernel, stride, padding, dilation, strict=True
            )
        )
        return [self._pooled(field, rows, columns)] * len(operation.results)

    def _adaptive_pool(self, operation: Operation) -> list[Field]:
        value = operation.inputs()[0]
        field = self._maps(operation, value)
        rows, columns = (
            adaptive_windows(source, size)
            for source, size in zip(
                (field.height, field.width), operation.results[0].shape[2:], strict=True
            )
        )
        return [self._pooled(field, rows, columns)] * len(operation.results)

    def _reduction(self, operation: Operation) -> list[Field]:
        bound = _arguments(operation, ("input", "dim", "keepdim"))
        value = operation.inputs()[0]
        field = self.fields[value.index]
        dims = bound["dim"] if bound["dim"] is not None else tuple(range(len(value.shape)))
        dims = {dim % len(value.shape) for dim in ((dims,) if isinstance(dims, int) else dims)}
        reduced = {axis for dim in dims for axis in field.layout[dim]}
        if not reduced <= {"H", "W"}:
            raise _refusal(operation, "it mixes channels or inputs")
        everything = np.ones((field.height, 1), bool), np.ones((field.width, 1), bool)
        pooled = self._pooled(
            field,
            everything[0] if "H" in reduced else identity(field.height),
            everything[1] if "W" in reduced else identity(field.width),
        )
        return [self._regrouped(operation, pooled, operation.results[0].shape)]

    def _reshape(self, operation: Operation) -> list[Field]:
        value = operation.inputs()[0]
        if value.shape == operation.results[0].shape:
            return [self._carried(operation)]
        field = self.fields[value.index]
        return [self._regrouped(operation, field, operation.results[0].shape, value)]

    def _regrouped(
        self, operation: Operation, field: Field, shape: Sequence[int], value: Value | None = None
    ) -> Field:
        """Return a field whose axes, in their order, are spread over dimensions of other sizes."""
        axes = [axis for group in field.layout for axis in group]
        sizes = [self.recording.input.shape[0] if a == "N" else field.size(a) for a in axes]
        layout: list[tuple[str, ...]] = []
        position = 0
        for wanted in shape:
            group: list[str] = []
            product = 1
            while position < len(axes) and (product < wanted or (wanted == 1 and not group)):
                if wanted == 1 and sizes[position] != 1:
                    break
                group.append(axes[position])
                product *= sizes[position]
                position += 1
            if product != wanted:
                raise _refusal(operation, "it mixes channels, rows and columns in new dimensions")
            layout.append(tuple(group))
        if not layout:
            raise _refusal(operation, "it leaves a single number")
        layout[-1] = (*layout[-1], *axes[position:])
        fresh = field.fresh and (value is None or self.uses[value.index] == 1)
        return Field(tuple(layout), field.segments, fresh)

    def _permute(self, operation: Operation) -> list[Field]:
        value = operation.inputs()[0]
        field = self.fields[value.index]
        count = len(value.shape)
        if operation.name == "permute":
            dims = _arguments(operation, ("input", "dims"), rest="dims")["dims"]
            order = [dim % count for dim in dims]
        else:
            given = [a for a in operation.arguments if isinstance(a, int)]
            given += [v for k, v in operation.keywords.items() if isinstance(v, int)]
            order = list(range(count))
            first, second = (dim % count for dim in given)
            order[first], order[second] = order[second], order[first]
        layout = tuple(field.layout[dim] for dim in order)
        return [Field(layout, field.segments, field.fresh and self.uses[value.index] == 1)]

    def _expand(self, operation: Operation) -> list[Field]:
        value = operation.inputs()[0]
        field = self.fields[value.index]
        return [self._broadcast(operation, field, value.shape, operation.results[0].shape)]

    def _constant(self, operation: Operation) -> list[Field]:
        return [self._constant_field(operation, operation.results[0].shape)]

    def _constant_field(self, operation: Operation, shape: Sequence[int]) -> Field:
        if len(shape) == 4:
            return Field(_MAPS, (Segment(shape[1], shape[2], shape[3], ()),))
        if len(shape) == 2:
            return Field((("N",), ("C", "H", "W")), (Segment(shape[1], 1, 1, ()),))
        raise _refusal(operation, f"it makes or reads a constant of shape {tuple(shape)}")

    def _concatenation(self, operation: Operation) -> list[Field]:
        bound = _arguments(operation, ("tensors", "dim"))
        tensors = bound["tensors"]
        dim = (bound["dim"] or 0) % len(operation.results[0].shape)
        fields = [
            self.fields[tensor.index]
            if isinstance(tensor, Value)
            else self._constant_field(operation, tensor.shape)
            for tensor in tensors
        ]
        if len(fields) == 1:
            return fields
        flat = [
            len(field.layout) == 2 and dim == 1 and field.layout[1] in (("F",), ("C", "H", "W"))
            for field in fields
        ]
        if all(flat) and any(field.layout[1] == ("F",) or field.height * field.width > 1
                             for field in fields):  # fmt: skip
            layout: tuple[tuple[str, ...], ...] = (("N",), ("F",))
        else:
            layout = fields[0].layout
            same = all(
                (field.layout, field.height, field.width)
                == (layout, fields[0].height, fields[0].width)
                for field in fields
            )
            if not same or not self._runs_over_channels(fields[0], dim):
                raise _refusal(operation, "it does not concatenate channels")
        return [Field(layout, tuple(s for field in fields for s in field.segments))]

    def _runs_over_channels(self, field: Field, dim: int) -> bool:
        axes = field.layout[dim]
        return "C" in axes and all(field.size(axis) == 1 for axis in axes if axis != "C")

    def _pad(self, operation: Operation) -> list[Field]:
        bound = _arguments(operation, ("input", "pad", "mode", "value"))
        field = self._maps(operation, bound["input"])
        pad = [*bound["pad"], *[0] * (8 - len(bound["pad"]))]
        if any(pad[6:]):
            raise _refusal(operation, "it pads the inputs of a batch")
        mode = bound["mode"] or "constant"
        left, right, top, bottom, before, after = pad[:6]
        result = self._mapped(
            field,
            lambda reach: padded(reach, top, bottom, mode),
            lambda reach: padded(reach, left, right, mode),
        )
        segments = list(result.segments)
        height, width = result.height, result.width
        if before < 0 or after < 0:
            segments = list(
                channel_range(segments, -min(before, 0), field.channels + min(after, 0))
            )
        if before > 0:
            segments.insert(0, Segment(before, height, width, ()))
        if after > 0:
            segments.append(Segment(after, height, width, ()))
        return [Field(result.layout, tuple(segments))]

    def _getitem(self, operation: Operation) -> list[Field]:
        value = operation.inputs()[0]
        index = operation.arguments[1]
        index = index if isinstance(index, tuple) else (index,)
        if not all(isinstance(item, slice | int) or item is Ellipsis for item in index):
            raise _refusal(operation, "it picks positions by a list or mask")
        if Ellipsis in index:
            place = index.index(Ellipsis)
            missing = len(value.shape) - (len(index) - 1)
            index = (*index[:place], *[slice(None)] * missing, *index[place + 1 :])
        field = self.fields[value.index]
        for dim, item in enumerate(index):
            if isinstance(item, slice) and item == slice(None):
                continue
            field = self._sliced(operation, field, dim, item, value.shape[dim])
        if any(isinstance(item, int) for item in index):
            return [self._regrouped(operation, field, operation.results[0].shape)]
        return [field]

    def _sliced(self, operation: Operation, field: Field, dim: int, item: Any, size: int) -> Field:
        if isinstance(item, int):
            item = slice(item % size, item % size + 1)
        start, stop, step = item.indices(size)
        axes = field.layout[dim]
        if axes == ("H",):
            return self._mapped(field, lambda reach: reach[:, item], lambda reach: reach)
        if axes == ("W",):
            return self._mapped(field, lambda reach: reach, lambda reach: reach[:, item])
        if "C" in axes and self._runs_over_channels(field, dim) and step == 1:
            return replace(field, segments=channel_range(field.segments, start, stop), fresh=False)
        if axes == ("N",) and (start, stop, step) == (0, size, 1):
            return field
        raise _refusal(operation, "it does not slice channels, rows or columns")

    def _split(self, operation: Operation) -> list[Field]:
        bound = _arguments(operation, ("input", "sizes", "dim"))
        value = operation.inputs()[0]
        dim = (bound["dim"] or 0) % len(value.shape)
        fields, start = [], 0
        for result in operation.results:
            stop = start + result.shape[dim]
            field = self.fields[value.index]
            item = slice(start, stop)
            fields.append(self._sliced(operation, field, dim, item, value.shape[dim]))
            start = stop
        return fields

    # -- checks ------------------------------------------------------------------------------------

    def _maps(self, operation: Operation, value: Any) -> Field:
        """Return the field of an argument that must be (batch, channels, rows, columns)."""
        if not isinstance(value, Value):
            raise _refusal(operation, "its input does not depend on the network's input")
        field = self.fields[value.index]
        if field.layout != _MAPS:
            raise _refusal(operation, f"its input of shape {value.shape} is no map of channels")
        return field


# -- geometry ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _ConvolutionGeometry:
    weight: torch.Tensor
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]
    dilation: tuple[int, int]
    groups: int


_CONVOLUTION_ARGUMENTS = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")


def _convolution_geometry(operation: Operation) -> _ConvolutionGeometry:
    bound = _arguments(operation, _CONVOLUTION_ARGUMENTS)
    weight, padding = bound["weight"], bound["padding"]
    if not isinstance(weight, torch.Tensor):
        raise ConfigurationError(
            f"a layer graph cannot represent {operation.where}: its weight depends on the input"
        )
    dilation = _pair(bound["dilation"] or 1)
    if padding == "same":
        totals = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
        before = [total // 2 for total in totals]
        after = [total - half for total, half in zip(totals, before, strict=True)]
    else:
        before = after = list(_pair(0 if padding in (None, "valid") else padding))
    return _ConvolutionGeometry(
        weight=weight,
        stride=_pair(bound["stride"] or 1),
        padding=(before[0], after[0], before[1], after[1]),
        dilation=dilation,
        groups=int(bound["groups"] or 1),
    )


@dataclass(frozen=True)
class _GroupPiece:
    """The part of a grouped kernel that reads a range of channels within whole groups or one."""

    place: tuple[slice, slice]
    groups: int
    source_shift: int
    target_offset: int


def _group_pieces(
    shape: Sequence[int], groups: int, first: int, channels: int
) -> Iterable[_GroupPiece]:
    """Return the pieces of a kernel that read the input channels [first, first + channels)."""
    if groups == 1:
        yield _GroupPiece(np.s_[:, first : first + channels], 1, 0, 0)
        return
    outputs, inputs = shape[0] // groups, shape[1]
    last = first + channels
    if first % inputs == 0 and last % inputs == 0:
        start, stop = first // inputs, last // inputs
        rows = slice(start * outputs, stop * outputs)
        yield _GroupPiece((rows, slice(None)), stop - start, 0, start * outputs)
        return
    for group in range(first // inputs, math.ceil(last / inputs)):
        low, high = max(first, group * inputs), min(last, (group + 1) * inputs)
        rows = slice(group * outputs, (group + 1) * outputs)
        columns = slice(low - group * inputs, high - group * inputs)
        yield _GroupPiece((rows, columns), 1, low - first, group * outputs)


def _refusal(operation: Operation, reason: str) -> ConfigurationError:
    return ConfigurationError(f"a layer graph cannot represent {operation.where}: {reason}")


# -- arguments ---------------------------------------------------------------------------------


def _arguments(
    operation: Operation, names: Sequence[str], rest: str | None = None
) -> dict[str, Any]:
    """Return the arguments of a call by name, None where not given.

    Args:
        rest: the argument that may be given as several positional ones.
    """
    bound = dict.fromkeys(names)
    positional = operation.arguments
    if rest is not None:
        place = names.index(rest)
        if len(positional) > place + 1:
            positional = (*positional[:place], positional[place:])
    bound.update(zip(names, positional, strict=False))
    bound.update({key: value for key, value in operation.keywords.items() if key in bound})
    return bound


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    values = [int(item) for item in value]
    return (values[0], values[-1])
