from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_cnn import LAYERS, fixture_batch, golden, golden_tensors, tiny_cnn
from torch import Tensor, nn

from espalier.errors import ConfigurationError, DataError
from espalier.pruning.contract import Request, prunable_parameters, prune, scores
from espalier.pruning.saliency import (
    dense_weights,
    exponential_sparsities,
    full_masks,
    prepare,
    select_among_kept,
)
from espalier.pruning.synflow import Options, input_of_ones, linearise, step_scores

RULE = "above_kth_smallest"
SHAPE = (3, 16, 16)


def linearised_request(double: bool) -> tuple[Request, Tensor]:
    model = tiny_cnn()
    request = Request(model, prunable_parameters(model), (), 0)
    ones = input_of_ones(request, Options(double=double, input_shape=SHAPE))
    if double:
        model.double()
    linearise(model)
    prepare(request, "eval")
    return request, ones


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_golden_iterations(precision: str) -> None:
    name = f"synflow_{precision}"
    request, ones = linearised_request(precision == "float64")
    dense = dense_weights(request)
    masks = full_masks(dense)
    compared = []
    arrays = golden(name)
    for iteration, sparsity in enumerate(exponential_sparsities(0.8, 100), start=1):
        values = step_scores(request, dense, masks, ones)
        masks = select_among_kept(values, masks, sparsity, RULE)
        if f"score_iter{iteration:03d}/fc.weight" not in arrays:
            continue
        compared.append(iteration)
        final = iteration == 100
        expected = golden_tensors(name, f"score_iter{iteration:03d}")
        after = golden_tensors(name, "mask" if final else f"mask_iter{iteration:03d}")
        for key in LAYERS:
            assert values[key].dtype == getattr(torch, precision)
            torch.testing.assert_close(values[key], expected[key], rtol=1e-4, atol=0)
            assert torch.equal(masks[key], after[key].bool())
    assert compared == [1, 2, 10, 50, 100]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("synflow_float64", {"counts": RULE}),
        ("synflow_float32", {"counts": RULE, "double": False}),
        ("synflow_oneshot", {"counts": RULE, "steps": 1}),
        ("synflow_mgeport", {"schedule": "published"}),
        # Its batch statistics cancel, so that its masks are those of single precision.
        ("synflow_trainmode_TRAP", {"counts": RULE, "double": False, "batch_norm": "train"}),
    ],
)
def test_golden_masks(name: str, options: dict[str, Any]) -> None:
    masks = prune("synflow", tiny_cnn(), (), 0.8, input_shape=SHAPE, **options)
    expected = golden_tensors(name, "mask")
    for key in LAYERS:
        assert torch.equal(masks[key], expected[key].bool())


def test_golden_scores_of_one_shot() -> None:
    values = scores("synflow", tiny_cnn(), (), input_shape=SHAPE)
    expected = golden_tensors("synflow_oneshot", "score")
    for key in LAYERS:
        torch.testing.assert_close(values[key], expected[key].double(), rtol=1e-4, atol=0)


def test_every_layer_carries_the_whole_flow() -> None:
    """Synaptic flow is conserved: without biases each layer's scores sum to R."""
    values = scores("synflow", tiny_cnn(), (), input_shape=SHAPE)
    request, ones = linearised_request(double=True)
    flow = request.model(ones).sum().item()
    for value in values.values():
        assert value.sum().item() == pytest.approx(flow, rel=1e-9)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32))
def test_signs_do_not_count(seed: int) -> None:
    expected = scores("synflow", tiny_cnn(), (), input_shape=SHAPE)
    flipped = tiny_cnn()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in [*flipped.parameters(), flipped.bn1.running_mean]:
            value *= 2 * torch.randint(2, value.shape, generator=generator) - 1
    found = scores("synflow", flipped, (), input_shape=SHAPE)
    for key in LAYERS:
        assert torch.equal(found[key], expected[key])


def test_linearise_takes_biases_and_statistics_but_no_counters() -> None:
    model = tiny_cnn()
    model.register_buffer("sign", torch.tensor([-1, 2]))
    model.register_buffer("flag", torch.tensor([True, False]))
    with torch.no_grad():
        model.fc.bias.fill_(-2)
        model.bn1.running_mean.fill_(-3)
        model.bn2.bias.fill_(-4)
        model.bn2.num_batches_tracked.fill_(-5)
    linearise(model)
    assert bool((model.fc.bias == 2).all())
    assert bool((model.bn1.running_mean == 3).all())
    assert bool((model.bn2.bias == 4).all())
    assert int(model.bn2.num_batches_tracked) == -5
    assert model.sign.tolist() == [-1, 2]
    assert model.flag.tolist() == [True, False]


def test_no_data_but_a_shape() -> None:
    expected = prune("synflow", tiny_cnn(), (), 0.9, input_shape=list(SHAPE), steps=5)
    found = prune("synflow", tiny_cnn(), [fixture_batch()], 0.9, steps=5)
    for key in LAYERS:
        assert torch.equal(found[key], expected[key])
    with pytest.raises(ConfigurationError, match="set input_shape, for example"):
        prune("synflow", tiny_cnn(), (), 0.9)


def test_overflow_names_the_layers_and_the_mend() -> None:
    model = tiny_cnn()
    with torch.no_grad():
        for key in LAYERS:
            model.get_parameter(key).mul_(1e15)
    message = r"not finite in conv1\.weight .*conv2\.weight .*fc\.weight .*double precision"
    for schedule in ("exponential", "published"):
        with pytest.raises(DataError, match=message):
            prune("synflow", model, (), 0.5, input_shape=SHAPE, double=False, schedule=schedule)
    expected = prune("synflow", tiny_cnn(), (), 0.5, input_shape=SHAPE)
    found = prune("synflow", model, (), 0.5, input_shape=SHAPE)
    agreement = np.mean([float((found[key] == expected[key]).float().mean()) for key in LAYERS])
    assert agreement > 0.99


@pytest.mark.parametrize("sparsity", [0.6, 0.8, 0.95])
def test_published_schedule_removes_rounded_shares_of_weights_and_biases(sparsity: float) -> None:
    left = 1448 + 5
    for _ in range(100):
        left -= round((1 - (1 - sparsity) ** 0.01) * left)
    masks = prune("synflow", tiny_cnn(), (), sparsity, input_shape=SHAPE, schedule="published")
    # The biases of zero have no flow and go first.
    assert sum(int(mask.sum()) for mask in masks.values()) == left
    model = tiny_cnn()
    with torch.no_grad():
        model.fc.bias.fill_(1e3)
    masks = prune("synflow", model, (), sparsity, input_shape=SHAPE, schedule="published")
    assert sum(int(mask.sum()) for mask in masks.values()) == left - 5


def test_a_layer_may_lose_all_its_weights() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)).double()
    branch = nn.Linear(4, 2).double()

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.main, self.shortcut = model, branch

        def forward(self, inputs: Tensor) -> Tensor:
            return self.main(inputs) + self.shortcut(inputs)

    with torch.no_grad():
        branch.weight *= 1e-3
    masks = prune("synflow", Residual(), (), 0.6, input_shape=(4,))
    assert not masks["shortcut.weight"].any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schedule": "publish"}, "Did you mean 'published'"),
        ({"schedule": "published", "counts": RULE}, "leave out counts"),
        ({"input_shape": (3, 0)}, "give the sizes of one input"),
        ({"input_shape": (3, 2.5)}, "give the sizes of one input"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        prune("synflow", tiny_cnn(), (), 0.5, **options)
