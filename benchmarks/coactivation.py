"""Claim: Spearman's rho of all pairs of 1,418 units over 70,000 samples takes seconds.

A co-activation graph needs the rank correlation of every pair of units. A loop over
`scipy.stats.spearmanr` ranks each unit once per pair; `scipy.stats.spearmanr` on the whole matrix
ranks each unit once. Ours ranks each unit once, without sorting the zeros of a ReLU, and keeps
integers, so that one matrix product gives exact sums; it must beat the whole matrix of scipy too.

Compared, each in a fresh process so that its peak memory is its own, in turn, `--repeats` times:

    dense   espalier.graphs.spearman, the whole matrix
    tiled   espalier.graphs.correlated_pairs by tiles from a memory-mapped file, edges only
    scipy   scipy.stats.spearmanr on the whole matrix
    pairs   scipy.stats.spearmanr on `--pairs` random pairs, EXTRAPOLATED to all pairs

The data are post-ReLU-like: float32, rectified, about 57 % zeros, with shared factors. The time is
that of the call, without starting Python or loading the data; on a busy machine compare the CPU
seconds. The memory is the peak of the whole process (for `tiled` that includes mapped pages of the
input). The results are compared as well: scipy within 1e-12, tiled against dense bit by bit.

    python benchmarks/coactivation.py
    python benchmarks/coactivation.py --units 10000 --samples 20000 --only tiled --repeats 1
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import scipy.stats
from records import machine, ratios, record, spread

from espalier.graphs import correlated_pairs, spearman

ROUTES = ("dense", "tiled", "scipy", "pairs")
ALTERNATIVES = {
    "scipy": "scipy.stats.spearmanr, whole matrix",
    "pairs": "scipy.stats.spearmanr, pair by pair",
}


def write_activations(path: Path, units: int, samples: int, seed: int = 0) -> float:
    """Write (units, samples) post-ReLU-like float32 rows; return the share of zeros."""
    rng = np.random.default_rng(seed)
    factors = rng.standard_normal((8, samples), dtype=np.float32)
    zeros = 0
    with open(path, "wb") as handle:
        header = {"descr": "<f4", "fortran_order": False, "shape": (units, samples)}
        np.lib.format.write_array_header_1_0(handle, header)
        for _ in range(units):
            loadings = rng.standard_normal(8, dtype=np.float32)
            row = loadings @ factors + rng.standard_normal(samples, dtype=np.float32)
            np.maximum(row - np.float32(0.55), 0, out=row)
            zeros += int((row == 0).sum())
            handle.write(row.tobytes())
    return zeros / (units * samples)


def run_route(route: str, folder: Path, pairs: int) -> dict[str, float]:
    """Time one route in this process and leave its result in the folder."""
    source = folder / "activations.npy"
    values = np.load(source, mmap_mode="r" if route == "tiled" else None).T
    started, processor = time.perf_counter(), time.process_time()
    if route == "dense":
        result = spearman(values)
    elif route == "tiled":
        kept = correlated_pairs(values, tile=512, scratch=folder)
    elif route == "scipy":
        result = scipy.stats.spearmanr(values).statistic
    else:
        rng = np.random.default_rng(1)
        chosen = [rng.choice(values.shape[1], 2, replace=False) for _ in range(pairs)]
        started, processor = time.perf_counter(), time.process_time()
        for first, second in chosen:
            scipy.stats.spearmanr(values[:, first], values[:, second])
    measured = {
        "wall": time.perf_counter() - started,
        "cpu": time.process_time() - processor,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
    }
    if route == "tiled":
        np.savez(folder / "tiled.npz", rows=kept.rows, columns=kept.columns, rho=kept.correlation)
        measured["edges"] = len(kept.rows)
    elif route != "pairs":
        np.save(folder / f"{route}.npy", result)
    return measured


def check(folder: Path) -> list[str]:
    """Compare the results that the routes left in the folder."""
    lines = []
    dense, tiled, other = (folder / f for f in ("dense.npy", "tiled.npz", "scipy.npy"))
    if dense.exists() and other.exists():
        difference = np.abs(np.load(dense) - np.load(other)).max()
        lines.append(f"largest difference between dense and scipy: {difference:.1e}")
        if not difference < 1e-12:
            raise SystemExit(f"dense and scipy differ by {difference}")
    if dense.exists() and tiled.exists():
        rho = np.load(dense)
        rows, columns = np.nonzero(np.triu(rho >= 0.5, 1))
        with np.load(tiled) as edges:
            same = (
                np.array_equal(edges["rows"], rows)
                and np.array_equal(edges["columns"], columns)
                and edges["rho"].tobytes() == rho[rows, columns].tobytes()
            )
        if not same:
            raise SystemExit("tiled and dense edges differ")
        lines.append(f"tiled and dense: the same {len(rows)} edges, bit by bit")
    return lines


def main() -> None:
    """Run every route in turn and print times, ratios and memory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--units", type=int, default=1418)
    parser.add_argument("--samples", type=int, default=70_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--only", nargs="+", choices=ROUTES, default=ROUTES)
    parser.add_argument("--folder", type=Path, default=None, help="where the data are written")
    parser.add_argument("--child", choices=ROUTES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(run_route(arguments.child, arguments.folder, arguments.pairs)))
        return

    routes = [route for route in ROUTES if route in arguments.only]
    n_pairs = arguments.units * (arguments.units - 1) // 2
    measured: dict[str, list[dict[str, float]]] = {route: [] for route in routes}
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        zeros = write_activations(folder / "activations.npy", arguments.units, arguments.samples)
        print(f"{arguments.units} units x {arguments.samples} samples, {zeros:.0%} zeros")
        print(f"n = {arguments.repeats} repeats, routes in turn, a fresh process each")
        print(machine("numpy", "scipy"))
        print(f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')}")
        for _ in range(arguments.repeats):
            for route in routes:
                command = [sys.executable, __file__, "--child", route, "--folder", name]
                command += ["--pairs", str(arguments.pairs)]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                measured[route].append(json.loads(done.stdout))
        print(f"{'route':8}{'wall s: median [range]':>28}{'CPU s':>9}{'peak GB':>9}")
        for route in routes:
            scale = n_pairs / arguments.pairs if route == "pairs" else 1
            walls = [run["wall"] * scale for run in measured[route]]
            cpu = statistics.median(run["cpu"] * scale for run in measured[route])
            peak = max(run["peak_gb"] for run in measured[route])
            note = (
                f"   sampled ({arguments.pairs} of {n_pairs} pairs), extrapolated"
                if route == "pairs"
                else ""
            )
            print(f"{route:8}{spread(walls, '.2f'):>28}{cpu:9.1f}{peak:9.2f}{note}")
        for other in ("tiled", "scipy", "pairs"):
            if "dense" in routes and other in routes:
                scale = n_pairs / arguments.pairs if other == "pairs" else 1
                note = " (extrapolated)" if other == "pairs" else ""
                for clock in ("wall", "cpu"):
                    ours = [run[clock] for run in measured["dense"]]
                    theirs = [run[clock] * scale for run in measured[other]]
                    print(f"{other} / dense, {clock}: {spread(ratios(ours, theirs), '.2f')}{note}")
                    if clock == "cpu" and other in ALTERNATIVES:
                        record(
                            f"rho of {arguments.units} units x {arguments.samples} samples",
                            ours,
                            theirs,
                            "CPU s",
                            ALTERNATIVES[other],
                            extrapolated=other == "pairs",
                        )
        if "tiled" in routes:
            print(f"edges with rho >= 0.5: {measured['tiled'][0]['edges']}")
        print("\n".join(check(folder)))


if __name__ == "__main__":
    main()
