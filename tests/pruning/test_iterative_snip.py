"""Iterative SNIP and FORCE, step by step: a difference of one weight changes all later masks."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_cnn import LAYERS, fixture_batch, golden, golden_tensors, tiny_cnn
from torch import Tensor

from espalier.pruning import force, iterative_snip
from espalier.pruning.contract import Request, prunable_parameters, prune, scores
from espalier.pruning.saliency import (
    dense_weights,
    exponential_sparsities,
    full_masks,
    prepare,
    select_among_kept,
)
from espalier.pruning.selection import select

RULE = "at_least_kth_largest"
both = pytest.mark.parametrize("name", ["iterative_snip", "force"])
both_goldens = pytest.mark.parametrize(
    ("name", "module"), [("itersnip_10", iterative_snip), ("force_10", force)]
)


def prepared_request() -> Request:
    model = tiny_cnn()
    request = Request(model, prunable_parameters(model), [fixture_batch()], 0)
    prepare(request, "train")
    return request


def next_masks(
    module: ModuleType, values: dict[str, Tensor], masks: dict[str, Tensor], sparsity: float
) -> dict[str, Tensor]:
    if module is force:
        return select(values, sparsity, rule=RULE)
    return select_among_kept(values, masks, sparsity, RULE)


@both_goldens
@pytest.mark.parametrize("step", range(1, 11))
def test_golden_step(name: str, module: ModuleType, step: int) -> None:
    trajectory = f"{name}_trajectory"
    request = prepared_request()
    dense = dense_weights(request)
    masks = full_masks(dense)
    if step > 1:
        before = golden_tensors(trajectory, f"mask_step{step - 1:02d}")
        masks = {key: before[key].bool() for key in LAYERS}
    values = module.step_scores(request, dense, masks, 1)
    expected = golden_tensors(trajectory, f"saliency_step{step:02d}")
    for key in LAYERS:
        torch.testing.assert_close(values[key], expected[key], rtol=1e-4, atol=1e-7)
    found = next_masks(module, values, masks, exponential_sparsities(0.8, 10)[step - 1])
    after = golden_tensors(trajectory, f"mask_step{step:02d}")
    for key in LAYERS:
        assert torch.equal(found[key], after[key].bool())


@both_goldens
def test_prune_goes_through_these_steps(name: str, module: ModuleType) -> None:
    request = prepared_request()
    dense = dense_weights(request)
    masks = full_masks(dense)
    for sparsity in exponential_sparsities(0.8, 4):
        values = module.step_scores(request, dense, masks, 1)
        masks = next_masks(module, values, masks, sparsity)
    pruner = module.__name__.rpartition(".")[2]
    found = prune(pruner, tiny_cnn(), [fixture_batch()], 0.8, steps=4, counts=RULE)
    for key in LAYERS:
        assert torch.equal(found[key], masks[key])


def test_pruned_weights_return_in_force_alone() -> None:
    returned = {}
    for name in ("itersnip_10", "force_10"):
        arrays = golden(f"{name}_trajectory")
        returned[name] = sum(
            int(((arrays[f"mask_step{step:02d}/{key}"] == 0)
                 & (arrays[f"mask_step{step + 1:02d}/{key}"] == 1)).sum())
            for step in range(1, 10) for key in LAYERS
        )  # fmt: skip
    assert returned["itersnip_10"] == 0
    assert returned["force_10"] > 0

    request = prepared_request()
    dense = dense_weights(request)
    for module, may_return in ((iterative_snip, False), (force, True)):
        masks, seen = full_masks(dense), False
        for sparsity in exponential_sparsities(0.95, 10):
            values = module.step_scores(request, dense, masks, 1)
            after = next_masks(module, values, masks, sparsity)
            seen |= any(bool((after[key] & ~masks[key]).any()) for key in LAYERS)
            masks = after
        assert seen == may_return


@both
def test_golden_of_one_step(name: str) -> None:
    masks = prune(name, tiny_cnn(), [fixture_batch()], 0.8, steps=1, counts=RULE)
    expected = golden_tensors("snip_force_1step", "mask")
    for key in LAYERS:
        assert torch.equal(masks[key], expected[key].bool())


@both
@settings(max_examples=10, deadline=None)
@given(
    sparsity=st.floats(0, 0.99), seed=st.integers(0, 2**32), mode=st.sampled_from(["train", "eval"])
)
def test_one_step_is_snip(name: str, sparsity: float, seed: int, mode: str) -> None:
    model = tiny_cnn()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight += torch.randn(weight.shape, generator=generator)
    batches = [fixture_batch()]
    found = prune(name, model, batches, sparsity, steps=1, batch_norm=mode)
    expected = prune("snip", model, batches, sparsity, batch_norm=mode)
    values = scores(name, model, batches, batch_norm=mode)
    saliency = scores("snip", model, batches, batch_norm=mode)
    for key in LAYERS:
        assert torch.equal(found[key], expected[key])
        assert torch.equal(values[key], saliency[key])


@both
def test_each_step_starts_the_batches_anew(name: str) -> None:
    class Loader:
        started = 0

        def __iter__(self):
            self.started += 1
            return iter([fixture_batch()] * 2)

    loader = Loader()
    prune(name, tiny_cnn(), loader, 0.8, steps=4, num_batches=2)
    assert loader.started == 4


def test_fewer_saliencies_above_zero_than_weights_to_keep() -> None:
    """With a dense layer of zeros no score is above zero; the original then prunes nothing."""
    model = tiny_cnn()
    with torch.no_grad():
        model.fc.weight.zero_()
    batches = [fixture_batch()]
    assert not any(value.any() for value in scores("iterative_snip", model, batches).values())
    exact = prune("iterative_snip", model, batches, 0.8, steps=3)
    assert sum(int(mask.sum()) for mask in exact.values()) == 290
    as_published = prune("iterative_snip", model, batches, 0.8, steps=3, counts=RULE)
    assert all(bool(mask.all()) for mask in as_published.values())
