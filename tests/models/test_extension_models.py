from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from espalier import models
from espalier.errors import ConfigurationError, DataError
from espalier.models.torchvision_models import classifier_names
from espalier.provenance import code_of, modules_of
from espalier.pruning import prunable_parameters

CODE = """
from torch import nn

def build(num_classes, input_shape):
    channels, _, _ = input_shape
    layers = [nn.Conv2d(channels, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(6, num_classes))

def scalable(num_classes, input_shape, *, width=1.0):
    units = int(8 * width)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, units), nn.Linear(units, num_classes))

def for_colour(num_classes, input_shape):
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.Flatten(), nn.Linear(216, num_classes))

def for_large(num_classes, input_shape):
    return nn.Sequential(nn.Flatten(), nn.Linear(784, num_classes))

def other_logits(num_classes, input_shape):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes + 1))

def no_network(num_classes, input_shape):
    return [num_classes]

def other_arguments(classes):
    return nn.Identity()

number = 3
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "own_models.py"
    path.write_text(CODE)
    return path


def test_a_function_of_a_file(own: Path) -> None:
    name = f"{own}:build"
    before = torch.random.get_rng_state()
    one, two = (models.build(name, 4, (1, 8, 8), seed=3) for _ in range(2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(one.get_parameter("0.weight"), two.get_parameter("0.weight"))
    assert one(torch.zeros(5, 1, 8, 8)).shape == (5, 4)
    assert one.training
    assert list(prunable_parameters(one)) == ["0.weight", "4.weight"]
    drawn = models.build(
        name, 4, (1, 8, 8), seed=3, initialisation="kaiming_normal", frozen_biases=True
    )
    assert not drawn.get_parameter("4.bias").requires_grad
    assert not torch.equal(drawn.get_parameter("0.weight"), one.get_parameter("0.weight"))


def test_its_code_is_digested(own: Path) -> None:
    home = models.module_of(f"{own}:build")
    assert Path(home) == own
    code_of.cache_clear()
    before = code_of(home)
    assert modules_of(home) == ["script/own_models.py"]
    other = own.with_name("others.py")
    other.write_text(CODE.replace("6, 3", "7, 3"))
    assert code_of(models.module_of(f"{other}:build")) != before
    assert code_of(models.module_of("torchvision:resnet18").removeprefix("espalier."))


def test_an_import_path(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(own.parent))
    assert models.build("own_models:build", 4, (1, 8, 8))(torch.zeros(1, 1, 8, 8)).shape == (1, 4)


def test_width_is_handed_on_where_it_is_taken(own: Path) -> None:
    wide = models.build(f"{own}:scalable", 4, (1, 8, 8), width=2)
    assert wide.get_parameter("1.weight").shape == (16, 64)
    with pytest.raises(ConfigurationError, match="has no parameter named width"):
        models.build(f"{own}:build", 4, (1, 8, 8), width=2)


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        ("biuld", ConfigurationError, "defines no 'biuld'"),
        ("number", ConfigurationError, "is a int, not a function"),
        ("no_network", ConfigurationError, "returned a list; expected a torch.nn.Module"),
        ("other_arguments", ConfigurationError, r"cannot be called as \(num_classes, input_shape"),
        ("for_colour", DataError, r"takes images of 3 channels \(its layer 0\), but these have 1"),
        ("for_large", DataError, "does not take 8x8 images of 1 channels: RuntimeError: mat1"),
        ("other_logits", DataError, r"maps 2 images to \(2, 5\); expected .* \(2, 4\)"),
    ],
)
def test_what_does_not_fit(own: Path, function: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        models.build(f"{own}:{function}", 4, (1, 8, 8))


def test_absent_files_and_modules(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"absent.py does not exist"):
        models.module_of(f"{tmp_path}/absent.py:build")
    with pytest.raises(ConfigurationError, match=r"no Python module 'absent_package\.models'"):
        models.module_of("absent_package.models:build")


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "googlenet", "squeezenet1_1"])
def test_classifiers_of_torchvision(name: str) -> None:
    model = models.build(f"torchvision:{name}", 7, (3, 32, 32), seed=0)
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 7)  # in training mode too
    assert model.training
    prunable_parameters(model)


def test_torchvision_names_are_those_of_torchvision() -> None:
    from espalier.data.torchvision_shim import import_torchvision

    vision = import_torchvision().models
    assert list(classifier_names()) == sorted(vision.list_models(module=vision))


def test_names_of_torchvision_need_no_torch() -> None:
    code = (
        "import sys; from espalier import models; models.module_of('torchvision:resnet18'); "
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("torchvision:resnet81", {}, ConfigurationError, "Did you mean 'torchvision:resnet18'"),
        ("torchvision:resnet18", {"width": 0.5}, ConfigurationError, "has one width"),
        ("torchvision:squeezenet1_1", {"input_shape": (1, 32, 32)}, DataError, "of 3 channels"),
        ("torchvision:alexnet", {}, DataError, "does not take 32x32 images.*too small"),
    ],
)
def test_torchvision_refusals(
    name: str, options: dict, error: type[Exception], message: str
) -> None:
    arguments = {"num_classes": 4, "input_shape": (3, 32, 32), **options}
    with pytest.raises(error, match=message):
        models.build(name, **arguments)
