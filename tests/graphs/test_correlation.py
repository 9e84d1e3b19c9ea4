from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from espalier.errors import ConfigurationError, DataError, EspalierError
from espalier.graphs.correlation import (
    correlated_pairs,
    doubled_ranks,
    pearson,
    rank_gram,
    spearman,
)

GOLDENS = Path(__file__).parents[1] / "goldens" / "class_hierarchies"


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDENS / "spearman.npz") as archive:
        return dict(archive)


def relu_like(samples: int, units: int, seed: int = 0) -> np.ndarray:
    """Correlated post-ReLU activations with many zeros, a constant and a duplicate unit."""
    rng = np.random.default_rng(seed)
    mixed = rng.standard_normal((samples, 3)) @ rng.standard_normal((3, units))
    values = np.maximum(mixed + rng.standard_normal((samples, units)) - 0.3, 0).astype(np.float32)
    values[:, units // 2] = 0
    values[:, -1] = values[:, 0]
    return values


class TestGolden:
    def test_rho(self, golden):
        rho = spearman(golden["activations"])
        expected = golden["rho_scipy"].copy()
        assert np.array_equal(np.isnan(rho), np.isnan(expected))
        np.testing.assert_allclose(rho, expected, rtol=0, atol=1e-12)

    def test_constant_units(self, golden):
        dead = json.loads((GOLDENS / "spearman.json").read_text())["dead_columns"]
        rho = spearman(golden["activations"])
        assert np.flatnonzero(np.isnan(np.diag(rho))).tolist() == dead
        assert np.isnan(rho[dead]).all()
        assert (np.delete(np.diag(rho), dead) == 1).all()

    def test_average_ranks(self, golden):
        samples = len(golden["activations"])
        ranks = (doubled_ranks(golden["activations"]) + samples + 1) / 2
        assert np.array_equal(ranks, golden["average_ranks"])

    def test_doubled_centred_ranks(self, golden):
        ranks = doubled_ranks(golden["activations"])
        assert ranks.dtype == np.int64
        assert np.array_equal(ranks, golden["doubled_centred_ranks"])

    def test_integer_gram(self, golden):
        gram = rank_gram(golden["activations"])
        assert gram.dtype == np.int64
        assert np.array_equal(gram, golden["integer_gram"])

    @pytest.mark.parametrize("tile", [None, 1, 7, 40])
    def test_edges(self, golden, tile, tmp_path):
        pairs = correlated_pairs(golden["activations"], tile=tile, scratch=tmp_path)
        found = np.stack([pairs.rows, pairs.columns], axis=1)
        assert np.array_equal(found, golden["edges_ge_0p5"])
        np.testing.assert_allclose(pairs.correlation, golden["weight"], rtol=0, atol=1e-12)


class TestSameBits:
    @pytest.mark.parametrize("sample_block", [1, 33, 499, 500, 4096])
    @pytest.mark.parametrize("threads", [1, 2])
    def test_block_size_and_threads(self, golden, sample_block, threads):
        expected = spearman(golden["activations"])
        found = spearman(golden["activations"], sample_block=sample_block, threads=threads)
        assert found.tobytes() == expected.tobytes()

    @pytest.mark.parametrize("order", ["C", "F"])
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_layout_and_type(self, golden, order, dtype):
        values = np.asarray(golden["activations"], dtype, order=order)
        assert spearman(values).tobytes() == spearman(golden["activations"]).tobytes()

    def test_sample_permutation(self, golden):
        values = golden["activations"]
        order = np.random.default_rng(1).permutation(len(values))
        assert spearman(values[order]).tobytes() == spearman(values).tobytes()

    def test_unit_permutation(self, golden):
        values = golden["activations"]
        order = np.random.default_rng(2).permutation(values.shape[1])
        permuted = spearman(values)[np.ix_(order, order)]
        assert np.array_equal(spearman(values[:, order]), permuted, equal_nan=True)

    @pytest.mark.parametrize("tile", [1, 5, 13, 64])
    @pytest.mark.parametrize("sample_block", [50, 777])
    def test_tiles_equal_dense(self, tile, sample_block, tmp_path):
        values = relu_like(777, 64)
        dense = correlated_pairs(values, threshold=0.3)
        tiled = correlated_pairs(
            values, threshold=0.3, tile=tile, sample_block=sample_block, scratch=tmp_path
        )
        assert len(dense.rows) > 100
        for name in ("rows", "columns", "correlation", "constant"):
            assert getattr(tiled, name).tobytes() == getattr(dense, name).tobytes()
        assert list(tmp_path.iterdir()) == []

    def test_pairs_equal_matrix(self):
        values = relu_like(400, 50)
        rho = spearman(values)
        pairs = correlated_pairs(values, threshold=0.25)
        rows, columns = np.nonzero(np.triu(rho >= 0.25, 1))
        assert np.array_equal(pairs.rows, rows)
        assert np.array_equal(pairs.columns, columns)
        assert np.array_equal(pairs.correlation, rho[rows, columns])
        assert np.flatnonzero(pairs.constant).tolist() == [25]


tied_matrices = st.tuples(st.integers(2, 40), st.integers(1, 6)).flatmap(
    lambda shape: hnp.arrays(
        np.float32, shape, elements=st.sampled_from([0.0, -0.0, 0.5, 1.0, -1.0, 3e-45, 1e30, -7.25])
    )
)


class TestProperties:
    @settings(deadline=None, max_examples=80)
    @given(tied_matrices)
    def test_ranks_equal_scipy(self, values):
        expected = 2 * scipy.stats.rankdata(values, axis=0) - (len(values) + 1)
        assert np.array_equal(doubled_ranks(values), expected)
        assert np.array_equal(doubled_ranks(values.astype(np.float64)), expected)

    @settings(deadline=None, max_examples=60)
    @given(
        hnp.arrays(
            np.float32,
            st.tuples(st.integers(2, 30), st.integers(1, 4)),
            elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
        )
    )
    def test_any_finite_float(self, values):
        expected = 2 * scipy.stats.rankdata(values, axis=0) - (len(values) + 1)
        assert np.array_equal(doubled_ranks(values), expected)

    @settings(deadline=None, max_examples=50)
    @given(tied_matrices, st.integers(1, 41))
    def test_gram_is_the_integer_sum(self, values, sample_block):
        ranks = doubled_ranks(values)
        assert (ranks.sum(axis=0) == 0).all()
        gram = rank_gram(values, sample_block=sample_block)
        assert np.array_equal(gram, ranks.T @ ranks)
        samples = len(values)
        assert (np.diag(gram) <= (samples**3 - samples) // 3).all()

    @settings(deadline=None, max_examples=50)
    @given(tied_matrices)
    def test_symmetric_bounded_and_monotone(self, values):
        rho = spearman(values)
        assert np.array_equal(rho, rho.T, equal_nan=True)
        finite = rho[~np.isnan(rho)]
        assert (np.abs(finite) <= 1).all()
        _, position = np.unique(values, return_inverse=True)
        increasing = (position.reshape(values.shape) + 1) ** 3
        assert spearman(increasing).tobytes() == rho.tobytes()
        assert np.array_equal(spearman(-values), rho, equal_nan=True)

    @pytest.mark.parametrize("zeros", [0, 5, 100, 700, 999])
    def test_block_of_ties_at_the_minimum(self, zeros):
        rng = np.random.default_rng(zeros)
        values = rng.integers(1, 400, size=(1000, 3)).astype(np.float32)
        for column in values.T:
            column[rng.permutation(1000)[:zeros]] = 0
        expected = 2 * scipy.stats.rankdata(values, axis=0) - 1001
        assert np.array_equal(doubled_ranks(values), expected)

    def test_matches_scipy_whole_matrix(self):
        values = np.delete(relu_like(300, 30), 15, axis=1)
        expected = scipy.stats.spearmanr(values).statistic
        np.testing.assert_allclose(spearman(values), expected, rtol=0, atol=1e-12)

    def test_duplicate_and_negated_units(self):
        column = np.random.default_rng(3).standard_normal(101)
        rho = spearman(np.stack([column, column, -column], axis=1))
        assert rho.tolist() == [[1, 1, -1], [1, 1, -1], [-1, -1, 1]]

    @pytest.mark.parametrize("dtype", [bool, np.int8, np.uint16, np.int64, np.float16])
    def test_other_types(self, dtype):
        values = np.random.default_rng(4).integers(0, 2, (60, 5)).astype(dtype)
        expected = scipy.stats.spearmanr(values.astype(float)).statistic
        np.testing.assert_allclose(spearman(values), expected, rtol=0, atol=1e-12)

    def test_integers_beyond_float64_are_not_tied(self):
        column = np.array([0, 2**53, 2**53 + 1, 2**53 + 2])
        assert doubled_ranks(column[:, None])[:, 0].tolist() == [-3, -1, 1, 3]


class TestManySamples:
    def test_gram_beyond_float64_is_exact(self):
        samples = 330_001
        rng = np.random.default_rng(5)
        values = rng.standard_normal((samples, 3)).astype(np.float32)
        values[:, 1] += values[:, 0]
        ranks = doubled_ranks(values)
        assert samples**3 // 3 > 2**53
        exact = ranks.T @ ranks
        for sample_block in (4096, samples):
            assert np.array_equal(rank_gram(values, sample_block=sample_block), exact)
        np.testing.assert_allclose(
            spearman(values), np.corrcoef(ranks.T.astype(float)), rtol=0, atol=1e-12
        )

    def test_too_many(self):
        values = np.broadcast_to(np.zeros((1, 1), np.float32), (3_100_000, 1))
        with pytest.raises(DataError, match=r"3100000 samples are too many.*3\.0 million"):
            spearman(values)


class TestPearson:
    def test_matches_numpy(self):
        values = np.delete(relu_like(500, 30), 15, axis=1)
        expected = np.corrcoef(values.astype(float), rowvar=False)
        np.testing.assert_allclose(pearson(values), expected, rtol=0, atol=1e-12)

    def test_constant_unit_is_nan(self):
        rho = pearson(relu_like(100, 10))
        assert np.flatnonzero(np.isnan(np.diag(rho))).tolist() == [5]

    def test_large_values_do_not_overflow(self):
        values = np.random.default_rng(6).standard_normal((50, 4))
        np.testing.assert_allclose(pearson(values * 1e300), pearson(values), atol=1e-12)

    def test_tiles_agree(self, tmp_path):
        values = relu_like(300, 40)
        dense = correlated_pairs(values, method="pearson", threshold=0.4)
        tiled = correlated_pairs(
            values, method="pearson", threshold=0.4, tile=9, scratch=tmp_path, sample_block=64
        )
        assert np.array_equal(dense.rows, tiled.rows)
        assert np.array_equal(dense.columns, tiled.columns)
        np.testing.assert_allclose(dense.correlation, tiled.correlation, rtol=0, atol=1e-12)


class TestPairs:
    def test_strict_drops_the_threshold_itself(self):
        rng = np.random.default_rng(7)
        values = np.stack([rng.permutation(5) for _ in range(30)], axis=1).astype(float)
        rho = spearman(values)
        assert (rho[np.triu_indices(30, 1)] == 0.5).any()
        loose = correlated_pairs(values, threshold=0.5)
        tight = correlated_pairs(values, threshold=0.5, strict=True)
        assert loose.correlation.min() == 0.5
        assert tight.correlation.min() > 0.5
        assert len(loose.rows) == (np.triu(rho, 1) >= 0.5).sum()

    @pytest.mark.parametrize("tile", [None, 1, 4, 11])
    @pytest.mark.parametrize("n_pairs", [0, 1, 17, 100, 434, 435])
    def test_strongest_pairs_by_brute_force(self, n_pairs, tile, tmp_path):
        rng = np.random.default_rng(8)
        # Permutations of 4 give few distinct correlations, so ties straddle the cut.
        values = np.stack([rng.permutation(4) for _ in range(30)], axis=1).astype(float)
        rho = spearman(values)
        ordered = sorted((-rho[i, j], i, j) for i in range(30) for j in range(i + 1, 30))
        expected = sorted((i, j) for _, i, j in ordered[:n_pairs])
        pairs = correlated_pairs(values, n_pairs=n_pairs, tile=tile, scratch=tmp_path)
        found = list(zip(pairs.rows.tolist(), pairs.columns.tolist(), strict=True))
        assert found == expected
        assert np.array_equal(pairs.correlation, rho[pairs.rows, pairs.columns])

    def test_more_pairs_than_there_are(self):
        with pytest.raises(DataError, match=r"37 pairs.*9 units.*only 36 pairs"):
            correlated_pairs(relu_like(50, 10), n_pairs=37)

    def test_no_units(self):
        pairs = correlated_pairs(np.empty((5, 0)))
        assert len(pairs.rows) == len(pairs.constant) == 0
        assert spearman(np.empty((5, 0))).shape == (0, 0)

    def test_memory_of_tiles_does_not_grow_with_the_matrix(self, tmp_path):
        samples, units = 12_000, 900
        path = tmp_path / "values.npy"
        stored = np.lib.format.open_memmap(path, "w+", np.float32, (units, samples))
        stored[:] = relu_like(samples, units).T
        stored.flush()
        values = np.load(path, mmap_mode="r").T
        matrix_bytes = values.nbytes
        tracemalloc.start()
        try:
            tiled = correlated_pairs(values, tile=100, sample_block=1000, threads=1)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < matrix_bytes / 2
        dense = correlated_pairs(values)
        assert tiled.correlation.tobytes() == dense.correlation.tobytes()


class TestBadInput:
    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("function", [spearman, pearson, doubled_ranks])
    def test_not_finite(self, bad, function):
        values = relu_like(200, 8)
        values[17, 3] = bad
        with pytest.raises(DataError, match=r"unit 3 has the activation .*(nan|inf) at sample 17"):
            function(values)

    def test_first_bad_unit_is_named(self):
        values = relu_like(64, 300)
        values[:, [290, 70, 120]] = np.nan
        with pytest.raises(DataError, match="unit 70 "):
            spearman(values, threads=2)

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            (np.zeros(5), r"shape \(5,\); expected 2 axes"),
            (np.zeros((1, 5)), "1 samples and 5 units"),
            (np.zeros((5, 2), complex), "complex128"),
            (np.array([["a"], ["b"]]), "expected real numbers"),
        ],
    )
    def test_not_a_matrix(self, values, message):
        with pytest.raises(DataError, match=message):
            spearman(values)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"method": "spearmann"}, "Did you mean 'spearman'"),
            ({"threshold": 1.5}, r"threshold is 1\.5"),
            ({"tile": 0}, "tile is 0"),
            ({"n_pairs": -1}, "n_pairs is -1"),
            ({"sample_block": 0}, "sample_block is 0"),
            ({"threads": 0}, "threads is 0"),
        ],
    )
    def test_bad_option(self, options, message):
        with pytest.raises(ConfigurationError, match=message):
            correlated_pairs(relu_like(20, 4), **options)

    def test_full_disk(self, monkeypatch, tmp_path):
        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("espalier.graphs.correlation.os.pwrite", full)
        with pytest.raises(EspalierError, match=r"no space left in .*4 units x 20 samples"):
            correlated_pairs(relu_like(20, 4), tile=2, scratch=tmp_path)
