"""Synthetic tables, graphs and blocks that look like real results."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.text import Text
from scipy import sparse
from scipy.cluster.hierarchy import fcluster, linkage

from espalier.graphs.coactivation import CoactivationGraph

FASHION = (
    "T-shirt/Top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle Boot",
)  # fmt: skip
CIFAR20 = (
    "bear", "bicycle", "bus", "fox", "lawn_mower", "leopard", "lion", "motorcycle",
    "pickup_truck", "porcupine", "possum", "raccoon", "rocket", "skunk", "streetcar",
    "tank", "tiger", "tractor", "train", "wolf",
)  # fmt: skip

# Petkov (2021), Tables 1 and 2: test accuracy in %, mean and sd of the unrooted RF.
SPARSITIES = (0.0, 0.5, 0.675, 0.75, 0.825, 0.9)
ACCURACY = {
    ("fashion_mnist", "small_cnn"): (91.88, 91.08, 89.12, 86.48, 83.6, 72.08),
    ("fashion_mnist", "medium_cnn"): (93.8, 93.94, 92.38, 91.2, 89.52, 84.56),
    ("fashion_mnist", "conv6_thesis"): (94.38, 94.24, 93.98, 93.8, 92.82, 90.22),
    ("cifar20", "small_cnn"): (61.95, 60.15, 47.05, 43.6, 34.75, 19.85),
    ("cifar20", "medium_cnn"): (72.45, 71.15, 69.35, 61.1, 59.6, 44.35),
    ("cifar20", "conv6_thesis"): (75.6, 75.85, 73.75, 69.9, 62.6, 40.75),
}
RF = {
    ("fashion_mnist", "small_cnn"): (1.8, 2.16, 4.87, 4.02, 6.15, 5.0),
    ("fashion_mnist", "medium_cnn"): (3.08, 3.76, 4.56, 4.36, 5.62, 2.72),
    ("fashion_mnist", "conv6_thesis"): (6.26, 5.6, 6.36, 4.58, 6.26, 5.7),
    ("cifar20", "small_cnn"): (9.78, 11.12, 9.68, 10.86, 10.32, 10.0),
    ("cifar20", "medium_cnn"): (12.04, 12.48, 11.0, 11.72, 11.84, 11.62),
    ("cifar20", "conv6_thesis"): (14.96, 13.66, 12.44, 13.64, 17.1, 15.14),
}
EPOCHS = {"small_cnn": 100, "medium_cnn": 200, "conv6_thesis": 120}
DETECTORS = (
    "nested_sbm", "leiden", "infomap", "average_linkage", "induced_weights", "confusion",
    "class_means",
)  # fmt: skip
SAMPLES = {"nested_sbm": 20, "leiden": 5, "infomap": 5}

BASELINES = pd.DataFrame(
    [
        ("fashion_mnist", "rf_unrooted", 5, 9.78, 0.627, 9.7675, 11.7, 0.743, 200),
        ("fashion_mnist", "triplet", 0.825, 0.746, 0.082, 0.7425, 0.723, 0.078, 200),
        ("fashion_mnist", "clustering_information_rooted", 1, 0.794, 0.082, None, 0.807,
         0.067, 200),
        ("fashion_mnist", "adjusted_hierarchical_mutual_information", 0, 0.007, 0.131, 0.0, 0.0,
         0.081, 200),
        ("cifar20", "rf_unrooted", 9, 17.9, 0.437, 17.9016, 25.84, 0.544, 200),
        ("cifar20", "triplet", 0.976, 0.678, 0.047, 0.6817, 0.679, 0.024, 200),
        ("cifar20", "clustering_information_rooted", 1, 0.852, 0.041, None, 0.869, 0.027, 200),
        ("cifar20", "adjusted_hierarchical_mutual_information", 0, -0.001, 0.069, 0.0, -0.001,
         0.031, 200),
    ],
    columns=[
        "dataset", "measure", "star", "permuted_mean", "permuted_sd", "permuted_exact",
        "random_mean", "random_sd", "n",
    ],
)  # fmt: skip


def caption(figure) -> str:
    """Return the sentence below a figure, in one line."""
    return next(
        text.get_text().replace("\n", " ") for text in figure.texts if text.get_gid() == "caption"
    )


def legend(figure) -> list[str]:
    """Return the words of a figure's legend."""
    return [text.get_text() for text in figure.legends[0].get_texts()]


def rf_table(datasets: tuple[str, ...] = ("fashion_mnist", "cifar20"), seeds: int = 3):
    """Return an rf table: dense networks at 11 checkpoints, pruned ones converged."""
    rng = np.random.default_rng(0)
    records = []
    for (dataset, model), accuracies in ACCURACY.items():
        if dataset not in datasets:
            continue
        floor = 10.0 if dataset == "fashion_mnist" else 5.0
        for index, sparsity in enumerate(SPARSITIES):
            for seed in range(seeds):
                for checkpoint in range(11) if sparsity == 0 else (10,):
                    epoch = max(1, EPOCHS[model] * checkpoint // 10)
                    progress = 1 - np.exp(-(checkpoint + 1.2) / 2.2)
                    accuracy = floor + (accuracies[index] - floor) * progress
                    accuracy += rng.normal(0, 0.8)
                    detectors = DETECTORS if sparsity == 0 and checkpoint == 10 else DETECTORS[:1]
                    centre = RF[dataset, model][index] + 3 * np.exp(-checkpoint / 3)
                    for which, detector in enumerate(detectors):
                        shift = rng.normal(0, 0.5) + 0.45 * which
                        for sample in range(SAMPLES.get(detector, 1)):
                            rf = max(0, round(centre + shift + rng.normal(0, 1.1)))
                            share = rf / (14 if dataset == "fashion_mnist" else 24)
                            records.append(
                                {
                                    "dataset": dataset,
                                    "model": model,
                                    "pruner": "dense" if sparsity == 0 else "magnitude",
                                    "sparsity": sparsity,
                                    "seed": seed,
                                    "checkpoint": checkpoint,
                                    "epoch": epoch,
                                    "detector": detector,
                                    "sample": f"sample{sample}",
                                    "test_accuracy": accuracy / 100,
                                    "rf_unrooted": rf,
                                    "triplet": min(1, 0.1 + share + rng.normal(0, 0.04)),
                                    "clustering_information_rooted": min(
                                        1, 0.15 + share + rng.normal(0, 0.04)
                                    ),
                                    "adjusted_hierarchical_mutual_information": 0.9
                                    - share
                                    + rng.normal(0, 0.05),
                                }
                            )
    return pd.DataFrame(records)


def activation_graph(widths=(32, 64, 64, 32), class_names=FASHION, constant=5, seed=0):
    """Return a co-activation graph of simulated activations, and levels of nested blocks.

    Classes hang in a random tree; units prefer the classes of one of its branches, deeper layers
    more sharply. Blocks come from average linkage, cut at three heights.
    """
    rng = np.random.default_rng(seed)
    classes = len(class_names)
    sizes = (*widths, classes)
    layer = np.repeat(np.arange(len(sizes)), sizes)
    count = len(layer)
    label = np.full(count, -1)
    label[layer == len(widths)] = np.arange(classes)
    # Class prototypes diffuse down a tree: 2 branches, 4 twigs, the classes.
    twig = np.arange(classes) * 4 // classes
    factors = 5
    prototype = (
        rng.normal(0, 1.0, (2, factors))[twig // 2]
        + rng.normal(0, 0.9, (4, factors))[twig]
        + rng.normal(0, 0.7, (classes, factors))
    )
    sharp = layer / len(widths)
    response = rng.normal(size=(count, factors)) @ prototype.T
    response *= 1.8 / response.std(axis=1, keepdims=True)
    centred = prototype - prototype.mean(axis=0)
    response[label >= 0] = 3.0 * centred @ centred.T / np.sqrt((centred**2).sum(axis=1)).mean()
    truth = rng.integers(0, classes, 500)
    common = rng.normal(size=(500, 6)) @ rng.normal(size=(6, count)) * 0.35
    values = response[:, truth].T * (0.6 + 0.8 * sharp) + common + rng.normal(size=(500, count))
    is_constant = np.zeros(count, dtype=bool)
    is_constant[rng.choice(np.flatnonzero(label < 0), constant, replace=False)] = True
    rank = values.argsort(axis=0).argsort(axis=0)
    correlation = np.corrcoef(rank.T)
    weights = np.triu((correlation - 0.5) / 0.5, 1)
    weights[is_constant] = 0
    weights[:, is_constant] = 0
    weights = np.maximum(weights, 0)
    weights += weights.T
    graph = CoactivationGraph(
        adjacency=sparse.csr_array(weights),
        layer=layer,
        neuron=np.concatenate([np.arange(size) for size in sizes]),
        label=label,
        constant=is_constant,
        layer_names=(
            *(f"conv{k + 1}" for k in range(len(widths) - 2)), "fc1", "fc2", "output",
        ),
        class_names=tuple(class_names),
    )  # fmt: skip
    joined = linkage(
        correlation[np.triu_indices(count, 1)].max() - correlation[np.triu_indices(count, 1)],
        "average",
    )
    levels, below = [], np.arange(count)
    for blocks in (3 * classes // 2, classes // 2, 2, 1):
        block = fcluster(joined, blocks, "maxclust") - 1
        level = np.zeros(below.max() + 1, dtype=int)
        level[below] = block
        levels.append(level)
        below = block
    return graph, levels


def assert_no_overlap(figure, texts):
    renderer = figure.canvas.get_renderer()
    # An annotation's own box includes its leader line; the text's does not.
    boxes = [Text.get_window_extent(text, renderer) for text in texts]
    for i, one in enumerate(boxes):
        for k in range(i):
            other = boxes[k]
            apart = (
                one.x1 <= other.x0 + 0.5
                or other.x1 <= one.x0 + 0.5
                or one.y1 <= other.y0 + 0.5
                or other.y1 <= one.y0 + 0.5
            )
            assert apart, (texts[i].get_text(), texts[k].get_text())
