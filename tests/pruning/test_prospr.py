from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_cnn import LAYERS, fixture_batch, golden_tensors, tiny_cnn
from torch import Tensor, nn
from torch.nn import functional

from espalier.errors import ConfigurationError, DataError
from espalier.pruning.contract import prune, scores
from espalier.pruning.selection import keep_count

IMAGES, LABELS = fixture_batch()
WHOLE = [(IMAGES, LABELS)]
HALVES = [(IMAGES[:32], LABELS[:32]), (IMAGES[32:], LABELS[32:])]
GOLDENS: dict[str, tuple[list[tuple[Tensor, Tensor]], dict[str, Any]]] = {
    "prospr": (WHOLE, {}),
    "prospr_first_order": (WHOLE, {"meta_gradients": "first_order"}),
    "prospr_newdata": (HALVES, {"new_data": True}),
    "prospr_mge_settings": (
        HALVES,
        {"new_data": True, "inner_momentum": 0.9, "inner_learning_rate": 0.5},
    ),
}


def dense_net() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Linear(6, 7), nn.BatchNorm1d(7), nn.Tanh(), nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 3)
    )


def dense_batch(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(12, 6, generator=generator), torch.arange(12) % 3


@pytest.mark.parametrize("name", GOLDENS)
def test_goldens(name: str) -> None:
    batches, options = GOLDENS[name]
    model = tiny_cnn()
    before = copy.deepcopy(model.state_dict())
    found = scores("prospr", model, batches, **options)
    masks = prune("prospr", model, batches, 0.8, counts="keep_ceil", **options)
    for layer in LAYERS:
        np.testing.assert_allclose(found[layer], golden_tensors(name, "score")[layer], rtol=1e-4)
        assert torch.equal(masks[layer], golden_tensors(name, "mask")[layer].bool())
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 1000), batch_norm=st.sampled_from(["train", "eval"]))
def test_without_inner_steps_it_is_snip(seed: int, batch_norm: str) -> None:
    batches = [dense_batch(seed)]
    ours = scores("prospr", dense_net(), batches, inner_steps=0, batch_norm=batch_norm)
    snip = scores("snip", dense_net(), batches, batch_norm=batch_norm)
    for layer, values in ours.items():
        assert torch.equal(values, snip[layer])


@settings(max_examples=6, deadline=None)
@given(steps=st.integers(1, 4), full=st.booleans(), momentum=st.sampled_from([0.0, 0.9]))
def test_steps_of_length_zero_change_nothing(steps: int, full: bool, momentum: float) -> None:
    found = scores(
        "prospr",
        dense_net(),
        [dense_batch()],
        inner_steps=steps,
        inner_learning_rate=0.0,
        inner_momentum=momentum,
        meta_gradients="full" if full else "first_order",
    )
    for layer, values in scores("snip", dense_net(), [dense_batch()]).items():
        torch.testing.assert_close(found[layer], values)


def loss_after_training(
    masks: dict[str, Tensor], batches: list[tuple[Tensor, Tensor]], momentum: float
) -> float:
    model = dense_net().double().train()
    with torch.no_grad():
        for name, mask in masks.items():
            model.get_parameter(name).mul_(mask)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.2, momentum=momentum)
    for inputs, labels in batches[:-1]:
        optimiser.zero_grad()
        functional.cross_entropy(model(inputs.double()), labels).backward()
        optimiser.step()
    inputs, labels = batches[-1]
    return functional.cross_entropy(model(inputs.double()), labels).item()


@pytest.mark.parametrize("momentum", [0.0, 0.8])
def test_full_gradients_are_those_of_training_with_pytorch(momentum: float) -> None:
    batches = [dense_batch(seed) for seed in range(3)]
    found = scores(
        "prospr",
        dense_net().double(),
        [(inputs.double(), labels) for inputs, labels in batches],
        inner_steps=2,
        inner_learning_rate=0.2,
        inner_momentum=momentum,
        detach_first_momentum=False,
        new_data=True,
    )
    for layer, position in [("0.weight", 3), ("0.weight", 17), ("3.weight", 8), ("5.weight", 1)]:
        losses = []
        for step in (1e-5, -1e-5):
            masks = {name: torch.ones_like(values) for name, values in found.items()}
            masks[layer].view(-1)[position] += step
            losses.append(loss_after_training(masks, batches, momentum))
        slope = abs(losses[0] - losses[1]) / 2e-5
        assert float(found[layer].view(-1)[position]) == pytest.approx(slope, rel=1e-5, abs=1e-9)


def test_detached_momentum_matters_only_with_momentum() -> None:
    def with_options(**options: Any) -> Tensor:
        return scores("prospr", dense_net(), [dense_batch()], **options)["0.weight"]

    assert torch.equal(with_options(), with_options(detach_first_momentum=False))
    assert not torch.equal(
        with_options(inner_momentum=0.9),
        with_options(inner_momentum=0.9, detach_first_momentum=False),
    )


def test_frozen_parameters_take_no_steps() -> None:
    model = dense_net()
    model.get_parameter("0.bias").requires_grad_(False)
    model.get_parameter("5.bias").requires_grad_(False)
    # The first bias is cancelled by batch norm, the last one is not.
    free = scores("prospr", dense_net(), [dense_batch()])["5.weight"]
    frozen = scores("prospr", model, [dense_batch()])["5.weight"]
    assert not torch.allclose(free, frozen, rtol=1e-3)
    model.get_parameter("5.bias").requires_grad_(True)
    torch.testing.assert_close(free, scores("prospr", model, [dense_batch()])["5.weight"])


@settings(max_examples=8, deadline=None)
@given(sparsity=st.floats(0.6, 0.98), full=st.booleans())
def test_counts_are_exact(sparsity: float, full: bool) -> None:
    model = dense_net()
    before = copy.deepcopy(model.state_dict())
    method = "full" if full else "first_order"
    masks = prune("prospr", model, [dense_batch()], sparsity, meta_gradients=method)
    again = prune("prospr", model, [dense_batch()], sparsity, meta_gradients=method)
    total = sum(mask.numel() for mask in masks.values())
    assert sum(int(mask.sum()) for mask in masks.values()) == keep_count(total, sparsity)
    assert all(torch.equal(mask, again[layer]) for layer, mask in masks.items())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_scoring_needs_no_gradient_mode_and_no_dropout_draws() -> None:
    model = nn.Sequential(nn.Linear(6, 4), nn.Dropout(0.5), nn.Linear(4, 3))
    state = torch.get_rng_state()
    with torch.no_grad():
        first = scores("prospr", model, [dense_batch()])
    assert torch.equal(first["0.weight"], scores("prospr", model, [dense_batch()])["0.weight"])
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inner_momentum": 1.0}, r"inner_momentum is 1.0; it must lie in \[0, 1\)"),
        ({"inner_steps": -1}, "inner_steps is -1"),
        ({"inner_learning_rate": float("nan")}, "inner_learning_rate is nan"),
        ({"meta_gradients": "firstorder"}, "Did you mean 'first_order'"),
        ({"batch_norm": "test"}, "unknown value of batch_norm 'test'"),
        ({"counts": "keep_cel"}, "Did you mean 'keep_ceil'"),
    ],
)
def test_unusable_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        prune("prospr", dense_net(), [dense_batch()], 0.5, **options)


def test_batches_that_run_out() -> None:
    with pytest.raises(ConfigurationError, match="no batches"):
        prune("prospr", dense_net(), (), 0.5)
    with pytest.raises(ConfigurationError, match="an iterator serves only once"):
        prune("prospr", dense_net(), iter([dense_batch()]), 0.5, new_data=True)


def test_steps_that_diverge_are_an_error() -> None:
    with pytest.raises(DataError, match=r"not finite in 0\.weight"):
        prune("prospr", dense_net(), [dense_batch()], 0.5, inner_learning_rate=1e30)
