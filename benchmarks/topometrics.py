"""Claim: all sixteen topometrics, exactly, take one core about 1.5 s of ResNet-20 at ERK 0.95 (3.4
million edges) and 6 s of Conv-6 at ERK 0.9 (19.5 million), in less than 0.6 GB, imports included;
igraph and scipy take 4 to 9 times as long and 2 to 7 times the memory, without the motifs.
ResNet-50 at 224x224, dense (4.6 billion edges), takes about two minutes and 3.6 GB.

Every measurement is a process of its own, so that its peak memory is its own: it warms up on a tiny
network, which loads the compiled kernels, builds the layer graph, and then times one call. Peaks
include the imports (about 0.3 GB). Processes run in turn, `--rounds` times; on a busy machine
compare the CPU seconds.

    ours       espalier.topology.topometrics, all sixteen in one call, and group by group
    libraries  espalier's explicit encoding, then igraph (degrees, 2-hop, components, bridges,
               articulation points, cores) and scipy (float64 eigsh from a fixed start, tol 1e-6 and
               1e-5 as ours). Motifs: the square of scipy's matrix where it fits in 4 GB, else none
    networkx   the linear-time metrics on ResNet-8 at 16x16; its seconds for the large network are
               extrapolated from the number of edges, and marked so

Results are compared. Masks are random: ERK densities, or uniform for ResNet-50.

    python benchmarks/topometrics.py [--rounds 3]
    python benchmarks/topometrics.py --resnet50 0.9 [--threads 2]
    python benchmarks/topometrics.py --resnet50 dense --threads 2
    python benchmarks/topometrics.py --scaling [--plot scaling.svg]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from records import machine, ratios, record, spread
from scipy import sparse

from espalier.graphs import encode, layer_graph
from espalier.graphs.layer_graph import LayerGraph
from espalier.topology.topometrics import SIZES, TOPOMETRICS, topometrics

GROUPS = {
    "degrees, strengths": (
        "sink_nodes",
        "source_nodes",
        "disc_nodes",
        "r-out",
        "r-in",
        "1-hop_nei",
        "avg_node_strength",
    ),
    "2-hop, motif": ("2-hop_nei", "motif"),
    "components, bridges": (
        "no_connected_components",
        "mean_connected_components",
        "cut-edges",
        "cut-nodes",
    ),
    "k-core": ("k-core",),
    "spectral gap": ("spectral_gap",),
    "spectral radius": ("spectral_radius",),
}
SQUARE_BYTES = 4 << 30
SMALL = ("resnet8", 16, "erk", 0.9)

# ERK sparsity of each model that is compared.
COMPARED = {"resnet20": 0.95, "conv6": 0.9}

# (model, side of the image, pruner, sparsity), by edges.
SCALING = (
    ("resnet8", 8, "erk", 0.98),
    ("resnet8", 16, "erk", 0.95),
    ("resnet20", 32, "erk", 0.98),
    ("resnet20", 32, "erk", 0.9),
    ("conv6", 32, "erk", 0.9),
    ("resnet20", 32, "dense", 0.0),
    ("conv6", 32, "dense", 0.0),
    ("torchvision:resnet50", 224, "uniform", 0.95),
)

Network = Sequence[Any]


def build_graph(model: str, side: int, pruner: str, sparsity: float) -> LayerGraph:
    """Return the layer graph of a network with random weights and a random mask."""
    from espalier.models import build
    from espalier.pruning import prune

    shape = (3, side, side)
    classes = 1000 if model.startswith("torchvision") else 10
    network = build(model, num_classes=classes, input_shape=shape, seed=0)
    masks = None if pruner == "dense" else prune(pruner, network, [], sparsity, seed=0)
    return layer_graph(network, shape, masks)


# -- what a process measures ----------------------------------------------------------------------


def ours(graph: LayerGraph, names: Sequence[str]) -> dict[str, Any]:
    """All topometrics asked for, raw."""
    return {"values": topometrics(graph, names=[*SIZES, *names], normalise=False)}


class Steps:
    """CPU seconds of named steps."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def __call__(self, name: str, work: Callable[[], Any]) -> Any:
        """Do a step and note how long it took."""
        started = time.process_time()
        result = work()
        self.seconds[name] = time.process_time() - started
        return result


def libraries(graph: LayerGraph, names: Sequence[str]) -> dict[str, Any]:
    """All topometrics by igraph and scipy, whatever is asked for, with the seconds of each step."""
    step = Steps()
    adjacency = step("encode", lambda: encode(graph, max_bytes=None))
    values = by_igraph(graph, adjacency, step)
    symmetric = step("symmetrise", lambda: symmetric_matrix(adjacency))
    if motifs_fit(adjacency):
        values["motif"] = step("motif", lambda: motifs_by_square(adjacency))
    values["spectral_gap"] = step("spectral gap", lambda: gap_by_scipy(symmetric))
    values["spectral_radius"] = step("spectral radius", lambda: radius_by_scipy(symmetric))
    return {"values": values, "seconds": step.seconds}


def by_igraph(graph: LayerGraph, adjacency: sparse.csr_array, step: Steps) -> dict[str, float]:
    """All but motifs and spectra by igraph."""
    import igraph

    def built() -> igraph.Graph:
        entries = adjacency.tocoo()
        edges = np.column_stack([entries.row, entries.col]).astype(np.int64)
        return igraph.Graph(graph.nodes, edges, directed=True)

    other = step("igraph.Graph", built)

    def local() -> dict[str, float]:
        into, out = np.array(other.indegree()), np.array(other.outdegree())
        node = np.arange(graph.nodes)
        sinks = (out == 0) & (into > 0) & (node < graph.offsets[-2])
        sources = (into == 0) & (out > 0) & (node >= graph.offsets[1])
        return {
            "sink_nodes": int(sinks.sum()),
            "source_nodes": int(sources.sum()),
            "disc_nodes": int(((into == 0) & (out == 0)).sum()),
            "r-out": int(out[sources].sum()),
            "r-in": int(into[sinks].sum()),
            "1-hop_nei": float(np.mean(other.neighborhood_size(order=1, mode="out"))),
            "avg_node_strength": 2 * float(adjacency.data.sum(dtype=np.float64)) / graph.nodes,
        }

    values = step("degrees, strengths", local)
    values["2-hop_nei"] = step(
        "2-hop", lambda: float(np.mean(other.neighborhood_size(order=2, mode="out")))
    )
    components = step("components", lambda: len(other.connected_components(mode="weak")))
    values["no_connected_components"] = components
    values["mean_connected_components"] = graph.nodes / components
    values["cut-edges"] = step("bridges", lambda: len(other.bridges()))
    values["cut-nodes"] = step("articulation", lambda: len(other.articulation_points()))
    values["k-core"] = step("k-core", lambda: float(np.mean(other.coreness(mode="all"))))
    return values


def symmetric_matrix(adjacency: sparse.csr_array) -> sparse.csr_array:
    """Weights in both directions, float64."""
    weights = adjacency.astype(np.float64)
    return sparse.csr_array(weights + weights.T)


def gap_by_scipy(symmetric: sparse.csr_array) -> float:
    """Largest eigenvalue less the next one."""
    from scipy.sparse.linalg import eigsh

    start = np.asarray(symmetric.sum(axis=1))
    values = eigsh(symmetric, k=2, which="LA", v0=start, tol=1e-6, return_eigenvectors=False)
    return float(values.max() - values.min())


def radius_by_scipy(symmetric: sparse.csr_array) -> float:
    """Largest eigenvalue of the Laplacian."""
    from scipy.sparse.linalg import eigsh

    strengths = np.asarray(symmetric.sum(axis=1))
    laplacian = sparse.csr_array(sparse.diags_array(strengths) - symmetric)
    start = strengths * np.random.default_rng(0).uniform(-1, 1, len(strengths))
    return float(eigsh(laplacian, k=1, which="LA", v0=start, tol=1e-5)[0][0])


def motifs_fit(adjacency: sparse.csr_array) -> bool:
    """Whether the square of the matrix fits: an entry for every two edges at a node, at worst."""
    into = np.bincount(adjacency.indices, minlength=adjacency.shape[0])
    degree = (into + np.diff(adjacency.indptr)).astype(np.float64)
    return 24 * float((degree * (degree - 1)).sum()) <= SQUARE_BYTES


def motifs_by_square(adjacency: sparse.csr_array) -> int:
    """Motifs from codegrees, the entries of the square of the matrix."""
    from espalier.topology import motifs_of_csr

    counts = motifs_of_csr(adjacency).four
    assert counts is not None
    return counts.total


def with_networkx(graph: LayerGraph, names: Sequence[str]) -> dict[str, Any]:
    """The linear-time metrics by networkx, with the seconds of each step."""
    import networkx

    step = Steps()
    adjacency = encode(graph)
    other = step(
        "networkx.Graph",
        lambda: networkx.from_scipy_sparse_array(adjacency, create_using=networkx.Graph),
    )
    components = step("components", lambda: networkx.number_connected_components(other))
    values = {"no_connected_components": components}
    values["cut-edges"] = step("bridges", lambda: sum(1 for _ in networkx.bridges(other)))
    values["cut-nodes"] = step(
        "articulation", lambda: sum(1 for _ in networkx.articulation_points(other))
    )
    cores = step("k-core", lambda: networkx.core_number(other))
    values["k-core"] = sum(cores.values()) / graph.nodes
    return {"values": values, "seconds": step.seconds}


ROUTES = {"ours": ours, "libraries": libraries, "networkx": with_networkx}


def measure(task: dict[str, Any]) -> dict[str, Any]:
    """Time one call in this process."""
    import torch

    torch.set_num_threads(task["threads"])
    route = ROUTES[task["route"]]
    topometrics(build_graph(*SMALL))
    route(build_graph(*SMALL), task["names"])
    graph = build_graph(*task["network"])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started, processor = time.perf_counter(), time.process_time()
    result = route(graph, task["names"])
    return {
        "wall": time.perf_counter() - started,
        "cpu": time.process_time() - processor,
        "before_mb": before / 1024,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "nodes": graph.nodes,
        **result,
    }


# -- what is run and printed ----------------------------------------------------------------------


def in_process(
    network: Network, route: str = "ours", names: Sequence[str] = TOPOMETRICS, threads: int = 1
) -> dict[str, Any]:
    """Measure in a fresh process."""
    task = {"network": network, "route": route, "names": list(names), "threads": threads}
    done = subprocess.run(
        [sys.executable, __file__, "--task", json.dumps(task)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
    )
    return json.loads(done.stdout.splitlines()[-1])


def described(network: Network) -> str:
    """Name a network."""
    model, side, pruner, sparsity = network
    return f"{model} at {side}x{side}, {pruner}" + (f" {sparsity}" if sparsity else "")


def check_equal(found: dict[str, float], expected: dict[str, float], what: str) -> None:
    """Exit if results differ: counts at all, sums beyond float32, spectra beyond 1e-5."""
    for name, value in found.items():
        tolerance = 1e-5 if name.startswith("spectral") else 1e-6
        exact = isinstance(value, int)
        near = abs(value - expected[name]) <= tolerance * max(1.0, abs(value))
        if value != expected[name] if exact else not near:
            raise SystemExit(f"{what}: {name} is {value}, ours is {expected[name]}")


def compare(network: Network, rounds: int, small: dict[str, Any]) -> None:
    """Print ours beside the libraries on one network."""
    runs: dict[str, list[dict[str, Any]]] = {"ours": [], "libraries": []}
    for _ in range(rounds):
        for route, found in runs.items():
            found.append(in_process(network, route))
    values = runs["ours"][0]["values"]
    edges = values["edges"]
    for run in runs["libraries"]:
        check_equal(run["values"], values, described(network))
    print(f"\n{described(network)}: {values['nodes']:,} nodes, {edges:,} edges")
    for route, found in runs.items():
        print(
            f"  {route:9} wall s {spread([r['wall'] for r in found])}, CPU s "
            f"{spread([r['cpu'] for r in found])}, peak MB {spread([r['peak_mb'] for r in found])}"
        )
    mine, theirs = ([run["cpu"] for run in runs[route]] for route in ("ours", "libraries"))
    missing = sorted(set(TOPOMETRICS) - set(runs["libraries"][0]["values"]))
    without = f", without {', '.join(missing)}" if missing else ""
    memory = runs["libraries"][0]["peak_mb"] / runs["ours"][0]["peak_mb"]
    print(f"  libraries / ours{without}: CPU {spread(ratios(mine, theirs))}, memory {memory:.2g}")
    record(
        f"topometrics, {described(network)}", mine, theirs, "CPU s", f"igraph and scipy{without}"
    )
    steps = runs["libraries"][0]["seconds"]
    print("  libraries, CPU s: " + ", ".join(f"{n} {s:.2f}" for n, s in steps.items()))
    groups = {name: in_process(network, names=names) for name, names in GROUPS.items()}
    print(
        "  ours alone, CPU s: " + ", ".join(f"{name} {g['cpu']:.2f}" for name, g in groups.items())
    )
    scale = edges / small["edges"]
    guesses = ", ".join(f"{n} {s * scale:.0f}" for n, s in small["seconds"].items())
    print(f"  networkx, CPU s EXTRAPOLATED by edges from {small['edges']:,}: {guesses}")


def resnet50(sparsity: float, threads: int, whole: bool) -> None:
    """Print seconds and memory of each group of metrics of torchvision's ResNet-50."""
    network = ("torchvision:resnet50", 224, "uniform" if sparsity else "dense", sparsity)
    print(f"\n{described(network)}, {threads} threads")
    total, peak = 0.0, 0.0
    for name, names in GROUPS.items():
        run = in_process(network, names=names, threads=threads)
        if not total:
            print(f"  {run['values']['nodes']:,} nodes, {run['values']['edges']:,} edges")
        total, peak = total + run["wall"], max(peak, run["peak_mb"])
        shown = {n: v for n, v in run["values"].items() if n in names}
        print(
            f"  {name:20} wall s {run['wall']:.1f}, CPU s {run['cpu']:.1f}, peak MB "
            f"{run['peak_mb']:.0f} (before {run['before_mb']:.0f})  {shown}",
            flush=True,
        )
    print(f"  the groups in turn: wall s {total:.0f}, peak MB {peak:.0f}")
    if whole:
        run = in_process(network, threads=threads)
        print(
            f"  all in one call: wall s {run['wall']:.0f}, CPU s {run['cpu']:.0f}, peak MB "
            f"{run['peak_mb']:.0f}"
        )


def scaling(threads: int, plot: Path | None) -> None:
    """Print time and memory against edges."""
    print(f"\n{'network':44} {'nodes':>10} {'edges':>13} {'CPU s':>8} {'ns/edge':>8} {'MB':>6}")
    rows = []
    for network in SCALING:
        run = in_process(network, threads=threads)
        edges = run["values"]["edges"]
        rows.append((edges, run["nodes"], run["cpu"], run["peak_mb"]))
        print(
            f"{described(network):44} {run['nodes']:>10,} {edges:>13,} {run['cpu']:>8.2f} "
            f"{run['cpu'] / edges * 1e9:>8.0f} {run['peak_mb']:>6.0f}",
            flush=True,
        )
    if plot is not None:
        draw(rows, plot)


def draw(rows: Sequence[tuple[int, int, float, float]], path: Path) -> None:
    """Draw seconds and memory against edges."""
    import matplotlib.pyplot as plt

    edges, _, seconds, memory = zip(*sorted(rows), strict=True)
    figure, axes = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
    for axis, values, label in zip(
        axes, (seconds, memory), ("CPU seconds, all sixteen", "peak MB, imports included"),
        strict=True,
    ):  # fmt: skip
        axis.loglog(edges, values, "o-", color="#35618f")
        axis.set_xlabel("edges")
        axis.set_ylabel(label)
        axis.grid(alpha=0.3)
    figure.savefig(path)


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--models", nargs="+", choices=COMPARED, default=list(COMPARED))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--resnet50", metavar="SPARSITY", help="0.9, or dense")
    parser.add_argument("--whole", action="store_true", help="ResNet-50 also in one call")
    parser.add_argument("--scaling", action="store_true")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--task", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.task:
        print(json.dumps(measure(json.loads(given.task))))
        return
    print(machine("numpy", "scipy", "numba", "torch", "igraph", "networkx"))
    if given.resnet50:
        sparsity = 0.0 if given.resnet50 == "dense" else float(given.resnet50)
        resnet50(sparsity, given.threads, given.whole)
        return
    if given.scaling:
        scaling(given.threads, given.plot)
        return
    print(f"{given.rounds} rounds, median (least to most)")
    networkx_run = in_process(SMALL, "networkx")
    sizes = in_process(SMALL, names=[*GROUPS["components, bridges"], "k-core"])["values"]
    check_equal(networkx_run["values"], sizes, "networkx")
    small = {"edges": sizes["edges"], "seconds": networkx_run["seconds"]}
    for model in given.models:
        compare((model, 32, "erk", COMPARED[model]), given.rounds, small)


if __name__ == "__main__":
    main()
