"""One run of a network on zeros, recorded as a list of operations with concrete shapes.

Every torch function that the network calls is seen, whether a module or its forward method calls
it, so that control flow, functional forms and computed weights (parametrisations) need nothing
special. Symbolic tracing stops at the first branch on a shape and needs a second run for shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils.weak import WeakIdKeyDictionary

from espalier.errors import ConfigurationError, DataError
from espalier.models.evaluation_mode import in_evaluation_mode

BATCH = 2
"""Inputs in the recorded run; two, so that the batch axis is no singleton."""


@dataclass(frozen=True)
class Value:
    """A tensor that depends on the input, as it was between two operations that write to it."""

    index: int
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Operation:
    """One call of a torch function.

    Attributes:
        name: the function's bare name, for example "conv2d", "add" for `+` and `+=`.
        qualified_name: for messages.
        module: the innermost module that made the call; "" for the network itself.
        arguments, keywords: as passed; a tensor that depends on the input is a `Value`.
        results: the tensors that it returned.
    """

    name: str
    qualified_name: str
    module: str
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    results: tuple[Value, ...]

    @property
    def where(self) -> str:
        """Return the operation and its module, for messages."""
        return f"{self.qualified_name} in {self.module or 'the network'!r}"

    def inputs(self) -> list[Value]:
        """Return the values among the arguments, in order."""
        return list(_values((self.arguments, self.keywords)))


@dataclass
class Recording:
    """The operations of one run, in the order of the calls."""

    input: Value
    output: Value
    operations: list[Operation] = field(default_factory=list)

    def relevant(self) -> list[Operation]:
        """Return the operations that the output depends on, in order."""
        needed = {self.output.index}
        kept = []
        for operation in reversed(self.operations):
            if any(result.index in needed for result in operation.results):
                needed.update(value.index for value in operation.inputs())
                kept.append(operation)
        return kept[::-1]


def record(model: nn.Module, input_shape: tuple[int, int, int]) -> Recording:
    """Run a network on zeros in eval mode and record what it computes; its mode is restored.

    Args:
        model: maps (batch, channels, height, width) to one tensor.
        input_shape: (channels, height, width).

    Raises:
        ConfigurationError: the output is not one tensor that depends on the input.
        DataError: the network rejects the input.
    """
    shape = tuple(int(size) for size in input_shape)
    if len(shape) != 3 or min(shape) < 1:
        raise DataError(f"input_shape is {shape}; expected (channels, height, width), all >= 1")
    example = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    inputs = torch.zeros((BATCH, *shape), dtype=example.dtype, device=example.device)
    recorder = _Recorder()
    start = recorder.track(inputs)
    try:
        with (
            in_evaluation_mode(model),
            _module_names(model, recorder.modules),
            torch.no_grad(),
            recorder,
        ):
            output = model(inputs)
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
        where = recorder.modules[-1] if recorder.modules else ""
        raise DataError(
            f"the network rejects an input of shape {shape}, in {where or 'the network'!r}: "
            f"{error}. Give the input_shape it was built for"
        ) from error
    if not isinstance(output, torch.Tensor) or output not in recorder.current:
        raise ConfigurationError(
            f"the network returns {type(output).__name__}; a layer graph needs one tensor that "
            "depends on the input. Wrap the network in a module that returns its logits"
        )
    return Recording(start, recorder.current[output], recorder.operations)


class _Recorder(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.current = WeakIdKeyDictionary()
        self.operations: list[Operation] = []
        self.modules: list[str] = []
        self._count = 0

    def track(self, tensor: torch.Tensor) -> Value:
        value = Value(self._count, tuple(tensor.shape))
        self._count += 1
        self.current[tensor] = value
        return value

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        # The arguments are read first: an operation in place overwrites its own.
        arguments, keywords = self._with_values(tuple(args)), self._with_values(kwargs or {})
        result = func(*args, **(kwargs or {}))
        tensors = [t for t in _leaves(result) if isinstance(t, torch.Tensor)]
        if tensors and any(True for _ in _values((arguments, keywords))):
            self.operations.append(
                Operation(
                    name=_bare_name(func),
                    qualified_name=resolve_name(func) or _bare_name(func),
                    module=self.modules[-1] if self.modules else "",
                    arguments=arguments,
                    keywords=keywords,
                    results=tuple(self.track(tensor) for tensor in tensors),
                )
            )
        return result

    def _with_values(self, argument: Any) -> Any:
        if isinstance(argument, torch.Tensor):
            return self.current.get(argument, argument)
        if isinstance(argument, tuple | list):
            return tuple(self._with_values(item) for item in argument)
        if isinstance(argument, dict):
            return {key: self._with_values(item) for key, item in argument.items()}
        return argument


@contextmanager
def _module_names(model: nn.Module, stack: list[str]) -> Iterator[None]:
    """Keep the names of the modules that are running on a stack; left as it is on an error."""
    with ExitStack() as hooks:
        for name, module in model.named_modules():

            def enter(_module: nn.Module, _args: Any, name: str = name) -> None:
                stack.append(name)

            def leave(_module: nn.Module, _args: Any, _output: Any) -> None:
                stack.pop()

            hooks.callback(module.register_forward_pre_hook(enter, prepend=True).remove)
            hooks.callback(module.register_forward_hook(leave).remove)
        yield


def _bare_name(func: Callable[..., Any]) -> str:
    """Return "add" for `add`, `add_`, `__add__` and `__iadd__`; a property's own name."""
    name = getattr(func, "__name__", type(func).__name__)
    if name == "__get__":
        return getattr(getattr(func, "__self__", None), "__name__", name)
    bare = name.strip("_")
    in_place = name.startswith("__i") and bare[1:] in _IN_PLACE_OPERATORS
    return bare[1:] if in_place else bare


_IN_PLACE_OPERATORS = {"add", "sub", "mul", "truediv", "floordiv", "pow"}


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, tuple | list):
        for item in value:
            yield from _leaves(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _leaves(item)
    else:
        yield value


def _values(value: Any) -> Iterator[Value]:
    return (leaf for leaf in _leaves(value) if isinstance(leaf, Value))
