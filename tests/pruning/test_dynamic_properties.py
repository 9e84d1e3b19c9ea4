"""What must hold for every method that rewires, for any tensors and through any training."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from espalier.errors import ConfigurationError, DataError
from espalier.pruning import dsr, rigl, set_itop, snfs
from espalier.pruning import set as set_pruner
from espalier.pruning.contract import dynamics, prunable_parameters, prune
from espalier.pruning.during import Horizon, LiveTensors
from espalier.pruning.rewiring import Rewiring, kept_counts
from espalier.pruning.selection import keep_count

STEPS = 24
HORIZON = Horizon(steps=STEPS, steps_per_epoch=4)
# Every algorithm with an update period short enough for a toy, all with an exact total.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "set": ("set", {"period": 3}),
    "set epoch normal": ("set", {"new_weights": "normal"}),
    "set published": ("set", {"period": 3, "counts": "published"}),
    "set_itop": ("set_itop", {"period": 3}),
    "set_itop unfired": ("set_itop", {"period": 3, "growth": "random_unfired"}),
    "rigl": ("rigl", {"period": 3}),
    "rigl noise": ("rigl", {"period": 3, "tie_noise": 1e-5, "counts": "ceil"}),
    "snfs": ("snfs", {"period": 3}),
    "snfs layers": ("snfs", {"period": 3, "redistribution": "none"}),
    "dsr": ("dsr", {"period": 3, "threshold": 0.05}),
    "dsr port": ("dsr", {"period": 3, "threshold": 0.05, "rule": dsr.PORT}),
}
DRIFTING: dict[str, tuple[str, dict[str, Any]]] = {
    "set_itop bernoulli": ("set_itop", {"period": 3, "growth": "random_bernoulli"}),
    "snfs adjusted": ("snfs", {"period": 3, "counts": "adjusted"}),
    "dsr published": (
        "dsr", {"period": 3, "threshold": 0.05, "rule": dsr.PORT, "counts": "published"},
    ),
}  # fmt: skip
ALL = VARIANTS | DRIFTING


def build(
    variant: str, masks: Mapping[str, Tensor], horizon: Horizon = HORIZON, seed: int = 0
) -> Rewiring:
    name, options = ALL[variant]
    module: ModuleType = importlib.import_module(f"espalier.pruning.{name}")
    total = sum(mask.numel() for mask in masks.values())
    sparsity = 1 - sum(kept_counts(masks).values()) / total
    return module.dynamics(dict(masks), sparsity, module.Options(**options), horizon, seed)


@dataclass
class Network:
    masks: dict[str, Tensor]
    live: LiveTensors

    def copy(self) -> LiveTensors:
        return LiveTensors(
            {name: value.clone() for name, value in self.live.weights.items()},
            self.live.gradients,
            {name: value.clone() for name, value in self.live.momenta.items()},
        )


@st.composite
def networks(draw: st.DrawFn) -> Network:
    """One to four layers; empty and full ones, exact zeros and layers without signal occur."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    masks, weights, gradients, momenta = {}, {}, {}, {}
    for index in range(draw(st.integers(1, 4))):
        name = f"layer{index}.weight"
        shape = (draw(st.integers(1, 6)), draw(st.integers(1, 9)))
        density = draw(st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]))
        scale = draw(st.sampled_from([0.0, 1e-3, 0.1, 10.0]))
        masks[name] = torch.rand(shape, generator=generator) < density
        values = scale * torch.randn(shape, generator=generator)
        weights[name] = values * (torch.rand(shape, generator=generator) < 0.9) * masks[name]
        gradients[name] = torch.randn(shape, generator=generator)
        momenta[name] = draw(st.sampled_from([0.0, 1.0])) * torch.randn(shape, generator=generator)
    assume(any(bool(mask.any()) for mask in masks.values()))
    return Network(masks, LiveTensors(weights, gradients, momenta))


@pytest.mark.parametrize("variant", list(ALL))
@given(network=networks(), step=st.integers(0, STEPS - 1))
@settings(max_examples=40, deadline=None)
def test_update_keeps_every_invariant(variant: str, network: Network, step: int) -> None:
    method = build(variant, network.masks)
    live = network.copy()
    method.update(step, live)
    before = network.masks
    assert list(method.masks) == list(before)
    if variant in VARIANTS:
        total = sum(kept_counts(before).values())
        assert sum(kept_counts(method.masks).values()) == total
    for name, mask in method.masks.items():
        weights, momenta = live.weights[name], live.momenta[name]
        assert mask.dtype == torch.bool and mask.shape == before[name].shape
        assert not bool(weights[~mask].any())
        stayed, new = mask & before[name], mask & ~before[name]
        same = weights[stayed] == network.live.weights[name][stayed]
        assert method.returned_restart or bool(same.all())
        if method.new_weight_sd == 0:
            assert not bool(weights[new].any())
        if method.masks_momentum:
            assert not bool(momenta[new].any()) and not bool(momenta[~mask].any())
        else:
            assert momenta.equal(network.live.momenta[name])
        assert bool(torch.isfinite(weights).all())


@pytest.mark.parametrize("variant", ["set", "set_itop", "set_itop unfired", "rigl", "snfs layers"])
@given(network=networks())
@settings(max_examples=20, deadline=None)
def test_layerwise_methods_keep_every_layers_count(variant: str, network: Network) -> None:
    method = build(variant, network.masks)
    method.update(2, network.copy())
    assert kept_counts(method.masks) == kept_counts(network.masks)


@pytest.mark.parametrize("variant", list(VARIANTS))
def test_a_full_network_stays_full(variant: str) -> None:
    weights = {"a": torch.randn(4, 5), "b": torch.randn(3, 4)}
    masks = {name: torch.ones_like(value, dtype=torch.bool) for name, value in weights.items()}
    network = Network(masks, LiveTensors(weights, weights, weights))
    method, live = build(variant, masks), network.copy()
    method.update(2, live)
    assert all(bool(mask.all()) for mask in method.masks.values())
    assert all(live.weights[name].equal(value) for name, value in weights.items())


@given(network=networks(), threshold=st.floats(1e-4, 100))
@settings(max_examples=40, deadline=None)
def test_dsr_empties_no_layer(network: Network, threshold: float) -> None:
    surviving = dsr.drop_below(network.live.weights, network.masks, threshold)
    for name, mask in network.masks.items():
        assert bool(surviving[name].any()) == bool(mask.any())
        assert not bool((surviving[name] & ~mask).any())


@given(network=networks(), threshold=st.floats(1e-4, 1.0))
@settings(max_examples=40, deadline=None)
def test_dsr_grows_where_nothing_was_before(network: Network, threshold: float) -> None:
    generator = torch.Generator().manual_seed(0)
    draw = dsr.exact_draw(generator)
    surviving, masks = dsr.rewire(network.live.weights, network.masks, threshold, generator, draw)
    free = sum(int((~mask).sum()) for mask in network.masks.values())
    removed = sum(kept_counts(network.masks).values()) - sum(kept_counts(surviving).values())
    returned = sum(
        int((masks[name] & mask & ~surviving[name]).sum()) for name, mask in network.masks.items()
    )
    assert returned == max(removed - free, 0)


def test_dsr_growth_follows_the_survivors() -> None:
    surviving = {"a": torch.arange(100) < 30, "b": torch.arange(100) < 10}
    free = {"a": 50, "b": 50}
    generator = torch.Generator().manual_seed(0)
    assert dsr.growth_counts(surviving, free, 8, generator) == {"a": 6, "b": 2}
    assert dsr.growth_counts(surviving, free, 0, generator) == {"a": 0, "b": 0}
    assert dsr.growth_counts(surviving, {"a": 1, "b": 50}, 8, generator) == {"a": 1, "b": 7}
    assert dsr.growth_counts(surviving, {"a": 1, "b": 2}, 8, generator) == {"a": 1, "b": 2}
    equal = {name: torch.ones(4, dtype=torch.bool) for name in "abc"}
    # 5 / 3 rounds up three times: one layer, drawn at random, gives one back.
    found = {
        tuple(dsr.growth_counts(equal, dict.fromkeys("abc", 9), 5, generator).values())
        for _ in range(50)
    }
    assert found == {(1, 2, 2), (2, 1, 2), (2, 2, 1)}


def test_dsr_threshold_adapts() -> None:
    assert dsr.adapted_threshold(1.0, 111, 100) == 0.5
    assert dsr.adapted_threshold(1.0, 89, 100) == 2
    assert dsr.adapted_threshold(1.0, 110, 100) == dsr.adapted_threshold(1.0, 90, 100) == 1


def test_dsr_port_finds_its_threshold_or_gives_up() -> None:
    magnitudes = torch.arange(1, 1001) / 1000
    found = dsr.search_threshold(magnitudes, 300, dsr.Search(0.1, 0.2))
    assert abs(int((magnitudes <= found.threshold).sum()) - 300) <= 6
    assert found.increment < 0.2
    # Two tries in a row remove nothing: the search stops far from its target.
    assert dsr.search_threshold(magnitudes, 300, dsr.Search(1e-5, 0.2)).threshold == 1e-5


def test_dsr_periods_grow() -> None:
    masks = {"a": torch.ones(4, dtype=torch.bool)}
    method = dsr.dynamics(masks, 0.5, dsr.Options(), Horizon(8000, 40), 0)
    due = [step + 1 for step in range(8000) if method.due(step)]
    assert due[:10] == [100, 200, 300, 400, 500, 600, 700, 800, 900, 1000]
    assert due[10:] == [
        *range(1200, 3200, 200), *range(3200, 5600, 400), *range(5600, 7600, 800),
    ]  # fmt: skip


def test_rigl_is_due_from_the_first_step_to_its_end() -> None:
    masks = {"a": torch.ones(4, dtype=torch.bool)}
    method = rigl.dynamics(masks, 0.5, rigl.Options(), Horizon(1000, 10), 0)
    assert [step for step in range(1000) if method.due(step)] == list(range(0, 750, 100))
    assert method.replaces_step and method.masks_momentum
    assert not snfs.dynamics(masks, 0.5, snfs.Options(), HORIZON, 0).masks_momentum


def test_rigl_lets_a_dropped_weight_return() -> None:
    weights = {"a": torch.tensor([[4.0, 3, 2, 1, 0, 0]])}
    masks = {"a": weights["a"] > 0}
    gradients = {"a": torch.tensor([[9.0, 9, 1, 8, 7, 0]])}
    surviving, grown = rigl.rewire(weights, gradients, masks, 0.5)
    assert surviving["a"].tolist() == [[True, True, False, False, False, False]]
    assert grown["a"].tolist() == [[True, True, False, True, True, False]]
    live = LiveTensors({"a": weights["a"].clone()}, gradients, {"a": torch.full((1, 6), 5.0)})
    method = rigl.dynamics(masks, 0.5, rigl.Options(rate=0.5), HORIZON, 0)
    method.update(0, live)
    assert live.weights["a"].tolist() == [[4, 3, 0, 1, 0, 0]]
    assert live.momenta["a"].tolist() == [[5, 5, 0, 5, 0, 0]]


def test_rigl_noise_breaks_ties_only() -> None:
    masks = {"a": torch.arange(200).reshape(1, 200) < 100}
    weights = {"a": torch.where(masks["a"], 1.0, 0.0)}
    weights["a"][0, :20] = 2.0
    gradients = {"a": (~masks["a"]).float()}
    dropped = set()
    for seed in range(3):
        options = rigl.Options(tie_noise=1e-5, rate=0.5)
        method = rigl.dynamics(masks, 0.5, options, HORIZON, seed)
        method.update(0, LiveTensors({"a": weights["a"].clone()}, gradients, {}))
        assert bool(method.masks["a"][0, :20].all())
        assert int(method.masks["a"][0, 20:100].sum()) == 30
        dropped.add(tuple(method.masks["a"].flatten().tolist()))
    assert len(dropped) == 3


def test_set_itop_explores_unfired_weights_first() -> None:
    masks = {"a": torch.arange(100).reshape(10, 10) < 20}
    weights = {"a": torch.randn(10, 10, generator=torch.Generator().manual_seed(0)) * masks["a"]}
    rates = {}
    for variant in ("set_itop", "set_itop unfired"):
        method = build(variant, masks)
        found = [method.exploration_rate]  # type: ignore[attr-defined]
        for step in range(0, 12, 3):
            values = torch.randn(10, 10, generator=torch.Generator().manual_seed(step))
            method.update(step, LiveTensors({"a": values * method.masks["a"]}, weights, {}))
            found.append(method.exploration_rate)  # type: ignore[attr-defined]
        assert found == sorted(found)
        rates[variant] = found
    assert rates["set_itop"][0] == 0.2
    assert rates["set_itop unfired"][-1] > rates["set_itop"][-1]


def test_set_itop_takes_active_zeros_along() -> None:
    weights = {"a": torch.tensor([[3.0, 0, 0, 0, 2, 1, 0, 0]])}
    masks = {"a": torch.tensor([[1, 1, 1, 1, 1, 1, 0, 0]]) > 0}
    draw = dsr.exact_draw(torch.Generator().manual_seed(0))
    surviving, grown = set_itop.rewire(weights, masks, 0.2, draw)
    assert surviving["a"].tolist() == [[True, False, False, False, True, True, False, False]]
    assert int(grown["a"].sum()) == 6


def test_set_replaces_a_share_of_each_sign() -> None:
    weights = torch.tensor([1.0, 2, 3, 4, 5, 6, 7, -1, -2, -3, -4, 0, 0])
    mask = torch.ones(13, dtype=torch.bool)
    mask[-1] = False
    left = set_pruner.drop(weights, mask, 0.5)
    assert weights[left].tolist() == [4, 5, 6, 7, -3, -4]
    published = set_pruner.drop(weights, mask, 0.5, "published")
    assert weights[published].tolist() == [5, 6, 7, -3, -4]


def test_snfs_moves_weights_to_layers_of_large_momentum() -> None:
    generator = torch.Generator().manual_seed(0)
    masks = {name: torch.rand(20, 20, generator=generator) < 0.3 for name in ("a", "b")}
    weights = {name: torch.randn(20, 20, generator=generator) * masks[name] for name in masks}
    momenta = {name: torch.randn(20, 20, generator=generator) for name in masks}
    momenta["a"] *= 10
    before, after = kept_counts(masks), kept_counts(snfs.rewire(weights, momenta, masks, 0.5).masks)
    assert after["a"] > 1.2 * before["a"]
    assert after["a"] + after["b"] == before["a"] + before["b"]


def test_snfs_rate_of_an_almost_dense_layer_that_grows() -> None:
    masks = {"a": torch.arange(100) < 90, "b": torch.arange(100) < 90, "c": torch.arange(100) < 50}
    counts = snfs.removal_counts(masks, {"a": 0.8, "b": 0.1, "c": 0.1}, 0.5)
    assert counts == {"a": 9, "b": 45, "c": 25}


def test_snfs_without_momentum() -> None:
    network = {"a": torch.ones(2, 3)}
    method = snfs.dynamics({"a": network["a"] > 0}, 0.0, snfs.Options(), HORIZON, 0)
    with pytest.raises(ConfigurationError, match="train with a momentum above 0"):
        method.update(3, LiveTensors(network, network, {}))
    broken = {"a": network["a"] / 0}
    with pytest.raises(DataError, match="not finite in a"):
        method.update(3, LiveTensors(network, network, broken))


class Toy:
    """A training loop that follows the protocol, with SGD and momentum written out."""

    def __init__(self, variant: str, seed: int = 0) -> None:
        name, options = ALL[variant]
        generator = torch.Generator().manual_seed(seed)
        self.model = nn.Sequential(
            nn.Conv2d(2, 6, 3, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(24, 4, bias=False)
        )
        for parameter in self.model.parameters():
            nn.init.normal_(parameter, std=0.3, generator=generator)
        self.inputs = torch.randn(STEPS, 16, 2, 4, 4, generator=generator)
        self.labels = torch.randint(4, (STEPS, 16), generator=generator)
        masks = prune(name, self.model, (), 0.7, seed, **options)
        self.dynamics = dynamics(name, masks, 0.7, HORIZON, seed, **options)
        self.weights = prunable_parameters(self.model)
        self.momenta: dict[str, Tensor] = {}
        self.updates = 0
        self.zero_removed()

    def zero_removed(self) -> None:
        with torch.no_grad():
            for name, mask in self.dynamics.masks.items():
                self.weights[name].masked_fill_(~mask, 0)
                if self.dynamics.masks_momentum and name in self.momenta:
                    self.momenta[name].masked_fill_(~mask, 0)

    def sgd(self, gradients: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, weight in self.weights.items():
                last = self.momenta.get(name, torch.zeros_like(weight))
                self.momenta[name] = 0.9 * last + gradients[name]
                weight -= 0.05 * self.momenta[name]

    def step(self, step: int) -> None:
        loss = nn.functional.cross_entropy(self.model(self.inputs[step]), self.labels[step])
        found = torch.autograd.grad(loss, list(self.weights.values()))
        gradients = dict(zip(self.weights, found, strict=True))
        due = self.dynamics.due(step)
        if not (due and self.dynamics.replaces_step):
            self.sgd(gradients)
            self.zero_removed()
        if due:
            self.updates += 1
            self.dynamics.update(step, LiveTensors(self.weights, gradients, self.momenta))
        self.zero_removed()

    def interrupted(self, variant: str) -> Toy:
        """A new loop that goes on from what a checkpoint would hold; values pass through JSON."""
        other = Toy(variant)
        other.model.load_state_dict(self.model.state_dict())
        other.momenta = {name: value.clone() for name, value in self.momenta.items()}
        tensors, values = self.dynamics.state()
        copies = {name: value.clone() for name, value in tensors.items()}
        other.dynamics.restore(copies, json.loads(json.dumps(values)))
        return other


@pytest.mark.parametrize("variant", list(ALL))
def test_training_keeps_the_budget_after_every_step(variant: str) -> None:
    toy = Toy(variant)
    masks = toy.dynamics.masks
    budget = sum(kept_counts(masks).values())
    assert budget == keep_count(204, 0.7)
    changes = 0
    for step in range(STEPS):
        toy.step(step)
        changes += any(not mask.equal(masks[name]) for name, mask in toy.dynamics.masks.items())
        masks = toy.dynamics.masks
        if variant in VARIANTS:
            assert sum(kept_counts(masks).values()) == budget
        for name, mask in masks.items():
            assert not bool(toy.weights[name][~mask].any())
            if toy.dynamics.masks_momentum:
                assert not bool(toy.momenta.get(name, mask.float())[~mask].any())
    assert toy.updates >= 5
    assert changes >= 3
    if not toy.dynamics.masks_momentum:
        assert any(bool(toy.momenta[name][~mask].any()) for name, mask in masks.items())


@pytest.mark.parametrize("variant", list(ALL))
def test_an_interrupted_run_goes_on_identically(variant: str) -> None:
    whole = Toy(variant)
    for step in range(STEPS):
        whole.step(step)
    for stop in (1, 3, 10, 17):
        toy = Toy(variant)
        for step in range(STEPS):
            if step == stop:
                toy = toy.interrupted(variant)
            toy.step(step)
        for name, mask in whole.dynamics.masks.items():
            assert mask.equal(toy.dynamics.masks[name]), (stop, name)
            assert whole.weights[name].equal(toy.weights[name])


@pytest.mark.parametrize(
    ("variant", "lacking"), [("dsr", "threshold"), ("snfs adjusted", "correction")]
)
def test_the_state_of_another_algorithm(variant: str, lacking: str) -> None:
    masks = {"a": torch.ones(4, dtype=torch.bool)}
    tensors, values = build("rigl", masks).state()
    with pytest.raises(DataError, match=f"no '{lacking}'; it belongs to another algorithm"):
        build(variant, masks).restore(tensors, values)
    with pytest.raises(DataError, match="has no fired/a"):
        build("set_itop", masks).restore(tensors, values)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("set", {"zeta": 1.5}, "zeta is 1.5"),
        ("set", {"initial": "erks"}, "Did you mean 'erk'"),
        ("set", {"new_weights": "one"}, "new_weights 'one'"),
        ("set_itop", {"growth": "randm"}, "Did you mean 'random'"),
        ("set_itop", {"period": 0}, "period is 0"),
        ("rigl", {"counts": "exact"}, "Known: ceil, floor"),
        ("rigl", {"end": -1.0}, "end is -1.0"),
        ("snfs", {"redistribution": "nonzero"}, "Known: momentum, none"),
        ("snfs", {"redistribution": "none", "counts": "adjusted"}, "leave counts at 'exact'"),
        ("dsr", {"rule": "dettmers"}, "Known: dettmers_global_magnitude, original"),
        ("dsr", {"threshold": 0.0}, "must be positive"),
        ("dsr", {"counts": "published"}, "the original's total is exact"),
        ("dsr", {"period": "weekly"}, "'epoch' or 'growing'"),
    ],
)
def test_options_that_make_no_sense(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        prune(name, nn.Linear(3, 2), (), 0.5, **options)
