"""Options of hub methods and of their training; light, so that a configuration can be checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from espalier.errors import ConfigurationError, unknown_name

ACTIVATIONS = ("relu", "srelu")
KERNELS = ("compiled", "csr", "dense")
CENTRALITY_PRESETS = ("definition", "paper", "cenbench")
METHODS = (
    "set",
    "set_pure",
    "censet",
    "censet_fraction",
    "katz",
    "strength",
    "accset",
    "no_readding",
    "readding_while_sd_falls",
    "static",
    "dense",
    "random",
    "random_units",
)
BY_THRESHOLD = ("censet", "katz", "strength", "no_readding", "readding_while_sd_falls")
BY_CENTRALITY = (*BY_THRESHOLD, "censet_fraction")
BY_MAGNITUDE = ("set", "set_pure", "accset")
REFERRING = ("random", "random_units")


@dataclass(frozen=True)
class MethodOptions:
    """A method and its settings.

    Attributes:
        method: one of `METHODS`.
        zeta: share of the weights of each sign that the methods by magnitude remove.
        k: units below mu - k sigma are removed, for the methods by a threshold.
        fraction: share of the units that censet_fraction removes.
        preset: of the Laplacian centrality, see `espalier.hubs.PRESETS`.
        population: mu, sigma and fractions over "all" units or per "layer".
        reference: name of the run whose removals random and random_units repeat.

    Raises:
        ConfigurationError: an unknown choice, a setting that the method needs is missing, or one
            that it does not have is given.
    """

    method: str = "set"
    zeta: float = 0.05
    k: float | None = None
    fraction: float | None = None
    preset: str = "paper"
    population: str = "all"
    reference: str | None = None

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise unknown_name("hub method", self.method, METHODS)
        if self.preset not in CENTRALITY_PRESETS:
            raise unknown_name("centrality preset", self.preset, CENTRALITY_PRESETS)
        if self.population not in ("all", "layer"):
            raise unknown_name("population", self.population, ("all", "layer"))
        if not 0 <= self.zeta < 1:
            raise ConfigurationError(f"zeta is {self.zeta}; it is a share, in [0, 1)")
        if self.fraction is not None and not 0 <= self.fraction < 1:
            raise ConfigurationError(f"fraction is {self.fraction}; it is a share, in [0, 1)")
        if self.k is not None and not math.isfinite(self.k):
            raise ConfigurationError(f"k is {self.k}; it must be a finite number")
        needs = {
            "k": self.method in BY_THRESHOLD,
            "fraction": self.method == "censet_fraction",
            "reference": self.method in REFERRING,
        }
        for name, needed in needs.items():
            if needed != (getattr(self, name) is not None):
                verb = "needs" if needed else "has no"
                raise ConfigurationError(f"method {self.method!r} {verb} option {name!r}")


def method_options(values: Mapping[str, Any]) -> MethodOptions:
    """Return the options of a mapping.

    Raises:
        ConfigurationError: an unknown key, or as `MethodOptions`.
    """
    known = [field.name for field in fields(MethodOptions)]
    for key in values:
        if key not in known:
            raise unknown_name("option of a hub method", key, known)
    return MethodOptions(**values)


@dataclass(frozen=True)
class HubRecipe:
    """How a sparse perceptron is trained; the defaults are those of the CenSET paper.

    Attributes:
        epochs: passes over the training images.
        batch_size: images per update; those left over at the end of an epoch wait for another.
        learning_rate, momentum: of gradient descent, constant.
        dropout: share of hidden outputs dropped in training.
        epsilon: density of the sparse layers, see `espalier.hubs.sparse_layers.random_pattern`.
        activation: "srelu" (paper) or "relu" (its public code).
        sparse_output: whether the last layer is sparse too.
        augmentation: whether images are turned, shifted and mirrored in training.
        kernel: "measured", or one of `KERNELS`.

    Raises:
        ConfigurationError: a value out of range.
    """

    epochs: int = 50
    batch_size: int = 100
    learning_rate: float = 0.01
    momentum: float = 0.9
    dropout: float = 0.3
    epsilon: float = 20.0
    activation: str = "srelu"
    sparse_output: bool = False
    augmentation: bool = False
    kernel: str = "measured"

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"{name} is {getattr(self, name)}; it is at least 1")
        for name in ("momentum", "dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigurationError(f"{name} is {getattr(self, name)}; it is in [0, 1)")
        for name in ("learning_rate", "epsilon"):
            if not getattr(self, name) > 0:
                raise ConfigurationError(f"{name} is {getattr(self, name)}; it must be positive")
        if self.activation not in ACTIVATIONS:
            raise unknown_name("activation", self.activation, ACTIVATIONS)
        if self.kernel not in ("measured", *KERNELS):
            raise unknown_name("kernel", self.kernel, ("measured", *KERNELS))
