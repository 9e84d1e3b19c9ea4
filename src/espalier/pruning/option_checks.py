"""What the values of a pruner's options may be."""

from __future__ import annotations

from collections.abc import Iterable

from espalier.errors import ConfigurationError, unknown_name


def require_one_of(option: str, value: str, known: Iterable[str]) -> None:
    """Raise a ConfigurationError unless `value` is one of the values an option knows."""
    choices = tuple(known)
    if value not in choices:
        raise unknown_name(f"value of {option}", value, choices)


def require_at_least(option: str, value: float, minimum: float) -> None:
    """Raise a ConfigurationError unless `value` is a number of `minimum` or more."""
    if not value >= minimum:
        raise ConfigurationError(f"{option} is {value}; it must be at least {minimum}")


def require_share(option: str, value: float) -> None:
    """Raise a ConfigurationError unless `value` is in [0, 1]."""
    if not 0 <= value <= 1:
        raise ConfigurationError(f"{option} is {value}; it is a share, in [0, 1]")


def require_period(value: int | str, words: Iterable[str] = ("epoch",)) -> None:
    """Raise a ConfigurationError unless `value` is a positive number of steps or a known word."""
    if isinstance(value, str) and value in words:
        return
    if isinstance(value, str) or value < 1 or value != int(value):
        listing = " or ".join(repr(word) for word in words)
        raise ConfigurationError(
            f"period is {value!r}; use a number of steps, at least 1, or {listing}"
        )
