"""The hierarchy that detected modules form: which module feeds which, at which level, how often.

The paper draws its hierarchies and defines none. Here it is the graph of modules: an arrow leads
from one module to another if an edge of the network does, with the number of such edges. A module
is named by the inputs and outputs that it serves.
"""

from __future__ import annotations

import gzip
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from xml.sax.saxutils import escape

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from espalier.errors import DataError
from espalier.files import atomic_path
from espalier.hierarchy.trees import quote_name
from espalier.sculpting.modules import Modules

_NAMED_RUNS = 6
_NAMESPACE = "http://graphml.graphdrawing.org/xmlns"


@dataclass(frozen=True)
class ModuleNode:
    """One module in the hierarchy.

    Attributes:
        index: its number in `Modules.modules`.
        name: the inputs and outputs that it serves, for example "x1,x2 > y1-y4"; a name that
            several modules would have gets "#2", "#3", ...
        units: one tuple per layer of the network, the indices of its units there.
        inputs: indices of the inputs from which a path leads to the module, its own included.
        outputs: indices of the outputs to which a path leads from it, its own included.
        first_layer, last_layer: where its units lie; inputs are layer 0.
        level: the most arrows on a way to it from a module without sources.
        sources: modules that feed it.
        targets: modules that it feeds.
    """

    index: int
    name: str
    units: tuple[tuple[int, ...], ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    first_layer: int
    last_layer: int
    level: int
    sources: tuple[int, ...]
    targets: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of its units."""
        return sum(len(units) for units in self.units)

    @property
    def served(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Its inputs and outputs."""
        return self.inputs, self.outputs

    @property
    def reuse(self) -> int:
        """Number of modules that it feeds."""
        return len(self.targets)


@dataclass(frozen=True, eq=False)
class ModuleHierarchy:
    """Modules and the arrows between them.

    Attributes:
        nodes: the modules, by their number.
        edges: (n, 3) int64, source module, target module, edges of the network, sorted.
        acyclic: whether no module feeds itself through others. Modules span layers and the merge
            threshold lets a few edges pass, so two modules can feed each other. Such modules share
            a level.
    """

    nodes: tuple[ModuleNode, ...]
    edges: np.ndarray
    acyclic: bool

    def __repr__(self) -> str:
        return f"ModuleHierarchy({len(self.nodes)} modules, {len(self.edges)} arrows)"

    @cached_property
    def by_layer(self) -> tuple[tuple[int, ...], ...]:
        """Modules whose first units lie in each layer of the network, inputs first."""
        layers = len(self.nodes[0].units)
        return tuple(
            tuple(node.index for node in self.nodes if node.first_layer == layer)
            for layer in range(layers)
        )

    @cached_property
    def by_level(self) -> tuple[tuple[int, ...], ...]:
        """Modules of each level, those without sources first."""
        depth = 1 + max(node.level for node in self.nodes)
        return tuple(
            tuple(node.index for node in self.nodes if node.level == level)
            for level in range(depth)
        )

    @cached_property
    def served(self) -> dict[int, tuple[frozenset[int], frozenset[int]]]:
        """The inputs and outputs that each module serves, to compare with a true hierarchy."""
        return {
            node.index: (frozenset(node.inputs), frozenset(node.outputs)) for node in self.nodes
        }

    @cached_property
    def components(self) -> tuple[tuple[int, ...], ...]:
        """Modules that hang together, ignoring the direction of arrows; by their first module."""
        _, labels = connected_components(self._adjacency(), directed=False)
        groups: dict[int, list[int]] = {}
        for index, label in enumerate(labels.tolist()):
            groups.setdefault(label, []).append(index)
        return tuple(tuple(group) for group in groups.values())

    @property
    def is_forest(self) -> bool:
        """Whether every component is a rooted tree, all arrows towards its root or away from it."""
        return all(self._children(component) is not None for component in self.components)

    @property
    def is_tree(self) -> bool:
        """Whether the modules form one rooted tree."""
        return len(self.components) == 1 and self.is_forest

    def newick(self) -> str:
        """Return one line of Newick per component, inner nodes labelled by their modules too.

        A tree whose arrows lead away from one module has that module as its root, as has a tree
        whose arrows lead to one module. A module without arrows is a tree of its own. Children are
        ordered by the inputs and outputs that they serve.

        Raises:
            DataError: a component is no tree; `write_module_graphml` holds any graph.
        """
        lines = []
        for component in self.components:
            found = self._children(component)
            if found is None:
                names = ", ".join(repr(self.nodes[index].name) for index in component)
                raise DataError(
                    f"the modules {names} form no tree, as some have several sources and some "
                    "several targets, or feed each other; write them as GraphML"
                )
            lines.append(self._text(*found) + ";")
        return "\n".join(lines) + "\n"

    def _text(self, node: int, children: Callable[[ModuleNode], tuple[int, ...]]) -> str:
        ordered = sorted(children(self.nodes[node]), key=lambda child: self.nodes[child].served)
        below = ",".join(self._text(child, children) for child in ordered)
        return (f"({below})" if below else "") + quote_name(self.nodes[node].name)

    def _children(
        self, component: Sequence[int]
    ) -> tuple[int, Callable[[ModuleNode], tuple[int, ...]]] | None:
        """Return the root of a component and how to go down from it; None if it is no tree."""
        nodes = [self.nodes[index] for index in component]
        # A connected graph with one arrow less than nodes has no cycle in any direction.
        if sum(node.reuse for node in nodes) != len(nodes) - 1:
            return None
        if all(len(node.sources) <= 1 for node in nodes):
            return next(n.index for n in nodes if not n.sources), lambda node: node.targets
        if all(len(node.targets) <= 1 for node in nodes):
            return next(n.index for n in nodes if not n.targets), lambda node: node.sources
        return None

    def _adjacency(self) -> coo_array:
        return _adjacency(self.edges, len(self.nodes))


def module_hierarchy(
    modules: Modules,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
) -> ModuleHierarchy:
    """Return the graph that detected modules form.

    Args:
        modules: from `detect_modules`.
        input_names: one per input, dead ones counted; x1, x2, ... by default.
        output_names: one per output; y1, y2, ... by default.

    Raises:
        DataError: the names are not as many as the inputs or outputs, or not unique.
    """
    sizes = modules.sizes
    names_in = _names(input_names, "x", sizes[0], "input")
    names_out = _names(output_names, "y", sizes[-1], "output")
    count = modules.num_modules
    from_inputs = _served(modules.masks, modules.modules, count)
    to_outputs = _served([mask.T for mask in reversed(modules.masks)], modules.modules[::-1], count)
    sources, targets = modules.edges[:, 0], modules.edges[:, 1]
    levels, acyclic = _levels(modules.edges, count)
    units = [
        tuple(
            tuple(alive[labels == index].tolist())
            for alive, labels in zip(modules.alive, modules.modules, strict=True)
        )
        for index in range(count)
    ]
    seen: Counter[str] = Counter()
    nodes = []
    for index in range(count):
        inputs = modules.alive[0][from_inputs[index]]
        outputs = modules.alive[-1][to_outputs[index]]
        name = f"{_listing(inputs, names_in)} > {_listing(outputs, names_out)}"
        seen[name] += 1
        layers = [layer for layer, held in enumerate(units[index]) if held]
        nodes.append(
            ModuleNode(
                index=index,
                name=name if seen[name] == 1 else f"{name} #{seen[name]}",
                units=units[index],
                inputs=tuple(inputs.tolist()),
                outputs=tuple(outputs.tolist()),
                first_layer=layers[0],
                last_layer=layers[-1],
                level=levels[index],
                sources=tuple(sources[targets == index].tolist()),
                targets=tuple(targets[sources == index].tolist()),
            )
        )
    return ModuleHierarchy(tuple(nodes), modules.edges, acyclic)


def write_module_graphml(path: str | os.PathLike[str], hierarchy: ModuleHierarchy) -> None:
    """Write a hierarchy as GraphML, for Gephi, networkx, igraph and graph-tool.

    Node attributes: name, level, first_layer, last_layer, size, reuse, inputs and outputs (indices
    between blanks). Edge attribute: edges. Equal hierarchies give equal bytes.

    Args:
        path: compressed by gzip where the name ends in .gz.
        hierarchy: from `module_hierarchy`.

    Raises:
        DataError: a name holds a control character.
    """
    attributes = {
        "name": "string",
        "level": "long",
        "first_layer": "long",
        "last_layer": "long",
        "size": "long",
        "reuse": "long",
        "inputs": "string",
        "outputs": "string",
    }
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', f'<graphml xmlns="{_NAMESPACE}">']
    lines += [
        f'<key id="node_{name}" for="node" attr.name="{name}" attr.type="{kind}"/>'
        for name, kind in attributes.items()
    ]
    lines += [
        '<key id="edge_edges" for="edge" attr.name="edges" attr.type="long"/>',
        '<graph id="modules" edgedefault="directed">',
    ]
    for node in hierarchy.nodes:
        if not all(character >= " " for character in node.name):
            raise DataError(f"{path}: the name {node.name!r} holds a control character")
        data = "".join(
            f'<data key="node_{name}">{_graphml_text(getattr(node, name))}</data>'
            for name in attributes
        )
        lines.append(f'<node id="n{node.index}">{data}</node>')
    lines += [
        f'<edge source="n{source}" target="n{target}"><data key="edge_edges">{count}</data></edge>'
        for source, target, count in hierarchy.edges.tolist()
    ]
    lines += ["</graph>", "</graphml>", ""]
    content = "\n".join(lines).encode()
    if os.fspath(path).endswith(".gz"):
        content = gzip.compress(content, compresslevel=6, mtime=0)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def _graphml_text(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(str(index) for index in value)
    return escape(str(value))


def _names(names: Sequence[str] | None, letter: str, count: int, kind: str) -> tuple[str, ...]:
    if names is None:
        return tuple(f"{letter}{number}" for number in range(1, count + 1))
    if len(names) != count:
        raise DataError(f"{len(names)} {kind} names for a network with {count} {kind}s")
    repeated = [name for name, times in Counter(names).items() if times > 1]
    if repeated:
        raise DataError(f"the {kind} name {repeated[0]!r} is given more than once")
    return tuple(names)


def _served(masks: Sequence[np.ndarray], modules: Sequence[np.ndarray], count: int) -> np.ndarray:
    """Return (modules, units of the first layer): whether a path leads from unit to module."""
    width = len(modules[0])
    reached = np.eye(width, dtype=np.float32)
    served = np.zeros((count, width), bool)
    served[modules[0], np.arange(width)] = True
    for mask, labels in zip(masks, modules[1:], strict=True):
        reached = (mask.astype(np.float32) @ reached > 0).astype(np.float32)
        np.logical_or.at(served, labels, reached.astype(bool))
    return served


def _listing(units: np.ndarray, names: Sequence[str]) -> str:
    """Name units, runs of three or more by their ends, and many runs by the first and the count."""
    if not len(units):
        return "none"
    breaks = np.flatnonzero(np.diff(units) > 1) + 1
    texts = []
    for run in np.split(units, breaks):
        first, last = names[run[0]], names[run[-1]]
        texts += [names[unit] for unit in run] if len(run) < 3 else [f"{first}-{last}"]
    if len(texts) > _NAMED_RUNS:
        return f"{texts[0]},...,{texts[-1]} ({len(units)})"
    return ",".join(texts)


def _adjacency(edges: np.ndarray, count: int) -> coo_array:
    return coo_array((edges[:, 2], (edges[:, 0], edges[:, 1])), shape=(count, count))


def _levels(edges: np.ndarray, count: int) -> tuple[list[int], bool]:
    """Return the longest way to each module, and whether no module feeds itself."""
    groups, group = connected_components(_adjacency(edges, count), connection="strong")
    arrows = {(a, b) for a, b in group[edges[:, :2]].tolist() if a != b}
    waiting = Counter(target for _, target in arrows)
    level = [0] * groups
    ready = [node for node in range(groups) if not waiting[node]]
    while ready:
        node = ready.pop()
        for target in [b for a, b in arrows if a == node]:
            level[target] = max(level[target], level[node] + 1)
            waiting[target] -= 1
            if not waiting[target]:
                ready.append(target)
    return [level[label] for label in group.tolist()], groups == count
