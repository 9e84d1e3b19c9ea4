from __future__ import annotations

import dataclasses
import importlib
import subprocess
import sys

import pytest
import torch
from torch import nn

from espalier import models, pruning
from espalier.errors import ConfigurationError
from espalier.pruning.contract import prunable_parameters, prune, scores
from espalier.pruning.registry import module_of


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.shortcut = nn.Conv2d(4, 4, 1, bias=False)
        self.last = nn.Linear(4, 2)


def test_names_need_no_torch() -> None:
    call = "from espalier import pruning; pruning.names()"
    code = f"import sys; {call}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", pruning.names())
def test_every_algorithm_keeps_the_contract(name: str) -> None:
    module = importlib.import_module(module_of(name))
    assert dataclasses.is_dataclass(module.Options)
    assert module.Options() == module.Options()
    model = models.build("small_cnn", 3, (1, 8, 8), width=0.25, seed=0)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    batches = [(torch.randn(30, 1, 8, 8), torch.arange(30) % 3)]
    masks = prune(name, model, batches, 0.5, seed=1)
    again = prune(name, model, batches, 0.5, seed=1)
    assert list(masks) == list(prunable_parameters(model))
    for key, mask in masks.items():
        assert mask.dtype == torch.bool
        assert mask.shape == model.get_parameter(key).shape
        assert torch.equal(mask, again[key])
    kept = prune(name, model, batches, 0.0)
    assert all(bool(mask.all()) for mask in kept.values())
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])


def test_prunable_parameters_are_all_weights_in_module_order() -> None:
    assert list(prunable_parameters(Residual())) == [
        "first.weight",
        "shortcut.weight",
        "last.weight",
    ]
    assert list(prunable_parameters(nn.Linear(2, 2))) == ["weight"]


def test_exclusions() -> None:
    assert list(prunable_parameters(Residual(), exclude={"last.weight"})) == [
        "first.weight", "shortcut.weight",
    ]  # fmt: skip
    with pytest.raises(ConfigurationError, match=r"'lst.weight'.*Did you mean 'last.weight'"):
        prunable_parameters(Residual(), exclude=["lst.weight"])


def test_unknown_layers_are_refused_not_ignored() -> None:
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 2))
    with pytest.raises(ConfigurationError, match=r"0.weight belongs to a Embedding"):
        prunable_parameters(model)
    assert list(prunable_parameters(model, exclude=["0.weight"])) == ["1.weight"]


@pytest.mark.parametrize("sparsity", [-0.1, 1.0, 1.5, float("nan")])
def test_sparsity_outside_its_range(sparsity: float) -> None:
    model = models.build("small_cnn", 2, (1, 8, 8))
    with pytest.raises(ConfigurationError, match=r"in \[0, 1\)"):
        prune("group_magnitude", model, (), sparsity)


def test_unknown_names_and_options() -> None:
    model = models.build("small_cnn", 2, (1, 8, 8))
    with pytest.raises(ConfigurationError, match="Did you mean 'group_magnitude'"):
        prune("group_magnitud", model, (), 0.5)
    with pytest.raises(ConfigurationError, match="Did you mean 'counts'"):
        prune("group_magnitude", model, (), 0.5, count="published")
    with pytest.raises(ConfigurationError, match="Did you mean 'counts'"):
        scores("group_magnitude", model, (), count="published")


def test_package_says_what_it_lacks() -> None:
    with pytest.raises(AttributeError, match="no attribute 'prun'"):
        _ = pruning.prun


def test_weights_that_are_computed_or_shared_are_refused() -> None:
    normed = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 3)), nn.Linear(3, 2))
    with pytest.raises(ConfigurationError, match=r"0\.weight is computed from other tensors"):
        prune("magnitude", normed, (), 0.5)
    tied = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    tied[1].weight = tied[0].weight
    with pytest.raises(ConfigurationError, match=r"0\.weight and 1\.weight are one shared weight"):
        prune("magnitude", tied, (), 0.5)
