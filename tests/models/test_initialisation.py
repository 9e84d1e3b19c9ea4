from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from espalier import models
from espalier.errors import ConfigurationError
from espalier.pruning import prunable_parameters
from espalier.seeds import derive_seed

CIFAR = (3, 32, 32)


def build(name: str = "conv6", **options: object) -> nn.Module:
    arguments = {"num_classes": 10, "input_shape": CIFAR, "seed": 0, **options}
    return models.build(name, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["conv6", "wide_resnet28_2", "mobilenet_v2"])
def test_kaiming_normal_has_its_variance_in_every_layer(name: str) -> None:
    model = build(name, initialisation="kaiming_normal")
    for key, weight in prunable_parameters(model).items():
        standardised = weight.detach() / math.sqrt(2 / weight[0].numel())
        n = weight.numel()
        assert abs(float(standardised.mean())) < 5 / math.sqrt(n), key
        assert abs(float(standardised.var()) - 1) < 5 * math.sqrt(2 / n), key
        if n > 1000:  # a normal distribution, not a uniform one, whose fourth moment is 1.8
            assert float((standardised**4).mean()) == pytest.approx(3, abs=5 * math.sqrt(96 / n))


def test_biases_and_norms() -> None:
    model = build(initialisation="kaiming_normal")
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            assert not layer.bias.any()
            assert layer.bias.requires_grad
        elif isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            assert bool((layer.weight == 1).all()) and not layer.bias.any()


def test_frozen_biases_are_zero_and_batch_norm_trains() -> None:
    plain, frozen = build(), build(frozen_biases=True)
    for (key, one), other in zip(plain.named_parameters(), frozen.parameters(), strict=True):
        is_frozen = key.endswith("bias") and not key.startswith("norm")
        assert other.requires_grad != is_frozen
        assert not other.any() if is_frozen else torch.equal(one, other), key
    before = frozen.get_parameter("conv1.bias").clone()
    optimizer = torch.optim.SGD(frozen.parameters(), 0.1, weight_decay=0.1)
    frozen(torch.randn(4, *CIFAR)).sum().backward()
    optimizer.step()
    assert torch.equal(frozen.get_parameter("conv1.bias"), before)
    assert frozen.get_parameter("norm1.bias").any()


def test_seed_decides_and_spares_the_global_generator() -> None:
    before = torch.random.get_rng_state()
    one, two = (build("resnet8", initialisation="kaiming_normal") for _ in range(2))
    other = build("resnet8", initialisation="kaiming_normal", seed=1)
    assert torch.equal(before, torch.random.get_rng_state())
    for (key, a), b in zip(one.state_dict().items(), two.state_dict().values(), strict=True):
        assert torch.equal(a, b), key
    key = "stage1.0.conv1.weight"
    assert not torch.equal(one.get_parameter(key), other.get_parameter(key))
    assert not torch.equal(one.get_parameter(key), build("resnet8").get_parameter(key))


def test_without_a_seed_the_global_generator_decides() -> None:
    torch.manual_seed(5)
    one = build("resnet8", seed=None, initialisation="kaiming_normal")
    torch.manual_seed(5)
    two = build("resnet8", seed=None, initialisation="kaiming_normal")
    assert torch.equal(one.get_parameter("conv1.weight"), two.get_parameter("conv1.weight"))


def test_the_default_draws_what_it_always_drew() -> None:
    model = models.build("small_cnn", 10, (1, 8, 8), seed=0)
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(0, "initial weights"))
        first = nn.Conv2d(1, 32, 3, padding=1)
    assert torch.equal(model.get_parameter("conv1.weight"), first.weight)


def test_unknown_initialisation() -> None:
    with pytest.raises(ConfigurationError, match="Did you mean 'kaiming_normal'"):
        build("resnet8", initialisation="kaiming_norma")
