"""Which units a centrality-based method removes."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from espalier.errors import ConfigurationError, DataError, unknown_name

POPULATIONS = ("all", "layer")

# Guards floor(fraction * n) against products such as 0.29 * 100 = 28.999999999999996.
_ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class Removal:
    """The units that a rule removes.

    Attributes:
        removed: one (units,) boolean array per layer, True where the unit goes.
        thresholds: (layers,) float64, the value below which (mu - k sigma) or up to which (lowest
            fraction) a unit of the layer goes; NaN where a rule has none.
        emptied: layers that lose every unit.
    """

    removed: tuple[np.ndarray, ...]
    thresholds: np.ndarray
    emptied: tuple[int, ...]

    @property
    def counts(self) -> tuple[int, ...]:
        """Return how many units each layer loses."""
        return tuple(int(np.count_nonzero(layer)) for layer in self.removed)

    @property
    def count(self) -> int:
        """Return how many units are removed; 0 means that the rule did nothing."""
        return sum(self.counts)


def below_sigma(
    centralities: Sequence[np.ndarray],
    k: float,
    population: str = "all",
    *,
    layers: Collection[int] | None = None,
    allow_empty_layers: bool = False,
) -> Removal:
    """Remove the units whose centrality is below mu - k sigma, strictly.

    sigma is the population's standard deviation (ddof 0). Source: Heath, "Hub neurons in
    artificial neural networks", 2021, section 4; its code takes mu and sigma over all units.

    Args:
        centralities: one (units,) array per layer.
        k: 0 or more; without an upper end, but few distributions have units below mu - 3 sigma.
        population: mu and sigma over "all" units or those of each "layer".
        layers: the layers that may lose units; all when None. The population does not depend on
            it.
        allow_empty_layers: report a layer that loses every unit in `emptied` instead of refusing.

    Returns:
        The removal; its count is 0 where no unit is below the threshold.

    Raises:
        ConfigurationError: k is negative or not finite, an unknown population or layer.
        DataError: no units, values that are not finite, or a layer would lose every unit.
    """
    if not math.isfinite(k) or k < 0:
        raise ConfigurationError(f"k is {k}; it must be a number of 0 or more")
    values, chosen = _checked(centralities, population, layers)
    if population == "all":
        pooled = np.concatenate(values)
        thresholds = np.full(len(values), pooled.mean() - k * pooled.std())
    else:
        thresholds = np.array([layer.mean() - k * layer.std() for layer in values])
    removed = tuple(
        layer < threshold if index in chosen else np.zeros(layer.size, dtype=bool)
        for index, (layer, threshold) in enumerate(zip(values, thresholds, strict=True))
    )
    thresholds[[index not in chosen for index in range(len(values))]] = np.nan
    return _removal(removed, thresholds, f"mu - {k:g} sigma", "raise k", allow_empty_layers)


def lowest_fraction(
    centralities: Sequence[np.ndarray],
    fraction: float,
    population: str = "all",
    *,
    layers: Collection[int] | None = None,
    allow_empty_layers: bool = False,
) -> Removal:
    """Remove the units of lowest centrality, floor(fraction * units) of them.

    Of units with equal centrality the first goes first, so the count is exact.

    Args:
        centralities: one (units,) array per layer.
        fraction: 0 to below 1.
        population: the lowest of "all" units together or of each "layer".
        layers: the layers whose units are ranked and may go; all when None.
        allow_empty_layers: as in `below_sigma`.

    Raises:
        ConfigurationError: fraction outside 0 to below 1, an unknown population or layer.
        DataError: as in `below_sigma`.
    """
    if not 0 <= fraction < 1:
        raise ConfigurationError(f"fraction is {fraction}; it must be 0 or more and below 1")
    values, chosen = _checked(centralities, population, layers)
    removed = tuple(np.zeros(layer.size, dtype=bool) for layer in values)
    thresholds = np.full(len(values), np.nan)
    groups = [chosen] if population == "all" else [[index] for index in chosen]
    for group in groups:
        pooled = np.concatenate([values[index] for index in group])
        count = math.floor(fraction * pooled.size + _ROUNDING)
        lowest = np.zeros(pooled.size, dtype=bool)
        order = np.argsort(pooled, kind="stable")
        lowest[order[:count]] = True
        sizes = np.cumsum([values[index].size for index in group])[:-1]
        for index, part in zip(group, np.split(lowest, sizes), strict=True):
            removed[index][:] = part
            if count:
                thresholds[index] = pooled[order[count - 1]]
    return _removal(
        removed, thresholds, f"the lowest {fraction:g}", "lower the fraction", allow_empty_layers
    )


def _checked(
    centralities: Sequence[np.ndarray], population: str, layers: Collection[int] | None
) -> tuple[list[np.ndarray], list[int]]:
    if population not in POPULATIONS:
        raise unknown_name("population", population, POPULATIONS)
    values = [np.asarray(layer, dtype=np.float64).reshape(-1) for layer in centralities]
    if not values or any(layer.size == 0 for layer in values):
        raise DataError("centralities are needed for every layer, and a layer has one unit or more")
    for index, layer in enumerate(values):
        if not np.isfinite(layer).all():
            raise DataError(
                f"{np.count_nonzero(~np.isfinite(layer))} centralities of layer {index} are not "
                "finite; the weights have diverged"
            )
    chosen = sorted(set(range(len(values)) if layers is None else layers))
    if not chosen or not 0 <= chosen[0] <= chosen[-1] < len(values):
        raise ConfigurationError(f"layers are {chosen}; there are 0 to {len(values) - 1}")
    return values, chosen


def _removal(
    removed: tuple[np.ndarray, ...],
    thresholds: np.ndarray,
    rule: str,
    mend: str,
    allow_empty_layers: bool,
) -> Removal:
    emptied = tuple(index for index, layer in enumerate(removed) if layer.all())
    if emptied and not allow_empty_layers:
        raise DataError(
            f"{rule} removes every unit of layer {', '.join(map(str, emptied))}: nothing would "
            f"pass through the network; {mend}, take the population 'layer', or set "
            "allow_empty_layers where they grow back"
        )
    return Removal(removed, thresholds, emptied)
