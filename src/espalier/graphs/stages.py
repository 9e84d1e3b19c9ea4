"""The workflow's stage from networks to graphs: co-activation graphs and readouts of one job."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from espalier.data.inputs import Normalisation, normalised_batches
from espalier.data.prepared import read_dataset
from espalier.devices import prepare_device
from espalier.files import FilePath
from espalier.graphs.activations import Activations, collect, shuffled
from espalier.graphs.coactivation import CoactivationGraph, coactivation_graph, write_coactivation
from espalier.graphs.correlation import DENSE_BYTES
from espalier.graphs.readout import readout, write_readout
from espalier.jobs import job_threads
from espalier.models.fitting import build_network
from espalier.models.registry import hidden_units
from espalier.provenance import provenance
from espalier.pruning.masks import read_masks
from espalier.training.checkpoints import read_checkpoint


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
    where = prepare_device(device, job_threads())
    facts = provenance(code, {"network": network, "coactivation": coactivation}, seed)
    options = dict(coactivation)
    reading = {key: options.pop(key) for key in ("tap", "reduce", "output")}
    options["threads"] = job_threads()
    units = hidden_units(model) + len(data.class_names)
    large = units * len(images) * np.float32().itemsize > DENSE_BYTES
    for number, path in enumerate(checkpoints):
        started = time.monotonic()
        normalisation = Normalisation.of_metadata(read_checkpoint(path, model))
        with _scratch(graphs[0]) as scratch:
            activations = collect(
                model,
                normalised_batches(images, normalisation=normalisation),
                masks=read_masks(masks[number])[0] if masks else None,
                device=where,
                memmap=scratch / "activations.npy" if large else None,
                samples=len(images),
                **reading,
            )
            staged = {**options, "scratch": scratch}
            graph = _graph(activations, data.class_names, staged)
            write_coactivation(graphs[number], graph, facts)
            if shuffled_graph is not None and number == len(checkpoints) - 1:
                null = replace(activations, values=shuffled(activations.values, seed))
                staged["n_edges"] = graph.n_edges
                write_coactivation(shuffled_graph, _graph(null, data.class_names, staged), facts)
        test = normalised_batches(data.x_test, data.y_test, normalisation=normalisation)
        evidence = readout(model, test, len(data.class_names), where)
        write_readout(readouts[number], evidence, data.class_names, facts)
        print(
            f"{Path(graphs[number]).name}: {graph.n_nodes} units, {graph.n_edges} edges, "
            f"{int(graph.constant.sum())} constant, {time.monotonic() - started:.1f} s",
            file=sys.stderr,
        )


@contextmanager
def _scratch(output: FilePath) -> Iterator[Path]:
    """Make a hidden folder beside an output and remove it, with what a killed job left in it."""
    folder = Path(output).with_name(f".{Path(output).stem}.scratch")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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
