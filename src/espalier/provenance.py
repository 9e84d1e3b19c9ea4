"""Digests of code and configuration, and the record that every result carries."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import espalier
from espalier.errors import EspalierError
from espalier.files import read_json, write_json

_PACKAGE = "espalier"
_NOTES = Path(".snakemake/espalier_code")
_PACKAGE_FOLDER = Path(__file__).resolve().parent


def digest(value: Any) -> str:
    """Return 16 hexadecimal digits that identify a JSON value, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def provenance(code: str, configuration: Any, seeds: Any, **more: Any) -> dict[str, Any]:
    """Return the record stored in every result: version, code digest, configuration and seeds.

    `configuration` is the part of the configuration that shaped the result; it is stored as its
    digest. `seeds` is one seed or a list.
    """
    return {
        "espalier": espalier.__version__,
        "code": code,
        "configuration": digest(configuration),
        "seed": seeds,
        **more,
    }


@cache
def code_of(*roots: str | Path) -> str:
    """Return a digest of the code behind `roots` and of all it imports inside espalier.

    A root is a module below the package ("pruning.group_magnitude") or the path of a Python
    file. The closure is followed through the syntax tree, imports inside functions included; a
    name that a package re-exports leads to the module that defines it, so that editing one
    module of a package leaves its siblings' digests alone. Docstrings, comments and layout do
    not count. Modules loaded by a computed name are not seen: pass them as roots.

    Raises:
        EspalierError: a root does not exist.
    """
    lines = [f"{_label(path)} {_source_digest(path)}" for path in _closure(roots)]
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()[:16]


def remember_code(folder: str | Path, *roots: str | Path) -> None:
    """Note which modules `code_of(*roots)` stands for, so that a later change can be named.

    Args:
        folder: of the workflow; the notes are kept below its hidden .snakemake folder.
        roots: as in `code_of`.
    """
    path = Path(folder) / _NOTES / f"{code_of(*roots)}.json"
    if path.exists():
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        note = {_label(module): _source_digest(module) for module in _closure(roots)}
        write_json(path, note)
    except OSError:
        # Results never depend on the notes; a folder that cannot be written to has none.
        return


def changed_modules(before: str, now: str, folder: str | Path) -> list[str]:
    """Return what differs between two digests: modules, with (new) or (gone) where it applies.

    Empty where one of the digests was never noted in this folder.
    """
    notes = [Path(folder) / _NOTES / f"{digest}.json" for digest in (before, now)]
    if not all(note.exists() for note in notes):
        return []
    old, new = (read_json(note) for note in notes)
    changed = [name for name in sorted(old.keys() & new.keys()) if old[name] != new[name]]
    added = [f"{name} (new)" for name in sorted(new.keys() - old.keys())]
    return [*changed, *added, *(f"{name} (gone)" for name in sorted(old.keys() - new.keys()))]


def modules_of(*roots: str | Path) -> list[str]:
    """Return the labels of the files that `code_of(*roots)` digests, sorted."""
    return sorted(_label(path) for path in _closure(roots))


def _closure(roots: Iterable[str | Path]) -> set[Path]:
    pending = [_root_path(root) for root in roots]
    closure: set[Path] = set()
    while pending:
        path = pending.pop()
        if path not in closure:
            closure.add(path)
            pending.extend(_imports(path))
    return closure


def _root_path(root: str | Path) -> Path:
    if isinstance(root, Path) or str(root).endswith(".py"):
        path = Path(root).resolve()
        if not path.exists():
            raise EspalierError(f"code_of: {path} does not exist")
        return path
    found = _module_path(f"{_PACKAGE}.{root}")
    if found is None:
        raise EspalierError(f"code_of: no module {_PACKAGE}.{root} below {_PACKAGE_FOLDER}")
    return found


def _module_path(dotted: str) -> Path | None:
    """Return the file of a module inside the package, or None if there is none."""
    parts = dotted.split(".")
    if parts[0] != _PACKAGE:
        return None
    base = _PACKAGE_FOLDER.joinpath(*parts[1:])
    if base.with_suffix(".py").is_file() and len(parts) > 1:
        return base.with_suffix(".py")
    # The package's own __init__ holds the version alone: a new version must not rerun everything.
    if len(parts) > 1 and (base / "__init__.py").is_file():
        return base / "__init__.py"
    return None


def _label(path: Path) -> str:
    if path.is_relative_to(_PACKAGE_FOLDER):
        return path.relative_to(_PACKAGE_FOLDER).as_posix()
    return f"script/{path.name}"


@cache
def _syntax_tree(path: Path) -> ast.Module:
    """Return the syntax tree without docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and ast.get_docstring(node, clean=False) is not None
        ):
            node.body = node.body[1:] or [ast.Pass()]
    return tree


@cache
def _source_digest(path: Path) -> str:
    return hashlib.sha256(ast.unparse(_syntax_tree(path)).encode()).hexdigest()


@cache
def _imports(path: Path) -> tuple[Path, ...]:
    """Return the files inside the package that the code of `path` imports."""
    found: dict[Path, None] = {}
    for node in ast.walk(_syntax_tree(path)):
        if isinstance(node, ast.Import):
            candidates = [_module_path(alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = _absolute_module(node, path)
            candidates = [_imported(module, alias.name) for alias in node.names]
        else:
            continue
        found.update((candidate, None) for candidate in candidates if candidate)
    return tuple(found)


def _absolute_module(node: ast.ImportFrom, path: Path) -> str:
    if not node.level:
        return node.module or ""
    relative = path.relative_to(_PACKAGE_FOLDER).parent.parts
    parents = relative[: len(relative) - (node.level - 1)]
    return ".".join([_PACKAGE, *parents, *([node.module] if node.module else [])])


def _imported(module: str, name: str) -> Path | None:
    """Return the file behind `from module import name`, through re-exports of packages."""
    submodule = _module_path(f"{module}.{name}")
    if submodule is not None:
        return submodule
    source = _module_path(module)
    if source is None or source.name != "__init__.py":
        return source
    for node, imported in _reexports(source):
        if (imported.asname or imported.name) == name:
            return _imported(_absolute_module(node, source), imported.name)
    return source


def _reexports(package: Path) -> Iterator[tuple[ast.ImportFrom, ast.alias]]:
    for node in ast.walk(_syntax_tree(package)):
        if isinstance(node, ast.ImportFrom):
            for imported in node.names:
                yield node, imported
