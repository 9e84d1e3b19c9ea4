"""`espalier completion`: a script that completes commands and options in a shell."""

from __future__ import annotations

import argparse

from espalier.cli.command import Command
from espalier.errors import MissingDependencyError

SHELLS = ("bash", "zsh", "tcsh")


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=SHELLS)


def _run(options: argparse.Namespace) -> None:
    try:
        import shtab
    except ImportError as error:
        raise MissingDependencyError(
            "completion needs the package shtab; install it with `pip install shtab`"
        ) from error
    from espalier.cli import build_parser

    print(shtab.complete(build_parser(), shell=options.shell))


COMMAND = Command(
    "completion",
    "Print a script that completes commands and options in a shell.",
    'eval "$(espalier completion bash)"',
    _add_arguments,
    _run,
)
