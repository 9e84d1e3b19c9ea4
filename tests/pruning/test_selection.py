from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tiny_cnn import LAYERS, golden_tensors, tiny_cnn
from torch import Tensor

from espalier.errors import ConfigurationError, DataError
from espalier.pruning.selection import (
    RULES,
    apportion,
    keep_count,
    largest,
    layer_keep_counts,
    select,
    select_remaining,
)

# Sparsities as they are written: two decimals, whose binary forms are slightly off.
PERCENTS = st.integers(0, 99)


def magnitudes() -> dict[str, Tensor]:
    return {name: tiny_cnn().get_parameter(name).detach().abs() for name in LAYERS}


def kept(masks: dict[str, Tensor]) -> int:
    return sum(int(mask.count_nonzero()) for mask in masks.values())


@given(st.integers(1, 3_000_000), PERCENTS)
def test_keep_count_is_that_of_exact_arithmetic(total: int, percent: int) -> None:
    exact = total - math.floor(Fraction(percent, 100) * total)
    assert keep_count(total, percent / 100) == exact


# int(n (1 - s)) would give 199 of the first, ceil(n (1 - s)) 21 of the second.
@pytest.mark.parametrize(
    ("total", "sparsity", "count"),
    [(1000, 0.8, 200), (1000, 0.98, 20), (100, 0.29, 71), (1448, 0.8, 290), (3, 0.5, 2)],
)
def test_float_traps(total: int, sparsity: float, count: int) -> None:
    assert keep_count(total, sparsity) == count


def brute_force_largest(values: NDArray, count: int) -> NDArray:
    order = sorted(range(len(values)), key=lambda i: (-values[i], i))
    mask = np.zeros(len(values), dtype=bool)
    mask[order[:count]] = True
    return mask


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=40), st.integers(0, 45))
def test_largest_keeps_the_first_of_equals(entries: list[int], count: int) -> None:
    values = np.array(entries, dtype=np.float32)
    mask = largest(torch.from_numpy(values), count)
    assert mask.tolist() == brute_force_largest(values, min(count, len(values))).tolist()


def test_largest_keeps_the_shape() -> None:
    mask = largest(torch.arange(12.0).reshape(2, 3, 2), 3)
    assert mask.nonzero().tolist() == [[1, 1, 1], [1, 2, 0], [1, 2, 1]]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=6),
    PERCENTS,
    st.booleans(),
    st.integers(0, 9),
)
def test_both_scopes_keep_exactly_what_is_asked(
    widths: list[int], percent: int, ties: bool, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = {f"{i}": torch.rand(n, generator=generator) for i, n in enumerate(widths)}
    if ties:
        scores = {name: (3 * values).floor() for name, values in scores.items()}
    sparsity = percent / 100
    target = keep_count(sum(widths), sparsity)
    everywhere = select(scores, sparsity)
    assert kept(everywhere) == target
    flat = torch.cat(list(scores.values())).numpy()
    mask = torch.cat(list(everywhere.values()))
    assert mask.tolist() == brute_force_largest(flat, target).tolist()
    by_layer = select(scores, sparsity, scope="layer")
    assert kept(by_layer) == target
    for name, values in scores.items():
        count = int(by_layer[name].count_nonzero())
        assert abs(count - (1 - sparsity) * values.numel()) < 1 + 1e-6
        assert by_layer[name].tolist() == brute_force_largest(values.numpy(), count).tolist()


@given(st.lists(st.integers(0, 500), min_size=1, max_size=8), PERCENTS)
def test_layer_keep_counts(widths: list[int], percent: int) -> None:
    sizes = {f"{i}": width for i, width in enumerate(widths)}
    counts = layer_keep_counts(sizes, percent / 100)
    assert sum(counts.values()) == keep_count(sum(sizes.values()), percent / 100)
    for name, size in sizes.items():
        share = Fraction(100 - percent, 100) * size
        assert math.floor(share) <= counts[name] <= math.ceil(share)


@given(
    st.lists(st.tuples(st.floats(0, 40), st.integers(0, 40)), min_size=1, max_size=6),
    st.integers(0, 300),
)
def test_apportion_meets_total_and_capacities(layers: list[tuple[float, int]], total: int) -> None:
    shares = {f"{i}": share for i, (share, _) in enumerate(layers)}
    capacities = {f"{i}": capacity for i, (_, capacity) in enumerate(layers)}
    # The contract: the shares sum to the total within the number of layers, and fit.
    shares = {name: min(share, capacities[name]) for name, share in shares.items()}
    if total > sum(capacities.values()):
        with pytest.raises(ConfigurationError, match="cannot be shared out"):
            apportion(shares, total, capacities)
        return
    total = min(round(sum(shares.values())), sum(capacities.values()))
    counts = apportion(shares, total, capacities)
    assert sum(counts.values()) == total
    assert all(0 <= counts[name] <= capacities[name] for name in counts)
    assert all(abs(counts[name] - shares[name]) < 1 + 1e-6 for name in counts)


def test_apportion_gives_the_rest_to_the_largest_remainders() -> None:
    shares = {"a": 1.2, "b": 2.7, "c": 0.6, "d": 1.5}
    capacities = dict.fromkeys(shares, 9)
    assert apportion(shares, 6, capacities) == {"a": 1, "b": 3, "c": 1, "d": 1}
    equal = dict.fromkeys("abc", 1.5)
    assert apportion(equal, 4, dict.fromkeys("abc", 9)) == {"a": 2, "b": 1, "c": 1}
    assert apportion(equal, 5, {"a": 1, "b": 9, "c": 9}) == {"a": 1, "b": 2, "c": 2}


# Each rule as its formula, on sorted values. np.partition and the like play no part.
def at_least_kth_largest(values: NDArray, s: float) -> NDArray:
    return values >= np.sort(values)[::-1][int(len(values) * (1 - s)) - 1]


def above_kth_smallest(values: NDArray, s: float) -> NDArray:
    return values > np.sort(values)[int(s * len(values)) - 1]


def threshold_stays(values: NDArray, s: float) -> NDArray:
    # GraSP ranks the other way round: it removes the largest int(n s) of -score but the last.
    return -values <= np.sort(-values)[::-1][int(len(values) * s) - 1]


def keep_ceil(values: NDArray, s: float) -> NDArray:
    return brute_force_largest(values, math.ceil(len(values) * (1 - s)))


def keep_round(values: NDArray, s: float) -> NDArray:
    return brute_force_largest(values, round(len(values) * (1 - s)))


def remove_round(values: NDArray, s: float) -> NDArray:
    return brute_force_largest(values, len(values) - round(len(values) * s))


def remove_ceil_plus_one(values: NDArray, s: float) -> NDArray:
    return values > np.sort(values)[math.ceil(len(values) * s)]


def above_percentile(values: NDArray, s: float) -> NDArray:
    return values > np.percentile(values, 100 * s)


def at_least_quantile(values: NDArray, s: float) -> NDArray:
    return values >= np.quantile(values, s)


def exact(values: NDArray, s: float) -> NDArray:
    return brute_force_largest(values, keep_count(len(values), s))


FORMULAS: dict[str, Callable[[NDArray, float], NDArray]] = {
    "exact": exact,
    "at_least_kth_largest": at_least_kth_largest,
    "above_kth_smallest": above_kth_smallest,
    "threshold_stays": threshold_stays,
    "keep_ceil": keep_ceil,
    "keep_round": keep_round,
    "remove_round": remove_round,
    "remove_ceil_plus_one": remove_ceil_plus_one,
    "above_percentile": above_percentile,
    "at_least_quantile": at_least_quantile,
}


def test_every_rule_has_a_formula() -> None:
    assert set(FORMULAS) == set(RULES)


@pytest.mark.parametrize("rule", FORMULAS)
@settings(max_examples=40, deadline=None)
@given(size=st.integers(20, 400), percent=st.integers(6, 94), seed=st.integers(0, 99))
def test_rules_are_their_formulas(rule: str, size: int, percent: int, seed: int) -> None:
    values = np.random.default_rng(seed).permutation(size).astype(np.float64) + 0.5
    mask = RULES[rule](torch.from_numpy(values), percent / 100)
    assert mask.tolist() == FORMULAS[rule](values, percent / 100).tolist()


@pytest.mark.parametrize(
    "rule", ["at_least_kth_largest", "above_kth_smallest", "threshold_stays", "at_least_quantile"]
)
def test_rules_of_thresholds_move_ties_together(rule: str) -> None:
    values = np.array([1.0, 2.0, 2.0, 2.0, 3.0, 2.0])
    mask = RULES[rule](torch.from_numpy(values), 0.5)
    assert mask.tolist() == FORMULAS[rule](values, 0.5).tolist()
    assert len(set(mask[values == 2].tolist())) == 1


# Counts measured with the originals on the same 1448 weights.
@pytest.mark.parametrize(
    ("rule", "count"),
    [
        ("exact", 290),
        ("at_least_kth_largest", 289),
        ("above_kth_smallest", 290),
        ("threshold_stays", 291),
        ("keep_ceil", 290),
        ("keep_round", 290),
        ("remove_round", 290),
        ("remove_ceil_plus_one", 1157),
        ("above_percentile", 290),
    ],
)
def test_counts_of_the_originals(rule: str, count: int) -> None:
    sparsity = 0.2 if rule == "remove_ceil_plus_one" else 0.8
    assert kept(select(magnitudes(), sparsity, rule=rule)) == count


def test_layer_scope_counts_rule_by_rule() -> None:
    masks = select(magnitudes(), 0.8, scope="layer", rule="remove_round")
    assert [int(mask.count_nonzero()) for mask in masks.values()] == [43, 230, 16]
    masks = select(magnitudes(), 0.8, scope="layer")
    assert [int(mask.count_nonzero()) for mask in masks.values()] == [43, 231, 16]


def test_masks_keep_order_shape_and_leave_scores_alone() -> None:
    scores = magnitudes()
    before = {name: values.clone() for name, values in scores.items()}
    masks = select(scores, 0.9)
    assert list(masks) == list(LAYERS)
    for name, mask in masks.items():
        assert mask.dtype == torch.bool
        assert mask.shape == scores[name].shape
        assert torch.equal(scores[name], before[name])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_scores_that_are_not_finite_name_their_layers(value: float) -> None:
    scores = magnitudes()
    scores["conv2.weight"][3, 2, 1, :2] = value
    for call in (
        lambda: select(scores, 0.5),
        lambda: select_remaining(scores, select(magnitudes(), 0.0), 0.5),
    ):
        with pytest.raises(DataError, match=r"not finite in conv2.weight \(2 of 1152\); check"):
            call()


def test_nothing_left_and_unknown_words() -> None:
    scores = {"only": torch.rand(5)}
    with pytest.raises(ConfigurationError, match="leave none of 5 weights; lower it"):
        select(scores, 0.9, rule="at_least_kth_largest")
    with pytest.raises(ConfigurationError, match="leave none of 5 weights; lower it"):
        select_remaining(scores, {"only": torch.ones(5).bool()}, 0.9, rule="keep_round")
    assert kept(select(scores, 0.99)) == 1  # the exact rule keeps one where it can
    for function in (select, lambda *a, **k: select_remaining(a[0], select(a[0], 0.0), a[1], **k)):
        with pytest.raises(ConfigurationError, match=r"counting rule 'exct'.*Did you mean 'exact'"):
            function(scores, 0.5, rule="exct")
        with pytest.raises(ConfigurationError, match=r"scope 'layers'.*Did you mean 'layer'"):
            function(scores, 0.5, scope="layers")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=5),
    st.lists(PERCENTS, min_size=2, max_size=5),
    st.sampled_from(["global", "layer"]),
    st.integers(0, 99),
)
def test_what_is_removed_stays_removed(
    widths: list[int], percents: list[int], scope: str, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    masks = {f"{i}": torch.ones(n).bool() for i, n in enumerate(widths)}
    for percent in sorted(percents):
        scores = {name: torch.randn(len(m), generator=generator) for name, m in masks.items()}
        following = select_remaining(scores, masks, percent / 100, scope=scope)
        assert kept(following) == keep_count(sum(widths), percent / 100)
        assert not any(bool((following[name] & ~masks[name]).any()) for name in masks)
        groups = [list(masks)] if scope == "global" else [[name] for name in masks]
        for group in groups:
            stay = torch.cat([scores[name][following[name]] for name in group])
            go = torch.cat([scores[name][masks[name] & ~following[name]] for name in group])
            assert not len(stay) or not len(go) or stay.min() >= go.max()
        masks = following


def test_without_masks_select_remaining_is_select() -> None:
    scores = magnitudes()
    everything = {name: torch.ones_like(values).bool() for name, values in scores.items()}
    for rule in RULES:
        for scope in ("global", "layer"):
            one = select(scores, 0.3, scope=scope, rule=rule)
            other = select_remaining(scores, everything, 0.3, scope=scope, rule=rule)
            assert all(torch.equal(one[name], other[name]) for name in scores), (rule, scope)


def test_more_weights_than_are_left() -> None:
    masks = select(magnitudes(), 0.8)
    with pytest.raises(DataError, match=r"0.5 keeps 724 weights, but only 290 are left"):
        select_remaining(magnitudes(), masks, 0.5)


def test_goldens_of_magnitude_are_the_fixture() -> None:
    for name, values in golden_tensors("magnitude_global_torch", "score").items():
        assert torch.equal(values, magnitudes()[name])
