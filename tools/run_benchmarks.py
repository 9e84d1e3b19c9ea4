"""Run every benchmark with quick settings, one at a time, and record the ratios.

    python tools/run_benchmarks.py [--only NAME ...] [--limit SECONDS] [--accept]

Each benchmark is a fresh process. What it measured goes to benchmarks/record.json, and from there
to docs/performance.md. A ratio that fell by a third since the last record, with the same settings,
or is no longer measured, is listed; then nothing is written and the exit status is 1, unless
`--accept` is given. A benchmark whose alternative is not installed is skipped by name and keeps its
last record, as those that `--only` leaves out do.
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espalier.errors import MissingDependencyError
from espalier.files import write_text
from espalier.hierarchy.graph_tool_python import find_graph_tool_python

ROOT = Path(__file__).resolve().parents[1]
RECORD = ROOT / "benchmarks/record.json"
PAGE = ROOT / "docs/performance.md"
VARIABLE = "ESPALIER_BENCHMARKS"
FALLEN = 2 / 3


@dataclass(frozen=True)
class Benchmark:
    """A script of benchmarks/, its quick settings, and the alternatives that it needs."""

    name: str
    options: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()

    @property
    def command(self) -> str:
        """The command line, to be repeated from the root of the checkout."""
        return " ".join(["python", f"benchmarks/{self.name}.py", *self.options])


BENCHMARKS = (
    Benchmark("block_model", ("--nodes", "200"), ("graph_tool",)),
    Benchmark("centrality", ("--rounds", "5"), ("networkit", "networkx")),
    Benchmark("coactivation", ("--units", "400", "--samples", "20000", "--pairs", "100")),
    Benchmark("modules", ("--rounds", "3"), ("sklearn",)),
    Benchmark("sculpting", ("--count", "256", "--alone", "10")),
    Benchmark("sparse_training", ("--steps", "5", "--threads", "1")),
    Benchmark("topometrics", ("--rounds", "2", "--models", "resnet20"), ("igraph", "networkx")),
    Benchmark("training", ("--images", "1500", "--repeats", "3"), ("torchvision",)),
    Benchmark("traversal", ("--repeats", "3"), ("igraph",)),
    Benchmark("tree_distances", ("--rounds", "5"), ("dendropy",)),
)


def missing(needs: Sequence[str]) -> list[str]:
    """Return which of the alternatives are not installed."""
    return [name for name in needs if not _is_installed(name)]


def _is_installed(name: str) -> bool:
    if name != "graph_tool":
        return importlib.util.find_spec(name) is not None
    try:
        find_graph_tool_python("auto")
    except MissingDependencyError:
        return False
    return True


def claim_of(script: Path) -> str:
    """Return the paragraphs of a script's docstring that begin with Claim, or else its first."""
    text = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or ""
    paragraphs = [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]
    claims = [paragraph for paragraph in paragraphs if paragraph.startswith("Claim")]
    plain = [claim.removeprefix("Claim: ") for claim in claims or paragraphs[:1]]
    return "\n\n".join(claim[:1].upper() + claim[1:] for claim in plain)


def run(benchmark: Benchmark, limit: float) -> dict[str, Any]:
    """Run one benchmark and return its record.

    Raises:
        RuntimeError: it failed, took longer than `limit` seconds, or recorded nothing.
    """
    script = ROOT / "benchmarks" / f"{benchmark.name}.py"
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        lines = Path(folder) / "lines.jsonl"
        process = subprocess.Popen(
            [sys.executable, str(script), *benchmark.options],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", VARIABLE: str(lines)},
            start_new_session=True,
        )
        try:
            status = process.wait(limit)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"took more than {limit:.0f} s") from None
        finally:
            _end_session(process)
        if status:
            raise RuntimeError(f"ended with status {status}")
        entries = [json.loads(line) for line in lines.read_text().splitlines()]
    ratios = [_rounded(entry) for entry in entries if "ratio" in entry]
    if not ratios:
        raise RuntimeError("recorded no ratio")
    return {
        "claim": claim_of(script),
        "command": benchmark.command,
        "machine": next(entry for entry in entries if "processor" in entry),
        "versions": next(entry for entry in entries if "versions" in entry)["versions"],
        "load": round(load, 1),
        "ratios": ratios,
    }


def _end_session(process: subprocess.Popen[bytes]) -> None:
    """End what a benchmark started, which outlives it if it was stopped."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()


def _rounded(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: float(f"{value:.4g}") if isinstance(value, float) else value
        for key, value in entry.items()
    }


def fallen(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return a line for each ratio that fell by a third, or is gone, since the last record.

    Args:
        before: the records of the last time, by benchmark.
        now: the records of the benchmarks that ran. One whose settings are others is not compared.
    """
    lines = []
    for name, record in now.items():
        last = before.get(name)
        if last is None or last["command"] != record["command"]:
            continue
        found = {(row["name"], row["alternative"]): row["ratio"] for row in record["ratios"]}
        for row in last["ratios"]:
            ratio = found.get((row["name"], row["alternative"]))
            if ratio is None or ratio <= FALLEN * row["ratio"]:
                shown = "gone" if ratio is None else _number(ratio)
                what = f"{row['name']} against {row['alternative']}"
                lines.append(f"{name:16} {_number(row['ratio']):>9} {shown:>9}   {what}")
    return lines


def page(record: Mapping[str, Any]) -> str:
    """Return docs/performance.md for the records of the benchmarks."""
    described = {name: _described(entry) for name, entry in record.items()}
    common = set(described.values())
    lines = [
        "# Performance",
        "",
        "Written by `make benchmark` from `benchmarks/record.json`; do not edit. Every benchmark "
        "runs Espalier and the alternative in turn and checks that both give the same result where "
        "they should. *Ratio* is what the alternative took over what Espalier took, the median of "
        "*n* such pairs with the least and the most: above 1, Espalier takes less. The claims are "
        "those of the benchmarks' headers, made at their full size; the rows are of the quick "
        "settings of the command, on one thread. *Extrapolated* alternatives ran in part and were "
        "scaled up.",
        "",
        _loads(record),
        "",
    ]
    if len(common) == 1:
        lines += [f"Machine: {common.pop()}.", ""]
    for name, entry in record.items():
        lines += [f"## {name.replace('_', ' ').capitalize()}", "", entry["claim"], ""]
        lines += [f"    {entry['command']}", ""]
        if len(set(described.values())) > 1:
            lines += [f"{described[name]}.", ""]
        lines += [f"With {_versions(entry)}.", ""]
        lines += [
            "| what | Espalier | alternative | takes | ratio (least to most) | n |",
            "|---|---:|---|---:|---:|---:|",
        ]
        lines += [_row(row) for row in entry["ratios"]]
        lines += [""]
    return "\n".join(lines)


def _described(entry: Mapping[str, Any]) -> str:
    machine = entry["machine"]
    return f"{machine['processor']}, {machine['cores']} cores, {machine['system']}"


def _loads(record: Mapping[str, Any]) -> str:
    loads = [entry["load"] for entry in record.values()]
    text = (
        f"The load average when the benchmarks began was {min(loads)} to {max(loads)}, of which a "
        "benchmark that ran just before makes 1."
    )
    if max(loads) > max(entry["machine"]["cores"] for entry in record.values()):
        text += (
            " **Other work shared the machine.** The ratios are of CPU time, of runs in turn, and "
            "suffer less from that than the times do, but a quiet machine would give others."
        )
    return text


def _versions(entry: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {version}" for name, version in entry["versions"].items())


def _row(row: Mapping[str, Any]) -> str:
    alternative = row["alternative"] + (", extrapolated" if row["extrapolated"] else "")
    ratio = f"**{_number(row['ratio'])}**"
    if row["n"] > 1:
        ratio += f" ({_number(row['low'])} to {_number(row['high'])})"
    ours, theirs = (f"{_number(row[key])} {row['unit']}" for key in ("ours", "theirs"))
    return f"| {row['name']} | {ours} | {alternative} | {theirs} | {ratio} | {row['n']} |"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def main() -> int:
    """Run what was asked for, compare with the last record, and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [benchmark.name for benchmark in BENCHMARKS]
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    parser.add_argument("--limit", type=float, default=600, help="seconds of one benchmark")
    parser.add_argument("--accept", action="store_true", help="write whatever fell")
    given = parser.parse_args()
    before = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
    now, failed, skipped = {}, [], []
    for benchmark in BENCHMARKS:
        if benchmark.name not in given.only:
            continue
        absent = missing(benchmark.needs)
        if absent:
            skipped.append(f"{benchmark.name}: skipped, {', '.join(absent)} is not installed")
            continue
        print(f"\n=== {benchmark.command}", flush=True)
        start = time.perf_counter()
        try:
            now[benchmark.name] = run(benchmark, given.limit)
        except RuntimeError as error:
            failed.append(f"{benchmark.name}: failed, it {error}")
        print(f"=== {time.perf_counter() - start:.0f} s", flush=True)
    falls = fallen(before, now)
    print("", *skipped, *failed, sep="\n")
    if falls:
        print(f"{'fallen by a third':16} {'before':>8} {'now':>9}", *falls, sep="\n")
    if falls and not given.accept:
        print("Nothing is written. Mend it, or run again with --accept.")
        return 1
    found = {**before, **now}
    record = {name: found[name] for name in names if name in found}
    if now:
        write_text(RECORD, json.dumps(record, indent=1) + "\n")
        write_text(PAGE, page(record))
        print(f"{RECORD.relative_to(ROOT)} and {PAGE.relative_to(ROOT)} are written.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
