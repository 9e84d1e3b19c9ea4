from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_cnn import LAYERS, fixture_batch, golden, golden_tensors, tiny_cnn
from torch import Tensor, nn

from espalier.errors import ConfigurationError
from espalier.pruning.contract import prune, scores
from espalier.pruning.ntk_sap import mask_gradients
from espalier.pruning.selection import keep_count, select

SMALL: dict[str, Any] = {"epochs": 3, "resamples": 2, "num_batches": 1, "batch_size": 8}
SHAPES: list[tuple[int, ...]] = []


class Recorder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 5)
        self.norm = nn.BatchNorm1d(5)
        self.last = nn.Linear(5, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        SHAPES.append(tuple(inputs.shape))
        return self.last(self.norm(self.first(inputs)).relu())


def all_kept(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in weights.items()}


def test_one_score_with_the_draws_of_the_golden() -> None:
    draws = {kind: golden_tensors("ntksap_one_score", kind) for kind in ("weights", "noise")}
    inputs = torch.from_numpy(golden("ntksap_one_score")["input"])
    model = tiny_cnn()
    before = copy.deepcopy(model.state_dict())
    gradients = mask_gradients(
        model, draws["weights"], all_kept(draws["weights"]), inputs, draws["noise"]
    )
    for layer, expected in golden_tensors("ntksap_one_score", "score").items():
        np.testing.assert_allclose(gradients[layer].abs(), expected, rtol=1e-4)
    found = {layer: gradient.abs() for layer, gradient in gradients.items()}
    masks = select(found, 0.8, rule="above_kth_smallest")
    for layer, expected in golden_tensors("ntksap_one_score", "mask").items():
        assert torch.equal(masks[layer], expected.bool())
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])
    assert model.training
    assert model.bn1.momentum == 0.1


def test_twenty_epochs_keep_as_many_weights_per_layer_as_the_golden() -> None:
    expected = {
        layer: int(mask.sum()) for layer, mask in golden_tensors("ntksap_20", "mask").items()
    }
    counts: dict[str, list[int]] = {layer: [] for layer in LAYERS}
    for seed in range(6):
        masks = prune(
            "ntk_sap",
            tiny_cnn(),
            [fixture_batch()],
            0.8,
            seed,
            resamples=1,
            num_batches=1,
            batch_size=64,
            counts="above_kth_smallest",
        )
        for layer, mask in masks.items():
            counts[layer].append(int(mask.sum()))
    for layer, found in counts.items():
        assert abs(np.mean(found) - expected[layer]) < 4 * np.std(found, ddof=1)
    assert {sum(totals) for totals in zip(*counts.values(), strict=True)} == {290}


def test_gradients_are_those_of_the_formula() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    names = ("0.weight", "2.weight")
    weights = {name: torch.randn_like(model.get_parameter(name)) for name in names}
    noise = {name: torch.randn_like(weight) for name, weight in weights.items()}
    inputs = torch.randn(9, 4, dtype=torch.float64)

    def change(masks: dict[str, Tensor]) -> float:
        def outputs(values: dict[str, Tensor]) -> Tensor:
            hidden = inputs @ (values["0.weight"] * masks["0.weight"]).T + model[0].bias
            return hidden.tanh() @ (values["2.weight"] * masks["2.weight"]).T + model[2].bias

        moved = {name: weight + 0.1 * noise[name] for name, weight in weights.items()}
        return (outputs(weights) - outputs(moved)).square().sum().item()

    masks = {name: torch.ones_like(weight) for name, weight in weights.items()}
    masks["0.weight"][2, 1] = 0
    found = mask_gradients(model, weights, masks, inputs, noise, epsilon=0.1)
    for name, position in [("0.weight", 0), ("0.weight", 9), ("2.weight", 5), ("2.weight", 17)]:
        ends = []
        for step in (1e-5, -1e-5):
            shifted = {key: mask.clone() for key, mask in masks.items()}
            shifted[name].view(-1)[position] += step
            ends.append(change(shifted))
        slope = (ends[0] - ends[1]) / 2e-5
        assert float(found[name].view(-1)[position]) == pytest.approx(slope, rel=1e-6)


def test_neither_weights_nor_statistics_nor_data_matter() -> None:
    model, other = Recorder(), Recorder()
    with torch.no_grad():
        other.load_state_dict(model.state_dict())
        other.first.weight.mul_(7)
        other.norm.weight.fill_(3.0)
        other.norm.running_mean.fill_(5.0)
        other.norm.running_var.fill_(0.1)
    labels = torch.zeros(2, dtype=torch.long)
    first = prune("ntk_sap", model, [(torch.zeros(2, 6), labels)], 0.5, **SMALL)
    second = prune("ntk_sap", other, [(torch.ones(2, 6), labels)], 0.5, **SMALL)
    third = prune("ntk_sap", other, (), 0.5, input_shape=[6], **SMALL)
    for name, mask in first.items():
        assert torch.equal(mask, second[name])
        assert torch.equal(mask, third[name])
    apart = prune("ntk_sap", model, (), 0.5, seed=1, input_shape=[6], **SMALL)
    assert any(not torch.equal(mask, apart[name]) for name, mask in first.items())


def test_batches_hold_ten_inputs_per_class() -> None:
    SHAPES.clear()
    scores("ntk_sap", Recorder(), (), resamples=2, batch_size=12, input_shape=(6,))
    # One pass to see three classes; then 12 + 12 + 6 inputs, each in three passes, drawn twice.
    assert SHAPES[0] == (1, 6)
    assert [shape[0] for shape in SHAPES[1:]] == 2 * (6 * [12] + 3 * [6])


def test_weights_that_are_gone_stay_away() -> None:
    def after(epochs: int) -> dict[str, Tensor]:
        # All these schedules have density 0.7^t after epoch t, so one is a start of the next.
        options = {**SMALL, "input_shape": (6,), "epochs": epochs}
        return prune("ntk_sap", model, (), 1 - 0.7**epochs, **options)

    model = Recorder()
    for epochs in (1, 2, 3):
        later = after(epochs + 1)
        assert all(bool((mask | ~later[name]).all()) for name, mask in after(epochs).items())


@settings(max_examples=8, deadline=None)
@given(sparsity=st.floats(0.6, 0.98), seed=st.integers(0, 100))
def test_counts_are_exact(sparsity: float, seed: int) -> None:
    model = Recorder()
    before = copy.deepcopy(model.state_dict())
    state = torch.get_rng_state()
    masks = prune("ntk_sap", model, (), sparsity, seed, input_shape=(6,), **SMALL)
    again = prune("ntk_sap", model, (), sparsity, seed, input_shape=(6,), **SMALL)
    total = sum(mask.numel() for mask in masks.values())
    assert sum(int(mask.sum()) for mask in masks.values()) == keep_count(total, sparsity)
    assert all(torch.equal(mask, again[name]) for name, mask in masks.items())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())


def test_excluded_layers_are_drawn_but_not_scored() -> None:
    masks = prune(
        "ntk_sap", Recorder(), (), 0.5, exclude={"last.weight"}, input_shape=(6,), **SMALL
    )
    assert list(masks) == ["first.weight"]
    assert int(masks["first.weight"].sum()) == 15


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epsilon": 0.0}, "epsilon is 0.0; it must be positive"),
        ({"epochs": 0}, "epochs is 0"),
        ({"resamples": 0}, "resamples is 0"),
        ({"num_batches": 0}, "num_batches is 0"),
        ({"input_shape": (3, 0)}, "input_shape is 0"),
        ({"counts": "exactly"}, "Did you mean 'exact'"),
    ],
)
def test_unusable_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        prune("ntk_sap", Recorder(), (), 0.5, **options)


def test_without_batches_the_shape_is_wanted() -> None:
    with pytest.raises(ConfigurationError, match="give a batch, or the shape as input_shape"):
        prune("ntk_sap", Recorder(), (), 0.5)
