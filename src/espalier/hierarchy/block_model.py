"""Nested stochastic block models of a co-activation graph, fitted by graph-tool.

graph-tool is not imported here. It runs in whichever Python has it, as a program of its own
(`_graph_tool_worker.py`), with one thread, so that a seed decides the result.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from espalier.errors import ConfigurationError, DataError, EspalierError, unknown_name
from espalier.files import read_npz, write_npz
from espalier.graphs.coactivation import CoactivationGraph
from espalier.hierarchy.extraction import class_tree
from espalier.hierarchy.graph_tool_python import find_graph_tool_python
from espalier.hierarchy.trees import star_tree
from espalier.seeds import derive_seed

DRAWS = ("posterior", "fresh", "fresh_weighted")
WEIGHT_SCALES = ("as_given", "unit_mean")

_WORKER = Path(__file__).with_name("_graph_tool_worker.py")


@dataclass(frozen=True)
class BlockModelOptions:
    """What to fit, and for how long.

    Attributes:
        hierarchies: number of hierarchies returned.
        draws: "posterior", samples of one Markov chain that starts at a warm-started fit;
            "fresh", independent warm-started fits; "fresh_weighted", independent fits of the
            weighted model from nothing, the published recipe. The first measures how sure the
            model is, the other two how far the search scatters.
        weight_scale: "as_given" fits the graph's weights; "unit_mean" divides them by their mean
            first. graph-tool's description length depends on the unit of the weights, so that
            weights with a mean below 1/e reward small blocks.
        restarts: warm-started fits per start of a chain ("posterior") or per hierarchy ("fresh");
            the one with the lowest description length is kept. They start at nested and at flat
            fits of the bare graph by turns; the flat ones are cheaper.
        patience: calls of ten sweeps at infinite beta without a gain that end a refinement.
        max_refinements: most such calls in one refinement.
        burn_in: sweeps at beta 1 before the first sample.
        sweeps_between: sweeps at beta 1 before every sample.
    """

    hierarchies: int = 50
    draws: str = "posterior"
    weight_scale: str = "as_given"
    restarts: int = 2
    patience: int = 10
    max_refinements: int = 100
    burn_in: int = 20
    sweeps_between: int = 10

    def __post_init__(self) -> None:
        if self.draws not in DRAWS:
            raise unknown_name("value of draws", self.draws, DRAWS)
        if self.weight_scale not in WEIGHT_SCALES:
            raise unknown_name("value of weight_scale", self.weight_scale, WEIGHT_SCALES)
        smallest = {"burn_in": 0, "max_refinements": 0}
        for option in fields(self):
            value = getattr(self, option.name)
            if isinstance(option.default, int) and (
                isinstance(value, bool)
                or not isinstance(value, int | np.integer)
                or value < smallest.get(option.name, 1)
            ):
                raise ConfigurationError(
                    f"{option.name} must be a whole number of at least "
                    f"{smallest.get(option.name, 1)} and is {value!r}"
                )


@dataclass(frozen=True, eq=False)
class BlockHierarchy:
    """One hierarchy of blocks.

    Attributes:
        levels: levels[0] is (nodes,) int64, the block of each node, -1 for a node without edges,
            which is no part of the model. levels[k] is the block at level k of each block of
            level k-1. Blocks are numbered 0 .. B-1 without gaps; the last level has one block.
            Empty when the graph has no edges.
        description_length: of the model and the weighted graph in nats, as graph-tool counts it
            for the weights as fitted; lower is better; NaN without edges.
        label: "sample0", ... for samples of a chain, "fit0", ... for independent fits.
        provenance: versions, options, seeds and the description length of every fit, the same
            for all hierarchies of one call.
    """

    levels: tuple[np.ndarray, ...]
    description_length: float
    label: str
    provenance: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def blocks(self) -> tuple[int, ...]:
        """Number of blocks per level, from the finest."""
        return tuple(int(level.max()) + 1 for level in self.levels)


def fit_nested_sbm(
    graph: CoactivationGraph,
    hierarchies: int = 50,
    draws: str = "posterior",
    seed: int = 0,
    python: str | os.PathLike[str] = "auto",
    **options: Any,
) -> list[BlockHierarchy]:
    """Fit the nested, degree-corrected stochastic block model with exponential weights.

    A warm start fits the graph without its weights, takes that hierarchy as the start of the
    weighted model, and runs merge-split sweeps at infinite beta until the description length
    stops falling. It is many times faster than a weighted fit from nothing, and ends lower.

    Nodes without edges carry no evidence and are left out of the model; so their number changes
    neither the blocks nor the description length. A graph without edges gives hierarchies
    without levels. The same seed gives the same hierarchies for one version of graph-tool.

    Args:
        graph: the co-activation graph; its weights are finite and not negative.
        hierarchies: number of hierarchies.
        draws: "posterior", "fresh" or "fresh_weighted"; see `BlockModelOptions`.
        seed: of every random draw.
        python: the Python that has graph-tool; "auto" looks for one.
        options: the other fields of `BlockModelOptions`.

    Raises:
        ConfigurationError: an option is unknown or out of range.
        DataError: a weight is negative or not finite.
        MissingDependencyError: no Python has graph-tool.
        EspalierError: graph-tool failed, or left weights or degree correction out.

    Source: Peixoto (2014), Phys. Rev. X 4, 011047 (nested model); Peixoto (2018), Phys. Rev. E
    97, 012306 (weights); Peixoto (2020), Phys. Rev. E 102, 012305 (merge-split sweeps).
    """
    known = [f.name for f in fields(BlockModelOptions)]
    for name in options:
        if name not in known:
            raise unknown_name("block model option", name, known)
    settings = BlockModelOptions(hierarchies=hierarchies, draws=draws, **options)
    source, target, weight = graph.edges()
    _check_weights(weight)
    kind = "sample" if draws == "posterior" else "fit"
    labels = [f"{kind}{k}" for k in range(hierarchies)]
    provenance: dict[str, Any] = {
        "options": asdict(settings),
        "seed": int(seed),
        "mean_weight": float(weight.mean()) if len(weight) else float("nan"),
    }
    if not len(weight):
        return [BlockHierarchy((), float("nan"), label, provenance) for label in labels]

    fitted_nodes, ends = np.unique(np.concatenate([source, target]), return_inverse=True)
    request = {
        "n_nodes": np.asarray(len(fitted_nodes)),
        "source": ends[: len(source)],
        "target": ends[len(source) :],
        "weight": _scaled(weight, settings.weight_scale),
        "options": np.asarray(json.dumps({**asdict(settings), "seeds": _seeds(settings, seed)})),
    }
    result = _run_worker(find_graph_tool_python(python), request)
    provenance |= json.loads(str(result["details"]))
    return [
        BlockHierarchy(
            _all_nodes(_numbered(result, f"hierarchy{k}_level"), fitted_nodes, graph.n_nodes),
            float(length),
            label,
            provenance,
        )
        for k, (label, length) in enumerate(zip(labels, result["description_lengths"], strict=True))
    ]


def class_trees(graph: CoactivationGraph, hierarchies: Iterable[BlockHierarchy]) -> list[str]:
    """Return the class tree of each hierarchy as Newick; classes without edges hang on the root."""
    outputs = graph.output_nodes
    return [
        class_tree(
            hierarchy.levels,
            np.where(hierarchy.levels[0][outputs] >= 0, outputs, -1),
            graph.class_names,
        )
        if hierarchy.levels
        else star_tree(graph.class_names).newick()
        for hierarchy in hierarchies
    ]


def write_hierarchies(
    path: str | os.PathLike[str],
    hierarchies: Sequence[BlockHierarchy],
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write the hierarchies of one call as NPZ: one array per level, and JSON with the rest.

    The provenance of the first hierarchy stands for all. Its timings are left out, so that equal
    hierarchies are equal files.
    """
    arrays = {
        f"hierarchy{h}_level{k}": level
        for h, hierarchy in enumerate(hierarchies)
        for k, level in enumerate(hierarchy.levels)
    }
    arrays["description_lengths"] = np.array([h.description_length for h in hierarchies])
    labels = [h.label for h in hierarchies]
    provenance = dict(hierarchies[0].provenance) if hierarchies else {}
    provenance.pop("seconds", None)
    write_npz(path, arrays, {**(metadata or {}), "labels": labels, "provenance": provenance})


def read_hierarchies(path: str | os.PathLike[str]) -> list[BlockHierarchy]:
    """Read what `write_hierarchies` wrote.

    Raises:
        DataError: the file is missing, damaged, or of another kind.
    """
    arrays, metadata = read_npz(path)
    if "description_lengths" not in arrays or "labels" not in metadata:
        raise DataError(f"{path} does not hold block hierarchies")
    lengths, labels = arrays["description_lengths"], metadata["labels"]
    if len(lengths) != len(labels):
        raise DataError(f"{path} holds {len(lengths)} description lengths for {len(labels)} labels")
    return [
        BlockHierarchy(
            tuple(_numbered(arrays, f"hierarchy{h}_level")),
            float(length),
            label,
            metadata.get("provenance", {}),
        )
        for h, (length, label) in enumerate(zip(lengths, labels, strict=True))
    ]


def _check_weights(weight: np.ndarray) -> None:
    bad = np.flatnonzero(~(np.isfinite(weight) & (weight >= 0)))
    if len(bad):
        raise DataError(
            f"the exponential weight model needs finite weights of at least 0; {len(bad)} of "
            f"{len(weight)} edges have others, the first {weight[bad[0]]}"
        )


def _scaled(weight: np.ndarray, scale: str) -> np.ndarray:
    mean = weight.mean()
    if mean == 0:
        # Equal weights say nothing about the blocks; zeros alone would fit no exponential.
        return np.ones_like(weight)
    return weight / mean if scale == "unit_mean" else weight


def _seeds(options: BlockModelOptions, seed: int) -> list[int]:
    count = {
        "posterior": options.restarts + 1,
        "fresh": options.restarts * options.hierarchies,
        "fresh_weighted": options.hierarchies,
    }[options.draws]
    return [derive_seed(seed, "nested_sbm", k) % 2**31 for k in range(count)]


def _run_worker(python: str, request: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    with tempfile.TemporaryDirectory(prefix="espalier-sbm-") as folder:
        paths = [Path(folder, name) for name in ("request.npz", "result.npz")]
        write_npz(paths[0], request)
        finished = subprocess.run(
            [python, str(_WORKER), *map(str, paths)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if finished.returncode:
            lines = finished.stderr.strip().splitlines() or ["no message"]
            raise EspalierError(
                f"graph-tool in {python} failed with exit status {finished.returncode}: "
                f"{lines[-1]}\n" + "\n".join(lines[-20:-1])
            )
        result, _ = read_npz(paths[1])
    return result


def _numbered(arrays: Mapping[str, np.ndarray], stem: str) -> list[np.ndarray]:
    levels = []
    while f"{stem}{len(levels)}" in arrays:
        levels.append(arrays[f"{stem}{len(levels)}"])
    return levels


def _all_nodes(
    levels: Sequence[np.ndarray], fitted_nodes: np.ndarray, n_nodes: int
) -> tuple[np.ndarray, ...]:
    first = np.full(n_nodes, -1, dtype=np.int64)
    first[fitted_nodes] = levels[0]
    return (first, *levels[1:])
