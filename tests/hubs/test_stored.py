"""Stored networks are read back without torch as they were trained."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from scipy import sparse

from espalier.errors import DataError
from espalier.files import write_npz
from espalier.hubs.sparse_layers import build_perceptron
from espalier.hubs.stored import last_centralities, stored_weights


@pytest.mark.parametrize("epsilon", [2.0, None])
def test_weights_are_those_of_the_network(tmp_path, epsilon):
    network, _ = build_perceptron([12, 9, 7, 3], epsilon, 0, kernel="compiled")
    write_npz(tmp_path / "weights.npz", network.state(), {"seed": 0})
    found = stored_weights(tmp_path / "weights.npz")
    assert [matrix.shape for matrix in found] == [(12, 9), (9, 7), (7, 3)]
    for ours, theirs in zip(found, network.weights(), strict=True):
        assert ours.nnz == (theirs.nnz if sparse.issparse(theirs) else theirs.size)
        np.testing.assert_array_equal(ours.toarray(), sparse.csr_array(theirs).toarray())


def test_centralities_are_those_of_the_last_epoch(tmp_path):
    arrays = {
        "epochs": np.array([0, 5]),
        "centrality": np.array([[1, 2, 3], [4, 5, 6]], np.float32),
        "layer": np.array([0, 0, 1]),
    }
    write_npz(tmp_path / "centrality.npz", arrays, {"method": "set"})
    layers, facts = last_centralities(tmp_path / "centrality.npz")
    assert [layer.tolist() for layer in layers] == [[4, 5], [6]]
    assert facts["method"] == "set"


def test_other_files_are_refused(tmp_path):
    write_npz(tmp_path / "other.npz", {"masks": np.ones(2)}, {})
    with pytest.raises(DataError, match="holds no network of the hub study, but masks"):
        stored_weights(tmp_path / "other.npz")
    with pytest.raises(DataError, match="holds no centralities, but masks"):
        last_centralities(tmp_path / "other.npz")


def test_figures_need_no_torch():
    code = "import sys, espalier.figures.drawing; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
