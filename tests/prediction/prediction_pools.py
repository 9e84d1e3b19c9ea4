"""Synthetic pools of networks, and where the published ones are."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from espalier.topology.topometrics import TOPOMETRICS

GOLDENS = Path(__file__).parents[1] / "goldens" / "prediction"


def synthetic_pool(
    pruners: tuple[str, ...] = ("er", "erk", "snip", "grasp"),
    models: tuple[str, ...] = ("a", "b"),
    datasets: tuple[str, ...] = ("x", "y", "z"),
    sparsities: tuple[float, ...] = (0.6, 0.9),
    seeds: int = 3,
    noise: float = 0.002,
) -> pd.DataFrame:
    """Networks whose drop is 0.3 spectral_radius plus a part of the cell, plus noise."""
    generator = np.random.default_rng(0)
    rows = []
    for i, pruner in enumerate(pruners):
        for j, model in enumerate(models):
            for k, dataset in enumerate(datasets):
                for sparsity in sparsities:
                    centre = generator.random(len(TOPOMETRICS))
                    centre[0] = i / len(pruners)
                    for seed in range(seeds):
                        values = centre + 1e-3 * generator.standard_normal(len(TOPOMETRICS))
                        drop = 0.3 * centre[-1] + 0.1 * j + 0.05 * k + sparsity / 4
                        rows.append(
                            {
                                "pruning": pruner,
                                "sparsity": sparsity,
                                "model": model,
                                "dataset": dataset,
                                "seed": seed,
                                **dict(zip(TOPOMETRICS, values, strict=True)),
                                "drop": drop + noise * generator.standard_normal(),
                            }
                        )
    return pd.DataFrame(rows)


def published_folder(root: Path) -> Path:
    """The published tables, or skip."""
    places = [os.environ.get("ESPALIER_TEST_DATA"), root.parent / "shared" / "data"]
    for place in places:
        if place and (Path(place) / "mge-snn" / "graph_metrics").is_dir():
            return Path(place) / "mge-snn"
    pytest.skip("no folder mge-snn with the published tables: set ESPALIER_TEST_DATA")


def large_goldens(root: Path) -> Path:
    """The recomputed feature tables, or skip."""
    place = root.parent / "shared" / "goldens" / "prediction_and_ranking"
    if not place.is_dir():
        pytest.skip("no ../shared/goldens/prediction_and_ranking: its tables are too large here")
    return place
