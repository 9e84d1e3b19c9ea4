"""The tables of accuracies: one row per network, and the layout of the published tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import fmean, stdev
from typing import Any

import pandas as pd

from espalier.files import FilePath, read_json, write_table
from espalier.provenance import provenance


def write_accuracy(
    accuracy: FilePath,
    networks: FilePath,
    metrics: Iterable[FilePath],
    settings: Mapping[str, Any],
    code: str,
) -> None:
    """Write the accuracies of all networks, one row each and as the published tables have them.

    Args:
        accuracy: CSV to write: the table of `accuracy_layout`.
        networks: CSV to write: the table of `network_rows`.
        metrics: JSON files of the networks.
        settings: the configuration, for the record.
        code: digest of the code, for the record.
    """
    rows = network_rows(metrics)
    record = provenance(code, settings, sorted({int(seed) for seed in rows["seed"]}))
    write_table(networks, rows, record)
    write_table(accuracy, accuracy_layout(rows), record)


def network_rows(metrics: Iterable[FilePath]) -> pd.DataFrame:
    """Return one row per network at the end of its training.

    Columns: dataset, model, pruner, sparsity (requested), achieved_sparsity (0 if dense),
    collapsed_layers (how many layers keep no weight), seed, epochs, train_accuracy,
    validation_accuracy (empty where no image validates), test_accuracy.
    """
    rows = []
    for path in metrics:
        record = read_json(path)
        last = record["checkpoints"][-1]
        rows.append(
            {
                **{key: record["network"][key] for key in ("dataset", "model", "pruner")},
                "sparsity": record["sparsity"],
                "achieved_sparsity": record.get("achieved_sparsity", 0.0),
                "collapsed_layers": len(record.get("collapsed_layers", ())),
                "seed": record["network"]["seed"],
                "epochs": last["epoch"],
                "train_accuracy": record["epochs"][-1]["train_accuracy"],
                "validation_accuracy": last["validation_accuracy"],
                "test_accuracy": last["test_accuracy"],
            }
        )
    return pd.DataFrame(rows)


def accuracy_layout(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the layout of the published tables: data sets and pruners down, networks across.

    A cell is the mean test accuracy in per cent and its standard deviation (n - 1) over the
    seeds, "92.7 ± 0.3"; one seed has no deviation. Dense networks stand in the columns of all
    sparsities.

    Source: Cunegatti et al. (2024), Tables 8 to 10.

    Args:
        rows: the table of `network_rows`.
    """
    sparsities = sorted(set(rows["sparsity"]) - {0.0}) or [0.0]
    cells = {
        key: _cell([100 * float(accuracy) for accuracy in group["test_accuracy"]])
        for key, group in rows.groupby(["dataset", "pruner", "model", "sparsity"], sort=False)
    }
    table = []
    for dataset, pruner in rows[["dataset", "pruner"]].drop_duplicates().itertuples(index=False):
        line = {"dataset": dataset, "pruner": pruner}
        for model in rows["model"].unique():
            for sparsity in sparsities:
                own = 0.0 if pruner == "dense" else sparsity
                line[f"{model} {sparsity:g}"] = cells.get((dataset, pruner, model, own), "")
        table.append(line)
    return pd.DataFrame(table)


def _cell(percentages: list[float]) -> str:
    mean = f"{fmean(percentages):.1f}"
    return mean if len(percentages) == 1 else f"{mean} ± {stdev(percentages):.1f}"
