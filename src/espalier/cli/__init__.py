"""The command line: `espalier <command>`; each command is one module of this package.

Starting it imports the standard library alone; a command imports what it needs when it runs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import espalier
from espalier.cli import (
    centrality,
    completion,
    encode,
    fit_predictor,
    modules,
    rank,
    topometrics,
    tree,
    why,
)
from espalier.errors import EspalierError

COMMANDS = tuple(
    module.COMMAND
    for module in (
        topometrics,
        encode,
        tree,
        modules,
        centrality,
        rank,
        fit_predictor,
        why,
        completion,
    )
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: those of the command line when None.

    Returns:
        The exit status: 0; 1 after an error that the user can mend, which is printed without a
        traceback; 130 when interrupted. Wrong usage exits with 2.
    """
    options = build_parser().parse_args(arguments)
    try:
        options.run(options)
    except BrokenPipeError:
        # Whoever read the output, such as `head`, has enough; nothing more can be written.
        sys.stderr.close()
        return 0
    except (EspalierError, OSError) as error:
        print(f"espalier {options.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"espalier {options.command}: interrupted", file=sys.stderr)
        return 130
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="espalier",
        description="Train and prune neural networks, turn each into a graph, and read the graph.",
    )
    parser.add_argument("--version", action="version", version=f"espalier {espalier.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="command", required=True)
    for command in COMMANDS:
        added = commands.add_parser(
            command.name,
            help=command.purpose,
            description=command.purpose,
            epilog=f"example: {command.example}",
        )
        command.add_arguments(added)
        added.set_defaults(run=command.run)
    return parser
