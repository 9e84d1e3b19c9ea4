"""Claim: a full function graph of Neural Sculpting (36 trials x 70 pairs of pruning steps, widths
24 to 48, up to three hidden layers) takes less than half a minute of CPU time on a 2-core AMD EPYC:
47,497 trainings of 4-2-4 in 12 CPU seconds (torch 2.13.0, numba 0.68.1, load 23, n = 1). One
4-24-24-4 takes plain PyTorch 28 to 42 times as long as ours when dense, 240 times at 4 % of the
edges.

Three measurements, all in CPU seconds of one thread, each after a warm-up that compiles:

    dense    trainings per second of dense networks, many in one call: the compiled engine (edges),
             the stacked engine, and the same trainings one by one in plain PyTorch (autograd and
             torch.optim.Adam over ready tensors, without a DataLoader)
    pruned   the same at 4 % of the edges, where most trainings of the pruning loops happen
    graph    `--graph NAME`: every width (24, 36, 48), depth (1, 2, 3) and seed (0, 1, 2, 5) of one
             published function with its published recipe: seconds, trainings, densities

Ours and the alternative run in turn, `--repeats` times; the ratio is of medians, the spread is the
range. The results are compared too: the same right bits. `--processes 2` runs the nine networks of
the graph in two processes.

    python benchmarks/sculpting.py
    python benchmarks/sculpting.py --graph 4-2-4 --processes 2
"""

from __future__ import annotations

import argparse
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import torch
from records import machine, record
from torch import nn

from espalier.sculpting import (
    Network,
    Recipe,
    Streams,
    Task,
    Training,
    boolean_task,
    initial_network,
    published_densities,
    published_function,
    published_recipe,
    sculpt,
    train_networks,
)
from espalier.sculpting.edge_kernels import shuffled_rows

WIDTHS, DEPTHS, SEEDS = (24, 36, 48), (1, 2, 3), (0, 1, 2, 5)


def plain_training(network: Network, recipe: Recipe, streams: Streams, task: Task) -> int:
    """Train one network in plain PyTorch; return the right bits of its best checkpoint."""
    masks = [torch.tensor(mask) for mask in network.masks()]
    linears: list[nn.Linear] = []
    for weight, bias in zip(network.weight_matrices(), network.bias_vectors(), strict=True):
        linear = nn.Linear(weight.shape[1], weight.shape[0])
        linear.weight.data, linear.bias.data = torch.tensor(weight), torch.tensor(bias)
        linears.append(linear)
    steps = [module for linear in linears for module in (linear, nn.ReLU())]
    model = nn.Sequential(*steps[:-1], nn.Sigmoid())
    inputs, targets = torch.tensor(task.x_train), torch.tensor(task.y_train)
    order = shuffled_rows(streams.shuffle_uniforms(recipe.epochs, len(inputs))[None])[0]
    noise = streams.noise(recipe.epochs, *inputs.shape) * task.input_noise
    noisy, rows = torch.tensor(noise, dtype=torch.float32), torch.tensor(order)
    optimiser = torch.optim.Adam(
        model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    criterion = nn.BCELoss()
    best_loss, best_right = float("inf"), 0
    for epoch in range(recipe.epochs):
        for first in range(0, len(inputs), recipe.batch_size):
            at = slice(first, first + recipe.batch_size)
            chosen = rows[epoch, at]
            optimiser.zero_grad()
            criterion(model(inputs[chosen] + noisy[epoch, at]), targets[chosen]).backward()
            for linear, mask in zip(linears, masks, strict=True):
                linear.weight.grad.mul_(mask)
            optimiser.step()
        with torch.no_grad():
            found = model(inputs)
            loss = float(criterion(found, targets))
            right = int(((found > 0.5) == (targets > 0.5)).sum())
        if (loss <= best_loss and right >= best_right) or right > best_right:
            best_loss, best_right = loss, right
            best = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(best)
    return best_right


def compare(share: float, count: int, alone: int, repeats: int) -> None:
    """Print trainings per second of the two engines and of plain PyTorch."""
    task, recipe = boolean_task(published_function("4-2-4")), Recipe(0.05, 8, 10)
    networks = [initial_network((4, 24, 24, 4), seed) for seed in range(count)]
    if share < 1:
        networks = [
            n.keep(np.random.default_rng(s).random(len(n.edges)) < share)
            for s, n in enumerate(networks)
        ]

    def ours(engine: str) -> tuple[float, list[int]]:
        trainings = [Training(n, recipe, Streams(s, "b")) for s, n in enumerate(networks)]
        started = time.process_time()
        results = train_networks(trainings, task, engine=engine)
        return (time.process_time() - started) / count, [result.right for result in results]

    def plain() -> tuple[float, list[int]]:
        started = time.process_time()
        right = [
            plain_training(network, recipe, Streams(seed, "b"), task)
            for seed, network in enumerate(networks[:alone])
        ]
        return (time.process_time() - started) / alone, right

    routes = {
        "edges": lambda: ours("edges"),
        "stacked": lambda: ours("stacked"),
        "plain PyTorch": plain,
    }
    seconds: dict[str, list[float]] = {name: [] for name in routes}
    rights: dict[str, list[int]] = {}
    for repeat in range(repeats + 1):
        for name, route in routes.items():
            taken, rights[name] = route()
            if repeat:
                seconds[name].append(taken)
    print(f"4-24-24-4, 10 epochs, batch 8, {100 * share:g} % of the edges, {count} in one call")
    base = statistics.median(seconds["plain PyTorch"])
    for name, times in seconds.items():
        median = statistics.median(times)
        equal = np.mean(np.equal(rights[name][:alone], rights["plain PyTorch"]))
        print(
            f"  {name:14s} {1 / median:9.1f} trainings/s ({1 / max(times):.1f} to "
            f"{1 / min(times):.1f}), {base / median:6.1f} x plain, n = {repeats}; "
            f"right bits as plain in {100 * equal:.0f} % of {alone}"
        )
        if name != "plain PyTorch":
            what = f"a training, {100 * share:g} % of the edges, engine {name}"
            milliseconds = ([1e3 * t for t in taken] for taken in (times, seconds["plain PyTorch"]))
            record(what, *milliseconds, "CPU ms", "plain PyTorch")


def one_cell(argument: tuple[str, int, int]) -> tuple[int, int, float, int, float, int]:
    """Sculpt all seeds of one width and depth; return it, CPU seconds, trainings, density."""
    name, width, depth = argument
    task, hidden = boolean_task(published_function(name)), (width,) * depth
    sculpt(task, hidden, (0,), Recipe(epochs=1), control="dense")
    started = time.process_time()
    trials = sculpt(task, hidden, SEEDS, published_recipe(name, hidden))
    seconds = time.process_time() - started
    density = 100 * float(np.mean([trial.density for trial in trials]))
    trainings = sum(trial.trainings for trial in trials)
    return width, depth, seconds, trainings, density, sum(trial.reached for trial in trials)


def full_graph(name: str, processes: int) -> None:
    """Print what a full function graph takes, and its densities beside the published ones."""
    cells = [(name, width, depth) for depth in reversed(DEPTHS) for width in reversed(WIDTHS)]
    started = time.perf_counter()
    if processes > 1:
        with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
            found = list(pool.map(one_cell, cells))
    else:
        found = [one_cell(cell) for cell in cells]
    wall = time.perf_counter() - started
    published = published_densities().groupby(["function", "width", "hidden_layers"])
    means = published["density_percent"].mean()
    print(f"{name}: 36 trials x 70 pairs")
    for width, depth, seconds, trainings, density, reached in sorted(found):
        print(
            f"  width {width}, {depth} hidden: {seconds:6.1f} CPU s, {trainings:6d} trainings, "
            f"{trainings / seconds:6.0f} /s, density {density:.3f} % "
            f"(published {means[name, width, depth]:.3f} %), {reached} of 4 reached"
        )
    seconds, trainings = sum(f[2] for f in found), sum(f[3] for f in found)
    print(
        f"  all: {seconds:.1f} CPU s, {wall:.1f} s of wall time in {processes} process(es), "
        f"start-up and compilation or its cache included in the latter; {trainings} trainings"
    )


def main() -> None:
    """Parse arguments, print the machine and what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--graph", help="a published function, for example 4-2-4")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--count", type=int, default=512, help="networks in one call")
    parser.add_argument("--alone", type=int, default=20, help="networks in plain PyTorch")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{machine('numpy', 'numba', 'torch')}, 1 thread")
    if arguments.graph:
        full_graph(arguments.graph, arguments.processes)
        return
    for share in (1.0, 0.04):
        compare(share, arguments.count, arguments.alone, arguments.repeats)


if __name__ == "__main__":
    main()
