"""How far modules can be trusted: agreement between seeds, and against random networks.

Two networks trained from different seeds have other hidden units, but the same inputs and outputs.
So their modules agree as far as the two partitions of the inputs, and those of the outputs, do.
What the degrees of a pruned network alone would give is seen in networks with the same degrees and
edges at random.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from espalier.errors import ConfigurationError, DataError
from espalier.sculpting.modules import (
    MERGE_THRESHOLD,
    MODULARITY_THRESHOLD,
    Modules,
    detect_modules,
)
from espalier.seeds import numpy_generator

SWAPS_PER_EDGE = 10
"""Attempted swaps per edge; mixing is usual at this many (Milo et al., cond-mat/0312028)."""

_CONFIDENCE = 0.95
_TIE = 1e-12


@dataclass(frozen=True, eq=False)
class Agreement:
    """Adjusted Rand indices of pairs of networks.

    Attributes:
        pairs: (pairs, 2) int64, the places of the two networks in the list.
        values: (pairs,) float64; NaN where no unit is alive in both networks.
        mean: over the pairs that have a value.
        low, high: 95 % interval of the mean by the jackknife over networks (pairs that share a
            network are not independent), cut to [-1, 1]; NaN for fewer than 3 networks.
    """

    pairs: np.ndarray
    values: np.ndarray
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class ModuleStability:
    """How far the modules of several networks agree.

    Attributes:
        inputs, outputs: agreement of the partitions of the inputs and of the outputs by module.
        num_modules: the number of modules of each network.
    """

    inputs: Agreement
    outputs: Agreement
    num_modules: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class NullComparison:
    """One quantity of a network against random networks of the same degrees.

    Attributes:
        observed: the value of the network.
        null: (draws,) float64, the values of the random networks.
        p_higher: share of networks, the observed one counted, at least as high as the observed.
        p_lower: share of networks, the observed one counted, at least as low.
    """

    observed: float
    null: np.ndarray
    p_higher: float
    p_lower: float

    @property
    def mean(self) -> float:
        """Mean of the random networks."""
        return float(self.null.mean())

    @property
    def z(self) -> float:
        """Standard deviations of the random networks from their mean; NaN if they are all equal."""
        spread = float(self.null.std(ddof=1)) if len(self.null) > 1 else 0.0
        return (self.observed - self.mean) / spread if spread > _TIE else math.nan


@dataclass(frozen=True)
class NullTest:
    """A network's modules against those of random networks with its degrees.

    Attributes:
        num_modules: the number of modules.
        modularity: `layered_modularity`.
        moved: mean share of the edges that lie elsewhere in a random network; near 0 where the
            degrees leave no choice, and then no test can say anything.
    """

    num_modules: NullComparison
    modularity: NullComparison
    moved: float


def adjusted_rand_index(first: np.ndarray, second: np.ndarray) -> float:
    """Return the adjusted Rand index of two partitions of the same units.

    1 for equal partitions, 0 expected by chance. Computed from integers; two partitions without
    any choice (all in one group, or all apart, in both) agree: 1.

    Args:
        first, second: (units,) labels.

    Raises:
        DataError: the partitions differ in length or have no unit.

    Source: Hubert and Arabie (1985), "Comparing partitions".
    """
    if np.shape(first) != np.shape(second) or np.ndim(first) != 1 or not len(first):
        raise DataError(
            f"partitions of shapes {np.shape(first)} and {np.shape(second)} cannot be compared; "
            "give one label per unit, for the same units"
        )
    rows = np.unique(first, return_inverse=True)[1]
    columns = np.unique(second, return_inverse=True)[1]
    table = np.zeros((rows.max() + 1, columns.max() + 1), np.int64)
    np.add.at(table, (rows, columns), 1)
    together, in_first, in_second = (
        sum(count * (count - 1) // 2 for count in counts.ravel().tolist())
        for counts in (table, table.sum(axis=1), table.sum(axis=0))
    )
    pairs = math.comb(len(rows), 2)
    # Over the common denominator of index, expectation and maximum, all are integers.
    numerator = 2 * (together * pairs - in_first * in_second)
    denominator = (in_first + in_second) * pairs - 2 * in_first * in_second
    return numerator / denominator if denominator else 1.0


def seed_stability(networks: Sequence[Modules]) -> ModuleStability:
    """Compare the modules of networks that differ in their seeds.

    Units that are dead in one of two networks are left out of that pair.

    Args:
        networks: two or more, with the same numbers of inputs and of outputs.

    Raises:
        DataError: fewer than two networks, or other inputs or outputs.
    """
    if len(networks) < 2:
        raise DataError(f"agreement needs two networks or more; there are {len(networks)}")
    ends = [(network.sizes[0], network.sizes[-1]) for network in networks]
    for number, end in enumerate(ends):
        if end != ends[0]:
            raise DataError(
                f"network {number} has {end[0]} inputs and {end[1]} outputs, network 0 "
                f"{ends[0][0]} and {ends[0][1]}; compare networks of one task"
            )
    return ModuleStability(
        inputs=_agreement(networks, 0),
        outputs=_agreement(networks, -1),
        num_modules=tuple(network.num_modules for network in networks),
    )


def layered_modularity(masks: Sequence[np.ndarray], modules: Sequence[np.ndarray]) -> float:
    """Return the share of edges within modules less the share expected from the degrees.

    Expected are the edges of random networks with the degrees of every unit in every layer: of m
    edges between two layers, (edges out of module c) * (edges into module c) / m lie in module c.
    0 without edges.

    Args:
        masks: (n_out, n_in) Boolean matrices, as `Modules.masks`.
        modules: the module of each unit, as `Modules.modules`.

    Source: Barber (2007), "Modularity and community detection in bipartite networks", summed over
    pairs of adjacent layers.
    """
    within, total = 0.0, 0
    for mask, sources, targets in zip(masks, modules[:-1], modules[1:], strict=True):
        rows, columns = np.nonzero(mask)
        if not len(rows):
            continue
        start, end = sources[columns], targets[rows]
        count = 1 + int(max(start.max(), end.max()))
        out = np.bincount(start, minlength=count).astype(np.float64)
        into = np.bincount(end, minlength=count).astype(np.float64)
        within += float((start == end).sum() - out @ into / len(rows))
        total += len(rows)
    return within / total if total else 0.0


def degree_preserving_mask(
    mask: np.ndarray, generator: np.random.Generator, swaps_per_edge: int = SWAPS_PER_EDGE
) -> np.ndarray:
    """Return a random mask with the same number of edges of every unit on both sides.

    A Markov chain of edge swaps: the ends of two random edges are exchanged unless that would
    double an edge. Its stationary distribution is uniform over all masks with these degrees.

    Args:
        mask: (n_out, n_in) Boolean.
        generator: draws the edges.
        swaps_per_edge: attempted swaps for each edge.

    Raises:
        ConfigurationError: `swaps_per_edge` is below 1.
    """
    if swaps_per_edge < 1:
        raise ConfigurationError(f"swaps_per_edge is {swaps_per_edge}; it must be at least 1")
    rows, columns = (ends.tolist() for ends in np.nonzero(mask))
    present = set(zip(rows, columns, strict=True))
    edges = len(rows)
    if edges:
        draws = generator.integers(edges, size=(swaps_per_edge * edges, 2)).tolist()
        for first, second in draws:
            here, there = (rows[first], columns[second]), (rows[second], columns[first])
            if here in present or there in present:
                continue
            present -= {(rows[first], columns[first]), (rows[second], columns[second])}
            present |= {here, there}
            columns[first], columns[second] = columns[second], columns[first]
    drawn = np.zeros(mask.shape, bool)
    drawn[rows, columns] = True
    return drawn


def module_null_test(
    masks: Sequence[Any],
    n: int = 99,
    seed: int = 0,
    modularity_threshold: float = MODULARITY_THRESHOLD,
    merge_threshold: float = MERGE_THRESHOLD,
    swaps_per_edge: int = SWAPS_PER_EDGE,
) -> NullTest:
    """Compare the modules of a network with those of random networks of the same degrees.

    Only units that are alive take part, and all of them stay alive: each keeps its numbers of
    edges in and out. p-values are (k + 1) / (n + 1) with k of n random networks as extreme
    (Phipson and Smyth 2010); with n = 99 none is below 0.01.

    Args:
        masks, modularity_threshold, merge_threshold: as in `detect_modules`.
        n: random networks.
        seed: draws them; draw i does not depend on n.
        swaps_per_edge: as in `degree_preserving_mask`.

    Raises:
        ConfigurationError: `n` or `swaps_per_edge` is below 1, or a threshold outside [0, 1].
        DataError: the masks are not usable.
    """
    if n < 1:
        raise ConfigurationError(f"n is {n}; the test needs at least one random network")
    observed = detect_modules(masks, modularity_threshold, merge_threshold)
    numbers, modularities, moved = [], [], []
    total = sum(int(mask.sum()) for mask in observed.masks)
    for draw in range(n):
        generator = numpy_generator(seed, "degree-preserving", draw)
        drawn = [
            degree_preserving_mask(mask, generator, swaps_per_edge) if mask.size else mask
            for mask in observed.masks
        ]
        moved.append(_moved(observed.masks, drawn) / max(total, 1))
        labels = _modules_of(drawn, observed, modularity_threshold, merge_threshold)
        numbers.append(1 + max(int(modules.max(initial=-1)) for modules in labels))
        modularities.append(layered_modularity(drawn, labels))
    return NullTest(
        num_modules=_compared(observed.num_modules, numbers),
        modularity=_compared(layered_modularity(observed.masks, observed.modules), modularities),
        moved=float(np.mean(moved)),
    )


def _modules_of(
    drawn: Sequence[np.ndarray],
    observed: Modules,
    modularity_threshold: float,
    merge_threshold: float,
) -> tuple[np.ndarray, ...]:
    if not all(mask.size for mask in drawn):
        # Nothing is alive but the outputs, and there is nothing to draw.
        return observed.modules
    return detect_modules(drawn, modularity_threshold, merge_threshold).modules


def _moved(before: Sequence[np.ndarray], after: Sequence[np.ndarray]) -> int:
    return sum(int((old & ~new).sum()) for old, new in zip(before, after, strict=True))


def _compared(observed: float, null: Sequence[float]) -> NullComparison:
    values = np.array(null, np.float64)
    return NullComparison(
        observed=float(observed),
        null=values,
        p_higher=(1 + int((values >= observed - _TIE).sum())) / (1 + len(values)),
        p_lower=(1 + int((values <= observed + _TIE).sum())) / (1 + len(values)),
    )


def _agreement(networks: Sequence[Modules], layer: int) -> Agreement:
    count = len(networks)
    pairs = list(itertools.combinations(range(count), 2))
    table = np.full((count, count), np.nan)
    for first, second in pairs:
        one, other = networks[first], networks[second]
        shared, left, right = np.intersect1d(
            one.alive[layer], other.alive[layer], return_indices=True
        )
        if len(shared):
            table[first, second] = adjusted_rand_index(
                one.modules[layer][left], other.modules[layer][right]
            )
    values = np.array([table[pair] for pair in pairs])
    mean = _mean(values)
    left_out = np.array(
        [_mean(np.delete(np.delete(table, k, axis=0), k, axis=1)) for k in range(count)]
    )
    low, high = math.nan, math.nan
    if count > 2 and not np.isnan(left_out).any():
        variance = (count - 1) / count * float(((left_out - left_out.mean()) ** 2).sum())
        reach = float(stats.t.ppf((1 + _CONFIDENCE) / 2, count - 1)) * math.sqrt(variance)
        low, high = max(mean - reach, -1.0), min(mean + reach, 1.0)
    return Agreement(np.array(pairs, np.int64), values, mean, low, high)


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan
