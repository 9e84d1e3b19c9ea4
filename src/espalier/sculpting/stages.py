"""The workflow's stages of Neural Sculpting: networks, their modules, tables."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from espalier.files import read_json, write_json, write_npz, write_table
from espalier.jobs import job_threads
from espalier.provenance import provenance
from espalier.sculpting.experiments import (
    DIGIT_FUNCTIONS,
    function_label,
    hidden_label,
    hidden_of_label,
    is_file,
)
from espalier.sculpting.functions import (
    FAMILIES,
    FunctionGraph,
    function_overlap,
    function_use,
    published_function,
    read_function,
)
from espalier.sculpting.module_graph import module_hierarchy, write_module_graphml
from espalier.sculpting.module_stability import module_null_test, seed_stability
from espalier.sculpting.modules import Modules, detect_modules
from espalier.sculpting.networks import network_of
from espalier.sculpting.pruning import EDGE_ONLY_STEPS, Grid, Trial, sculpt
from espalier.sculpting.published_recipes import published_densities, published_success
from espalier.sculpting.structure import path_products, separability_tests, units_covering
from espalier.sculpting.success import (
    SUCCESS_COLUMNS,
    compare_hierarchy,
    success_table,
    trial_successes,
    true_subfunctions,
    wilson_interval,
)
from espalier.sculpting.tasks import build_task, digit_of_input
from espalier.sculpting.training import Recipe
from espalier.sculpting.trials import modules_of_trial, read_networks

FilePath = str | os.PathLike[str]
Options = Mapping[str, Any]
Groups = Sequence[tuple[Sequence[int], Sequence[int]]]

OUTCOMES = ("found", "merged", "split", "split and merged", "missed")
_CRITERIA = ("hierarchy", "inputs", "outputs", "hidden_units", "intermediate", "middle")
_LEVEL = 0.05
_PUBLISHED_TRIALS = {True: 36, False: 12}
_TABLE_4 = 0.99


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


# -- tables --------------------------------------------------------------------------------------


def trial_rows(record: Options) -> list[dict[str, Any]]:
    """Return the rows of modules.csv of one (variant, function, shape), one per trial.

    family is the first family of the function, whose criteria the columns hierarchy to middle
    hold (empty where the family has no such criterion); found to missed name the sub-functions,
    separated by spaces; p_u and p_e are the winning pair in percent; the separability tests and
    N90 are those of the pruned network. seconds is the time of all trials of the job, by trial.
    """
    hidden = hidden_of_label(record["hidden"])
    rows = []
    for trial in record["trials"]:
        family = trial["successes"][0]["family"]
        judged = {
            success["criterion"]: success["success"]
            for success in trial["successes"]
            if success["family"] == family
        }
        parts = trial["subfunctions"] or {}
        rows.append(
            {
                **_names(record),
                "function": record["function"],
                "family": family,
                "hidden_layers": len(hidden),
                "width": max(hidden),
                "hidden": record["hidden"],
                "seed": trial["seed"],
                "p_u": trial["unit_step"],
                "p_e": trial["edge_step"],
                "density": trial["density"],
                "accuracy": trial["accuracy"],
                "dense_accuracy": trial["dense_accuracy"],
                "reached": trial["reached"],
                "modules": trial["modules"],
                "input_clusters": trial["input_clusters"],
                "input_modules": trial["input_modules"],
                "output_modules": trial["output_modules"],
                "live_units": "-".join(map(str, trial["live_units"])),
                **{criterion: judged.get(criterion) for criterion in _CRITERIA},
                **{
                    outcome.replace(" ", "_"): " ".join(parts.get(outcome, []))
                    for outcome in OUTCOMES
                },
                "unexplained": parts.get("unexplained"),
                "exact": parts.get("exact"),
                "tree": trial["hierarchy"]["newick"] is not None,
                **_structure_columns(trial["structure"]),
                "rounds": trial["rounds"],
                "trainings": trial["trainings"],
                "seconds": record["sculpting_seconds"] / len(record["trials"]),
                "cpu_seconds": record["sculpting_cpu_seconds"] / len(record["trials"]),
                **{key: record["recipe"][key] for key in ("learning_rate", "batch_size", "epochs")},
            }
        )
    return rows


def _names(record: Options) -> dict[str, Any]:
    return {key: record[key] for key in ("variant", "control", "rules")}


def _structure_columns(rows: Sequence[Options]) -> dict[str, Any]:
    last = rows[-1]["network"]
    own = [row for row in rows if row["network"] == last]
    separable = [bool(row["value"]) for row in own if row["statistic"] == "separable"]
    p_values = [row["value"] for row in own if row["statistic"] == "welch_p"]
    n90 = [str(int(row["value"])) for row in own if row["statistic"] == "n90"]
    return {
        "separable": separable[0] if separable else None,
        "largest_welch_p": max(p_values) if p_values else None,
        "n90": "-".join(n90),
    }


def criterion_rows(record: Options) -> list[dict[str, Any]]:
    """Return one row per trial and criterion, for `success_table`."""
    return [
        {
            "variant": record["variant"],
            "function": record["function"],
            "hidden_layers": len(hidden_of_label(record["hidden"])),
            "learning_rate": record["recipe"]["learning_rate"],
            "batch_size": record["recipe"]["batch_size"],
            "epochs": record["recipe"]["epochs"],
            "width": max(hidden_of_label(record["hidden"])),
            **success,
        }
        for trial in record["trials"]
        for success in trial["successes"]
    ]


def rates_of(trials: pd.DataFrame) -> pd.DataFrame:
    """Return modules_success.csv: `success_table` per variant, with rate and Wilson's interval."""
    parts = []
    for variant, rows in trials.groupby("variant", sort=False):
        table = _with_interval(success_table(rows))
        table.insert(0, "variant", str(variant))
        parts.append(table)
    return pd.concat(parts, ignore_index=True)


def _with_interval(table: pd.DataFrame) -> pd.DataFrame:
    successes, trials = (table[key].to_numpy() for key in ("successes", "trials"))
    low, high = wilson_interval(successes, trials)
    return table.assign(rate=successes / trials, low=low, high=high)


def compared_rates(success: pd.DataFrame, published: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return modules_compared.csv: the cells of the paper's figures, ours beside the published.

    One row per variant and published cell that has trials here; the overlap family and the task of
    two digits are pooled over depths, as in Figure 10 and section 5.5, and "all" pools the
    validation graphs as Table 4 does, but for the reused sub-function in one hidden layer, with
    which 0.99 could not be. published_trials are those of the paper: four seeds and
    three widths, and three depths where pooled. p_value: Fisher's exact test, two-sided, of the two
    rates.

    Args:
        success: of `rates_of`.
        published: of `published_success`, the default.
    """
    theirs = published_success() if published is None else published
    rows = []
    for variant, own in success.groupby("variant", sort=False):
        for cell in theirs.to_dict("records"):
            chosen = own[
                (own["family"] == cell["family"])
                & (own["function"] == cell["function"])
                & (own["criterion"] == cell["criterion"])
            ]
            pooled = pd.isna(cell["hidden_layers"])
            if not pooled:
                chosen = chosen[chosen["hidden_layers"] == cell["hidden_layers"]]
            if len(chosen):
                rows.append(_compared(str(variant), cell, chosen, _PUBLISHED_TRIALS[pooled]))
        whole = own[(own["family"] == "validation") & (own["criterion"] == "hierarchy")]
        # One hidden layer cannot hold the reused sub-function; Table 4 cannot have counted it.
        shallow = (whole["function"] == "4-1-2-16") & (whole["hidden_layers"] == 1)
        whole = whole[~shallow]
        if set(whole["function"]) == set(FAMILIES["validation"]):
            cell = {
                "family": "validation", "function": "all", "hidden_layers": None,
                "criterion": "hierarchy", "rate": _TABLE_4,
            }  # fmt: skip
            rows.append(_compared(str(variant), cell, whole, 132))
    columns = [
        "variant", *SUCCESS_COLUMNS, "rate", "low", "high", "published_rate",
        "published_trials", "p_value",
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=columns)
    for key in ("use", "overlap", "hidden_layers"):
        table[key] = table[key].astype("Int64")
    return table


def _compared(
    variant: str, cell: Mapping[Any, Any], rows: Any, published_trials: int
) -> dict[str, Any]:
    successes, trials = int(rows["successes"].sum()), int(rows["trials"].sum())
    low, high = wilson_interval(successes, trials)
    theirs = round(cell["rate"] * published_trials)
    counts = [[successes, trials - successes], [theirs, published_trials - theirs]]
    found: Any = stats.fisher_exact(counts)
    depth = cell["hidden_layers"]
    return {
        "variant": variant,
        "function": cell["function"],
        "family": cell["family"],
        "use": function_use(cell["function"]),
        "overlap": function_overlap(cell["function"]),
        "hidden_layers": None if pd.isna(depth) else int(depth),
        "criterion": cell["criterion"],
        "successes": successes,
        "trials": trials,
        "rate": successes / trials,
        "low": float(low),
        "high": float(high),
        "published_rate": cell["rate"],
        "published_trials": published_trials,
        "p_value": float(found.pvalue),
    }


def recipe_rates(trials: pd.DataFrame) -> pd.DataFrame:
    """Return modules_recipes.csv: rates of the validation graphs by recipe, as in Tables 2 and 3.

    Args:
        trials: of `criterion_rows`.
    """
    keys = [
        "variant", "function", "hidden_layers", "width", "learning_rate", "batch_size", "epochs",
    ]  # fmt: skip
    rows = trials[(trials["family"] == "validation") & (trials["criterion"] == "hierarchy")]
    table = rows.groupby(keys, sort=False)["success"].agg(["sum", "size"]).reset_index()
    table = table.rename(columns={"sum": "successes", "size": "trials"})
    table["successes"] = table["successes"].astype(np.int64)
    return _with_interval(table) if len(table) else table.assign(rate=[], low=[], high=[])


def compared_densities(trials: pd.DataFrame, published: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return modules_densities.csv: the lowest densities by shape, ours beside the published.

    Densities are in percent: mean, lowest and highest over the trials that were reached, the same
    of the published trials, and the difference of the means.

    Args:
        trials: modules.csv.
        published: of `published_densities`, the default.
    """
    theirs = published_densities() if published is None else published
    keys = ["function", "hidden_layers", "width"]
    own = trials[trials["reached"].astype(bool)].assign(percent=100 * trials["density"])
    table = _spread(own, ["variant", *keys], "percent", "density")
    reference = _spread(theirs, keys, "density_percent", "published_density")
    joined = table.merge(reference, how="left", on=keys)
    return joined.assign(difference=joined["density_mean"] - joined["published_density_mean"])


def _spread(table: pd.DataFrame, keys: list[str], value: str, name: str) -> pd.DataFrame:
    grouped = table.groupby(keys, sort=False)[value]
    found = grouped.agg(["size", "mean", "min", "max"]).reset_index()
    names = {"size": f"{name}_trials", "mean": f"{name}_mean", "min": f"{name}_low"}
    return found.rename(columns={**names, "max": f"{name}_high"})


def _shape_names(record: Options) -> dict[str, Any]:
    hidden = hidden_of_label(record["hidden"])
    return {
        "variant": record["variant"],
        "function": record["function"],
        "hidden_layers": len(hidden),
        "width": max(hidden),
        "hidden": record["hidden"],
    }


def structure_table(records: Iterable[Options]) -> pd.DataFrame:
    """Return modules_structure.csv: `structure_rows` of every trial, dense and pruned."""
    columns = [
        "variant", "function", "hidden_layers", "width", "hidden", "seed", "network",
        "statistic", "part", "value",
    ]  # fmt: skip
    rows = [
        {**_shape_names(record), "seed": trial["seed"], **row}
        for record in records
        for trial in record["trials"]
        for row in trial["structure"]
    ]
    return pd.DataFrame(rows, columns=columns)


def stability_table(records: Iterable[Options]) -> pd.DataFrame:
    """Return modules_stability.csv: `stability_entry` of every shape with two trials or more."""
    rows = [
        {**_shape_names(record), **record["stability"]} for record in records if record["stability"]
    ]
    columns = [
        "variant", "function", "hidden_layers", "width", "hidden", "networks", "inputs",
        "inputs_low", "inputs_high", "outputs", "outputs_low", "outputs_high", "modules_mode",
        "share_of_mode",
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def null_table(records: Iterable[Options]) -> pd.DataFrame:
    """Return modules_null.csv: `null_entry` of every trial that was reached."""
    rows = [
        {**_shape_names(record), "seed": trial["seed"], **trial["null"]}
        for record in records
        for trial in record["trials"]
        if trial["null"]
    ]
    parts = [
        f"{name}{part}"
        for name in ("num_modules", "modularity")
        for part in ("", "_null", "_z", "_p_higher", "_p_lower")
    ]
    names = ["variant", "function", "hidden_layers", "width", "hidden", "seed", "n", "moved"]
    return pd.DataFrame(rows, columns=[*names, *parts])


def write_module_tables(
    records: Sequence[FilePath],
    modules: FilePath,
    success: FilePath,
    compared: FilePath,
    recipes: FilePath,
    densities: FilePath,
    structure: FilePath,
    stability: FilePath,
    null: FilePath,
    settings: Options,
    code: str,
) -> None:
    """Gather all trials in tables.

    Args:
        records: of `detect_sculpted_modules`.
        modules: CSV of `trial_rows`.
        success: CSV of `rates_of`.
        compared: CSV of `compared_rates`.
        recipes: CSV of `recipe_rates`.
        densities: CSV of `compared_densities`.
        structure: CSV of `structure_table`.
        stability: CSV of `stability_table`.
        null: CSV of `null_table`.
        settings: the configuration, for the record.
        code: digest of the code, for the record.
    """
    read = [read_json(path) for path in records]
    trials = pd.DataFrame([row for record in read for row in trial_rows(record)])
    judged = pd.DataFrame([row for record in read for row in criterion_rows(record)])
    rates = rates_of(judged)
    source = provenance(code, settings, sorted(set(trials["seed"].tolist())))
    write_table(modules, trials, source)
    write_table(success, rates, source)
    write_table(compared, compared_rates(rates), source)
    write_table(recipes, recipe_rates(judged), source)
    write_table(densities, compared_densities(trials), source)
    write_table(structure, structure_table(read), source)
    write_table(stability, stability_table(read), source)
    write_table(null, null_table(read), source)
