"""Detectors: ways to read a class hierarchy out of one network.

A detector is one module of this package. It defines `Options`, a frozen dataclass with a default
for every field, and

    detect(graph, readout, seed, options) -> Detection

Its module name is its name; nothing else is to be registered. A module is imported when its
detector is asked for, so that a detector whose package is missing stops no other.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np

from espalier.errors import DataError, MissingDependencyError, unknown_name
from espalier.graphs.coactivation import CoactivationGraph


@dataclass(frozen=True)
class Detection:
    """The class trees that a detector found in one network.

    Attributes:
        newicks: one tree over all classes per sample, as Newick.
        samples: one label per tree, such as "fit0", "sample12" or "resolution0.5".
        details: what can be written as JSON about the trees: lists with one entry per tree
            (description_lengths, levels) and facts about the whole (versions, seconds).
    """

    newicks: tuple[str, ...]
    samples: tuple[str, ...]
    details: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.newicks) != len(self.samples):
            raise DataError(f"{len(self.newicks)} trees for {len(self.samples)} sample labels")


def detector_names() -> tuple[str, ...]:
    """Return the names of all detectors, sorted."""
    modules = (module.name for module in pkgutil.iter_modules(__path__))
    return tuple(sorted(name for name in modules if not name.startswith("_")))


def detector_options(name: str) -> dict[str, Any]:
    """Return the options of a detector and their defaults.

    Raises:
        ConfigurationError: no detector has this name.
    """
    return dataclasses.asdict(_module(name).Options())


def detect(
    name: str,
    graph: CoactivationGraph,
    readout: Mapping[str, np.ndarray],
    seed: int,
    **options: Any,
) -> Detection:
    """Run one detector on one network.

    Args:
        name: one of `detector_names()`.
        graph: the co-activation graph; it names the classes.
        readout: arrays of the network for the detectors that need no graph: output_weights
            (C, D), confusion (C, C), class_means (C, D), output_correlation (C, C). Each
            detector needs at most one of them.
        seed: of every random draw.
        options: fields of the detector's `Options`; see `detector_options`.

    Raises:
        ConfigurationError: the detector, or an option, is unknown or out of range.
        DataError: the readout lacks the array that the detector needs.
        MissingDependencyError: the detector's package is not installed.
    """
    return _module(name).detect(graph, readout, seed, options_of(name, options))


def options_of(name: str, values: Mapping[str, Any]) -> Any:
    """Return the `Options` of a detector with some values set.

    Raises:
        ConfigurationError: the detector, or an option, is unknown or out of range.
    """
    module = _module(name)
    known = [f.name for f in dataclasses.fields(module.Options)]
    for option in values:
        if option not in known:
            raise unknown_name(f"option of the detector {name}", option, known)
    return module.Options(**values)


def readout_array(readout: Mapping[str, np.ndarray], name: str, detector: str) -> np.ndarray:
    """Return one array of the readout, or raise a DataError that says what is there instead."""
    if name not in readout:
        held = ", ".join(sorted(readout)) or "nothing"
        raise DataError(f"the detector {detector} needs {name!r}; the readout holds {held}")
    return np.asarray(readout[name])


def require(package: str, detector: str) -> ModuleType:
    """Import the package of a detector, or raise a MissingDependencyError that says how to get it.

    The packages of all detectors that PyPI offers are the extra `hierarchy` of espalier.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MissingDependencyError(
            f"the detector {detector} needs the package {package}, which cannot be imported "
            f"({error}). Install it with `pip install {package}` or `pip install "
            f"'espalier[hierarchy]'`, or leave {detector} out of the detectors."
        ) from error


def _module(name: str) -> Any:
    names = detector_names()
    if name not in names:
        raise unknown_name("detector", name, names)
    return importlib.import_module(f"{__name__}.{name}")
