"""Claim: Laplacian centrality of a sparse CIFAR-10 network (382,000 edges) takes under 20 ms and of
the dense one (20 million edges) under 1 s on one core, exact to rounding; NetworKit takes over 50
times as long on the sparse one and is wrong on real weights, networkx is wrong on negative ones.
(On graphs of some thousand edges NetworKit's call is the shorter one: ours costs 0.4 ms at least.)

Each round runs every implementation in turn, in one process, on one thread. Beside each time stands
the error against the definition: the largest difference over the largest absolute centrality. The
definition is the drop of the sum of squared Laplacian eigenvalues where the network is small
enough to delete every node, else the closed form by explicit scipy products in float64, which the
small network checks against the eigenvalues. NetworKit's graph is built from COO arrays with
uint64 indices (int32 crashes 11.2.2); its building is timed apart from its run. networkx deletes
every node of a dense Laplacian, so it runs on the small network only.

Usage: OMP_NUM_THREADS=1 python benchmarks/centrality.py [--rounds 5] [--dense]
"""

from __future__ import annotations

import argparse
import itertools
import time
import warnings
from collections.abc import Callable

import networkx as nx
import numpy as np
from records import machine, ratios, record, spread
from scipy import sparse

from espalier.hubs import laplacian_centrality

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import networkit

SMALL = (60, 40, 30, 10)
FASHION = (784, 256, 128, 100, 10)
CIFAR = (3072, 4000, 1000, 4000, 10)
EPSILON = 20


def network(sizes: tuple[int, ...], epsilon: float | None, dtype: type = np.float64) -> list:
    """Glorot weights; sparse hidden layers of density epsilon (n_in + n_out) / (n_in n_out)."""
    rng = np.random.default_rng(0)
    layers = []
    for index, (n_in, n_out) in enumerate(itertools.pairwise(sizes)):
        limit = np.sqrt(6 / (n_in + n_out))
        weights = rng.uniform(-limit, limit, (n_in, n_out)).astype(dtype)
        if epsilon is not None:
            share = min(1.0, epsilon * (n_in + n_out) / (n_in * n_out))
            if index < len(sizes) - 2:
                weights *= rng.random(weights.shape) < share
            layers.append(sparse.csr_array(weights))
        else:
            layers.append(weights)
    return layers


def coo(layers: list) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Return weights, sources and targets of all edges, and the number of nodes."""
    found = [sparse.coo_array(layer) for layer in layers]
    sizes = [found[0].shape[0], *(layer.shape[1] for layer in found)]
    first = np.concatenate([[0], np.cumsum(sizes)])
    return (
        np.concatenate([layer.data for layer in found]).astype(np.float64),
        np.concatenate([layer.row + first[k] for k, layer in enumerate(found)]).astype(np.uint64),
        np.concatenate([layer.col + first[k + 1] for k, layer in enumerate(found)]).astype(
            np.uint64
        ),
        int(first[-1]),
    )


def by_eigenvalues(layers: list) -> np.ndarray:
    """The definition: how much of the sum of squared Laplacian eigenvalues goes with each node."""
    data, row, column, nodes = coo(layers)
    upper = sparse.coo_array((data, (row.astype(int), column.astype(int))), shape=(nodes, nodes))
    adjacency = (upper + upper.T).toarray()

    def energy(matrix: np.ndarray) -> float:
        return np.square(np.linalg.eigvalsh(np.diag(matrix.sum(axis=1)) - matrix)).sum()

    whole = energy(adjacency)
    return np.array(
        [whole - energy(np.delete(np.delete(adjacency, v, 0), v, 1)) for v in range(len(adjacency))]
    )


def by_scipy(layers: list) -> np.ndarray:
    """The closed form on the explicit symmetric adjacency matrix."""
    data, row, column, nodes = coo(layers)
    upper = sparse.csr_array((data, (row.astype(int), column.astype(int))), shape=(nodes, nodes))
    adjacency = upper + upper.T
    strength = adjacency.sum(axis=1)
    return strength**2 + adjacency.power(2).sum(axis=1) + 2 * (adjacency @ strength)


def ours(layers: list) -> np.ndarray:
    """Espalier's."""
    return np.concatenate(laplacian_centrality(layers))


def networkit_graph(layers: list) -> networkit.Graph:
    """Build NetworKit's undirected weighted graph."""
    data, row, column, nodes = coo(layers)
    return networkit.GraphFromCoo((data, (row, column)), n=nodes, weighted=True, directed=False)


def by_networkit(graph: networkit.Graph) -> np.ndarray:
    """NetworKit's."""
    run = networkit.centrality.LaplacianCentrality(graph, normalized=False)
    return np.array(run.run().scores())


def by_networkx(layers: list) -> np.ndarray:
    """networkx's, with the building of its graph, which is short beside the rest."""
    data, row, column, nodes = coo(layers)
    graph = nx.Graph()
    graph.add_nodes_from(range(nodes))
    graph.add_weighted_edges_from(zip(row.tolist(), column.tolist(), data.tolist(), strict=True))
    found = nx.laplacian_centrality(graph, normalized=False, weight="weight")
    return np.array([found[v] for v in range(nodes)])


def timed(work: Callable[[], np.ndarray]) -> tuple[float, float, np.ndarray]:
    """Return wall seconds, CPU seconds and the result."""
    wall, processor = time.perf_counter(), time.process_time()
    result = work()
    return time.perf_counter() - wall, time.process_time() - processor, result


def compare(
    name: str,
    layers: list,
    definition: np.ndarray,
    others: dict[str, Callable[[], np.ndarray]],
    rounds: int,
) -> None:
    """Run ours and the others in turn and print times, ratios and errors."""
    edges = sum(
        layer.nnz if sparse.issparse(layer) else np.count_nonzero(layer) for layer in layers
    )
    print(f"{name}: {definition.size:,} units, {edges:,} edges, n = {rounds}")
    works = {"espalier": lambda: ours(layers), **others}
    ours(layers)  # compiles
    times: dict[str, list[tuple[float, float]]] = {key: [] for key in works}
    scale = np.abs(definition).max()
    errors: dict[str, float] = {}
    for _ in range(rounds):
        for key, work in works.items():
            wall, processor, values = timed(work)
            times[key].append((wall, processor))
            errors[key] = float(np.abs(values - definition).max() / scale)
    own = [1e3 * cpu for _, cpu in times["espalier"]]
    for key, found in times.items():
        cpu = [1e3 * cpu for _, cpu in found]
        print(
            f"  {key}: CPU {spread(cpu)} ms, wall {spread([1e3 * w for w, _ in found])} ms, "
            f"error {errors[key]:.1e}, ratio to ours {spread(ratios(own, cpu))}"
        )
        if key != "espalier":
            record(f"centrality, {name}", own, cpu, "CPU ms", key)


def main() -> None:
    """Print every comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dense", action="store_true", help="the dense CIFAR-10 network too")
    options = parser.parse_args()
    networkit.setNumberOfThreads(1)
    versions = machine("numpy", "scipy", "numba", "networkit", "networkx")
    print(f"{versions}; one thread, median (least to most)")

    small = network(SMALL, EPSILON / 4)
    definition = by_eigenvalues(small)
    print(
        "closed form by scipy against the eigenvalues: error "
        f"{np.abs(by_scipy(small) - definition).max() / np.abs(definition).max():.1e}"
    )
    graph = networkit_graph(small)
    compare(
        "small sparse network, signed weights",
        small,
        definition,
        {"NetworKit": lambda: by_networkit(graph), "networkx": lambda: by_networkx(small)},
        options.rounds,
    )
    positive = [abs(layer) for layer in small]
    graph = networkit_graph(positive)
    compare(
        "small sparse network, absolute weights",
        positive,
        by_eigenvalues(positive),
        {"NetworKit": lambda: by_networkit(graph), "networkx": lambda: by_networkx(positive)},
        options.rounds,
    )
    for name, sizes in (("Fashion-MNIST", FASHION), ("CIFAR-10", CIFAR)):
        layers = network(sizes, EPSILON)
        built, _, graph = timed(lambda layers=layers: networkit_graph(layers))
        print(f"NetworKit's graph of the sparse {name} network takes {1e3 * built:.3g} ms to build")
        compare(
            f"sparse {name} network",
            layers,
            by_scipy(layers),
            {
                "NetworKit": lambda graph=graph: by_networkit(graph),
                "scipy, its adjacency included": lambda layers=layers: by_scipy(layers),
            },
            options.rounds,
        )
    if options.dense:
        layers = network(CIFAR, None)
        definition = by_scipy(layers)
        compare("dense CIFAR-10 network, float64", layers, definition, {}, options.rounds)
        narrow = [layer.astype(np.float32) for layer in layers]
        wide = [layer.astype(np.float64) for layer in narrow]
        compare("dense CIFAR-10 network, float32", narrow, by_scipy(wide), {}, options.rounds)


if __name__ == "__main__":
    main()
