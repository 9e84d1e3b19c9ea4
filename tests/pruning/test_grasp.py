from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_cnn import LAYERS, fixture_batch, golden_tensors, tiny_cnn
from torch import Tensor, nn
from torch.func import functional_call

from espalier.errors import ConfigurationError, DataError
from espalier.pruning.contract import Request, prunable_parameters, prune, scores
from espalier.pruning.grasp import class_halves

# Name: options and seed, and the sign of the golden's score in the convention of this project.
GOLDENS: dict[str, tuple[dict[str, Any], int, int]] = {
    "grasp": ({"counts": "threshold_stays"}, 0, -1),
    "grasp_as_shipped_head_reinit": (
        {"counts": "threshold_stays", "reinitialise": "head"}, 123, -1,
    ),
    "grasp_synflowrepo_train": ({"counts": "above_kth_smallest", "data": "batch"}, 0, 1),
    "grasp_synflowrepo_eval": (
        {"counts": "above_kth_smallest", "data": "batch", "batch_norm": "eval"}, 0, 1,
    ),
}  # fmt: skip


def request_for(model: nn.Module, batches: Any) -> Request:
    return Request(model, prunable_parameters(model), batches, 0)


def flat(values: dict[str, Tensor]) -> Tensor:
    return torch.cat([values[key].flatten() for key in LAYERS]).double()


@pytest.mark.parametrize("name", GOLDENS)
def test_golden_scores_and_masks(name: str) -> None:
    options, seed, sign = GOLDENS[name]
    batches = [fixture_batch()]
    values = scores("grasp", tiny_cnn(), batches, seed=seed, **options)
    masks = prune("grasp", tiny_cnn(), batches, 0.8, seed=seed, **options)
    found, expected = flat(values), sign * flat(golden_tensors(name, "score"))
    # The sum that normalises cancels to its last digits, so the scale is compared on its own.
    scale = float(found.norm() / expected.norm())
    assert scale == pytest.approx(1, rel=5e-3)
    torch.testing.assert_close(found / scale, expected, rtol=1e-4, atol=1e-7)
    expected_masks = golden_tensors(name, "mask")
    for key in LAYERS:
        assert torch.equal(masks[key], expected_masks[key].bool())


@pytest.mark.parametrize("temperature", [1.0, 200.0])
def test_scores_are_weight_times_hessian_times_gradient(temperature: float) -> None:
    """Against the explicit Hessian of a smooth network; biases are not part of the flow."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    inputs, labels = torch.randn(10, 3).double(), torch.arange(10) % 2
    weights = prunable_parameters(model)
    sizes = [weight.numel() for weight in weights.values()]

    def loss(vector: Tensor) -> Tensor:
        parts = {
            key: part.view_as(weight)
            for (key, weight), part in zip(weights.items(), vector.split(sizes), strict=True)
        }
        logits = functional_call(model, parts, inputs) / temperature
        return nn.functional.cross_entropy(logits, labels)

    vector = torch.cat([weight.detach().flatten() for weight in weights.values()])
    gradient = torch.autograd.functional.jacobian(loss, vector)
    hessian = torch.autograd.functional.hessian(loss, vector)
    expected = vector * (hessian @ gradient)
    options = {"data": "batch", "temperature": temperature, "normalise": False}
    found = scores("grasp", model, [(inputs, labels)], **options)
    torch.testing.assert_close(torch.cat([value.flatten() for value in found.values()]), expected)


@settings(max_examples=10, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1, 12), st.sampled_from(["train", "eval"]))
def test_the_two_forms_agree_on_the_same_two_halves(random: Any, samples: int, mode: str) -> None:
    """Whole-batch GraSP, fed the halves of the class-wise form, gives its scores."""
    inputs, labels = fixture_batch()
    order = list(range(len(labels)))
    random.shuffle(order)
    batches = [(inputs[order][start : start + 16], labels[order][start : start + 16])
               for start in range(0, 64, 16)]  # fmt: skip
    halves = class_halves(request_for(tiny_cnn(), batches), samples)
    by_class = scores("grasp", tiny_cnn(), batches, samples_per_class=samples, batch_norm=mode)
    whole = scores("grasp", tiny_cnn(), halves, data="batch", num_batches=2, batch_norm=mode)
    for key in LAYERS:
        assert torch.equal(by_class[key], whole[key])


@given(st.lists(st.integers(1, 30), min_size=1, max_size=5), st.integers(1, 3))
@settings(max_examples=25, deadline=None)
def test_halves_hold_the_first_samples_by_class(sizes: list[int], samples: int) -> None:
    generator = torch.Generator().manual_seed(sum(sizes))
    labels = torch.cat([torch.randint(3, (sum(sizes),), generator=generator), torch.arange(9) % 3])
    inputs = torch.arange(len(labels)).float()[:, None]
    splits = [*sizes, 9]
    batches = list(zip(inputs.split(splits), labels.split(splits), strict=True))
    halves = class_halves(request_for(nn.Linear(1, 3), batches), samples)
    expected = [
        position
        for label in range(3)
        for position in [i for i in range(len(labels)) if labels[i] == label][:samples]
    ]
    assert [len(half[1]) for half in halves] == [3 * samples // 2, 3 * samples - 3 * samples // 2]
    assert torch.cat([half[0] for half in halves]).flatten().tolist() == expected
    assert torch.cat([half[1] for half in halves]).tolist() == labels[expected].tolist()


def test_no_batch_is_read_once_every_class_is_complete() -> None:
    read = []

    def loader():
        inputs, labels = fixture_batch()
        for start in range(0, 64, 8):
            read.append(start)
            yield inputs[start : start + 8], labels[start : start + 8]

    class_halves(request_for(tiny_cnn(), loader()), 2)
    assert read == [0, 8]


def test_masks_do_not_depend_on_the_normalisation() -> None:
    masks = [
        prune("grasp", tiny_cnn(), [fixture_batch()], 0.9, normalise=normalise)
        for normalise in (False, True)
    ]
    for key in LAYERS:
        assert torch.equal(masks[0][key], masks[1][key])


def test_classes_with_too_few_samples_are_named() -> None:
    inputs, labels = fixture_batch()
    some = labels != 3
    with pytest.raises(DataError, match=r"needs 10 samples of every class; .* only 0 of class 3"):
        prune("grasp", tiny_cnn(), [(inputs[some], labels[some])], 0.8)
    with pytest.raises(DataError, match=r"only 12 of class 4\. Give more batches, lower"):
        prune("grasp", tiny_cnn(), [(inputs, labels)], 0.8, samples_per_class=13)
    prune("grasp", tiny_cnn(), [(inputs, labels)], 0.8, samples_per_class=12)
    wide = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 200))
    with pytest.raises(DataError, match=r"0 of class 12 and too few of 187 more\. Give"):
        prune("grasp", wide, [(inputs, labels)], 0.8)
    with pytest.raises(DataError, match=r"no batch of .* came"):
        prune("grasp", tiny_cnn(), [], 0.8)


def test_labels_that_do_not_fit() -> None:
    inputs, labels = fixture_batch()
    with pytest.raises(DataError, match="label 5 has no output: the network has 5"):
        prune("grasp", tiny_cnn(), [(inputs, labels + 1)], 0.8)
    with pytest.raises(DataError, match=r"one class index per input.*\(64, 5\)"):
        prune("grasp", tiny_cnn(), [(inputs, nn.functional.one_hot(labels))], 0.8)


def test_head_option_follows_the_seed_and_changes_dense_layers_alone() -> None:
    batches = [fixture_batch()]
    one, other = (
        scores("grasp", tiny_cnn(), batches, seed=seed, reinitialise="head") for seed in (1, 2)
    )
    assert not torch.equal(one["fc.weight"], other["fc.weight"])
    plain = [scores("grasp", tiny_cnn(), batches, seed=seed) for seed in (1, 2)]
    assert torch.equal(plain[0]["fc.weight"], plain[1]["fc.weight"])
    redrawn = tiny_cnn()
    torch.nn.init.xavier_normal_(redrawn.fc.weight, generator=torch.Generator().manual_seed(1))
    expected = scores("grasp", redrawn, batches)
    for key in LAYERS:
        assert torch.equal(one[key], expected[key])


@pytest.mark.parametrize(
    "options",
    [{"data": "class"}, {"reinitialise": "heads"}, {"temperature": 0.0}, {"samples_per_class": 0}],
)
def test_bad_options(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        prune("grasp", tiny_cnn(), [fixture_batch()], 0.8, **options)
