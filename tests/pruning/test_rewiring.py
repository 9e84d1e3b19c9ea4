from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR

from espalier.errors import ConfigurationError, DataError
from espalier.pruning import rewiring
from espalier.pruning.during import Horizon, LiveTensors
from espalier.pruning.option_checks import require_period
from espalier.pruning.rewiring import (
    AdjustedGrowth,
    Rewired,
    Rewiring,
    bernoulli_draw,
    ceil_count,
    cosine_rate,
    drop_smallest,
    drop_up_to_kth_smallest,
    exact_draw,
    exact_growth,
    floor_count,
    grow_largest,
    initial_masks,
    normalised,
    spread_excess,
)
from espalier.pruning.selection import keep_count


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def boolean(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.bool)


def test_cosine_rate_is_the_scheduler_of_the_originals() -> None:
    optimiser = SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    scheduler = CosineAnnealingLR(optimiser, 50, 0.005)
    for step in range(51):
        assert cosine_rate(0.3, step, 50, 0.005) == pytest.approx(scheduler.get_last_lr()[0])
        optimiser.step()
        scheduler.step()


def test_cosine_rate_at_its_ends() -> None:
    assert cosine_rate(0.3, 0, 100) == 0.3
    assert cosine_rate(0.3, 50, 100) == pytest.approx(0.15)
    assert cosine_rate(0.3, 100, 100) == cosine_rate(0.3, 101, 100) == 0
    assert cosine_rate(0.3, 100, 100, 0.005) == 0.005
    assert cosine_rate(0.0, 10, 100, 0.005) == 0
    assert cosine_rate(0.3, 0, 0) == 0


def test_counts_survive_binary_fractions() -> None:
    assert floor_count(0.29, 100) == 29
    assert ceil_count(0.07, 100) == 7
    assert (floor_count(0.3, 48), ceil_count(0.3, 48)) == (14, 15)


def test_drop_smallest_counts_ties_by_index() -> None:
    weights, mask = torch.tensor([9.0, 1, -1, 1, 5]), boolean(0, 1, 1, 1, 1)
    assert drop_smallest(weights, mask, 1).tolist() == [False, True, True, False, True]
    assert drop_smallest(weights, mask, 0).equal(mask)
    assert not drop_smallest(weights, mask, 9).any()


def test_drop_up_to_kth_smallest_takes_ties_along() -> None:
    weights, mask = torch.tensor([0.0, 0, -0.0, 3, 5]), boolean(0, 1, 1, 1, 1)
    assert drop_up_to_kth_smallest(weights, mask, 1).tolist() == [False, False, False, True, True]
    assert drop_up_to_kth_smallest(weights, mask, 3).tolist() == [False] * 4 + [True]
    assert drop_up_to_kth_smallest(weights, mask, 0).equal(mask)
    assert not drop_up_to_kth_smallest(weights, mask, 9).any()
    assert not drop_up_to_kth_smallest(weights, torch.zeros_like(mask), 2).any()


def test_grow_largest_looks_outside_the_mask() -> None:
    scores, mask = torch.tensor([9.0, -4, 2, 4, 0]), boolean(1, 0, 0, 0, 0)
    assert grow_largest(scores, mask, 1).tolist() == [True, True, False, False, False]
    assert grow_largest(scores, mask, 2).tolist() == [True, True, False, True, False]
    assert grow_largest(scores, mask, 0).equal(mask)
    assert grow_largest(scores, mask, 9).all()


def test_growth_in_a_channels_last_tensor_goes_by_position() -> None:
    scores = torch.arange(24.0).reshape(1, 2, 3, 4)
    mask = torch.zeros_like(scores, dtype=torch.bool)
    reordered = scores.to(memory_format=torch.channels_last)
    assert grow_largest(reordered, mask, 5).equal(grow_largest(scores, mask, 5))
    assert drop_smallest(reordered, ~mask, 5).equal(drop_smallest(scores, ~mask, 5))


@given(free=st.lists(st.booleans(), min_size=1, max_size=40), count=st.integers(0, 50))
@settings(max_examples=60, deadline=None)
def test_exact_draw(free: list[bool], count: int) -> None:
    mask = torch.tensor(free)
    drawn = exact_draw(generator(count))(mask, count)
    assert int(drawn.sum()) == min(count, sum(free))
    assert not (drawn & ~mask).any()
    assert drawn.equal(exact_draw(generator(count))(mask, count))


def test_exact_draw_is_uniform() -> None:
    free, draw = boolean(1, 0, 1, 1, 1, 0), exact_draw(generator())
    total = sum(draw(free, 2).double() for _ in range(2000))
    expected = 2000 * 2 / 4 * free.double()
    # Binomial with n 2000 and p 1/2: sd 22.
    assert (total - expected).abs().max() < 5 * 22


def test_bernoulli_draw_has_the_count_on_average_only() -> None:
    free, draw = torch.ones(400, dtype=torch.bool), bernoulli_draw(generator())
    counts = [int(draw(free, 100).sum()) for _ in range(400)]
    assert len(set(counts)) > 10
    # Binomial with n 400 and p 1/4: sd 8.7, of the mean of 400 draws 0.43.
    assert abs(sum(counts) / 400 - 100) < 5 * 0.43
    assert not draw(torch.zeros(3, dtype=torch.bool), 2).any()


@given(
    parts=st.lists(st.tuples(st.floats(0, 50), st.floats(0, 50)), min_size=1, max_size=6),
)
@settings(max_examples=60, deadline=None)
def test_spread_excess(parts: list[tuple[float, float]]) -> None:
    desired = {str(i): want for i, (want, _) in enumerate(parts)}
    limits = {str(i): limit for i, (_, limit) in enumerate(parts)}
    shares = spread_excess(desired, limits)
    assert all(share <= limits[name] + 1e-9 for name, share in shares.items())
    expected = min(sum(desired.values()), sum(limits.values()))
    assert sum(shares.values()) == pytest.approx(expected, abs=1e-6)
    # Layers with room gain one and the same amount, the most of any layer.
    gains = [shares[n] - desired[n] for n in shares if shares[n] < limits[n] - 1e-6]
    assert all(gain == pytest.approx(gains[0], abs=1e-6) for gain in gains)
    assert all(shares[n] - desired[n] <= gain + 1e-6 for n in shares for gain in gains[:1])


def test_normalised() -> None:
    assert normalised({"a": 1.0, "b": 3.0}, {"a": 1, "b": 1}) == {"a": 0.25, "b": 0.75}
    assert normalised({"a": 0.0, "b": 0.0}, {"a": 1, "b": 3}) == {"a": 0.25, "b": 0.75}
    assert normalised({"a": 0.0}, {"a": 0}) == {"a": 0.0}


def test_exact_growth_spills_over_from_a_full_layer() -> None:
    masks = {"a": boolean(1, 1, 1, 0), "b": torch.arange(20) < 10}
    surviving = {"a": boolean(1, 1, 0, 0), "b": torch.arange(20) < 5}
    assert exact_growth({"a": 1.0, "b": 0.0}, masks, surviving) == {"a": 2, "b": 4}
    tight = exact_growth({"a": 1.0, "b": 0.0}, masks, surviving, fullest=0.5)
    assert tight == {"a": 1, "b": 5}
    everything = {name: torch.ones_like(mask) for name, mask in masks.items()}
    assert exact_growth({"a": 0.5, "b": 0.5}, everything, surviving, 0.99) == {"a": 2, "b": 15}


def test_adjusted_growth_steers_towards_its_target() -> None:
    adjusted = AdjustedGrowth(100.0)
    adjusted.record(90)
    assert adjusted.correction == 0.75 * 10 + 10
    adjusted.record(104)
    assert adjusted.correction == 0.25 * 17.5 - 0.75 * 4 + 3
    other = AdjustedGrowth(100.0)
    other.restore(adjusted.state())
    other.record(100)
    adjusted.record(100)
    assert other.correction == adjusted.correction
    assert other.residuals == adjusted.residuals


@pytest.mark.parametrize("topology", list(rewiring.TOPOLOGIES))
@pytest.mark.parametrize("sparsity", [0.0, 0.6, 0.8, 0.98])
def test_initial_masks_are_exact(topology: str, sparsity: float) -> None:
    weights = {"a": torch.zeros(8, 3, 3, 3), "b": torch.zeros(16, 8, 3, 3), "c": torch.zeros(5, 16)}
    masks = initial_masks("rigl", weights, sparsity, topology, seed=3)
    assert {name: mask.shape for name, mask in masks.items()} == {
        name: weight.shape for name, weight in weights.items()
    }
    assert sum(int(mask.sum()) for mask in masks.values()) == keep_count(1448, sparsity)
    again = initial_masks("rigl", weights, sparsity, topology, seed=3)
    assert all(mask.equal(again[name]) for name, mask in masks.items())
    other = initial_masks("rigl", weights, sparsity, topology, seed=4)
    assert sparsity == 0 or not masks["b"].equal(other["b"])


def test_uniform_and_erk_differ_in_where_weights_are() -> None:
    weights = {"a": torch.zeros(8, 3, 3, 3), "b": torch.zeros(16, 8, 3, 3), "c": torch.zeros(5, 16)}
    uniform = initial_masks("snfs", weights, 0.8, "uniform", 0)
    erk = initial_masks("snfs", weights, 0.8, "erk", 0)
    assert abs(int(uniform["b"].sum()) - 0.2 * 1152) <= 1
    assert int(erk["b"].sum()) < 0.9 * int(uniform["b"].sum())


def test_initial_masks_of_nothing() -> None:
    with pytest.raises(ConfigurationError, match="no layer that can be pruned"):
        initial_masks("rigl", {}, 0.5, "erk", 0)


class Shift(Rewiring):
    """Moves the mask one position on; the weight at its end survives."""

    def rewired(self, step: int, tensors: LiveTensors) -> Rewired:
        survivors = {name: mask & mask.roll(1) for name, mask in self.masks.items()}
        return Rewired(survivors, {name: mask.roll(1) for name, mask in self.masks.items()})


def shift(period: int | str = 2) -> Shift:
    return Shift("shift", {"a": boolean(1, 1, 0, 0)}, Horizon(12, 3), 0, period)


def live(weights: Tensor, momenta: Tensor | None = None) -> LiveTensors:
    return LiveTensors(
        {"a": weights}, {"a": torch.zeros(4)}, {} if momenta is None else {"a": momenta}
    )


def test_updates_are_due_when_a_period_is_complete_but_not_at_the_last_step() -> None:
    assert [step for step in range(12) if shift(2).due(step)] == [1, 3, 5, 7, 9]
    assert [step for step in range(12) if shift("epoch").due(step)] == [2, 5, 8]
    assert not any(shift(100).due(step) for step in range(12))


def test_update_zeroes_dropped_and_new_weights_and_momenta() -> None:
    weights = torch.tensor([5.0, 6, 7, 8], requires_grad=True)
    momenta = torch.tensor([1.0, 2, 3, 4])
    method = shift()
    method.update(0, live(weights, momenta))
    assert method.masks["a"].tolist() == [False, True, True, False]
    assert weights.tolist() == [0, 6, 0, 0]
    assert momenta.tolist() == [0, 2, 0, 0]


def test_new_weights_may_be_drawn() -> None:
    weights = [torch.tensor([5.0, 6, 7, 8]) for _ in range(3)]
    for step, values in zip((0, 0, 1), weights, strict=True):
        method = shift()
        method.new_weight_sd = 0.1
        method.update(step, live(values))
        assert values[[0, 1, 3]].tolist() == [0, 6, 0]
        assert 0 < abs(values[2]) < 1
    assert weights[0].equal(weights[1])
    assert not weights[0].equal(weights[2])


def test_returned_weights_keep_their_value_unless_they_restart() -> None:
    class Return(Shift):
        def rewired(self, step: int, tensors: LiveTensors) -> Rewired:
            return Rewired({"a": boolean(1, 0, 0, 0)}, {"a": boolean(1, 1, 0, 0)})

    for restart, expected in ((False, [5, 6, 0, 0]), (True, [5, 0, 0, 0])):
        method = Return("return", {"a": boolean(1, 1, 0, 0)}, Horizon(9, 1), 0, 1)
        method.returned_restart = restart
        weights, momenta = torch.tensor([5.0, 6, 0, 0]), torch.tensor([5.0, 6, 7, 8])
        method.update(0, live(weights, momenta))
        assert weights.tolist() == expected
        assert momenta.tolist() == expected


def test_update_refuses_weights_that_are_not_finite() -> None:
    with pytest.raises(DataError, match=r"not finite in a \(1 of 4\)"):
        shift().update(0, live(torch.tensor([1.0, math.nan, 0, 0])))


def test_state_and_restore() -> None:
    first, second = shift(), shift()
    first.update(0, live(torch.ones(4)))
    tensors, values = first.state()
    assert list(tensors) == ["mask/a"] and values == {}
    second.restore(tensors, values)
    assert second.masks["a"].equal(first.masks["a"])
    with pytest.raises(DataError, match=r"has no mask/a of shape \(4,\)"):
        second.restore({"mask/b": tensors["mask/a"]}, values)
    with pytest.raises(DataError, match="another network"):
        second.restore({"mask/a": tensors["mask/a"][:2]}, values)


@pytest.mark.parametrize("period", [0, -1, 1.5, "weekly"])
def test_periods_that_make_no_sense(period: int | str) -> None:
    with pytest.raises(ConfigurationError, match=r"at least 1, or 'epoch'"):
        require_period(period)
