"""What holds for every pruner: exact counts, clear errors, and a caller left alone."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from espalier import models
from espalier.errors import ConfigurationError, DataError, EspalierError
from espalier.pruning import names, prunable_parameters, prune
from espalier.pruning.selection import keep_count

# Few steps: they change which weights stay, not how many.
CHEAP: dict[str, dict[str, Any]] = {
    "iterative_snip": {"steps": 2},
    "force": {"steps": 2},
    "grasp": {"samples_per_class": 2},
    "synflow": {"steps": 3},
    "prospr": {"inner_steps": 1},
    "ntk_sap": {"epochs": 2, "resamples": 1, "num_batches": 1, "batch_size": 4},
}
CLASSES = 4
SIDE = 8
NETWORKS = {"conv6": 0.125, "resnet8": 0.25}
NEEDS_DATA = {"snip", "iterative_snip", "force", "grasp", "prospr"}
NEEDS_INPUT_SHAPE = {"synflow", "ntk_sap"}
# The values of the weights do not matter to these: they draw at random, or draw other weights.
READS_NO_WEIGHTS = {"uniform", "er", "erk", "set", "set_itop", "rigl", "snfs", "dsr", "ntk_sap"}
WEIGHT_PRUNERS = [name for name in names() if name != "group_magnitude"]


def network(name: str = "conv6") -> nn.Module:
    return models.build(name, CLASSES, (3, SIDE, SIDE), width=NETWORKS[name], seed=0)


def batches(classes: int = CLASSES) -> list[tuple[Tensor, Tensor]]:
    images = torch.randn((16, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(0))
    return [(images, torch.arange(16) % classes)]


def cheaply(pruner: str, model: nn.Module, data: Any, sparsity: float) -> dict[str, Tensor]:
    return prune(pruner, model, data, sparsity, seed=3, **CHEAP.get(pruner, {}))


def kept(masks: dict[str, Tensor]) -> int:
    return sum(int(mask.count_nonzero()) for mask in masks.values())


class Bilinear(nn.Module):
    """A layer whose weight matrix belongs to no known layer."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.eye(CLASSES))

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs @ self.matrix


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("pruner", WEIGHT_PRUNERS)
def test_the_sparsity_asked_for_is_the_sparsity_got(pruner: str, name: str) -> None:
    model = network(name)
    total = sum(weight.numel() for weight in prunable_parameters(model).values())
    for sparsity in (0.6, 0.9, 0.98):
        assert kept(cheaply(pruner, model, batches(), sparsity)) == keep_count(total, sparsity)


@pytest.mark.parametrize("pruner", names())
def test_the_caller_is_left_alone(pruner: str) -> None:
    model, data = network(), batches()
    model.get_parameter("conv2.weight").requires_grad_(False)
    model.get_submodule("conv3").eval()
    with_gradient = model.get_parameter("conv1.weight")
    with_gradient.grad = torch.ones_like(with_gradient)
    before, images = facts(model), data[0][0].clone()
    generators = generator_states()

    masks = cheaply(pruner, model, data, 0.8)

    assert generator_states() == generators
    assert facts(model) == before
    assert [p for p in model.parameters() if p.grad is not None] == [with_gradient]
    assert bool((with_gradient.grad == 1).all())
    assert torch.equal(data[0][0], images)

    with torch.random.fork_rng():
        torch.manual_seed(99)  # another global state, the same masks
        again = cheaply(pruner, model, data, 0.8)
    assert all(torch.equal(again[key], mask) for key, mask in masks.items())


def facts(model: nn.Module) -> list[Any]:
    """Return the values of the state, which parameters are trained, and the modes of the layers."""
    return [
        {key: value.tolist() for key, value in model.state_dict().items()},
        [parameter.requires_grad for parameter in model.parameters()],
        [module.training for module in model.modules()],
        [len(module._forward_pre_hooks) + len(module._forward_hooks) for module in model.modules()],
    ]


def generator_states() -> list[Any]:
    """Return the states of the global generators of torch, NumPy and Python."""
    return [
        torch.get_rng_state().tolist(),
        np.random.get_state()[1].tolist(),  # noqa: NPY002
        random.getstate(),
    ]


@pytest.mark.parametrize("sparsity", [-0.1, 1.0, 1.5, math.nan, math.inf])
@pytest.mark.parametrize("pruner", names())
def test_sparsity_out_of_range(pruner: str, sparsity: float) -> None:
    with pytest.raises(ConfigurationError, match=rf"sparsity is {sparsity}; .* \[0, 1\)"):
        cheaply(pruner, network(), batches(), sparsity)


@pytest.mark.parametrize("pruner", names())
def test_a_sparsity_that_leaves_no_weight(pruner: str) -> None:
    with pytest.raises(ConfigurationError, match=r"would leave none|no weight would stay|all \d+"):
        cheaply(pruner, network(), batches(), math.nextafter(1, 0))


@pytest.mark.parametrize("pruner", names())
def test_a_layer_that_cannot_be_pruned(pruner: str) -> None:
    model = nn.Sequential(*network().children(), Bilinear())
    with pytest.raises(ConfigurationError, match=r"\d+\.matrix belongs to a Bilinear, .*exclude"):
        cheaply(pruner, model, batches(), 0.5)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("pruner", [n for n in WEIGHT_PRUNERS if n not in READS_NO_WEIGHTS])
def test_weights_that_are_not_finite(pruner: str, value: float) -> None:
    model = network()
    with torch.no_grad():
        model.get_parameter("conv4.weight")[1, 2] = value
    with pytest.raises(DataError, match=r"not finite.*conv4\.weight"):
        cheaply(pruner, model, batches(), 0.5)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite_and_units(value: float) -> None:
    model = network()
    with torch.no_grad():
        model.get_parameter("conv4.weight")[1, 2] = value
    with pytest.raises(DataError, match=r"not finite.*conv4\.weight"):
        prune("group_magnitude", model, (), 0.5)


@pytest.mark.parametrize("pruner", sorted(READS_NO_WEIGHTS))
def test_the_others_do_not_read_the_weights(pruner: str) -> None:
    model, other = network(), network()
    with torch.no_grad():
        other.get_parameter("conv4.weight").mul_(-3).add_(1)
    masks = cheaply(pruner, model, batches(), 0.7)
    assert all(
        torch.equal(mask, masks[key])
        for key, mask in cheaply(pruner, other, batches(), 0.7).items()
    )


@pytest.mark.parametrize("pruner", names())
def test_pruning_without_data(pruner: str) -> None:
    if pruner in NEEDS_DATA:
        with pytest.raises(EspalierError, match=r"(?i)batch"):
            cheaply(pruner, network(), (), 0.5)
        return
    if pruner in NEEDS_INPUT_SHAPE:
        with pytest.raises(ConfigurationError, match=r"input_shape"):
            cheaply(pruner, network(), (), 0.5)
    shape = {"input_shape": (3, SIDE, SIDE)} if pruner in NEEDS_INPUT_SHAPE else {}
    masks = prune(pruner, network(), (), 0.5, seed=3, **CHEAP.get(pruner, {}), **shape)
    with_data = cheaply(pruner, network(), batches(), 0.5)
    assert all(torch.equal(mask, with_data[key]) for key, mask in masks.items())
