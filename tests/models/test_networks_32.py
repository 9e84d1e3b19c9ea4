"""The networks for 32x32 images, against the published counts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, fx, nn

from espalier import models
from espalier.errors import DataError
from espalier.pruning import prunable_parameters

CIFAR = (3, 32, 32)

# (network, classes): parameters, prunable weights, their number of tensors. Counted in the public
# code behind Cunegatti et al. (2024), whose papers give 2.3M, 270K and 1.4M; MobileNet-V2 as in the
# code behind the paper of 2023, 2.3M.
COUNTS = {
    ("conv6", 10): (2_265_418, 2_261_184, 9),
    ("conv6", 100): (2_288_548, 2_284_224, 9),
    ("conv6", 200): (2_314_248, 2_309_824, 9),
    ("resnet20", 10): (272_474, 270_896, 22),
    ("resnet20", 100): (278_324, 276_656, 22),
    ("resnet20", 200): (284_824, 283_056, 22),
    ("resnet32", 10): (466_906, 464_432, 34),
    ("resnet32", 100): (472_756, 470_192, 34),
    ("resnet32", 200): (479_256, 476_592, 34),
    ("wide_resnet28_2", 10): (1_467_610, 1_463_984, 29),
    ("wide_resnet28_2", 100): (1_479_220, 1_475_504, 29),
    ("wide_resnet28_2", 200): (1_492_120, 1_488_304, 29),
    ("mobilenet_v2", 10): (2_296_922, 2_261_824, 58),
}

# Nodes of the unrolled multipartite graphs, from the published table of topometrics.
NODES = {
    ("conv6", 10): 233_366,
    ("resnet20", 10): 191_894,
    ("resnet32", 10): 306_582,
    ("wide_resnet28_2", 10): 478_614,
    ("wide_resnet28_2", 100): 478_614 + 90,
    ("conv6", 200): 233_366 + 190,
    ("mobilenet_v2", 200): 1_676_372,
}
NAMES = ("conv6", "resnet8", "resnet20", "resnet32", "wide_resnet28_2", "mobilenet_v2")


@pytest.mark.parametrize(("name", "classes"), COUNTS)
def test_parameters_are_as_many_as_published(name: str, classes: int) -> None:
    model = models.build(name, classes, CIFAR, seed=0)
    prunable = prunable_parameters(model)
    found = (
        sum(parameter.numel() for parameter in model.parameters()),
        sum(weight.numel() for weight in prunable.values()),
        len(prunable),
    )
    assert found == COUNTS[name, classes]


@pytest.mark.parametrize(("name", "classes"), NODES)
def test_maps_are_those_of_the_published_graphs(name: str, classes: int) -> None:
    """One node per entry of the padded input and of every output, shortcuts left out."""
    model = models.build(name, classes, CIFAR).eval()
    nodes = [3 * 34 * 34]
    for key, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear) and "shortcut" not in key:
            layer.register_forward_hook(lambda _, __, outputs: nodes.append(outputs.numel()))
    model(torch.zeros(1, *CIFAR))
    assert sum(nodes) == NODES[name, classes]


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("conv6", "Conv-6"),
        ("resnet20", "Resnet-20"),
        ("resnet32", "Resnet-32"),
        ("wide_resnet28_2", "Wide-Resnet-28-2"),
    ],
)
def test_layers_stand_in_the_published_order(name: str, published: str) -> None:
    goldens = Path(__file__).parents[2] / "../shared/goldens/pruners/layer_densities.json"
    if not goldens.exists():
        pytest.skip("the table of published layers is not at hand")
    table = json.loads(goldens.read_text())
    for classes, dataset in ((10, "cifar10"), (100, "cifar100"), (200, "tinyimagenet")):
        shapes = [w.shape for w in prunable_parameters(models.build(name, classes, CIFAR)).values()]
        expected = table[f"{published}/{dataset}"]["shapes"].values()
        assert [tuple(shape) for shape in shapes] == [tuple(shape) for shape in expected]


@pytest.mark.parametrize("name", NAMES)
def test_shortcuts_come_last_in_their_block(name: str) -> None:
    weights = list(prunable_parameters(models.build(name, 10, CIFAR)))
    shortcuts = [key for key in weights if "shortcut" in key]
    expected = {"conv6": 0, "mobilenet_v2": 4, "wide_resnet28_2": 3}.get(name, 2)
    assert len(shortcuts) == expected
    for key in shortcuts:
        block = key.partition("shortcut")[0]
        assert [k for k in weights if k.startswith(block)][-1] == key


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(1, 8, 8), (2, 17, 12), (3, 32, 32)])
def test_any_images_and_widths(name: str, shape: tuple[int, int, int]) -> None:
    model = models.build(name, 7, shape, width=0.25, seed=0)
    assert model(torch.randn(2, *shape)).shape == (2, 7)
    fx.symbolic_trace(model)
    channels = prunable_parameters(model)["conv1.weight"]
    full = prunable_parameters(models.build(name, 7, shape))["conv1.weight"]
    assert channels.shape == (len(full) // 4, shape[0], 3, 3)


@pytest.mark.parametrize("name", NAMES)
def test_too_small_images_are_refused(name: str) -> None:
    with pytest.raises(DataError, match=f"{name} does not fit 3x40 images"):
        models.build(name, 7, (1, 3, 40))


def by_hand(model: nn.Module, maps: Tensor, prefix: str, parts: str) -> Tensor:
    """Apply children by name: c convolution, n batch norm, r ReLU."""
    for part in parts.split():
        kind, number = part[0], part[1:]
        name = {"c": "conv", "n": "norm", "r": "relu"}[kind] + number
        maps = model.get_submodule(f"{prefix}.{name}")(maps)
    return maps


@pytest.mark.parametrize(
    ("name", "block", "branch", "activation", "channels"),
    [
        ("resnet20", "stage2.0", "c1 n1 r1 c2 n2", "relu", 16),
        ("resnet20", "stage2.1", "c1 n1 r1 c2 n2", "relu", 32),
        ("wide_resnet28_2", "stage2.0", "n1 r1 c1 n2 r2 c2", "first", 32),
        ("wide_resnet28_2", "stage2.1", "n1 r1 c1 n2 r2 c2", "none", 64),
        ("mobilenet_v2", "stages.1.0", "c1 n1 r1 c2 n2 r2 c3 n3", "none", 16),
        ("mobilenet_v2", "stages.2.0", "c1 n1 r1 c2 n2 r2 c3 n3", "no shortcut", 24),
        ("mobilenet_v2", "stages.2.1", "c1 n1 r1 c2 n2 r2 c3 n3", "none", 32),
    ],
)
def test_blocks_add_what_their_paper_adds(
    name: str, block: str, branch: str, activation: str, channels: int
) -> None:
    model = models.build(name, 10, CIFAR, seed=0).eval()
    maps = torch.randn(2, channels, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = by_hand(model, maps, block, branch)
    module = model.get_submodule(block)
    if activation != "no shortcut":
        around = by_hand(model, maps, block, "n1 r1") if activation == "first" else maps
        expected = expected + module.get_submodule("shortcut")(around)
    if activation == "relu":
        expected = expected.relu()
    assert torch.equal(module(maps), expected)


def test_conv6_is_the_published_chain() -> None:
    model = models.build("conv6", 10, CIFAR)
    kinds = "".join(type(layer).__name__[0] for layer in model.children())  # F Flatten, M MaxPool
    assert kinds == "CBRCBRM" * 3 + "F" + "LBR" * 2 + "L"
    layers = [layer for layer in model.children() if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert all(layer.bias is not None for layer in layers)


def test_the_table_of_the_docs() -> None:
    lines = (Path(__file__).parents[2] / "docs/networks.md").read_text().splitlines()
    rows = [line.split("|") for line in lines if line.startswith("| `")]
    table = {row[1].strip().strip("`"): row[2:6] for row in rows}
    assert set(models.names()) < set(table)
    for name, (layers, parameters, weights, smallest) in table.items():
        model = models.build(name, 10, CIFAR)
        prunable = prunable_parameters(model)
        assert len(prunable) == int(layers)
        assert sum(p.numel() for p in model.parameters()) == int(parameters.replace(",", ""))
        assert sum(w.numel() for w in prunable.values()) == int(weights.replace(",", ""))
        side = int(smallest.split("x")[0])
        if not name.startswith("mlp"):
            models.build(name, 10, (3, side, side)).eval()(torch.zeros(1, 3, side, side))
            with pytest.raises(DataError, match="the smallest it takes"):
                models.build(name, 10, (3, side - 1, side))
