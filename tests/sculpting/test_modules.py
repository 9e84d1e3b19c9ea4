from __future__ import annotations

import itertools
import json
import math
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mask_strategies import mask_lists
from scipy.cluster.hierarchy import ClusterWarning, linkage
from scipy.spatial.distance import pdist, squareform
from sklearn.cluster import AgglomerativeClustering

from espalier.errors import ConfigurationError, DataError
from espalier.files import read_npz
from espalier.sculpting.modules import (
    cosine_distances,
    cut,
    detect_modules,
    live_units,
    merge_adjacent,
    partition_scores,
    reach_vectors,
    separate_test,
    single_test,
)

GOLDEN = Path(__file__).parents[1] / "goldens" / "sculpting" / "synthetic_modules.npz"
STORED = Path(__file__).parents[3] / "shared" / "goldens" / "neural_sculpting" / "stored"
THRESHOLDS = {"boolean": (0.2, 0.9), "digits": (0.3, 0.6)}


def split(flat, counts):
    return np.split(flat, np.cumsum(counts)[:-1])


def golden_masks(arrays):
    """The masks of each synthetic network."""
    bits, place, networks = np.unpackbits(arrays["masks"]).astype(bool), 0, []
    for sizes in split(arrays["sizes"].astype(int), arrays["layers"] + 1):
        masks = []
        for before, after in itertools.pairwise(sizes):
            masks.append(bits[place : place + before * after].reshape(after, before))
            place += before * after
        networks.append(masks)
    return networks


@pytest.fixture(scope="module")
def golden():
    arrays, _ = read_npz(GOLDEN)
    return arrays


@pytest.mark.parametrize("kind", sorted(THRESHOLDS))
def test_clusters_and_modules_of_the_synthetic_networks(golden, kind: str) -> None:
    found = [detect_modules(masks, *THRESHOLDS[kind]) for masks in golden_masks(golden)]
    alive = [len(units) for modules in found for units in modules.alive]
    assert alive == golden["alive"].tolist()
    valid = [m for m, stopped in zip(found, golden["stopped"], strict=True) if not stopped]
    for name in ("clusters", "modules"):
        labels = np.concatenate([part for m in valid for part in getattr(m, name)])
        assert np.array_equal(labels, golden[f"{kind}_{name}"])
    scores = np.concatenate([layer.scores for modules in valid for layer in modules.layers])
    assert np.array_equal(scores, golden["scores"])


def test_separability_of_the_synthetic_networks(golden) -> None:
    valid = [
        masks
        for masks, stopped in zip(golden_masks(golden), golden["stopped"], strict=True)
        if not stopped
    ]
    counts = golden["test_counts"].astype(int)
    every = list(zip(valid, split(golden["tests"], counts), strict=True))
    for masks, rows in every[::2]:
        vectors = reach_vectors(detect_modules(masks).masks)
        for layer, z_separate, z_single, separate, single in rows.tolist():
            reach = vectors[int(layer)]
            halves = cut(merges_of(reach), 2)
            first = separate_test(*reach[merges_of(reach)[0]])
            second = single_test(reach[halves == 0].any(axis=0), reach[halves == 1].any(axis=0))
            assert (first.z, first.positive) == (z_separate, bool(separate))
            assert (second.z, second.positive) == (z_single, bool(single))


@pytest.mark.skipif(not STORED.is_dir(), reason="the stored networks are not in ../shared")
def test_modules_of_the_stored_networks() -> None:
    files = sorted(STORED.glob("*.json"))
    assert files
    for path in files:
        expected = json.loads(path.read_text())
        arrays = np.load(path.with_suffix(".npz"))
        masks = [arrays[f"mask{k}"] for k in range(len(expected["alive_sizes"]) - 1)]
        found = detect_modules(masks)
        assert [len(units) for units in found.alive] == expected["alive_sizes"]
        assert [labels.tolist() for labels in found.clusters] == expected["layer_clusters"]
        assert [labels.tolist() for labels in found.modules] == expected["modules"]
        assert found.edges.tolist() == expected["module_edges"]
        assert found.num_modules == expected["n_modules"]


# -- a slow re-statement with scikit-learn ---------------------------------------------------------


def merges_of(reach):
    return linkage(cosine_distances(reach), "average")[:, :2].astype(np.int64)


def fitted(reach, count):
    with warnings.catch_warnings():
        # Some square matrices of reach look like distances to scipy.
        warnings.simplefilter("ignore", ClusterWarning)
        return AgglomerativeClustering(count, metric="cosine", linkage="average").fit_predict(reach)


def slow_score(distances, labels):
    """The score of a partition, from the matrix of shares between clusters."""
    total = distances.sum()
    shares = distances / total if total else distances
    member = (labels[:, None] == np.unique(labels)).astype(float)
    between = member.T @ shares @ member
    return round(float(np.trace(between) - (between.sum(axis=1) ** 2).sum()), 8)


def slow_clusters(reach, threshold):
    """The clusters of a layer, fitted again for each number of clusters."""
    units, window = reach.shape
    if units == 1:
        return np.zeros(1, int)
    distances = squareform(pdist(reach.astype(float), "cosine"))
    best, count = math.inf, 2
    for k in range(2, units):
        score = slow_score(distances, fitted(reach, k))
        if score <= best:
            best, count = score, k
    if not (count in (2, units - 1) or best > -threshold):
        return fitted(reach, count)

    def overlap(first, second):
        a, b, common = int(first.sum()), int(second.sum()), int((first & second).sum())
        chance = a * b / window**2
        deviation = math.sqrt(window * chance * (1 - chance))
        return common, max(a, b), window * chance, deviation if deviation else 1.0

    labels = fitted(reach, units - 1)
    pair = np.flatnonzero(labels == np.bincount(labels).argmax())
    common, larger, expected, deviation = overlap(*reach[pair])
    separate = common == 0 or (common < larger and common <= expected)
    z_separate = (expected - common) / deviation
    labels = fitted(reach, 2)
    common, larger, expected, deviation = overlap(
        reach[labels == 0].any(axis=0), reach[labels == 1].any(axis=0)
    )
    single = common >= larger or (common >= 1 and common >= expected)
    z_single = (common - expected) / deviation
    if separate and single:
        return fitted(reach, 1 if z_single >= z_separate else units)
    return fitted(reach, 1 if single else units if separate else count)


def slow_reach(masks):
    """For each layer but the last, which later units each unit reaches, by search."""
    vectors = []
    for layer in range(len(masks)):
        rows = []
        for unit in range(masks[layer].shape[1]):
            reached, row = {unit}, []
            for mask in masks[layer:]:
                reached = {j for j in range(len(mask)) if any(mask[j, i] for i in reached)}
                row += [j in reached for j in range(len(mask))]
            rows.append(row)
        vectors.append(np.array(rows, bool))
    return vectors


def slow_live(masks):
    """Drop useless units one by one until none is left."""
    sizes = [masks[0].shape[1], *(len(mask) for mask in masks)]
    alive = [set(range(size)) for size in sizes]
    changed = True
    while changed:
        changed = False
        for layer in range(len(masks)):
            for unit in sorted(alive[layer]):
                out = any(masks[layer][j, unit] for j in alive[layer + 1])
                fed = not layer or any(masks[layer - 1][unit, i] for i in alive[layer - 1])
                if not (out and fed):
                    alive[layer].discard(unit)
                    changed = True
    return [sorted(units) for units in alive]


def slow_modules(masks, clusters, threshold):
    """Merge clusters of adjacent layers with plain loops over units."""
    modules, known = [list(clusters[0])], int(clusters[0].max()) + 1
    for layer, mask in enumerate(masks):
        before, after = list(clusters[layer]), list(clusters[layer + 1])

        def count(i, j, mask=mask, before=before, after=after):
            return sum(
                bool(mask[b, a])
                for a in range(len(before))
                for b in range(len(after))
                if i in (before[a], None) and j in (after[b], None)
            )

        names = {}
        for j in after:
            if j in names:
                continue
            for i in set(before):
                edges, out, into = count(i, j), count(i, None), count(None, j)
                last = layer == len(masks) - 1
                if edges / max(into, 1) > threshold and (last or edges / out > threshold):
                    names[j] = modules[-1][before.index(i)]
            if j not in names:
                names[j], known = known, known + 1
        modules.append([names[j] for j in after])
    return modules


@settings(max_examples=60)
@given(mask_lists(), st.sampled_from([(0.2, 0.9), (0.3, 0.6), (0.0, 0.5), (1.0, 1.0)]))
def test_agrees_with_a_refit_for_each_number_of_clusters(masks, thresholds) -> None:
    found = detect_modules(masks, *thresholds)
    assert [units.tolist() for units in found.alive] == slow_live(masks)
    if not len(found.alive[0]):
        return
    living = [
        mask[np.ix_(after, before)]
        for mask, before, after in zip(masks, found.alive[:-1], found.alive[1:], strict=True)
    ]
    for reach, quick in zip(slow_reach(living), reach_vectors(living), strict=True):
        assert np.array_equal(reach, quick)
    clusters = [slow_clusters(reach, thresholds[0]) for reach in slow_reach(living)]
    clusters.append(np.arange(len(masks[-1])))
    for ours, theirs in zip(found.clusters, clusters, strict=True):
        assert ours.tolist() == theirs.tolist()
    expected = slow_modules(living, clusters, thresholds[1])
    assert [labels.tolist() for labels in found.modules] == expected


@settings(max_examples=25)
@given(st.integers(2, 25), st.integers(1, 60), st.integers(0, 10**6), st.sampled_from([0.1, 0.5]))
def test_distances_and_every_cut_have_the_bits_of_scipy_and_scikit_learn(
    units, window, seed, density
) -> None:
    reach = np.random.default_rng(seed).random((units, window)) < density
    reach[~reach.any(axis=1), 0] = True
    distances = pdist(reach.astype(float), "cosine")
    assert np.array_equal(cosine_distances(reach), distances)
    merges = merges_of(reach)
    for count in range(1, units + 1):
        assert np.array_equal(cut(merges, count), fitted(reach, count))
    scores = [slow_score(squareform(distances), cut(merges, k)) for k in range(2, units)]
    assert partition_scores(squareform(distances), merges) == pytest.approx(scores, abs=1.01e-8)


def test_a_layer_as_wide_as_the_digit_tasks_agrees_with_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    reach = generator.random((400, 120)) < 0.1
    reach[:, 0] |= ~reach.any(axis=1)
    assert np.array_equal(cosine_distances(reach), pdist(reach.astype(float), "cosine"))
    for count in (2, 17, 399):
        assert np.array_equal(cut(merges_of(reach), count), fitted(reach, count))


# -- rules, one by one ---------------------------------------------------------------------------


def block_masks(*blocks: int) -> np.ndarray:
    """One mask of dense square blocks on the diagonal."""
    mask = np.zeros((sum(blocks), sum(blocks)), bool)
    start = 0
    for size in blocks:
        mask[start : start + size, start : start + size] = True
        start += size
    return mask


def test_separate_blocks_are_separate_modules() -> None:
    found = detect_modules([block_masks(3, 4), block_masks(3, 4)])
    assert found.num_modules == 2
    halves = frozenset({frozenset({0, 1, 2}), frozenset({3, 4, 5, 6})})
    assert found.partition(0) == found.partition(1) == found.partition(2) == halves
    assert found.edges.shape == (0, 3)
    assert found.sizes == (7, 7, 7)
    assert repr(found) == "Modules(2 modules of 7-7-7 live units)"


def test_the_two_test_formulas() -> None:
    four, eight = np.arange(16) < 4, np.arange(16) < 8
    shifted = (np.arange(16) >= 2) & (np.arange(16) < 6)
    # Sizes 4 and 4 of 16: 1 expected, deviation sqrt(1 - 1/16).
    deviation = math.sqrt(1 - 1 / 16)
    assert separate_test(four, shifted).positive is False
    assert separate_test(four, shifted).z == pytest.approx((1 - 2) / deviation)
    assert single_test(four, shifted).positive is True
    assert single_test(four, shifted).z == pytest.approx((2 - 1) / deviation)
    # Apart: nothing in common.
    assert separate_test(four, ~eight).positive is True
    assert single_test(four, ~eight).positive is False
    # Everything in both: the deviation is 0 and z is the plain difference.
    everything = np.ones(5, bool)
    assert separate_test(everything, everything).z == 0
    assert single_test(everything, everything).positive is True


def test_an_equal_count_is_positive_in_both_tests() -> None:
    """2 in common where 2 are expected: not more than, and not less than, expected."""
    first, second = np.arange(8) < 4, np.arange(8) % 4 < 2
    assert separate_test(first, second).positive
    assert single_test(first, second).positive


def test_merging_is_strict_and_the_last_layer_asks_for_less() -> None:
    # Two units with the same targets are one cluster, which serves both outputs entirely.
    last = [np.ones((1, 2), bool), np.ones((2, 1), bool)]
    assert detect_modules(last).num_modules == 1
    # Each input feeds the middle output: a share of one half is not more than one half.
    shared = [np.array([[1, 0], [1, 1], [0, 1]], bool)]
    found = detect_modules(shared, merge_threshold=0.5)
    assert found.modules[1][0] == found.modules[0][0]
    assert found.modules[1][2] == found.modules[0][1]
    assert found.modules[1][1] not in found.modules[0]


def test_below_one_half_the_larger_share_wins_and_then_the_smaller_number() -> None:
    clusters = [np.array([0, 0, 1]), np.array([0, 1])]
    uneven = np.array([[1, 1, 1], [1, 0, 1]], bool)
    modules = merge_adjacent([uneven], clusters, 0.2)
    assert modules[1].tolist() == [0, 0]
    assert merge_adjacent([uneven[:, ::-1]], [clusters[0][::-1], clusters[1]], 0.2)[1][0] == 0
    assert merge_adjacent([uneven], [1 - clusters[0], clusters[1]], 0.2)[1].tolist() == [1, 0]


@pytest.mark.parametrize(
    ("masks", "alive"),
    [
        ([np.ones((3, 1)), np.ones((2, 3))], [1, 3, 2]),
        ([np.zeros((3, 4)), np.ones((2, 3))], [0, 0, 2]),
        ([np.ones((3, 4)), np.zeros((5, 3)), np.ones((2, 5))], [0, 0, 0, 2]),
        ([np.zeros((2, 3))], [0, 2]),
        ([np.ones((1, 1))], [1, 1]),
        ([np.array([[1, 0]]), np.array([[1], [0]])], [1, 1, 2]),
    ],
)
def test_networks_on_which_the_public_code_stops(masks, alive) -> None:
    found = detect_modules(masks)
    assert [len(units) for units in found.alive] == alive
    assert [len(labels) for labels in found.clusters] == alive
    assert found.clusters[-1].tolist() == list(range(alive[-1]))
    used = np.unique(np.concatenate(found.modules))
    assert used.tolist() == list(range(found.num_modules))
    if not alive[0]:
        assert found.modules[-1].tolist() == list(range(alive[-1]))
        assert not len(found.edges)


def test_an_output_without_edges_is_a_module_of_its_own() -> None:
    found = detect_modules([np.ones((2, 2)), np.array([[1, 1], [0, 0]])])
    assert found.modules[2][0] == found.modules[0][0]
    assert found.modules[2][1] not in np.concatenate(found.modules[:2])


@settings(max_examples=60)
@given(mask_lists())
def test_results_hang_together(masks) -> None:
    found = detect_modules(masks)
    used = np.unique(np.concatenate(found.modules))
    assert used.tolist() == list(range(found.num_modules))
    within = sum(
        int((mask & (after[:, None] == before[None])).sum())
        for mask, before, after in zip(
            found.masks, found.modules[:-1], found.modules[1:], strict=True
        )
    )
    assert within + found.edges[:, 2].sum() == sum(int(mask.sum()) for mask in found.masks)
    for layer, clusters in enumerate(found.clusters[:-1]):
        # A cluster is never divided between modules.
        for cluster in np.unique(clusters):
            assert len(np.unique(found.modules[layer][clusters == cluster])) == 1
        assert found.layers[layer].count == len(found.cluster_partition(layer))


@settings(max_examples=30)
@given(mask_lists(), st.integers(0, 10**6))
def test_dead_units_change_nothing(masks, seed) -> None:
    """A hidden unit that is fed but feeds nothing may be anywhere."""
    if len(masks) < 2:
        return
    place = int(np.random.default_rng(seed).integers(len(masks[0]) + 1))
    wider = [np.insert(masks[0], place, True, axis=0), np.insert(masks[1], place, False, axis=1)]
    one, other = detect_modules(masks), detect_modules([*wider, *masks[2:]])
    assert all(map(np.array_equal, one.modules, other.modules))
    assert np.array_equal(one.edges, other.edges)


# -- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ([], "there is no mask"),
        ([np.ones((3, 4)), np.ones((2, 5))], r"mask 1 has shape \(2, 5\) and mask 0 \(3, 4\)"),
        ([np.ones(3)], r"mask 0 has shape \(3,\)"),
        ([np.ones((3, 0))], r"mask 0 has shape \(3, 0\)"),
        ([np.ones((2, 2)), np.full((2, 2), 0.5)], r"mask 1, of shape \(2, 2\), is not Boolean"),
        ([np.full((2, 2), np.nan)], "is not Boolean"),
        ([np.full((2, 2), "yes")], "is not Boolean"),
        ([[[1, 0], [1]]], "mask 0 cannot be read as an array"),
    ],
)
def test_unusable_masks_are_refused(masks, message: str) -> None:
    with pytest.raises(DataError, match=message):
        detect_modules(masks)


@pytest.mark.parametrize("name", ["modularity_threshold", "merge_threshold"])
@pytest.mark.parametrize("value", [-0.1, 1.5, math.nan])
def test_thresholds_outside_their_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigurationError, match=name):
        detect_modules([np.ones((2, 2), bool)], **{name: value})


def test_lists_numbers_and_booleans_are_the_same_masks() -> None:
    masks = [block_masks(2, 3)]
    expected = detect_modules(masks).modules
    for kind in (np.uint8, np.float32):
        assert all(map(np.array_equal, detect_modules([masks[0].astype(kind)]).modules, expected))
    assert all(map(np.array_equal, detect_modules([masks[0].tolist()]).modules, expected))


def test_live_units_of_a_broken_path() -> None:
    masks = [np.array([[1, 0, 0], [0, 1, 0]], bool), np.array([[1, 0]], bool)]
    assert [units.tolist() for units in live_units(masks)] == [[0], [0], [0]]


def test_detection_loads_neither_torch_nor_scikit_learn() -> None:
    code = "import sys, espalier.sculpting.modules; print({'torch', 'sklearn'} & set(sys.modules))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert printed.stdout.strip() == "set()", printed.stderr
