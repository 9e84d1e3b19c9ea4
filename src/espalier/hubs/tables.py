"""The workflow's stages after training: the choice of k, tables, ablation, tests for hubs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from espalier.data.prepared import read_dataset
from espalier.devices import prepare_device
from espalier.files import FilePath, read_json, read_npz, read_table, write_json, write_table
from espalier.hubs.centrality import laplacian_centrality
from espalier.hubs.formation import (
    ablation_curves,
    centrality_summary,
    compare_tails,
    hub_persistence,
)
from espalier.hubs.inputs import Standardisation, feature_images
from espalier.hubs.protocols import SEARCHES, search_table
from espalier.hubs.sparse_layers import SparsePerceptron
from espalier.hubs.training import accuracy
from espalier.jobs import job_threads
from espalier.provenance import provenance

Options = Mapping[str, Any]
_LAST_EPOCHS = 10
_REPLICATES = 200
_SEARCH_TABLES = {"wide": "5", "semi_narrow": "7", "narrow": "6 or 8"}
_TABLE_EPOCHS = 25
_FORMATION_COLUMNS = [
    "dataset",
    "model",
    "method",
    "k",
    "fraction",
    "seed",
    "epoch",
    "statistic",
    "value",
    "control",
    "difference",
    "low",
    "high",
    "p_value",
]
_ABLATED_SHARES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def run_columns(record: Options) -> dict[str, Any]:
    """Return what names a run in every table: dataset, model, method, k, fraction, seed."""
    options = record["options"]
    return {
        **{key: record[key] for key in ("dataset", "model", "method")},
        "k": options["k"],
        "fraction": options["fraction"],
        "seed": int(record["seed"]),
    }


def accuracy_row(record: Options) -> dict[str, Any]:
    """Return a run's row of censet_accuracy.csv.

    accuracy, validation_accuracy: means of the last 10 epochs (of all after the first weights, if
    there are fewer); sd_last10: of the test accuracies among them (ddof 0). removed_neurons and
    removed_edges: sums over all epochs. idle_epochs: after how many epochs nothing was removed,
    of those after which something could be.
    """
    epochs = record["epochs"][1:]
    last = epochs[-_LAST_EPOCHS:]
    test = np.array([epoch["test_accuracy"] for epoch in last], float)
    validation = [epoch["validation_accuracy"] for epoch in last]
    changes = [epoch["changes"] for epoch in epochs if epoch.get("changes")]
    return {
        **run_columns(record),
        "protocol": record["protocol"],
        "accuracy": float(test.mean()),
        "sd_last10": float(test.std()),
        "validation_accuracy": None if None in validation else float(np.mean(validation)),
        "connections": sum(epochs[-1]["connections"]),
        "sparse_connections": sum(epochs[-1]["connections"][:-1]),
        "removed_neurons": sum(sum(change["units"]) for change in changes),
        "removed_edges": sum(sum(change["edges"]) for change in changes),
        "idle_epochs": sum(not sum(change["edges"]) for change in changes),
        "centrality_mean": float(np.mean([epoch["centrality_mean"] for epoch in last])),
        "centrality_sd": float(np.mean([epoch["centrality_sd"] for epoch in last])),
        "preset": record["preset"],
        "method_preset": record["options"]["preset"],
        "selected_on": record["selected_on"],
        "epochs": len(epochs),
    }


def training_rows(record: Options) -> list[dict[str, Any]]:
    """Return a run's rows of hub_training.csv, one per epoch from 0."""
    rows = []
    for epoch in record["epochs"]:
        changes = epoch.get("changes") or {"units": [], "edges": [], "grown": []}
        rows.append(
            {
                **run_columns(record),
                "epoch": epoch["epoch"],
                "train_loss": epoch["train_loss"],
                "validation_accuracy": epoch["validation_accuracy"],
                "test_accuracy": epoch["test_accuracy"],
                "connections": sum(epoch["connections"]),
                "removed_neurons": sum(changes["units"]),
                "removed_edges": sum(changes["edges"]),
                "grown_edges": sum(changes["grown"]),
                "centrality_mean": epoch["centrality_mean"],
                "centrality_sd": epoch["centrality_sd"],
                "protocol": record["protocol"],
            }
        )
    return rows


def centrality_rows(record: Options, snapshots: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """Return a run's rows of hubs.csv: one per snapshot and layer; layer -1 is all together."""
    rows = []
    layers = snapshots["layer"]
    for epoch, values in zip(snapshots["epochs"], snapshots["centrality"], strict=True):
        for layer in (-1, *np.unique(layers)):
            part = values if layer == -1 else values[layers == layer]
            rows.append(
                {
                    **run_columns(record),
                    "epoch": int(epoch),
                    "layer": int(layer),
                    **centrality_summary(part.astype(np.float64)),
                    "preset": record["preset"],
                }
            )
    return rows


def choose_threshold(records: Iterable[FilePath], output: FilePath, code: str) -> None:
    """Write the best k of one threshold search of one (dataset, model) as JSON.

    Args:
        records: JSON records of all its runs.
        output: JSON to write: dataset, model, protocol, k and the table of the search.
        code: digest of the code, for the record.
    """
    runs = pd.DataFrame([accuracy_row(read_json(path)) for path in records])
    table = search_table(runs)
    best = table[table["chosen"]].iloc[0]
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    source = provenance(code, {}, sorted(set(runs["seed"].tolist())))
    names = {key: best[key] for key in ("dataset", "model", "protocol")}
    write_json(output, {**names, "k": float(best["k"]), "search": rows, "provenance": source})


def write_hub_tables(
    records: Sequence[FilePath],
    snapshots: Sequence[FilePath],
    hubs: FilePath,
    training: FilePath,
    accuracies: FilePath,
    search: FilePath,
    search_training: FilePath,
    layout: FilePath,
    settings: Options,
    code: str,
) -> None:
    """Gather all runs in the tables hubs, hub_training, censet_accuracy and hub_search.

    Args:
        records, snapshots: JSON records and centrality NPZ of the runs, in one order.
        hubs: CSV of `centrality_rows` of the compared runs.
        training: CSV of `training_rows` of the compared runs.
        accuracies: CSV of `accuracy_row`.
        search: CSV of `espalier.hubs.protocols.search_table`; without rows if there was no search.
        search_training: CSV of `training_rows` of the searches' runs.
        layout: CSV of `published_layout`.
        settings: the configuration, for the record.
        code: digest of the code, for the record.
    """
    runs, epochs, searched, centralities = [], [], [], []
    for path, arrays in zip(records, snapshots, strict=True):
        record = read_json(path)
        runs.append(accuracy_row(record))
        if record["protocol"] in SEARCHES:
            searched += training_rows(record)
        else:
            epochs += training_rows(record)
            centralities += centrality_rows(record, read_npz(arrays)[0])
    source = provenance(code, settings, sorted({row["seed"] for row in runs}))
    table = pd.DataFrame(runs)
    write_table(accuracies, table, source)
    write_table(training, pd.DataFrame(epochs), source)
    write_table(hubs, pd.DataFrame(centralities), source)
    write_table(search, search_table(table), source)
    columns = pd.Index(epochs[0]) if epochs else None
    write_table(search_training, pd.DataFrame(searched, columns=columns), source)
    write_table(layout, published_layout(table, pd.DataFrame(epochs)), source)


def published_layout(runs: pd.DataFrame, epochs: pd.DataFrame) -> pd.DataFrame:
    """Return the cells of Tables 4 to 10 of Heath (2021), one row each.

    Columns: table ("4", "5", "6 or 8", "7", "9 or 10"), dataset, model, row, column, mean, sd,
    seeds. Accuracies are in per cent; mean and sd (ddof 1) are over seeds. Table 4 compares
    methods, 5 is the wide search, 6 and 8 are narrow ones, 7 is the semi-narrow one, 9 and 10 give
    mean and deviation of the centrality at every 25th epoch.

    Args:
        runs: rows of censet_accuracy.csv.
        epochs: rows of hub_training.csv.
    """
    cells: dict[tuple[str, ...], list[float]] = {}

    def add(table: str, record: Options, row: str, column: str, value: Any) -> None:
        cell = (table, record["dataset"], record["model"], row, column)
        cells.setdefault(cell, []).append(float(value))

    for record in runs.to_dict("records"):
        if record["protocol"] in _SEARCH_TABLES:
            table, row = _SEARCH_TABLES[record["protocol"]], f"mu - {record['k']:g} sigma"
            add(table, record, row, "accuracy (%)", 100 * record["accuracy"])
            continue
        columns = {
            "accuracy (%)": 100 * record["accuracy"],
            "connections": record["sparse_connections"],
            "centrality mean": record["centrality_mean"],
            "centrality sd": record["centrality_sd"],
        }
        for column, value in columns.items():
            add("4", record, record["method"], column, value)
    for record in epochs.to_dict("records"):
        if record["protocol"] not in _SEARCH_TABLES and record["epoch"] % _TABLE_EPOCHS == 0:
            row = str(record["epoch"])
            for part in ("mean", "sd"):
                column = f"{record['method']} {part}"
                add("9 or 10", record, row, column, record[f"centrality_{part}"])
    names = ("table", "dataset", "model", "row", "column")
    return pd.DataFrame(
        {
            **dict(zip(names, cell, strict=True)),
            "mean": float(np.mean(values)),
            "sd": float(np.std(values, ddof=1)) if len(values) > 1 else None,
            "seeds": len(values),
        }
        for cell, values in sorted(cells.items(), key=lambda item: item[0][:3])
    )


def ablate_hubs(
    dataset: FilePath,
    record: FilePath,
    weights: FilePath,
    output: FilePath,
    code: str,
    repeats: int = 5,
) -> None:
    """Write the test accuracy of a trained network without its top, bottom or random hidden units.

    Args:
        dataset: prepared data set.
        record, weights: JSON and NPZ of `espalier.hubs.stages.train_hub_network`.
        output: CSV to write, the rows of hub_ablation.csv.
        code: digest of the code, for the record.
        repeats: random orders.
    """
    prepare_device("cpu", job_threads())
    facts = read_json(record)
    arrays, _ = read_npz(weights)
    network = SparsePerceptron.of_state(arrays)
    standard = Standardisation(
        torch.from_numpy(arrays["mean"]), torch.from_numpy(arrays["deviation"])
    )
    images = read_dataset(dataset)
    pixels, labels = feature_images(images.x_test), torch.from_numpy(images.y_test)

    def accuracy_without(removed: list[np.ndarray]) -> float:
        return accuracy(network, pixels, labels, standard, removed)

    values = laplacian_centrality(network.weights(), preset="definition")
    hidden = range(1, len(network.sizes) - 1)
    candidates = sum(network.sizes[layer] for layer in hidden)
    counts = sorted({math.floor(share * candidates) for share in _ABLATED_SHARES})
    table = ablation_curves(
        accuracy_without,
        values,
        counts,
        layers=hidden,
        repeats=repeats,
        seed=int(facts["seed"]),
    )
    columns = run_columns(facts)
    for position, (name, value) in enumerate(columns.items()):
        table.insert(position, name, value)
    write_table(output, table, provenance(code, {"repeats": repeats}, columns["seed"]))


def write_hub_tests(
    snapshots: Sequence[FilePath],
    ablations: Sequence[FilePath],
    formation: FilePath,
    ablation: FilePath,
    settings: Options,
    code: str,
) -> None:
    """Test whether hubs form, and gather the ablation curves.

    For every (dataset, model, method) and epoch of a snapshot the tail statistics of all seeds
    are set against those of the static networks at the same epoch (rows without control where
    there are none), and the overlap of the hubs with those of the snapshot before
    (overlap_epochs) against chance.

    Args:
        snapshots: centrality NPZ of the compared runs.
        ablations: CSV files of `ablate_hubs`.
        formation: CSV to write: hub_formation.csv.
        ablation: CSV to write: hub_ablation.csv.
        settings: the configuration, for the record.
        code: digest of the code, for the record.
    """
    networks: dict[tuple[str, str], dict[str, list[_Snapshots]]] = {}
    seeds = set()
    for path in snapshots:
        arrays, facts = read_npz(path)
        runs = networks.setdefault((facts["dataset"], facts["model"]), {})
        runs.setdefault(facts["method"], []).append(_Snapshots(facts, arrays))
        seeds.add(int(facts["seed"]))
    rows = [
        row
        for runs in networks.values()
        for seeds_of_run in runs.values()
        for row in _formation_rows(seeds_of_run, runs.get("static"))
    ]
    source = provenance(code, settings, sorted(seeds))
    write_table(formation, pd.DataFrame(rows, columns=pd.Index(_FORMATION_COLUMNS)), source)
    curves = [read_table(path) for path in ablations]
    write_table(ablation, pd.concat(curves, ignore_index=True), source)


class _Snapshots(NamedTuple):
    """The centralities of one run."""

    facts: dict[str, Any]
    arrays: dict[str, np.ndarray]

    def at(self, epoch: int) -> np.ndarray:
        """Return (units,) float64 of an epoch."""
        position = int(np.flatnonzero(self.arrays["epochs"] == epoch)[0])
        return self.arrays["centrality"][position].astype(np.float64)


def _formation_rows(
    runs: Sequence[_Snapshots], control: Sequence[_Snapshots] | None
) -> list[dict[str, Any]]:
    """Return the rows of hub_formation.csv of all seeds of one method."""
    facts = {**runs[0].facts}
    names = {**run_columns(facts), "seed": None}
    epochs = [int(epoch) for epoch in runs[0].arrays["epochs"]]
    rows: list[dict[str, Any]] = []
    if control is not None and facts["method"] != "static":
        shared = [epoch for epoch in epochs if epoch in control[0].arrays["epochs"]]
        for epoch in shared:
            compared = compare_tails(
                [run.at(epoch) for run in runs],
                [run.at(epoch) for run in control],
                replicates=_REPLICATES,
            )
            rows += [{**names, "epoch": epoch, **asdict(tail)} for tail in compared]
    for run in runs:
        pairs = hub_persistence(run.arrays["centrality"], epochs)
        seed = {**names, "seed": int(run.facts["seed"])}
        rows += [_overlap(seed, "overlap_epochs", pair) for pair in pairs.to_dict("records")]
    if len(runs) > 1:
        # Hidden units of two seeds have no common identity; the inputs have.
        for epoch in epochs:
            inputs = [run.at(epoch)[run.arrays["layer"] == 0] for run in runs]
            pairs = hub_persistence(np.stack(inputs), pairs="all").to_dict("records")
            rows += [_overlap(names, "overlap_seeds", {**pair, "second": epoch}) for pair in pairs]
    return rows


def _overlap(names: Options, statistic: str, pair: Options) -> dict[str, Any]:
    value, control = pair["jaccard"], pair["expected_jaccard"]
    return {
        **names,
        "epoch": pair["second"],
        "statistic": statistic,
        "value": value,
        "control": control,
        "difference": value - control,
        "p_value": pair["p_value"],
    }
