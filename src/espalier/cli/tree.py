"""`espalier tree`: the class hierarchy of one network, beside its baselines."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from espalier.cli.arguments import (
    add_dataset_arguments,
    add_model_arguments,
    dataset_from,
    masks_from,
)
from espalier.cli.command import Command
from espalier.cli.output import add_output_arguments, check_output, say, write_rows

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from espalier.data.prepared import PreparedDataset
    from espalier.graphs.coactivation import CoactivationGraph
    from espalier.hierarchy.trees import Tree

_DRAWS = 1000


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model_arguments(parser)
    add_dataset_arguments(parser)
    parser.add_argument("--detector", default="nested_sbm", help="what reads the hierarchy")
    parser.add_argument("--truth", help="Newick file of the true class tree, to compare with")
    parser.add_argument(
        "--measure", default="clustering_information", help="distance to the true tree"
    )
    parser.add_argument("--threshold", type=float, help="of correlations; by default 0.5")
    parser.add_argument("--seed", type=int, default=0, help="of the detector")
    add_output_arguments(parser)


def _run(options: argparse.Namespace) -> None:
    from espalier.hierarchy import load_truth
    from espalier.hierarchy.detectors import detect, options_of
    from espalier.hierarchy.distances import measure_columns
    from espalier.models.fitting import build_network
    from espalier.training.checkpoints import read_checkpoint

    check_output(options)
    # Unknown names are said before the work.
    options_of(options.detector, {})
    measure_columns([options.measure], rooted=True)
    images = dataset_from(options)
    truth = load_truth(options.truth, images.class_names) if options.truth else None
    model = build_network({"architecture": options.model, "width": options.width}, images)
    metadata = read_checkpoint(options.checkpoint, model)
    masks = masks_from(options, model)
    graph, evidence = _evidence(options, images, model, metadata, masks)
    say(options, f"co-activation graph with {graph.n_nodes} units and {graph.n_edges} edges")
    found = detect(options.detector, graph, evidence, options.seed)
    rows: list[dict[str, Any]] = [
        {"sample": sample, "newick": newick}
        for sample, newick in zip(found.samples, found.newicks, strict=True)
    ]
    if truth is not None:
        _compare(rows, truth, options.measure, options.seed)
    write_rows(options, rows, f"hierarchy.detectors.{options.detector}", options.seed)


def _evidence(
    options: argparse.Namespace,
    images: PreparedDataset,
    model: nn.Module,
    metadata: Mapping[str, str],
    masks: Mapping[str, Tensor],
) -> tuple[CoactivationGraph, dict[str, np.ndarray]]:
    """Return the co-activation graph over all images and the readout of the test images."""
    import numpy as np

    from espalier.config import Coactivation
    from espalier.data.inputs import Normalisation, normalised_batches
    from espalier.graphs import coactivation_graph, collect
    from espalier.graphs.readout import readout

    settings = Coactivation.model_validate({}).model_dump()
    if options.threshold is not None:
        settings["threshold"] = options.threshold
    reading = {key: settings.pop(key) for key in ("tap", "reduce", "output")}
    normalisation = Normalisation.of_metadata(metadata)
    everything = np.concatenate((images.x_train, images.x_test))
    activations = collect(
        model, normalised_batches(everything, normalisation=normalisation), masks=masks, **reading
    )
    graph = coactivation_graph(
        activations.values,
        activations.layer,
        activations.neuron,
        activations.label,
        activations.layer_names,
        images.class_names,
        **settings,
    )
    test = normalised_batches(images.x_test, images.y_test, normalisation=normalisation)
    return graph, readout(model, test, len(images.class_names), "cpu")


def _compare(rows: list[dict[str, Any]], truth: Tree, measure: str, seed: int) -> None:
    """Add the rooted distance of each tree to the true one, and what trees by chance score."""
    from espalier.hierarchy import TreeComparer
    from espalier.hierarchy.baselines import p_value, permuted_values, star_values

    chance = permuted_values(truth, None, True, [measure], _DRAWS, seed)[measure]
    star = float(star_values(truth, True, [measure])[measure])
    compare = TreeComparer(truth, True, [measure])
    for row in rows:
        found = compare(row["newick"])[measure]
        row |= {
            measure: found,
            "star": star,
            "shuffled_leaves": float(chance.mean()),
            "p_value": p_value(found, chance, measure),
        }


COMMAND = Command(
    "tree",
    "Read the class hierarchy of a network from the co-activation of its units, as Newick.",
    "espalier tree seed0.safetensors --model small_cnn --dataset digits "
    "--truth config/hierarchies/digits.nwk",
    _add_arguments,
    _run,
)
