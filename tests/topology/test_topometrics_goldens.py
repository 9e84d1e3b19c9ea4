"""Every golden graph, its brute-force twin, and the graphs of whole networks."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from graphs_by_hand import GOLDENS, LARGE_GOLDENS, golden, golden_graph, needs_large_goldens

from espalier.graphs import LayerGraph, layer_graph
from espalier.topology import topometrics as topometrics_function
from espalier.topology.topometrics import (
    NAMES,
    layer_topometrics,
    topometrics,
    topometrics_report,
)

# The networks of the goldens as modules are with the tests of the graphs.
sys.path.append(str(Path(__file__).parents[1] / "graphs"))
from linearised_nets import golden_net

TINY = sorted(path.name.removesuffix("_graph.npz") for path in GOLDENS.glob("*_graph.npz"))

LARGE = ["resnet20_erk_098", pytest.param("conv6_erk_098", marks=pytest.mark.slow)]

EXACT = {
    "nodes": "nodes",
    "edges": "edges",
    "disc_nodes": "disc",
    "1-hop_nei": "1-hop_nei",
    "2-hop_nei": "2-hop_nei",
    "k-core": "k-core",
    "no_connected_components": "C",
    "mean_connected_components": "C_avg",
    "cut-edges": "cut_edges",
    "cut-nodes": "cut_nodes",
    "avg_node_strength": "avg_node_strength",
    "spectral_radius": "lap_radius",
}
DEFINITION = {
    "sink_nodes": "sink_def(excl last layer)",
    "source_nodes": "source_def(excl first layer)",
    "r-out": "r_out_paper(sum outdeg of sources excl first)",
    "r-in": "r_in_paper(sum indeg of sinks excl last)",
    "spectral_gap": "gap_paper mu0 - next distinct",
}
PUBLISHED = {
    "sink_nodes": "sink_ref_formula",
    "source_nodes": "source_ref_formula",
    "r-out": "ref lost_out(sum indeg of sinks idx<N-1-dlast)",
    "r-in": "ref lost_in(sum outdeg of sources idx>d0)",
    "spectral_gap": "gap_ref |l1|-|l3|",
}


def by_enumeration(found: dict[str, Any], convention: str) -> dict[str, float]:
    """The values of a golden's brute force under our names."""
    keys = EXACT | (DEFINITION if convention == "definition" else PUBLISHED)
    values = {ours: found[theirs] for ours, theirs in keys.items()}
    return values | {"motif": found["closed4"]["total"], "motif3": found["closed4"]["size3"]}


def by_reference(case: str, folder: Path) -> dict[str, Any]:
    """What the public code computed, under the names of the columns, and its normalised form."""
    stored = json.loads((folder / f"{case}.json").read_text())
    metrics = stored["metrics"]
    local = metrics["local"]
    raw = {
        "nodes": stored["nodes"],
        "edges": stored["edges"],
        "sink_nodes": local["sink_nodes"],
        "source_nodes": local["source_nodes"],
        "disc_nodes": local["disc_nodes"],
        "r-out": local["lost_out_edges_r_out"],
        "r-in": local["lost_in_edges_r_in"],
        "cut-edges": metrics["cut_edges"],
        "cut-nodes": metrics["cut_nodes"],
        **metrics["components(as_undirected+to_directed+strong)"],
    }
    for name in ("1-hop_nei", "2-hop_nei", "avg_node_strength", "k-core"):
        raw[name] = metrics[name]
    for name in ("spectral_gap", "spectral_radius"):
        raw[name] = metrics[name]
    for size, name in ((3, "motif3"), (4, "motif")):
        if f"motif_exact(size{size})" in metrics:
            raw[name] = int(metrics[f"motif_exact(size{size})"])
    # The motifs there are an estimate from a sample of nodes.
    normalised = {k: v for k, v in stored["csv_style_normalised"].items() if k != "motif"}
    return {"raw": raw, "normalised": normalised}


def agree(found: dict[str, float], expected: dict[str, float], spectra: float = 1e-7) -> None:
    """Counts are equal; means to rounding, sums of weights to float32, spectra as asked for."""
    for name, value in expected.items():
        tolerance = {"avg_node_strength": 1e-7}.get(name, 1e-13)
        if name.startswith("spectral"):
            tolerance = spectra
        if isinstance(value, int) and not name.startswith("spectral"):
            assert found[name] == value, name
        else:
            assert found[name] == pytest.approx(value, rel=tolerance, abs=tolerance), name


def traced(case: str, convention: str, folder: Path = GOLDENS) -> LayerGraph:
    """The layer graph of the network itself; weights of 16 bits, as all goldens have them."""
    model, shape, masks = golden_net(case, folder)
    if convention == "definition":
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(parameter.half().float())
    return layer_graph(model, shape, masks, convention=convention)


def test_the_package_offers_the_function() -> None:
    assert topometrics_function is topometrics


@pytest.mark.parametrize("method", ["auto", "explicit"])
@pytest.mark.parametrize("case", TINY)
def test_the_correct_graph_by_brute_force(case: str, method: str) -> None:
    expected = golden(case)["metrics_on_correct_graph"]
    graph = traced(case, "definition")
    for convention in ("definition", "published"):
        report = topometrics_report(
            graph, names=NAMES, convention=convention, normalise=False, method=method
        )
        path = {"auto": "edge-free"}.get(method, method)
        assert {value.method for value in report.values()} == {path}
        found = {name: value.value for name, value in report.items()}
        agree(found, by_enumeration(expected, convention))


@pytest.mark.parametrize("case", TINY)
def test_graphs_from_tracing_and_by_hand_are_the_same(case: str) -> None:
    names = [name for name in NAMES if not name.startswith("spectral")]
    by_hand = topometrics(golden_graph(case), names=names, normalise=False)
    agree(topometrics(traced(case, "definition"), names=names, normalise=False), by_hand)


@pytest.mark.parametrize("case", TINY)
def test_the_published_graph_by_brute_force(case: str) -> None:
    expected = golden(case)["bruteforce_on_ref_graph"]
    graph = traced(case, "published")
    for convention in ("definition", "published"):
        report = topometrics_report(graph, names=NAMES, convention=convention, normalise=False)
        assert {value.method for value in report.values()} == {"explicit"}
        found = {name: value.value for name, value in report.items()}
        agree(found, by_enumeration(expected, convention))


@pytest.mark.parametrize("case", TINY)
def test_what_the_public_code_returned(case: str) -> None:
    expected = by_reference(case, GOLDENS)
    graph = traced(case, "published")
    raw = topometrics(graph, names=NAMES, convention="published", normalise=False)
    agree(raw, expected["raw"], spectra=1e-5)
    agree(topometrics(graph, convention="published"), expected["normalised"])


@needs_large_goldens
@pytest.mark.parametrize("case", LARGE)
def test_whole_networks_as_the_public_code_returned_them(case: str) -> None:
    expected = by_reference(case, LARGE_GOLDENS)
    graph = traced(case, "published", LARGE_GOLDENS)
    found = topometrics(graph, convention="published", normalise=False)
    # Its spectra are in float32 from a random start: 7e-4 off on Conv-6.
    gap = 1e-3 if case.startswith("conv6") else 1e-5
    agree(found, expected["raw"] | {"spectral_gap": found["spectral_gap"]}, spectra=1e-5)
    assert found["spectral_gap"] == pytest.approx(expected["raw"]["spectral_gap"], rel=gap)
    if case == "resnet20_erk_098":
        noise = json.loads((LARGE_GOLDENS / f"{case}_motif_noise.json").read_text())
        assert found["motif"] == noise["exact"]


@needs_large_goldens
@pytest.mark.parametrize("case", LARGE)
def test_whole_networks_by_the_definition(case: str) -> None:
    stored = golden(case, "correct")
    keys = {
        "nodes": "nodes",
        "edges": "edges",
        "sink_nodes": "sink_def",
        "source_nodes": "source_def",
        "disc_nodes": "disc",
        "r-out": "sum_outdeg_sources",
        "r-in": "sum_indeg_sinks",
        "1-hop_nei": "one_hop",
        "2-hop_nei": "2-hop_nei",
        "k-core": "k-core",
        "avg_node_strength": "avg_node_strength",
        "no_connected_components": "C",
        "mean_connected_components": "C_avg",
        "cut-edges": "cut_edges",
        "cut-nodes": "cut_nodes",
        "spectral_gap": "spectral_gap_ref_style",
        "spectral_radius": "spectral_radius",
    }
    graph = traced(case, "definition", LARGE_GOLDENS)
    report = topometrics_report(graph, normalise=False)
    assert {value.method for value in report.values()} == {"edge-free"}
    found = {name: value.value for name, value in report.items()}
    agree(found, {ours: stored[theirs] for ours, theirs in keys.items()}, spectra=1e-6)
    if case == "resnet20_erk_098":
        assert found["motif"] == golden(case, "correct_proto")["motif4_exact(K4 assumed 0)"]


@pytest.mark.parametrize("kind", ["rolled", "rolled-channel"])
@pytest.mark.parametrize("case", ["tiny_s2_05", "tiny_s2_09"])
def test_rolled_layers_as_igraph_measured_them(case: str, kind: str) -> None:
    stored = golden(case, "rolled_ramanujan")[kind]
    graph = traced(case, "published")
    found = layer_topometrics(graph, kind, convention="published", normalise=False)
    keys = {
        "1-hop_nei": "one_hop",
        "avg_node_strength": "strength",
        "k-core": "kcore",
        "no_connected_components": "C",
        "mean_connected_components": "C_avg",
        "cut-edges": "cut_edges",
        "cut-nodes": "cut_nodes",
        "spectral_gap": "gap",
        "spectral_radius": "lap_radius",
    }
    assert [f"{layer['layer']}.weight" for layer in stored] == list(found)
    for layer, values in zip(stored, found.values(), strict=True):
        assert values["nodes"] == layer["L"] + layer["R"]
        assert values["edges"] == layer["edges"]
        expected = {ours: layer["topometrics"][theirs] for ours, theirs in keys.items()}
        agree(values, expected, spectra=2e-6)
        assert np.isfinite(list(values.values())).all()
