"""The workflow's stages of Neural Sculpting: networks and their modules."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from espalier.files import FilePath, read_json, write_json, write_npz
from espalier.jobs import job_threads
from espalier.provenance import provenance
from espalier.sculpting.experiments import (
    DIGIT_FUNCTIONS,
    function_label,
    hidden_label,
    is_file,
)
from espalier.sculpting.function_families import published_function
from espalier.sculpting.functions import FunctionGraph, read_function
from espalier.sculpting.module_graph import module_hierarchy, write_module_graphml
from espalier.sculpting.module_stability import module_null_test, seed_stability
from espalier.sculpting.modules import Modules, detect_modules
from espalier.sculpting.networks import network_of
from espalier.sculpting.pruning import EDGE_ONLY_STEPS, Grid, Trial, sculpt
from espalier.sculpting.structure import path_products, separability_tests, units_covering
from espalier.sculpting.success import (
    OUTCOMES,
    compare_hierarchy,
    trial_successes,
    true_subfunctions,
)
from espalier.sculpting.tasks import build_task, digit_of_input
from espalier.sculpting.training import Recipe
from espalier.sculpting.trials import modules_of_trial, read_networks

Options = Mapping[str, Any]
Groups = Sequence[tuple[Sequence[int], Sequence[int]]]

_LEVEL = 0.05


def graph_of(function: str) -> FunctionGraph | None:
    """Return the graph of a published function or a YAML file; None for a task on digits."""
    if function in DIGIT_FUNCTIONS:
        return None
    return read_function(function) if is_file(function) else published_function(function)


# -- networks ------------------------------------------------------------------------------------


def sculpt_networks(
    networks: FilePath,
    record: FilePath,
    variant: str,
    function: str,
    hidden: Sequence[int],
    recipe: Options,
    options: Options,
    mirrors: Sequence[str],
    device: str,
    code: str,
) -> None:
    """Train and prune the networks of one (variant, function, shape), one per seed.

    Args:
        networks: NPZ to write. Per seed s: "seed{s}.edges" (live,) int64 and "seed{s}.weights"
            (live,) float32, "seed{s}.biases", and "seed{s}.dense" (edges of the dense network,)
            float32, its trained weights; see `espalier.sculpting.networks.Network`.
        record: JSON to write: density, accuracy, winning pair and all pairs of each seed.
        variant: name of the variant, for the record.
        function: published name, digit task or YAML file.
        hidden: widths of the hidden layers.
        recipe: fields of `Recipe`.
        options: seeds, unit_steps, edge_steps, control, rules, engine and images_per_pair.
        mirrors: where MNIST is looked for.
        device: "cpu", "cuda" or "auto".
        code: digest of the code, for the record.
    """
    started, worked = time.monotonic(), time.process_time()
    task = build_task(function, mirrors=mirrors, per_pair=options["images_per_pair"])
    control = None if options["control"] == "none" else options["control"]
    trials = sculpt(
        task,
        hidden,
        options["seeds"],
        Recipe(**recipe),
        pruning_grid(options["unit_steps"], options["edge_steps"], control),
        device=_device(options["engine"], device),
        control=control,
        rules=options["rules"],
        engine=options["engine"],
        threads=job_threads(),
    )
    facts = {
        "variant": variant,
        "function": function_label(function),
        "hidden": hidden_label(hidden),
        "widths": [task.n_inputs, *hidden, task.n_outputs],
        "control": options["control"],
        "rules": options["rules"],
        "modularity_threshold": task.modularity_threshold,
        "merge_threshold": task.merge_threshold,
    }
    seconds = {
        "seconds": time.monotonic() - started,
        "cpu_seconds": time.process_time() - worked,
    }
    source = provenance(code, {"recipe": recipe, "options": options}, list(options["seeds"]))
    arrays: dict[str, np.ndarray] = {}
    for trial in trials:
        network = network_of(trial.masks, trial.weights, trial.biases)
        dense = np.concatenate([matrix.ravel() for matrix in trial.dense_weights])
        arrays |= {
            f"seed{trial.seed}.edges": network.edges,
            f"seed{trial.seed}.weights": network.weights,
            f"seed{trial.seed}.biases": network.biases,
            f"seed{trial.seed}.dense": dense,
        }
    write_npz(networks, arrays, {**facts, **source})
    write_json(
        record,
        {
            **facts,
            **seconds,
            "recipe": dict(recipe),
            "trials": [_trial_record(trial) for trial in trials],
            "provenance": source,
        },
    )


def pruning_grid(
    unit_steps: Sequence[float], edge_steps: Sequence[float], control: str | None
) -> Grid:
    """Return the grid of first steps; empty lists stand for the published ones."""
    chosen = {}
    if unit_steps:
        chosen["unit_steps"] = tuple(unit_steps)
    if edge_steps:
        chosen["edge_steps"] = tuple(edge_steps)
    elif control == "edge-only":
        chosen["edge_steps"] = EDGE_ONLY_STEPS
    return Grid(**chosen)


def _device(engine: str, device: str) -> str:
    if engine == "edges" or device == "cpu":
        return "cpu"
    from espalier.devices import prepare_device

    return str(prepare_device(device, job_threads()))


def _trial_record(trial: Trial) -> dict[str, Any]:
    keys = ("seed", "unit_step", "edge_step", "density", "accuracy", "dense_accuracy", "reached")
    return {
        **{key: getattr(trial, key) for key in keys},
        "rounds": trial.rounds,
        "trainings": trial.trainings,
        "pairs": [asdict(pair) for pair in trial.pairs],
    }


# -- modules -------------------------------------------------------------------------------------


def detect_sculpted_modules(
    networks: FilePath,
    record: FilePath,
    output: FilePath,
    function: str,
    null_networks: int,
    code: str,
) -> None:
    """Find and judge the modules of the networks of one (variant, function, shape).

    Args:
        networks, record: of `sculpt_networks`.
        output: JSON to write: one entry per seed with its modules, the criteria, what became of
            each sub-function, the tests of structure and the null test; the stability over seeds.
        function: published name, digit task or YAML file.
        null_networks: random networks of the same degrees per trial.
        code: digest of the code, for the record.
    """
    started = time.monotonic()
    content = read_json(record)
    members, facts = read_networks(networks)
    graph = graph_of(function)
    thresholds = (facts["modularity_threshold"], facts["merge_threshold"])
    trials, reached = [], []
    for trial in content["trials"]:
        network, dense = members[trial["seed"]]
        masks = network.masks()
        modules = detect_modules(masks, *thresholds)
        entry = {
            **{key: value for key, value in trial.items() if key != "pairs"},
            **_module_entry(modules, function if graph is None else graph),
            "structure": [
                *structure_rows("dense", dense, separable_groups(graph, facts["widths"])),
                *structure_rows(
                    {"none": "unit-and-edge-pruned", "edge-only": "edge-pruned"}.get(
                        facts["control"], "dense control"
                    ),
                    network.weight_matrices(),
                    separable_groups(graph, facts["widths"]),
                ),
            ],
            "null": None,
        }
        if trial["reached"] and facts["control"] != "dense":
            reached.append(modules)
            entry["null"] = null_entry(masks, null_networks, trial["seed"], thresholds)
        trials.append(entry)
    keys = ("variant", "function", "hidden", "control", "rules", "recipe")
    write_json(
        output,
        {
            **{key: content[key] for key in keys},
            "trials": trials,
            "stability": stability_entry(reached),
            "sculpting_seconds": content["seconds"],
            "sculpting_cpu_seconds": content["cpu_seconds"],
            "seconds": time.monotonic() - started,
            "provenance": provenance(
                code, {"null_networks": null_networks}, [trial["seed"] for trial in trials]
            ),
        },
    )


def _module_entry(modules: Modules, function: str | FunctionGraph) -> dict[str, Any]:
    hierarchy = module_hierarchy(modules)
    entry: dict[str, Any] = {
        "modules": modules.num_modules,
        "input_clusters": len(modules.cluster_partition(0)),
        "input_modules": len(modules.partition(0)),
        "output_modules": len(modules.partition(-1)),
        "live_units": [len(alive) for alive in modules.alive],
        "hierarchy": {
            "nodes": [
                {"name": node.name, "level": node.level, "size": node.size, "reuse": node.reuse}
                for node in hierarchy.nodes
            ],
            "edges": hierarchy.edges.tolist(),
            "acyclic": hierarchy.acyclic,
            "newick": hierarchy.newick() if hierarchy.is_forest else None,
        },
        "successes": [asdict(success) for success in trial_successes(function, modules)],
        "subfunctions": None,
    }
    if isinstance(function, FunctionGraph):
        comparison = compare_hierarchy(modules, function)
        entry["subfunctions"] = {
            **{outcome: list(comparison.named(outcome)) for outcome in OUTCOMES},
            "unexplained": len(comparison.unexplained),
            "exact": comparison.exact,
        }
    return entry


def separable_groups(graph: FunctionGraph | None, widths: Sequence[int]) -> Groups:
    """Return positions of the inputs and outputs of each sub-function that holds both.

    For a task on two digits these are the inputs of each digit and the outputs of its class. Empty
    where fewer than two sub-functions hold both: there is nothing to separate.
    """
    if graph is None:
        if widths[-1] != 20:
            return []
        digits = digit_of_input(widths[0])
        return [
            (np.flatnonzero(digits == digit).tolist(), list(range(10 * digit, 10 * digit + 10)))
            for digit in (0, 1)
        ]
    outputs = [gate.name for gate in graph.outputs]
    groups = [
        tuple(
            [k for k, name in enumerate(names) if name in part.nodes]
            for names in (graph.inputs, outputs)
        )
        for part in true_subfunctions(graph)
    ]
    groups = [(own, served) for own, served in groups if own and served]
    tested = len(groups) > 1 and all(len(own) * len(served) > 1 for own, served in groups)
    return groups if tested else []


def structure_rows(
    network: str, weights: Sequence[np.ndarray], groups: Groups
) -> list[dict[str, Any]]:
    """Return the tests of structure of one network, one row per number.

    Rows have network, statistic, part and value. welch_t and welch_p: of group `part`, from 1;
    separable: whether all tests reject at 0.05; n90, n90_published: units of hidden layer `part`
    that carry 90 % of the weight of the paths, by definition and as the public code counts.

    Source: Patil et al. (2023), section 2.
    """
    rows: list[tuple[str, int, float]] = []
    if groups:
        tests = separability_tests(path_products(weights), groups)
        for part, test in enumerate(tests, 1):
            rows += [("welch_t", part, test.statistic), ("welch_p", part, test.p_value)]
        rows.append(("separable", 0, float(all(test.p_value < _LEVEL for test in tests))))
    for layer in range(1, len(weights)):
        rows.append(("n90", layer, units_covering(weights, layer)))
        rows.append(("n90_published", layer, units_covering(weights, layer, 0.9, "published")))
    return [
        {"network": network, "statistic": statistic, "part": part, "value": value}
        for statistic, part, value in rows
    ]


def null_entry(
    masks: Sequence[np.ndarray], n: int, seed: int, thresholds: tuple[float, float]
) -> dict[str, Any]:
    """Return the null test of one network as numbers; see `module_null_test`."""
    test = module_null_test(masks, n, seed, *thresholds)
    entry: dict[str, Any] = {"moved": test.moved, "n": n}
    for name in ("num_modules", "modularity"):
        part = getattr(test, name)
        entry |= {
            name: part.observed,
            f"{name}_null": part.mean,
            f"{name}_z": part.z,
            f"{name}_p_higher": part.p_higher,
            f"{name}_p_lower": part.p_lower,
        }
    return entry


def stability_entry(networks: Sequence[Modules]) -> dict[str, Any] | None:
    """Return the agreement of networks that differ in their seeds; None for fewer than two."""
    if len(networks) < 2:
        return None
    found = seed_stability(networks)
    entry: dict[str, Any] = {"networks": len(networks)}
    for name in ("inputs", "outputs"):
        part = getattr(found, name)
        entry |= {name: part.mean, f"{name}_low": part.low, f"{name}_high": part.high}
    counts = np.bincount(found.num_modules)
    return {
        **entry,
        "modules_mode": int(counts.argmax()),
        "share_of_mode": float(counts.max() / len(networks)),
    }


def export_hierarchy(networks: FilePath, seed: int, output: FilePath) -> None:
    """Write the hierarchy of modules of one trial as GraphML.

    Raises:
        DataError: the file has no trial of this seed.
    """
    modules, _ = modules_of_trial(networks, seed)
    write_module_graphml(output, module_hierarchy(modules))
