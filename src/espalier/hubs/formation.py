"""Do hubs form: how heavy the tail of a centrality is, whether hubs stay, and what they carry.

Every statistic of the tail is free of scale, so that networks whose weights differ in size only
have the same. A centrality is a mixture over layers of different fan-in: compare layer by layer,
or whole networks of one architecture. Units of one network depend on each other; where there are
several networks per side the intervals resample networks first and units within them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse, stats

from espalier.errors import ConfigurationError, DataError, unknown_name
from espalier.hubs.centrality import laplacian_centrality
from espalier.hubs.weighted_graphs import LayeredWeights, Weights
from espalier.seeds import derive_seed, numpy_generator

QUANTILES = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
NULLS = ("weights", "edges", "normal")
ORDERS = ("top", "bottom", "random")

_TAIL = 0.05
_TOP = 0.01
_MOST_LABELLINGS = 20_000
_REPLICATE_NUMBERS = 4_000_000


# -- statistics of one distribution --------------------------------------------------------------


def gini(values: np.ndarray) -> np.ndarray:
    """Gini coefficient: mean absolute difference over twice the mean absolute value.

    For values that are not negative it is the usual coefficient; with negative ones it still lies
    in 0 to below 1. 0 where all values are 0. Source: Gini, "Variabilita e mutabilita", 1912;
    the absolute mean as in Raffinetti, Siletti and Vernizzi, Stat. Methods Appl. 24, 2015.

    Args:
        values: (..., n).

    Returns:
        (...) float64.
    """
    ordered = np.sort(values, axis=-1)
    n = ordered.shape[-1]
    weights = 2 * np.arange(1, n + 1) - n - 1
    total = n * np.abs(ordered).sum(axis=-1)
    return np.divide(
        ordered @ weights, total, out=np.zeros(np.shape(total), dtype=np.float64), where=total > 0
    )


def excess_kurtosis(values: np.ndarray) -> np.ndarray:
    """Fourth central moment over the squared variance, less 3; NaN where all values are equal.

    Args:
        values: (..., n).
    """
    centred = values - values.mean(axis=-1, keepdims=True)
    squares = np.square(centred)
    variance = squares.mean(axis=-1)
    fourth = np.square(squares).mean(axis=-1)
    scale = np.abs(values).max(axis=-1)
    some = variance > np.square(1e-12 * scale)
    return np.divide(fourth, variance**2, out=np.full(variance.shape, np.nan), where=some) - 3


def hill(values: np.ndarray, tail: float = _TAIL) -> np.ndarray:
    """Hill's estimate of the extreme value index of the upper tail: larger is heavier.

    The mean of log x_(i) - log x_(m+1) over the m = floor(tail n) largest values; 1 over it is the
    exponent of a power law. Source: Hill, "A simple general approach to inference about the tail
    of a distribution", Ann. Stat. 3, 1975.

    Args:
        values: (..., n).
        tail: share of the values in the tail.

    Returns:
        (...) float64; NaN where the tail has fewer than two values or x_(m+1) is not positive.
    """
    n = values.shape[-1]
    count = math.floor(tail * n)
    if count < 2 or count >= n:
        return np.full(values.shape[:-1], np.nan)
    largest = np.partition(values, n - count - 1, axis=-1)[..., n - count - 1 :]
    usable = largest[..., 0] > 0
    logs = np.log(np.where(usable[..., None], largest, 1.0))
    return np.where(usable, logs[..., 1:].mean(axis=-1) - logs[..., 0], np.nan)


def top_share(values: np.ndarray, top: float = _TOP) -> np.ndarray:
    """Share of the sum of absolute values that the largest ceil(top n) values hold.

    Args:
        values: (..., n).
        top: share of the values.

    Returns:
        (...) float64; 0 where all values are 0.
    """
    n = values.shape[-1]
    count = math.ceil(top * n)
    largest = np.partition(values, n - count, axis=-1)[..., n - count :].sum(axis=-1)
    total = np.abs(values).sum(axis=-1)
    return np.divide(largest, total, out=np.zeros(np.shape(total)), where=total > 0)


TAIL_STATISTICS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = MappingProxyType(
    {"gini": gini, "excess_kurtosis": excess_kurtosis, "hill": hill, "top_share": top_share}
)
"""Statistics along the last axis, larger for a heavier tail."""


def tail_statistics(values: np.ndarray) -> dict[str, float]:
    """Return every statistic of `TAIL_STATISTICS` of (n,) values.

    Raises:
        DataError: no values, or not finite ones.
    """
    checked = _finite(values)
    return {name: float(statistic(checked)) for name, statistic in TAIL_STATISTICS.items()}


def centrality_summary(values: np.ndarray) -> dict[str, float]:
    """Return neurons, mean, sd (ddof 0), min, max, gini and quantiles q05 to q95 of values.

    Raises:
        DataError: no values, or not finite ones.
    """
    checked = _finite(values)
    quantiles = np.quantile(checked, QUANTILES)
    return {
        "neurons": checked.size,
        "mean": float(checked.mean()),
        "sd": float(checked.std()),
        "min": float(checked.min()),
        "max": float(checked.max()),
        "gini": float(gini(checked)),
        **{f"q{100 * q:02.0f}": float(v) for q, v in zip(QUANTILES, quantiles, strict=True)},
    }


# -- against controls ----------------------------------------------------------------------------


@dataclass(frozen=True)
class TailComparison:
    """One statistic of observed centralities against a control.

    Attributes:
        statistic: its name.
        value, control: of the observed and of the control, means over networks.
        difference: value - control; low, high: its interval.
        p_value: one-sided, of a control at least as heavy-tailed as the observed.
    """

    statistic: str
    value: float
    control: float
    difference: float
    low: float
    high: float
    p_value: float


def compare_tails(
    observed: np.ndarray | Sequence[np.ndarray],
    control: np.ndarray | Sequence[np.ndarray],
    statistics: Iterable[str] | None = None,
    *,
    replicates: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> list[TailComparison]:
    """Compare the tails of centralities with those of a control, such as static sparse networks.

    Interval: percentile bootstrap over networks (where a side has several) and over units within
    each. p-value: permutation test, of the networks' labels where both sides have two or more (all
    labellings where they are at most 20,000: three against three cannot go below 1/20), else of
    the units', each network divided by its mean absolute value first. The latter takes units as
    independent, which they are not quite: several networks are the better evidence.

    Args:
        observed, control: (units,) values of one network, or one such array per network.
        statistics: keys of `TAIL_STATISTICS`; all when None.
        replicates: of the bootstrap, and of the permutations where they are drawn.
        level: of the interval.
        seed: of the resampling.

    Returns:
        One comparison per statistic. Replicates in which a statistic is NaN are left out of its
        interval; all is NaN where the statistic itself is.

    Raises:
        ConfigurationError: an unknown statistic, too few replicates, or a level outside 0 to 1.
        DataError: no values, or not finite ones.
    """
    chosen = _chosen_statistics(statistics)
    _check_resampling(replicates, level)
    sides = [_networks(observed), _networks(control)]
    generator = numpy_generator(seed, "compare_tails")
    replicated = [_bootstrap(side, chosen, replicates, generator) for side in sides]
    result = []
    for name in chosen:
        statistic = TAIL_STATISTICS[name]
        own = [np.array([float(statistic(network)) for network in side]) for side in sides]
        value, reference = float(own[0].mean()), float(own[1].mean())
        low = high = p_value = math.nan
        if math.isfinite(value) and math.isfinite(reference):
            differences = replicated[0][name] - replicated[1][name]
            low, high = _interval(differences, level)
            if min(len(side) for side in sides) >= 2:
                p_value = _permuted_networks(own[0], own[1], replicates, generator)
            else:
                p_value = _permuted_units(sides, statistic, replicates, generator)
        result.append(TailComparison(name, value, reference, value - reference, low, high, p_value))
    return result


def rewired_weights(
    weights: Sequence[Weights], null: str = "weights", seed: int = 0
) -> list[sparse.csr_array]:
    """Return a network at random that keeps each layer's count and scale of weights.

    Args:
        weights: one (n_in, n_out) matrix per layer; weights of 0 are no edges.
        null: "weights" shuffles the weights of a layer over its edges; "edges" also puts the edges
            anywhere in the layer; "normal" keeps the edges and draws their weights from a normal
            distribution with the mean and standard deviation of the layer's.
        seed: of the shuffling.

    Raises:
        ConfigurationError: an unknown null.
        DataError: unusable weights.
    """
    if null not in NULLS:
        raise unknown_name("null network", null, NULLS)
    generator = numpy_generator(seed, "rewired_weights", null)
    layers = LayeredWeights(weights)
    layers.sums()  # refuses weights that are not finite
    result = []
    for layer in layers.matrices():
        rows, columns, data = layer.row, layer.col, layer.data
        shape: Any = layer.shape
        if null == "normal":
            data = generator.normal(data.mean(), data.std(), data.size) if data.size else data
        else:
            data = generator.permutation(data)
        if null == "edges":
            places = generator.choice(
                math.prod(shape), size=data.size, replace=False, shuffle=False
            )
            rows, columns = np.divmod(places, shape[1])
        result.append(sparse.csr_array((data, (rows, columns)), shape=shape))
    return result


def null_comparison(
    weights: Sequence[Weights],
    null: str = "weights",
    statistics: Iterable[str] | None = None,
    *,
    layer: int | None = None,
    replicates: int = 200,
    level: float = 0.95,
    seed: int = 0,
    **centrality: Any,
) -> list[TailComparison]:
    """Compare one network's tails with those of random networks with the same scale of weights.

    Args:
        weights: one (n_in, n_out) matrix per layer.
        null: as in `rewired_weights`.
        statistics: keys of `TAIL_STATISTICS`; all when None.
        layer: of this layer's units only (0 is the inputs); all units when None.
        replicates: random networks.
        level: of the interval of the difference, from the quantiles of the random networks.
        seed: of the random networks.
        centrality: options of `laplacian_centrality`.

    Returns:
        One comparison per statistic; control is the mean of the random networks and the p-value
        (1 + those at least as heavy-tailed) / (1 + replicates).

    Raises:
        ConfigurationError, DataError: as in `compare_tails` and `laplacian_centrality`.
    """
    chosen = _chosen_statistics(statistics)
    _check_resampling(replicates, level)

    def units(network: Sequence[Weights]) -> np.ndarray:
        layers = laplacian_centrality(network, **centrality)
        if layer is None:
            return np.concatenate(layers)
        if not 0 <= layer < len(layers):
            raise ConfigurationError(f"layer is {layer}; there are 0 to {len(layers) - 1}")
        return layers[layer]

    own = units(weights)
    random = [
        units(rewired_weights(weights, null, seed=derive_seed(seed, k))) for k in range(replicates)
    ]
    result = []
    for name in chosen:
        statistic = TAIL_STATISTICS[name]
        value = float(statistic(own))
        control = np.array([float(statistic(values)) for values in random])
        control = control[np.isfinite(control)]
        low = high = p_value = mean = math.nan
        if math.isfinite(value) and control.size:
            mean = float(control.mean())
            low, high = _interval(value - control, level)
            p_value = float((1 + np.count_nonzero(control >= value)) / (1 + control.size))
        result.append(TailComparison(name, value, mean, value - mean, low, high, p_value))
    return result


def _bootstrap(
    networks: Sequence[np.ndarray],
    names: Sequence[str],
    replicates: int,
    generator: np.random.Generator,
) -> dict[str, np.ndarray]:
    """Return (replicates,) means over networks of every statistic, networks and units resampled."""
    count = len(networks)
    drawn = generator.integers(count, size=(replicates, count))
    sums = {name: np.zeros(replicates) for name in names}
    for index, values in enumerate(networks):
        times = np.count_nonzero(drawn == index, axis=1)
        draws = np.repeat(np.arange(replicates), times)
        step = max(1, _REPLICATE_NUMBERS // values.size)
        for start in range(0, draws.size, step):
            here = draws[start : start + step]
            resampled = values[generator.integers(values.size, size=(here.size, values.size))]
            for name in names:
                np.add.at(sums[name], here, TAIL_STATISTICS[name](resampled))
    return {name: total / count for name, total in sums.items()}


def _permuted_networks(
    first: np.ndarray, second: np.ndarray, replicates: int, generator: np.random.Generator
) -> float:
    pooled = np.concatenate([first, second])
    observed = first.mean() - second.mean()
    labellings = math.comb(pooled.size, first.size)
    if labellings <= _MOST_LABELLINGS:
        chosen = np.array(list(itertools.combinations(range(pooled.size), first.size)))
    else:
        chosen = np.stack(
            [generator.permutation(pooled.size)[: first.size] for _ in range(replicates)]
        )
    own = pooled[chosen].sum(axis=1)
    difference = own / first.size - (pooled.sum() - own) / second.size
    # The observed labelling is one of all; a tie with it must not be lost to rounding.
    extreme = np.count_nonzero(difference >= observed - 1e-12 * max(1.0, abs(observed)))
    if labellings <= _MOST_LABELLINGS:
        return extreme / labellings
    return (1 + extreme) / (1 + replicates)


def _permuted_units(
    sides: Sequence[Sequence[np.ndarray]],
    statistic: Callable[[np.ndarray], np.ndarray],
    replicates: int,
    generator: np.random.Generator,
) -> float:
    scaled = [network / (np.abs(network).mean() or 1.0) for side in sides for network in side]
    cuts = np.cumsum([network.size for network in scaled])[:-1]
    first = len(sides[0])

    def difference(parts: Sequence[np.ndarray]) -> float:
        values = np.array([float(statistic(part)) for part in parts])
        return float(values[:first].mean() - values[first:].mean())

    observed = difference(scaled)
    pooled = np.concatenate(scaled)
    permuted = np.array(
        [difference(np.split(generator.permutation(pooled), cuts)) for _ in range(replicates)]
    )
    permuted = permuted[np.isfinite(permuted)]
    return float((1 + np.count_nonzero(permuted >= observed)) / (1 + permuted.size))


def _interval(values: np.ndarray, level: float) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    if not finite.size:
        return math.nan, math.nan
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _chosen_statistics(statistics: Iterable[str] | None) -> list[str]:
    chosen = list(TAIL_STATISTICS if statistics is None else statistics)
    for name in chosen:
        if name not in TAIL_STATISTICS:
            raise unknown_name("tail statistic", name, TAIL_STATISTICS)
    return chosen


def _check_resampling(replicates: int, level: float) -> None:
    if replicates < 1:
        raise ConfigurationError(f"replicates is {replicates}; it must be 1 or more")
    if not 0 < level < 1:
        raise ConfigurationError(f"level is {level}; it must be between 0 and 1")


def _networks(values: np.ndarray | Sequence[np.ndarray]) -> list[np.ndarray]:
    if isinstance(values, np.ndarray) and values.ndim == 1 and values.dtype != object:
        return [_finite(values)]
    if not len(values):
        raise DataError("no network to compare: give one array of centralities per network")
    return [_finite(network) for network in values]


def _finite(values: np.ndarray) -> np.ndarray:
    checked = np.asarray(values, dtype=np.float64).reshape(-1)
    if not checked.size:
        raise DataError("no centralities: the array is empty")
    if not np.isfinite(checked).all():
        raise DataError("some centralities are not finite; the weights have diverged")
    return checked


# -- persistence ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class HubOverlap:
    """How many of the most central units two rankings share.

    Attributes:
        hubs: size of both sets; shared: units in both.
        jaccard: shared over units in either.
        expected_shared, expected_jaccard: of two random sets of that size.
        p_value: probability that two random sets share as many or more (hypergeometric).
    """

    hubs: int
    shared: int
    jaccard: float
    expected_shared: float
    expected_jaccard: float
    p_value: float


def hub_overlap(first: np.ndarray, second: np.ndarray, top: float = 0.1) -> HubOverlap:
    """Overlap of the top ceil(top n) units of two rankings of the same units.

    The units must be the same ones: those of one network at two epochs, or the inputs of several
    networks. Hidden units of networks with other initial weights have no common identity.

    Args:
        first, second: (n,) centralities; among equal ones the first units rank higher.
        top: share of the units that count as hubs, above 0 and below 1.

    Raises:
        ConfigurationError: top outside 0 to 1.
        DataError: arrays of other sizes, empty or not finite.
    """
    if not 0 < top < 1:
        raise ConfigurationError(f"top is {top}; it must be between 0 and 1")
    one, two = _finite(first), _finite(second)
    if one.size != two.size:
        raise DataError(f"{one.size} and {two.size} units: a ranking of the same units is needed")
    n = one.size
    count = min(n, math.ceil(top * n - 1e-9))
    sets = [np.argsort(-values, kind="stable")[:count] for values in (one, two)]
    shared = int(np.intersect1d(sets[0], sets[1]).size)
    possible = np.arange(max(0, 2 * count - n), count + 1)
    expected = float(
        (stats.hypergeom.pmf(possible, n, count, count) * possible / (2 * count - possible)).sum()
    )
    return HubOverlap(
        count,
        shared,
        shared / (2 * count - shared),
        count * count / n,
        expected,
        float(stats.hypergeom.sf(shared - 1, n, count, count)),
    )


def hub_persistence(
    centralities: np.ndarray,
    labels: Sequence[Any] | None = None,
    top: float = 0.1,
    pairs: str = "consecutive",
) -> pd.DataFrame:
    """Overlap of hubs between epochs (or seeds, for units with a common identity).

    Args:
        centralities: (snapshots, n), a row per epoch or seed.
        labels: of the rows; 0, 1, ... when None.
        top: share of the units that count as hubs.
        pairs: "consecutive" rows, every row with the "last", or "all" pairs.

    Returns:
        One row per pair: first, second (labels) and the fields of `HubOverlap`.

    Raises:
        ConfigurationError: unknown pairs, or top outside 0 to 1.
        DataError: fewer than two rows, or labels of another number.
    """
    rows = np.asarray(centralities, dtype=np.float64)
    if rows.ndim != 2 or len(rows) < 2:
        raise DataError(f"centralities have shape {rows.shape}; two snapshots or more are needed")
    names = list(range(len(rows)) if labels is None else labels)
    if len(names) != len(rows):
        raise DataError(f"{len(names)} labels for {len(rows)} snapshots")
    last = len(rows) - 1
    kinds = {
        "consecutive": list(itertools.pairwise(range(len(rows)))),
        "last": [(index, last) for index in range(last)],
        "all": list(itertools.combinations(range(len(rows)), 2)),
    }
    if pairs not in kinds:
        raise unknown_name("choice of pairs", pairs, kinds)
    return pd.DataFrame(
        [
            {"first": names[a], "second": names[b], **vars(hub_overlap(rows[a], rows[b], top))}
            for a, b in kinds[pairs]
        ]
    )


# -- ablation ------------------------------------------------------------------------------------


def hub_order(
    centralities: Sequence[np.ndarray],
    order: str = "top",
    *,
    layers: Collection[int] | None = None,
    seed: int = 0,
) -> np.ndarray:
    """Order in which units are to be removed.

    Args:
        centralities: one (units,) array per layer.
        order: "top" (most central first), "bottom" or "random"; equal ones in their own order.
        layers: only units of these; all when None.
        seed: of the random order.

    Returns:
        (candidates,) int64 numbers of units, counted through all layers.

    Raises:
        ConfigurationError: an unknown order or layer.
        DataError: centralities that are not finite.
    """
    if order not in ORDERS:
        raise unknown_name("order of removal", order, ORDERS)
    sizes = [np.asarray(layer).size for layer in centralities]
    chosen = sorted(set(range(len(sizes)) if layers is None else layers))
    if not chosen or not 0 <= chosen[0] <= chosen[-1] < len(sizes):
        raise ConfigurationError(f"layers are {chosen}; there are 0 to {len(sizes) - 1}")
    values = _finite(np.concatenate([np.asarray(layer).reshape(-1) for layer in centralities]))
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    units = np.concatenate([np.arange(offsets[k], offsets[k + 1]) for k in chosen])
    if order == "random":
        return numpy_generator(seed, "hub_order").permutation(units)
    keys = -values[units] if order == "top" else values[units]
    return units[np.argsort(keys, kind="stable")]


def ablation_curve(
    evaluate: Callable[[list[np.ndarray]], float],
    order: np.ndarray,
    sizes: Sequence[int],
    counts: Sequence[int],
) -> pd.DataFrame:
    """Accuracy after the first units of an order are removed, for several counts.

    Args:
        evaluate: takes one (units,) boolean array per layer, True where a unit is removed, and
            returns the accuracy of the network without them.
        order: from `hub_order`.
        sizes: units of every layer.
        counts: how many units to remove; 0 is the whole network.

    Returns:
        One row per count: removed, accuracy.

    Raises:
        DataError: the order names a unit twice or one that is not there, or has fewer than a count.
    """
    order = np.asarray(order)
    total = int(sum(sizes))
    if np.unique(order).size != order.size or (
        order.size and not 0 <= order.min() <= order.max() < total
    ):
        raise DataError(f"order must name units from 0 to {total - 1}, each at most once")
    if not counts or min(counts) < 0 or max(counts) > order.size:
        raise DataError(
            f"counts are {list(counts)}; from 0 to {order.size} units can be removed in this order"
        )
    rows = []
    for count in counts:
        removed = np.zeros(total, dtype=bool)
        removed[order[:count]] = True
        parts = np.split(removed, np.cumsum(sizes)[:-1])
        rows.append({"removed": int(count), "accuracy": float(evaluate(parts))})
    return pd.DataFrame(rows)


def ablation_curves(
    evaluate: Callable[[list[np.ndarray]], float],
    centralities: Sequence[np.ndarray],
    counts: Sequence[int],
    *,
    layers: Collection[int] | None = None,
    repeats: int = 5,
    seed: int = 0,
) -> pd.DataFrame:
    """Accuracy after removing the top, the bottom or random units.

    Args:
        evaluate, counts: as in `ablation_curve`.
        centralities: one (units,) array per layer.
        layers: only units of these are removed; all when None. Hidden layers are the usual choice.
        repeats: of the random order.
        seed: of the random orders.

    Returns:
        One row per order, repeat and count: order, repeat, removed, neurons (candidates), accuracy.

    Raises:
        ConfigurationError, DataError: as in `hub_order` and `ablation_curve`.
    """
    sizes = [np.asarray(layer).size for layer in centralities]
    tables = []
    for name in ORDERS:
        for repeat in range(repeats if name == "random" else 1):
            order = hub_order(centralities, name, layers=layers, seed=derive_seed(seed, repeat))
            table = ablation_curve(evaluate, order, sizes, counts)
            table.insert(0, "neurons", order.size)
            table.insert(0, "repeat", repeat)
            table.insert(0, "order", name)
            tables.append(table)
    columns = ["order", "repeat", "removed", "neurons", "accuracy"]
    return pd.DataFrame(pd.concat(tables, ignore_index=True)[columns])
