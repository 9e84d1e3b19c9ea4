"""Function graphs: Boolean functions as gates, their truth tables and the sub-functions they hold.

A function graph (Patil et al. 2023, section 1.1) is a directed acyclic graph of inputs, gates (AND,
OR, XOR, identity) and outputs; an edge may negate what it carries. Outputs are gates that feed
nothing. A sub-function is a set of nodes that belong together; the sub-functions partition the
nodes and are what module detection should find.

Those of the paper are in `espalier.sculpting.function_families`.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import yaml

from espalier.errors import DataError, unknown_name

MOST_INPUTS = 16
"""A truth table of more inputs would have more than 65,536 rows."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_NODE = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_KEYS = ("name", "inputs", "gates", "outputs", "subfunctions")

_KINDS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = MappingProxyType(
    {
        "and": lambda carried: carried.all(axis=1),
        "or": lambda carried: carried.any(axis=1),
        "xor": lambda carried: carried.sum(axis=1) % 2 == 1,
        "identity": lambda carried: carried[:, 0],
    }
)


@dataclass(frozen=True)
class Edge:
    """An edge from the node `source`; a negated one carries its complement."""

    source: str
    negated: bool = False

    @classmethod
    def parse(cls, text: str) -> Edge:
        """Return the edge of a text, the name of a node or "not" and a name; undoes `str`."""
        words = text.split()
        if len(words) == 2 and words[0] == "not":
            return cls(words[1], negated=True)
        return cls(text)

    def __str__(self) -> str:
        return f"not {self.source}" if self.negated else self.source


@dataclass(frozen=True)
class Gate:
    """A gate: `kind` is "and", "or", "xor" (odd number of ones) or "identity"."""

    name: str
    kind: str
    edges: tuple[Edge, ...]

    def __str__(self) -> str:
        return f"{self.kind}({', '.join(map(str, self.edges))})"


@dataclass(frozen=True)
class Subfunction:
    """Nodes of a function graph that belong together."""

    name: str
    nodes: frozenset[str]


@dataclass(frozen=True)
class FunctionGraph:
    """A Boolean function as a graph of gates, checked when made.

    Attributes:
        name: letters, digits, - and _; part of file names.
        inputs: names, the most significant bit of a truth table row first.
        gates: intermediate gates, in any order.
        outputs: gates that feed nothing, in the order of the output bits.
        subfunctions: a partition of all nodes; empty if the graph does not say.

    Raises:
        DataError: a name is unusable or occurs twice, a gate has the wrong number of edges or an
            unknown source, two gates are the same, there is a cycle, an input or a gate is not
            used, an output is constant, or the sub-functions do not partition the nodes. The
            message names the node.
    """

    name: str
    inputs: tuple[str, ...]
    gates: tuple[Gate, ...]
    outputs: tuple[Gate, ...]
    subfunctions: tuple[Subfunction, ...] = ()

    def __post_init__(self) -> None:
        _check_names(self)
        _check_gates(self)
        _check_cycles(self)
        _check_use(self)
        _check_subfunctions(self)
        _check_values(self)

    @property
    def nodes(self) -> tuple[str, ...]:
        """Names of all nodes: inputs, gates, outputs."""
        return (*self.inputs, *(gate.name for gate in (*self.gates, *self.outputs)))

    @cached_property
    def levels(self) -> Mapping[str, int]:
        """Hierarchical level of every node: 0 for inputs, longest path for gates.

        All outputs are on one level, that of the last of them.
        """
        levels = dict.fromkeys(self.inputs, 0)
        for gate in self._in_order:
            levels[gate.name] = 1 + max(levels[edge.source] for edge in gate.edges)
        last = max(levels[gate.name] for gate in self.outputs)
        levels.update({gate.name: last for gate in self.outputs})
        return MappingProxyType(levels)

    @property
    def depth(self) -> int:
        """Number of hierarchical levels, inputs and outputs included."""
        return 1 + max(self.levels.values())

    @cached_property
    def truth_table(self) -> tuple[np.ndarray, np.ndarray]:
        """Inputs (2^n, n) and targets (2^n, m), uint8; rows ascend, the first input counts most."""
        rows = np.arange(2 ** len(self.inputs))[:, None]
        inputs = (rows >> np.arange(len(self.inputs))[::-1] & 1).astype(bool)
        values = {name: inputs[:, k] for k, name in enumerate(self.inputs)}
        for gate in self._in_order:
            carried = [values[edge.source] ^ edge.negated for edge in gate.edges]
            values[gate.name] = _KINDS[gate.kind](np.stack(carried, axis=1))
        targets = np.stack([values[gate.name] for gate in self.outputs], axis=1)
        tables = inputs.astype(np.uint8), targets.astype(np.uint8)
        for table in tables:
            table.flags.writeable = False
        return tables

    def inputs_of(self, node: str) -> frozenset[int]:
        """Return the positions of the inputs from which a path leads to `node`, itself included.

        Raises:
            ConfigurationError: the graph has no such node.
        """
        return self._of(node, self._upstream)

    def outputs_of(self, node: str) -> frozenset[int]:
        """Return the positions of the outputs to which a path leads from `node`: those it serves.

        Raises:
            ConfigurationError: the graph has no such node.
        """
        return self._of(node, self._downstream)

    def _of(self, node: str, reached: Mapping[str, frozenset[int]]) -> frozenset[int]:
        if node not in reached:
            raise unknown_name(f"node of {self.name}", node, self.nodes)
        return reached[node]

    @cached_property
    def _in_order(self) -> tuple[Gate, ...]:
        """Gates and outputs, every gate after its sources."""
        done, waiting, order = set(self.inputs), [*self.gates, *self.outputs], []
        while waiting:
            ready = [gate for gate in waiting if all(edge.source in done for edge in gate.edges)]
            done.update(gate.name for gate in ready)
            order += ready
            waiting = [gate for gate in waiting if gate.name not in done]
        return tuple(order)

    @cached_property
    def _upstream(self) -> Mapping[str, frozenset[int]]:
        reached = {name: frozenset([k]) for k, name in enumerate(self.inputs)}
        for gate in self._in_order:
            reached[gate.name] = frozenset().union(*(reached[edge.source] for edge in gate.edges))
        return reached

    @cached_property
    def _downstream(self) -> Mapping[str, frozenset[int]]:
        reached = {name: frozenset[int]() for name in self.nodes}
        reached.update({gate.name: frozenset([k]) for k, gate in enumerate(self.outputs)})
        for gate in reversed(self._in_order):
            for edge in gate.edges:
                reached[edge.source] |= reached[gate.name]
        return reached


# -- checks --------------------------------------------------------------------------------------


def _check_names(graph: FunctionGraph) -> None:
    if not _NAME.fullmatch(graph.name):
        raise DataError(
            f"function graph {graph.name!r}: a name has 1 to 64 letters, digits, - and _ and "
            "starts with a letter or digit, because file names hold it"
        )
    if not graph.inputs or not graph.outputs:
        raise DataError(f"{graph.name}: a function graph needs at least one input and one output")
    if len(graph.inputs) > MOST_INPUTS:
        raise DataError(
            f"{graph.name} has {len(graph.inputs)} inputs; a truth table has at most "
            f"2^{MOST_INPUTS} rows"
        )
    for node in graph.nodes:
        if not _NODE.fullmatch(node) or node in ("not", *_KINDS):
            raise DataError(
                f"{graph.name}: {node!r} is not a node name; it starts with a letter, goes on with "
                f"letters, digits and _, and is none of {', '.join(('not', *_KINDS))}"
            )
    _refuse_repeated(graph, graph.nodes, "node names")


def _check_gates(graph: FunctionGraph) -> None:
    outputs = {gate.name for gate in graph.outputs}
    seen: dict[tuple[str, frozenset[Edge]], str] = {}
    for gate in (*graph.gates, *graph.outputs):
        if gate.kind not in _KINDS:
            raise unknown_name(
                f"kind of gate {gate.name} in {graph.name}:", gate.kind, _KINDS, DataError
            )
        for edge in gate.edges:
            if edge.source in outputs:
                raise DataError(
                    f"{graph.name}: {gate.name} takes the output {edge.source}; outputs feed "
                    "nothing, so take the gate behind it"
                )
            if edge.source not in graph.nodes:
                raise unknown_name(
                    f"source of gate {gate.name} in {graph.name}:", edge.source,
                    [node for node in graph.nodes if node not in outputs], DataError,
                )  # fmt: skip
        sources = [edge.source for edge in gate.edges]
        _refuse_repeated(graph, sources, f"sources of gate {gate.name}")
        needed = 1 if gate.kind == "identity" else 2
        if len(gate.edges) < needed or (needed == 1 and len(gate.edges) > 1):
            raise DataError(
                f"{graph.name}: gate {gate.name} is {gate}; {gate.kind} takes "
                f"{'exactly one source' if needed == 1 else 'two sources or more'}"
            )
        key = gate.kind, frozenset(gate.edges)
        if gate.name not in outputs:
            if key in seen:
                raise DataError(
                    f"{graph.name}: the gates {seen[key]} and {gate.name} are the same, {gate}; "
                    "use one of them twice"
                )
            seen[key] = gate.name


def _check_cycles(graph: FunctionGraph) -> None:
    sources = {gate.name: [edge.source for edge in gate.edges] for gate in graph.gates}
    closed: set[str] = set()
    for start in sources:
        path = [start]
        branches = [iter(sources[start])]
        while path:
            follower = next((node for node in branches[-1] if node not in closed), None)
            if follower is None or follower not in sources:
                if follower is None:
                    closed.add(path.pop())
                    branches.pop()
                continue
            if follower in path:
                cycle = [*path[path.index(follower) :], follower]
                raise DataError(
                    f"{graph.name}: the gates form a cycle, {' -> '.join(reversed(cycle))}; a "
                    "function graph has none"
                )
            path.append(follower)
            branches.append(iter(sources[follower]))


def _check_use(graph: FunctionGraph) -> None:
    used = {edge.source for gate in (*graph.gates, *graph.outputs) for edge in gate.edges}
    for kind, names in (("input", graph.inputs), ("gate", [gate.name for gate in graph.gates])):
        unused = [name for name in names if name not in used]
        if unused:
            raise DataError(
                f"{graph.name}: no gate takes the {kind}{'s' * (len(unused) > 1)} "
                f"{', '.join(unused)}; use or remove {'them' if len(unused) > 1 else 'it'}"
            )


def _check_subfunctions(graph: FunctionGraph) -> None:
    if not graph.subfunctions:
        return
    _refuse_repeated(graph, [part.name for part in graph.subfunctions], "sub-function names")
    held = Counter(node for part in graph.subfunctions for node in part.nodes)
    for part in graph.subfunctions:
        if not part.nodes:
            raise DataError(f"{graph.name}: the sub-function {part.name} has no nodes")
        for node in sorted(part.nodes):
            if node not in graph.nodes:
                kind = f"node of sub-function {part.name} in {graph.name}:"
                raise unknown_name(kind, node, graph.nodes, DataError)
            if held[node] > 1:
                raise DataError(
                    f"{graph.name}: {node} is in {held[node]} sub-functions, not in one"
                )
    left_out = [node for node in graph.nodes if node not in held]
    if left_out:
        raise DataError(
            f"{graph.name}: {', '.join(left_out)} in no sub-function; every node belongs to one"
        )


def _check_values(graph: FunctionGraph) -> None:
    """Refuse outputs that never change, and inputs that never change an output."""
    _, targets = graph.truth_table
    for k, gate in enumerate(graph.outputs):
        if targets[:, k].min() == targets[:, k].max():
            raise DataError(
                f"{graph.name}: the output {gate.name} is always {targets[0, k]}; a constant "
                "output depends on no input, so remove it"
            )
    shape = (2,) * len(graph.inputs)
    for k, name in enumerate(graph.inputs):
        halves = np.moveaxis(targets.reshape(*shape, -1), k, 0)
        if np.array_equal(halves[0], halves[1]):
            raise DataError(
                f"{graph.name}: no output ever changes with the input {name}; remove it"
            )


def _refuse_repeated(graph: FunctionGraph, names: Sequence[str], kind: str) -> None:
    repeated = sorted(name for name, count in Counter(names).items() if count > 1)
    if repeated:
        raise DataError(f"{graph.name}: the {kind} hold {', '.join(repeated)} more than once")


# -- a user's own --------------------------------------------------------------------------------


def read_function(path: str | os.PathLike[str]) -> FunctionGraph:
    """Read a function graph from YAML.

    Keys: `name` (by default the file's), `inputs` (a list of names, or how many: x1, x2, ...),
    `gates` and `outputs` (name: {kind: [sources]}, where "not a" is a negated edge) and, if known,
    `subfunctions` (name: [nodes]).

        inputs: 4
        gates:
          left: {and: [x1, not x2]}
          right: {or: [x3, x4]}
        outputs:
          y1: {xor: [left, right]}
          y2: {identity: [not right]}

    Raises:
        DataError: the file is missing or not valid YAML, has an unknown or repeated key, or
            describes no usable function graph; the message names the file, and the nearest key.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"function graph {path} cannot be read ({error})") from error
    try:
        content = yaml.load(text, _UniqueKeys)
    except yaml.YAMLError as error:
        raise DataError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    try:
        return _function_of(content, path.stem)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


class _UniqueKeys(yaml.SafeLoader):
    """YAML whose repeated keys are refused: the plain loader keeps the last one silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        repeated = [str(key) for k, key in enumerate(keys) if key in keys[:k]]
        if repeated:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {repeated[0]!r} occurs twice", node.start_mark
            )
        return super().construct_mapping(node, deep)


def _function_of(content: Any, stem: str) -> FunctionGraph:
    if not isinstance(content, dict):
        raise DataError(f"expected the keys {', '.join(_KEYS)}, not {type(content).__name__}")
    for key in content:
        if key not in _KEYS:
            raise unknown_name("key", key, _KEYS, DataError)
    missing = [key for key in ("inputs", "outputs") if key not in content]
    if missing:
        raise DataError(f"the key{'s' * (len(missing) > 1)} {', '.join(missing)} must be there")
    parts = _mapping(content.get("subfunctions"), "subfunctions")
    return FunctionGraph(
        str(content.get("name", stem)),
        _input_names(content["inputs"]),
        _gates(content.get("gates"), "gates"),
        _gates(content["outputs"], "outputs"),
        tuple(
            Subfunction(str(name), frozenset(_texts(nodes, f"subfunctions: {name}")))
            for name, nodes in parts.items()
        ),
    )


def _input_names(value: Any) -> tuple[str, ...]:
    if isinstance(value, int) and not isinstance(value, bool):
        return tuple(f"x{k + 1}" for k in range(value))
    return tuple(_texts(value, "inputs"))


def _gates(value: Any, key: str) -> tuple[Gate, ...]:
    gates = []
    for name, definition in _mapping(value, key).items():
        if not isinstance(definition, dict) or len(definition) != 1:
            raise DataError(
                f"{key}: {name} must be one kind with its sources, such as {{and: [x1, not x2]}}, "
                f"not {definition!r}"
            )
        ((kind, sources),) = definition.items()
        edges = tuple(Edge.parse(text) for text in _texts(sources, f"{key}: {name}"))
        gates.append(Gate(str(name), str(kind), edges))
    return tuple(gates)


def _mapping(value: Any, key: str) -> dict[Any, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise DataError(f"{key} must be a mapping from names, not {value!r}")
    return value


def _texts(value: Any, key: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise DataError(f"{key}: expected a list of names, not {value!r}")
    return value


__all__ = [
    "Edge",
    "FunctionGraph",
    "Gate",
    "Subfunction",
    "read_function",
]
