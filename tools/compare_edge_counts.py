"""Compare the edge counts of random masks with those of the published networks.

The published counts are the minimum and maximum over seeds of the table `unrolled.csv.gz` of
Cunegatti et al. (2024); ours are those of two seeds, drawn as theirs were: layers of ERK by
independent draws, "uniform" as one draw over all weights.

    python tools/compare_edge_counts.py unrolled.csv.gz
"""

from __future__ import annotations

import sys

import pandas as pd

from espalier.graphs import edge_count, layer_graph
from espalier.models import build
from espalier.pruning import prune

MODELS = {
    "CONV-6": "conv6",
    "Resnet-20": "resnet20",
    "Resnet-32": "resnet32",
    "Wide-Resnet-28-2": "wide_resnet28_2",
}
DRAWS = {"erk": {"counts": "bernoulli"}, "uniform": {"scope": "global"}}
SHAPE = (3, 32, 32)


def main(path: str) -> None:
    """Print a row for every network, pruner and sparsity."""
    published = pd.read_csv(path).drop_duplicates()
    published = published[published["dataset"] == "CIFAR-10"]
    print("| network | pruner | sparsity | published | ours, definition | ours, published |")
    print("|---|---|---|---|---|---|")
    for name, own in MODELS.items():
        model = build(own, 10, SHAPE, seed=0, initialisation="kaiming_normal")
        for pruner, options in DRAWS.items():
            for sparsity in (0.6, 0.9, 0.98):
                chosen = (published["model"] == name) & (published["pruning"] == pruner)
                edges = published[chosen & (published["sparsity"] == sparsity)]["edges"]
                cells = [f"{edges.min():,} to {edges.max():,}"]
                masks = [prune(pruner, model, (), sparsity, seed, **options) for seed in (0, 1)]
                for convention in ("definition", "published"):
                    graphs = [layer_graph(model, SHAPE, m, convention=convention) for m in masks]
                    cells.append(", ".join(f"{edge_count(graph):,}" for graph in graphs))
                print(f"| {own} | {pruner} | {sparsity} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
