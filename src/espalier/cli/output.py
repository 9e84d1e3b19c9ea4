"""How a command says what it found: JSON or CSV, to a file or to standard output."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from espalier.errors import ConfigurationError

FORMATS = ("json", "csv")


def add_output_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare --out, --format and --quiet."""
    parser.add_argument("--out", help="file to write, .json or .csv; by default standard output")
    parser.add_argument("--format", choices=FORMATS, help="by default that of --out, else json")
    parser.add_argument("--quiet", action="store_true", help="no progress on standard error")


def check_output(options: argparse.Namespace) -> str:
    """Return the format asked for; call it before the work, so that a wrong name costs nothing.

    Raises:
        ConfigurationError: --out ends otherwise, or against --format.
    """
    if not options.out:
        return options.format or "json"
    suffix = Path(options.out).suffix.removeprefix(".")
    if suffix not in FORMATS or (options.format and options.format != suffix):
        expected = [f".{options.format}"] if options.format else [f".{name}" for name in FORMATS]
        raise ConfigurationError(f"--out {options.out} must end in {' or '.join(expected)}")
    return suffix


def say(options: argparse.Namespace, text: str) -> None:
    """Print progress, unless --quiet."""
    if not options.quiet:
        print(text, file=sys.stderr, flush=True)


def write_rows(
    options: argparse.Namespace, rows: Sequence[Mapping[str, Any]], code: str, seed: int = 0
) -> None:
    """Write rows with equal keys; one row as JSON is an object.

    Args:
        options: those of `add_output_arguments`.
        rows: what was found.
        code: module whose digest the record of a file carries.
        seed: for the record.
    """
    import pandas as pd

    from espalier.files import write_json, write_table
    from espalier.provenance import code_of, provenance

    table = pd.DataFrame(list(rows))
    content: Any = dict(rows[0]) if len(rows) == 1 else [dict(row) for row in rows]
    if not options.out:
        if check_output(options) == "csv":
            print(table.to_csv(index=False, lineterminator="\n"), end="")
        else:
            print(json.dumps(content, indent=1, allow_nan=False, default=float))
        return
    left_out = ("run", "command", "out", "format", "quiet")
    settings = {key: value for key, value in vars(options).items() if key not in left_out}
    record = provenance(code_of(code), settings, seed)
    if check_output(options) == "csv":
        write_table(options.out, table, record)
    else:
        write_json(options.out, {"found": content, "provenance": record})
    say(options, f"wrote {options.out}")
