"""The class tree that a nested partition of a network's units implies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from espalier.errors import DataError
from espalier.hierarchy.trees import tree_from_clusters


def class_tree(
    levels: Sequence[Sequence[int] | np.ndarray],
    output_nodes: Sequence[int | None] | np.ndarray,
    class_names: Sequence[str],
) -> str:
    """Return the class hierarchy of a nested block model as Newick.

    The inner nodes are the distinct sets of classes that share a block at some level, and the
    set of all classes; the leaves are the classes. Blocks without an output never appear, a
    block that repeats the class set of the level below adds nothing, and classes that share
    their lowest block form one polytomy. Leaves are named by class, never by position among the
    outputs present. Children are ordered by smallest class.

    Args:
        levels: `levels[0][v]` is the block of graph node v, `levels[k][b]` that at level k of
            block b of level k-1. Block numbers may have gaps, and the levels above the first may
            have entries for blocks that hold nothing.
        output_nodes: the graph node of each class, in class order; None or a negative number for
            a class whose output is not in the graph. Such a class hangs on the root.
        class_names: one name per class.

    Raises:
        DataError: the lengths differ, a node is given to two classes, or a block on the path of
            an output has no entry in the level above it.
    """
    nodes = [-1 if node is None else _whole(node, "output node") for node in output_nodes]
    if len(nodes) != len(class_names):
        raise DataError(f"{len(nodes)} output nodes for {len(class_names)} class names")
    given = [node for node in nodes if node >= 0]
    if len(set(given)) < len(given):
        twice = sorted({node for node in given if given.count(node) > 1})
        raise DataError(f"output nodes given to two classes: {twice}")
    if len(levels) == 0:
        raise DataError("a nested partition needs at least one level and got none")
    place = {name: node for name, node in zip(class_names, nodes, strict=True) if node >= 0}
    clusters: list[list[str]] = []
    for number, level in enumerate(levels):
        blocks = _level(level, number)
        for name, below in place.items():
            what = "node" if number == 0 else f"block of level {number - 1}"
            if below >= len(blocks):
                raise DataError(
                    f"level {number} has {len(blocks)} entries and so none for {what} {below}, "
                    f"which holds the output of class {name!r}"
                )
            place[name] = int(blocks[below])
            if place[name] < 0:
                raise DataError(
                    f"level {number} gives {what} {below}, which holds the output of class "
                    f"{name!r}, the block {place[name]}; blocks are numbered from 0"
                )
        # A block with every output present is the root, which classes without an output share.
        clusters += [group for group in _groups(place) if len(group) < len(place)]
    return tree_from_clusters(clusters, class_names).newick()


def tree_from_partitions(
    partitions: Sequence[Sequence[int] | np.ndarray], class_names: Sequence[str]
) -> str:
    """Return the class hierarchy of nested partitions of the classes themselves as Newick.

    Args:
        partitions: one array per level, finest or coarsest first, with the group of each class;
            a negative group means that the class is in none.
        class_names: one name per class.

    Raises:
        DataError: a partition has another length than `class_names`, or two groups of different
            levels overlap and neither holds the other.
    """
    clusters: list[list[str]] = []
    for number, partition in enumerate(partitions):
        groups = _level(partition, number)
        if len(groups) != len(class_names):
            raise DataError(
                f"level {number} groups {len(groups)} classes and there are {len(class_names)}"
            )
        place = zip(class_names, groups.tolist(), strict=True)
        clusters += _groups({name: group for name, group in place if group >= 0})
    return tree_from_clusters(clusters, class_names).newick()


def _groups(place: dict[str, int]) -> list[list[str]]:
    groups: dict[int, list[str]] = {}
    for name, block in place.items():
        groups.setdefault(block, []).append(name)
    return list(groups.values())


def _level(level: Sequence[int] | np.ndarray, number: int) -> np.ndarray:
    array = np.asarray(level)
    if array.ndim != 1:
        raise DataError(f"level {number} must be a flat list of blocks and has {array.ndim} axes")
    if array.dtype.kind not in "iu" and not (
        array.dtype.kind == "f" and np.array_equal(array, np.floor(array))
    ):
        raise DataError(f"level {number} must hold whole block numbers and has {array.dtype}")
    return array.astype(np.int64)


def _whole(value: object, what: str) -> int:
    number = int(value)  # type: ignore[call-overload]
    if number != value:
        raise DataError(f"an {what} must be a whole number and is {value!r}")
    return number
