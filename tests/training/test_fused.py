from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from espalier import models
from espalier.training.fused import _DropoutStep, training_forward


def network(name: str, negative_scales: bool) -> nn.Module:
    model = models.build(name, 10, (1, 20, 22), width=0.25, seed=0).double()
    for layer in model.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
        if negative_scales and isinstance(layer, nn.BatchNorm2d):
            with torch.no_grad():
                layer.weight[::3] *= -0.7
                layer.bias.copy_(torch.linspace(-0.3, 0.3, len(layer.bias)))
    return model.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]


@pytest.mark.parametrize("name", models.names())
@pytest.mark.parametrize("negative_scales", [False, True])
def test_values_gradients_and_statistics_are_those_of_the_modules(
    name: str, negative_scales: bool
) -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(30, 1, 20, 22, generator=generator, dtype=torch.float64)
    labels = torch.arange(30) % 10
    models_run = [network(name, negative_scales) for _ in range(2)]
    is_chain = isinstance(models_run[0], nn.Sequential)
    assert (training_forward(models_run[1]) is not models_run[1]) == is_chain
    losses = []
    for forward in (models_run[0], training_forward(models_run[1])):
        loss = functional.cross_entropy(forward(inputs), labels)
        loss.backward()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)
    plain, fused = models_run
    for (key, one), other in zip(plain.named_parameters(), fused.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-9, atol=1e-12, msg=key)
    for (key, one), other in zip(plain.named_buffers(), fused.buffers(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12, msg=key)


def test_gradient_check() -> None:
    model = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2)).double()
    inputs = torch.randn(4, 3, 5, 4, dtype=torch.float64, requires_grad=True)
    forward = training_forward(model)
    assert torch.autograd.gradcheck(forward, (inputs,))


def test_anything_but_a_chain_is_returned_as_it_is() -> None:
    model = nn.Bilinear(2, 2, 2)
    assert training_forward(model) is model


@pytest.mark.parametrize("probability", [0.0, 0.3, 0.5])
def test_dropout_rate_scale_and_determinism(probability: float) -> None:
    step = _DropoutStep(probability)
    torch.manual_seed(0)
    result = step(torch.ones(401, 503))
    torch.manual_seed(0)
    assert torch.equal(result, step(torch.ones(401, 503)))
    assert result[result != 0].unique().tolist() == [pytest.approx(1 / (1 - probability), rel=1e-4)]
    dropped = float((result == 0).float().mean())
    assert dropped == pytest.approx(probability, abs=0.005)
    assert float(result.mean()) == pytest.approx(1, abs=0.01)
    rows = (result == 0).float().mean(dim=1)
    assert float(rows.std()) < 0.05


def test_dropout_passes_gradients_of_kept_units_alone() -> None:
    inputs = torch.ones(50, 40, requires_grad=True)
    result = _DropoutStep(0.3)(inputs)
    result.sum().backward()
    torch.testing.assert_close(inputs.grad, result.detach())
