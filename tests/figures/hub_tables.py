"""Tables of hub training that look like real results."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd

PLACES = (
    ("fashion_mnist", "mlp-784-256-128-100-10", 0.86),
    ("cifar10", "mlp-3072-4000-1000-4000-10", 0.65),
)
RUNS = (("set", np.nan), ("censet", 2.6), ("static", np.nan), ("dense", np.nan))


def training_table(epochs=60, seeds=3, places=PLACES, runs=RUNS):
    rng = np.random.default_rng(0)
    rows = []
    for dataset, model, best in places:
        for index, (method, k) in enumerate(runs):
            for seed in range(seeds):
                for epoch in range(epochs + 1):
                    done = 1 - np.exp(-epoch / 12)
                    accuracy = 0.1 + (best - 0.01 * index - 0.1) * done + rng.normal(0, 0.004)
                    removed = {"censet": 9 * np.exp(-epoch / 5), "set": 0}.get(method, 0)
                    rows.append(
                        {
                            "dataset": dataset,
                            "model": model,
                            "method": method,
                            "k": k,
                            "fraction": np.nan,
                            "seed": seed,
                            "epoch": epoch,
                            "train_loss": 2.3 * np.exp(-done),
                            "validation_accuracy": accuracy,
                            "test_accuracy": accuracy,
                            "connections": 33_000,
                            "removed_neurons": rng.poisson(removed),
                            "removed_edges": 0,
                            "centrality_mean": (1 + index) * done + rng.normal(0, 0.03),
                            "centrality_sd": (2 + index) * done + 0.2 + rng.normal(0, 0.05),
                        }
                    )
    return pd.DataFrame(rows)


def hubs_table(epochs=(0, 1, 2, 5, 10, 20, 40, 60), seeds=3, runs=RUNS, places=PLACES):
    rng = np.random.default_rng(1)
    rows = []
    for dataset, model, _ in places:
        for index, (method, k) in enumerate(runs):
            for seed in range(seeds):
                base = rng.standard_normal(1278)
                for epoch in epochs:
                    growth = 1 - np.exp(-epoch / 15)
                    values = np.exp(base * (0.6 + growth)) * (0.3 + (1 + index) * growth)
                    values = values - 0.35 * rng.random(base.size)
                    for layer, part in ((-1, values), (0, values[:784]), (1, values[784:])):
                        quantiles = np.quantile(part, (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95))
                        rows.append(
                            {
                                "dataset": dataset,
                                "model": model,
                                "method": method,
                                "k": k,
                                "fraction": np.nan,
                                "seed": seed,
                                "epoch": epoch,
                                "layer": layer,
                                "neurons": part.size,
                                "mean": part.mean(),
                                "sd": part.std(),
                                "min": part.min(),
                                "max": part.max(),
                                "gini": 0.5,
                                **dict(
                                    zip(
                                        ("q05", "q10", "q25", "q50", "q75", "q90", "q95"),
                                        quantiles,
                                        strict=True,
                                    )
                                ),
                            }
                        )
    return pd.DataFrame(rows)


def accuracy_table(seeds=3, places=PLACES):
    rng = np.random.default_rng(2)
    rows = []
    for dataset, model, best in places:
        runs = [("censet", k) for k in np.arange(0, 4.25, 0.25)]
        runs += [("strength", k) for k in np.arange(0, 4.25, 0.5)]
        for method, k in [*runs, ("set", np.nan), ("static", np.nan)]:
            for seed in range(seeds):
                lost = 0.25 * np.exp(-1.6 * k) if np.isfinite(k) else 0
                accuracy = best - lost + rng.normal(0, 0.004) + 0.01 * (method == "set")
                removed = rng.poisson(40_000 * np.exp(-3.2 * k)) if np.isfinite(k) else 0
                rows.append(
                    {
                        "dataset": dataset,
                        "model": model,
                        "method": method,
                        "k": k,
                        "fraction": np.nan,
                        "seed": seed,
                        "protocol": "wide",
                        "accuracy": accuracy,
                        "validation_accuracy": accuracy - 0.006,
                        "sd_last10": 0.002,
                        "connections": 33_000,
                        "removed_neurons": removed,
                        "removed_edges": 20 * removed,
                        "epochs": 50,
                    }
                )
    return pd.DataFrame(rows)


def ablation_table(seeds=3, places=PLACES, runs=RUNS):
    rng = np.random.default_rng(3)
    fall = {"top": 9.0, "random": 3.0, "bottom": 1.0}
    rows = []
    for dataset, model, best in places:
        for method, k in runs:
            for seed in range(seeds):
                for order, rate in fall.items():
                    for repeat in range(3 if order == "random" else 1):
                        for removed in range(0, 241, 24):
                            share = removed / 484
                            accuracy = 0.1 + (best - 0.1) * np.exp(-((rate * share) ** 2) / 4)
                            rows.append(
                                {
                                    "dataset": dataset,
                                    "model": model,
                                    "method": method,
                                    "k": k,
                                    "fraction": np.nan,
                                    "seed": seed,
                                    "order": order,
                                    "repeat": repeat,
                                    "removed": removed,
                                    "neurons": 484,
                                    "accuracy": accuracy + rng.normal(0, 0.005),
                                }
                            )
    return pd.DataFrame(rows)


def fashion_network(seed=0):
    """Weights of a sparse Fashion-MNIST network whose inputs differ in worth, as pixels do."""
    rng = np.random.default_rng(seed)
    sizes = (784, 256, 128, 100, 10)
    result = []
    for layer, (n_in, n_out) in enumerate(itertools.pairwise(sizes)):
        share = min(1, 20 * (n_in + n_out) / (n_in * n_out)) if layer < 3 else 1
        limit = np.sqrt(6 / (n_in + n_out))
        w = rng.uniform(-limit, limit, (n_in, n_out)) * (rng.random((n_in, n_out)) < share)
        result.append(w * rng.lognormal(sigma=0.7, size=(n_in, 1)))
    return result
