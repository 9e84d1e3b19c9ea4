"""Fit nested stochastic block models: the program that runs in the Python that has graph-tool.

    python _graph_tool_worker.py REQUEST.npz RESULT.npz

It imports graph_tool, numpy and the standard library only, because that Python is often not the
one that espalier is installed in. `espalier.hierarchy.block_model` writes the request, starts
this program and reads the result; call that module, not this one.

Model: nested, degree-corrected, weights drawn from exponential distributions (Peixoto 2014,
Phys. Rev. X 4, 011047; Peixoto 2018, Phys. Rev. E 97, 012306). Moves: merge-split sweeps
(Peixoto 2020, Phys. Rev. E 102, 012305).
"""

from __future__ import annotations

import json
import platform
import sys
import time
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

WEIGHT_MODEL = "real-exponential"
SWEEPS_PER_CALL = 10


class GraphTool:
    """The calls that differ between graph-tool 2.x and 3.x, in one place.

    2.x takes the weights in `state_args` as `recs`. 3.x has a class of its own for weighted
    graphs, named in `base_state`, and takes them in `base_state_args` as `rec`; there, old
    `state_args` are ignored with a UserWarning, so UserWarnings are errors while it runs.
    """

    def __init__(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import graph_tool  # pyright: ignore[reportMissingImports]
            import graph_tool.inference as inference  # pyright: ignore[reportMissingImports]
        self.module = graph_tool
        self.inference = inference
        self.version = graph_tool.__version__
        self.weighted_state = getattr(inference, "WeightedBlockState", None)

    def seed(self, seed: int) -> None:
        """Seed graph-tool, and numpy's global generator, which picks the order of the levels."""
        self.module.seed_rng(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002 - graph-tool draws from the global generator

    def graph(self, n_nodes: int, source: np.ndarray, target: np.ndarray) -> Any:
        """Return an undirected graph."""
        graph = self.module.Graph(directed=False)
        graph.add_vertex(n_nodes)
        graph.add_edge_list(np.column_stack([source, target]))
        return graph

    def edge_weights(self, graph: Any, weight: np.ndarray) -> Any:
        """Return the weights, in the order of the edges given to `graph`, as a property map."""
        edge_weights = graph.new_edge_property("double")
        edge_weights.a = weight
        return edge_weights

    def _model(self, weights: Any, degree_corrected: bool = True) -> dict[str, Any]:
        arguments: dict[str, Any] = {"deg_corr": degree_corrected}
        if self.weighted_state is None:
            if weights is not None:
                arguments.update(recs=[weights], rec_types=[WEIGHT_MODEL])
            return {"state_args": arguments}
        if weights is None:
            return {"base_state_args": arguments}
        arguments.update(rec=[weights], rec_types=[WEIGHT_MODEL])
        return {"base_state": self.weighted_state, "base_state_args": arguments}

    def minimise(self, graph: Any, weights: Any) -> Any:
        """Return the state of a fresh agglomerative fit; weights None fits the bare graph."""
        return self.inference.minimize_nested_blockmodel_dl(graph, **self._model(weights))

    def minimise_flat(self, graph: Any) -> np.ndarray:
        """Return the blocks of a fresh fit of one level to the bare graph."""
        state = self.inference.minimize_blockmodel_dl(graph, state_args={"deg_corr": True})
        return np.asarray(state.get_blocks().a, dtype=np.int64).copy()

    def state(self, graph: Any, weights: Any, levels: Sequence[np.ndarray]) -> Any:
        """Return the state of a given hierarchy."""
        model = self._model(weights)
        return self.inference.NestedBlockState(graph, bs=[b.copy() for b in levels], **model)

    def blocks(self, state: Any) -> list[np.ndarray]:
        """Return the block array of every level, with graph-tool's own block numbers."""
        return [np.asarray(getattr(b, "a", b), dtype=np.int64).copy() for b in state.get_bs()]

    def _weight_model_name(self, kind: Any) -> str:
        # 2.x keeps the numbers of its enumeration.
        blockmodel = getattr(self.inference, "blockmodel", None)
        enumeration = getattr(getattr(blockmodel, "libinference", None), "rec_type", None)
        names = {int(value): name for name, value in getattr(enumeration, "names", {}).items()}
        name = str(kind) if isinstance(kind, str) else names.get(int(kind), str(kind))
        return name.replace("_", "-")

    def check_model(self, state: Any, graph: Any, weights: Any) -> None:
        """Raise RuntimeError unless `state` holds the weights and the degree correction."""
        found = float(state.entropy())
        levels = self.blocks(state)
        # The weights may cost nothing by chance, at a total of 1; twice the weights then do not.
        doubled = self.edge_weights(graph, 2 * weights.a)
        others = [float(self.state(graph, w, levels).entropy()) for w in (None, doubled)]
        # A single weight costs nothing, whatever it is.
        if graph.num_edges() > 1 and np.allclose(found, others, rtol=1e-12, atol=1e-9):
            raise RuntimeError(
                f"graph-tool {self.version} left the edge weights out: the description length is "
                f"{found:.6g} with them, without them, and with twice the weights"
            )
        base = state.levels[0]
        types = [self._weight_model_name(t) for t in getattr(base, "rec_types", [WEIGHT_MODEL])]
        if WEIGHT_MODEL not in types:
            raise RuntimeError(
                f"graph-tool {self.version} fitted the weight models {types}, not {WEIGHT_MODEL}"
            )
        if not getattr(base, "deg_corr", True):
            raise RuntimeError(f"graph-tool {self.version} left the degree correction out")


def occupied_levels(blocks: Sequence[np.ndarray], n_nodes: int) -> list[np.ndarray]:
    """Return the levels without empty blocks: level 0 per node, level k per block of level k-1.

    Blocks are numbered by first appearance. The levels end with the first that has one block.
    """
    levels = []
    below = np.arange(n_nodes)
    for level in blocks:
        _, first, inverse = np.unique(level[below], return_index=True, return_inverse=True)
        rank = np.argsort(np.argsort(first))
        levels.append(rank[inverse.ravel()].astype(np.int64))
        below = level[below][np.sort(first)]
        if len(first) == 1:
            break
    return levels


def padded(levels: Sequence[np.ndarray], depth: int) -> list[np.ndarray]:
    """Return `levels` with levels of one block on top, so that there are at least `depth`."""
    # An array may be longer than the level has blocks, not shorter.
    width = max(len(level) for level in levels)
    return [*levels, *(np.zeros(width, np.int64) for _ in range(depth - len(levels)))]


def sweep(state: Any, sweeps: int, beta: float) -> None:
    """Run merge-split sweeps, in calls of at most ten, because a call visits each level once."""
    while sweeps > 0:
        state.multiflip_mcmc_sweep(niter=min(sweeps, SWEEPS_PER_CALL), beta=beta)
        sweeps -= SWEEPS_PER_CALL


class Fitter:
    """One graph, its weights and the options of the request."""

    def __init__(
        self,
        graph_tool: GraphTool,
        n_nodes: int,
        source: np.ndarray,
        target: np.ndarray,
        weight: np.ndarray,
        options: dict[str, Any],
    ) -> None:
        self.graph_tool = graph_tool
        self.n_nodes = n_nodes
        self.options = options
        self.graph = graph_tool.graph(n_nodes, source, target)
        self.weights = graph_tool.edge_weights(self.graph, weight)
        self.fits: list[dict[str, Any]] = []

    def refine(self, state: Any) -> int:
        """Sweep at infinite beta until the description length stops falling."""
        lowest = float(state.entropy())
        idle = calls = 0
        while idle < self.options["patience"] and calls < self.options["max_refinements"]:
            sweep(state, SWEEPS_PER_CALL, np.inf)
            entropy = float(state.entropy())
            calls += 1
            idle = 0 if entropy < lowest - 1e-6 else idle + 1
            lowest = min(lowest, entropy)
        return calls

    def warm_fit(self, seed: int, flat: bool = False) -> Any:
        """Fit the bare graph, take its blocks as the start of the weighted model, refine."""
        self.graph_tool.seed(seed)
        if flat:
            # As many levels as graph-tool itself gives a hierarchy to grow into.
            depth = int(np.ceil(np.log2(self.n_nodes))) + 1
            start = padded([self.graph_tool.minimise_flat(self.graph)], depth)
        else:
            start = self.graph_tool.blocks(self.graph_tool.minimise(self.graph, None))
        state = self.graph_tool.state(self.graph, self.weights, start)
        begin = float(state.entropy())
        calls = self.refine(state)
        kind = "flat" if flat else "nested"
        return self._finish(state, seed, start=kind, start_length=begin, refinements=calls)

    def best_warm_fit(self, seeds: Sequence[int]) -> Any:
        """Return the warm fit with the lowest description length over `seeds`.

        Every second one starts at a flat fit, which takes a fraction of the time of a nested
        one and leads to refined fits as good.
        """
        fits = [self.warm_fit(seed, flat=k % 2 == 1) for k, seed in enumerate(seeds)]
        return min(fits, key=lambda state: float(state.entropy()))

    def fresh_weighted_fit(self, seed: int) -> Any:
        """Fit the weighted model from nothing, as published."""
        self.graph_tool.seed(seed)
        return self._finish(self.graph_tool.minimise(self.graph, self.weights), seed)

    def _finish(self, state: Any, seed: int, **facts: Any) -> Any:
        self.graph_tool.check_model(state, self.graph, self.weights)
        self.fits.append({"seed": seed, "description_length": float(state.entropy()), **facts})
        return state

    def hierarchy(self, state: Any) -> tuple[list[np.ndarray], float]:
        """Return (levels, description length), rebuilt from the levels and found the same."""
        found = float(state.entropy())
        blocks = self.graph_tool.blocks(state)
        levels = occupied_levels(blocks, self.n_nodes)
        rebuilt = self.rebuilt_entropy(levels, len(blocks))
        if not np.isclose(found, rebuilt, rtol=1e-9, atol=1e-6):
            raise RuntimeError(
                f"the levels do not reproduce the description length: {found!r} was fitted, "
                f"{rebuilt!r} comes back"
            )
        return levels, rebuilt

    def rebuilt_entropy(self, levels: Sequence[np.ndarray], depth: int = 0) -> float:
        """Return the description length of given levels."""
        state = self.graph_tool.state(self.graph, self.weights, padded(levels, depth))
        return float(state.entropy())


def run(
    n_nodes: int,
    source: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray,
    options: dict[str, Any],
) -> tuple[list[tuple[list[np.ndarray], float]], dict[str, Any]]:
    """Fit what `options` asks for; return the hierarchies and a JSON-able account of the fits."""
    graph_tool = GraphTool()
    seeds, restarts = options["seeds"], options["restarts"]
    started = time.perf_counter()
    hierarchies = []
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        fitter = Fitter(graph_tool, n_nodes, source, target, weight, options)
        if options["draws"] == "posterior":
            state = fitter.best_warm_fit(seeds[:restarts])
            fit_seconds = time.perf_counter() - started
            graph_tool.seed(seeds[restarts])
            sweep(state, options["burn_in"], 1.0)
            for _ in range(options["hierarchies"]):
                sweep(state, options["sweeps_between"], 1.0)
                hierarchies.append(fitter.hierarchy(state))
        else:
            for k in range(options["hierarchies"]):
                if options["draws"] == "fresh":
                    state = fitter.best_warm_fit(seeds[k * restarts : (k + 1) * restarts])
                else:
                    state = fitter.fresh_weighted_fit(seeds[k])
                hierarchies.append(fitter.hierarchy(state))
            fit_seconds = time.perf_counter() - started
        levels = hierarchies[0][0]
        singletons = fitter.rebuilt_entropy([np.arange(n_nodes), *levels])
    details = {
        "graph_tool": graph_tool.version,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "fits": fitter.fits,
        "seconds": {"fit": fit_seconds, "total": time.perf_counter() - started},
        # A lower value than the fits' says that this scale of the weights rewards a model in
        # which every node is its own block, and not that such a model is a better one.
        "singleton_description_length": singletons,
    }
    return hierarchies, details


def main(request_path: str, result_path: str) -> None:
    """Read the request, fit, write the result."""
    with np.load(request_path, allow_pickle=False) as request:
        n_nodes = int(request["n_nodes"])
        source, target, weight = (request[name] for name in ("source", "target", "weight"))
        options = json.loads(str(request["options"]))
    hierarchies, details = run(n_nodes, source, target, weight, options)
    arrays = {
        f"hierarchy{h}_level{k}": level
        for h, (levels, _) in enumerate(hierarchies)
        for k, level in enumerate(levels)
    }
    arrays["description_lengths"] = np.array([length for _, length in hierarchies])
    arrays["details"] = np.asarray(json.dumps(details))
    with open(result_path, "wb") as handle:
        np.savez(handle, **arrays)  # pyright: ignore[reportArgumentType]


if __name__ == "__main__":
    # The folder of this file comes first on sys.path; its modules are not for this program.
    del sys.path[0]
    main(sys.argv[1], sys.argv[2])
