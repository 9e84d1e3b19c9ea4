"""The names of the pruners, found by looking at the package; no torch here.

A pruner is a module of this package that defines `Options` and `prune`. It is registered nowhere,
so that a new one changes no other file, and with it no other pruner's code digest.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

from espalier.errors import unknown_name

_FOLDER = Path(__file__).parent


@cache
def _algorithms() -> dict[str, tuple[str, ...]]:
    """Return the options of every algorithm by name, read from the source without importing it."""
    found = {}
    for path in sorted(_FOLDER.glob("*.py")):
        body = ast.parse(path.read_text(encoding="utf-8"), str(path)).body
        functions = {node.name for node in body if isinstance(node, ast.FunctionDef)}
        options = [n for n in body if isinstance(n, ast.ClassDef) and n.name == "Options"]
        if "prune" in functions and options:
            found[path.stem] = tuple(
                node.target.id
                for node in options[0].body
                if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
            )
    return found


def names() -> tuple[str, ...]:
    """Return the names that `prune` knows, in alphabetical order."""
    return tuple(_algorithms())


def option_names(name: str) -> tuple[str, ...]:
    """Return the names of a pruner's options, without importing it.

    Raises:
        ConfigurationError: no pruner has this name.
    """
    if name not in _algorithms():
        raise unknown_name("pruner", name, _algorithms())
    return _algorithms()[name]


def module_of(name: str) -> str:
    """Return the dotted name of the module that defines a pruner, without importing it.

    Raises:
        ConfigurationError: no pruner has this name.
    """
    option_names(name)
    return f"espalier.pruning.{name}"
