"""Dry runs of experiments of many networks: seconds, memory and jobs, without training anything.

    python tools/simulate_scale.py [--networks 1000 10000] [--analyses accuracy topometrics]
                                   [--limit 540] [--finished] [--folder DIR] [-- OPTIONS]
    python tools/simulate_scale.py --designs config/experiments/*.yaml

Each experiment has five models, ten pruners and five sparsities; its seeds are as many as it takes.
The workflow is copied, so that nothing is written here and nobody's edits are seen halfway. One
process of `snakemake -n --quiet rules` is measured per size, from its start to its end: wall
seconds, CPU seconds and the peak of its memory. `--limit` stops it after so many CPU seconds. Words
after `--` are handed to Snakemake.

`--finished` measures what a run costs that has nothing to do: all outputs are made as empty files,
`snakemake --touch` records their provenance, and the dry run is measured again. `--designs` takes
experiments as they are.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("Snakefile", "workflow", "src", "config", "envs", "profiles")
MODELS = ("conv6", "resnet20", "resnet32", "wide_resnet28_2", "mobilenet_v2")
PRUNERS = {
    "before": ("snip", "grasp", "synflow", "prospr", "uniform", "er", "erk"),
    "during": ("rigl", "snfs", "set_itop"),
    "after": (),
}
SPARSITIES = (0.6, 0.8, 0.9, 0.95, 0.98)


@dataclass(frozen=True)
class Run:
    """What one Snakemake process took; `finished` is False if it was stopped at the limit."""

    wall: float
    cpu: float
    peak_mb: float
    finished: bool
    output: str


def experiment(networks: int, analyses: Sequence[str]) -> dict[str, object]:
    """Return the settings of an experiment of about so many pruned networks of one data set."""
    pruners = [name for names in PRUNERS.values() for name in names]
    per_seed = len(MODELS) * len(pruners) * len(SPARSITIES)
    return {
        "analyses": list(analyses),
        "datasets": ["cifar20" if "hierarchy" in analyses else "cifar10"],
        "models": list(MODELS),
        "pruners": pruners,
        "sparsities": list(SPARSITIES),
        "seeds": list(range(max(1, round(networks / per_seed)))),
        "checkpoints": 2,
    }


def copy_workflow(folder: Path, settings: dict[str, object]) -> None:
    """Copy the workflow and write the settings beside it."""
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, folder / part)
        else:
            shutil.copy(ROOT / part, folder / part)
    (folder / "experiment.yaml").write_text(yaml.safe_dump(settings))


def snakemake(folder: Path, options: Sequence[str], limit: int, profile: Path | None) -> Run:
    """Run Snakemake in the folder, for `limit` CPU seconds at most, and measure the process."""
    profiler = ["-m", "cProfile", "-o", str(profile)] if profile else []
    command = [sys.executable, *profiler, "-m", "snakemake", *options]
    command += ["--configfile", "experiment.yaml"]
    with tempfile.TemporaryFile("w+") as output:
        start = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(folder / "src")},
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (limit, limit)),
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read()
    stopped = process.returncode in (-signal.SIGXCPU, -signal.SIGKILL)
    if process.returncode and not stopped:
        raise SystemExit(f"snakemake failed:\n{text[-3000:]}")
    cpu = usage.ru_utime + usage.ru_stime
    return Run(wall, cpu, usage.ru_maxrss / 1024, not stopped, text)


def job_counts(output: str) -> dict[str, int]:
    """Return the jobs of each rule from the statistics that Snakemake prints; {} if none."""
    counts = re.search(r"^Job stats:\njob +count\n[- ]+\n(.*?)\n\n", output, re.M | re.S)
    if counts is None:
        return {}
    return {line.split()[0]: int(line.split()[1]) for line in counts[1].splitlines()}


def make_outputs(folder: Path, limit: int) -> int:
    """Make an empty file for every output of the workflow, and return how many there are."""
    summary = snakemake(folder, ["--summary"], limit, None)
    if not summary.finished:
        raise SystemExit(f"the list of outputs takes more than {limit} CPU seconds")
    rows = [line.split("\t") for line in summary.output.splitlines() if line.count("\t") >= 5]
    paths = [folder / row[0] for row in rows if row[0] != "output_file"]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return len(paths)


def row(experiment: str, what: str, run: Run) -> str:
    """Return one row of the table."""
    jobs = job_counts(run.output).get("total", 0)
    state = "" if run.finished else "  STOPPED at the limit"
    return (
        f"{experiment:>24}  {what:14} {jobs:>8,} {run.wall:>8.1f} {run.cpu:>8.1f} "
        f"{run.peak_mb:>8.0f}{state}"
    )


def main() -> None:
    """Measure every size and print a row each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--designs", type=Path, nargs="+", help="experiments, instead of networks")
    parser.add_argument("--analyses", nargs="+", default=["accuracy", "topometrics"])
    parser.add_argument("--limit", type=int, default=540, help="CPU seconds of one process")
    parser.add_argument("--finished", action="store_true", help="also with nothing left to do")
    parser.add_argument("--folder", type=Path, help="where the copies are made")
    parser.add_argument("--profile", type=Path, help="write a cProfile of the dry run here")
    parser.add_argument("options", nargs="*", help="for Snakemake, after --")
    given = parser.parse_args()
    experiments = {f"{n:,} networks": experiment(n, given.analyses) for n in given.networks}
    if given.designs:
        experiments = {path.stem: yaml.safe_load(path.read_text()) for path in given.designs}
    print(f"{'':24}  {'':14} {'jobs':>8} {'wall s':>8} {'CPU s':>8} {'peak MB':>8}")
    for name, settings in experiments.items():
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            copy_workflow(Path(folder), settings)
            measure(name, Path(folder), given)


def measure(name: str, folder: Path, given: argparse.Namespace) -> None:
    """Print what Snakemake takes for the experiment in the folder."""
    dry = [*given.options, "-n", "--quiet", "rules"]
    run = snakemake(folder, dry, given.limit, given.profile)
    print(row(name, "to do", run), flush=True)
    counts = job_counts(run.output)
    print(" " * 26 + ", ".join(f"{rule} {jobs:,}" for rule, jobs in counts.items()), flush=True)
    if given.finished and run.finished:
        files = make_outputs(folder, given.limit)
        touch = ["--touch", "--cores", "1", "--quiet", "rules", "progress"]
        touched = snakemake(folder, [*given.options, *touch], given.limit, None)
        print(row(name, f"touch {files:,}", touched), flush=True)
        print(row(name, "finished", snakemake(folder, dry, given.limit, None)), flush=True)


if __name__ == "__main__":
    main()
