"""Figures from the workflow's files: which table, graph or tree each one draws."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from espalier.errors import ConfigurationError, DataError, unknown_name
from espalier.figures.coactivation import coactivation_graph
from espalier.figures.curves import accuracy_vs_rf, sparsity_vs_rf, training_curve
from espalier.figures.detectors import detector_comparison
from espalier.figures.hub_networks import hub_network
from espalier.figures.hubs import (
    centrality_distribution,
    centrality_spread,
    hub_ablation,
    hub_methods,
    printed_method,
    threshold_search,
)
from espalier.figures.layer_graph import degree_distributions, draw_layer_graph
from espalier.figures.needs import PREDICTION, TABLES
from espalier.figures.prediction import draw_prediction
from espalier.figures.radial import radial_hierarchy
from espalier.figures.sculpting import function_graph, pruned_network
from espalier.figures.sculpting_trials import density_distribution, success_rates
from espalier.figures.style import display_name, save
from espalier.figures.tables import keep
from espalier.figures.tanglegram import facing_trees
from espalier.figures.topology import accuracy_by_sparsity, topometric_trends
from espalier.files import FilePath, read_json, read_table
from espalier.graphs.coactivation import CoactivationGraph, read_coactivation
from espalier.graphs.exports import read_layer_graph
from espalier.hubs.stored import last_centralities, stored_weights
from espalier.networks import Network, network_of_path
from espalier.sculpting.experiments import drawn_variant, is_file
from espalier.sculpting.function_families import published_function
from espalier.sculpting.functions import read_function
from espalier.sculpting.trials import modules_of_trial

_CURVES = {
    "training_curve": training_curve,
    "sparsity_vs_rf": sparsity_vs_rf,
    "accuracy_vs_rf": accuracy_vs_rf,
}
_HUBS = {
    "centrality_distribution": centrality_distribution,
    "centrality_spread": centrality_spread,
    "hub_ablation": hub_ablation,
    "hub_methods": hub_methods,
    "threshold_search": threshold_search,
}


def draw_table(
    figure: str,
    tables: Mapping[str, FilePath],
    outputs: Iterable[FilePath],
    *,
    dataset: str | None = None,
    model: str | None = None,
    normalised: bool = True,
) -> None:
    """Draw a figure of the tables to every output, whose suffix says SVG or PNG.

    The curves show the block model where the table has it, else its first detector.

    Args:
        figure: a key of `TABLES`.
        tables: path of every table that `TABLES` names for it; more do no harm.
        outputs: files to write.
        dataset, model: draw only the rows of these; `topometric_trends` shows one of each.
        normalised: the topometrics are divided by nodes or edges, as published.

    Raises:
        ConfigurationError: no figure has this name, or a table that it needs is not given.
        DataError: a table lacks rows or columns.
    """
    if figure not in TABLES:
        raise unknown_name("figure of tables", figure, TABLES)
    missing = [name for name in TABLES[figure] if name not in tables]
    if missing:
        raise ConfigurationError(f"{figure} is drawn from {', '.join(missing)}.csv, not given")
    read = [_chosen(read_table(tables[name]), name, dataset, model) for name in TABLES[figure]]
    if figure.startswith("success_"):
        drawn = success_rates(_drawn_variant(read[0]), figure.removeprefix("success_"))
    elif figure == "pruned_densities":
        drawn = density_distribution(_drawn_variant(read[0]))
    elif figure in _HUBS:
        drawn = _HUBS[figure](*read)
    elif figure in PREDICTION:
        drawn = draw_prediction(figure, *read)
    elif figure == "accuracy_by_sparsity":
        drawn = accuracy_by_sparsity(read[0])
    elif figure == "topometric_trends":
        drawn = topometric_trends(read[0], normalised=normalised)
    elif figure == "detector_comparison":
        drawn = detector_comparison(*read)
    else:
        detectors = list(dict.fromkeys(read[0]["detector"]))
        detector = "nested_sbm" if "nested_sbm" in detectors else detectors[0]
        drawn = _CURVES[figure](*read, detector=detector)
    _save(drawn, outputs)


def draw_topology(figure: str, graph: FilePath, outputs: Iterable[FilePath]) -> None:
    """Draw a figure of one layer graph to every output, whose suffix says SVG or PNG.

    Args:
        figure: "layer_graph", for small networks only, or "degree_distributions".
        graph: NPZ of `espalier.graphs.write_layer_graph`; its path names the network.
        outputs: files to write.

    Raises:
        ConfigurationError: no figure has this name, or the graph is too large for it.
        DataError: the file is missing, damaged or of the published convention.
    """
    figures = {
        "layer_graph": (draw_layer_graph, "Multipartite graph"),
        "degree_distributions": (degree_distributions, "Degrees by part"),
    }
    if figure not in figures:
        raise unknown_name("figure of a layer graph", figure, figures)
    function, words = figures[figure]
    title = f"{words}, {_title(network_of_path(graph))}"
    _save(function(read_layer_graph(graph), title=title), outputs)


def draw_network(
    figure: str, graph: FilePath, record: FilePath, truth: FilePath, outputs: Iterable[FilePath]
) -> None:
    """Draw a figure of one network to every output, whose suffix says SVG or PNG.

    Of several hierarchies the one with the shortest description is drawn, else the first.

    Args:
        figure: "coactivation_graph", "radial_hierarchy" or "facing_trees".
        graph: co-activation graph.
        record: JSON record of a hierarchy; its Newick file is beside it.
        truth: Newick file of the true tree.
        outputs: files to write.

    Raises:
        ConfigurationError: no figure has this name.
        DataError: the detector has no blocks to draw.
    """
    content = read_json(record)
    network = network_of_path(record)
    title = _title(network)
    shortest = content["details"].get("shortest", {})
    if figure == "coactivation_graph":
        drawn = coactivation_graph(read_coactivation(graph), title=f"Co-activation graph, {title}")
    elif figure == "radial_hierarchy":
        if not shortest.get("levels"):
            raise DataError(f"{record} has no blocks: {content['detector']} found none")
        units, levels = _with_blocks(read_coactivation(graph), shortest["levels"])
        drawn = radial_hierarchy(levels, units, title=f"Nested blocks, {title}")
    elif figure == "facing_trees":
        trees = Path(record).with_suffix(".nwk").read_text(encoding="utf-8").splitlines()
        sample = shortest.get("sample", content["samples"][0])
        drawn = facing_trees(
            trees[content["samples"].index(sample)],
            Path(truth).read_text(encoding="utf-8"),
            title=f"{title}: {content['detector']}, {sample}",
        )
    else:
        known = ["coactivation_graph", "radial_hierarchy", "facing_trees"]
        raise unknown_name("figure of a network", figure, known)
    _save(drawn, outputs)


def draw_function(function: str, outputs: Iterable[FilePath]) -> None:
    """Draw a function graph to every output, whose suffix says SVG or PNG.

    Args:
        function: published name or YAML file.
        outputs: files to write.

    Raises:
        ConfigurationError: no function has this name.
        DataError: the file is missing or holds no usable graph.
    """
    graph = read_function(function) if is_file(function) else published_function(function)
    _save(function_graph(graph), outputs)


def draw_pruned(networks: FilePath, seed: int, outputs: Iterable[FilePath]) -> None:
    """Draw a pruned network with its modules to every output, whose suffix says SVG or PNG.

    Args:
        networks: NPZ of `espalier.sculpting.stages.sculpt_networks`.
        seed: of the trial.
        outputs: files to write.

    Raises:
        DataError: the file is missing or damaged, or has no trial of this seed.
    """
    modules, facts = modules_of_trial(networks, seed)
    title = f"{facts['function']}, hidden layers {facts['hidden']}, seed {seed}"
    _save(pruned_network(modules, title=title), outputs)


def draw_hub_network(weights: FilePath, centrality: FilePath, outputs: Iterable[FilePath]) -> None:
    """Draw a trained network of the hub study with its hubs to every output (SVG or PNG).

    Args:
        weights, centrality: NPZ files of one run of `espalier.hubs.stages.train_hub_network`.
        outputs: files to write.

    Raises:
        DataError: a file is missing or damaged, or the two are not of one network.
    """
    values, facts = last_centralities(centrality)
    options = facts["options"]
    method = printed_method(facts["method"], options["k"], options["fraction"])
    place = f"{display_name(facts['model'])} on {display_name(facts['dataset'])}"
    title = f"Hubs of {place}, {method}, seed {facts['seed']}"
    _save(hub_network(stored_weights(weights), values, title=title), outputs)


def _drawn_variant(table: pd.DataFrame) -> pd.DataFrame:
    return keep(table, "modules", "variant", drawn_variant(table["variant"]))


def _chosen(table: pd.DataFrame, name: str, dataset: str | None, model: str | None) -> pd.DataFrame:
    for key, value in (("dataset", dataset), ("model", model)):
        if value is not None and key in table.columns:
            table = keep(table, name, key, value)
    return table


def _title(network: Network) -> str:
    kind = "dense" if network.pruner == "dense" else f"{network.pruner} {network.sparsity:g}"
    return f"{network.model} on {network.dataset}, {kind}, seed {network.seed}"


def _with_blocks(
    graph: CoactivationGraph, levels: list[list[int]]
) -> tuple[CoactivationGraph, list[np.ndarray]]:
    """Leave out the units without edges, which are in no block."""
    blocks = [np.asarray(level, dtype=np.int64) for level in levels]
    kept = np.flatnonzero(blocks[0] >= 0)
    if len(kept) == graph.n_nodes:
        return graph, blocks
    outputs = graph.label[kept]
    classes = np.sort(outputs[outputs >= 0])
    label = np.where(outputs >= 0, np.searchsorted(classes, outputs), -1)
    part = CoactivationGraph(
        graph.adjacency[kept][:, kept].tocsr(),
        graph.layer[kept],
        graph.neuron[kept],
        label,
        graph.constant[kept],
        graph.layer_names,
        tuple(graph.class_names[k] for k in classes),
    )
    return part, [blocks[0][kept], *blocks[1:]]


def _save(figure: Figure, outputs: Iterable[FilePath]) -> None:
    for path in outputs:
        save(figure, path)
