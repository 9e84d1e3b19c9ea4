"""Pruning before, during and after training in one experiment, and what a change reruns."""

from __future__ import annotations

import gzip
import shutil
import time
from pathlib import Path

import pytest
import torch

from espalier.files import read_table
from espalier.graphs import edge_count
from espalier.graphs.exports import read_encoding, read_layer_graph
from espalier.pruning.masks import read_masks
from espalier.training.checkpoints import read_tensors

TARGET = "results/tables/accuracy.csv"
TOPOMETRICS = "results/tables/topometrics.csv"
# As in the tables published with Cunegatti et al. (2024).
PUBLISHED_COLUMNS = [
    "accuracy",
    "pruning",
    "sparsity",
    "model",
    "dataset",
    "seed",
    "nodes",
    "edges",
    "sink_nodes",
    "source_nodes",
    "disc_nodes",
    "r-out",
    "r-in",
    "1-hop_nei",
    "2-hop_nei",
    "motif",
    "k-core",
    "avg_node_strength",
    "no_connected_components",
    "mean_connected_components",
    "cut-edges",
    "cut-nodes",
    "spectral_gap",
    "spectral_radius",
]
SETTINGS = {
    "analyses": ["accuracy"],
    "models": ["small_cnn"],
    "pruners": ["snip", "erk", "rigl", "lottery_ticket", "magnitude"],
    "sparsities": [0.6, 0.9],
    "seeds": [0],
    "checkpoints": 2,
    "model_options": {"small_cnn": {"width": 0.25}},
    "training": {
        "epochs": 2,
        "batch_size": 64,
        "optimizer": "sgd",
        "learning_rate": 0.05,
        "schedule": "milestones",
        "milestones": [0.5],
        "augmentation": "crop",
        "crop_padding": 1,
        "normalisation": "standard",
    },
    "pruning": {"epochs": 3},
    "pruning_overrides": {
        "rigl": {"options": {"period": 5}},
        "lottery_ticket": {"options": {"fraction": 0.8}},
        "magnitude": {"exclude": ["output.weight"]},
    },
}


@pytest.fixture(scope="module")
def pruned(make_workflow):
    workflow = make_workflow("pruned", SETTINGS)
    workflow.run("--cores", "2", TARGET, TOPOMETRICS)
    return workflow


@pytest.fixture
def copy(pruned, tmp_path):
    duplicate = object.__new__(type(pruned))
    duplicate.folder = tmp_path / "copy"
    shutil.copytree(pruned.folder, duplicate.folder, symlinks=True)
    return duplicate


def test_every_network_has_its_row_and_its_cell(pruned):
    networks = read_table(pruned.path("results/tables/networks.csv"))
    assert len(networks) == 1 + 5 * 2
    sparse = networks[networks["pruner"] != "dense"]
    for _, row in sparse.iterrows():
        masks = masks_of(pruned, row["pruner"], f"{row['sparsity']:g}")
        total = sum(mask.numel() for mask in masks.values())
        assert abs(row["achieved_sparsity"] - row["sparsity"]) * total < 1, row["pruner"]
    assert "output.weight" not in masks_of(pruned, "magnitude", "0.6")
    accuracy = read_table(pruned.path(TARGET))
    assert accuracy["pruner"].tolist() == ["dense", *SETTINGS["pruners"]]
    assert list(accuracy.columns) == ["dataset", "pruner", "small_cnn 0.6", "small_cnn 0.9"]


def test_topometrics_have_the_published_columns(pruned):
    table = read_table(pruned.path(TOPOMETRICS))
    assert list(table.columns) == [*PUBLISHED_COLUMNS, "dense", "drop"]
    assert len(table) == 5 * 2 and not table.isna().any().any()
    assert table["nodes"].nunique() == 1
    denser = table[table["sparsity"] == 0.6].set_index("pruning")["edges"]
    sparser = table[table["sparsity"] == 0.9].set_index("pruning")["edges"]
    assert (sparser < denser).all()
    networks = read_table(pruned.path("results/tables/networks.csv"))
    assert set(table["accuracy"]) <= set(networks["test_accuracy"])


def test_the_graph_of_a_network_on_request(copy):
    stem = "results/graphs/digits/small_cnn/erk/0.9/seed0"
    forms = ("npz", "edges.npz", "graphml.gz")
    copy.run("--cores", "1", *(f"{stem}.{form}" for form in forms))
    graph = read_layer_graph(copy.path(f"{stem}.npz"))
    edges = sum(matrix.nnz for matrix in read_encoding(copy.path(f"{stem}.edges.npz")).values())
    assert edges == edge_count(graph)
    text = gzip.decompress(copy.path(f"{stem}.graphml.gz").read_bytes()).decode()
    assert text.count("<edge ") == edges and text.count("<node ") == graph.nodes


def file_of(workflow, stage, pruner, sparsity, extension) -> Path:
    name = f"results/{stage}/digits/small_cnn/{pruner}/{sparsity}/seed0.{extension}"
    return workflow.path(name)


def masks_of(workflow, pruner, sparsity):
    return read_masks(file_of(workflow, "masks", pruner, sparsity, "npz"))[0]


@pytest.mark.parametrize("pruner", SETTINGS["pruners"])
def test_removed_weights_are_zero_in_every_checkpoint(pruned, pruner):
    for sparsity in ("0.6", "0.9"):
        path = file_of(pruned, "checkpoints", pruner, sparsity, "safetensors")
        tensors, metadata = read_tensors(path)
        masks = masks_of(pruned, pruner, sparsity)
        for name, mask in masks.items():
            assert torch.all(tensors[name][~mask] == 0), name
        assert "normalisation" in metadata


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_editing_a_pruner_reruns_its_networks_only(copy):
    edit(
        copy.path("src/espalier/pruning/snip.py"), "from __future__", "import math\nfrom __future__"
    )
    assert copy.jobs(TARGET) == {
        "prune_at_initialisation": 1,
        "train_pruned": 1,
        "tabulate_accuracy": 1,
    }


def test_changing_an_option_reruns_that_pruner_only(copy):
    overrides = {**SETTINGS["pruning_overrides"], "rigl": {"options": {"period": 6}}}
    copy.write_config({**SETTINGS, "pruning_overrides": overrides})
    assert copy.jobs(TARGET) == {"train_dynamic": 1, "tabulate_accuracy": 1}


def test_a_second_run_does_nothing(pruned):
    assert not pruned.jobs(TARGET)


def test_a_pruner_of_the_users_own_needs_one_file(copy, root):
    lines = (root / "docs/adding_a_pruner.md").read_text().split("```python\n")[1]
    copy.path("my_pruner.py").write_text(lines.split("```")[0])
    copy.write_config(
        {
            **SETTINGS,
            "pruners": ["my_pruner"],
            "pruning_overrides": {"my_pruner": {"algorithm": "my_pruner.py"}},
        }
    )
    copy.run("--cores", "2", TARGET)
    assert read_table(copy.path(TARGET))["pruner"].tolist() == ["dense", "my_pruner"]
    with copy.path("my_pruner.py").open("a") as file:
        file.write("\nUNUSED = 1\n")
    assert copy.jobs(TARGET)["prune_at_initialisation"] == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pruners": ["snipp"]}, "Did you mean 'snip'?"),
        (
            {"pruning_overrides": {"snip": {"options": {"num_batchs": 1}}}},
            "unknown option of pruner 'snip' 'num_batchs'. Did you mean 'num_batches'?",
        ),
        (
            {"pruning_overrides": {"snip": {"algorithm": "no_such_file.py"}}},
            "no_such_file.py does not exist",
        ),
        ({"training": {**SETTINGS["training"], "milestones": [7]}}, "milestones are after epochs"),
    ],
)
def test_bad_settings_are_refused_before_anything_runs(fresh, change, message):
    fresh.write_config({**SETTINGS, **change})
    assert message in fresh.run("--cores", "1", TARGET, check=False)
    assert not fresh.path("results").exists()


def test_a_sparsity_that_leaves_no_weight(fresh):
    options = {"snip": {"options": {"counts": "at_least_kth_largest"}}}
    change = {"sparsities": [0.99999], "pruners": ["snip"], "pruning_overrides": options}
    fresh.write_config({**SETTINGS, **change})
    output = fresh.run("--cores", "1", TARGET, check=False)
    assert "would leave none of" in output
    assert not list(fresh.folder.glob("results/masks/**/*.npz"))


@pytest.mark.parametrize("experiment", ["sparse_topology", "sparse_topology_small"])
def test_the_pools_are_planned_in_seconds(root, fresh, experiment):
    path = str(root / f"config/experiments/{experiment}.yaml")
    started = time.monotonic()
    output = fresh.run("-n", "--quiet", "rules", "--configfile", path)
    seconds = time.monotonic() - started
    total = next(line for line in output.splitlines() if line.startswith("total"))
    assert int(total.split()[1]) < 3000
    print(f"{experiment}: {total}, {seconds:.1f} s")
