"""`espalier modules`: the modules that a masked network is made of."""

from __future__ import annotations

import argparse
from typing import Any

from espalier.cli.arguments import add_model_arguments, add_shape_arguments, network_from
from espalier.cli.command import Command
from espalier.cli.output import add_output_arguments, check_output, say, write_rows


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model_arguments(parser)
    add_shape_arguments(parser)
    parser.add_argument(
        "--modularity-threshold", type=float, default=0.2, help="0.2 for Boolean tasks, 0.3 images"
    )
    parser.add_argument(
        "--merge-threshold", type=float, default=0.9, help="0.9 for Boolean tasks, 0.6 images"
    )
    add_output_arguments(parser)


def _run(options: argparse.Namespace) -> None:
    from espalier.sculpting.masked_networks import network_modules

    check_output(options)
    model, masks = network_from(options)
    found = network_modules(
        model,
        masks,
        options.input_shape,
        modularity_threshold=options.modularity_threshold,
        merge_threshold=options.merge_threshold,
    )
    rows: list[dict[str, Any]] = [
        {"layer": layer, "unit": int(unit), "module": int(module)}
        for layer, (units, modules) in enumerate(zip(found.alive, found.modules, strict=True))
        for unit, module in zip(units, modules, strict=True)
    ]
    count = len({row["module"] for row in rows})
    say(options, f"{count} modules over {len(rows)} units, {len(found.edges)} edges between them")
    write_rows(options, rows, "sculpting.modules")


COMMAND = Command(
    "modules",
    "Find the modules of a pruned network: groups of units that serve the same outputs.",
    "espalier modules seed0.safetensors --model mlp-64-24-10 --classes 10 --input-shape 1x8x8 "
    "--format csv",
    _add_arguments,
    _run,
)
