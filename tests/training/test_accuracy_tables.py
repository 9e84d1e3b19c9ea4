from __future__ import annotations

import pandas as pd

from espalier.files import write_json
from espalier.training.tables import accuracy_layout, network_rows


def row(pruner, sparsity, seed, accuracy, model="resnet8"):
    keys = {"dataset": "digits", "model": model, "pruner": pruner, "sparsity": sparsity}
    return {**keys, "seed": seed, "test_accuracy": accuracy}


def test_the_layout_of_the_published_tables():
    rows = pd.DataFrame(
        [
            row("dense", 0.0, 0, 0.91),
            row("dense", 0.0, 1, 0.93),
            row("snip", 0.6, 0, 0.80),
            row("snip", 0.6, 1, 0.90),
            row("snip", 0.9, 0, 0.505),
        ]
    )
    table = accuracy_layout(rows)
    assert table["pruner"].tolist() == ["dense", "snip"]
    # The standard deviation of .80 and .90 with n - 1 is .0707.
    assert table["resnet8 0.6"].tolist() == ["92.0 ± 1.4", "85.0 ± 7.1"]
    assert table["resnet8 0.9"].tolist() == ["92.0 ± 1.4", "50.5"]


def test_a_network_that_was_not_made_leaves_its_cell_empty():
    rows = pd.DataFrame([row("snip", 0.6, 0, 0.8), row("snip", 0.9, 0, 0.7, model="conv6")])
    table = accuracy_layout(rows)
    assert table[["resnet8 0.9", "conv6 0.6"]].values.tolist() == [["", ""]]


def test_one_row_per_network(tmp_path):
    network = {"dataset": "digits", "model": "conv6", "pruner": "snip", "seed": 3}
    record = {
        "network": network,
        "sparsity": 0.9,
        "achieved_sparsity": 0.8998,
        "collapsed_layers": ["conv1.weight"],
        "checkpoints": [{"epoch": 2, "validation_accuracy": None, "test_accuracy": 0.5}],
        "epochs": [{"train_accuracy": 0.6}],
    }
    write_json(tmp_path / "seed3.json", record)
    (line,) = network_rows([tmp_path / "seed3.json"]).to_dict("records")
    assert line["achieved_sparsity"] == 0.8998 and line["collapsed_layers"] == 1
    assert line["seed"] == 3 and line["epochs"] == 2 and line["test_accuracy"] == 0.5
