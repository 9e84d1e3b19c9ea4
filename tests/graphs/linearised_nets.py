"""Networks with known graphs: the goldens' ones, and random ones with a Jacobian of every part."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

GOLDENS = Path(__file__).parents[1] / "goldens" / "graph_encodings"
SHARED = Path(__file__).parents[3] / "shared" / "goldens" / "graph_encodings"


class BasicBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.conv2(functional.relu(self.conv1(x))) + self.shortcut(x))


class ResidualNet(nn.Module):
    def __init__(
        self, widths: list[int], strides: list[int], blocks: list[int], classes: int
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 3, 1, 1, bias=False)
        inputs = widths[0]
        for stage, (width, stride, count) in enumerate(zip(widths, strides, blocks, strict=True)):
            layers = []
            for block in range(count):
                layers.append(BasicBlock(inputs, width, stride if block == 0 else 1))
                inputs = width
            self.add_module(f"layer{stage + 1}", nn.Sequential(*layers))
        self.stages = len(widths)
        self.linear = nn.Linear(inputs, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.conv1(x))
        for stage in range(self.stages):
            x = getattr(self, f"layer{stage + 1}")(x)
        return self.linear(functional.avg_pool2d(x, x.shape[2:]).flatten(1))


def _chain(**layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(layers))


def _conv6() -> nn.Module:
    layers: list[nn.Module] = []
    for inputs, outputs in ((3, 64), (64, 128), (128, 256)):
        layers += [nn.Conv2d(inputs, outputs, 3, 1, 1), nn.Identity(), nn.ReLU()]
        layers += [nn.Conv2d(outputs, outputs, 3, 1, 1), nn.ReLU(), nn.Identity(), nn.MaxPool2d(2)]
    dense = [nn.Linear(4096, 256), nn.ReLU(), nn.ReLU(), nn.Linear(256, 256)]
    dense += [nn.ReLU(), nn.ReLU(), nn.Linear(256, 10)]
    return _chain(convs1=nn.Sequential(*layers), flatten=nn.Flatten(), linear=nn.Sequential(*dense))


def _strided(features: int) -> nn.Module:
    return _chain(
        conv1=nn.Conv2d(3, 4, 3, 1, 1),
        conv2=nn.Conv2d(4, 4, 3, 2, 1),
        pool=nn.MaxPool2d(2),
        flatten=nn.Flatten(),
        linear=nn.Linear(features, 5),
    )


def _pooled() -> nn.Module:
    return _chain(
        conv1=nn.Conv2d(3, 4, 3, 1, 1),
        conv2=nn.Conv2d(4, 4, 3, 1, 1),
        pool=nn.MaxPool2d(2),
        conv3=nn.Conv2d(4, 6, 3, 1, 1),
        conv4=nn.Conv2d(6, 6, 3, 1, 1),
        pool2=nn.AvgPool2d(2),
        flatten=nn.Flatten(),
        linear=nn.Linear(24, 5),
    )


_NETS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "tiny_s2": (lambda: _strided(4), 6),
    "tiny_odd": (lambda: _strided(16), 7),
    "tiny_pool": (_pooled, 8),
    "tiny_res_s1": (lambda: ResidualNet([4, 6], [1, 1], [1, 2], 5), 6),
    "tiny_res_s2": (lambda: ResidualNet([4, 6], [1, 2], [1, 2], 5), 6),
    "conv6_erk": (_conv6, 32),
    "resnet20_erk": (lambda: ResidualNet([16, 32, 64], [1, 2, 2], [3, 3, 3], 10), 32),
}


def golden_net(
    case: str, folder: Path = GOLDENS
) -> tuple[nn.Module, tuple[int, int, int], dict[str, torch.Tensor]]:
    """Return the network of a golden with its weights, its input shape and its masks."""
    build, side = _NETS[case.rpartition("_")[0]]
    model, masks = build(), {}
    with np.load(folder / f"{case}.npz") as archive, torch.no_grad():
        for key in archive.files:
            kind, _, name = key.split("_", 2)
            if kind == "weight":
                model.get_submodule(name).weight.copy_(torch.from_numpy(archive[key]))
            else:
                masks[f"{name}.weight"] = torch.from_numpy(archive[key]).bool()
    return model, (3, side, side), masks


# -- random networks -----------------------------------------------------------------------------


class RandomNet(nn.Module):
    """A network from a list of steps, with a second forward pass that is linear part by part."""

    def __init__(self, shape: tuple[int, int, int], steps: list[dict[str, Any]]) -> None:
        super().__init__()
        self.input_shape, self.steps = shape, steps
        self.layers = nn.ModuleDict()
        for number, step in enumerate(steps):
            for name, layer in step.get("layers", {}).items():
                self.layers[f"{number}_{name}"] = layer()
                if isinstance(self.layers[f"{number}_{name}"], nn.Conv2d):
                    channels = self.layers[f"{number}_{name}"].weight.shape[0]
                    self.layers[f"{number}_{name}_norm"] = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for number, step in enumerate(self.steps):

            def layer(name: str, value: torch.Tensor, number: int = number) -> torch.Tensor:
                value = self.layers[f"{number}_{name}"](value)
                norm = f"{number}_{name}_norm"
                return self.layers[norm](value) if norm in self.layers else value

            kind = step["kind"]
            if kind == "conv":
                x = functional.relu(layer("conv", x))
            elif kind == "pool":
                pool = functional.max_pool2d if step["maximum"] else functional.avg_pool2d
                x = pool(x, *step["window"], ceil_mode=step["ceil"])
            elif kind == "adaptive":
                x = functional.adaptive_avg_pool2d(x, step["size"])
            elif kind == "projection":
                main = layer("main", x)
                main += layer("around", x)
                x = torch.relu(main)
            elif kind == "identity":
                x = functional.silu(torch.add(x, layer("main", x)))
            elif kind == "concatenation":
                x = torch.cat([layer("one", x).relu(), layer("two", x).sigmoid()], 1)
            elif kind == "dense":
                x = x.mean((2, 3)) if step["mean"] else x.view(x.size(0), -1)
                x = layer("dense", x)
        return x

    def parts(
        self, masks: dict[str, torch.Tensor], padding_nodes: bool, identity: bool
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Return the tensors of all parts, and as leaves what the later parts read of them.

        Weights are absolute and masked. Pools in a row are one window, of all that they reach; the
        window is added up. Nothing else is done.
        """
        outputs, leaves = [], []
        pools: list[Callable[[torch.Tensor], torch.Tensor]] = []

        def pooled(value: torch.Tensor) -> torch.Tensor:
            height, width = value.shape[2:]
            window = torch.eye(height * width, dtype=torch.float64).reshape(-1, 1, height, width)
            for pool in pools:
                window = pool(window)
            pools.clear()
            reached = (window > 0).double()
            return torch.einsum("ncr,rhw->nchw", value.flatten(2), reached[:, 0])

        def part(value: torch.Tensor) -> torch.Tensor:
            outputs.append(value)
            leaves.append(value.detach().requires_grad_())
            return leaves[-1]

        def weighted(number: int, name: str, value: torch.Tensor, padded: bool = False):
            module = self.layers[f"{number}_{name}"]
            weight = module.weight.detach().double().abs()
            weight = weight * masks[f"layers.{number}_{name}.weight"]
            if isinstance(module, nn.Linear):
                return functional.linear(value, weight)
            padding = 0 if padded else module.padding
            return functional.conv2d(
                value, weight, None, module.stride, padding, module.dilation, module.groups
            )

        x = torch.zeros(1, *self.input_shape, dtype=torch.float64)
        first = self.steps[0]
        inside = padding_nodes and first["kind"] in ("conv", "identity") and first["padding"]
        x = part(functional.pad(x, [first["padding"]] * 4) if inside else x)
        for number, step in enumerate(self.steps):
            kind = step["kind"]
            own = bool(inside) and number == 0
            if kind == "dense" and step["mean"]:
                pools.append(lambda value: value.sum((2, 3), keepdim=True))
            if kind not in ("pool", "adaptive"):
                x = pooled(x)
            if kind == "conv":
                x = part(weighted(number, "conv", x, own))
            elif kind == "pool":
                pools.append(partial(_sum_pool, window=step["window"], ceil=step["ceil"]))
            elif kind == "adaptive":
                pools.append(partial(_adaptive_sum_pool, size=step["size"]))
            elif kind == "projection":
                x = part(weighted(number, "main", x) + weighted(number, "around", x))
            elif kind == "identity":
                main = weighted(number, "main", x, own)
                p = step["padding"] if own else 0
                around = x[:, :, p : x.shape[2] - p, p : x.shape[3] - p]
                x = part(main + around if identity else main)
            elif kind == "concatenation":
                one, two = weighted(number, "one", x), weighted(number, "two", x)
                x = torch.cat([part(one), part(two)], 1)
            elif kind == "dense":
                x = part(weighted(number, "dense", x.flatten(1)))
        return outputs, leaves

    def adjacency(
        self, masks: dict[str, torch.Tensor], padding_nodes: bool, identity: bool
    ) -> np.ndarray:
        """Return the weighted adjacency from one-hot Jacobians, (nodes, nodes) float64."""
        outputs, leaves = self.parts(masks, padding_nodes, identity)
        starts = np.cumsum([0, *[leaf.numel() for leaf in leaves]])
        matrix = np.zeros((starts[-1], starts[-1]))
        for index, output in enumerate(outputs):
            if not output.requires_grad:
                continue
            size = output.numel()
            one_hot = torch.eye(size, dtype=torch.float64).reshape(size, *output.shape)
            gradients = torch.autograd.grad(
                output, leaves, one_hot, is_grads_batched=True, allow_unused=True, retain_graph=True
            )
            for source, gradient in enumerate(gradients):
                if gradient is not None:
                    rows = slice(starts[source], starts[source + 1])
                    columns = slice(starts[index], starts[index + 1])
                    matrix[rows, columns] = gradient.reshape(size, -1).T.numpy()
        return matrix


def _sum_pool(x: torch.Tensor, window: tuple[int, int, int], ceil: bool) -> torch.Tensor:
    kernel, stride, padding = window
    height, width = functional.max_pool2d(x, kernel, stride, padding, ceil_mode=ceil).shape[2:]
    bottom = max(0, (height - 1) * stride + kernel - padding - x.shape[2])
    right = max(0, (width - 1) * stride + kernel - padding - x.shape[3])
    x = functional.pad(x, [padding, right, padding, bottom])
    channels = x.shape[1]
    ones = torch.ones(channels, 1, kernel, kernel, dtype=x.dtype)
    return functional.conv2d(x, ones, stride=stride, groups=channels)[:, :, :height, :width]


def _adaptive_sum_pool(x: torch.Tensor, size: int) -> torch.Tensor:
    for dim in (2, 3):
        n = x.shape[dim]
        pieces = []
        for i in range(size):
            start, stop = i * n // size, -(-(i + 1) * n // size)
            pieces.append(x.narrow(dim, start, stop - start).sum(dim, keepdim=True))
        x = torch.cat(pieces, dim)
    return x


@st.composite
def random_nets(draw: st.DrawFn) -> RandomNet:
    """Draw a network: kernels 1 to 5, strides 1 to 3, padding, dilation, groups, pools, joins."""

    def number(low: int, high: int) -> int:
        return draw(st.integers(low, high))

    shape = channels, height, width = number(1, 3), number(4, 8), number(4, 8)
    steps: list[dict[str, Any]] = []
    kinds = ("conv", "conv", "pool", "adaptive", "projection", "identity", "concatenation")
    for place in range(number(1, 4)):
        kind = draw(st.sampled_from(("conv", "identity") if place == 0 else kinds))
        inputs = channels
        if kind == "conv":
            kernels = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
            padding, dilation = number(0, 2), number(1, 2)
            stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
            if min(height, width) + 2 * padding <= dilation * (max(kernels) - 1):
                kernels = (1, 1)
            groups = draw(st.sampled_from([g for g in (1, 2, 3, 4) if inputs % g == 0]))
            channels = groups * number(1, 2)
            height, width = (
                (side + 2 * padding - dilation * (kernel - 1) - 1) // step + 1
                for side, kernel, step in zip((height, width), kernels, stride, strict=True)
            )
            arguments = (inputs, channels, kernels, stride, padding, dilation, groups)
            layers = {"conv": lambda a=arguments: nn.Conv2d(*a)}
            steps.append({"kind": kind, "layers": layers, "padding": padding})
        elif kind == "pool":
            kernel, stride, ceil = number(1, 3), number(1, 3), draw(st.booleans())
            padding = number(0, kernel // 2)
            if min(height, width) + 2 * padding < kernel:
                continue
            sample = torch.zeros(1, 1, height, width)
            height, width = functional.max_pool2d(
                sample, kernel, stride, padding, ceil_mode=ceil
            ).shape[2:]
            window = (kernel, stride, padding)
            steps.append(
                {"kind": kind, "window": window, "ceil": ceil, "maximum": draw(st.booleans())}
            )
        elif kind == "adaptive":
            height = width = number(1, 3)
            steps.append({"kind": kind, "size": height})
        elif kind == "projection":
            channels, stride = number(1, 4), number(1, 2)
            height, width = (height - 1) // stride + 1, (width - 1) // stride + 1
            layers = {
                "main": lambda a=(inputs, channels, 3, stride, 1): nn.Conv2d(*a),
                "around": lambda a=(inputs, channels, 1, stride): nn.Conv2d(*a),
            }
            steps.append({"kind": kind, "layers": layers})
        elif kind == "identity":
            layers = {"main": lambda a=(inputs, inputs, 3, 1, 1): nn.Conv2d(*a)}
            steps.append({"kind": kind, "layers": layers, "padding": 1})
        else:
            one, two = number(1, 2), number(1, 2)
            channels = one + two
            layers = {
                "one": lambda a=(inputs, one, 1): nn.Conv2d(*a),
                "two": lambda a=(inputs, two, 3, 1, 1): nn.Conv2d(*a),
            }
            steps.append({"kind": kind, "layers": layers})
    mean = draw(st.booleans())
    features = channels if mean else channels * height * width
    classes = number(1, 3)
    dense = {"dense": lambda: nn.Linear(features, classes)}
    steps.append({"kind": "dense", "mean": mean, "layers": dense})
    return RandomNet(shape, steps).eval()


def random_masks(net: nn.Module, seed: int) -> dict[str, torch.Tensor]:
    """Return masks of random density, one layer in five empty, of all weights with a kernel."""
    generator = torch.Generator().manual_seed(seed)
    masks = {}
    for name, parameter in net.named_parameters():
        if parameter.dim() > 1:
            density = max(0.0, 1.25 * float(torch.rand(1, generator=generator)) - 0.25)
            masks[name] = torch.rand(parameter.shape, generator=generator) < density
    return masks
