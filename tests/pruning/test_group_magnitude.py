from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_networks import masked, random_network, scramble
from torch import Tensor, nn

from espalier import models
from espalier.errors import ConfigurationError, DataError
from espalier.pruning import (
    achieved_sparsity,
    apply_masks,
    prunable_parameters,
    prune,
    scores,
    unit_masks,
)
from espalier.pruning.dead_units import remove_dead_units
from espalier.pruning.group_magnitude import removal_counts, unit_groups, unit_saliency

WIDTHS = {
    "small_cnn": [32, 64, 64, 32],
    "medium_cnn": [64, 64, 128, 128, 128, 64],
    "conv6_thesis": [64, 64, 128, 128, 256, 256, 256, 256],
}


def alive_counts(masks: dict[str, torch.Tensor]) -> list[int]:
    return [int(alive.sum()) for alive in unit_masks(masks).values()]


# Removed units of the thesis's code, and kept units of its larger networks.
@pytest.mark.parametrize(
    ("model", "sparsity", "kept"),
    [
        ("small_cnn", 0.675, [12, 20, 20, 10]),
        ("small_cnn", 0.9, [4, 6, 6, 3]),
        ("medium_cnn", 0.9, [10, 6, 12, 12, 12, 6]),
        ("conv6_thesis", 0.9, [11, 6, 12, 12, 25, 25, 25, 25]),
    ],
)
def test_published_counts(model: str, sparsity: float, kept: list[int]) -> None:
    network = models.build(model, 10, (1, 28, 28), seed=0)
    masks = prune("group_magnitude", network, (), sparsity, counts="published")
    assert alive_counts(masks) == [*kept, 10]


def test_layerwise_counts_round_up_in_every_layer() -> None:
    assert removal_counts(WIDTHS["small_cnn"], 0.675) == [22, 44, 44, 22]
    assert removal_counts(WIDTHS["small_cnn"], 0.9) == [29, 58, 58, 29]
    assert removal_counts([10, 10], 0.7) == [7, 7]  # 0.7 * 10 is 7.000000000000001


@given(st.lists(st.integers(1, 300), min_size=1, max_size=8), st.floats(0, 0.99))
def test_counts_of_any_network(widths: list[int], sparsity: float) -> None:
    layerwise = removal_counts(widths, sparsity)
    published = removal_counts(widths, sparsity, "published")
    for count, width in zip(layerwise, widths, strict=True):
        assert sparsity * width - 1e-6 <= count < sparsity * width + 1
    assert published[1:] == layerwise[1:]
    assert 0 <= published[0] <= layerwise[0]
    assert sum(published) <= sum(layerwise)


def chain() -> nn.Sequential:
    """Two channels of 2x2 maps into 3 dense units into 2 outputs, with weights set by hand."""
    model = nn.Sequential(
        nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3), nn.ReLU(), nn.Linear(3, 2)
    )
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([1.0, 3.0]).reshape(2, 1, 1, 1))
        model[3].weight.copy_(torch.tensor([[1.0], [0.5], [-2.0]]).expand(3, 8))
        model[3].weight[:, 4:] = 0.1
        model[5].weight.copy_(torch.tensor([[1.0, -9.0, 0.0], [1.0, 9.0, 0.0]]))
    return model


def test_saliency_by_hand_and_through_the_flattening() -> None:
    values = scores("group_magnitude", chain(), ())
    # channel 0: |1| in, 4 pixels x (1 + .5 + 2) out; channel 1: |3| in, 4 pixels x .3 out
    assert values["0.weight"].flatten().tolist() == pytest.approx([15.0, 4.2])
    assert values["3.weight"][:, 0].tolist() == pytest.approx([4.4 + 2, 2.4 + 18, 8.4 + 0])
    assert bool((values["3.weight"] == values["3.weight"][:, :1]).all())
    assert bool(values["5.weight"].isinf().all())


def test_masks_by_hand() -> None:
    masks = prune("group_magnitude", chain(), (), 0.5)
    assert masks["0.weight"].flatten().tolist() == [True, False]
    expected = torch.zeros(3, 8, dtype=torch.bool)
    expected[1, :4] = True  # ceil(.5 * 3) = 2 of 3 go: units 0 and 2
    assert torch.equal(masks["3.weight"], expected)
    assert masks["5.weight"].tolist() == [[False, True, False]] * 2


def test_ties_go_by_index() -> None:
    model = chain()
    for parameter in model.parameters():
        nn.init.ones_(parameter)
    masks = prune("group_magnitude", model, (), 0.4)
    assert unit_masks(masks)["3.weight"].tolist() == [False, False, True]


@pytest.mark.parametrize("model", WIDTHS)
@pytest.mark.parametrize("sparsity", [0.25, 0.675, 0.9])
def test_removed_units_have_no_influence(model: str, sparsity: float) -> None:
    network = models.build(model, 10, (1, 20, 20), width=0.5, seed=1).eval()
    masks = prune("group_magnitude", network, (), sparsity)
    apply_masks(network, masks)
    inputs = torch.randn(3, 1, 20, 20)
    expected = network(inputs)
    generator = torch.Generator().manual_seed(0)
    layers = [layer for layer in network if isinstance(layer, nn.Conv2d | nn.Linear)]
    with torch.no_grad():
        for layer, alive in zip(layers[:-1], unit_masks(masks).values(), strict=False):
            layer.bias[~alive] = torch.randn(int((~alive).sum()), generator=generator)
    assert torch.equal(network(inputs), expected)


def test_removed_units_are_those_of_smallest_saliency() -> None:
    network = models.build("small_cnn", 10, (1, 28, 28), seed=0)
    masks = prune("group_magnitude", network, (), 0.75)
    values = scores("group_magnitude", network, ())
    for name, alive in list(unit_masks(masks).items())[:-1]:
        saliency = values[name].flatten(1)[:, 0]
        assert saliency[~alive].max() <= saliency[alive].min()
        assert int((~alive).sum()) == math.ceil(0.75 * len(alive))


def test_weight_sparsity_exceeds_unit_sparsity() -> None:
    network = models.build("small_cnn", 10, (1, 28, 28), seed=0)
    shares = achieved_sparsity(prune("group_magnitude", network, (), 0.5))
    assert shares["conv1.weight"] == 0.5
    assert shares["conv2.weight"] == 0.75
    assert shares["output.weight"] == 0.5


class Unordered(nn.Module):
    """The layers of `chain`, defined in another order than they run in."""

    def __init__(self) -> None:
        super().__init__()
        layers = chain()
        self.last, self.hidden, self.first = layers[5], layers[3], layers[0]

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.hidden(self.first(images).relu().flatten(1))
        return self.last(torch.relu(hidden))


@pytest.mark.parametrize("counts", ["layerwise", "published"])
def test_a_chain_needs_no_sequential(counts: str) -> None:
    names = {"0.weight": "first.weight", "3.weight": "hidden.weight", "5.weight": "last.weight"}
    ours, theirs = (
        (
            prune("group_magnitude", model, (), 0.5, counts=counts),
            scores("group_magnitude", model, ()),
        )
        for model in (Unordered(), chain())
    )
    for name, other in names.items():
        assert torch.equal(ours[0][other], theirs[0][name])
        assert torch.equal(ours[1][other], theirs[1][name])


def test_saliency_of_a_chain_without_groups() -> None:
    parameters = prunable_parameters(models.build("conv6", 10, (3, 32, 32), width=0.25, seed=0))
    model = models.build("conv6", 10, (3, 32, 32), width=0.25, seed=0)
    of_chain = unit_saliency(parameters)
    of_groups = unit_saliency(parameters, unit_groups(model, parameters))
    assert list(of_chain) == list(of_groups) == list(parameters)[:-1]
    assert all(torch.equal(of_chain[name], values) for name, values in of_groups.items())


class Tied(nn.Module):
    """Two channels that an addition ties, a depthwise filter for each, and 2x2 maps flattened."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 2, 1)
        self.inner = nn.Conv2d(2, 2, 1)
        self.depthwise = nn.Conv2d(2, 2, 1, groups=2)
        self.last = nn.Linear(8, 2)
        with torch.no_grad():
            self.first.weight.copy_(torch.tensor([1.0, -2.0]).reshape(2, 1, 1, 1))
            self.inner.weight.copy_(torch.tensor([[10.0, 20.0], [40.0, 80.0]])[..., None, None])
            self.depthwise.weight.copy_(torch.tensor([0.5, 0.25]).reshape(2, 1, 1, 1))
            self.last.weight.copy_(torch.arange(16.0).reshape(2, 8))

    def forward(self, images: Tensor) -> Tensor:
        maps = self.first(images)
        maps = maps + self.inner(maps)
        return self.last(torch.flatten(self.depthwise(maps), 1))


def test_tied_units_by_hand() -> None:
    model = Tied()
    # Unit 0: 1 into first; 10 + 20 into inner, and 40 out of it (its 10 is counted); .5 of the
    # filter once; the columns 0 to 3 of last.
    expected = [
        1 + (10 + 20) + 40 + 0.5 + (0 + 1 + 2 + 3 + 8 + 9 + 10 + 11),
        2 + (40 + 80) + 20 + 0.25 + (4 + 5 + 6 + 7 + 12 + 13 + 14 + 15),
    ]
    values = scores("group_magnitude", model, ())
    for layer in ("first", "inner", "depthwise"):
        assert values[f"{layer}.weight"].flatten(1)[:, 0].tolist() == pytest.approx(expected)
    masks = prune("group_magnitude", model, (), 0.5)
    for layer in ("first", "depthwise"):
        assert masks[f"{layer}.weight"].flatten().tolist() == [False, True]
    assert masks["inner.weight"].flatten(1).tolist() == [[False, False], [False, True]]
    assert masks["last.weight"].tolist() == [[False] * 4 + [True] * 4] * 2


@pytest.mark.parametrize("name", ["resnet8", "mobilenet_v2"])
def test_removed_channels_of_a_residual_network_are_gone(name: str) -> None:
    model = scramble(models.build(name, 10, (3, 32, 32), width=0.25, seed=0), 1).eval()
    parameters = prunable_parameters(model)
    masks = prune("group_magnitude", model, (), 0.5)
    small = remove_dead_units(model, masks)
    left = {f"{layer.name}.weight": layer.kept_units for layer in small.layers}
    assert left == {key: int(alive.sum()) for key, alive in unit_masks(masks).items()}
    groups = unit_groups(model, parameters)
    assert max(len(group.writers) for group in groups) >= 2
    for group in groups:
        for key in group.writers:
            assert left[key] == group.width - math.ceil(0.5 * group.width)
    written = [key for group in groups for key in group.writers]
    assert sorted([*written, "output.weight"]) == sorted(parameters)
    assert all(bool(mask.all()) for mask in small.masks.values())
    inputs = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    expected = masked(copy.deepcopy(model), masks)(inputs)
    scale = float(expected.detach().abs().max())
    torch.testing.assert_close(small.model(inputs), expected, rtol=1e-5, atol=1e-5 * scale)


def test_channels_of_a_stage_go_together() -> None:
    model = models.build("resnet8", 10, (3, 32, 32), width=0.25, seed=0)
    masks = prune("group_magnitude", model, (), 0.5)
    alive = unit_masks(masks)
    stage = alive["conv1.weight"]
    assert torch.equal(alive["stage1.0.conv2.weight"], stage)
    for reader in ("stage1.0.conv1", "stage2.0.conv1", "stage2.0.shortcut.0"):
        reads = masks[f"{reader}.weight"].transpose(0, 1).flatten(1).any(dim=1)
        assert torch.equal(reads, stage)
    values = scores("group_magnitude", model, ())
    assert torch.equal(
        values["conv1.weight"].flatten(1)[:, 0], values["stage1.0.conv2.weight"].flatten(1)[:, 0]
    )


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.3, 0.5]))
def test_any_network_loses_the_units_of_its_groups(seed: int, sparsity: float) -> None:
    model = random_network(seed).eval()
    groups = unit_groups(model, prunable_parameters(model))
    widths = [group.width for group in groups]
    counts = removal_counts(widths, sparsity)
    if any(count == width for count, width in zip(counts, widths, strict=True)):
        with pytest.raises(ConfigurationError, match="would remove all"):
            prune("group_magnitude", model, (), sparsity)
        return
    masks = prune("group_magnitude", model, (), sparsity)
    alive = unit_masks(masks)
    for group, count in zip(groups, counts, strict=True):
        for name, units in group.writers.items():
            gone = {int(unit) for unit in units[~alive[name].numpy()]} - {-1}
            assert len(gone) == count
    small = remove_dead_units(model, masks)
    assert all(bool(mask.all()) for mask in small.masks.values())
    inputs = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(seed))
    expected = masked(copy.deepcopy(model), masks)(inputs)
    scale = float(expected.detach().abs().max().clamp(min=1))
    torch.testing.assert_close(small.model(inputs), expected, rtol=1e-4, atol=1e-4 * scale)


class Sorted(nn.Module):
    """An operation that channels cannot be followed through."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.sort(dim=1).values


def test_pinned_and_excluded_units_stay() -> None:
    layers = [nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2)]
    model = nn.Sequential(*layers[:2], Sorted(), *layers[2:])
    assert alive_counts(prune("group_magnitude", model, (), 0.5)) == [5, 2, 2]
    assert bool(scores("group_magnitude", model, ())["0.weight"].isinf().all())
    model = nn.Sequential(*layers[:4], nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    masks = prune("group_magnitude", model, (), 0.5, exclude={"2.weight"})
    assert alive_counts(masks) == [5, 4, 2]  # what feeds 2.weight stays, and so does what it feeds
    with pytest.raises(ConfigurationError, match="defined for chains"):
        prune("group_magnitude", model, (), 0.5, exclude={"2.weight"}, counts="published")


def test_errors() -> None:
    thin = models.build("small_cnn", 10, (1, 8, 8), width=0.1)
    with pytest.raises(ConfigurationError, match=r"remove all 3 units of conv1; lower"):
        prune("group_magnitude", thin, (), 0.9)
    residual = models.build("resnet8", 10, (1, 8, 8), width=0.1)
    with pytest.raises(ConfigurationError, match=r"all 2 units of conv1, stage1\.0\.conv2; lower"):
        prune("group_magnitude", residual, (), 0.9)
    with pytest.raises(ConfigurationError, match="chains of layers, which ResidualNetwork is not"):
        prune("group_magnitude", residual, (), 0.5, counts="published")
    network = models.build("small_cnn", 10, (1, 8, 8))
    with pytest.raises(ConfigurationError, match="'layerwise' or 'published'"):
        prune("group_magnitude", network, (), 0.5, counts="thesis")
    with pytest.raises(ConfigurationError, match="cannot trace ModuleDict"):
        prune("group_magnitude", nn.ModuleDict({"a": nn.Linear(2, 2)}), (), 0.5)
    broken = nn.Sequential(nn.Linear(4, 3), nn.Linear(4, 2))
    with pytest.raises(ConfigurationError, match=r"no hidden unit to remove: .*1 \(Linear\)"):
        prune("group_magnitude", broken, (), 0.5)
    with pytest.raises(ConfigurationError, match=r"1.weight has 4 inputs, which 3 units of 0"):
        unit_saliency(prunable_parameters(broken))
    with torch.no_grad():
        network.get_parameter("conv2.weight")[1, 2] = math.nan
    with pytest.raises(DataError, match=r"not finite in conv2\.weight"):
        prune("group_magnitude", network, (), 0.5)
