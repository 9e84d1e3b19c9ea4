from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mask_strategies import mask_lists
from scipy import stats
from sklearn.metrics import adjusted_rand_score

from espalier.errors import ConfigurationError, DataError
from espalier.sculpting.module_stability import (
    adjusted_rand_index,
    degree_preserving_mask,
    layered_modularity,
    module_null_test,
    seed_stability,
)
from espalier.sculpting.modules import detect_modules
from espalier.seeds import numpy_generator

BLOCKS = np.kron(np.eye(2), np.ones((3, 3))).astype(bool)


@settings(max_examples=100)
@given(st.integers(1, 30), st.integers(1, 6), st.integers(0, 10**6))
def test_adjusted_rand_index_agrees_with_scikit_learn(units: int, groups: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    first, second = generator.integers(groups, size=(2, units))
    expected = adjusted_rand_score(first, second)
    assert adjusted_rand_index(first, second) == pytest.approx(expected, abs=1e-12)


def test_adjusted_rand_index_refuses_other_units() -> None:
    with pytest.raises(DataError, match=r"\(2,\) and \(3,\)"):
        adjusted_rand_index(np.zeros(2), np.zeros(3))
    with pytest.raises(DataError, match="cannot be compared"):
        adjusted_rand_index(np.zeros(0), np.zeros(0))


def test_stability_over_seeds() -> None:
    halves = detect_modules([BLOCKS])
    whole = detect_modules([np.ones((6, 6), bool)])
    dead_input = BLOCKS.copy()
    dead_input[:, 0] = False
    fewer = detect_modules([dead_input])
    found = seed_stability([halves, halves, whole, fewer])
    assert found.num_modules == (2, 2, 1, 2)
    assert found.inputs.pairs.tolist() == [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]
    assert found.inputs.values.tolist() == [1, 0, 1, 0, 1, 0]
    assert found.inputs.mean == 0.5
    # The jackknife, written out: means without each network, and Student's t with 3 degrees.
    left_out = np.array([1 / 3, 1 / 3, 1, 1 / 3])
    error = math.sqrt(3 / 4 * ((left_out - 0.5) ** 2).sum())
    assert found.inputs.low == pytest.approx(max(-1, 0.5 - stats.t.ppf(0.975, 3) * error))
    assert found.inputs.high == 1
    pair = seed_stability([halves, halves])
    assert pair.outputs.mean == 1 and math.isnan(pair.outputs.low)
    same = seed_stability([halves] * 3).inputs
    assert (same.mean, same.low, same.high) == (1, 1, 1)


def test_stability_without_shared_live_units_is_unknown() -> None:
    first, second = BLOCKS.copy(), BLOCKS.copy()
    first[:, :3], second[:, 3:] = False, False
    found = seed_stability([detect_modules([first]), detect_modules([second])])
    assert math.isnan(found.inputs.mean) and not math.isnan(found.outputs.mean)


def test_stability_refuses_networks_of_other_tasks() -> None:
    one = detect_modules([BLOCKS])
    with pytest.raises(DataError, match="two networks or more; there are 1"):
        seed_stability([one])
    with pytest.raises(DataError, match="network 1 has 5 inputs and 6 outputs, network 0 6 and 6"):
        seed_stability([one, detect_modules([np.ones((6, 5), bool)])])


@settings(max_examples=60)
@given(mask_lists(), st.integers(0, 10**6))
def test_degrees_are_preserved_and_units_stay_alive(masks, seed: int) -> None:
    living = detect_modules(masks).masks
    drawn = [degree_preserving_mask(mask, np.random.default_rng(seed)) for mask in living]
    for before, after in zip(living, drawn, strict=True):
        assert np.array_equal(before.sum(axis=0), after.sum(axis=0))
        assert np.array_equal(before.sum(axis=1), after.sum(axis=1))
    if all(mask.size for mask in living):
        alive = detect_modules(drawn).alive
        assert [len(units) for units in alive] == [m.shape[1] for m in living] + [len(living[-1])]


def test_swaps_draw_every_mask_equally_often() -> None:
    """Three units with one edge each on both sides: the six permutation matrices."""
    generator = np.random.default_rng(0)
    seen = Counter(
        tuple(degree_preserving_mask(np.eye(3, dtype=bool), generator).argmax(axis=1).tolist())
        for _ in range(1200)
    )
    # Each swap changes the parity; swaps that are refused mix even and odd permutations.
    assert len(seen) == 6
    assert stats.chisquare(list(seen.values())).pvalue > 1e-3


def test_layered_modularity_of_known_networks() -> None:
    labels = np.repeat([0, 1], 3)
    assert layered_modularity([BLOCKS], [labels, labels]) == pytest.approx(0.5)
    assert layered_modularity([BLOCKS], [labels * 0, labels * 0]) == 0
    assert layered_modularity([BLOCKS, BLOCKS], [labels] * 3) == pytest.approx(0.5)
    crossed = 1 - labels
    assert layered_modularity([BLOCKS], [labels, crossed]) == pytest.approx(-0.5)
    assert layered_modularity([np.zeros((2, 2), bool)], [np.zeros(2, int)] * 2) == 0


def test_blocks_are_more_modular_than_their_degrees() -> None:
    masks = [np.kron(np.eye(4), np.ones((3, 3))).astype(bool)] * 2
    found = module_null_test(masks, n=39)
    assert found.num_modules.observed == 4
    assert found.modularity.observed == pytest.approx(0.75)
    assert found.modularity.p_higher == 1 / 40 and found.modularity.p_lower == 1
    assert found.modularity.z > 3
    assert found.modularity.mean < 0.6
    assert 0.3 < found.moved < 1
    again = module_null_test(masks, n=39)
    assert np.array_equal(again.modularity.null, found.modularity.null)
    shorter = module_null_test(masks, n=5).modularity.null
    assert np.array_equal(shorter, found.modularity.null[:5])
    assert not np.array_equal(module_null_test(masks, n=5, seed=1).modularity.null, shorter)


@pytest.mark.parametrize("mask", [np.ones((4, 5)), np.zeros((4, 5)), np.ones((1, 1))])
def test_degrees_that_leave_no_choice_give_no_evidence(mask) -> None:
    found = module_null_test([mask], n=5)
    assert found.moved == 0
    for quantity in (found.num_modules, found.modularity):
        assert quantity.p_higher == quantity.p_lower == 1
        assert math.isnan(quantity.z)


def test_impossible_numbers_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="n is 0"):
        module_null_test([BLOCKS], n=0)
    with pytest.raises(ConfigurationError, match="swaps_per_edge is 0"):
        degree_preserving_mask(BLOCKS, numpy_generator(0), 0)
