from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from espalier import models
from espalier.errors import ConfigurationError
from espalier.pruning import achieved_sparsity, apply_masks, prune, scores, unit_masks
from espalier.pruning.group_magnitude import removal_counts

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


def test_errors() -> None:
    thin = models.build("small_cnn", 10, (1, 8, 8), width=0.1)
    with pytest.raises(ConfigurationError, match=r"remove all 3 units of conv1; lower"):
        prune("group_magnitude", thin, (), 0.9)
    network = models.build("small_cnn", 10, (1, 8, 8))
    with pytest.raises(ConfigurationError, match="'layerwise' or 'published'"):
        prune("group_magnitude", network, (), 0.5, counts="thesis")
    with pytest.raises(ConfigurationError, match="needs a chain"):
        prune("group_magnitude", nn.ModuleDict({"a": nn.Linear(2, 2)}), (), 0.5)
    broken = nn.Sequential(nn.Linear(4, 3), nn.Linear(4, 2))
    with pytest.raises(ConfigurationError, match=r"1.weight has 4 inputs, which 3 units of 0"):
        prune("group_magnitude", broken, (), 0.5)
