"""The names of the pruners; each is the name of its module in `espalier.pruning`. No torch here."""

from __future__ import annotations

from espalier.errors import unknown_name

_ALGORITHMS = ("group_magnitude",)


def names() -> list[str]:
    """Return the names that `prune` knows, in alphabetical order."""
    return list(_ALGORITHMS)


def module_of(name: str) -> str:
    """Return the dotted name of the module that defines a pruner, without importing it.

    Raises:
        ConfigurationError: no pruner has this name.
    """
    if name not in _ALGORITHMS:
        raise unknown_name("pruner", name, _ALGORITHMS)
    return f"espalier.pruning.{name}"
