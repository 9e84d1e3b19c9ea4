from __future__ import annotations

import json

import pandas as pd
import pytest
import torch
from tiny_cnn import LAYERS, tiny_cnn

from espalier.pruning import achieved_sparsity, prune
from espalier.pruning.report import collapsed_layers, sparsity_report


def test_rows_by_hand() -> None:
    masks = {
        "a.weight": torch.tensor([[True, False], [False, False]]),
        "b.weight": torch.zeros(2, 3, dtype=torch.bool),
        "c.weight": torch.ones(5, dtype=torch.bool),
    }
    rows = sparsity_report(masks, 0.6, {"c.weight": 0.0})
    assert [tuple(row.values()) for row in rows] == [
        ("a.weight", 0.6, 0.75, 1, 4, False),
        ("b.weight", 0.6, 1.0, 0, 6, True),
        ("c.weight", 0.0, 0.0, 5, 5, False),
        ("total", 0.6, pytest.approx(1 - 6 / 15), 6, 15, False),
    ]
    assert list(rows[0]) == [
        "parameter", "requested_sparsity", "achieved_sparsity", "kept", "total", "collapsed",
    ]  # fmt: skip
    assert collapsed_layers(masks) == ["b.weight"]


def test_rows_of_a_pruned_network_are_ready_for_files() -> None:
    masks = prune("magnitude", tiny_cnn(), (), 0.8)
    rows = sparsity_report(masks, 0.8)
    assert json.loads(json.dumps(rows)) == rows
    table = pd.DataFrame(rows).set_index("parameter")
    assert list(table.index) == [*LAYERS, "total"]
    assert table["kept"].tolist() == [83, 167, 40, 290]
    assert table["total"].tolist() == [216, 1152, 80, 1448]
    assert table["achieved_sparsity"].to_dict() == pytest.approx(achieved_sparsity(masks))
    assert set(table["requested_sparsity"]) == {0.8}
    assert not table["collapsed"].any()
    assert collapsed_layers(masks) == []


def test_collapse_is_reported_not_repaired() -> None:
    model = tiny_cnn()
    with torch.no_grad():
        model.conv1.weight.mul_(1e-6)
    masks = prune("magnitude", model, (), 0.8)
    assert collapsed_layers(masks) == ["conv1.weight"]
    assert [row["parameter"] for row in sparsity_report(masks, 0.8) if row["collapsed"]] == [
        "conv1.weight"
    ]
    assert collapsed_layers(prune("layerwise_magnitude", model, (), 0.8)) == []


def test_no_masks() -> None:
    assert sparsity_report({}, 0.5)[-1]["total"] == 0
    assert collapsed_layers({}) == []
