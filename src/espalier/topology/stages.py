"""The workflow's stages from pruned networks to layer graphs and topometrics."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import pandas as pd

from espalier.data.prepared import PreparedDataset, read_dataset
from espalier.files import FilePath, read_json, read_table, write_table
from espalier.graphs import (
    layer_graph,
    write_encoding,
    write_layer_graph,
    write_layer_graphml,
)
from espalier.graphs.layer_graph import LayerGraph
from espalier.models.fitting import build_network
from espalier.networks import network_of_path
from espalier.provenance import provenance
from espalier.pruning.masks import read_masks
from espalier.topology.topometrics import TOPOMETRICS, topometrics
from espalier.training.checkpoints import read_checkpoint

Options = Mapping[str, Any]


def trace_network(
    images: PreparedDataset,
    checkpoint: FilePath,
    masks: FilePath,
    network: Options,
    encoding: Options,
) -> LayerGraph:
    """Return the layer graph of a pruned network.

    Args:
        images: its data set, for the shape of an image.
        checkpoint: its weights.
        masks: its masks.
        network: model options.
        encoding: "convention", "padding_nodes" and "identity_shortcuts" of the configuration.
    """
    model = build_network(network, images)
    read_checkpoint(checkpoint, model)
    return layer_graph(
        model,
        images.input_shape,
        read_masks(masks)[0],
        convention=encoding["convention"],
        padding_nodes=encoding["padding_nodes"],
        identity_shortcuts=encoding["identity_shortcuts"],
    )


def encode_network(
    dataset: FilePath,
    checkpoint: FilePath,
    masks: FilePath,
    output: FilePath,
    network: Options,
    encoding: Options,
    code: str,
) -> None:
    """Write the graph of one pruned network, in the form that the name of the output asks for.

    Args:
        dataset: prepared data set.
        checkpoint, masks, network, encoding: as in `trace_network`.
        output: a path that ends in .edges.npz (CSR matrices), .npz (parts, blocks, weights and
            masks) or .graphml.gz (nodes and edges).
        code: digest of the code, for the record.

    Raises:
        ConfigurationError: the edges would need more memory than "max_bytes".
    """
    graph = trace_network(read_dataset(dataset), checkpoint, masks, network, encoding)
    seed = network_of_path(output).seed
    record = provenance(code, {"network": network, "encoding": encoding}, seed)
    if str(output).endswith(".edges.npz"):
        write_encoding(output, graph, max_bytes=encoding["max_bytes"], provenance=record)
    elif str(output).endswith(".npz"):
        write_layer_graph(output, graph, record)
    else:
        write_layer_graphml(output, graph, max_bytes=encoding["max_bytes"])


def compute_topometrics(
    dataset: FilePath,
    checkpoints: Sequence[FilePath],
    masks: Sequence[FilePath],
    output: FilePath,
    network: Options,
    encoding: Options,
    code: str,
) -> None:
    """Write the topometrics of the networks of one (dataset, model, pruner, seed), a row each.

    Columns: pruning, sparsity, model, dataset, seed, nodes, edges, then the sixteen.

    Args:
        dataset: prepared data set.
        checkpoints: weights, one per sparsity.
        masks: masks, in the same order.
        output: CSV to write.
        network: model options.
        encoding: as in `trace_network`, with "normalise" and "max_bytes".
        code: digest of the code, for the record.
    """
    images = read_dataset(dataset)
    rows = []
    for checkpoint, mask in zip(checkpoints, masks, strict=True):
        started = time.monotonic()
        name = network_of_path(checkpoint)
        graph = trace_network(images, checkpoint, mask, network, encoding)
        values = topometrics(
            graph,
            convention=encoding["convention"],
            normalise=encoding["normalise"],
            max_bytes=encoding["max_bytes"],
        )
        rows.append(
            {
                "pruning": name.pruner,
                "sparsity": name.sparsity,
                "model": name.model,
                "dataset": name.dataset,
                "seed": name.seed,
                **{column: values[column] for column in ("nodes", "edges", *TOPOMETRICS)},
            }
        )
        print(
            f"sparsity {name.sparsity:g}: {values['nodes']:,.0f} nodes, {values['edges']:,.0f} "
            f"edges, {time.monotonic() - started:.1f} s",
            file=sys.stderr,
        )
    record = provenance(code, {"network": network, "encoding": encoding}, rows[0]["seed"])
    write_table(output, pd.DataFrame(rows), record)


def write_topometrics(
    output: FilePath,
    parts: Sequence[FilePath],
    metrics: Sequence[FilePath],
    settings: Options,
    code: str,
) -> None:
    """Gather the topometrics of all networks in the layout of the published tables.

    Columns: accuracy (of the test images, 0..1), those of `compute_topometrics`, then dense (the
    mean accuracy of the dense networks of the same data set and model) and drop ((dense -
    accuracy) / dense). The published tables have the columns up to the last topometric.

    Args:
        output: CSV to write.
        parts: the tables of `compute_topometrics`.
        metrics: JSON files of all networks, the dense ones included.
        settings: the configuration, for the record.
        code: digest of the code, for the record.
    """
    accuracies: dict[tuple[str, str, str, float, int], float] = {}
    for path in metrics:
        record = read_json(path)
        network = record["network"]
        key = (network["dataset"], network["model"], network["pruner"])
        accuracy = record["checkpoints"][-1]["test_accuracy"]
        accuracies[*key, record["sparsity"], network["seed"]] = accuracy
    table = pd.concat([read_table(part) for part in parts], ignore_index=True)
    keys = table[["dataset", "model", "pruning", "sparsity", "seed"]]
    table.insert(0, "accuracy", [accuracies[key] for key in keys.itertuples(index=False)])
    dense: dict[tuple[str, str], list[float]] = {}
    for (dataset, model, pruner, _, _), accuracy in accuracies.items():
        if pruner == "dense":
            dense.setdefault((dataset, model), []).append(accuracy)
    networks = zip(table["dataset"], table["model"], strict=True)
    table["dense"] = [fmean(dense[network]) for network in networks]
    table["drop"] = (table["dense"] - table["accuracy"]) / table["dense"]
    seeds = sorted({int(seed) for seed in table["seed"]})
    write_table(output, table, provenance(code, settings, seeds))
