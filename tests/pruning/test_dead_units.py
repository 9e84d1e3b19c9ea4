from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_networks import masked, random_masks, random_network, scramble
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from espalier import models
from espalier.errors import ConfigurationError, DataError
from espalier.pruning import prunable_parameters
from espalier.pruning.dead_units import CompactNetwork, compact, remove_dead_units

NETWORKS = ("small_cnn", "conv6", "resnet8", "resnet20", "wide_resnet28_2", "mobilenet_v2")


def agree(model: nn.Module, masks: dict[str, Tensor], shape: tuple[int, ...]) -> CompactNetwork:
    """Check that the compact network computes the same, in single and in double precision."""
    inputs = torch.randn(4, *shape, generator=torch.Generator().manual_seed(0))
    single = remove_dead_units(model, masks)
    reference = masked(copy.deepcopy(model), masks).eval()
    expected = reference(inputs)
    scale = float(expected.detach().abs().max().clamp(min=1))
    torch.testing.assert_close(single.model.eval()(inputs), expected, rtol=1e-5, atol=1e-5 * scale)
    double = compact(copy.deepcopy(model).double(), masks).eval()
    torch.testing.assert_close(
        double(inputs.double()), reference.double()(inputs.double()), rtol=1e-11, atol=1e-11 * scale
    )
    return single


def weights(model: nn.Module) -> int:
    return sum(weight.numel() for weight in prunable_parameters(model).values())


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.1, 0.3, 0.7]))
def test_any_masks_of_any_network_keep_the_function(seed: int, density: float) -> None:
    model = random_network(seed)
    masks = random_masks(model, density, seed)
    before = copy.deepcopy(model.state_dict())
    small = agree(model, masks, (3, 12, 12))
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert list(dict(small.model.named_modules())) == list(dict(model.named_modules()))
    again = remove_dead_units(small.model, small.masks)  # nothing was left for a second pass
    assert all(layer.units == layer.kept_units for layer in again.layers)
    assert weights(again.model) == weights(small.model)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_the_registry(name: str) -> None:
    model = scramble(models.build(name, 5, (2, 12, 12), width=0.25, seed=0), 1)
    small = agree(model, random_masks(model, 0.05, 1), (2, 12, 12))
    assert weights(small.model) < 0.85 * weights(model)
    assert sum(layer.kept_weights for layer in small.layers) == weights(small.model)
    assert sum(layer.weights for layer in small.layers) == weights(model)
    # The result is dense in its shapes: it trains and stores as any network of these modules.
    assert [k for k, _ in small.model.named_modules()] == [k for k, _ in model.named_modules()]


def chain(*layers: nn.Module) -> nn.Module:
    return scramble(nn.Sequential(*layers), 3)


def full_masks(model: nn.Module) -> dict[str, Tensor]:
    return {k: torch.ones_like(w, dtype=torch.bool) for k, w in prunable_parameters(model).items()}


def test_removal_goes_on_backwards_and_forwards() -> None:
    model = chain(
        nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3), nn.Linear(3, 2)
    )
    masks = full_masks(model)
    masks["5.weight"][:, 0] = False  # unit 0 of layer 4 feeds nothing,
    masks["4.weight"][1:, 2] = False  # so unit 2 of layer 2 feeds it alone, for nothing,
    masks["2.weight"][[0, 1, 3], 4] = False  # and unit 4 of layer 0 feeds only that one
    small = agree(model, masks, (6,))
    assert [layer.kept_units for layer in small.layers] == [4, 3, 2, 2]
    assert [layer.folded for layer in small.layers] == [0, 0, 0, 0]
    masks = full_masks(model)
    masks["0.weight"][:3] = False  # constant, each of them
    masks["2.weight"][1, 3:] = False  # and then this one, which reads constants only
    small = agree(model, masks, (6,))
    assert [layer.kept_units for layer in small.layers] == [2, 3, 3, 2]
    assert small.layers[1].folded == int((model[0].bias[:3] > 0).sum())


@pytest.mark.parametrize(
    ("padding", "mode", "kept"), [(0, "zeros", 3), (1, "zeros", 4), (1, "circular", 3)]
)
def test_constants_stay_where_padding_makes_a_border(padding: int, mode: str, kept: int) -> None:
    model = chain(
        nn.Conv2d(2, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 3, 3, padding=padding, padding_mode=mode, bias=False),
    )
    masks = full_masks(model)
    masks["0.weight"][1] = False
    with torch.no_grad():
        model[1].bias[1] = 5.0  # ReLU lets the constant through
    small = agree(model, masks, (2, 8, 8))
    assert small.layers[0].kept_units == kept
    assert (small.model[3].bias is not None) == (kept == 3)
    with torch.no_grad():
        model[1].bias[1] = -5.0  # ReLU makes it zero, which has no border
    small = agree(model, masks, (2, 8, 8))
    assert small.layers[0].kept_units == 3
    assert small.model[3].bias is None


def test_channels_tied_by_an_addition_go_together() -> None:
    model = scramble(models.build("resnet8", 3, (1, 8, 8), seed=0), 0)
    masks = full_masks(model)
    readers = ("stage2.0.conv1.weight", "stage2.0.shortcut.0.weight")
    for name in readers:
        masks[name][:, 3] = False
    small = agree(model, masks, (1, 8, 8))
    by_name = {layer.name: layer for layer in small.layers}
    assert by_name["conv1"].kept_units == 16  # stage1's own convolution still reads the channel
    masks["stage1.0.conv1.weight"][:, 3] = False
    small = agree(model, masks, (1, 8, 8))
    by_name = {layer.name: layer for layer in small.layers}
    assert [by_name[n].kept_units for n in ("conv1", "stage1.0.conv1", "stage1.0.conv2")] == [
        15, 16, 15,
    ]  # fmt: skip
    assert by_name["stage2.0.shortcut.0"].kept_inputs == 15


def test_depthwise_filters_follow_their_channels() -> None:
    model = scramble(models.build("mobilenet_v2", 3, (1, 8, 8), width=0.25, seed=0), 0)
    masks = full_masks(model)
    block = "stages.1.0"
    masks[f"{block}.conv3.weight"][:, [2, 5]] = False
    small = agree(model, masks, (1, 8, 8))
    depthwise = small.model.get_submodule(f"{block}.conv2")
    assert depthwise.groups == depthwise.in_channels == depthwise.out_channels == 6 * 4 - 2
    assert small.model.get_submodule(f"{block}.conv1").out_channels == 6 * 4 - 2


def test_a_layer_without_live_units_keeps_one() -> None:
    model = chain(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2))
    masks = {name: torch.zeros_like(mask) for name, mask in full_masks(model).items()}
    small = agree(model, masks, (6,))
    assert [layer.kept_units for layer in small.layers] == [1, 1, 2]


def test_full_masks_change_nothing() -> None:
    model = random_network(7)
    small = compact(model, full_masks(model))
    for key, value in model.state_dict().items():
        assert torch.equal(value, small.state_dict()[key])


def test_unknown_operations_keep_the_units_around_them() -> None:
    class Sorted(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            return inputs.sort(dim=1).values

    model = chain(nn.Linear(6, 5), nn.ReLU(), Sorted(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2))
    masks = full_masks(model)
    masks["0.weight"][0] = False
    masks["3.weight"][:, 1] = False
    masks["5.weight"][:, 2] = False
    small = agree(model, masks, (6,))
    assert [layer.kept_units for layer in small.layers] == [5, 3, 2]


class InPlace(nn.Module):
    """Its second convolution reads what the ReLU has overwritten."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 4, 1)
        self.drop = nn.Dropout()
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(4, 3, 1)
        self.conv3 = nn.Conv2d(4, 3, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        maps = self.conv1(inputs)
        overwritten = self.relu(self.drop(maps))
        return self.conv2(maps) + self.conv3(overwritten)


class Functional(nn.Module):
    """Layers behind functions instead of modules."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 6, 3)
        self.conv2 = nn.Conv2d(6, 6, 3)
        self.linear1 = nn.Linear(6 * 9, 8)
        self.linear2 = nn.Linear(8, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        maps = functional.max_pool2d(functional.relu(self.conv1(inputs)), 2)
        maps = functional.avg_pool2d(self.conv2(maps).relu(), 3, 1, 1)
        vectors = functional.dropout(maps.view(maps.shape[0], -1), 0.5, self.training)
        return self.linear2(torch.tanh(self.linear1(vectors)))


class Shared(nn.Module):
    """One layer used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.last = nn.Linear(6, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.last(torch.relu(self.first(torch.relu(self.first(inputs)))))


@pytest.mark.parametrize(
    ("network", "shape", "fewer"),
    [(InPlace, (2, 5, 5), False), (Functional, (2, 12, 12), True), (Shared, (6,), False)],
)
def test_functions_sharing_and_overwriting(
    network: type[nn.Module], shape: tuple[int, ...], fewer: bool
) -> None:
    for seed in range(5):
        model = scramble(network(), seed)
        small = agree(model, random_masks(model, 0.2, seed), shape)
        assert (weights(small.model) < weights(model)) == fewer


def test_masks_of_some_layers_and_modes() -> None:
    model = scramble(models.build("resnet8", 3, (1, 8, 8), width=0.5, seed=0), 0).train()
    mask = torch.ones_like(model.get_parameter("conv1.weight"), dtype=torch.bool)
    small = compact(model, {"conv1.weight": mask})
    assert small.training
    assert all(module.training for module in model.modules())
    assert weights(small) == weights(model)


def test_bad_input() -> None:
    class Branching(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            return inputs if inputs.sum() > 0 else -inputs

    with pytest.raises(ConfigurationError, match=r"cannot trace Branching.*must not decide"):
        compact(Branching(), {})
    model = nn.Sequential(nn.Linear(3, 2))
    with pytest.raises(DataError, match=r"Did you mean '0\.weight'"):
        compact(model, {"0.wieght": torch.ones(2, 3).bool()})
    with pytest.raises(DataError, match=r"0.weight has shape \(3, 2\)"):
        compact(model, {"0.weight": torch.ones(3, 2).bool()})
    parametrize.register_parametrization(model[0], "weight", nn.Identity())
    with pytest.raises(ConfigurationError, match="layer 0 is parametrised"):
        compact(model, {})
