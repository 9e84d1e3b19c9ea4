from __future__ import annotations

import json
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import sparse

from espalier.errors import ConfigurationError, DataError
from espalier.topology import clusterability as module
from espalier.topology.clusterability import (
    Clusters,
    clusterability,
    kernel_weights,
    n_cut,
    shuffled_weights,
    spectral_clusters,
    unit_graph,
)

RELATED = Path(__file__).parents[1] / "goldens" / "related"
VALUES = json.loads((RELATED / "clusterability.json").read_text())
CASES = [case for case in VALUES if "k" in VALUES[case]]


def golden_arrays(prefix: str) -> dict[str, np.ndarray]:
    with np.load(RELATED / "clusterability.npz") as arrays:
        return {k.split("/")[1]: arrays[k] for k in arrays if k.startswith(f"{prefix}/")}


def golden_weights(case: str) -> list[np.ndarray]:
    arrays = golden_arrays(case)
    return [arrays[f"w{i}"] for i in range(sum(name.startswith("w") for name in arrays))]


@pytest.mark.parametrize(("case", "k"), list(product(CASES, [2, 3, 4, 12])))
def test_goldens(case: str, k: int) -> None:
    expected = VALUES[case]["k"][str(k)]
    graph = unit_graph(golden_weights(case))
    degree = np.asarray(graph.sum(axis=1)).ravel()
    assert graph.shape[0] == VALUES[case]["n_nodes"]
    assert np.count_nonzero(degree) == VALUES[case]["n_kept"]
    labels = np.full(graph.shape[0], -1)
    labels[degree > 0] = golden_arrays(case)[f"labels_k{k}"]
    stored = n_cut(graph, labels, "published")
    assert stored == pytest.approx(expected["ncut"], rel=1e-12)
    ratio = Clusters(stored, 0.0, labels, k, k).mean_in_out_ratio
    assert ratio == pytest.approx(expected["ave_in_out"], rel=1e-9)
    found = spectral_clusters(graph, k, convention="published")
    assert found.lower_bound == pytest.approx(expected["relaxed_lower_bound"], abs=1e-9)
    assert found.labels_used == expected["labels_used"]
    np.testing.assert_array_equal(found.labels < 0, degree == 0)
    # k-means stops at local optima: never a cut much worse, the same where k is small.
    assert found.n_cut <= expected["ncut"] * (1 + 1e-6 if k < 12 else 1.02)
    assert found.n_cut >= expected["ncut"] * (0.98 if k < 12 else 0.85)


@pytest.mark.parametrize(("case", "k"), list(product(CASES, [3, 12])))
def test_goldens_of_the_null(case: str, k: int) -> None:
    expected = VALUES[case]["k"][str(k)]
    z, p = module._against(expected["ncut"], np.array(expected["shuffled"]))
    assert z == pytest.approx(expected["z"], rel=1e-12)
    assert p == pytest.approx(expected["percentile"], rel=1e-12)
    if k == 3:
        found = clusterability(golden_weights(case), k, null="shuffle", samples=20)
        spread = np.std(expected["shuffled"])
        # Two samples of 20 from one distribution.
        assert found.shuffled.mean() == pytest.approx(expected["mean"], abs=1.2 * spread)
        assert 0.5 < found.shuffled.std() / spread < 2
        assert found.z == pytest.approx(
            (found.clusters.n_cut - found.shuffled.mean()) / found.shuffled.std()
        )


def test_golden_optimum_of_a_tiny_network() -> None:
    expected = VALUES["tiny_5_4_3_bruteforce_k2"]
    graph = unit_graph(golden_weights("tiny_5_4_3"))
    best = min(
        n_cut(graph, np.array([(code >> i) & 1 for i in range(12)])) for code in range(1, 2048)
    )
    assert best == pytest.approx(expected["optimum"], rel=1e-12)
    found = spectral_clusters(graph, 2)
    assert found.n_cut == pytest.approx(best, rel=1e-12)
    assert found.lower_bound == pytest.approx(expected["relaxed_lower_bound"])
    published = spectral_clusters(graph, 2, convention="published")
    assert published.n_cut == pytest.approx(expected["spectral"], rel=1e-12)


def test_golden_kernel_weights() -> None:
    arrays = golden_arrays("conv")
    kernel = arrays["T_hwio"].transpose(3, 2, 0, 1)
    norm = {"gamma": arrays["gamma"], "variance": arrays["var"]}
    for name, golden, options in (
        ("l1", "l1", {}),
        ("l2", "l2", {}),
        ("published-l1", "code_operator1", {}),
        ("published-l2", "code_spectral", {}),
        ("l1", "l1_bn", norm),
        ("published-l1", "code_operator1_bn", norm),
    ):
        np.testing.assert_allclose(kernel_weights(kernel, name, **options), arrays[golden])


def random_layers(seed: int, density: float) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, 7, size=4)
    return [rng.normal(size=pair) * (rng.random(pair) < density) for pair in pairwise(sizes)]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4))
def test_n_cut_by_hand_and_bound(seed: int, k: int) -> None:
    layers = random_layers(seed, 0.6)
    graph = unit_graph(layers)
    dense = graph.toarray()
    degree = dense.sum(axis=1)
    alive = np.flatnonzero(degree)
    assume(alive.size >= k)
    rng = np.random.default_rng(seed)
    labels = np.full(len(dense), -1)
    labels[alive] = rng.permutation(np.arange(alive.size) % k)
    expected = 0.0
    for cluster in range(k):
        inside = labels == cluster
        expected += dense[inside][:, ~inside].sum() / degree[inside].sum()
    assert n_cut(graph, labels) == pytest.approx(expected, abs=1e-12)
    scaled = dense[np.ix_(alive, alive)] / np.sqrt(np.outer(degree[alive], degree[alive]))
    laplacian = np.linalg.eigvalsh(np.eye(alive.size) - scaled)
    found = spectral_clusters(graph, k, restarts=5)
    bound = found.lower_bound
    assert bound == pytest.approx(laplacian[:k].sum(), abs=1e-10)
    assert n_cut(graph, labels) >= bound - 1e-10
    assert bound - 1e-10 <= found.n_cut
    assert found.n_cut <= k - 1 + 1e-10
    np.testing.assert_array_equal(found.labels, spectral_clusters(graph, k, restarts=5).labels)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_shuffles_keep_what_they_say(seed: int) -> None:
    layers = random_layers(seed, 0.5)
    rng = np.random.default_rng(seed)
    for null in ("shuffle", "shuffle-nonzero"):
        for before, after in zip(layers, shuffled_weights(layers, rng, null), strict=True):
            np.testing.assert_array_equal(np.sort(np.abs(before[before != 0])), np.sort(after.data))
            if null == "shuffle-nonzero":
                np.testing.assert_array_equal(after.toarray() != 0, before != 0)


def test_shuffling_moves_weights_everywhere() -> None:
    layer = np.array([[1.0, 2.0, 0.0], [0.0, 0.0, 0.0]])
    rng = np.random.default_rng(0)
    seen = sum(shuffled_weights([layer], rng, "shuffle")[0].toarray() for _ in range(3000))
    np.testing.assert_allclose(np.asarray(seen) / 3000, 0.5, atol=0.06)


def test_planted_clusters_are_found_and_significant() -> None:
    rng = np.random.default_rng(0)
    block = np.kron(np.eye(3), np.ones((5, 5)))
    layers = [block * rng.random((15, 15)) + 0.01 * rng.random((15, 15)) for _ in range(2)]
    found = clusterability(layers, 3, null="shuffle", samples=19)
    labels = found.clusters.labels.reshape(3, 3, 5)
    assert all(len(np.unique(labels[:, group])) == 1 for group in range(3))
    assert found.z < -5
    assert found.p == 1 / 20
    again = clusterability(layers, 3, null="shuffle", samples=19)
    np.testing.assert_array_equal(found.shuffled, again.shuffled)


def test_components_are_cut_for_nothing() -> None:
    graph = unit_graph([np.kron(np.eye(3), np.ones((2, 2)))])
    for k in (2, 3):
        found = spectral_clusters(graph, k)
        assert found.n_cut == 0
        assert found.lower_bound == pytest.approx(0, abs=1e-12)
        assert found.labels_used == k
    assert spectral_clusters(graph, 2).mean_in_out_ratio == float("inf")


def test_the_iteration_agrees_with_the_dense_decomposition(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    layers = [rng.random((30, 20)) * (rng.random((30, 20)) < 0.3), rng.random((20, 25))]
    # Twice the same network: eigenvalues come in pairs.
    twice = [sparse.csr_array(sparse.block_diag([layer, layer])) for layer in layers]
    graph = unit_graph(twice)
    dense = spectral_clusters(graph, 5).lower_bound
    monkeypatch.setattr(module, "DENSE_UNITS", 10)
    assert spectral_clusters(graph, 5).lower_bound == pytest.approx(dense, abs=1e-10)


def test_bad_input() -> None:
    layers = [np.ones((3, 2)), np.ones((2, 2))]
    graph = unit_graph(layers)
    with pytest.raises(ConfigurationError, match="must be 1 to 7"):
        spectral_clusters(graph, 8)
    with pytest.raises(ConfigurationError, match="at least 1"):
        spectral_clusters(graph, 2, restarts=0)
    with pytest.raises(ConfigurationError, match="at least 1"):
        clusterability(layers, 2, samples=0)
    with pytest.raises(ConfigurationError, match="null"):
        clusterability(layers, 2, null="shuffled")
    with pytest.raises(ConfigurationError, match="convention"):
        n_cut(graph, np.zeros(7), "reference")
    with pytest.raises(DataError, match="7 units"):
        n_cut(graph, np.zeros(6))
    with pytest.raises(DataError, match="no cluster"):
        n_cut(graph, np.full(7, -1))
    with pytest.raises(DataError, match="2 outputs, layer 1 3"):
        unit_graph([np.ones((3, 2)), np.ones((3, 2))])
    with pytest.raises(DataError, match="finite"):
        unit_graph([np.full((2, 2), np.nan)])
    with pytest.raises(DataError, match="symmetric"):
        spectral_clusters(np.triu(np.ones((3, 3))), 2)
    with pytest.raises(DataError, match="isolated"):
        n_cut(unit_graph([np.array([[1.0, 0.0]])]), np.array([0, 0, 1]))
    with pytest.raises(ConfigurationError, match="kernel norm"):
        kernel_weights(np.ones((1, 1, 1, 1)), "L1")
    with pytest.raises(ConfigurationError, match="both gamma and variance"):
        kernel_weights(np.ones((1, 1, 1, 1)), gamma=np.ones(1))
    with pytest.raises(DataError, match="four axes"):
        kernel_weights(np.ones((3, 3)))
