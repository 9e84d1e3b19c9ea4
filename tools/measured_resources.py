"""Print what the jobs of finished experiments really took, from their benchmark files.

The arguments are folders in which `snakemake` ran; benchmark files are below their logs/benchmarks.
With --profile, lines for `set-resources` of profiles/slurm are printed instead of a table: twice
the peak, at least 500 MB, and three times the longest run, at least 10 minutes, because the next
experiment is not the last one.
"""

from __future__ import annotations

import argparse
import csv
import math
import sys
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple


class Measured(NamedTuple):
    """What the jobs of a rule took: their number, most MB at one time, most seconds."""

    jobs: int
    megabytes: float
    seconds: float


def measured(folders: list[Path]) -> dict[str, Measured]:
    """Return what each rule took, over the benchmark files of all folders."""
    rows: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for folder in folders:
        benchmarks = folder / "logs/benchmarks"
        for path in sorted(benchmarks.rglob("*.tsv")):
            with open(path, encoding="utf-8") as handle:
                for row in csv.DictReader(handle, delimiter="\t"):
                    # A job that ended before the first look at it has no memory.
                    known = row["max_rss"] not in ("NA", "-")
                    memory = float(row["max_rss"]) if known else 0.0
                    rows[path.relative_to(benchmarks).parts[0]].append((memory, float(row["s"])))
    return {
        rule: Measured(len(taken), max(m for m, _ in taken), max(s for _, s in taken))
        for rule, taken in sorted(rows.items())
    }


def main() -> int:
    """Print the table or the lines for the profile; 1 where there is no benchmark file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--profile", action="store_true", help="print lines for profiles/slurm")
    arguments = parser.parse_args()
    rules = measured(arguments.folders)
    if not rules:
        print(f"no benchmark file below {arguments.folders[0]}/logs/benchmarks", file=sys.stderr)
        return 1
    if arguments.profile:
        print("set-resources:")
        for rule, taken in rules.items():
            megabytes = max(500, 100 * math.ceil(2 * taken.megabytes / 100))
            minutes = max(10, math.ceil(3 * taken.seconds / 60))
            print(f"  {rule}:\n    mem_mb: {megabytes} * attempt\n    runtime: {minutes} * attempt")
        return 0
    print("| rule | jobs | peak memory, MB | longest, s |\n|---|---|---|---|")
    for rule, taken in rules.items():
        print(f"| {rule} | {taken.jobs} | {taken.megabytes:.0f} | {taken.seconds:.0f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
