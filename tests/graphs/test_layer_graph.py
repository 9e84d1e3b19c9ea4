from __future__ import annotations

import re
import warnings

import numpy as np
import pytest
import torch
from linearised_nets import golden_net
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrize, prune

from espalier.data.torchvision_shim import import_torchvision
from espalier.errors import ConfigurationError, DataError
from espalier.graphs import LayerGraph, edge_count, encode, layer_graph
from espalier.models import build, names


def summary(graph: LayerGraph) -> list[tuple[str, str, str]]:
    """Return (source part, target part, kind) of every block."""
    return [(graph.parts[b.source].name, graph.parts[b.target].name, b.kind) for b in graph.blocks]


# -- whole networks ----------------------------------------------------------------------------

# Cunegatti et al. (2024), CIFAR-10; the classes come on top.
PUBLISHED_NODES = {
    "conv6": 233_366,
    "resnet20": 191_894,
    "resnet32": 306_582,
    "wide_resnet28_2": 478_614,
}


@pytest.mark.parametrize("name", sorted(PUBLISHED_NODES))
@pytest.mark.parametrize("classes", [10, 100, 200])
def test_published_numbers_of_nodes(name: str, classes: int) -> None:
    model = build(name, classes, (3, 32, 32), seed=0)
    expected = PUBLISHED_NODES[name] + classes - 10
    assert layer_graph(model, (3, 32, 32)).nodes == expected
    assert layer_graph(model, (3, 32, 32), convention="published").nodes == expected


@pytest.mark.parametrize("name", sorted({*names(), "mlp-3072-20-10"}))
def test_every_model_has_a_layer_graph(name: str) -> None:
    model = build(name, 10, (3, 32, 32), seed=0)
    graph = layer_graph(model, (3, 32, 32))
    assert graph.parts[0].name == "input"
    assert graph.parts[-1].nodes == 10
    weighted = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(graph.layers) == len(weighted)
    joined = {name for block in graph.blocks for name in block.name.split("+")}
    assert joined == {layer.name for layer in graph.layers}
    assert all(block.source < block.target for block in graph.blocks)
    targets = [block.target for block in graph.blocks]
    assert targets == sorted(targets)
    assert {*targets} == {*range(1, len(graph.parts))}
    assert model.training


# Parts: the input and one per layer, projections apart. Blocks: one per layer, one more for each
# gate of EfficientNet, and one for each of the concatenated maps that a layer of DenseNet reads.
TORCHVISION = {
    "resnet18": (19, 21),
    "resnet50": (51, 54),
    "vgg16": (17, 16),
    "densenet121": (122, 656),
    "mobilenet_v2": (54, 53),
    "efficientnet_b0": (83, 98),
    "convnext_tiny": (60, 59),
}


@pytest.mark.parametrize("name", sorted(TORCHVISION))
def test_torchvision_models(name: str) -> None:
    torchvision = import_torchvision()
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")
        model = getattr(torchvision.models, name)(num_classes=3)
    if name == "vgg16":  # 400 MB of weights for nothing
        model.classifier[0], model.classifier[3] = nn.Linear(25088, 8), nn.Linear(8, 8)
        model.classifier[6] = nn.Linear(8, 3)
    model = model.to_empty(device="cpu")
    for parameter in model.parameters():
        nn.init.constant_(parameter, 0.5)
    graph = layer_graph(model, (3, 64, 64))
    assert (len(graph.parts), len(graph.blocks)) == TORCHVISION[name]
    weighted = {
        f"{n}.weight" for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)
    }
    assert {layer.name for layer in graph.layers} == weighted
    assert graph.parts[-1].nodes == 3


def test_resnet50_counts_at_full_size() -> None:
    torchvision = import_torchvision()
    with torch.device("meta"):
        model = torchvision.models.resnet50()
    model = model.to_empty(device="cpu")
    for parameter in model.parameters():
        nn.init.constant_(parameter, 0.5)
    plain = layer_graph(model, (3, 224, 224), padding_nodes=False)
    assert (plain.nodes, edge_count(plain)) == (9_760_232, 4_553_497_344)
    joined = layer_graph(model, (3, 224, 224), padding_nodes=False, identity_shortcuts=True)
    assert edge_count(joined) - edge_count(plain) == 4_014_080


# -- parts and blocks ----------------------------------------------------------------------------


def test_a_projection_shares_the_part_of_the_main_branch() -> None:
    graph = layer_graph(*golden_net("tiny_res_s2_05"))
    assert ("layer1.0.conv2", "layer2.0.conv2", "residual") in summary(graph)
    assert "layer2.0.shortcut.0" not in {part.name for part in graph.parts}
    kinds = {layer.name: layer.kind for layer in graph.layers}
    assert kinds["layer2.0.shortcut.0.weight"] == "residual"
    assert kinds["linear.weight"] == "linear"


def test_identity_shortcuts_are_an_option() -> None:
    model, shape, masks = golden_net("tiny_res_s1_05")
    plain = layer_graph(model, shape, masks)
    joined = layer_graph(model, shape, masks, identity_shortcuts=True)
    extra = [block for block in joined.blocks if block.kind == "identity"]
    assert [(block.name, block.groups) for block in extra] == [
        ("identity:layer1.0.conv2", 4),
        ("identity:layer2.1.conv2", 6),
    ]
    assert edge_count(joined) - edge_count(plain) == 144 + 216
    assert {float(w) for block in extra for w in block.weight.ravel()} == {1.0}


class SqueezeExcitation(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 1)
        self.reduce, self.expand = nn.Conv2d(4, 2, 1), nn.Conv2d(2, 4, 1)
        self.head = nn.Conv2d(4, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        gate = torch.sigmoid(
            self.expand(functional.relu(self.reduce(functional.adaptive_avg_pool2d(x, 1))))
        )
        return self.head(x * gate)


def test_a_gate_is_a_source_of_what_follows() -> None:
    graph = layer_graph(SqueezeExcitation(), (2, 3, 3))
    assert summary(graph) == [
        ("input", "stem", "conv"),
        ("stem", "reduce", "conv"),
        ("reduce", "expand", "conv"),
        ("stem", "head", "conv"),
        ("expand", "head", "conv"),
    ]
    gate = graph.blocks[4]
    # One gate value per channel reaches all nine positions.
    assert gate.rows.source_size == 1
    assert gate.rows.triples.tolist() == [[0, 0, 0], [0, 1, 0], [0, 2, 0]]


class TwoBranches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(1, 2, 1)
        self.head = nn.Conv2d(2, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.one(x) + self.two(x))


def test_blocks_between_the_same_parts_are_merged() -> None:
    model = TwoBranches()
    graph = layer_graph(model, (1, 4, 4), padding_nodes=False)
    assert [block.name for block in graph.blocks] == ["one.weight+two.weight", "head.weight"]
    # A 3x3 kernel covers the 1x1 kernel: no edges but its own, centre weights added.
    assert edge_count(graph) == 2 * (3 * 4 - 2) ** 2 + 2 * 16
    centre = abs(model.one.weight[:, 0, 1, 1]) + abs(model.two.weight[:, 0, 0, 0])
    first = encode(graph)[[0]].toarray()[0, 16:48].reshape(2, 16)[:, 0]
    np.testing.assert_allclose(first, centre.detach().numpy(), rtol=1e-6)


class UnsharedSum(nn.Module):
    """Both summands are read elsewhere too, so that neither part can hold the sum."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(1, 2, 1), nn.Conv2d(1, 2, 1)
        self.after_one, self.after_two = nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1)
        self.after_sum = nn.Conv2d(2, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        one, two = self.one(x), self.two(x)
        return torch.cat([self.after_one(one), self.after_two(two), self.after_sum(one + two)], 1)


def test_a_sum_of_parts_that_are_read_elsewhere_passes_both_on() -> None:
    joins = summary(layer_graph(UnsharedSum(), (1, 2, 2)))
    assert ("one", "after_sum", "conv") in joins
    assert ("two", "after_sum", "conv") in joins
    assert len(joins) == 6


class ChannelShortcut(nn.Module):
    """Option A of He et al. (2016): every second pixel, new channels zero."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.main = nn.Conv2d(1, 2, 1), nn.Conv2d(2, 4, 3, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        return self.main(x) + functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 1, 1))


def test_a_shortcut_of_slices_and_zero_channels() -> None:
    plain = layer_graph(ChannelShortcut(), (1, 4, 4))
    joined = layer_graph(ChannelShortcut(), (1, 4, 4), identity_shortcuts=True)
    # Merged with the convolution between the same two parts, which covers all its edges.
    assert len(joined.blocks) == len(plain.blocks) == 2
    assert edge_count(joined) == edge_count(plain)
    sparse = {"main.weight": torch.zeros(4, 2, 3, 3, dtype=torch.bool)}
    edges = encode(layer_graph(ChannelShortcut(), (1, 4, 4), sparse, identity_shortcuts=True))
    assert edges[16:].nnz == 2 * 4
    row = edges[[16 + 2]].toarray()[0, 48:]
    # Channel 0, pixel (0, 2) of the stem is channel 1, pixel (0, 1) of the sum.
    assert np.flatnonzero(row).tolist() == [4 + 1]


def test_shared_layers_have_a_part_for_each_call() -> None:
    layer = nn.Conv2d(2, 2, 1)
    graph = layer_graph(nn.Sequential(layer, nn.ReLU(), layer), (2, 3, 3))
    assert [part.name for part in graph.parts] == ["input", "0", "0#2"]
    assert len(graph.layers) == 1


class ChannelsLast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(2, 3, 1), nn.LayerNorm(3)
        self.mix, self.head = nn.Linear(3, 4), nn.Linear(4 * 6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.mix(self.norm(self.stem(x).permute(0, 2, 3, 1)))
        return self.head(x.flatten(1))


def test_dense_layers_on_channels_last() -> None:
    model = ChannelsLast()
    graph = layer_graph(model, (2, 2, 3))
    assert [(p.channels, p.height, p.width) for p in graph.parts[2:]] == [(4, 2, 3), (2, 1, 1)]
    weight = abs(model.head.weight.detach()).reshape(2, 2, 3, 4).permute(0, 3, 1, 2).reshape(2, 24)
    found = encode(graph)[-26:-2, -2:].toarray()
    assert np.array_equal(found, weight.T.numpy())


# -- weights and masks ---------------------------------------------------------------------------


def test_without_masks_edges_are_weights_other_than_zero() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False))
    with torch.no_grad():
        model[0].weight[0] = 0
    assert edge_count(layer_graph(model, (1, 3, 3))) == 9
    kept = {"0.weight": torch.ones(2, 1, 1, 1, dtype=torch.bool)}
    assert edge_count(layer_graph(model, (1, 3, 3), kept)) == 18


def test_the_graph_keeps_the_weights_of_its_time() -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False))
    graph = layer_graph(model, (1, 1, 1))
    before = graph.blocks[0].weight.copy()
    with torch.no_grad():
        model[0].weight.add_(1)
    assert np.array_equal(graph.blocks[0].weight, before)


def test_pruned_and_parametrised_weights_are_the_ones_used() -> None:
    class Double(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * x

    model = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.Conv2d(2, 1, 1, bias=False))
    plain = [layer.weight.detach().clone() for layer in model]
    prune.custom_from_mask(model[0], "weight", torch.tensor([1.0, 0.0]).reshape(2, 1, 1, 1))
    parametrize.register_parametrization(model[1], "weight", Double())
    graph = layer_graph(model, (1, 1, 1))
    assert [block.name for block in graph.blocks] == ["0.weight", "1.weight"]
    assert graph.blocks[0].mask.ravel().tolist() == [True, False]
    assert np.array_equal(graph.blocks[1].weight, 2 * plain[1].numpy())


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ({"0.wieght": torch.ones(2, 1, 1, 1)}, "fits no parameter.*Did you mean '0.weight'"),
        ({"0.weight": torch.ones(1, 2, 1, 1)}, r"shape \(1, 2, 1, 1\), the weight \(2, 1, 1, 1\)"),
    ],
)
def test_masks_that_do_not_fit(masks: dict[str, torch.Tensor], message: str) -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1))
    for convention in ("definition", "published"):
        with pytest.raises(DataError, match=message):
            layer_graph(model, (1, 2, 2), masks, convention=convention)


@pytest.mark.parametrize("convention", ["definition", "published"])
def test_weights_that_are_not_finite(convention: str) -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1))
    with torch.no_grad():
        model[0].weight[1] = float("nan")
    with pytest.raises(DataError, match=r"0\.weight holds 1 weights that are not finite"):
        layer_graph(model, (1, 2, 2), convention=convention)


# -- what cannot be represented ------------------------------------------------------------------


class Calls(nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.stem, self.function = nn.Conv2d(2, 4, 1), function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(self.stem(x))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: torch.einsum("nchw,ncij->nchi", x, x), "does not know the operation.*einsum"),
        (lambda x: x.flip(1), "does not know the operation torch.Tensor.flip in 'body'"),
        (lambda x: x.mean(1, keepdim=True), "torch.Tensor.mean in 'body': it mixes channels"),
        (lambda x: x.view(2, 2, 2, 3, 3), "view in 'body': it mixes channels, rows and columns"),
        (lambda x: x[:, [0, 2]], "picks positions by a list"),
        (lambda x: x[:, ::2], "does not slice channels"),
        (lambda x: x + x.transpose(2, 3), "axes in different orders"),
        (lambda x: functional.conv2d(x, x[:, :, :1, :1]), "its weight depends on the input"),
        (lambda x: torch.stack([x, x], 1), "stack"),
        (lambda x: (x, x), "returns tuple"),
        (lambda x: torch.zeros(2, 3), "returns Tensor; .*depends on the input"),
    ],
)
def test_operations_that_cannot_be_represented(function, message: str) -> None:
    model = nn.Sequential()
    model.add_module("body", Calls(function))
    with pytest.raises(ConfigurationError, match=message):
        layer_graph(model, (2, 3, 3))


def test_an_operation_that_the_output_does_not_need_is_no_matter() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        x.flip(1)
        return x

    assert len(layer_graph(Calls(function), (2, 3, 3)).parts) == 2


def test_an_input_that_the_network_rejects() -> None:
    model = build("small_cnn", 10, (3, 32, 32), seed=0).train()
    message = re.escape("rejects an input of shape (3, 16, 16), in 'dense1'")
    with pytest.raises(DataError, match=message):
        layer_graph(model, (3, 16, 16))
    assert model.training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    with pytest.raises(DataError, match="expected"):
        layer_graph(model, (3, 0, 16))


def test_each_module_keeps_its_own_mode() -> None:
    model = build("medium_cnn", 10, (3, 32, 32), seed=0).train()
    model.norm1.eval()
    layer_graph(model, (3, 32, 32))
    assert model.training
    assert model.norm2.training
    assert not model.norm1.training


def test_an_unknown_convention() -> None:
    with pytest.raises(ConfigurationError, match="unknown convention 'publshed'"):
        layer_graph(nn.Sequential(nn.Conv2d(1, 1, 1)), (1, 2, 2), convention="publshed")
