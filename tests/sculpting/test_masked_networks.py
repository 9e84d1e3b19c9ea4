from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from espalier import models
from espalier.errors import ConfigurationError, DataError
from espalier.sculpting.masked_networks import masks_of, network_modules
from espalier.sculpting.modules import detect_modules


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.third, self.last = nn.Linear(4, 3), nn.Linear(3, 2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        hidden = torch.relu(self.first(inputs))
        return self.last(self.third(hidden + torch.relu(self.second(hidden))))


class Concatenated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(8, 2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.last(torch.cat([inputs, self.first(inputs)], 1))


class Sliced(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(2, 2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.last(self.first(inputs)[:, :2])


def random_masks(model: nn.Module, density: float = 0.3) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        name: torch.rand(parameter.shape, generator=generator) < density
        for name, parameter in model.named_parameters()
        if parameter.ndim > 1
    }


def test_a_plain_mlp_needs_no_input_shape() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    kept = random_masks(model)
    found = masks_of(model, kept)
    assert list(found) == ["0", "3"]
    for name, mask in found.items():
        assert np.array_equal(mask, kept[f"{name}.weight"].numpy())
    ours, direct = network_modules(model, kept, None, "network", 0.3, 0.6), None
    direct = detect_modules([mask.numpy() for mask in kept.values()], 0.3, 0.6)
    assert all(map(np.array_equal, ours.modules, direct.modules))
    assert model.training


def test_without_masks_a_weight_of_zero_is_no_edge() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 2))
    with torch.no_grad():
        model[0].weight[1, 2] = 0
    assert masks_of(model)["0"].tolist() == [[True, True, True], [True, True, False]]


def test_images_read_by_a_dense_layer_are_single_inputs() -> None:
    model = models.build("mlp-784-256-10", 10, (1, 28, 28))
    kept = random_masks(model, 0.02)
    found = masks_of(model, kept, (1, 28, 28))
    assert [mask.shape for mask in found.values()] == [(256, 784), (10, 256)]
    for mask, own in zip(found.values(), kept.values(), strict=True):
        assert np.array_equal(mask, own.numpy())


def test_convolutions_are_joined_by_channel_and_flattened_channels_are_units() -> None:
    model = nn.Sequential(
        nn.Conv2d(4, 6, 3, padding=1, groups=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(6 * 4, 5),
        nn.ReLU(),
        nn.Linear(5, 2),
    )
    kept = random_masks(model, 0.08)
    found = masks_of(model, kept, (4, 4, 4))
    kernel = kept["0.weight"].numpy().any(axis=(2, 3))
    expected = np.zeros((6, 4), bool)
    expected[:3, :2], expected[3:, 2:] = kernel[:3], kernel[3:]
    assert np.array_equal(found["0"], expected)
    flat = kept["4.weight"].numpy().reshape(5, 6, 4).any(axis=2)
    assert np.array_equal(found["4"], flat)
    assert np.array_equal(found["6"], kept["6.weight"].numpy())
    modules = network_modules(model, kept, (4, 4, 4))
    assert modules.sizes == (4, 6, 5, 2)


def test_a_kernel_entry_that_meets_padding_alone_is_no_edge() -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.Flatten(), nn.Linear(1, 1))
    corner = torch.zeros(1, 1, 3, 3, dtype=torch.bool)
    corner[..., 0, 0] = True
    assert not masks_of(model, {"0.weight": corner}, (1, 1, 1))["0"].any()
    assert masks_of(model, {"0.weight": corner.roll((1, 1), (2, 3))}, (1, 1, 1))["0"].all()


def test_the_linear_part_of_a_network_with_shortcuts() -> None:
    resnet = models.build("resnet8", 10, (3, 32, 32))
    assert [m.shape for m in masks_of(resnet, None, (3, 32, 32), "linear").values()] == [(10, 64)]
    conv = models.build("small_cnn", 10, (3, 32, 32))
    assert list(masks_of(conv, None, (3, 32, 32), "linear")) == ["dense1", "dense2", "output"]
    assert list(masks_of(conv, None, (3, 32, 32)))[:2] == ["conv1", "conv2"]
    # The sum that a dense layer ends in is no dense layer.
    assert list(masks_of(Residual(), part="linear")) == ["third", "last"]


@pytest.mark.parametrize(
    ("model", "part", "message"),
    [
        (Residual(), "network", r"'second' is made from 'first' \(through .*identity:second"),
        (Concatenated(), "network", r"'last' is made from 'input' \(through 'last.weight'\) and"),
        (Concatenated(), "linear", "'last' is made from 'input'"),
        (Sliced(), "network", "'last' reads 2 of the 4 channels or units of 'first'"),
    ],
)
def test_shortcuts_and_branches_are_refused_by_name(model, part: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{message}.*part='linear'"):
        masks_of(model, part=part)


def test_a_residual_network_is_refused_by_name() -> None:
    resnet = models.build("resnet8", 10, (3, 32, 32))
    with pytest.raises(ConfigurationError, match=r"is made from 'conv1'.*part='linear'"):
        masks_of(resnet, None, (3, 32, 32))


def test_unusable_requests_are_refused() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    with pytest.raises(DataError, match=r"the mask '2.wight'.*Did you mean '2.weight'"):
        masks_of(model, {"2.wight": torch.ones(2, 3, dtype=torch.bool)})
    with pytest.raises(DataError, match=r"the mask of 0.weight has shape \(3, 5\)"):
        masks_of(model, {"0.weight": torch.ones(3, 5, dtype=torch.bool)})
    with pytest.raises(DataError, match="rejects an input"):
        masks_of(model, input_shape=(5,))
    with pytest.raises(DataError, match=r"input_shape is \(4, 1\)"):
        masks_of(model, input_shape=(4, 1))
    with pytest.raises(ConfigurationError, match="unknown part of a network 'all'"):
        masks_of(model, part="all")
    with pytest.raises(ConfigurationError, match="no convolution and no dense layer"):
        masks_of(nn.ReLU())
    with pytest.raises(ConfigurationError, match="no convolution and no dense layer"):
        masks_of(nn.ReLU(), input_shape=(3,))
    convolution = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten())
    with pytest.raises(ConfigurationError, match="input_shape is needed: '0' is a Conv2d"):
        masks_of(convolution)
    with pytest.raises(ConfigurationError, match=r"ends in '0', which is no dense layer"):
        masks_of(convolution, None, (1, 3, 3), "linear")
