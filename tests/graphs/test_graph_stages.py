"""The stage from networks to graphs, on a network of a few units."""

from __future__ import annotations

import numpy as np
import pytest

from espalier.data.prepared import PreparedDataset, write_dataset
from espalier.graphs import stages
from espalier.graphs.coactivation import read_coactivation
from espalier.graphs.readout import read_readout
from espalier.models.fitting import build_network
from espalier.pruning.contract import prune
from espalier.pruning.masks import write_masks
from espalier.training.checkpoints import write_checkpoint

NETWORK = {"architecture": "small_cnn", "width": 0.1}
OPTIONS = {
    "method": "spearman",
    "tap": "linear_out",
    "reduce": "mean",
    "output": "logit",
    "threshold": 0.5,
    "rescale": "linear",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stages")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (120, 8, 8, 1), dtype=np.uint8)
    labels = np.arange(120) % 3
    data = PreparedDataset(images[:90], labels[:90], images[90:], labels[90:], ("a", "b", "c"))
    write_dataset(folder / "data.npz", data)
    model = build_network(NETWORK, data, seed=0)
    write_checkpoint(folder / "seed0.safetensors", model)
    write_masks(folder / "masks.npz", prune("group_magnitude", model, (), 0.5), 0.5)
    return folder


def build(folder, name, masks=(), shuffled=False):
    paths = [folder / f"{name}.{kind}.npz" for kind in ("graph", "readout", "shuffled")]
    stages.build_graphs(
        folder / "data.npz",
        [folder / "seed0.safetensors"],
        list(masks),
        [paths[0]],
        [paths[1]],
        paths[2] if shuffled else None,
        NETWORK,
        OPTIONS,
        0,
        "code",
        "cpu",
    )
    return paths


def test_graph_readout_and_null_model(folder):
    graph_path, readout_path, shuffled_path = build(folder, "dense", shuffled=True)
    graph = read_coactivation(graph_path)
    # Width 0.1: 3 + 6 + 6 + 3 hidden units.
    assert graph.n_nodes == 21 and graph.class_names == ("a", "b", "c")
    readout = read_readout(readout_path)
    assert readout["confusion"].sum() == 30, "the readout is taken on the test images"
    assert readout["output_correlation"].shape == (3, 3)
    null = read_coactivation(shuffled_path)
    assert null.n_edges == graph.n_edges
    assert not np.array_equal(null.edges()[0], graph.edges()[0])


def test_pruned_units_are_left_out(folder):
    graph = read_coactivation(build(folder, "pruned", [folder / "masks.npz"])[0])
    # ceil of half of 3, 6, 6 and 3 goes: 1 + 3 + 3 + 1 hidden units stay.
    assert graph.n_nodes == 8 + 3


def test_activations_staged_on_disk_give_the_same_bytes(folder, monkeypatch):
    in_memory = build(folder, "memory", shuffled=True)
    monkeypatch.setattr(stages, "DENSE_BYTES", 0)
    staged = build(folder, "staged", shuffled=True)
    for one, other in zip(in_memory, staged, strict=True):
        assert one.read_bytes() == other.read_bytes()
    assert not list(folder.glob(".*.scratch"))
