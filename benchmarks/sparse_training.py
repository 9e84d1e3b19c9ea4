"""An epoch of sparse training: weights stored as edges against a masked dense network.

Claim: on one thread of a 2-core AMD EPYC, shared with other jobs, an update of the CIFAR-10
perceptron (3072-4000-1000-4000-10, 381,034 weights) takes 17.5 CPU milliseconds, 8.8 s an epoch;
the masked dense network takes 156 ms, 78 s an epoch: ratio 8.9 (8.7 to 9.0, n = 3). Of the
Fashion-MNIST one (784-256-128-100-10, 33,857 weights) 1.7 and 3.2 ms: ratio 1.9 (1.8 to 2.0). After
10 equal steps from equal weights no weight differs by more than 2e-8. torch 2.13.0.

    OMP_NUM_THREADS=2 python benchmarks/sparse_training.py [--size cifar] [--steps 20] [--repeats 3]

Both train the perceptron of the CenSET paper at epsilon 20 on batches of 100 with ReLU, dropout .3
and gradient descent with momentum: ours as the workflow does (`SparsePerceptron`, the kernel of
each layer measured), the alternative as the public code of SET does, with dense weights that are
multiplied by their mask after every step, in torch with its fused optimiser. Inputs are random:
values have no influence on the time. Data loading, augmentation and evaluation are left out.
Repeats take turns; seconds are scaled to an epoch (500 updates for CIFAR-10, 600 for
Fashion-MNIST). Equal numbers: both start from the same weights without dropout, take the same
five batches, and the largest difference of a weight after all steps is printed, beside the accuracy
of both on these batches.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time

import numpy as np
import torch
from records import machine, ratios, record, spread
from torch import Tensor, nn
from torch.nn import functional

from espalier.devices import keep_freed_memory
from espalier.hubs.sparse_layers import SparsePerceptron, build_perceptron
from espalier.seeds import torch_generator

SIZES = {
    "cifar": ((3072, 4000, 1000, 4000, 10), 500),
    "fashion": ((784, 256, 128, 100, 10), 600),
}
BATCH, RATE, MOMENTUM, DROPOUT = 100, 0.01, 0.9, 0.3


class Masked:
    """A dense perceptron whose weights are multiplied by masks after every step."""

    def __init__(self, sparse: SparsePerceptron, dropout: float) -> None:
        self.masks: list[Tensor | None] = []
        modules: list[nn.Module] = []
        for layer in sparse.layers:
            pattern = layer.pattern
            dense = nn.Linear(pattern.inputs, pattern.outputs)
            mask = torch.zeros(pattern.outputs * pattern.inputs)
            mask[torch.from_numpy(pattern.positions)] = 1
            with torch.no_grad():
                dense.weight.zero_()
                dense.weight.view(-1)[torch.from_numpy(pattern.positions)] = layer.values
                dense.bias.copy_(layer.parameters["bias"])
            self.masks.append(None if pattern.is_full else mask.view(dense.weight.shape))
            modules += [dense, nn.ReLU(), nn.Dropout(dropout)]
        self.model = nn.Sequential(*modules[:-2])
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), RATE, momentum=MOMENTUM, fused=True
        )

    @property
    def weights(self) -> list[Tensor]:
        """The weights of every layer (outputs, inputs)."""
        return [part.weight for part in self.model if isinstance(part, nn.Linear)]

    def train_step(self, inputs: Tensor, labels: Tensor) -> None:
        """Take one step on inputs (batch, features), then mask the weights."""
        self.optimizer.zero_grad()
        functional.cross_entropy(self.model(inputs), labels).backward()
        self.optimizer.step()
        with torch.no_grad():
            for weight, mask in zip(self.weights, self.masks, strict=True):
                if mask is not None:
                    weight.mul_(mask)


def batches(sizes: tuple[int, ...], count: int) -> list[tuple[Tensor, Tensor]]:
    """Return batches (BATCH, features) of a task that a linear map solves."""
    generator = torch_generator(0, "benchmark")
    truth = torch.randn(sizes[0], sizes[-1], generator=generator)
    made = []
    for _ in range(count):
        inputs = torch.randn(BATCH, sizes[0], generator=generator)
        made.append((inputs, (inputs @ truth).argmax(1)))
    return made


def equal_numbers(sizes: tuple[int, ...], steps: int) -> None:
    """Train both alike and print how far apart they end."""
    sparse, _ = build_perceptron(sizes, 20, 0, activation="relu")
    masked = Masked(sparse, 0.0)
    made = batches(sizes, 5)
    for step in range(steps):
        inputs, labels = made[step % len(made)]
        sparse.train_step(inputs.T.contiguous(), labels, RATE, MOMENTUM)
        masked.train_step(inputs, labels)
    apart = 0.0
    for layer, weight in zip(sparse.layers, masked.weights, strict=True):
        stored = weight.detach().view(-1)[torch.from_numpy(layer.pattern.positions)]
        apart = max(apart, float((stored - layer.values).abs().max()))
    inputs = torch.cat([batch for batch, _ in made])
    labels = torch.cat([label for _, label in made])
    ours = float((sparse.predict(inputs.T.contiguous()) == labels).float().mean())
    masked.model.eval()
    with torch.no_grad():
        theirs = float((masked.model(inputs).argmax(1) == labels).float().mean())
    print(
        f"  after {steps} equal steps: largest difference of a weight {apart:.1e}, accuracy on the "
        f"batches {ours:.4f} and {theirs:.4f}"
    )


def measure(name: str, steps: int, repeats: int, threads: int) -> None:
    """Print the seconds of an epoch of both, and their ratio."""
    sizes, updates = SIZES[name]
    sparse, costs = build_perceptron(sizes, 20, 0, activation="relu", threads=threads)
    masked = Masked(sparse, DROPOUT)
    edges = sum(layer.pattern.edges for layer in sparse.layers)
    print(f"{name}: {'-'.join(map(str, sizes))}, {edges:,} weights, {threads} threads")
    for number, (layer, cost) in enumerate(zip(sparse.layers, costs, strict=True), 1):
        times = ", ".join(f"{kernel} {1e3 * value:.2f} ms" for kernel, value in cost.items())
        print(f"  layer {number}: {layer.kernel_name}" + (f" ({times})" if times else ""))
    made = batches(sizes, 4)
    transposed = [(inputs.T.contiguous(), labels) for inputs, labels in made]
    noise = np.random.default_rng(0)

    def ours(step: int) -> None:
        inputs, labels = transposed[step % len(made)]
        sparse.train_step(inputs, labels, RATE, MOMENTUM, DROPOUT, noise)

    def theirs(step: int) -> None:
        masked.train_step(*made[step % len(made)])

    seconds: dict[str, list[tuple[float, float]]] = {"ours": [], "masked": []}
    for repeat, (label, run) in itertools.product(
        range(repeats + 1), (("ours", ours), ("masked", theirs))
    ):
        wall, cpu = time.perf_counter(), time.process_time()
        for step in range(steps):
            run(step)
        if repeat:
            part = ((time.perf_counter() - wall) / steps, (time.process_time() - cpu) / steps)
            seconds[label].append(part)
    for kind, unit in ((0, "wall"), (1, "CPU")):
        both = {label: [pair[kind] for pair in pairs] for label, pairs in seconds.items()}
        text = ", ".join(
            f"{label} {1e3 * statistics.median(values):.2f} ms a step, "
            f"{updates * statistics.median(values):.1f} s an epoch"
            for label, values in both.items()
        )
        print(
            f"  {unit}: {text}; ratio {spread(ratios(both['ours'], both['masked']))}, n = {repeats}"
        )
    ours_ms, masked_ms = ([1e3 * cpu for _, cpu in pairs] for pairs in seconds.values())
    record(f"a step, {name} at epsilon 20", ours_ms, masked_ms, "CPU ms", "masked dense weights")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--size", choices=[*SIZES, "both"], default="both")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    keep_freed_memory()
    print(machine("numpy", "numba", "torch"))
    for name in SIZES if given.size == "both" else (given.size,):
        measure(name, given.steps, given.repeats, given.threads)
        equal_numbers(SIZES[name][0], given.steps)


if __name__ == "__main__":
    main()
