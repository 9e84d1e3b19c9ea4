from __future__ import annotations

from pathlib import Path

import pytest
import torch

from espalier import models
from espalier.errors import DataError
from espalier.files import write_npz
from espalier.pruning import (
    achieved_sparsity,
    apply_masks,
    prunable_parameters,
    prune,
    read_masks,
    unit_masks,
    write_masks,
)
from espalier.pruning.masks import removed_entries


def random_masks(model: torch.nn.Module, density: float, seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.rand(weight.shape, generator=generator) < density
        for name, weight in prunable_parameters(model).items()
    }


def test_apply_masks_is_exact_and_zeroes_biases_of_removed_units() -> None:
    model = models.build("small_cnn", 4, (1, 8, 8), seed=0)
    masks = random_masks(model, 0.3, 0)
    masks["conv1.weight"][:3] = False
    masks["output.weight"][1] = False
    bias = model.get_parameter("output.bias").detach().clone()
    untouched = model.get_parameter("conv1.bias").detach()[3:].clone()
    apply_masks(model, masks)
    for name, mask in masks.items():
        weight = model.get_parameter(name).detach()
        assert torch.equal(weight != 0, mask)
        assert not torch.signbit(weight[~mask]).any()
    alive = unit_masks(masks)["conv1.weight"]
    assert not alive[:3].any()
    assert not model.get_parameter("conv1.bias").detach()[~alive].any()
    assert torch.equal(
        model.get_parameter("conv1.bias").detach()[3:][alive[3:]], untouched[alive[3:]]
    )
    assert torch.equal(model.get_parameter("output.bias"), bias)  # an output is never removed


def test_nothing_to_remove_is_empty() -> None:
    model = models.build("small_cnn", 4, (1, 8, 8))
    assert removed_entries(model, random_masks(model, 2.0, 0)) == {}


def test_masks_of_another_model_are_refused() -> None:
    model = models.build("small_cnn", 4, (1, 8, 8))
    masks = random_masks(models.build("small_cnn", 4, (3, 8, 8)), 0.5, 0)
    with pytest.raises(DataError, match=r"conv1.weight has shape \(32, 3, 3, 3\).*\(32, 1, 3, 3\)"):
        apply_masks(model, masks)
    with pytest.raises(DataError, match=r"Did you mean 'conv1.weight'"):
        apply_masks(model, {"conv1.wieght": torch.ones(2, 2).bool()})


def test_files_keep_masks_order_and_facts(tmp_path: Path) -> None:
    model = models.build("small_cnn", 10, (1, 28, 28), seed=0)
    masks = prune("group_magnitude", model, (), 0.675)
    write_masks(tmp_path / "a.npz", masks, 0.675, {"pruner": "group_magnitude"})
    write_masks(tmp_path / "b.npz", masks, 0.675, {"pruner": "group_magnitude"})
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    back, facts = read_masks(tmp_path / "a.npz")
    assert list(back) == list(masks)
    assert all(torch.equal(back[name], mask) for name, mask in masks.items())
    assert facts["requested_sparsity"] == 0.675
    assert facts["achieved_unit_sparsity"] == pytest.approx((22 + 44 + 44 + 22) / 192)
    assert facts["achieved_sparsity"] == pytest.approx(achieved_sparsity(masks))
    assert facts["pruner"] == "group_magnitude"
    total = sum(int((~mask).sum()) for mask in masks.values())
    assert achieved_sparsity(masks)["total"] == pytest.approx(
        total / sum(mask.numel() for mask in masks.values())
    )


def test_files_with_other_arrays_are_refused(tmp_path: Path) -> None:
    write_npz(tmp_path / "bad.npz", {"conv1.weight": torch.ones(3).numpy()})
    with pytest.raises(DataError, match=r"bad.npz: conv1.weight has type float32"):
        read_masks(tmp_path / "bad.npz")
    with pytest.raises(DataError, match=r"absent.npz does not exist"):
        read_masks(tmp_path / "absent.npz")
