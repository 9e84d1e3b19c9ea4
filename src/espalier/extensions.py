"""Code of the user's own, named by import path or by file.

`my_package.my_module` and `folder/my_module.py` name a module; `:function` after either names what
it defines. Nothing heavy is imported here.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from espalier.errors import ConfigurationError

_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")


def is_extension(name: str) -> bool:
    """Return whether a name is an import path or a file, not a name of the project's own."""
    module = name.partition(":")[0]
    return ":" in name or module.endswith(".py") or bool(_DOTTED.fullmatch(module))


def source_of(name: str) -> Path:
    """Return the file behind an extension, found without importing it.

    Raises:
        ConfigurationError: there is no such file or module.
    """
    module = name.partition(":")[0]
    if module.endswith(".py"):
        path = Path(module)
        if not path.is_file():
            raise ConfigurationError(f"{name}: the file {path.resolve()} does not exist")
        return path.resolve()
    try:
        found = importlib.util.find_spec(module)
    except (ModuleNotFoundError, ValueError):
        found = None
    if found is None or not found.origin or not found.origin.endswith(".py"):
        raise ConfigurationError(
            f"{name}: there is no Python module {module!r}; give its import path "
            "(my_package.my_module) or its file (folder/my_module.py)"
        )
    return Path(found.origin)


def load_module(name: str) -> ModuleType:
    """Import the module of an extension.

    Raises:
        ConfigurationError: there is no such file or module.
    """
    module = name.partition(":")[0]
    path = source_of(name)
    if not module.endswith(".py"):
        return importlib.import_module(module)
    unique = f"espalier_extension_{path.stem}_{abs(hash(path))}"
    if unique not in sys.modules:
        spec = importlib.util.spec_from_file_location(unique, path)
        assert spec is not None and spec.loader is not None
        loaded = importlib.util.module_from_spec(spec)
        sys.modules[unique] = loaded  # dataclasses look their module up while it is executed
        try:
            spec.loader.exec_module(loaded)
        except BaseException:
            del sys.modules[unique]
            raise
    return sys.modules[unique]


def load_attribute(name: str) -> Any:
    """Return what `module:attribute` names.

    Raises:
        ConfigurationError: no such module, or it does not define the attribute.
    """
    _, _, attribute = name.partition(":")
    module = load_module(name)
    if not attribute or not hasattr(module, attribute):
        raise ConfigurationError(
            f"{name}: {module.__name__} defines no {attribute!r}; write module:function"
        )
    return getattr(module, attribute)
