"""Claim: the modules of a 1568-392-392-20 network, dense or pruned, are found in under a second; a
fit for each number of clusters would take a quarter of an hour or more for its inputs alone.

The alternative fits scikit-learn's AgglomerativeClustering again, computes the distances again and
scores the partition for each number of clusters k. It runs for every k in a layer of --refit units,
where both must choose the same number of clusters; for the widest layer it runs for a few k and is
extrapolated, which the output says. Seconds are CPU time of this process.

Usage: OMP_NUM_THREADS=1 python benchmarks/modules.py [--rounds 3] [--refit 120]
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable

import numpy as np
from records import machine, ratios, record, spread
from scipy.spatial.distance import pdist, squareform
from sklearn.cluster import AgglomerativeClustering

from espalier.sculpting.modules import cluster_layer, detect_modules, reach_vectors

WIDTHS = (1568, 392, 392, 20)


def random_masks(density: float, widths: tuple[int, ...], seed: int = 0) -> list[np.ndarray]:
    """Masks with edges at random."""
    generator = np.random.default_rng(seed)
    return [
        generator.random((after, before)) < density for before, after in itertools.pairwise(widths)
    ]


def halved_masks(density: float, widths: tuple[int, ...], seed: int = 0) -> list[np.ndarray]:
    """Masks of two networks side by side, each on one half of every layer."""
    sides = [np.arange(width) < width // 2 for width in widths]
    return [
        mask & (after[:, None] == before[None])
        for mask, (before, after) in zip(
            random_masks(density, widths, seed), itertools.pairwise(sides), strict=True
        )
    ]


def timed(work: Callable[[], object]) -> tuple[float, object]:
    """Return the CPU seconds that a call takes, and its result."""
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def refit(reach: np.ndarray, count: int) -> float:
    """Fit one number of clusters from the start and return the score of the partition."""
    features = reach.astype(float)
    labels = AgglomerativeClustering(count, metric="cosine", linkage="average").fit_predict(
        features
    )
    shares = squareform(pdist(features, "cosine"))
    shares /= shares.sum() or 1.0
    member = (labels[:, None] == np.arange(count)).astype(float)
    between = member.T @ shares @ member
    return round(float(np.trace(between) - (between.sum(axis=1) ** 2).sum()), 8)


def detect(name: str, masks: list[np.ndarray], rounds: int) -> None:
    """Time the detection of a whole network."""
    runs = [timed(lambda: detect_modules(masks, 0.3, 0.6)) for _ in range(rounds)]
    print(f"  {name:34s} {spread([run[0] for run in runs])} s  {runs[0][1]!r}")


def whole_refit(units: int, rounds: int) -> None:
    """Time a layer against all its fits, in turn, and compare what they choose."""
    reach = reach_vectors(random_masks(0.1, (units, units // 4, units // 4, 20)))[0]
    reach = reach[reach.any(axis=1)]
    ours, theirs = [], []
    for _ in range(rounds):
        seconds, clusters = timed(lambda: cluster_layer(reach, 0.0))
        ours.append(seconds)
        seconds, scores = timed(lambda: [refit(reach, k) for k in range(2, len(reach))])
        theirs.append(seconds)
        if not np.allclose(clusters.scores, scores, rtol=0, atol=1.01e-8):
            raise SystemExit("the two do not give the same scores")
    print(
        f"  layer of {len(reach)} units, every k: {spread(ours)} s against {spread(theirs)} s, "
        f"ratio {spread(ratios(ours, theirs))}"
    )
    record(
        f"clusters of {units} units, every k", ours, theirs, "CPU s", "scikit-learn, a fit per k"
    )


def extrapolated_refit(density: float) -> None:
    """Time the widest layer against a few of its fits; the sum over all is extrapolated."""
    reach = reach_vectors(random_masks(density, WIDTHS))[0]
    reach = reach[reach.any(axis=1)]
    ours, _ = timed(lambda: cluster_layer(reach, 0.3))
    counts = np.linspace(2, len(reach) - 1, 5).astype(int).tolist()
    few = [timed(lambda k=k: refit(reach, k))[0] for k in counts]
    total = statistics.fmean(few) * (len(reach) - 2)
    print(
        f"  layer of {len(reach)} units at density {density:g}: {ours:.2f} s against "
        f"{total / 60:.0f} min, extrapolated from {len(few)} of {len(reach) - 2} fits of "
        f"{min(few):.2f} to {max(few):.2f} s; ratio {total / ours:.0f}"
    )
    record(
        f"clusters of {WIDTHS[0]} units, density {density:g}",
        [ours],
        [total],
        "CPU s",
        "scikit-learn, a fit per k",
        extrapolated=True,
    )


def main() -> None:
    """Run all comparisons."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--refit", type=int, default=120, help="units of the layer of all fits")
    options = parser.parse_args()
    print(f"{machine('numpy', 'scipy', 'scikit-learn')}; n = {options.rounds}, CPU time")
    print(f"detection of {'-'.join(map(str, WIDTHS))}, median (range):")
    detect("dense", random_masks(1, WIDTHS), options.rounds)
    detect("random, density 0.05", random_masks(0.05, WIDTHS), options.rounds)
    detect("random, density 0.005", random_masks(0.005, WIDTHS), options.rounds)
    detect("two separate halves, density 0.05", halved_masks(0.05, WIDTHS), options.rounds)
    print("one layer, ours against a fit for each number of clusters k:")
    whole_refit(options.refit, options.rounds)
    for density in (0.05, 0.005):
        extrapolated_refit(density)


if __name__ == "__main__":
    main()
