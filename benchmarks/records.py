"""What the benchmarks share: the line about the machine, spreads, and the record of ratios.

A benchmark prints what it measures. Where the environment variable ESPALIER_BENCHMARKS names a
file, it also appends there, a JSON object a line, the ratios of `record` and the machine of
`machine`; `tools/run_benchmarks.py` collects them.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

VARIABLE = "ESPALIER_BENCHMARKS"


def processor() -> str:
    """Return the name of the processor."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def machine(*packages: str, **versions: str) -> str:
    """Return the line about processor, load and versions, and record it.

    Args:
        packages: distributions whose installed versions matter, as pip names them.
        versions: of what pip does not know.
    """
    cores, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    found = {"Python": platform.python_version()}
    found |= {name: importlib.metadata.version(name) for name in packages} | versions
    _append({"processor": processor(), "cores": cores, "system": platform.system()})
    _append({"versions": found})
    return f"{processor()}, {cores} cores, load {load:.1f}; " + ", ".join(
        f"{name} {version}" for name, version in found.items()
    )


def spread(values: Sequence[float], form: str = ".3g") -> str:
    """Return median, least and most."""
    median = statistics.median(values)
    return f"{median:{form}} ({min(values):{form}} to {max(values):{form}})"


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Return how many times as much the alternative took, for each pair of runs made in turn."""
    return [their / our for our, their in zip(ours, theirs, strict=True)]


def record(
    name: str,
    ours: Sequence[float],
    theirs: Sequence[float],
    unit: str,
    alternative: str,
    extrapolated: bool = False,
) -> None:
    """Append a comparison to the file that ESPALIER_BENCHMARKS names; without it, do nothing.

    Args:
        name: of what is compared, the same in every run.
        ours: one value a run.
        theirs: one value for each of `ours`, measured in turn with it.
        unit: of both, such as "CPU s".
        alternative: what `theirs` are values of.
        extrapolated: whether `theirs` is a part scaled up.
    """
    found = ratios(ours, theirs)
    _append(
        {
            "name": name,
            "ratio": statistics.median(found),
            "low": min(found),
            "high": max(found),
            "n": len(found),
            "ours": statistics.median(ours),
            "theirs": statistics.median(theirs),
            "unit": unit,
            "alternative": alternative,
            "extrapolated": extrapolated,
        }
    )


def _append(entry: Mapping[str, Any]) -> None:
    path = os.environ.get(VARIABLE)
    if path is None:
        return
    # One write to a file opened for appending: lines of several processes do not mix.
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(handle, (json.dumps(entry, allow_nan=False) + "\n").encode())
    finally:
        os.close(handle)
