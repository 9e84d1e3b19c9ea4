"""The functions of the paper: Boolean functions in families, by their published names.

A name lists inputs, sub-functions per hierarchical level from the inputs on, outputs:
`published_function("4-1-2-16")` is the reused sub-function of Figure 2a.

Source: Patil et al. (2023), Figures 6, 8, 9 and 11.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from types import MappingProxyType

from espalier.errors import unknown_name
from espalier.sculpting.functions import Edge, FunctionGraph, Gate, Subfunction

USES = (1, 2, 4, 6, 8)
"""How many outputs copy each of the two output sub-functions."""

_OVERLAP_PREFIX = ("8-2", "7-3-2", "6-3-2", "5-3-2", "4-1-2-2")

FAMILIES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "validation": ("4-2-4", "4-1-2-16", "6-3-3-3", "4-1-4"),
        "use": tuple(f"4-1-2-{2 * use}" for use in USES),
        "overlap": tuple(f"{prefix}-{2 * use}" for prefix in _OVERLAP_PREFIX for use in USES),
        "levels": tuple(f"8-2-1-2-{2 * use}" for use in USES),
    }
)
"""The functions of Figures 7, 8, 10 and 12. 39 in all; 4-1-2-16 is in two families."""

_TRIPLES = {"A": ("0011", "1010", "1100"), "B": ("0101", "1001", "1111")}
"""The rows where the four-bit functions A and B are 1."""


def published_functions() -> tuple[str, ...]:
    """Return the names of the published functions: 38, as 4-1-2-16 is in two families of the 39."""
    return tuple(dict.fromkeys(name for names in FAMILIES.values() for name in names))


@cache
def published_function(name: str) -> FunctionGraph:
    """Return a function graph of Patil et al. (2023), Figures 6, 8, 9 and 11, by its name.

    The name `n-a-b-m` is the paper's list: n inputs, a and b sub-functions per hierarchical level,
    m outputs. Functions with two output sub-functions use them in turn: y1, y3, ... are copies of
    the first, y2, y4, ... of the second.

    Raises:
        ConfigurationError: no published function has this name.
    """
    if name not in published_functions():
        raise unknown_name("published function", name, published_functions())
    numbers = [int(part) for part in name.split("-")]
    if name in FAMILIES["use"]:
        return _reused(name, numbers[-1])
    if name in FAMILIES["overlap"]:
        return _overlapping(name, numbers[0], numbers[-1])
    if name in FAMILIES["levels"]:
        return _levelled(name, numbers[-1])
    return {"4-2-4": _separable, "6-3-3-3": _separable_and_reused, "4-1-4": _not_modular}[name]()


def function_use(name: str) -> int | None:
    """Return how many outputs copy each output sub-function; None where nothing is varied."""
    if any(name in FAMILIES[family] for family in ("use", "overlap", "levels")):
        return int(name.rpartition("-")[2]) // 2
    return None


def function_overlap(name: str) -> int | None:
    """Return how many inputs the two sub-functions share; None outside the overlap family."""
    return 8 - int(name.partition("-")[0]) if name in FAMILIES["overlap"] else None


def _separable() -> FunctionGraph:
    gates, outputs, parts = [], [], []
    for part, (a, b), (y, z) in (("first", (1, 2), (1, 2)), ("second", (3, 4), (3, 4))):
        high, low = f"g{a}", f"g{b}"
        gates += [_gate(high, "and", f"x{a}", f"not x{b}"), _gate(low, "and", f"not x{a}", f"x{b}")]
        outputs += [
            _gate(f"y{y}", "or", high, low),
            _gate(f"y{z}", "and", f"not {high}", f"not {low}"),
        ]
        parts.append(_part(part, f"x{a}", f"x{b}", high, low, f"y{y}", f"y{z}"))
    return FunctionGraph("4-2-4", _inputs(4), tuple(gates), tuple(outputs), tuple(parts))


def _separable_and_reused() -> FunctionGraph:
    gates = [_gate(name, "and", f"x{k}", f"x{k + 1}") for name, k in (("p", 1), ("q", 3), ("r", 5))]
    pairs = (("p", "q"), ("p", "r"), ("q", "r"))
    outputs = [_gate(f"y{k}", "or", *pair) for k, pair in enumerate(pairs, 1)]
    parts = [
        *(_part(name, f"x{k}", f"x{k + 1}", name) for name, k in (("p", 1), ("q", 3), ("r", 5))),
        *(_part(f"output{k}", f"y{k}") for k in (1, 2, 3)),
    ]
    return FunctionGraph("6-3-3-3", _inputs(6), tuple(gates), tuple(outputs), tuple(parts))


def _not_modular() -> FunctionGraph:
    inputs = _inputs(4)
    gates = _minterms("g", inputs, "A")
    names = [gate.name for gate in gates]
    outputs = tuple(_gate(f"y{k}", "or", *names) for k in range(1, 5))
    whole = _part("whole", *inputs, *names, *(gate.name for gate in outputs))
    return FunctionGraph("4-1-4", inputs, gates, outputs, (whole,))


def _reused(name: str, n_outputs: int) -> FunctionGraph:
    inputs = _inputs(4)
    gates = _minterms("g", inputs, "A")
    first, second = _gate("f1", "or", "g2", "g3"), _gate("f2", "or", "g1", "g2")
    outputs = _copies(n_outputs, "f1", "f2")
    parts = (
        _part("shared", *inputs, "g1", "g2", "g3"),
        _part("first", "f1", *_odd(outputs)),
        _part("second", "f2", *_even(outputs)),
    )
    return FunctionGraph(name, inputs, (*gates, first, second), outputs, parts)


def _overlapping(name: str, n_inputs: int, n_outputs: int) -> FunctionGraph:
    inputs = _inputs(n_inputs)
    gates = (
        *_minterms("a", inputs[:4], "A"),
        *_minterms("b", inputs[-4:], "B"),
        _gate("f1", "or", "a1", "a2", "a3"),
        _gate("f2", "or", "b1", "b2", "b3"),
    )
    outputs = _copies(n_outputs, "f1", "f2")
    first, second = (
        {"a1", "a2", "a3", "f1", *_odd(outputs)},
        {"b1", "b2", "b3", "f2", *_even(outputs)},
    )
    only_first, only_second = inputs[: n_inputs - 4], inputs[4:]
    parts = [Subfunction("first", frozenset(first)), Subfunction("second", frozenset(second))]
    if n_inputs == 8:
        parts = [_part("first", *first, *only_first), _part("second", *second, *only_second)]
    else:
        parts = [_part("shared_inputs", *inputs[n_inputs - 4 : 4]), *parts]
        if n_inputs > 4:
            parts = [
                _part("first_inputs", *only_first),
                _part("second_inputs", *only_second),
                *parts,
            ]
    return FunctionGraph(name, inputs, gates, outputs, tuple(parts))


def _levelled(name: str, n_outputs: int) -> FunctionGraph:
    inputs = _inputs(8)
    left, right = _minterms("a", inputs[:4], "A"), _minterms("b", inputs[4:], "B")
    gates = (
        *left,
        *right,
        _gate("a", "or", "a1", "a2", "a3"),
        _gate("b", "or", "b1", "b2", "b3"),
        _gate("f1", "and", "a", "not b"),
        _gate("f2", "and", "b", "not a"),
    )
    outputs = _copies(n_outputs, "f1", "f2")
    parts = (
        _part("first_inputs", *inputs[:4], *(gate.name for gate in left)),
        _part("second_inputs", *inputs[4:], *(gate.name for gate in right)),
        _part("intermediate", "a", "b"),
        _part("first_outputs", "f1", *_odd(outputs)),
        _part("second_outputs", "f2", *_even(outputs)),
    )
    return FunctionGraph(name, inputs, gates, outputs, parts)


def _inputs(count: int) -> tuple[str, ...]:
    return tuple(f"x{k}" for k in range(1, count + 1))


def _gate(name: str, kind: str, *sources: str) -> Gate:
    return Gate(name, kind, tuple(Edge.parse(source) for source in sources))


def _minterms(prefix: str, inputs: Sequence[str], function: str) -> tuple[Gate, ...]:
    """Return one AND of four literals for each row where A or B is 1."""
    return tuple(
        _gate(
            f"{prefix}{k}",
            "and",
            *(x if bit == "1" else f"not {x}" for x, bit in zip(inputs, row, strict=True)),
        )
        for k, row in enumerate(_TRIPLES[function], 1)
    )


def _copies(count: int, first: str, second: str) -> tuple[Gate, ...]:
    sources = (first, second)
    return tuple(_gate(f"y{k + 1}", "identity", sources[k % 2]) for k in range(count))


def _odd(outputs: Iterable[Gate]) -> list[str]:
    return [gate.name for gate in outputs][::2]


def _even(outputs: Iterable[Gate]) -> list[str]:
    return [gate.name for gate in outputs][1::2]


def _part(name: str, *nodes: str) -> Subfunction:
    return Subfunction(name, frozenset(nodes))
