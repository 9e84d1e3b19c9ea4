from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_networks import random_masks, random_network, scramble
from torch import Tensor, nn
from torch.nn import functional

from espalier import models
from espalier.pruning import apply_masks, prunable_parameters, prune
from espalier.pruning.compaction import compact_for_training
from espalier.pruning.masks import removed_entries

CHAINS = ("small_cnn", "medium_cnn", "conv6_thesis", "conv6")
RESIDUAL = ("resnet8", "wide_resnet28_2", "mobilenet_v2")


@pytest.mark.parametrize("name", CHAINS)
def test_chain_without_removed_units_computes_the_same(name: str) -> None:
    model = scramble(models.build(name, 5, (1, 20, 20), width=0.5, seed=0), 1)
    masks = prune("group_magnitude", model, (), 0.75)
    small, small_masks, back = compact_for_training(model, masks)
    apply_masks(model, masks)
    inputs = torch.randn(4, 1, 20, 20)
    torch.testing.assert_close(small.eval()(inputs), model.eval()(inputs))
    assert sum(w.numel() for w in small.parameters()) < 0.1 * sum(
        w.numel() for w in model.parameters()
    )
    assert all(bool(mask.all()) for mask in small_masks.values())
    before = {key: value.clone() for key, value in model.state_dict().items()}
    back.restore(model, small)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", RESIDUAL)
def test_one_step_of_training_equals_that_of_the_full_network(name: str) -> None:
    shape = (1, 8, 8)
    model = scramble(models.build(name, 3, shape, width=0.5, seed=0), 0).double()
    masks = {k: torch.ones_like(w, dtype=torch.bool) for k, w in prunable_parameters(model).items()}
    inner = [n for n in masks if n.endswith("conv1.weight") and n != "conv1.weight"]
    for reader in inner:  # the channels between the first and the last convolution of a block
        block = reader.removesuffix("conv1.weight")
        for key in ("conv1", "conv2"):
            masks[f"{block}{key}.weight"][:2] = False
        masks[f"{block}conv2.weight"][:, :2] = False
        if f"{block}conv3.weight" in masks:
            masks[f"{block}conv2.weight"][2:] = True
            masks[f"{block}conv3.weight"][:, :2] = False
    small, small_masks, back = compact_for_training(model, masks)
    apply_masks(model, masks)
    assert sum(w.numel() for w in small.parameters()) < sum(w.numel() for w in model.parameters())
    inputs = torch.randn(6, *shape, generator=torch.Generator().manual_seed(0)).double()
    labels = torch.arange(6) % 3
    for network, its_masks in ((model, masks), (small, small_masks)):
        network.train()
        removed = removed_entries(network, its_masks)
        optimizer = torch.optim.SGD(network.parameters(), 0.1)
        functional.cross_entropy(network(inputs), labels).backward()
        optimizer.step()
        with torch.no_grad():
            for key, entries in removed.items():
                network.get_parameter(key).masked_fill_(entries, 0)
    full = copy.deepcopy(model)
    back.restore(full, small)
    for key in masks:
        torch.testing.assert_close(full.get_parameter(key), model.get_parameter(key))
    torch.testing.assert_close(full.eval()(inputs), model.eval()(inputs))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 100), st.sampled_from([0.02, 0.1, 0.5]))
def test_any_masks_of_a_perceptron(seed: int, density: float) -> None:
    model = models.build("mlp-16-12-9-3", 3, (1, 4, 4), seed=seed)
    check(model, density, seed, (1, 4, 4))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.02, 0.1, 0.5]))
def test_any_masks_of_any_network(seed: int, density: float) -> None:
    check(random_network(seed).double(), density, seed, (3, 12, 12))


def check(model: nn.Module, density: float, seed: int, shape: tuple[int, ...]) -> None:
    masks = random_masks(model, density, seed)
    small, small_masks, back = compact_for_training(model, masks)
    apply_masks(small, small_masks)
    apply_masks(model, masks)
    generator = torch.Generator().manual_seed(seed)
    dtype = next(model.parameters()).dtype
    inputs = torch.randn(6, *shape, generator=generator).to(dtype)
    torch.testing.assert_close(small.eval()(inputs), model.eval()(inputs))
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.add_(0.1)
    apply_masks(small, small_masks)
    back.restore(model, small)
    torch.testing.assert_close(small(inputs), model(inputs))
    for name, mask in masks.items():
        assert not model.get_parameter(name).detach()[~mask].any()


def test_what_cannot_be_traced_or_would_be_empty_keeps_its_size() -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(4, 3), nn.Linear(3, 2)

        def forward(self, inputs: Tensor) -> Tensor:
            hidden = self.first(inputs)
            return self.last(hidden) if hidden.sum() > 0 else -self.last(hidden)

    model = Branching()
    masks = {"first.weight": torch.ones(3, 4).bool(), "last.weight": torch.ones(2, 3).bool()}
    masks["first.weight"][0], masks["last.weight"][:, 0] = False, False
    small, _, back = compact_for_training(model, masks)
    assert small.get_parameter("first.weight").shape == (3, 4)
    assert not back.changes("first.weight")
    chain = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    small, _, _ = compact_for_training(
        chain, {"0.weight": masks["first.weight"], "1.weight": masks["last.weight"]}
    )
    assert small.get_parameter("0.weight").shape == (2, 4)
    small, _, _ = compact_for_training(
        chain, {"0.weight": torch.zeros(3, 4).bool(), "1.weight": torch.zeros(2, 3).bool()}
    )
    assert small.get_parameter("0.weight").shape == (3, 4)


def test_frozen_biases_stay_frozen() -> None:
    model = models.build("small_cnn", 4, (1, 8, 8), width=0.5, seed=0, frozen_biases=True)
    small, _, _ = compact_for_training(model, prune("group_magnitude", model, (), 0.5))
    assert small.get_parameter("conv1.bias").shape == (8,)
    assert not small.get_parameter("conv1.bias").requires_grad
    assert small.get_parameter("conv1.weight").requires_grad
