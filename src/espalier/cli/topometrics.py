"""`espalier topometrics`: the topometrics of one network."""

from __future__ import annotations

import argparse
import time

from espalier.cli.arguments import add_model_arguments, add_shape_arguments, names, network_from
from espalier.cli.command import Command
from espalier.cli.output import add_output_arguments, check_output, say, write_rows


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model_arguments(parser)
    add_shape_arguments(parser)
    parser.add_argument("--names", type=names, help="separated by commas; by default all sixteen")
    parser.add_argument(
        "--kind", choices=("unrolled", "rolled", "rolled-channel"), default="unrolled"
    )
    parser.add_argument("--convention", choices=("definition", "published"), default="definition")
    parser.add_argument("--raw", action="store_true", help="counts instead of shares")
    add_output_arguments(parser)


def _run(options: argparse.Namespace) -> None:
    from espalier.graphs import layer_graph
    from espalier.topology import topometrics

    check_output(options)
    model, masks = network_from(options)
    started = time.monotonic()
    graph = layer_graph(model, options.input_shape, masks, convention=options.convention)
    say(options, f"layer graph with {graph.nodes:,} nodes in {time.monotonic() - started:.1f} s")
    values = topometrics(
        graph,
        options.kind,
        options.names,
        convention=options.convention,
        normalise=not options.raw,
    )
    say(options, f"topometrics in {time.monotonic() - started:.1f} s")
    write_rows(options, [values], "topology.topometrics")


COMMAND = Command(
    "topometrics",
    "Compute the topometrics of a network's graph.",
    "espalier topometrics seed0.safetensors --model resnet20 --classes 10 --input-shape 3x32x32",
    _add_arguments,
    _run,
)
