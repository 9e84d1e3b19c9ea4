"""Rooted trees over named leaves: Newick in and out, clusters, splits, and random trees.

A tree is held as plain arrays in breadth-first order, so the children of a node are neighbours
and every comparison of two trees is arithmetic on small tables. A set of leaves is a Python
integer with bit i set for leaf i.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from espalier.errors import DataError, nearest_hint

# A mark, a plain name, a quoted name, blanks, a comment; last what opens or closes nothing, so
# that a search never goes on behind it.
_TOKEN = re.compile(r"[(),:;]|[^\s()\[\]':;,]+|'(?:[^']|'')*'|\s+|\[[^\]]*\]|['\[\]]")
# An unquoted underscore means a blank to strict readers, so names with one are quoted.
_PLAIN_NAME = re.compile(r"[A-Za-z0-9.+-]+")
_LISTED = 10


@dataclass(frozen=True, eq=False, repr=False)
class Tree:
    """A rooted tree whose nodes are numbered breadth first (the root is 0).

    The children of a node have consecutive numbers, in the order of their parents. Make one with
    `parse_newick`, `star_tree`, `tree_from_clusters` or a random tree; the arrays are read-only.

    Attributes:
        leaves: the n leaf names; a leaf's index is its place here.
        parent: (nodes,) int64, the parent of each node, -1 for the root.
        leaf: (nodes,) int64, the leaf index of each node, -1 for inner nodes.
        labels: (nodes,) the label of each inner node as read, or None.
    """

    leaves: tuple[str, ...]
    parent: np.ndarray
    leaf: np.ndarray
    labels: tuple[str | None, ...]

    def __repr__(self) -> str:
        return f"Tree({self.newick()!r})"

    def __eq__(self, other: object) -> bool:
        """Two trees are equal if their leaf names and their nodes' leaf sets are."""
        if not isinstance(other, Tree):
            return NotImplemented
        if set(self.leaves) != set(other.leaves):
            return False
        return sorted(self.node_bits) == sorted(other.with_leaf_order(self.leaves).node_bits)

    def __hash__(self) -> int:
        return hash((frozenset(self.leaves), tuple(sorted(self.size.tolist()))))

    # Shape: all of it independent of the leaf names.

    @property
    def num_leaves(self) -> int:
        """Number of leaves."""
        return len(self.leaves)

    @property
    def num_nodes(self) -> int:
        """Number of nodes, leaves and root counted."""
        return len(self.parent)

    @cached_property
    def depth(self) -> np.ndarray:
        """(nodes,) int64, edges between each node and the root."""
        depth = [0]
        for parent in self.parent[1:].tolist():
            depth.append(depth[parent] + 1)
        return _frozen(depth)

    @cached_property
    def size(self) -> np.ndarray:
        """(nodes,) int64, leaves below each node."""
        size = (self.leaf >= 0).astype(np.int64).tolist()
        parent = self.parent.tolist()
        for node in range(len(parent) - 1, 0, -1):
            size[parent[node]] += size[node]
        return _frozen(size)

    @cached_property
    def start(self) -> np.ndarray:
        """(nodes,) int64, where each node's leaves begin in a depth-first walk."""
        size = self.size.tolist()
        free = [0] * len(size)
        start = [0]
        for node, parent in enumerate(self.parent[1:].tolist(), 1):
            start.append(free[parent])
            free[node] = free[parent]
            free[parent] += size[node]
        return _frozen(start)

    @cached_property
    def internal(self) -> np.ndarray:
        """Numbers of the inner nodes, the root first."""
        return _frozen(np.flatnonzero(self.leaf < 0))

    @cached_property
    def degree(self) -> np.ndarray:
        """Number of children of each inner node, in the order of `internal`."""
        count = np.bincount(self.parent[1:], minlength=self.num_nodes)
        return _frozen(count[self.internal])

    @cached_property
    def child_offsets(self) -> np.ndarray:
        """Number of the first child of each inner node, less one: offsets for `reduceat`."""
        return _frozen(np.cumsum(self.degree) - self.degree)

    @cached_property
    def is_binary(self) -> bool:
        """Whether every inner node has two children."""
        return bool((self.degree == 2).all())

    # Leaf sets.

    @cached_property
    def leaf_position(self) -> np.ndarray:
        """(leaves,) int64, place of each leaf in the depth-first walk."""
        tips = np.flatnonzero(self.leaf >= 0)
        position = np.empty(self.num_leaves, np.int64)
        position[self.leaf[tips]] = self.start[tips]
        return _frozen(position)

    @cached_property
    def leaf_order(self) -> np.ndarray:
        """(leaves,) int64, leaf index at each place of the depth-first walk."""
        order = np.empty(self.num_leaves, np.int64)
        order[self.leaf_position] = np.arange(self.num_leaves)
        return _frozen(order)

    @cached_property
    def node_bits(self) -> tuple[int, ...]:
        """The leaf set of each node as an integer, bit i for leaf i."""
        parent = self.parent.tolist()
        bits = [1 << leaf if leaf >= 0 else 0 for leaf in self.leaf.tolist()]
        for node in range(len(parent) - 1, 0, -1):
            bits[parent[node]] |= bits[node]
        return tuple(bits)

    @cached_property
    def cluster_nodes(self) -> dict[int, int]:
        """Node of each distinct cluster (2 to n-1 leaves), keyed by its bits."""
        n, bits = self.num_leaves, self.node_bits
        return {
            bits[node]: node for node in self.internal.tolist() if 2 <= bits[node].bit_count() < n
        }

    @cached_property
    def split_nodes(self) -> dict[int, int]:
        """Node of each distinct split with two leaves on both sides, keyed by the bits of the
        side without leaf 0. The two edges below a root with two children are one split.
        """
        n, bits = self.num_leaves, self.node_bits
        full = bits[0]
        found: dict[int, int] = {}
        for node in self.internal.tolist():
            side = bits[node]
            if 2 <= side.bit_count() <= n - 2:
                found.setdefault(full ^ side if side & 1 else side, node)
        return found

    def clusters(self) -> frozenset[frozenset[str]]:
        """Return the leaf names of every cluster of 2 to n-1 leaves."""
        return frozenset(self._names(bits) for bits in self.cluster_nodes)

    def splits(self) -> frozenset[frozenset[str]]:
        """Return every split with two leaves on both sides, as the side without leaf 0."""
        return frozenset(self._names(bits) for bits in self.split_nodes)

    def cluster_matrix(self) -> np.ndarray:
        """Return the clusters as a (clusters, n) bool matrix, larger ones first."""
        return self._members(self.cluster_nodes)

    def split_matrix(self) -> np.ndarray:
        """Return the splits as a (splits, n) bool matrix; column 0 is always False."""
        return self._members(self.split_nodes)

    def _names(self, bits: int) -> frozenset[str]:
        return frozenset(name for i, name in enumerate(self.leaves) if bits >> i & 1)

    def _members(self, sets: Iterable[int]) -> np.ndarray:
        ordered = sorted(sets, key=lambda bits: (-bits.bit_count(), bits))
        rows = [[bool(bits >> i & 1) for i in range(self.num_leaves)] for bits in ordered]
        return np.array(rows, bool).reshape(len(rows), self.num_leaves)

    # Derived trees.

    def relabel(self, names: Mapping[str, str]) -> Tree:
        """Return the tree with each leaf renamed; names not in the mapping stay.

        Raises:
            DataError: a key is no leaf, or two leaves would share a name.
        """
        for name in names:
            if name not in self.leaves:
                raise DataError(f"no leaf {name!r} to rename.{nearest_hint(name, self.leaves)}")
        renamed = tuple(names.get(name, name) for name in self.leaves)
        _check_names(renamed)
        return self._with(renamed, self.leaf)

    def permute(self, permutation: np.ndarray) -> Tree:
        """Return the tree with leaf i moved to where leaf permutation[i] was; the shape stays."""
        places = np.asarray(permutation, np.int64)
        if sorted(places.tolist()) != list(range(self.num_leaves)):
            raise DataError(f"not a permutation of {self.num_leaves} leaves: {permutation}")
        inverse = np.empty_like(places)
        inverse[places] = np.arange(len(places))
        return self._with(self.leaves, np.where(self.leaf >= 0, inverse[self.leaf], -1))

    def with_leaf_order(self, names: Sequence[str]) -> Tree:
        """Return the same tree with its leaves numbered as in `names`.

        Raises:
            DataError: `names` are not the leaves; missing and extra ones are listed.
        """
        names = tuple(names)
        if names == self.leaves:
            return self
        check_same_leaves(self.leaves, names, "the tree", "the names asked for")
        index = {name: i for i, name in enumerate(names)}
        new = np.array([index[name] for name in self.leaves], np.int64)
        return self._with(names, np.where(self.leaf >= 0, new[self.leaf], -1))

    def without_unary_nodes(self) -> Tree:
        """Return the tree with every node that has a single child suppressed."""
        if (self.degree >= 2).all():
            return self
        parent, leaf = self.parent.tolist(), self.leaf.tolist()
        return _tree(parent, leaf, list(self.labels), self.leaves, suppress_unary=True)

    def _with(self, leaves: tuple[str, ...], leaf: np.ndarray) -> Tree:
        tree = Tree(leaves, self.parent, _frozen(leaf), self.labels)
        for name in ("depth", "size", "start", "internal", "degree", "child_offsets", "is_binary"):
            if name in self.__dict__:
                tree.__dict__[name] = self.__dict__[name]
        return tree

    def newick(self, internal_labels: bool = False) -> str:
        """Return one line of Newick; children are ordered by their smallest leaf index.

        Names are quoted when they hold anything but letters, digits, dots, plus and minus signs,
        so that every reader keeps their blanks and underscores.
        """
        parent, leaf = self.parent.tolist(), self.leaf.tolist()
        smallest = [i if i >= 0 else self.num_leaves for i in leaf]
        children: list[list[int]] = [[] for _ in parent]
        for node in range(len(parent) - 1, 0, -1):
            above = parent[node]
            smallest[above] = min(smallest[above], smallest[node])
        for node in range(1, len(parent)):
            children[parent[node]].append(node)
        text: list[str] = [""] * len(parent)
        for node in range(len(parent) - 1, -1, -1):
            if leaf[node] >= 0:
                text[node] = quote_name(self.leaves[leaf[node]])
                continue
            ordered = sorted(children[node], key=smallest.__getitem__)
            label = self.labels[node] if internal_labels else None
            text[node] = "(" + ",".join(text[child] for child in ordered) + ")"
            text[node] += quote_name(label) if label else ""
            for child in ordered:
                text[child] = ""
        return text[0] + ";"


def quote_name(name: str) -> str:
    """Return a name as Newick wants it, in single quotes where needed."""
    return name if _PLAIN_NAME.fullmatch(name) else "'" + name.replace("'", "''") + "'"


def parse_newick(
    text: str, leaves: Sequence[str] | None = None, suppress_unary: bool = True
) -> Tree:
    """Read one tree in Newick format.

    Quoted names, line breaks, comments in brackets and a missing last semicolon are accepted;
    underscores stay underscores; branch lengths are checked and dropped.

    Args:
        text: the Newick text.
        leaves: the leaf names in the order wanted; without it leaves count as they appear.
        suppress_unary: remove nodes with a single child.

    Raises:
        DataError: the text is not one tree (unbalanced, empty, a leaf without a name or twice
            there; the message has line and column), or its leaves are not `leaves`.
    """
    trees = _parse(text, suppress_unary, leaves)
    if len(trees) != 1:
        raise DataError(f"expected one tree and found {len(trees)}: {_shown(text)}")
    return trees[0] if leaves is None else trees[0].with_leaf_order(leaves)


def parse_newicks(text: str, suppress_unary: bool = True) -> list[Tree]:
    """Read every tree of a text, each closed by a semicolon; see `parse_newick`."""
    return _parse(text, suppress_unary)


def _parse(text: str, suppress_unary: bool, order: Sequence[str] | None = None) -> list[Tree]:
    """Read trees; number the leaves as in `order` where those are the leaves."""
    trees: list[Tree] = []
    parent: list[int] = []
    labels: list[str | None] = []
    leaf: list[int] = []
    names: dict[str, int] = {}
    opened: list[int] = []
    # `expecting`: a subtree must follow. Otherwise the label (if not `labelled`) and then the
    # length (if not `measured`) of the node `current` may. `measuring`: a number must follow.
    current, expecting, labelled, measured, measuring = -1, True, False, False, False
    place = 0

    def fail(problem: str, at: int) -> DataError:
        line = text.count("\n", 0, at) + 1
        column = at - (text.rfind("\n", 0, at) + 1) + 1
        return DataError(f"Newick, line {line}, column {column}: {problem}: {_shown(text, at)}")

    def close(at: int) -> None:
        if opened:
            raise fail(f"{len(opened)} '(' not closed", at)
        if expecting:
            raise fail("the tree is empty", at)
        if len(names) < 2:
            raise fail("a tree needs at least two leaves", at)
        leaves, numbers = tuple(names), leaf
        if order is not None and len(order) == len(leaves) and names.keys() == set(order):
            index = {name: i for i, name in enumerate(order)}
            moved = [index[name] for name in leaves]
            leaves, numbers = tuple(order), [moved[i] if i >= 0 else -1 for i in leaf]
        trees.append(_tree(parent, numbers, labels, leaves, suppress_unary))

    for match in _TOKEN.finditer(text):
        token, at = match.group(), match.start()
        if token in ("'", "[", "]"):
            break
        place = match.end()
        first = token[0]
        if first.isspace() or first == "[":
            continue
        if measuring:
            if not _is_number(token):
                raise fail("a branch length that is no number", at)
            measuring, measured = False, True
        elif token == "(":
            if not expecting:
                raise fail("a ',' is missing before '('", at)
            parent.append(opened[-1] if opened else -1)
            labels.append(None)
            leaf.append(-1)
            opened.append(len(parent) - 1)
        elif token == "," or token == ")":
            if not opened:
                raise fail(f"{token!r} without an open '('", at)
            if expecting:
                raise fail("a leaf without a name", at)
            expecting = token == ","
            if not expecting:
                current, labelled, measured = opened.pop(), False, False
        elif token == ":":
            if expecting or measured:
                raise fail("a branch length without a node", at)
            measuring = True
        elif token == ";":
            close(at)
            parent, labels, leaf, names, opened = [], [], [], {}, []
            current, expecting = -1, True
        else:
            name = token[1:-1].replace("''", "'") if first == "'" else token
            if expecting:
                if not name:
                    raise fail("a leaf without a name", at)
                if name in names:
                    raise fail(f"the leaf {name!r} occurs twice", at)
                parent.append(opened[-1] if opened else -1)
                labels.append(None)
                leaf.append(len(names))
                names[name] = len(names)
                expecting, labelled, measured = False, True, False
            elif labelled or measured:
                hint = "" if first == "'" else " (names with blanks need quotes)"
                raise fail(f"a ',' is missing before {name!r}{hint}", at)
            else:
                labels[current] = name
                labelled = True
    if place < len(text):
        what = {"'": "quote not closed", "[": "comment not closed"}
        raise fail(what.get(text[place], f"unexpected {text[place]!r}"), place)
    if measuring:
        raise fail("a branch length that is no number", place)
    if parent or not trees:
        close(place)
    return trees


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _shown(text: str, at: int = 0) -> str:
    begin = max(0, at - 30)
    return repr(text[begin : at + 30])


def _tree(
    parent: Sequence[int],
    leaf: Sequence[int],
    labels: Sequence[str | None],
    leaves: tuple[str, ...],
    suppress_unary: bool = False,
) -> Tree:
    """Number nodes breadth first; `parent` must name lower numbers only."""
    children: list[list[int]] = [[] for _ in parent]
    root = 0
    for node in range(len(parent) - 1, -1, -1):
        kept = node
        if suppress_unary and len(children[node]) == 1:
            kept = children[node][0]
        if parent[node] >= 0:
            children[parent[node]].append(kept)
        else:
            root = kept
    order, above = [root], [-1]
    for position, node in enumerate(order):
        for child in reversed(children[node]):
            order.append(child)
            above.append(position)
    return Tree(
        leaves,
        _frozen(above),
        _frozen([leaf[node] for node in order]),
        tuple(labels[node] for node in order),
    )


def _frozen(values: object) -> np.ndarray:
    array = np.asarray(values, dtype=np.int64)
    array.setflags(write=False)
    return array


def _check_names(names: Sequence[str]) -> tuple[str, ...]:
    names = tuple(names)
    if len(names) < 2:
        raise DataError(f"a tree needs at least two leaves and got {list(names)}")
    for name in names:
        if not isinstance(name, str) or not name:
            raise DataError(f"a leaf needs a name that is not empty and got {name!r}")
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise DataError(f"leaf names occur twice: {listed(twice)}")
    return names


def listed(names: Iterable[str]) -> str:
    """Return names for a message, the first few and a count of the rest."""
    names = list(names)
    rest = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(repr(name) for name in names[:_LISTED]) + rest


def check_same_leaves(found: Sequence[str], wanted: Sequence[str], of: str, wanted_by: str) -> None:
    """Check that two lists hold the same names.

    Raises:
        DataError: naming what is missing, what is extra, and the nearest name of each extra one.
    """
    found_set, wanted_set = set(found), set(wanted)
    if found_set == wanted_set and len(found) == len(wanted):
        return
    missing = [name for name in wanted if name not in found_set]
    extra = [name for name in found if name not in wanted_set]
    parts = [f"the leaves of {of} are not those of {wanted_by}"]
    if missing:
        parts.append(f"missing: {listed(missing)}")
    if extra:
        parts.append(f"extra: {listed(extra)}")
    if not missing and not extra:
        parts.append(f"{len(found)} against {len(wanted)} names, so one occurs twice")
    hints = [
        f"{name!r}:{hint}" for name in extra[:_LISTED] if (hint := nearest_hint(name, missing))
    ]
    raise DataError("; ".join(parts + hints))


def as_tree(
    tree: Tree | str,
    leaves: Sequence[str] | None = None,
    name: str = "the tree",
    wanted_by: str = "the names asked for",
) -> Tree:
    """Return a tree from a Tree or Newick text, without unary nodes, leaves numbered as asked.

    Raises:
        DataError: the text is no tree, or its leaves are not `leaves`; the message speaks of
            `name` and `wanted_by`.
    """
    if isinstance(tree, str):
        trees = _parse(tree, True, leaves)
        tree = trees[0] if len(trees) == 1 else parse_newick(tree)
    elif isinstance(tree, Tree):
        tree = tree.without_unary_nodes()
    else:
        raise DataError(f"expected a Tree or Newick text and got {type(tree).__name__}")
    if leaves is None or tree.leaves == tuple(leaves):
        return tree
    check_same_leaves(tree.leaves, leaves, name, wanted_by)
    return tree.with_leaf_order(leaves)


def star_tree(names: Sequence[str]) -> Tree:
    """Return the tree without any structure: every leaf hangs on the root."""
    leaves = _check_names(names)
    n = len(leaves)
    return Tree(leaves, _frozen([-1] + [0] * n), _frozen([-1, *range(n)]), (None,) * (n + 1))


def tree_from_clusters(clusters: Iterable[Iterable[str]], names: Sequence[str]) -> Tree:
    """Return the tree whose inner nodes are the given leaf sets and the set of all leaves.

    Sets of one leaf, of all leaves, and repeated sets add nothing.

    Raises:
        DataError: a set holds an unknown name, or two sets overlap and neither holds the other.
    """
    leaves = _check_names(names)
    index = {name: i for i, name in enumerate(leaves)}
    sets: set[frozenset[int]] = set()
    for cluster in clusters:
        cluster = list(cluster)
        for name in cluster:
            if name not in index:
                raise DataError(f"no leaf {name!r}.{nearest_hint(name, leaves)}")
        sets.add(frozenset(index[name] for name in cluster))
    ordered = sorted(
        (s for s in sets if 2 <= len(s) < len(leaves)), key=lambda s: (-len(s), sorted(s))
    )
    parent, leaf = [-1], [-1]
    # The smallest set so far around each leaf; a new set must lie inside one of them.
    around = [0] * len(leaves)
    for number, members in enumerate(ordered, 1):
        holders = {around[i] for i in members}
        if len(holders) > 1:
            other = ordered[max(holders) - 1]
            raise DataError(
                "the groups are not nested: "
                f"{{{listed(leaves[i] for i in sorted(members))}}} and "
                f"{{{listed(leaves[i] for i in sorted(other))}}} overlap"
            )
        parent.append(holders.pop())
        leaf.append(-1)
        for i in members:
            around[i] = number
    for i, holder in enumerate(around):
        parent.append(holder)
        leaf.append(i)
    return _tree(parent, leaf, [None] * len(parent), leaves)


def random_binary_tree(names: Sequence[str], generator: np.random.Generator) -> Tree:
    """Return a rooted binary tree, every labelled tree equally likely.

    Each leaf in turn is hung on a uniformly chosen edge, the edge above the root included.
    """
    leaves = _check_names(names)
    n = len(leaves)
    parent = [-1]
    tips = [0]
    # Step k chooses among the 2k-1 nodes so far, each of them standing for the edge above it.
    for node in (generator.random(n - 1) * (2 * np.arange(1, n) - 1)).astype(int).tolist():
        joint = len(parent)
        parent.append(parent[node])
        parent[node] = joint
        tips.append(len(parent))
        parent.append(joint)
    return _from_any_order(parent, {node: i for i, node in enumerate(tips)}, leaves)


def yule_tree(names: Sequence[str], generator: np.random.Generator) -> Tree:
    """Return a rooted binary tree of the Yule process (Yule 1925; Harding 1971).

    Two lineages chosen at random are joined until one is left, which gives the same
    distribution over labelled trees as splitting random leaves.
    """
    leaves = _check_names(names)
    parent = [-1] * len(leaves)
    lineages = list(range(len(leaves)))
    while len(lineages) > 1:
        first, second = generator.choice(len(lineages), 2, replace=False).tolist()
        joint = len(parent)
        parent.append(-1)
        for place in (first, second):
            parent[lineages[place]] = joint
        lineages[first] = joint
        lineages[second] = lineages[-1]
        lineages.pop()
    return _from_any_order(parent, {i: i for i in range(len(leaves))}, leaves)


def _from_any_order(
    parent: Sequence[int], tips: Mapping[int, int], leaves: tuple[str, ...]
) -> Tree:
    children: list[list[int]] = [[] for _ in parent]
    root = 0
    for node, above in enumerate(parent):
        if above >= 0:
            children[above].append(node)
        else:
            root = node
    order, above = [root], [-1]
    for position, node in enumerate(order):
        for child in children[node]:
            order.append(child)
            above.append(position)
    leaf = [tips.get(node, -1) for node in order]
    return Tree(leaves, _frozen(above), _frozen(leaf), (None,) * len(order))
