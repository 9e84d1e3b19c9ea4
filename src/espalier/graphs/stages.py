"""The workflow's stage from networks to graphs: co-activation graphs and readouts of one job."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from espalier.data.prepared import read_dataset
from espalier.devices import prepare_device
from espalier.graphs.activations import Activations, collect, shuffled
from espalier.graphs.coactivation import CoactivationGraph, coactivation_graph, write_coactivation
from espalier.graphs.readout import readout, write_readout
from espalier.models.fitting import build_network
from espalier.models.registry import hidden_units
from espalier.provenance import provenance
from espalier.pruning.masks import read_masks
from espalier.training.checkpoints import read_checkpoint
from espalier.training.inputs import normalised_batches

FilePath = str | os.PathLike[str]

# Above this many units activations are staged on disk and correlated tile by tile.
_UNITS_IN_MEMORY = 4096
_TILE = 1024


def build_graphs(
    dataset: FilePath,
    checkpoints: Sequence[FilePath],
    masks: Sequence[FilePath],
    graphs: Sequence[FilePath],
    readouts: Sequence[FilePath],
    shuffled_graph: FilePath | None,
    network: Mapping[str, Any],
    coactivation: Mapping[str, Any],
    seed: int,
    code: str,
    device: str = "auto",
) -> None:
    """Write the co-activation graph and the readout of each network of one seed.

    Activations are read on all images of the data set, training images first and none of them
    augmented; the readout is taken on the test images.

    Args:
        dataset: prepared data set.
        checkpoints: weights of each network.
        masks: mask of each network, or none for dense networks.
        graphs: NPZ files to write.
        readouts: NPZ files to write.
        shuffled_graph: also write the graph of the last network with the samples of every unit
            shuffled, with as many edges as its own graph.
        network: model options.
        coactivation: options of the configuration.
        seed: root of the shuffle.
        code: digest of the code, for the records.
        device: "auto", "cpu" or "cuda".

    Source: Petkov (2021), section 4.2: "every data point" of the whole data set.
    """
    data = read_dataset(dataset)
    images = np.concatenate((data.x_train, data.x_test))
    model = build_network(network, data)
    threads = int(os.environ.get("OMP_NUM_THREADS", "1"))
    where = prepare_device(device, threads=threads)
    facts = provenance(code, {"network": network, "coactivation": coactivation}, seed)
    options = dict(coactivation)
    reading = {key: options.pop(key) for key in ("tap", "reduce", "output")}
    large = hidden_units(model) > _UNITS_IN_MEMORY
    options |= {"threads": threads, "tile": _TILE if large else None}
    for number, path in enumerate(checkpoints):
        started = time.monotonic()
        read_checkpoint(path, model)
        kept = read_masks(masks[number])[0] if masks else None
        with tempfile.TemporaryDirectory(dir=Path(graphs[number]).parent) as scratch:
            activations = collect(
                model,
                normalised_batches(images),
                masks=kept,
                device=where,
                memmap=Path(scratch) / "activations.npy" if large else None,
                samples=len(images),
                **reading,
            )
            graph = _graph(activations, data.class_names, {**options, "scratch": scratch})
            write_coactivation(graphs[number], graph, facts)
            if shuffled_graph is not None and number == len(checkpoints) - 1:
                null = Activations(
                    shuffled(activations.values, seed),
                    activations.layer,
                    activations.neuron,
                    activations.label,
                    activations.layer_names,
                )
                options |= {"n_edges": graph.n_edges, "scratch": scratch}
                write_coactivation(shuffled_graph, _graph(null, data.class_names, options), facts)
        evidence = readout(
            model, normalised_batches(data.x_test, data.y_test), len(data.class_names), where
        )
        write_readout(readouts[number], evidence, data.class_names, facts)
        print(
            f"{Path(graphs[number]).name}: {graph.n_nodes} units, {graph.n_edges} edges, "
            f"{int(graph.constant.sum())} constant, {time.monotonic() - started:.1f} s",
            file=sys.stderr,
        )


def _graph(
    activations: Activations, class_names: Sequence[str], options: Mapping[str, Any]
) -> CoactivationGraph:
    return coactivation_graph(
        activations.values,
        activations.layer,
        activations.neuron,
        activations.label,
        activations.layer_names,
        class_names,
        **options,
    )
