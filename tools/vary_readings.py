"""Print how the class trees of converged dense networks depend on choices the thesis leaves open.

    python tools/vary_readings.py --configfile config/experiments/fashion_small.yaml

Reads the checkpoints that the workflow has left for the first data set and model, builds each
network's graph anew with one option changed at a time, fits the block model, and prints the mean
and standard deviation of the distances over seeds and hierarchies, as Markdown.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import yaml

from espalier.config import load
from espalier.data import read_dataset
from espalier.graphs import coactivation_graph, collect
from espalier.hierarchy import compare_trees, detect
from espalier.hierarchy.truth import load_truth
from espalier.models.fitting import build_network
from espalier.training import normalised_batches, read_checkpoint

READING = ("tap", "reduce", "output")
VARIANTS = {
    "as configured": ({}, {}),
    "min-max rescale (published code)": ({"rescale": "min-max"}, {}),
    "max over positions": ({"reduce": "max"}, {}),
    "after ReLU": ({"tap": "post_relu"}, {}),
    "softmax outputs": ({"output": "softmax"}, {}),
    "Pearson": ({"method": "pearson"}, {}),
    "fresh weighted fits (published recipe)": ({}, {"draws": "fresh_weighted"}),
}
MEASURES = ("rf_unrooted", "splits_observed_unrooted", "clustering_information_rooted", "triplet")


def main() -> None:
    """Read the configuration, vary it and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--configfile", required=True)
    parser.add_argument("--hierarchies", type=int, default=10)
    arguments = parser.parse_args()
    with open(arguments.configfile, encoding="utf-8") as handle:
        settings = load(yaml.safe_load(handle))
    dataset, model_name = settings.datasets[0], settings.models[0]
    data = read_dataset(f"resources/datasets/{dataset}.npz")
    images = np.concatenate((data.x_train, data.x_test))
    truth = load_truth(settings.dataset(dataset).truth, data.class_names)
    print("| variant | n trees | " + " | ".join(MEASURES) + " |")
    print("| --- |" + " --- |" * (1 + len(MEASURES)))
    for name, (graph_options, fit_options) in VARIANTS.items():
        options = {**settings.coactivation.model_dump(), **graph_options}
        reading = {key: options.pop(key) for key in READING}
        trees: list[str] = []
        for seed in settings.seeds:
            model = build_network(settings.model(model_name).model_dump(), data)
            stem = f"results/checkpoints/{dataset}/{model_name}/dense/0/seed{seed}"
            read_checkpoint(f"{stem}.checkpoint{settings.checkpoints - 1}.safetensors", model)
            read = collect(model, normalised_batches(images), **reading)
            graph = coactivation_graph(
                read.values,
                read.layer,
                read.neuron,
                read.label,
                read.layer_names,
                data.class_names,
                **options,
            )
            fit = {"hierarchies": arguments.hierarchies, **fit_options}
            trees += detect("nested_sbm", graph, {}, seed, **fit).newicks
        values = compare_trees(trees, truth, rooted="both")
        cells = [f"{values[m].mean():.2f} ± {values[m].std(ddof=1):.2f}" for m in MEASURES]
        print(f"| {name} | {len(trees)} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
