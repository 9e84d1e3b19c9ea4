"""`espalier encode`: the graph of one network as a file."""

from __future__ import annotations

import argparse

from espalier.cli.arguments import add_model_arguments, add_shape_arguments, network_from
from espalier.cli.command import Command
from espalier.cli.output import say
from espalier.errors import ConfigurationError

FORMS = (".edges.npz", ".npz", ".graphml.gz", ".graphml")


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model_arguments(parser)
    add_shape_arguments(parser)
    parser.add_argument(
        "--out",
        required=True,
        help=".npz (parts, blocks and masks), .edges.npz (CSR matrices) or .graphml(.gz)",
    )
    parser.add_argument("--convention", choices=("definition", "published"), default="definition")
    parser.add_argument("--max-bytes", type=int, default=2**31, help="most memory for edges")
    parser.add_argument("--quiet", action="store_true", help="no progress on standard error")


def _run(options: argparse.Namespace) -> None:
    from espalier.graphs import (
        edge_count,
        layer_graph,
        write_encoding,
        write_layer_graph,
        write_layer_graphml,
    )
    from espalier.provenance import code_of, provenance

    if not options.out.endswith(FORMS):
        raise ConfigurationError(f"--out {options.out} must end in {', '.join(FORMS)}")
    model, masks = network_from(options)
    graph = layer_graph(model, options.input_shape, masks, convention=options.convention)
    settings = {key: vars(options)[key] for key in ("model", "width", "convention")}
    record = provenance(code_of("graphs.layer_graph", "graphs.encodings"), settings, None)
    if options.out.endswith(".edges.npz"):
        write_encoding(options.out, graph, max_bytes=options.max_bytes, provenance=record)
    elif options.out.endswith(".npz"):
        write_layer_graph(options.out, graph, record)
    else:
        write_layer_graphml(options.out, graph, max_bytes=options.max_bytes)
    say(options, f"wrote {options.out}: {graph.nodes:,} nodes, {edge_count(graph):,} edges")


COMMAND = Command(
    "encode",
    "Write the multipartite graph of a network: every unit a node, every kept weight its edges.",
    "espalier encode seed0.safetensors --model resnet20 --classes 10 --input-shape 3x32x32 "
    "--out resnet20.graphml.gz",
    _add_arguments,
    _run,
)
