"""The tables of class hierarchies: one row per tree, their baselines and their summary."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from espalier.errors import DamagedFileError, DataError
from espalier.files import (
    FilePath,
    content_digest,
    read_json,
    read_npz,
    read_table,
    write_npz,
    write_table,
)
from espalier.hierarchy.baselines import (
    mean_of_known,
    p_value,
    permuted_exact,
    permuted_values,
    random_values,
    sd_of_known,
    star_values,
)
from espalier.hierarchy.distances import MEASURES, TreeComparer, measure_columns
from espalier.hierarchy.trees import parse_newick
from espalier.hierarchy.truth import load_truth
from espalier.provenance import provenance

# The permuted and random trees are those of one seed: every data set is judged by the same draws.
_NULL_SEED = 0
_NULL_KINDS = ("permuted", "random")


def write_null_distances(
    path: FilePath, dataset: FilePath, truth: FilePath, n: int, code: str
) -> None:
    """Write what a star, n permuted truths and n random trees score by every measure.

    Arrays: "star/{column}" and "exact/{column}" (one value, NaN where there is none),
    "permuted/{column}" and "random/{column}" (n values).

    Raises:
        DataError: the leaves of the truth are not the classes of the data set.
    """
    class_names = [str(name) for name in read_npz(dataset)[0]["class_names"]]
    tree = load_truth(truth, class_names)
    star = star_values(tree, "both")
    draws = {
        "permuted": permuted_values(tree, rooted="both", n=n, seed=_NULL_SEED),
        "random": random_values(tree, rooted="both", n=n, seed=_NULL_SEED),
    }
    arrays = {}
    for column, (measure, rooted) in measure_columns(rooted="both").items():
        exact = permuted_exact(tree, measure, rooted)
        arrays[f"star/{column}"] = np.float64(star[column])
        arrays[f"exact/{column}"] = np.float64(np.nan if exact is None else exact)
        for kind in _NULL_KINDS:
            arrays[f"{kind}/{column}"] = draws[kind][column]
    record = provenance(code, {"permutations": n}, _NULL_SEED, truth=tree.newick())
    write_npz(path, arrays, record)


def write_distances(
    path: FilePath,
    nulls: FilePath,
    metrics: Iterable[FilePath],
    trees: Sequence[FilePath],
    records: Sequence[FilePath],
    code: str,
) -> None:
    """Write the distances of every tree of some networks to the true tree, one row per tree.

    Args:
        path: the CSV to write.
        nulls: the file of `write_null_distances`; it holds the true tree.
        metrics: JSON files with the accuracies of the networks' checkpoints.
        trees: Newick files, one tree per line.
        records: the JSON record of each Newick file, in the same order.
        code: digest of the code, for the record.
    """
    null, null_record = read_npz(nulls)
    comparer = TreeComparer(parse_newick(null_record["truth"]), "both")
    accuracies = _accuracies(metrics)
    rows = []
    for tree_path, record_path in zip(trees, records, strict=True):
        record = read_json(record_path)
        newicks = _trees(tree_path, record)
        if len(newicks) != len(record["samples"]):
            raise DataError(
                f"{tree_path} holds {len(newicks)} trees, {record_path} names "
                f"{len(record['samples'])}; delete both and run again"
            )
        rows.extend(_rows(record, newicks, accuracies, comparer, record_path))
    table = pd.DataFrame(rows)
    for column in _judged_columns():
        table[f"{column}_p"] = p_value(
            table[column].to_numpy(float), null[f"permuted/{column}"], column
        )
    seeds = sorted({int(row["seed"]) for row in rows})
    write_table(path, table, provenance(code, null_record["configuration"], seeds))


def _trees(path: FilePath, record: Mapping[str, Any]) -> list[str]:
    content = Path(path).read_bytes()
    if record.get("trees_digest") not in (None, content_digest(content)):
        raise DamagedFileError(
            path, "is not as it was written: its digest is not the one in its record"
        )
    return content.decode().splitlines()


def _judged_columns() -> list[str]:
    columns = measure_columns(rooted="both").items()
    return [
        column
        for column, (name, _) in columns
        if MEASURES[name].headline and MEASURES[name].better is not None
    ]


def _accuracies(metrics: Iterable[FilePath]) -> dict[tuple[float, int], dict[str, Any]]:
    """Return the entry of each checkpoint by (sparsity, checkpoint); the last is also under -1."""
    found: dict[tuple[float, int], dict[str, Any]] = {}
    for path in metrics:
        content = read_json(path)
        for entry in content["checkpoints"]:
            found[content["sparsity"], entry["checkpoint"]] = entry
        found[content["sparsity"], -1] = content["checkpoints"][-1]
    return found


def _rows(
    record: Mapping[str, Any],
    newicks: Sequence[str],
    accuracies: Mapping[tuple[float, int], Mapping[str, Any]],
    comparer: TreeComparer,
    path: FilePath,
) -> list[dict[str, Any]]:
    network = record["network"]
    asked = -1 if network["checkpoint"] is None else network["checkpoint"]
    try:
        entry = accuracies[network["sparsity"], asked]
    except KeyError:
        raise DataError(f"{path}: no accuracy is known for checkpoint {asked}") from None
    details = record["details"]
    lengths = details.get("description_lengths") or [None] * len(newicks)
    levels = details.get("levels") or [None] * len(newicks)
    rows = []
    for newick, sample, length, depth in zip(
        newicks, record["samples"], lengths, levels, strict=True
    ):
        rows.append(
            {
                **{key: network[key] for key in ("dataset", "model", "pruner", "sparsity", "seed")},
                "checkpoint": entry["checkpoint"],
                "epoch": entry["epoch"],
                "detector": record["detector"],
                "sample": sample,
                "nodes": record["nodes"],
                "edges": record["edges"],
                "constant_units": record["constant_units"],
                "test_accuracy": entry["test_accuracy"],
                "validation_accuracy": entry["validation_accuracy"],
                "description_length": length,
                "levels": depth,
                **comparer(newick),
            }
        )
    return rows


def write_rf(path: FilePath, parts: Iterable[FilePath], settings: Any, code: str) -> None:
    """Gather the distances of all networks in one table, sorted by network, detector and tree."""
    tables = [read_table(part) for part in parts]
    seeds = sorted({seed for table in tables for seed in table.attrs["provenance"]["seed"]})
    for table in tables:
        table.attrs.clear()
    rf = pd.concat(tables, ignore_index=True)
    write_table(path, rf, provenance(code, settings, seeds))


def write_baselines(path: FilePath, nulls: Mapping[str, FilePath], code: str) -> None:
    """Write one row per (data set, measure): what the star, permuted and random trees score."""
    rows, configurations = [], []
    for dataset, null_path in nulls.items():
        null, record = read_npz(null_path)
        configurations.append(record["configuration"])
        for column in measure_columns(rooted="both"):
            permuted, random = (null[f"{kind}/{column}"] for kind in _NULL_KINDS)
            rows.append(
                {
                    "dataset": dataset,
                    "measure": column,
                    "star": null[f"star/{column}"].item(),
                    "permuted_mean": mean_of_known(permuted),
                    "permuted_sd": sd_of_known(permuted),
                    "permuted_exact": null[f"exact/{column}"].item(),
                    "random_mean": mean_of_known(random),
                    "random_sd": sd_of_known(random),
                    "n": len(permuted),
                }
            )
    write_table(path, pd.DataFrame(rows), provenance(code, configurations, _NULL_SEED))


def summarise(rf: pd.DataFrame, baselines: pd.DataFrame) -> pd.DataFrame:
    """Summarise converged networks as the thesis' Tables 1 and 2: accuracy, mean and sd of RF.

    The accuracy's mean and sd are over seeds, those of the distances over all trees of all seeds
    (sd with n-1). Beside them stand the star, the exact mean of permuted truths and the mean of
    random binary trees.

    Args:
        rf: the table of `write_rf`.
        baselines: the table of `write_baselines`.

    Returns:
        One row per (dataset, detector, model, pruner, sparsity).

    Source: Petkov (2021), Tables 1 and 2.
    """
    network = ["dataset", "model", "pruner", "sparsity", "seed"]
    converged = rf[rf["checkpoint"] == rf.groupby(network)["checkpoint"].transform("max")]
    reference = baselines.set_index(["dataset", "measure"])
    rows = []
    keys = ["dataset", "detector", "model", "pruner", "sparsity"]
    for _, group in converged.groupby(keys, sort=True):
        by_seed = np.asarray(group.groupby("seed")["test_accuracy"].first(), float)
        first = group.iloc[0]
        row: dict[str, Any] = {name: first[name] for name in keys}
        row |= {"seeds": len(by_seed), "trees": len(group)}
        row |= {
            "test_accuracy_mean": mean_of_known(by_seed),
            "test_accuracy_sd": sd_of_known(by_seed),
        }
        for column in _judged_columns():
            values = np.asarray(group[column], float)
            judged = reference.loc[row["dataset"], column]
            row[f"{column}_mean"], row[f"{column}_sd"] = mean_of_known(values), sd_of_known(values)
            row[f"{column}_star"] = judged["star"]
            exact = judged["permuted_exact"]
            row[f"{column}_permuted"] = judged["permuted_mean"] if np.isnan(exact) else exact
            row[f"{column}_random"] = judged["random_mean"]
        rows.append(row)
    return pd.DataFrame(rows).sort_values(keys, kind="stable", ignore_index=True)
