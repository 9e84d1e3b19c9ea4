from __future__ import annotations

import json
import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_cnn import FOLDER, LAYERS, golden_tensors, tiny_cnn
from torch import Tensor

from espalier.errors import ConfigurationError, DataError
from espalier.pruning import acts, prune, scores
from espalier.pruning.contract import dynamics
from espalier.pruning.during import Horizon, LiveTensors
from espalier.pruning.gradual_magnitude import cubic_sparsity
from espalier.pruning.lottery_ticket import level_densities, next_masks
from espalier.pruning.selection import RULES, keep_count

NAMES = ("magnitude", "layerwise_magnitude", "lottery_ticket", "gradual_magnitude")


def weights() -> dict[str, Tensor]:
    return {name: tiny_cnn().get_parameter(name).detach().clone() for name in LAYERS}


def counts(masks: dict[str, Tensor]) -> list[int]:
    return [int(mask.count_nonzero()) for mask in masks.values()]


def equal(masks: dict[str, Tensor], others: dict[str, Tensor]) -> bool:
    return all(torch.equal(masks[name], others[name].bool()) for name in masks)


# The counting rule is that of the code that made the golden.
@pytest.mark.parametrize(
    ("golden", "pruner", "rule", "kept"),
    [
        ("magnitude_global_torch", "magnitude", "remove_round", [83, 167, 40]),
        ("mag_synflowrepo", "magnitude", "above_kth_smallest", [83, 167, 40]),
        ("magnitude_neural_sculpting", "magnitude", "above_percentile", [83, 167, 40]),
        ("magnitude_layerwise_torch", "layerwise_magnitude", "remove_round", [43, 230, 16]),
    ],
)
def test_goldens(golden: str, pruner: str, rule: str, kept: list[int]) -> None:
    masks = prune(pruner, tiny_cnn(), (), 0.8, counts=rule)
    assert counts(masks) == kept
    assert equal(masks, golden_tensors(golden, "mask"))


def test_scores_are_those_of_the_goldens() -> None:
    for golden in ("magnitude_global_torch", "mag_synflowrepo"):
        expected = golden_tensors(golden, "score")
        for name in NAMES:
            for key, values in scores(name, tiny_cnn(), ()).items():
                torch.testing.assert_close(values, expected[key], rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sparsity", [0.0, 0.29, 0.6, 0.8, 0.9, 0.95, 0.98])
def test_the_sparsity_asked_for_is_the_sparsity_got(name: str, sparsity: float) -> None:
    assert sum(counts(prune(name, tiny_cnn(), (), sparsity))) == keep_count(1448, sparsity)


def test_when_they_act() -> None:
    assert [acts(name) for name in NAMES] == ["after", "after", "during", "during"]


@pytest.mark.parametrize("name", NAMES)
def test_bad_weights_and_rules(name: str) -> None:
    model = tiny_cnn()
    with torch.no_grad():
        model.fc.weight[0, 0] = math.nan
    with pytest.raises(DataError, match=r"not finite in fc.weight \(1 of 80\)"):
        prune(name, model, (), 0.5)
    with pytest.raises(ConfigurationError, match=r"value of counts 'exct'.*Did you mean 'exact'"):
        prune(name, tiny_cnn(), (), 0.5, counts="exct")


def test_pruners_of_one_rule_agree() -> None:
    everywhere, by_layer = (prune(name, tiny_cnn(), (), 0.9) for name in NAMES[:2])
    assert equal(prune("lottery_ticket", tiny_cnn(), (), 0.9), everywhere)
    assert equal(prune("lottery_ticket", tiny_cnn(), (), 0.9, scope="layer"), by_layer)
    assert equal(prune("gradual_magnitude", tiny_cnn(), (), 0.9), by_layer)
    assert equal(prune("gradual_magnitude", tiny_cnn(), (), 0.9, scope="global"), everywhere)
    assert not equal(everywhere, by_layer)


# Lottery tickets


def test_open_lth_is_reproduced_level_by_level() -> None:
    masks = {name: torch.ones_like(weight).bool() for name, weight in weights().items()}
    found, previous = [], 0.0
    for level, density in enumerate(level_densities([1 - 0.8**8]), start=1):
        masks = next_masks(
            weights(),
            masks,
            1 - density,
            counts="remove_ceil_plus_one",
            previous_sparsity=previous,
        )
        previous = 1 - density
        found.append(sum(counts(masks)))
        assert equal(masks, golden_tensors("lth_openlth_levels", f"mask_level{level}"))
    assert found == [1157, 924, 738, 589, 470, 375, 299, 238]


def test_levels_without_the_off_by_one() -> None:
    masks = {name: torch.ones_like(weight).bool() for name, weight in weights().items()}
    found = []
    for density in level_densities([1 - 0.8**8]):
        masks = next_masks(weights(), masks, 1 - density)
        found.append(sum(counts(masks)))
    assert found == [math.ceil(1448 * 0.8**level) for level in range(1, 9)]
    assert found == [1159, 927, 742, 594, 475, 380, 304, 243]
    # On weights that do not change, levels make no difference to the ticket.
    assert equal(masks, prune("lottery_ticket", tiny_cnn(), (), 1 - 0.8**8))


def test_one_chain_for_all_sparsities() -> None:
    assert level_densities([0.6, 0.2], 0.2) == [
        0.8,
        pytest.approx(0.64),
        pytest.approx(0.512),
        pytest.approx(0.4096),
        0.4,
    ]
    assert level_densities([0.5, 0.0, 0.5], 0.9) == [0.5]
    assert level_densities([], 0.2) == level_densities([0.0], 0.2) == []
    # .8 * .8 is .6400000000000001: one level, not two.
    assert level_densities([0.2, 0.36], 0.2) == [0.8, 0.64]
    # Levels start again from what was requested, not from the powers of .8.
    assert level_densities([0.1, 0.3], 0.2) == [0.9, pytest.approx(0.72), 0.7]


@given(
    st.lists(st.integers(0, 999).map(lambda permille: permille / 1000), min_size=1, max_size=6),
    st.sampled_from([0.05, 0.2, 0.5, 0.9]),
)
def test_every_chain(sparsities: list[float], fraction: float) -> None:
    densities = level_densities(sparsities, fraction)
    assert all(1 - sparsity in densities for sparsity in sparsities if sparsity > 0)
    for before, after in pairwise([1.0, *densities]):
        assert after < before
        assert after >= before * (1 - fraction) - 1e-9
    # No level could be left out: each is a request or removes all that a level may.
    requested = {1 - sparsity for sparsity in sparsities}
    for before, after in pairwise([1.0, *densities]):
        assert after in requested or after == pytest.approx(before * (1 - fraction))


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(1, 97), min_size=1, max_size=3),
    st.sampled_from(["global", "layer"]),
    st.integers(0, 99),
)
def test_a_chain_on_changing_weights(percents: list[int], scope: str, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    shapes = {name: weight.shape for name, weight in weights().items()}
    masks = {name: torch.ones(shape, dtype=torch.bool) for name, shape in shapes.items()}
    for density in level_densities([percent / 100 for percent in percents], 0.5):
        trained = {
            name: torch.randn(shape, generator=generator) * masks[name]
            for name, shape in shapes.items()
        }
        following = next_masks(trained, masks, 1 - density, scope=scope)
        assert sum(counts(following)) == keep_count(1448, 1 - density)
        assert not any(bool((following[name] & ~masks[name]).any()) for name in masks)
        masks = following


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fraction": 0.0}, r"fraction is 0.0; a level removes a share in \(0, 1\)"),
        ({"fraction": 1.0}, "fraction is 1.0"),
        ({"rewind_epoch": -1}, "rewind_epoch is -1"),
        ({"scope": "globl"}, "Did you mean 'global'"),
    ],
)
def test_lottery_options_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        prune("lottery_ticket", tiny_cnn(), (), 0.5, **options)


def test_chains_that_cannot_be() -> None:
    with pytest.raises(ConfigurationError, match=r"sparsity is 1.0"):
        level_densities([0.5, 1.0])
    with pytest.raises(ConfigurationError, match=r"fraction is 1.5"):
        level_densities([0.5], 1.5)
    sparse = prune("lottery_ticket", tiny_cnn(), (), 0.9)
    with pytest.raises(DataError, match="only 145 are left"):
        next_masks(weights(), sparse, 0.5)


# Gradual magnitude

SCHEDULES: dict[str, Any] = json.loads((FOLDER / "gmp_schedule.json").read_text())


@pytest.mark.parametrize(
    ("golden", "schedule"),
    [("zhu_gupta", "zhu_gupta"), ("itop_repo_offbyone", "itop_off_by_one")],
)
@pytest.mark.parametrize("final", ["0.6", "0.8", "0.9", "0.95", "0.98"])
def test_schedules_of_the_goldens(golden: str, schedule: str, final: str) -> None:
    found = [cubic_sparsity(i, 10, float(final), schedule=schedule) for i in range(11)]
    assert found == pytest.approx(SCHEDULES[golden][final], abs=1e-12)
    assert (found[-1] == float(final)) == (schedule == "zhu_gupta")


def test_schedule_with_an_initial_sparsity() -> None:
    found = [cubic_sparsity(i, 4, 0.9, 0.5) for i in range(5)]
    assert found == pytest.approx([0.5, 0.73125, 0.85, 0.89375, 0.9])
    assert cubic_sparsity(0, 0, 0.7) == 0.7


def all_kept() -> dict[str, Tensor]:
    return {name: torch.ones_like(weight).bool() for name, weight in weights().items()}


class Run:
    """A training loop of noise: weights and momenta drift, removed ones are set to zero."""

    def __init__(self, sparsity: float = 0.9, steps: int = 60, seed: int = 0, **options: Any):
        self.live = weights()
        self.momenta = {name: torch.zeros_like(weight) for name, weight in self.live.items()}
        self.horizon = Horizon(steps, 10)
        self.process = dynamics(
            "gradual_magnitude", all_kept(), sparsity, self.horizon, seed=seed, **options
        )
        self.noise = torch.Generator().manual_seed(7)
        self.history: dict[int, dict[str, Tensor]] = {}
        self.step = 0

    def to(self, step: int) -> Run:
        while self.step < step:
            for name, weight in self.live.items():
                noise = torch.randn(weight.shape, generator=self.noise) * 0.05
                weight += noise * self.process.masks[name]
            if self.process.due(self.step):
                tensors = LiveTensors(self.live, self.momenta, self.momenta)
                self.process.update(self.step, tensors)
                self.history[self.step] = dict(self.process.masks)
            for name, weight in self.live.items():
                weight.masked_fill_(~self.process.masks[name], 0.0)
            self.step += 1
        return self


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("returns", [False, True])
def test_sparsity_along_the_schedule(scope: str, returns: bool) -> None:
    run = Run(period=5, begin=0.25, end=0.8, scope=scope, returns=returns).to(60)
    assert list(run.history) == [15, 20, 25, 30, 35, 40, 45]
    for position, masks in enumerate(run.history.values()):
        sparsity = cubic_sparsity(position, 6, 0.9)
        assert sum(counts(masks)) == keep_count(1448, sparsity)
        if scope == "layer":
            for mask in masks.values():
                assert abs(counts({"": mask})[0] - (1 - sparsity) * mask.numel()) < 1 + 1e-6
    assert sum(counts(run.process.masks)) == keep_count(1448, 0.9)
    for name, weight in run.live.items():
        assert not bool(weight[~run.process.masks[name]].any())


def test_removed_weights_do_not_return_unless_asked_to() -> None:
    for returns in (False, True):
        run = Run(period=2, returns=returns).to(60)
        masks = list(run.history.values())
        back = sum(
            int((later[name] & ~earlier[name]).count_nonzero())
            for earlier, later in pairwise(masks)
            for name in LAYERS
        )
        assert (back > 0) == returns


def test_a_weight_that_returns_has_the_value_it_had() -> None:
    start = {"w": torch.tensor([4.0, -3.0, 2.0, 1.0])}
    live = {"w": start["w"].clone()}
    process = dynamics(
        "gradual_magnitude",
        {"w": torch.ones(4).bool()},
        0.5,
        Horizon(4, 4),
        period=1,
        initial_sparsity=0.5,
        end=1.0,
        returns=True,
    )
    process.update(0, LiveTensors(live, {}, {}))
    assert process.masks["w"].tolist() == [True, True, False, False]
    live["w"] = torch.tensor([4.0, -1.5, 0.0, 0.0])  # the second has shrunk below the third
    process.update(1, LiveTensors(live, {}, {}))
    assert process.masks["w"].tolist() == [True, False, True, False]
    assert live["w"].tolist() == [4.0, -1.5, 2.0, 0.0]
    live["w"] = torch.tensor([4.0, 0.0, 0.5, 0.0])
    process.update(2, LiveTensors(live, {}, {}))
    assert process.masks["w"].tolist() == [True, True, False, False]
    assert live["w"].tolist() == [4.0, -1.5, 0.5, 0.0]


@pytest.mark.parametrize("returns", [False, True])
@pytest.mark.parametrize("stop", [1, 23, 24, 45])
def test_a_resumed_run_is_the_same_run(returns: bool, stop: int) -> None:
    whole = Run(period=4, returns=returns).to(60)
    first = Run(period=4, returns=returns).to(stop)
    tensors, values = first.process.state()
    second = Run(period=4, returns=returns)
    second.process.restore(
        {name: tensor.clone() for name, tensor in tensors.items()}, json.loads(json.dumps(values))
    )
    second.live, second.noise, second.step = first.live, first.noise, stop
    second.to(60)
    assert equal(second.process.masks, whole.process.masks)
    assert all(torch.equal(second.live[name], whole.live[name]) for name in LAYERS)


def test_what_the_loop_is_told() -> None:
    masks = {name: torch.zeros_like(weight).bool() for name, weight in weights().items()}
    process = dynamics("gradual_magnitude", masks, 0.9, Horizon(1000, 100))
    assert counts(process.masks) == [216, 1152, 80]  # names and shapes alone were taken over
    assert process.masks_momentum
    assert not process.replaces_step
    assert [step for step in range(1000) if process.due(step)] == list(range(0, 701, 100))


def test_initial_sparsity_is_that_of_the_first_update() -> None:
    run = Run(initial_sparsity=0.5, begin=0.5, period=10).to(60)
    assert [sum(counts(masks)) for masks in run.history.values()] == [
        keep_count(1448, 0.5),
        keep_count(1448, 0.9),
    ]


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_short_runs_still_reach_the_sparsity(steps: int) -> None:
    for begin, end in ((0.0, 1.0), (1.0, 1.0), (0.5, 0.75)):
        run = Run(steps=steps, period=100, begin=begin, end=end).to(steps)
        assert sum(counts(run.process.masks)) == keep_count(1448, 0.9)


def test_the_off_by_one_schedule_stops_short() -> None:
    run = Run(sparsity=0.98, steps=11, period=1, end=1.0, schedule="itop_off_by_one").to(11)
    assert len(run.history) == 11
    assert sum(counts(run.process.masks)) == keep_count(
        1448, SCHEDULES["itop_repo_offbyone"]["0.98"][-1]
    )
    assert sum(counts(run.process.masks)) > keep_count(1448, 0.98)


def test_counting_rules_along_the_schedule() -> None:
    run = Run(period=5, scope="layer", counts="keep_round").to(60)
    for position, masks in enumerate(run.history.values()):
        sparsity = cubic_sparsity(position, len(run.history) - 1, 0.9)
        assert counts(masks) == [round(size * (1 - sparsity)) for size in (216, 1152, 80)]
    assert "keep_round" in RULES


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"initial_sparsity": 1.0}, "initial_sparsity is 1.0"),
        ({"begin": 0.8}, "begin is 0.8 and end is 0.75"),
        ({"end": 1.2}, "end is 1.2"),
        ({"period": 0}, "period is 0"),
        ({"scope": "layers"}, "Did you mean 'layer'"),
        ({"schedule": "zhu"}, "unknown value of schedule 'zhu'"),
    ],
)
def test_gradual_options_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        prune("gradual_magnitude", tiny_cnn(), (), 0.5, **options)


def test_gradual_errors() -> None:
    with pytest.raises(ConfigurationError, match=r"0.5, above the sparsity 0.3"):
        dynamics("gradual_magnitude", all_kept(), 0.3, Horizon(9, 3), initial_sparsity=0.5)
    process = dynamics("gradual_magnitude", all_kept(), 0.3, Horizon(9, 3))
    tensors, values = process.state()
    del tensors["mask/fc.weight"]
    with pytest.raises(DataError, match=r"lacks the masks of fc.weight; it belongs to another"):
        process.restore(tensors, values)
    run = Run()
    run.live["conv1.weight"][0, 0, 0, 0] = math.inf
    with pytest.raises(DataError, match=r"not finite in conv1\.weight"):
        run.to(1)
