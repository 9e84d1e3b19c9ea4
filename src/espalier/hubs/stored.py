"""Reading a stored network and its centralities, without torch."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import sparse

from espalier.errors import DataError
from espalier.files import FilePath, read_npz


def stored_weights(path: FilePath) -> list[sparse.csr_array]:
    """Read the weights of a network of `espalier.hubs.stages.train_hub_network`.

    Args:
        path: the NPZ of the trained network (`SparsePerceptron.state`).

    Returns:
        One (n_in, n_out) matrix per layer.

    Raises:
        DataError: the file is missing, or holds no such network.
        DamagedFileError: it is damaged.
    """
    arrays, _ = read_npz(path)
    if "sizes" not in arrays or "values1" not in arrays:
        raise DataError(f"{path} holds no network of the hub study, but {', '.join(arrays)}")
    sizes = arrays["sizes"].tolist()
    return [
        _matrix(arrays, number, *shape) for number, shape in enumerate(itertools.pairwise(sizes), 1)
    ]


def _matrix(
    arrays: Mapping[str, np.ndarray], number: int, inputs: int, outputs: int
) -> sparse.csr_array:
    """Return the weights of a layer; positions are output * inputs + input, absent if dense."""
    values = arrays[f"values{number}"]
    positions = arrays.get(f"positions{number}", np.arange(inputs * outputs))
    places = (positions % inputs, positions // inputs)
    return sparse.csr_array((values, places), shape=(inputs, outputs))


def last_centralities(path: FilePath) -> tuple[list[np.ndarray], dict[str, Any]]:
    """Read the centralities at the end of training and the facts of the file.

    Args:
        path: the centrality NPZ of `espalier.hubs.stages.train_hub_network`.

    Returns:
        One (units,) float64 array per layer, inputs first; without the output layer where the
        preset leaves it out. Facts: dataset, model, method, options, seed, ...

    Raises:
        DataError: the file is missing, or holds no centralities.
        DamagedFileError: it is damaged.
    """
    arrays, facts = read_npz(path)
    if not {"epochs", "centrality", "layer"} <= set(arrays):
        raise DataError(f"{path} holds no centralities, but {', '.join(arrays)}")
    last = arrays["centrality"][int(np.argmax(arrays["epochs"]))].astype(np.float64)
    layers = arrays["layer"]
    return [last[layers == layer] for layer in range(int(layers.max()) + 1)], facts
