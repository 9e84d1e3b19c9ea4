"""Claim: components, bridges, articulation points and cores are found faster without an edge list.

The graph of a network has hundreds of times more edges than the network has weights. Three routes
to the same four numbers, each in a fresh process so that its peak memory is its own, in turn,
`--repeats` times:

    implicit   espalier.topology: connectivity and cores, from masks and axis relations
    explicit   espalier.topology: connectivity_of_csr and cores_of_csr, after encoding the edges
    igraph     igraph's bridges, articulation points, components and coreness, after the same
               encoding and after building its graph

The time is that of the calls, after compilation and with the layer graph at hand; on a busy machine
compare the CPU seconds. The memory is the peak of the whole process, imports included. The results
are compared. Masks are random with ERK densities.

    python benchmarks/traversal.py
    python benchmarks/traversal.py --model conv6 --sparsity 0.9
    python benchmarks/traversal.py --model torchvision/resnet50 --sparsity 0.9 --routes implicit
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
from records import machine, record, spread

from espalier import models, pruning
from espalier.graphs import encode, layer_graph
from espalier.graphs.layer_graph import LayerGraph
from espalier.topology.cores import cores, cores_of_csr
from espalier.topology.traversal import connectivity, connectivity_of_csr

ROUTES = ("implicit", "explicit", "igraph")
ALTERNATIVES = {"explicit": "our kernels on encoded edges", "igraph": "igraph on encoded edges"}


def network(model: str, sparsity: float, seed: int = 0) -> LayerGraph:
    """Return the layer graph of a network with a random mask."""
    if model.startswith("torchvision/"):
        from espalier.data.torchvision_shim import import_torchvision

        built = import_torchvision().models.get_model(model.split("/")[1], weights=None)
        shape = (3, 224, 224)
    else:
        shape = (3, 32, 32)
        built = models.build(model, 10, shape)
    return layer_graph(built, shape, pruning.prune("erk", built, [], sparsity, seed))


def implicit(graph: LayerGraph) -> dict[str, int]:
    """Traverse without edges."""
    found = connectivity(graph)
    return _result(found.components, found.bridges, found.articulation_points, cores(graph).total)


def explicit(graph: LayerGraph) -> dict[str, int]:
    """Encode and traverse by the compiled kernels."""
    adjacency = encode(graph, weighted=False, dtype=np.int8, max_bytes=None)
    found = connectivity_of_csr(adjacency)
    core = cores_of_csr(adjacency)
    return _result(found.components, found.bridges, found.articulation_points, core.total)


def by_igraph(graph: LayerGraph) -> dict[str, int]:
    """Encode and traverse by igraph."""
    import igraph

    adjacency = encode(graph, weighted=False, dtype=np.int8, max_bytes=None).tocoo()
    edges = np.column_stack([adjacency.row, adjacency.col]).astype(np.int64)
    other = igraph.Graph(graph.nodes, edges)
    return _result(
        len(other.connected_components()),
        len(other.bridges()),
        len(other.articulation_points()),
        sum(other.coreness()),
    )


def _result(components: int, bridges: int, points: int, coreness: int) -> dict[str, int]:
    return {
        "components": components,
        "bridges": bridges,
        "articulation_points": points,
        "coreness": coreness,
    }


RUN: dict[str, Callable[[LayerGraph], dict[str, int]]] = dict(
    zip(ROUTES, (implicit, explicit, by_igraph), strict=True)
)


def run_route(route: str, model: str, sparsity: float) -> dict[str, object]:
    """Time one route in this process."""
    RUN[route](network("resnet8", 0.9))
    graph = network(model, sparsity)
    started, processor = time.perf_counter(), time.process_time()
    result = RUN[route](graph)
    return {
        "wall": time.perf_counter() - started,
        "cpu": time.process_time() - processor,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
        "result": result,
    }


def main() -> None:
    """Run the routes in turn and print what they took."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--sparsity", type=float, default=0.95)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--routes", nargs="+", choices=ROUTES, default=ROUTES)
    parser.add_argument("--route", choices=ROUTES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.route:
        print(json.dumps(run_route(given.route, given.model, given.sparsity)))
        return
    runs: dict[str, list[dict]] = {route: [] for route in given.routes}
    for _ in range(given.repeats):
        for route in given.routes:
            arguments = ["--route", route, "--model", given.model, "--sparsity", given.sparsity]
            done = subprocess.run(
                [sys.executable, __file__, *map(str, arguments)],
                check=True,
                capture_output=True,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
            runs[route].append(json.loads(done.stdout))
    results = {json.dumps(run["result"]) for route in runs.values() for run in route}
    if len(results) != 1:
        raise SystemExit(f"the routes differ: {sorted(results)}")
    print(f"{given.model}, ERK {given.sparsity}: {results.pop()}")
    print(f"{machine('numba', 'igraph')}; n = {given.repeats}")
    own = [run["cpu"] for run in runs[given.routes[0]]]
    for route, measured in runs.items():
        cpu = [run["cpu"] for run in measured]
        print(
            f"{route:9} CPU s {spread(cpu)}  wall s {spread([run['wall'] for run in measured])}  "
            f"peak GB {spread([run['peak_gb'] for run in measured])}  "
            f"{statistics.median(cpu) / statistics.median(own):.1f} x"
        )
        if route != given.routes[0] == "implicit":
            name = f"components, bridges, cores: {given.model}, ERK {given.sparsity}"
            record(name, own, cpu, "CPU s", ALTERNATIVES[route])


if __name__ == "__main__":
    main()
