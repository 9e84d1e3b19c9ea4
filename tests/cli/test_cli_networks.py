"""The commands that read one network: what they print is what the library says."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pandas as pd
import pytest
import torch

import espalier.models
from espalier.cli import COMMANDS, build_parser, main
from espalier.files import read_json, read_table
from espalier.graphs import layer_graph, read_encoding, read_layer_graph
from espalier.hierarchy.trees import parse_newick
from espalier.pruning import prune, write_masks
from espalier.topology import topometrics
from espalier.training import write_checkpoint

MODEL = "mlp-64-16-12-10"
NETWORK = ["--model", MODEL, "--classes", "10", "--input-shape", "1x8x8"]
DIGITS = ["--model", MODEL, "--dataset", "digits"]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A checkpoint with dense weights, and masks."""
    folder = tmp_path_factory.mktemp("network")
    model = espalier.models.build(MODEL, 10, (1, 8, 8), seed=0)
    write_checkpoint(folder / "seed0.safetensors", model)
    batches = [(torch.zeros(1, 1, 8, 8), torch.zeros(1, dtype=torch.long))]
    masks = prune("erk", model, batches, 0.7, seed=0)
    write_masks(folder / "masks.npz", masks, 0.7, {"seed": 0})
    return folder / "seed0.safetensors", folder / "masks.npz"


def expected(masks: Path) -> dict[str, float]:
    from espalier.pruning import read_masks

    model = espalier.models.build(MODEL, 10, (1, 8, 8), seed=0)
    return topometrics(layer_graph(model, (1, 8, 8), read_masks(masks)[0]))


def test_topometrics_are_the_librarys(files, capsys):
    checkpoint, masks = map(str, files)
    assert main(["topometrics", checkpoint, *NETWORK, "--masks", masks]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out) == pytest.approx(expected(files[1]))
    assert "layer graph with 102 nodes" in said.err
    chosen = ["--names", "k-core,motif", "--format", "csv", "--quiet"]
    assert main(["topometrics", checkpoint, *NETWORK, "--masks", masks, *chosen]) == 0
    said = capsys.readouterr()
    assert not said.err
    row = pd.read_csv(io.StringIO(said.out)).iloc[0]
    assert row["k-core"] == expected(files[1])["k-core"]


def test_files_say_what_made_them(files, tmp_path):
    checkpoint = str(files[0])
    for name in ("one.csv", "one.json"):
        assert main(["topometrics", checkpoint, *NETWORK, "--out", str(tmp_path / name)]) == 0
    assert "code" in read_table(tmp_path / "one.csv").attrs["provenance"]
    assert read_json(tmp_path / "one.json")["found"]["nodes"] == 102


def test_weights_that_are_zero_are_pruned_without_masks(files, tmp_path, capsys):
    from espalier.pruning import apply_masks, read_masks

    model = espalier.models.build(MODEL, 10, (1, 8, 8), seed=0)
    apply_masks(model, read_masks(files[1])[0])
    write_checkpoint(tmp_path / "sparse.safetensors", model)
    assert main(["topometrics", str(tmp_path / "sparse.safetensors"), *NETWORK]) == 0
    assert json.loads(capsys.readouterr().out) == pytest.approx(expected(files[1]))


def test_encode_writes_every_form(files, tmp_path):
    checkpoint, masks = map(str, files)
    for name in ("graph.npz", "graph.edges.npz", "graph.graphml.gz"):
        out = str(tmp_path / name)
        assert main(["encode", checkpoint, *NETWORK, "--masks", masks, "--out", out]) == 0
    edges = sum(matrix.nnz for matrix in read_encoding(tmp_path / "graph.edges.npz").values())
    assert edges == expected(files[1])["edges"]
    assert read_layer_graph(tmp_path / "graph.npz").nodes == 102


def test_tree_compares_with_the_truth(files, tmp_path, root, capsys):
    truth = str(root / "config/hierarchies/digits.nwk")
    arguments = ["tree", str(files[0]), *DIGITS, "--detector", "average_linkage", "--truth", truth]
    assert main(arguments) == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert len(parse_newick(found["newick"]).leaves) == 10
    assert found["clustering_information"] >= 0 and 0 < found["p_value"] <= 1
    assert "co-activation graph" in said.err


def test_modules_and_centrality_name_units(files, tmp_path, capsys):
    checkpoint, masks = map(str, files)
    assert main(["modules", checkpoint, *NETWORK, "--masks", masks, "--format", "csv"]) == 0
    units = pd.read_csv(io.StringIO(capsys.readouterr().out))
    assert set(units.columns) == {"layer", "unit", "module"}
    assert (units["layer"] == 3).sum() == 10
    assert main(["centrality", checkpoint, *NETWORK, "--masks", masks, "--format", "csv"]) == 0
    neurons = pd.read_csv(io.StringIO(capsys.readouterr().out))
    assert len(neurons) == 102


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["topometrics", "none.safetensors", *NETWORK], "none.safetensors does not exist"),
        (["topometrics", "FILE", *NETWORK, "--out", "x.txt"], "must end in .json or .csv"),
        (["topometrics", "FILE", *NETWORK, "--out", "x.csv", "--format", "json"], "end in .json"),
        (["topometrics", "FILE", *NETWORK, "--names", "kcore"], "Did you mean 'k-core'"),
        (["topometrics", "FILE", *NETWORK, "--masks", "no.npz"], "no.npz does not exist"),
        (["encode", "FILE", *NETWORK, "--out", "x.txt"], "must end in"),
        (["encode", "FILE", *NETWORK[:2], *NETWORK[4:], "--classes", "0", "--out", "x.npz"], "0"),
        (["modules", "FILE", "--model", "mlp-64-9-10", *NETWORK[2:]], "another model"),
        (["tree", "FILE", *DIGITS, "--detector", "linkage"], "detector"),
        (["tree", "FILE", *DIGITS, "--measure", "triplets"], "Did you mean 'triplet'"),
        (["tree", "FILE", *DIGITS, "--truth", "no.nwk"], "no.nwk does not exist"),
        (["why", "x", "--directory", "/nowhere"], "holds no Snakefile"),
    ],
)
def test_errors_name_the_mistake(arguments, message, files, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([str(files[0]) if word == "FILE" else word for word in arguments]) == 1
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["3x32", "axbxc", "0x2x2"])
def test_a_wrong_shape_is_wrong_usage(text, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["topometrics", "f", *NETWORK[:4], "--input-shape", text])
    assert stopped.value.code == 2 and "3x32x32" in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_help_shows_an_example_that_parses(command, capsys):
    with pytest.raises(SystemExit):
        main([command.name, "--help"])
    assert "example:" in capsys.readouterr().out
    if not command.example.startswith("eval"):
        words = command.example.split()
        assert build_parser().parse_args(words[1:]).command == command.name


def test_completion_knows_the_commands(capsys):
    pytest.importorskip("shtab")
    assert main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    assert all(command.name in script for command in COMMANDS)
