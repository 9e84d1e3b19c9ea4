"""The tables of Neural Sculpting: trials, success rates, densities, structure and controls."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from espalier.files import FilePath, read_json, write_table
from espalier.provenance import provenance
from espalier.sculpting.experiments import hidden_of_label
from espalier.sculpting.function_families import FAMILIES, function_overlap, function_use
from espalier.sculpting.published_recipes import published_densities, published_success
from espalier.sculpting.success import (
    CRITERIA,
    OUTCOMES,
    SUCCESS_COLUMNS,
    success_table,
    wilson_interval,
)

Options = Mapping[str, Any]

_CRITERIA = tuple(dict.fromkeys(name for family in CRITERIA.values() for name in family))
_SHAPE_COLUMNS = ("variant", "function", "hidden_layers", "width", "hidden")
_PUBLISHED_TRIALS = {True: 36, False: 12}
_TABLE_4 = 0.99


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
                **{key: record[key] for key in ("variant", "control", "rules")},
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
    values = (record["variant"], record["function"], len(hidden), max(hidden), record["hidden"])
    return dict(zip(_SHAPE_COLUMNS, values, strict=True))


def structure_table(records: Iterable[Options]) -> pd.DataFrame:
    """Return modules_structure.csv: `structure_rows` of every trial, dense and pruned."""
    columns = [*_SHAPE_COLUMNS, "seed", "network", "statistic", "part", "value"]
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
        *_SHAPE_COLUMNS, "networks", "inputs", "inputs_low", "inputs_high", "outputs",
        "outputs_low", "outputs_high", "modules_mode", "share_of_mode",
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
    return pd.DataFrame(rows, columns=[*_SHAPE_COLUMNS, "seed", "n", "moved", *parts])


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
