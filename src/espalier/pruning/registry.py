"""The names of the pruners, found by looking at the package; no torch here.

A pruner is a module of this package that defines `WHEN`, `Options` and `prune`. It is registered
nowhere, so that a new one changes no other file, and with it no other pruner's code digest. One of
the user's own is named by its import path or its file.
"""

from __future__ import annotations

import ast
import importlib
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from espalier.errors import ConfigurationError, unknown_name
from espalier.extensions import is_extension, load_module, source_of

_FOLDER = Path(__file__).parent
_TIMES = ("before", "during", "after")


class _Outline(NamedTuple):
    when: str
    options: tuple[str, ...]
    functions: frozenset[str]


@cache
def _outline(path: Path) -> _Outline | None:
    """Return what a source file declares, without importing it; None if it is no pruner."""
    body = ast.parse(path.read_text(encoding="utf-8"), str(path)).body
    functions = {node.name for node in body if isinstance(node, ast.FunctionDef)}
    options = [n for n in body if isinstance(n, ast.ClassDef) and n.name == "Options"]
    when = [
        node.value.value
        for node in body
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Constant)
        and any(isinstance(t, ast.Name) and t.id == "WHEN" for t in node.targets)
    ]
    if "prune" not in functions or not options or not when:
        return None
    if when[0] not in _TIMES:
        raise ConfigurationError(f"{path}: WHEN is {when[0]!r}; use 'before', 'during' or 'after'")
    fields = tuple(
        node.target.id
        for node in options[0].body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    )
    return _Outline(str(when[0]), fields, frozenset(functions))


@cache
def names() -> tuple[str, ...]:
    """Return the names that `prune` knows, in alphabetical order."""
    return tuple(path.stem for path in sorted(_FOLDER.glob("*.py")) if _outline(path))


def _outline_of(name: str) -> _Outline:
    if is_extension(name):
        found = _outline(source_of(name))
        if found is None:
            raise ConfigurationError(
                f"{name} is not a pruner: it must define WHEN, a dataclass Options and a function "
                "prune(request, sparsity, options)"
            )
        return found
    if name not in names():
        raise unknown_name("pruner", name, names())
    found = _outline(_FOLDER / f"{name}.py")
    assert found is not None
    return found


def option_names(name: str) -> tuple[str, ...]:
    """Return the names of a pruner's options, without importing it.

    Raises:
        ConfigurationError: no pruner has this name.
    """
    return _outline_of(name).options


def acts(name: str) -> str:
    """Return when a pruner acts: "before", "during" or "after" training.

    Raises:
        ConfigurationError: no pruner has this name.
    """
    return _outline_of(name).when


def repeats_training(name: str) -> bool:
    """Return whether a pruner trains a network over and over, as lottery tickets do.

    Raises:
        ConfigurationError: no pruner has this name.
    """
    return "level_densities" in _outline_of(name).functions


def module_of(name: str) -> str:
    """Return what defines a pruner, without importing it: a dotted module name, or a file.

    Raises:
        ConfigurationError: no pruner has this name.
    """
    _outline_of(name)
    return str(source_of(name)) if is_extension(name) else f"espalier.pruning.{name}"


def load(name: str) -> ModuleType:
    """Import the module of a pruner.

    Raises:
        ConfigurationError: no pruner has this name.
    """
    _outline_of(name)
    return load_module(name) if is_extension(name) else importlib.import_module(module_of(name))
