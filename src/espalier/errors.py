"""Errors that say what is wrong, where, and what to do about it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class EspalierError(Exception):
    """Any failure that the user can mend; its message names the culprit and the mend."""


class ConfigurationError(EspalierError):
    """A key or value of the configuration is not usable."""


class DataError(EspalierError):
    """A data set, graph or tree is missing, damaged or does not fit the rest."""


class DamagedFileError(DataError):
    """The content of a file is not what was written: part of it is missing or was changed.

    Attributes:
        path: the file. A job of the workflow moves it aside if it is a result, so that the next
            run makes it anew (`espalier.jobs.job`).
    """

    def __init__(self, path: object, problem: str) -> None:
        super().__init__(f"{path} {problem}; if it is a result, delete it and run again")
        self.path = str(path)


class MissingDependencyError(EspalierError):
    """An optional package or program is not installed."""


class TrainingError(EspalierError):
    """Training cannot go on, for example because the loss is not finite."""


def nearest_hint(name: str, known: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for the known name closest to `name`, or an empty string."""
    close = difflib.get_close_matches(str(name), [str(k) for k in known], n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""


def unknown_name(
    kind: str, name: object, known: Iterable[str], error: type[EspalierError] = ConfigurationError
) -> EspalierError:
    """Return (not raise) the error for a name that no registry holds.

    `kind` says what the name stands for ("pruner", "detector"); the message lists the nearest
    known name and every known one.
    """
    names = sorted(str(k) for k in known)
    listing = ", ".join(names) or "none"
    return error(f"unknown {kind} {name!r}.{nearest_hint(str(name), names)} Known: {listing}")
