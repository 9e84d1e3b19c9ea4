"""Training of the networks on one core: ours against the usual loop.

Claim 1, the thesis's settings: on one thread of a 2-core AMD EPYC, small_cnn on 50,000 grey 28x28
images (batch 500, Adam) takes 19 CPU seconds an epoch, with or without augmentation, of which 12
are the arithmetic of its layers. The usual loop takes 47 over ready tensors (ratio 2.4) and 61 with
the thesis's torchvision transforms per image (ratio 3.2); torch 2.13.0, n = 3.

Claim 2, the sparse-topology papers' settings: on one thread of the same machine, shared with other
jobs, conv6 at a quarter of its width on 50,000 colour 32x32 images (batch 128, SGD, crops and
flips) trains at .022 networks x epochs a second, and resnet8 at .044. The usual loop takes 2.2 and
1.3 times as long without workers, and 2.4 and 1.7 times the CPU seconds with two; torch 2.13.0,
n = 5 of 2,560 images. Not measured on a GPU.

    OMP_NUM_THREADS=1 python benchmarks/training.py [--images 5000] [--repeats 5] [--only published]

Ours is `espalier.training.train` as the workflow calls it: images in memory as one tensor,
augmentation of whole batches, channels-last memory, pooling ahead of normalisation in chains of
layers, memory kept by the C library. Both loops see the same synthetic images; values have no
influence on the time. Each repeat runs ours, then the alternatives; times are scaled to an epoch of
50,000 images. On a GPU the published settings run there, ours also as `fast_not_published`.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import statistics
import sys
import time

import numpy as np
import torch
from records import machine, ratios, record, spread
from torch import nn
from torch.nn import functional

from espalier import models
from espalier.data.torchvision_shim import import_torchvision
from espalier.devices import keep_freed_memory, prepare_device
from espalier.training import Recipe, preset_recipe, train

EPOCH = 50_000
SHAPE = (1, 28, 28)


def ours(images: np.ndarray, labels: np.ndarray, recipe: Recipe, model: nn.Module) -> None:
    """Train one epoch with the library."""
    keep_freed_memory()
    train(model, images, labels, recipe, seed=0, log=lambda line: None)


def usual(images: np.ndarray, labels: np.ndarray, recipe: Recipe, model: nn.Module) -> None:
    """Train one epoch with a DataLoader and the modules themselves."""
    let_go_of_freed_memory()
    loader = torch.utils.data.DataLoader(
        dataset(images, labels, recipe.augmentation), recipe.batch_size, shuffle=True
    )
    optimizer = torch.optim.Adam(
        model.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    model.train()
    for inputs, targets in loader:
        loss = functional.cross_entropy(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()


def dataset(
    images: np.ndarray, labels: np.ndarray, augmentation: str
) -> torch.utils.data.Dataset[tuple[torch.Tensor, torch.Tensor]]:
    """Return ready tensors, or images that the thesis's transforms turn into tensors."""
    targets = torch.from_numpy(labels)
    if augmentation == "none":
        inputs = torch.from_numpy(images).permute(0, 3, 1, 2) / 127.5 - 1
        return torch.utils.data.TensorDataset(inputs.contiguous(), targets)
    transforms = import_torchvision().transforms
    steps = transforms.Compose(
        [
            transforms.ToPILImage(),
            transforms.Resize(28),
            transforms.RandomHorizontalFlip(),
            transforms.RandomRotation(10),
            transforms.RandomAffine(0, shear=10, scale=(0.8, 1.2)),
            transforms.ColorJitter(0.2, 0.2, 0.2),
            transforms.ToTensor(),
            transforms.Normalize(0.5, 0.5),
        ]
    )

    class Transformed(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(images)

        def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
            return steps(images[index]), targets[index]

    return Transformed()


def let_go_of_freed_memory() -> None:
    """Undo `keep_freed_memory`: the defaults of glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if sys.platform.startswith("linux") and mallopt is not None:
        mallopt(-4, 65536)
        mallopt(-1, 128 * 1024)


def seconds_per_epoch(loop, recipe: Recipe, images: np.ndarray, name: str) -> tuple[float, float]:
    """Return wall and CPU seconds of one epoch, scaled to 50,000 images."""
    labels = np.arange(len(images)) % 10
    model = models.build(name, 10, SHAPE, seed=0)
    wall, cpu = time.perf_counter(), time.process_time()
    loop(images, labels, recipe, model)
    scale = EPOCH / len(images)
    return (time.perf_counter() - wall) * scale, (time.process_time() - cpu) * scale


def floor_seconds(name: str, batch: int) -> float:
    """Return CPU seconds of an epoch's convolutions and dense layers alone, forward and back."""
    model = models.build(name, 10, SHAPE, seed=0).to(memory_format=torch.channels_last)
    values = torch.randn(batch, *SHAPE).to(memory_format=torch.channels_last)
    total = 0.0
    with torch.no_grad():
        for layer in model.eval():
            result = layer(values)
            if isinstance(layer, nn.Conv2d | nn.Linear):
                total += min(layer_seconds(layer, values, result) for _ in range(4))
            values = result
    return total * EPOCH / batch


def layer_seconds(layer: nn.Module, values: torch.Tensor, result: torch.Tensor) -> float:
    """Return CPU seconds of one forward and backward pass of a layer."""
    with torch.enable_grad():
        inputs = values.clone().requires_grad_(values.shape[1] > 1)
        gradient = torch.ones_like(result)
        start = time.process_time()
        layer(inputs).backward(gradient)
        return time.process_time() - start


def published_ours(
    images: np.ndarray, labels: np.ndarray, recipe: Recipe, model: nn.Module, device: torch.device
) -> None:
    """Train one epoch with the library at the papers' settings."""
    keep_freed_memory()
    train(model, images, labels, recipe, seed=0, device=device, log=lambda line: None)


def published_usual(
    images: np.ndarray,
    labels: np.ndarray,
    recipe: Recipe,
    model: nn.Module,
    device: torch.device,
    workers: int,
) -> None:
    """Train one epoch with a DataLoader whose data set crops, flips and scales image by image."""
    let_go_of_freed_memory()
    loader = torch.utils.data.DataLoader(
        CroppedImages(images, labels, recipe.crop_padding),
        recipe.batch_size,
        shuffle=True,
        num_workers=workers,
        pin_memory=device.type == "cuda",
    )
    optimizer = torch.optim.SGD(
        model.parameters(),
        recipe.learning_rate,
        recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=recipe.nesterov,
    )
    model.to(device).train()
    for inputs, targets in loader:
        inputs, targets = (
            inputs.to(device, non_blocking=True),
            targets.to(device, non_blocking=True),
        )
        loss = functional.cross_entropy(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()


class CroppedImages(torch.utils.data.Dataset):
    """NumPy images with the transforms of the papers, one image at a time."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, padding: int) -> None:
        self.images = images
        self.labels = labels
        self.padding = padding
        self.mean = np.float32(images.mean((0, 1, 2)) / 255)
        self.deviation = np.float32(images.std((0, 1, 2)) / 255)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image = self.images[index]
        height, width = image.shape[:2]
        edge = self.padding
        padded = np.pad(image, ((edge, edge), (edge, edge), (0, 0)))
        row, column, flip = torch.randint(2 * edge + 1, (3,)).tolist()
        window = padded[row : row + height, column : column + width]
        if flip % 2:
            window = window[:, ::-1]
        scaled = (window.astype(np.float32) / 255 - self.mean) / self.deviation
        return torch.from_numpy(np.ascontiguousarray(scaled.transpose(2, 0, 1))), int(
            self.labels[index]
        )


def compare_published(arguments: argparse.Namespace, device: torch.device) -> None:
    """Print networks x epochs per second at the papers' settings, ours and the usual loop's."""
    shape = (3, 32, 32)
    images = np.random.default_rng(0).integers(0, 256, (arguments.images, 32, 32, 3), np.uint8)
    labels = np.arange(len(images)) % 10
    # One epoch has no milestones to pass.
    settings = {"epochs": 1, "schedule": "constant", "batch_size": 128}
    recipe = preset_recipe("published", **settings)
    loops = {
        "ours": lambda model: published_ours(images, labels, recipe, model, device),
        "usual, 0 workers": lambda model: published_usual(images, labels, recipe, model, device, 0),
        "usual, 2 workers": lambda model: published_usual(images, labels, recipe, model, device, 2),
    }
    if device.type == "cuda":
        fast = preset_recipe("fast_not_published", **settings)
        loops["ours, fast_not_published"] = lambda model: published_ours(
            images, labels, fast, model, device
        )
    warm_up = device.type == "cuda"  # compiling, and the libraries' first calls
    for name in arguments.published_models:
        times: dict[str, list[tuple[float, float]]] = {kind: [] for kind in loops}
        for _ in range(arguments.repeats + warm_up):
            for kind, loop in loops.items():
                model = models.build(name, 10, shape, width=arguments.width, seed=0)
                wall, cpu = time.perf_counter(), cpu_seconds()
                loop(model)
                if device.type == "cuda":
                    torch.cuda.synchronize()
                scale = EPOCH / len(images)
                times[kind].append(
                    ((time.perf_counter() - wall) * scale, (cpu_seconds() - cpu) * scale)
                )
        clocks = {kind: list(zip(*pairs[warm_up:], strict=True)) for kind, pairs in times.items()}
        own_wall, own_cpu = clocks["ours"]
        for kind, (wall, cpu) in clocks.items():
            print(
                f"{name} x {arguments.width:g}  {kind:23}  {1 / statistics.median(wall):8.5f} "
                f"networks x epochs / s  wall / ours {spread(ratios(own_wall, wall), '.2f')}  "
                f"CPU / ours {spread(ratios(own_cpu, cpu), '.2f')}"
            )
            if kind.startswith("usual"):
                record(f"epoch of {name} x {arguments.width:g}", own_cpu, cpu, "CPU s", kind)


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and of its workers that have ended."""
    return sum(os.times()[:4])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=("thesis", "published"))
    parser.add_argument("--device", default="auto", help="of the published settings")
    parser.add_argument("--published-models", nargs="*", default=["resnet8", "conv6"])
    parser.add_argument("--width", type=float, default=0.25, help="of the published models")
    parser.add_argument("--model", default="small_cnn")
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--batch", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    device = prepare_device(arguments.device, threads=1)
    print(
        f"{machine('torch')}, one thread, {arguments.model}, batch {arguments.batch}, "
        f"{arguments.images} images x {arguments.repeats} repeats, an epoch is {EPOCH:,} images, "
        "published settings on "
        f"{torch.cuda.get_device_name() if device.type == 'cuda' else 'the CPU'}"
    )
    if arguments.only != "thesis":
        compare_published(arguments, device)
    if arguments.only != "published":
        compare_thesis(arguments)


def compare_thesis(arguments: argparse.Namespace) -> None:
    """Print seconds per epoch of the thesis's training, ours and the usual loop's."""
    images = np.random.default_rng(0).integers(0, 256, (arguments.images, 28, 28, 1), np.uint8)
    for augmentation in ("none", "thesis"):
        recipe = Recipe(1, arguments.batch, augmentation=augmentation)
        times = []
        for _ in range(arguments.repeats):
            pair = [
                seconds_per_epoch(loop, recipe, images, arguments.model) for loop in (ours, usual)
            ]
            times.append(pair)
        for kind, clock in (("wall", 0), ("CPU", 1)):
            first = [pair[0][clock] for pair in times]
            second = [pair[1][clock] for pair in times]
            print(
                f"augmentation {augmentation:6} {kind:4}  ours {statistics.median(first):6.1f}  "
                f"usual {statistics.median(second):6.1f}  ratio "
                f"{spread(ratios(first, second), '.2f')}"
            )
            if kind == "CPU":
                name = f"epoch of {arguments.model}, augmentation {augmentation}"
                record(name, first, second, "CPU s", "usual")
    keep_freed_memory()
    floor = floor_seconds(arguments.model, arguments.batch)
    print(f"convolutions and dense layers alone (floor): {floor:.1f} CPU seconds")


if __name__ == "__main__":
    main()
