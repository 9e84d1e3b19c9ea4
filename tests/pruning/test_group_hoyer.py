from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from espalier.errors import ConfigurationError
from espalier.files import read_npz
from espalier.pruning import GroupHoyerSquare, group_hoyer_square


@pytest.mark.parametrize("layer", ["conv1", "conv2", "fc"])
def test_golden_values_and_gradients(root: Path, layer: str) -> None:
    golden, _ = read_npz(root / "tests/goldens/pruners/group_hoyer_square.npz")
    weight = torch.from_numpy(golden[f"weight/{layer}.weight"]).double().requires_grad_()
    value = group_hoyer_square(weight)
    value.backward()
    expected = golden[f"filter/{layer}.weight"] + golden[f"channel/{layer}.weight"]
    assert value.item() == pytest.approx(float(expected), rel=1e-12)
    assert weight.grad is not None
    np.testing.assert_allclose(weight.grad.numpy(), golden[f"grad/{layer}.weight"], atol=1e-12)


@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 9), st.integers(0, 1000))
def test_range_scale_invariance_and_euler(outputs: int, inputs: int, taps: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(outputs, inputs, taps, generator=generator, dtype=torch.float64)
    weight.requires_grad_()
    value = group_hoyer_square(weight)
    assert 2 - 1e-9 <= value.item() <= outputs + inputs + 1e-9
    assert group_hoyer_square(-3 * weight).item() == pytest.approx(value.item())
    value.backward()
    assert weight.grad is not None
    assert (weight.grad * weight).sum().item() == pytest.approx(0, abs=1e-9)


def test_zero_groups_and_zero_weights_have_finite_gradients() -> None:
    weight = torch.zeros(3, 2, 1, 1)
    weight[0] = 1
    for value in (weight, torch.zeros(3, 2)):
        value.requires_grad_()
        group_hoyer_square(value).backward()
        assert value.grad is not None
        assert bool(torch.isfinite(value.grad).all())
    assert group_hoyer_square(torch.zeros(3, 2)).item() == 0


def test_penalty_sums_weights_alone() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))
    expected = group_hoyer_square(model[0].weight) + group_hoyer_square(model[3].weight)
    penalty = GroupHoyerSquare(0.25)(model)
    torch.testing.assert_close(penalty, 0.25 * expected)
    penalty.backward()
    assert model[0].bias.grad is None
    assert model[1].weight.grad is None


def test_negative_strength() -> None:
    for strength in (-1e-3, float("nan")):
        with pytest.raises(ConfigurationError, match="strength is"):
            GroupHoyerSquare(strength)
