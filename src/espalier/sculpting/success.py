"""Did the detected modules uncover the function? The published criteria, and a full comparison.

The criteria of Figures 7, 8, 10, 12 and 13 of Patil et al. (2023) look at the modules of the inputs
and of the outputs and at the number of modules. `compare_hierarchy` says more: which sub-functions
of a function graph were found, which share a module with others, and which lie in several.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import cast

import numpy as np
import pandas as pd
from scipy import stats

from espalier.errors import DataError, unknown_name
from espalier.sculpting.function_families import (
    FAMILIES,
    function_overlap,
    function_use,
    published_function,
    published_functions,
)
from espalier.sculpting.functions import FunctionGraph, Subfunction
from espalier.sculpting.modules import Modules, detect_modules
from espalier.sculpting.tasks import DIGIT_SOURCES, DIGIT_TASKS, digit_of_input

Partition = frozenset[frozenset[int]]

CRITERIA: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "validation": ("hierarchy",),
        "use": ("hierarchy",),
        "overlap": ("inputs", "outputs", "hidden_units"),
        "levels": ("hierarchy", "inputs", "intermediate", "outputs"),
        "digits": ("hierarchy", "inputs", "middle", "outputs"),
        "own": ("hierarchy", "inputs", "outputs"),
    }
)
"""What is judged in each family of functions; "own" is any function graph that is not published."""

SUCCESS_COLUMNS = (
    "function", "family", "use", "overlap", "hidden_layers", "criterion", "successes", "trials",
)  # fmt: skip

_PIXELS = {"mnist": 2 * 28 * 28, "digits": 2 * 8 * 8}


@dataclass(frozen=True)
class Success:
    """Whether a trial meets one criterion of one family."""

    family: str
    criterion: str
    success: bool


# -- the published criteria ----------------------------------------------------------------------


def trial_successes(function: str | FunctionGraph, modules: Modules) -> tuple[Success, ...]:
    """Judge the modules of one trial by the criteria of every family that its function is in.

    - validation (Figure 7): the modules of inputs and outputs and the number of modules are those
      of the function graph.
    - use (Figure 8): there are three modules.
    - overlap (Figure 10): `inputs`: the inputs of the first sub-function, of the second and of both
      are the input modules; `outputs`: odd and even outputs are the output modules; `hidden_units`:
      so they are, and every hidden unit is in one of these two.
    - levels (Figure 12): `hierarchy`: three modules with two hidden layers, five with more;
      `inputs` and `outputs` as above; `intermediate`: the input modules lead to one module only,
      which is not one of them.
    - digits (Figure 13): `inputs`: each digit's live inputs are one module; `outputs`: each output
      bit is a module of its own; `middle`: every hidden unit is in a module of inputs or outputs.
      Two digits: `inputs` as well; `outputs`: the outputs of each digit are one module;
      `hierarchy`: these two are all modules, and most inputs of each are of its digit. The paper
      counted in pictures, which do not show a stray pixel; `inputs` does.
    - own: `hierarchy`: `compare_hierarchy` finds everything; `inputs`, `outputs`: those modules are
      those of the function graph.

    `hierarchy` is not judged in the levels family for functions whose outputs are used once, which
    have several function graphs, nor with one hidden layer, for which none is published.

    Args:
        function: name of a published function or of a digit task ("two-digits-mnist"), or any
            function graph.
        modules: of a network trained on it.

    Raises:
        ConfigurationError: no function has this name.
        DataError: the network has other outputs or more inputs than the function.
    """
    if isinstance(function, str) and "-".join(function.split("-")[:2]) in DIGIT_TASKS:
        return _digit_successes(function, modules)
    graph = published_function(function) if isinstance(function, str) else function
    _check_fit(graph, modules)
    if graph.name in published_functions() and graph == published_function(graph.name):
        families = [family for family, names in FAMILIES.items() if graph.name in names]
        judged = [
            (family, name, value)
            for family in families
            for name, value in _JUDGES[family](graph, modules).items()
        ]
    else:
        judged = [("own", name, value) for name, value in _own(graph, modules).items()]
    return tuple(Success(*entry) for entry in judged)


def success_table(trials: pd.DataFrame) -> pd.DataFrame:
    """Count successes and trials of every cell.

    Args:
        trials: one row per trial and criterion: function, family, hidden_layers, criterion and
            success (bool).

    Returns:
        One row per function, family, hidden_layers and criterion, in the order of their first
        trial, with use and overlap (missing where they do not vary), successes and trials.

    Raises:
        DataError: a column is missing.
    """
    keys = ["function", "family", "hidden_layers", "criterion"]
    missing = [key for key in (*keys, "success") if key not in trials.columns]
    if missing:
        raise DataError(f"the table of trials lacks the columns {', '.join(missing)}")
    grouped = trials.groupby(keys, sort=False)["success"].agg(["sum", "size"]).reset_index()
    grouped = grouped.rename(columns={"sum": "successes", "size": "trials"})
    grouped["successes"] = grouped["successes"].astype(np.int64)
    for name, value_of in (("use", function_use), ("overlap", function_overlap)):
        grouped[name] = pd.array([value_of(each) for each in grouped["function"]], dtype="Int64")
    return cast(pd.DataFrame, grouped[list(SUCCESS_COLUMNS)])


def wilson_interval(
    successes: np.ndarray | int, trials: np.ndarray | int, confidence: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Return the lower and upper ends of Wilson's score interval of a success rate.

    Raises:
        DataError: no trials, or more successes than trials.

    Source: Wilson (1927), "Probable inference, the law of succession, and statistical inference".
    """
    k, n = np.asarray(successes, dtype=float), np.asarray(trials, dtype=float)
    if np.any(n < 1) or np.any(k < 0) or np.any(k > n):
        raise DataError("a success rate needs one trial or more, and from none to all successes")
    z = float(stats.norm.ppf(0.5 + confidence / 2))
    centre = (k + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * np.sqrt(k * (n - k) / n + z * z / 4)
    # At the ends the interval closes exactly, but for rounding.
    return np.where(k == 0, 0.0, centre - half), np.where(k == n, 1.0, centre + half)


def _validation(graph: FunctionGraph, modules: Modules) -> dict[str, bool]:
    found = modules.num_modules == len(graph.subfunctions) and _inputs_match(graph, modules)
    return {"hierarchy": found and _outputs_match(graph, modules)}


def _use(graph: FunctionGraph, modules: Modules) -> dict[str, bool]:
    return {"hierarchy": modules.num_modules == len(graph.subfunctions)}


def _overlap(graph: FunctionGraph, modules: Modules) -> dict[str, bool]:
    outputs = _outputs_match(graph, modules)
    output_modules = np.unique(modules.modules[-1])
    hidden = all(np.isin(labels, output_modules).all() for labels in modules.modules[1:-1])
    return {
        "inputs": _inputs_match(graph, modules),
        "outputs": outputs,
        "hidden_units": bool(outputs and hidden),
    }


def _levels(graph: FunctionGraph, modules: Modules) -> dict[str, bool]:
    judged = {
        "inputs": _inputs_match(graph, modules),
        "intermediate": _one_successor(modules),
        "outputs": _outputs_match(graph, modules),
    }
    hidden_layers = len(modules.modules) - 2
    if hidden_layers >= 2 and len(graph.outputs) > 2:
        judged["hierarchy"] = modules.num_modules == (3 if hidden_layers == 2 else 5)
    return judged


def _own(graph: FunctionGraph, modules: Modules) -> dict[str, bool]:
    comparison = compare_hierarchy(modules, graph)
    return {
        "hierarchy": comparison.exact,
        "inputs": _inputs_match(graph, modules),
        "outputs": _outputs_match(graph, modules),
    }


_JUDGES = {"validation": _validation, "use": _use, "overlap": _overlap, "levels": _levels}


def _digit_successes(name: str, modules: Modules) -> tuple[Success, ...]:
    task, _, source = name.rpartition("-")
    if source not in _PIXELS or task not in DIGIT_TASKS:
        known = [f"{task}-{source}" for task in DIGIT_TASKS for source in DIGIT_SOURCES]
        raise unknown_name("digit task", name, known)
    if np.max(modules.alive[0], initial=0) >= _PIXELS[source]:
        raise DataError(f"the network has more inputs than {name}, which has {_PIXELS[source]}")
    outputs = modules.partition(-1)
    alive = np.asarray(modules.alive[0])
    digits = digit_of_input(_PIXELS[source])[alive]
    halves = [frozenset(alive[digits == digit].tolist()) for digit in (0, 1)]
    inputs = modules.partition(0) == frozenset(halves) and all(halves)
    if task == "two-digits":
        tens = [range(10 * digit, 10 * digit + 10) for digit in (0, 1)]
        separate = outputs == frozenset(map(frozenset, tens))
        labels = np.asarray(modules.modules[0])
        own = [digits[labels == _module_of(modules, -1, ten)] == k for k, ten in enumerate(tens)]
        mostly = all(part.any() and part.mean() > 0.5 for part in own)
        return (
            Success("digits", "hierarchy", separate and mostly and modules.num_modules == 2),
            Success("digits", "inputs", inputs),
            Success("digits", "outputs", separate),
        )
    ends = np.union1d(modules.modules[0], modules.modules[-1])
    middle = all(np.isin(labels, ends).all() for labels in modules.modules[1:-1])
    return (
        Success("digits", "inputs", inputs),
        Success("digits", "middle", middle),
        Success("digits", "outputs", len(outputs) == 3),
    )


def _module_of(modules: Modules, layer: int, units: Iterable[int]) -> int | None:
    """Return the module that holds all of these units of a layer, or None."""
    chosen = np.asarray(modules.modules[layer])[np.isin(modules.alive[layer], list(units))]
    labels = np.unique(chosen)
    return int(labels[0]) if len(labels) == 1 else None


def _one_successor(modules: Modules) -> bool:
    """Return whether all edges that leave the modules of inputs lead to one other module."""
    first = set(np.unique(modules.modules[0]).tolist())
    edges = [(source, target) for source, target, _ in modules.edges.tolist() if source in first]
    sources, targets = ({edge[end] for edge in edges} for end in (0, 1))
    return len(targets) == 1 and sources == first and not targets & first


def _inputs_match(graph: FunctionGraph, modules: Modules) -> bool:
    return modules.partition(0) == _true_partition(graph, graph.inputs)


def _outputs_match(graph: FunctionGraph, modules: Modules) -> bool:
    names = tuple(gate.name for gate in graph.outputs)
    return modules.partition(-1) == _true_partition(graph, names)


def _true_partition(graph: FunctionGraph, names: Sequence[str]) -> Partition:
    """Return the positions of these nodes by sub-function."""
    parts = (
        frozenset(k for k, name in enumerate(names) if name in part.nodes)
        for part in true_subfunctions(graph)
    )
    return frozenset(part for part in parts if part)


def _check_fit(graph: FunctionGraph, modules: Modules) -> None:
    n_outputs = len(modules.modules[-1])
    if n_outputs != len(graph.outputs):
        raise DataError(
            f"{graph.name} has {len(graph.outputs)} outputs, the network {n_outputs}; judge a "
            "network by the function it was trained on"
        )
    if np.max(modules.alive[0], initial=0) >= len(graph.inputs):
        raise DataError(f"the network has more inputs than {graph.name} ({len(graph.inputs)})")


# -- the true hierarchy --------------------------------------------------------------------------


OUTCOMES = ("found", "merged", "split", "split and merged", "missed")
"""What becomes of a sub-function, see `SubfunctionMatch`."""


@dataclass(frozen=True)
class SubfunctionMatch:
    """What became of a sub-function.

    Attributes:
        name: of the sub-function.
        outcome: "found": one module, and nothing else in it; "merged": one module, shared with
            other sub-functions; "split": several modules, none shared; "split and merged"; or
            "missed": no module stands for it.
        modules: the modules that stand for it, ascending.
        merged_with: sub-functions that share one of these modules, in the order of the graph.
    """

    name: str
    outcome: str
    modules: tuple[int, ...]
    merged_with: tuple[str, ...]


@dataclass(frozen=True)
class HierarchyComparison:
    """Detected modules against the sub-functions of a function graph.

    Attributes:
        matches: one per sub-function, in the order of the graph.
        unexplained: modules that stand for no sub-function, ascending.
    """

    matches: tuple[SubfunctionMatch, ...]
    unexplained: tuple[int, ...]

    @property
    def exact(self) -> bool:
        """Whether every sub-function was found and every module is one."""
        return not self.unexplained and all(match.outcome == "found" for match in self.matches)

    def named(self, outcome: str) -> tuple[str, ...]:
        """Return the sub-functions with this outcome."""
        return tuple(match.name for match in self.matches if match.outcome == outcome)


@dataclass(frozen=True)
class _Role:
    """The inputs and outputs that a module holds, depends on and serves."""

    holds: frozenset[tuple[str, int]]
    depends_on: frozenset[int]
    serves: frozenset[int]


def compare_hierarchy(modules: Modules, graph: FunctionGraph) -> HierarchyComparison:
    """Compare detected modules with the sub-functions of a function graph.

    A module stands for the sub-functions whose inputs or outputs it holds. A module that holds
    neither stands for the sub-functions that depend on the same inputs and serve the same outputs,
    reached along the edges between modules; of these it stands for those that hold no inputs or
    outputs either, if there are any.

    Raises:
        DataError: the network has other outputs or more inputs than the function.
    """
    _check_fit(graph, modules)
    subfunctions = true_subfunctions(graph)
    truth, detected = _true_roles(graph, subfunctions), _detected_roles(modules)
    stands_for = {label: _explained(role, truth) for label, role in detected.items()}
    matches = []
    for name in truth:
        own = [label for label, names in stands_for.items() if name in names]
        others = [o for o in truth if o != name and any(o in stands_for[label] for label in own)]
        outcome = " and ".join(["split"] * (len(own) > 1) + ["merged"] * bool(others)) or "found"
        matches.append(
            SubfunctionMatch(name, outcome if own else "missed", tuple(own), tuple(others))
        )
    unexplained = [label for label, names in stands_for.items() if not names]
    return HierarchyComparison(tuple(matches), tuple(unexplained))


@cache
def true_subfunctions(graph: FunctionGraph) -> tuple[Subfunction, ...]:
    """Return the sub-functions that a graph declares, else those that detection finds in it.

    For the latter the graph is a network: one layer per hierarchical level, edges that skip levels
    passed on by units between, thresholds as for Boolean functions.
    """
    if graph.subfunctions:
        return graph.subfunctions
    masks, units = layered_masks(graph)
    found = detect_modules(masks)
    members: dict[int, set[str]] = {}
    for level, (alive, labels) in enumerate(zip(found.alive, found.modules, strict=True)):
        for position, label in zip(alive.tolist(), labels.tolist(), strict=True):
            node = units[level][position]
            if graph.levels[node] == level:
                members.setdefault(label, set()).add(node)
    return tuple(
        Subfunction(f"module{k}", frozenset(members[label]))
        for k, label in enumerate(sorted(members))
    )


def layered_masks(graph: FunctionGraph) -> tuple[list[np.ndarray], list[tuple[str, ...]]]:
    """Return a function graph as the masks of a layered network, with the node of every unit.

    Layer k holds the nodes of level k, and a unit for every node of an earlier level that a later
    one takes, so that all edges join neighbouring layers.

    Returns:
        One (n_out, n_in) boolean mask per pair of levels, and the names of the units of each level.
    """
    gates = {gate.name: gate for gate in (*graph.gates, *graph.outputs)}
    last_use = dict.fromkeys(graph.nodes, 0)
    for gate in gates.values():
        for edge in gate.edges:
            last_use[edge.source] = max(last_use[edge.source], graph.levels[gate.name] - 1)
    units = [
        tuple(n for n in graph.nodes if graph.levels[n] <= k <= max(graph.levels[n], last_use[n]))
        for k in range(graph.depth)
    ]
    masks = []
    for level in range(1, graph.depth):
        mask = np.zeros((len(units[level]), len(units[level - 1])), dtype=bool)
        for row, node in enumerate(units[level]):
            own = graph.levels[node] == level
            sources = [edge.source for edge in gates[node].edges] if own else [node]
            mask[row, [units[level - 1].index(source) for source in sources]] = True
        masks.append(mask)
    return masks, units


def _explained(role: _Role, truth: Mapping[str, _Role]) -> frozenset[str]:
    if role.holds:
        return frozenset(name for name, other in truth.items() if other.holds & role.holds)
    alike = {
        name: other
        for name, other in truth.items()
        if (other.depends_on, other.serves) == (role.depends_on, role.serves)
    }
    inner = frozenset(name for name, other in alike.items() if not other.holds)
    return inner or frozenset(alike)


def _true_roles(graph: FunctionGraph, parts: Sequence[Subfunction]) -> dict[str, _Role]:
    home = {node: part.name for part in parts for node in part.nodes}
    holds: dict[str, set[tuple[str, int]]] = {part.name: set() for part in parts}
    for k, name in enumerate(graph.inputs):
        holds[home[name]].add(("input", k))
    for k, gate in enumerate(graph.outputs):
        holds[home[gate.name]].add(("output", k))
    edges = {
        (home[edge.source], home[gate.name])
        for gate in (*graph.gates, *graph.outputs)
        for edge in gate.edges
    }
    return cast(dict[str, _Role], _roles(holds, edges))


def _detected_roles(modules: Modules) -> dict[int, _Role]:
    holds: dict[int, set[tuple[str, int]]] = {k: set() for k in range(modules.num_modules)}
    for kind, layer in (("input", 0), ("output", -1)):
        for position, label in zip(modules.alive[layer], modules.modules[layer], strict=True):
            holds[int(label)].add((kind, int(position)))
    edges = {(source, target) for source, target, _ in modules.edges.tolist()}
    return cast(dict[int, _Role], _roles(holds, edges))


def _roles(holds: Mapping, edges: set[tuple]) -> dict:
    """Return the role of every group from what it holds and the edges between groups."""
    backwards = {(target, source) for source, target in edges}
    return {
        label: _Role(
            frozenset(own),
            _reached(label, holds, backwards, "input"),
            _reached(label, holds, edges, "output"),
        )
        for label, own in holds.items()
    }


def _reached(start: object, holds: Mapping, edges: set[tuple], kind: str) -> frozenset[int]:
    seen, waiting = {start}, [start]
    while waiting:
        here = waiting.pop()
        new = {target for source, target in edges if source == here} - seen
        seen |= new
        waiting += new
    return frozenset(k for label in seen for held, k in holds[label] if held == kind)


__all__ = [
    "CRITERIA",
    "OUTCOMES",
    "SUCCESS_COLUMNS",
    "HierarchyComparison",
    "SubfunctionMatch",
    "Success",
    "compare_hierarchy",
    "layered_masks",
    "success_table",
    "trial_successes",
    "true_subfunctions",
    "wilson_interval",
]
