"""The workflow's stage that trains a perceptron of the hub study."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from torch import nn

from espalier.data.prepared import PreparedDataset, read_dataset
from espalier.data.splits import split_dataset
from espalier.devices import prepare_device
from espalier.errors import DataError
from espalier.files import FilePath, read_json, write_json, write_npz
from espalier.hubs.inputs import Standardisation, feature_images
from espalier.hubs.methods import changes_of
from espalier.hubs.options import HubRecipe
from espalier.hubs.protocols import Run
from espalier.hubs.training import HubHistory, train_hubs
from espalier.jobs import job_threads
from espalier.models.fitting import build_network
from espalier.provenance import provenance

Options = Mapping[str, Any]


def perceptron_sizes(network: Options, images: PreparedDataset) -> list[int]:
    """Return the units per layer of a configured perceptron.

    Raises:
        DataError: the model is no chain of dense layers on the pixels, or does not fit the images.
    """
    model = build_network(
        {"architecture": network["architecture"], "width": network["width"]}, images
    )
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    weights = sum(layer.weight.numel() + layer.out_features for layer in layers)
    if not layers or weights != sum(parameter.numel() for parameter in model.parameters()):
        raise DataError(
            f"{network['architecture']} is not a perceptron; hub methods train names such as "
            "mlp-784-256-128-100-10"
        )
    return [layers[0].in_features, *(layer.out_features for layer in layers)]


def train_hub_network(
    dataset: FilePath,
    record: FilePath,
    centrality: FilePath,
    weights: FilePath,
    names: Options,
    run: Options,
    network: Options,
    recipe: Options,
    study: Options,
    code: str,
    reference: Sequence[FilePath] = (),
    threshold: Sequence[FilePath] = (),
) -> None:
    """Train one network of one (dataset, model, run, seed).

    Args:
        dataset: prepared data set.
        record: JSON to write: accuracies, connections and removals per epoch.
        centrality: NPZ to write: epochs (E,), centrality (E, units) float32, layer and neuron
            (units,).
        weights: NPZ to write: the trained network (`SparsePerceptron.state`) and the
            standardisation of its inputs.
        names: "dataset", "model" and "seed".
        run: the fields of `espalier.hubs.protocols.Run`.
        network: model options.
        recipe: of `espalier.hubs.options.HubRecipe`, but epochs.
        study: "protocol" (published: train on all training images and choose by the test images,
            as the paper), "preset" and "snapshot_every" of the configuration.
        code: digest of the code, for the record.
        reference: record of the run whose removals a control repeats, or nothing.
        threshold: where k comes from a search, JSON of `espalier.hubs.tables.choose_threshold`.
    """
    started = time.monotonic()
    threads = job_threads()
    prepare_device("cpu", threads)
    seed = int(names["seed"])
    images = read_dataset(dataset)
    published = study["protocol"] == "published"
    parts = split_dataset(images, "full" if published else "text", seed)
    plan = Run(**run)
    options = plan.method_options(read_json(threshold[0])["k"] if threshold else None)
    chosen = HubRecipe(**{**recipe, "epochs": plan.epochs})
    trained, history = train_hubs(
        perceptron_sizes(network, images),
        parts.train,
        None if published else parts.validation,
        parts.test,
        chosen,
        options,
        seed,
        reference=changes_of(read_json(reference[0])["epochs"]) if reference else None,
        preset=study["preset"],
        snapshot_every=study["snapshot_every"],
        threads=threads,
    )
    facts = {
        **names,
        "method": plan.method,
        "run": plan.name,
        "protocol": plan.protocol,
        "selected_on": "test" if published else "validation",
        "preset": study["preset"],
    }
    source = provenance(code, {"recipe": asdict(chosen), "options": asdict(options)}, seed)
    epochs = sorted(history.snapshots)
    write_npz(
        centrality,
        {
            "epochs": np.array(epochs),
            "centrality": np.stack([history.snapshots[epoch] for epoch in epochs]).astype(
                np.float32
            ),
            "layer": history.layers,
            "neuron": _within_layers(history.layers),
        },
        {**facts, "options": asdict(options), **source},
    )
    standard = Standardisation.of(feature_images(parts.train[0]))
    inputs = {"mean": standard.mean.numpy(), "deviation": standard.deviation.numpy()}
    write_npz(weights, {**trained.state(), **inputs}, {**facts, **source})
    write_json(record, _record(facts, asdict(options), chosen, history, started, source))


def _within_layers(layers: np.ndarray) -> np.ndarray:
    counts = np.bincount(layers)
    return np.concatenate([np.arange(count) for count in counts])


def _record(
    facts: Options,
    options: Options,
    recipe: HubRecipe,
    history: HubHistory,
    started: float,
    source: Options,
) -> dict[str, Any]:
    return {
        **facts,
        "options": options,
        "recipe": asdict(recipe),
        "epochs": history.epochs,
        "kernels": history.kernels,
        "kernel_seconds": history.kernel_seconds,
        "notes": history.notes,
        "seconds": time.monotonic() - started,
        "provenance": source,
    }
