from __future__ import annotations

import copy
from itertools import islice, pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_cnn import LAYERS, golden, golden_tensors, tiny_cnn
from torch import Tensor, nn
from torch.nn import functional

from espalier import models
from espalier.errors import ConfigurationError, DataError
from espalier.pruning import phew, random_walks
from espalier.pruning.contract import prunable_parameters, prune
from espalier.pruning.selection import keep_count


class Block(nn.Module):
    """A residual block; its shortcut is a convolution, the identity, or strided and padded."""

    def __init__(self, inputs: int, outputs: int, shortcut: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, groups=2)
        self.kind = shortcut
        if shortcut == "conv":
            self.shortcut = nn.Conv2d(inputs, outputs, 1)
        self.surplus = outputs - inputs

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.conv2(self.norm(self.conv1(inputs)).relu())
        if self.kind == "conv":
            hidden += self.shortcut(inputs)
        elif self.kind == "identity":
            hidden = inputs + hidden
        else:
            hidden = hidden + functional.pad(inputs[:, :, ::1, ::1], (0, 0, 0, 0, 0, self.surplus))
        return functional.relu(hidden)


class Residual(nn.Module):
    """Grouped convolutions, three kinds of shortcut, a concatenation, a flattening of 2x2 maps."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.block1 = Block(4, 4, "identity")
        self.block2 = Block(4, 6, "conv")
        self.side = nn.Conv2d(3, 2, 1)
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.hidden = nn.Linear(8 * 4, 10)
        self.norm = nn.BatchNorm1d(10)
        self.last = nn.Linear(10, 3)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.block2(self.block1(self.first(images)))
        maps = self.pool(torch.cat([maps, self.side(images)], dim=1))
        features = maps.view(maps.size(0), -1)
        return self.last(functional.dropout(self.norm(self.hidden(features)), 0.1))


def layer_weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: weight.detach() for name, weight in prunable_parameters(model).items()}


def visits_of(model: nn.Module, blocks: int, identity_shortcuts: bool = False) -> np.ndarray:
    sites = phew.unit_graph(model, identity_shortcuts)
    weights = layer_weights(model)
    return np.concatenate([*islice(phew.walk_blocks(sites, weights, weights, 1), blocks)])


def test_transition_probabilities_of_the_golden() -> None:
    arrays = golden("phew")
    for layer in LAYERS:
        forward, backward = random_walks.transition_probabilities(tiny_cnn().get_parameter(layer))
        np.testing.assert_allclose(forward, arrays[f"prob_forward/{layer}"], rtol=1e-6)
        np.testing.assert_allclose(backward, arrays[f"prob_backward/{layer}"], rtol=1e-6)


def test_layer_counts_are_those_of_the_golden() -> None:
    drawn = [golden_tensors("phew", f"mask_seed{seed}") for seed in range(5)]
    found = [prune("phew", tiny_cnn(), (), 0.8, seed, counts="published") for seed in range(20)]
    for layer in LAYERS:
        expected = [int(masks[layer].sum()) for masks in drawn]
        ours = [int(masks[layer].sum()) for masks in found]
        error = np.sqrt(np.var(expected, ddof=1) / 5 + np.var(ours, ddof=1) / 20)
        assert abs(np.mean(ours) - np.mean(expected)) < 3 * error
    for masks in found:
        # int(0.2 * 1448) weights; the last of three steps may overshoot.
        assert 289 <= sum(int(mask.sum()) for mask in masks.values()) <= 291


def test_grouped_convolutions_stay_within_their_group() -> None:
    weight = torch.tensor([[1.0, 3.0], [3.0, 1.0], [0.0, 2.0], [0.0, 6.0]])[:, :, None, None]
    forward, backward = random_walks.transition_probabilities(weight, groups=2)
    np.testing.assert_allclose(forward, [[0.25, 0.75], [0.75, 0.25], [0.5, 0.5], [0.25, 0.75]])
    np.testing.assert_allclose(backward, [[0.25, 0.75], [0.75, 0.25], [0, 1], [0, 1]])


def test_sites_of_a_chain() -> None:
    sites = phew.unit_graph(tiny_cnn())
    assert [(site.parameter, site.units, site.sources) for site in sites] == [
        ("", 3, ()), ("conv1.weight", 8, (0,)), ("conv2.weight", 16, (1,)), ("fc.weight", 5, (2,)),
    ]  # fmt: skip


@pytest.mark.parametrize("identity_shortcuts", [False, True])
def test_sites_of_a_residual_network(identity_shortcuts: bool) -> None:
    sites = phew.unit_graph(Residual(), identity_shortcuts)
    names = [site.parameter or site.name for site in sites]
    into = {
        name: {names[at] for at in site.sources} for name, site in zip(names, sites, strict=True)
    }
    if identity_shortcuts:
        assert into["add"] == {"first.weight", "block1.conv2.weight"}
        assert into["block2.conv1.weight"] == into["block2.shortcut.weight"] == {"add"}
    else:
        assert "add" not in into
        assert into["block2.conv1.weight"] == {"block1.conv2.weight"}
        assert into["block2.shortcut.weight"] == {"block1.conv2.weight"}
    assert into["add_1"] == {"block2.conv2.weight", "block2.shortcut.weight"}
    assert into["cat"] == {"add_1", "side.weight"}
    by_name = {site.parameter or site.name: site for site in sites}
    assert by_name["cat"].offsets == (0, 6)
    assert by_name["hidden.weight"].block == 4
    assert by_name["block2.conv2.weight"].groups == 2


def test_padded_shortcuts_are_passed_over_or_refused() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), Block(4, 6, "pad"), nn.Flatten(), nn.Linear(54, 2))
    assert len(phew.unit_graph(model)) == 5
    with pytest.raises(ConfigurationError, match=r"through pad \(.*\) to 3"):
        phew.unit_graph(model, identity_shortcuts=True)


@pytest.mark.parametrize("identity_shortcuts", [False, True])
def test_walks_visit_weights_as_often_as_expected(identity_shortcuts: bool) -> None:
    model = Residual()
    weights = layer_weights(model)
    visits = visits_of(model, 10, identity_shortcuts)
    expected = phew.expected_visits(phew.unit_graph(model, identity_shortcuts), weights)
    means = np.concatenate([expected[name].reshape(-1) for name in weights]) * len(visits)
    found = np.bincount(visits[visits >= 0], minlength=len(means))
    # Counts are binomial, so their standardised deviations have variance about 1.
    deviations = (found - means) / np.sqrt(means)
    often = means > 20
    assert often.sum() > 300
    assert 0.8 < deviations[often].std() < 1.15
    assert np.abs(deviations[often]).max() < 5
    assert expected["last.weight"].sum() == pytest.approx(1)
    assert expected["side.weight"].sum() == pytest.approx((1 / 2 + 2 / 8) / 2, abs=0.15)


def test_expected_visits_follow_the_transition_probabilities() -> None:
    model = tiny_cnn()
    weights = layer_weights(model)
    expected = phew.expected_visits(phew.unit_graph(model), weights)
    probabilities = {name: random_walks.transition_probabilities(w) for name, w in weights.items()}
    mass, visits = np.full(3, 1 / 3), {}
    for name in LAYERS:
        visits[name] = (mass[:, None] * probabilities[name][0]).T / 2
        mass = mass @ probabilities[name][0]
    mass = np.full(5, 1 / 5)
    for name in reversed(LAYERS):
        visits[name] += mass[:, None] * probabilities[name][1] / 2
        mass = mass @ probabilities[name][1]
    for name, weight in weights.items():
        kernels = expected[name].reshape(*weight.shape[:2], -1)
        np.testing.assert_allclose(kernels.sum(axis=2), visits[name], rtol=1e-9)


def test_draws_skip_many_unlikely_columns() -> None:
    # Thirty likely columns, each behind a hundred that a walk meets once in 10^9 steps.
    model = nn.Sequential(nn.Linear(1, 3030, bias=False))
    with torch.no_grad():
        model[0].weight.fill_(1e-13)
        model[0].weight[100::101] = 1.0
    columns = visits_of(model, 4)[::2].reshape(-1)
    assert (columns % 101 == 100).all()
    counts = np.bincount(columns // 101, minlength=30)
    mean = len(columns) / 30
    assert np.abs(counts - mean).max() < 5 * np.sqrt(mean)


def test_walks_are_paths() -> None:
    shapes = {"0.weight": (4, 2, 3, 3), "3.weight": (6, 16), "4.weight": (3, 6)}
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 6), nn.Linear(6, 3)
    )
    visits = visits_of(model, 1)
    starts = np.cumsum([0, *(int(np.prod(shape)) for shape in shapes.values())])
    for number, walk in enumerate(visits[:200]):
        steps = walk if number % 2 == 0 else walk[::-1]
        places = [
            np.unravel_index(step - start, shape)
            for step, start, shape in zip(steps, starts, shapes.values(), strict=False)
        ]
        assert places[1][1] // 4 == places[0][0]
        assert places[2][1] == places[1][0]
        if number % 2 == 0:
            assert places[0][1] == (number // 2) % 2
        else:
            assert places[2][0] == (number // 2) % 3


def test_the_first_walks_are_what_is_kept() -> None:
    model = tiny_cnn()
    visits = visits_of(model, 1)
    first = list(dict.fromkeys(visits.reshape(-1).tolist()))[:290]
    masks = prune("phew", model, (), 0.8, seed=1)
    kept = torch.cat([mask.flatten() for mask in masks.values()]).nonzero().flatten()
    assert kept.tolist() == sorted(first)


def test_zero_weights_are_not_visited_and_give_no_nan() -> None:
    model = tiny_cnn()
    with torch.no_grad():
        model.conv2.weight[:, 3] = 0
        model.conv2.weight[5] = 0
        model.conv1.weight[2, 1, 0] = 0
        model.fc.weight.zero_()
    for name in LAYERS:
        for probabilities in random_walks.transition_probabilities(model.get_parameter(name)):
            np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    forward, backward = random_walks.transition_probabilities(model.conv2.weight)
    np.testing.assert_allclose(forward[3], 1 / 16)
    np.testing.assert_allclose(backward[5], 1 / 8)
    visits = visits_of(model, 2)
    assert not np.isin(visits, np.arange((2 * 3 + 1) * 9, (2 * 3 + 1) * 9 + 3)).any()
    assert sum(int(mask.sum()) for mask in prune("phew", model, (), 0.3).values()) == 1014


def test_weights_that_walks_do_not_find_are_filled_up_by_probability() -> None:
    model = nn.Sequential(nn.Linear(20, 30, bias=False), nn.Linear(30, 4, bias=False))
    with torch.no_grad():
        for layer in model:
            layer.weight.fill_(1e-12)
            layer.weight[0, :] = 1.0
            layer.weight[:, 0] = 1.0
        model[0].weight[7, 3] = 2e-11
        model[0].weight[9, 4] = 0.0
    found = (20 + 30 - 1) + (30 + 4 - 1)

    def kept(count: int) -> dict[str, Tensor]:
        masks = prune("phew", model, (), 1 - count / 720, patience=1)
        assert sum(int(mask.sum()) for mask in masks.values()) == count
        return masks

    ones = torch.cat([(layer.weight == 1).flatten() for layer in model])
    assert torch.equal(torch.cat([mask.flatten() for mask in kept(found).values()]), ones)
    assert bool(kept(found + 1)["0.weight"][7, 3])
    last = kept(719)
    assert not bool(last["0.weight"][9, 4])


@settings(max_examples=15, deadline=None)
@given(sparsity=st.floats(0.6, 0.98), seed=st.integers(0, 100))
def test_counts_are_exact_and_masks_nested(sparsity: float, seed: int) -> None:
    model = Residual()
    before = copy.deepcopy(model.state_dict())
    masks = prune("phew", model, (), sparsity, seed)
    total = sum(mask.numel() for mask in masks.values())
    assert sum(int(mask.sum()) for mask in masks.values()) == keep_count(total, sparsity)
    again = prune("phew", model, (), sparsity, seed)
    denser = prune("phew", model, (), sparsity - 0.1, seed)
    for name, mask in masks.items():
        assert torch.equal(mask, again[name])
        assert bool((denser[name] | ~mask).all())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_seeds_differ() -> None:
    masks, others = (prune("phew", tiny_cnn(), (), 0.8, seed=seed) for seed in (0, 1))
    assert any(not torch.equal(mask, others[name]) for name, mask in masks.items())


@pytest.mark.parametrize("name", ["resnet20", "wide_resnet28_2", "mobilenet_v2", "conv6"])
def test_networks_of_the_papers(name: str) -> None:
    model = models.build(name, 10, (3, 32, 32), width=0.25)
    masks = prune("phew", model, (), 0.9)
    total = sum(mask.numel() for mask in masks.values())
    assert sum(int(mask.sum()) for mask in masks.values()) == keep_count(total, 0.9)
    assert all(bool(mask.any()) for mask in masks.values())


def test_every_kept_weight_of_a_chain_lies_on_a_path() -> None:
    masks = prune("phew", tiny_cnn(), (), 0.9, counts="published")
    for name, following in pairwise(LAYERS):
        leaving = masks[name].flatten(1).any(dim=1)
        entering = masks[following].transpose(0, 1).flatten(1).any(dim=1)
        assert torch.equal(leaving, entering)


def test_excluded_layers_are_walked_through() -> None:
    masks = prune("phew", tiny_cnn(), (), 0.8, exclude={"conv2.weight"})
    assert list(masks) == ["conv1.weight", "fc.weight"]
    assert sum(int(mask.sum()) for mask in masks.values()) == keep_count(296, 0.8)


class Followed(nn.Module):
    """What channels can be followed through, although none of them may be removed."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3)
        self.norm = nn.GroupNorm(2, 4)
        self.scale = nn.Parameter(torch.ones(4))
        self.twice = nn.Conv2d(4, 4, 1)
        self.pad = nn.ZeroPad2d(1)
        self.hidden = nn.Linear(8, 6)
        self.layer_norm = nn.LayerNorm(6)
        self.last = nn.Linear(6, 2)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.norm(self.first(images / 255)) * self.scale.view(1, -1, 1, 1)
        maps = self.twice(self.twice(maps).softmax(dim=1))
        maps = torch.concat([self.pad(maps)[:, :, ::2], maps[:, :, ::2]], dim=1)
        features = maps.amax(dim=(2, 3), keepdim=True).squeeze(-1).squeeze(-1) / maps.size(1)
        return self.last(self.layer_norm(self.hidden(features)).clamp(min=0)).log_softmax(dim=1)


def test_what_channels_go_through() -> None:
    sites = phew.unit_graph(Followed())
    assert [(site.parameter, site.units, site.sources, site.offsets) for site in sites] == [
        ("", 3, (), ()), ("first.weight", 4, (0,), (0,)), ("twice.weight", 4, (1,), (0,)),
        ("twice.weight", 4, (2,), (0,)), ("", 8, (3, 3), (0, 4)), ("hidden.weight", 6, (4,), (0,)),
        ("last.weight", 2, (5,), (0,)),
    ]  # fmt: skip
    visits = visits_of(Followed(), 1)
    assert visits.shape[1] == 5
    assert (visits >= 0).all()


class Awkward(nn.Module):
    """A network that does something phew cannot follow."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.first = nn.Conv2d(4, 4, 1)
        self.last = nn.Linear(4, 2)
        self.unused = nn.Linear(4, 2)

    def forward(self, images: Tensor) -> Any:
        maps = self.first(images)
        if self.kind == "branches":
            maps = maps if maps.sum() > 0 else -maps
        if self.kind == "shuffle":
            maps = maps.view(maps.size(0), 2, 2, 3, 3).transpose(1, 2).flatten(1, 2)
        if self.kind == "mean over channels":
            maps = maps.mean(1, keepdim=True).expand(-1, 4, -1, -1)
        if self.kind == "dense layer on maps":
            return self.last(maps)
        if self.kind == "vectors on maps":
            maps = maps * maps.mean(dim=(2, 3))
        logits = self.last(maps.mean(dim=(2, 3)))
        if self.kind == "two outputs":
            return logits, maps
        return logits


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("branches", "torch.fx cannot trace Awkward"),
        ("shuffle", r"cannot follow units through view \(view\) to last"),
        ("mean over channels", r"cannot follow units through mean \(mean\) to last"),
        ("dense layer on maps", r"one output tensor of the model through last \(Linear\)"),
        ("vectors on maps", r"cannot follow units through mul \(mul\) to last"),
        ("two outputs", "one output tensor"),
        ("nothing else", r"unused\.weight: on no path from the input to the output"),
    ],
)
def test_networks_that_cannot_be_walked(kind: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        prune("phew", Awkward(kind), (), 0.5)


def test_other_errors() -> None:
    model = tiny_cnn()
    with pytest.raises(ConfigurationError, match="would leave none of 1448 weights"):
        prune("phew", model, (), 0.9999, counts="published")
    with pytest.raises(ConfigurationError, match="patience is 0"):
        prune("phew", model, (), 0.5, patience=0)
    with pytest.raises(ConfigurationError, match="Did you mean 'published'"):
        prune("phew", model, (), 0.5, counts="publish")
    with torch.no_grad():
        model.fc.weight[0, 0] = torch.inf
    with pytest.raises(DataError, match=r"fc\.weight"):
        prune("phew", model, (), 0.5)
