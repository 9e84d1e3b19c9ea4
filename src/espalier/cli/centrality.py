"""`espalier centrality`: the Laplacian centrality of every neuron or channel."""

from __future__ import annotations

import argparse

from espalier.cli.arguments import add_model_arguments, add_shape_arguments, network_from
from espalier.cli.command import Command
from espalier.cli.output import add_output_arguments, check_output, say, write_rows


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model_arguments(parser)
    add_shape_arguments(parser)
    parser.add_argument("--kind", choices=("unrolled", "rolled-channel"), default="unrolled")
    parser.add_argument("--absolute", action="store_true", help="of the weights' absolute values")
    add_output_arguments(parser)


def _run(options: argparse.Namespace) -> None:
    from espalier.graphs import layer_graph
    from espalier.hubs import network_centrality

    check_output(options)
    model, masks = network_from(options)
    graph = layer_graph(model, options.input_shape, masks)
    found = network_centrality(graph, options.kind, signed=not options.absolute)
    rows = [
        {"layer": layer, "neuron": neuron, "laplacian_centrality": float(value)}
        for layer, values in found.items()
        for neuron, value in enumerate(values.ravel())
    ]
    say(options, f"{len(rows)} neurons in {len(found)} layers")
    write_rows(options, rows, "hubs.centrality")


COMMAND = Command(
    "centrality",
    "Compute the Laplacian centrality of every neuron, or of every channel of a convolution.",
    "espalier centrality seed0.safetensors --model mlp-784-256-10 --classes 10 "
    "--input-shape 1x28x28 --out centrality.csv",
    _add_arguments,
    _run,
)
