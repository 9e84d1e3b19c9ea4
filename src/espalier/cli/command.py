"""What one command of the command line is made of."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """A command: `espalier NAME ...`.

    Attributes:
        name: as it is typed.
        purpose: one or two sentences, shown in the help.
        example: a command line that works, shown in the help.
        add_arguments: declares the arguments.
        run: does the work; it imports what it needs, so that other commands start fast.
    """

    name: str
    purpose: str
    example: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], None]
