from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from espalier.errors import ConfigurationError, DataError
from espalier.sculpting.structure import path_products, separability_tests, units_covering
from espalier.seeds import numpy_generator

GROUPS = (((0, 1), (0, 1)), ((2, 3), (2, 3)))


def network(seed, sizes, density=1.0):
    generator = numpy_generator(seed, "structure")
    return [
        generator.normal(size=(n_out, n_in)) * (generator.random((n_out, n_in)) < density)
        for n_in, n_out in itertools.pairwise(sizes)
    ]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.lists(st.integers(1, 4), min_size=2, max_size=4))
def test_path_products_sum_over_all_paths(seed, sizes):
    weights = network(seed, sizes, 0.7)
    products = path_products(weights)
    for i, j in itertools.product(range(sizes[0]), range(sizes[-1])):
        total = 0.0
        for inner in itertools.product(*(range(size) for size in sizes[1:-1])):
            path = (i, *inner, j)
            total += np.prod([abs(w[b, a]) for w, a, b in zip(weights, path, path[1:])])  # noqa: B905
        assert products[i, j] == pytest.approx(total)


def test_welch_by_its_formula():
    products = np.random.default_rng(0).random((4, 4))
    tests = separability_tests(products, GROUPS)
    samples = (
        (products[:2, 2:].ravel(), products[:2, :2].ravel()),
        (products[2:, :2].ravel(), products[2:, 2:].ravel()),
    )
    for test, (others, own) in zip(tests, samples, strict=True):
        variances = [sample.var(ddof=1) / 4 for sample in (others, own)]
        t = (others.mean() - own.mean()) / np.sqrt(sum(variances))
        freedom = sum(variances) ** 2 / sum(v**2 / 3 for v in variances)
        assert test.statistic == pytest.approx(t)
        assert test.p_value == pytest.approx(stats.t.cdf(t, freedom))


def test_separable_and_mixed_networks_are_told_apart():
    def p_values(weights):
        return [test.p_value for test in separability_tests(path_products(weights), GROUPS)]

    generator = numpy_generator(1, "blocks")
    blocks = np.kron(np.eye(2), np.ones((3, 2)))
    separable = [
        blocks * generator.uniform(0.5, 2, (6, 4)),
        blocks.T * generator.uniform(0.5, 2, (4, 6)),
    ]
    assert max(p_values(separable)) < 0.05
    mixed = [np.ones((6, 4)) + 0.1 * w for w in network(2, (4, 6))]
    mixed.append(np.ones((4, 6)) + 0.1 * network(3, (6, 4))[0])
    assert max(p_values(mixed)) > 0.05


def test_products_without_spread_are_decided_by_their_means():
    separate = np.kron(np.eye(2), np.ones((2, 2)))
    assert [t.p_value for t in separability_tests(separate, GROUPS)] == [0.0, 0.0]
    assert [t.p_value for t in separability_tests(1 - separate, GROUPS)] == [1.0, 1.0]
    assert [t.p_value for t in separability_tests(np.ones((4, 4)), GROUPS)] == [0.5, 0.5]
    own_varies = separate * np.arange(1.0, 17).reshape(4, 4)
    assert max(t.p_value for t in separability_tests(own_varies, GROUPS)) < 0.05


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.5, 0.9, 1.0]))
def test_covering_units_are_the_fewest(seed, share):
    weights = network(seed, (3, 5, 4, 2), 0.6)
    for layer in (1, 2):
        through = np.abs(weights[2]) if layer == 2 else np.abs(weights[2]) @ np.abs(weights[1])
        carried = through.sum(axis=0)
        count = units_covering(weights, layer, share)
        if carried.sum() == 0:
            assert count == 0
            continue
        sums = {
            n: max(sum(part) for part in itertools.combinations(carried, n))
            for n in range(len(carried) + 1)
        }
        enough = [n for n, total in sums.items() if total >= share * carried.sum() * (1 - 1e-12)]
        # All of the weight may need one more unit, by the rounding of the sums.
        assert enough[0] <= count <= enough[0] + (share == 1.0)


def test_the_conventions_differ_only_where_the_share_is_met_exactly():
    equal = [np.ones((4, 3)), np.ones((2, 4))]
    assert units_covering(equal, 1, 0.5) == 2
    assert units_covering(equal, 1, 0.5, convention="published") == 3
    assert units_covering(equal, 1, 1.0, convention="published") == 4
    assert units_covering(equal, 1, 0.6) == units_covering(equal, 1, 0.6, convention="published")
    reused = [np.ones((4, 3)), np.array([[5.0, 4.9, 0.1, 0.1]] * 2)]
    assert units_covering(reused, 1) == 2
    assert units_covering([np.ones((2, 1)), np.zeros((1, 2))], 1) == 0


def test_bad_input_is_named():
    with pytest.raises(DataError, match="layer 1 takes 3 units, but layer 0 gives 2"):
        path_products([np.ones((2, 4)), np.ones((4, 3))])
    with pytest.raises(DataError, match="at least one layer"):
        path_products([])
    with pytest.raises(DataError, match=r"expected \(n_out, n_in\)"):
        path_products([np.ones(3)])
    with pytest.raises(DataError, match="layer 2 is not hidden"):
        units_covering([np.ones((2, 4)), np.ones((4, 2))], 2)
    with pytest.raises(ConfigurationError, match="share is 90"):
        units_covering([np.ones((2, 4)), np.ones((4, 2))], 1, 90)
    with pytest.raises(ConfigurationError, match="unknown convention"):
        units_covering([np.ones((2, 4)), np.ones((4, 2))], 1, convention="publish")
    with pytest.raises(DataError, match="two groups or more"):
        separability_tests(np.ones((4, 4)), GROUPS[:1])
    with pytest.raises(DataError, match="needs two in each"):
        separability_tests(np.ones((2, 2)), (((0,), (0,)), ((1,), (1,))))
