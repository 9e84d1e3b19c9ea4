from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_cnn import fixture_batch, tiny_cnn
from torch import Tensor, nn
from torch.func import functional_call

from espalier.errors import ConfigurationError, DataError
from espalier.pruning.contract import Request, prunable_parameters, prune, scores
from espalier.pruning.saliency import (
    exponential_sparsities,
    first_batches,
    mean_gradients,
    prepare,
    redraw_xavier,
    select_among_kept,
)
from espalier.pruning.selection import keep_count

# A few steps show what many do.
PRUNERS: dict[str, dict[str, Any]] = {
    "snip": {},
    "iterative_snip": {"steps": 3},
    "force": {"steps": 3},
    "grasp": {"samples_per_class": 2},
    "synflow": {"steps": 3},
}
every_pruner = pytest.mark.parametrize("name", PRUNERS)
data_pruner = pytest.mark.parametrize("name", [name for name in PRUNERS if name != "synflow"])


def request_for(model: nn.Module, batches: Any = ()) -> Request:
    return Request(model, prunable_parameters(model), batches, 0)


@every_pruner
def test_the_model_of_the_caller_stays_as_it_is(name: str) -> None:
    model = tiny_cnn()
    model.bn2.eval()
    model.conv1.weight.requires_grad_(False)
    batch = fixture_batch()
    model(batch[0]).sum().backward()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    gradients = {key: p.grad.clone() for key, p in model.named_parameters() if p.grad is not None}
    prune(name, model, [batch], 0.8, **PRUNERS[name])
    scores(name, model, [batch], **PRUNERS[name])
    for key, value in model.state_dict().items():
        assert torch.equal(value, state[key])
    for key, parameter in model.named_parameters():
        assert parameter.requires_grad == (key != "conv1.weight")
        assert parameter.dtype == torch.float32
        if key in gradients:
            assert parameter.grad is not None
            assert torch.equal(parameter.grad, gradients[key])
    assert {key: m.training for key, m in model.named_modules() if not m.training} == {"bn2": False}


@every_pruner
@settings(max_examples=8, deadline=None)
@given(sparsity=st.floats(0.6, 0.98))
def test_the_count_is_the_one_asked_for(name: str, sparsity: float) -> None:
    masks = prune(name, tiny_cnn(), [fixture_batch()], sparsity, **PRUNERS[name])
    assert sum(int(mask.sum()) for mask in masks.values()) == keep_count(1448, sparsity)


@every_pruner
def test_same_seed_same_bytes(name: str) -> None:
    values = [scores(name, tiny_cnn(), [fixture_batch()], **PRUNERS[name]) for _ in range(2)]
    masks = [prune(name, tiny_cnn(), [fixture_batch()], 0.9, **PRUNERS[name]) for _ in range(2)]
    for first, second in (values, masks):
        for key in first:
            assert first[key].numpy().tobytes() == second[key].numpy().tobytes()


@every_pruner
def test_frozen_weights_and_absent_gradients_change_nothing(name: str) -> None:
    expected = scores(name, tiny_cnn(), [fixture_batch()], **PRUNERS[name])
    frozen = tiny_cnn().requires_grad_(False)
    with torch.no_grad():
        found = scores(name, frozen, [fixture_batch()], **PRUNERS[name])
    for key in expected:
        assert torch.equal(found[key], expected[key])


@every_pruner
def test_batch_norm_mode_is_an_option_and_not_the_mode_of_the_model(name: str) -> None:
    def found(model: nn.Module, mode: str) -> Tensor:
        values = scores(name, model, [fixture_batch()], batch_norm=mode, **PRUNERS[name])
        return values["conv1.weight"]

    for mode in ("train", "eval"):
        assert torch.equal(found(tiny_cnn().train(), mode), found(tiny_cnn().eval(), mode))
    assert not torch.allclose(found(tiny_cnn(), "train"), found(tiny_cnn(), "eval"))


@every_pruner
def test_scores_that_are_not_finite_name_their_layer(name: str) -> None:
    model = tiny_cnn()
    with torch.no_grad():
        model.conv2.weight[0, 0, 0, 0] = torch.nan
    for call in (prune, scores):
        arguments = (0.5,) if call is prune else ()
        with pytest.raises(DataError, match=r"not finite in .*conv2\.weight \("):
            call(name, model, [fixture_batch()], *arguments, **PRUNERS[name])


@every_pruner
def test_shared_weights_are_refused(name: str) -> None:
    model = tiny_cnn()
    model.twin = nn.Conv2d(3, 8, 3, bias=False)
    model.twin.weight = model.conv1.weight
    with pytest.raises(ConfigurationError, match=r"conv1\.weight and twin\.weight are one shared"):
        prune(name, model, [fixture_batch()], 0.5, **PRUNERS[name])


@data_pruner
def test_batches_that_are_missing_or_malformed(name: str) -> None:
    with pytest.raises((ConfigurationError, DataError), match="came"):
        prune(name, tiny_cnn(), (), 0.5, **PRUNERS[name])
    with pytest.raises(DataError, match="batch 0 is not a pair of tensors"):
        prune(name, tiny_cnn(), [fixture_batch()[0]], 0.5, **PRUNERS[name])


@data_pruner
def test_too_few_batches(name: str) -> None:
    options = PRUNERS[name] | {"num_batches": 3} | ({"data": "batch"} if name == "grasp" else {})
    with pytest.raises(ConfigurationError, match=r"with 3 batches.*and 2 came"):
        prune(name, tiny_cnn(), [fixture_batch()] * 2, 0.5, **options)


@every_pruner
@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("batch_norm", "evaluation", "Did you mean 'eval'"),
        ("counts", "exactly", "Did you mean 'exact'"),
        ("steps", 0, "steps is 0; it must be at least 1"),
        ("num_batches", 0, "num_batches is 0; it must be at least 1"),
    ],
)
def test_values_that_an_option_does_not_know(
    name: str, option: str, value: Any, message: str
) -> None:
    absent = {"steps": ("snip", "grasp"), "num_batches": ("synflow",)}
    if name in absent.get(option, ()):
        message = f"unknown option of pruner '{name}' '{option}'"
    with pytest.raises(ConfigurationError, match=message):
        prune(name, tiny_cnn(), [fixture_batch()], 0.5, **{option: value})


def test_gradient_by_a_mask_is_weight_times_gradient() -> None:
    """Against masks that are leaves of the graph, in double precision, with weights masked."""
    model = tiny_cnn().double()
    inputs, labels = fixture_batch()
    halves = [(inputs[:32].double(), labels[:32]), (inputs[32:].double(), labels[32:])]
    generator = torch.Generator().manual_seed(4)
    dense = {key: w.detach().clone() for key, w in prunable_parameters(model).items()}
    masks = {
        key: torch.randint(2, w.shape, generator=generator).double().requires_grad_()
        for key, w in dense.items()
    }
    loss = torch.stack(
        [
            nn.functional.cross_entropy(
                functional_call(model, {key: dense[key] * masks[key] for key in dense}, x), y
            )
            for x, y in halves
        ]
    ).mean()
    expected = torch.autograd.grad(loss, list(masks.values()))

    request = request_for(model, halves)
    prepare(request, "train")
    with torch.no_grad():
        for key, weight in request.parameters.items():
            weight *= masks[key]
    found = mean_gradients(request, first_batches(request, 2))
    for (key, gradient), value in zip(found.items(), expected, strict=True):
        torch.testing.assert_close(dense[key] * gradient, value)


def test_a_weight_that_the_output_ignores_has_gradient_zero() -> None:
    model = tiny_cnn()
    model.unused = nn.Linear(3, 3)
    assert not scores("snip", model, [fixture_batch()])["unused.weight"].any()


def test_dropout_adds_no_noise() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(3 * 16 * 16, 5))
    plain = nn.Sequential(nn.Flatten(), nn.Identity(), model[2])
    found, expected = (scores("snip", net.train(), [fixture_batch()]) for net in (model, plain))
    assert torch.equal(found["2.weight"], expected["2.weight"])


@given(st.floats(0, 0.99), st.integers(1, 20))
def test_exponential_sparsities(sparsity: float, steps: int) -> None:
    found = exponential_sparsities(sparsity, steps)
    assert len(found) == steps
    assert found[-1] == sparsity
    densities = 1 - np.array([0, *found])
    np.testing.assert_allclose(densities[1:] / densities[:-1], (1 - sparsity) ** (1 / steps))


@pytest.mark.parametrize(("rule", "kept"), [("exact", 3), ("at_least_kth_largest", 6)])
def test_pruned_weights_rank_below_kept_ones_of_score_zero(rule: str, kept: int) -> None:
    values = {"w": torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0, 7.0])}
    masks = {"w": torch.tensor([False, False, True, True, True, True])}
    found = select_among_kept(values, masks, 0.5, rule)["w"]
    assert int(found.sum()) == kept
    if rule == "exact":
        assert found.tolist() == [False, False, True, True, False, True]


def test_redrawn_weights_follow_the_generator_in_order() -> None:
    def draw(generator: torch.Generator) -> list[Tensor]:
        weights = {"a": torch.empty(6, 4), "b": torch.empty(3, 2, 3, 3)}
        redraw_xavier(weights, generator)
        return list(weights.values())

    def by_torch(fill: Callable[[Tensor], Tensor]) -> list[Tensor]:
        torch.manual_seed(11)
        return [fill(torch.empty(6, 4)), fill(torch.empty(3, 2, 3, 3))]

    found = draw(torch.Generator().manual_seed(11))
    for value, expected in zip(found, by_torch(nn.init.xavier_normal_), strict=True):
        assert torch.equal(value, expected)
