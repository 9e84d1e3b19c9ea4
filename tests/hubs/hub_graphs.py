"""Explicit graphs and eigenvalues that the centralities are compared with."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
from scipy import sparse

GOLDENS = Path(__file__).resolve().parent.parent / "goldens" / "hubs"
NETWORKS = ("mlp_20_12_8_5_sparse_eps2", "mlp_10_7_5_isolated", "mlp_8_6_4_positive")


def golden(name):
    with np.load(GOLDENS / f"{name}.npz") as file:
        weights = [file[key] for key in file.files]
    return weights, json.loads((GOLDENS / f"{name}.json").read_text(encoding="utf-8"))


def layered_adjacency(weights):
    """(nodes, nodes) upper triangular, an entry (u, v) the edge from u to v."""
    sizes = [weights[0].shape[0], *(w.shape[1] for w in weights)]
    first = np.concatenate([[0], np.cumsum(sizes)])
    adjacency = np.zeros((first[-1], first[-1]))
    for k, w in enumerate(weights):
        w = w.toarray() if sparse.issparse(w) else np.asarray(w)
        adjacency[first[k] : first[k + 1], first[k + 1] : first[k + 2]] = w
    return adjacency


def centrality_by_eigenvalues(adjacency):
    """The drop of the sum of squared Laplacian eigenvalues when a node goes."""

    def energy(matrix):
        return np.square(np.linalg.eigvalsh(np.diag(matrix.sum(axis=1)) - matrix)).sum()

    whole = energy(adjacency)
    nodes = range(len(adjacency))
    return np.array([whole - energy(np.delete(np.delete(adjacency, v, 0), v, 1)) for v in nodes])


def random_weights(seed, signed=True, density=0.6, layers=None):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 7, size=layers or rng.integers(2, 5))
    result = []
    for n_in, n_out in itertools.pairwise(sizes):
        w = rng.standard_normal((n_in, n_out)) * (rng.random((n_in, n_out)) < density)
        result.append(w if signed else np.abs(w))
    return result
