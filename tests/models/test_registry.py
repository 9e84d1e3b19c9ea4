from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from espalier import models
from espalier.errors import ConfigurationError, DataError

UNITS = {"small_cnn": 192, "medium_cnn": 576, "conv6_thesis": 1408}


def layer_kinds(model: nn.Module) -> str:
    letters = {
        nn.Conv2d: "C", nn.BatchNorm2d: "b", nn.BatchNorm1d: "b", nn.ReLU: "r", nn.MaxPool2d: "p",
        nn.AdaptiveAvgPool2d: "a", nn.Flatten: "f", nn.Dropout: "d", nn.Linear: "L",
    }  # fmt: skip
    return "".join(letters[type(layer)] for layer in model.children())


def test_names_need_no_torch() -> None:
    code = (
        "import sys; from espalier import models; models.names(); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", UNITS)
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32)])
def test_hidden_units_and_output(name: str, shape: tuple[int, int, int]) -> None:
    model = models.build(name, 20, shape, seed=0)
    assert models.hidden_units(model) == UNITS[name]
    assert model(torch.zeros(2, *shape)).shape == (2, 20)


def test_layers_are_those_of_the_thesis() -> None:
    shape = (1, 28, 28)
    assert layer_kinds(models.build("small_cnn", 10, shape)) == "CbrpCbrpfdLrdLrL"
    assert layer_kinds(models.build("medium_cnn", 10, shape)) == "CbrCbrpCbrCbrpfdLrdLrL"
    assert (
        layer_kinds(models.build("conv6_thesis", 10, shape)) == "CbrCbrpCbrCbrpCbrCbrafdLbrdLbrdL"
    )
    conv6 = models.build("conv6_thesis", 10, shape)
    assert [layer.padding[0] for layer in conv6 if isinstance(layer, nn.Conv2d)] == [
        1,
        1,
        1,
        0,
        1,
        1,
    ]
    assert conv6.get_submodule("dense1").in_features == 256 * 9
    assert models.build("small_cnn", 10, shape).get_submodule("dense1").in_features == 64 * 49


@pytest.mark.parametrize("name", ["small_cnn", "medium_cnn"])
def test_digits_fit(name: str) -> None:
    assert models.build(name, 10, (1, 8, 8))(torch.zeros(2, 1, 8, 8)).shape == (2, 10)


@pytest.mark.parametrize(("name", "smallest"), [("small_cnn", 4), ("conv6_thesis", 16)])
def test_too_small_images_name_the_smallest(name: str, smallest: int) -> None:
    fits = (1, smallest, smallest)
    models.build(name, 2, fits).eval()(torch.zeros(1, *fits))
    with pytest.raises(DataError, match=rf"{name} does not fit .* {smallest}x{smallest}"):
        models.build(name, 2, (1, smallest + 3, smallest - 1))


def test_odd_sizes_fit() -> None:
    for name in UNITS:
        models.build(name, 2, (1, 29, 17)).eval()(torch.zeros(1, 1, 29, 17))


def test_width_scales_hidden_units() -> None:
    assert models.hidden_units(models.build("small_cnn", 10, (1, 28, 28), width=0.25)) == 48
    assert models.hidden_units(models.build("mlp-64-10-10", 10, (1, 8, 8), width=2)) == 20


def test_seed_decides_the_weights_and_spares_the_global_generator() -> None:
    before = torch.random.get_rng_state()
    one, two, other = (models.build("small_cnn", 10, (1, 8, 8), seed=s) for s in (0, 0, 1))
    assert torch.equal(before, torch.random.get_rng_state())
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(one[0].weight, other[0].weight)


def test_perceptron() -> None:
    model = models.build("mlp-784-256-64-10", 10, (1, 28, 28))
    assert layer_kinds(model) == "fLrLrL"
    assert models.hidden_units(model) == 320
    assert model(torch.zeros(3, 1, 28, 28)).shape == (3, 10)


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("smal_cnn", {}, ConfigurationError, "Did you mean 'small_cnn'"),
        ("mlp", {}, ConfigurationError, "unknown model"),
        ("mlp-784-x-10", {}, ConfigurationError, "mlp-784-256-10"),
        ("mlp-700-10", {}, DataError, "takes 700 inputs.*784"),
        ("mlp-784-11", {}, DataError, "11 outputs.*10 classes"),
        ("small_cnn", {"width": 0}, ConfigurationError, "width is 0"),
        ("small_cnn", {"num_classes": 1}, ConfigurationError, "num_classes is 1"),
        ("small_cnn", {"input_shape": (28, 28)}, ConfigurationError, "channels, height, width"),
    ],
)
def test_bad_input(name: str, options: dict, error: type[Exception], message: str) -> None:
    arguments = {"num_classes": 10, "input_shape": (1, 28, 28), **options}
    with pytest.raises(error, match=message):
        models.build(name, **arguments)
