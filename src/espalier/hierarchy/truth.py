"""Ground-truth class trees, read from files and checked against the classes of a data set."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from espalier.errors import DataError, nearest_hint
from espalier.hierarchy.trees import Tree, check_same_leaves, parse_newick


def load_truth(path: str | os.PathLike[str], class_names: Sequence[str] | None = None) -> Tree:
    """Read the true class tree of a data set.

    Args:
        path: a file with one tree in Newick format; comments in brackets are allowed.
        class_names: the classes of the data set; the tree's leaves then come in this order.

    Raises:
        DataError: the file is missing or damaged, or its leaves are not the classes; the message
            has the path, the missing and the extra names, and the nearest class to each extra.
    """
    path = Path(path)
    if not path.exists():
        there = sorted(p.stem for p in path.parent.glob(f"*{path.suffix}")) if path.suffix else []
        raise DataError(f"{path} does not exist.{nearest_hint(path.stem, there)}")
    try:
        tree = parse_newick(path.read_text(encoding="utf-8"))
    except (DataError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: {error}") from error
    if class_names is None:
        return tree
    check_same_leaves(tree.leaves, class_names, str(path), "the data set's classes")
    return tree.with_leaf_order(class_names)
