from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tiny_cnn import tiny_cnn
from torch import nn

from espalier.errors import ConfigurationError
from espalier.pruning import acts, prunable_parameters, prune, scores
from espalier.pruning.densities import er_densities, erk_densities, uncapped_densities
from espalier.pruning.selection import keep_count, layer_keep_counts

NAMES = ("uniform", "er", "erk")
# Sparsities of the papers, and some whose products with 1448 are traps for floats.
SPARSITIES = (0.0, 0.29, 0.6, 0.8, 0.9, 0.95, 0.98)


def residual() -> nn.Module:
    """Convolutions, a 1x1 shortcut, a grouped convolution and a dense layer; never run."""
    layers = {
        "first": nn.Conv2d(3, 12, 3),
        "shortcut": nn.Conv2d(12, 24, 1, bias=False),
        "grouped": nn.Conv2d(24, 24, 3, groups=24),
        "hidden": nn.Linear(37, 41),
        "last": nn.Linear(41, 7),
    }
    return nn.ModuleDict(layers)


def counts(masks: dict[str, torch.Tensor]) -> dict[str, int]:
    return {name: int(mask.count_nonzero()) for name, mask in masks.items()}


def shapes_of(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(w.shape) for name, w in prunable_parameters(model).items()}


@pytest.mark.parametrize("sparsity", SPARSITIES)
@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, {}) for name in NAMES),
        *((name, {"last_at_least": 0.15}) for name in NAMES),
        ("uniform", {"scope": "global"}),
        ("er", {"budget": "layer_floor"}),
        ("erk", {"budget": "layer_floor"}),
        ("erk", {"power_scale": 0.5}),
    ],
    ids=str,
)
def test_the_sparsity_asked_for_is_the_sparsity_got(
    name: str, sparsity: float, options: dict[str, Any]
) -> None:
    for model in (tiny_cnn(), residual()):
        sizes = {key: math.prod(shape) for key, shape in shapes_of(model).items()}
        masks = prune(name, model, (), sparsity, seed=5, **options)
        assert sum(counts(masks).values()) == keep_count(sum(sizes.values()), sparsity)


@pytest.mark.parametrize("name", NAMES)
def test_before_training_without_scores(name: str) -> None:
    assert acts(name) == "before"
    with pytest.raises(ConfigurationError, match="does not rank weights"):
        scores(name, tiny_cnn(), ())


@pytest.mark.parametrize("name", NAMES)
def test_draws_depend_on_the_seed_alone(name: str) -> None:
    model, other = tiny_cnn(), tiny_cnn()
    nn.init.ones_(other.conv1.weight)
    one = prune(name, model, (), 0.8, seed=1)
    assert all(torch.equal(one[key], mask) for key, mask in prune(name, other, (), 0.8, 1).items())
    another = prune(name, model, (), 0.8, seed=2)
    assert counts(another) == counts(one)
    assert not torch.equal(another["conv2.weight"], one["conv2.weight"])


def test_pruners_draw_from_streams_of_their_own() -> None:
    dense = {name: prune(name, nn.Linear(60, 60), (), 0.5, seed=1)["weight"] for name in NAMES}
    assert not torch.equal(dense["er"], dense["erk"])
    assert not torch.equal(dense["er"], dense["uniform"])


def test_masks_of_one_seed_nest() -> None:
    masks = [prune("uniform", tiny_cnn(), (), sparsity, seed=1) for sparsity in (0.6, 0.9)]
    for key, sparse in masks[1].items():
        assert not bool((sparse & ~masks[0][key]).any())


def test_uniform_is_uniform_in_every_layer() -> None:
    model = residual()
    masks = prune("uniform", model, (), 0.9, seed=0)
    sizes = {key: math.prod(shape) for key, shape in shapes_of(model).items()}
    assert counts(masks) == layer_keep_counts(sizes, 0.9)


def test_one_global_draw_is_not_uniform_by_layer() -> None:
    shares = [
        counts(prune("uniform", tiny_cnn(), (), 0.8, seed, scope="global"))["conv1.weight"] / 216
        for seed in range(30)
    ]
    assert len(set(shares)) > 5
    # 216 of 1448 drawn without replacement: sd of the share .025, of the mean of 30 .0046.
    assert sum(shares) / 30 == pytest.approx(0.2, abs=0.02)


@pytest.mark.parametrize(("name", "formula"), [("er", er_densities), ("erk", erk_densities)])
def test_layers_follow_the_formula(name: str, formula: Any) -> None:
    model = residual()
    densities = formula(shapes_of(model), 1 - 0.7)
    for key, count in counts(prune(name, model, (), 0.7)).items():
        size = math.prod(shapes_of(model)[key])
        assert abs(count - densities[key] * size) < 1 + 1e-6


def test_er_and_erk_differ_by_the_kernel() -> None:
    assert counts(prune("er", tiny_cnn(), (), 0.7)) != counts(prune("erk", tiny_cnn(), (), 0.7))
    layers = nn.Sequential(nn.Linear(40, 30), nn.Linear(30, 5))
    assert counts(prune("er", layers, (), 0.7)) == counts(prune("erk", layers, (), 0.7))


@pytest.mark.parametrize("name", NAMES)
def test_plus_options(name: str) -> None:
    model = residual()
    masks = prune(name, model, (), 0.7, dense_first=True, last_at_least=1.0)
    assert bool(masks["first.weight"].all())
    assert bool(masks["last.weight"].all())
    total = sum(mask.numel() for mask in masks.values())
    assert sum(counts(masks).values()) == keep_count(total, 0.7)
    with pytest.raises(ConfigurationError, match=r"first.weight.* alone would keep"):
        prune(name, model, (), 0.98, dense_first=True, last_at_least=1.0)


def test_excluded_layers_are_outside_the_budget() -> None:
    masks = prune("uniform", tiny_cnn(), (), 0.8, exclude={"conv1.weight"})
    assert list(masks) == ["conv2.weight", "fc.weight"]
    assert sum(counts(masks).values()) == keep_count(1152 + 80, 0.8)


@pytest.mark.parametrize("name", NAMES)
def test_bernoulli_counts_vary(name: str) -> None:
    model = nn.Sequential(nn.Linear(40, 40), nn.Linear(40, 40))
    found = {
        sum(counts(prune(name, model, (), 0.7, seed, counts="bernoulli")).values())
        for seed in range(8)
    }
    assert len(found) > 2
    assert all(abs(count - 960) < 4.5 * math.sqrt(3200 * 0.3 * 0.7) for count in found)


def test_published_er_keeps_fewer_weights_than_asked() -> None:
    model = tiny_cnn()
    densities = uncapped_densities(shapes_of(model), 1 - 0.6)
    masks = prune("er", model, (), 0.6, densities="published")
    for key, count in counts(masks).items():
        size = math.prod(shapes_of(model)[key])
        assert count == round(min(1.0, densities[key]) * size)
    assert sum(counts(masks).values()) < keep_count(1448, 0.6)
    assert all(bool(m.all()) for m in prune("er", model, (), 0.0, densities="published").values())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("uniform", {"scope": "globl"}, "Did you mean 'global'"),
        ("uniform", {"counts": "exat"}, "Did you mean 'exact'"),
        ("uniform", {"scope": "global", "dense_first": True}, "draws all layers at once"),
        ("uniform", {"scope": "global", "counts": "bernoulli"}, "draws all layers at once"),
        ("uniform", {"last_at_least": 1.5}, "it is a density"),
        ("er", {"densities": "publishd"}, "Did you mean 'published'"),
        ("er", {"densities": "published", "last_at_least": 1.0}, "takes no dense_first"),
        ("er", {"counts": "bernouli"}, "Did you mean 'bernoulli'"),
        ("erk", {"budget": "layer"}, "Did you mean 'layer_floor'"),
        ("erk", {"counts": "bernouli"}, "Did you mean 'bernoulli'"),
        ("erk", {"power_scale": -1.0}, "it is 0 or more"),
        ("erk", {"power_scale": math.nan}, "it is 0 or more"),
    ],
)
def test_options_are_checked(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        prune(name, tiny_cnn(), (), 0.5, **options)


@pytest.mark.parametrize("name", NAMES)
def test_models_without_weights(name: str) -> None:
    with pytest.raises(ConfigurationError, match="no layer that can be pruned"):
        prune(name, nn.Sequential(nn.ReLU()), (), 0.5)
