from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prediction_pools import synthetic_pool

from espalier.errors import ConfigurationError, DataError
from espalier.prediction.features import CONFIGURATION, group_codes
from espalier.prediction.splits import (
    LEAKING,
    PROTOCOLS,
    grouped_splits,
    protocol_splits,
    quantile_strata,
    row_splits,
    stratified_splits,
)

KEPT_APART = {
    "grouped": list(CONFIGURATION),
    "leave-architecture-out": ["model"],
    "leave-dataset-out": ["dataset"],
    "leave-pruner-out": ["pruning"],
    "leave-sparsity-out": ["sparsity"],
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_test_rows_partition_the_table_and_depend_on_the_seed_alone(protocol: str) -> None:
    table = synthetic_pool()
    splits = protocol_splits(table, protocol, seed=3)
    tested = np.concatenate([test for _, test in splits])
    assert np.array_equal(np.sort(tested), np.arange(len(table)))
    for train, test in splits:
        assert np.array_equal(np.sort(np.concatenate([train, test])), np.arange(len(table)))
    again = protocol_splits(table, protocol, seed=3)
    assert all(np.array_equal(a[1], b[1]) for a, b in zip(splits, again, strict=True))
    other = protocol_splits(table, protocol, seed=4)
    same = all(np.array_equal(a[1], b[1]) for a, b in zip(splits, other, strict=True))
    assert same == protocol.startswith("leave-")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_only_the_published_protocols_leak_seeds(protocol: str) -> None:
    table = synthetic_pool()
    by = KEPT_APART.get(protocol, list(CONFIGURATION))
    codes = group_codes(table, by)
    leaks = any(
        np.isin(codes[test], codes[train]).any() for train, test in protocol_splits(table, protocol)
    )
    assert leaks == (protocol in LEAKING)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=5, max_size=60), st.integers(0, 99))
def test_grouped_folds_hold_whole_groups(groups: list[int], seed: int) -> None:
    codes = np.array(groups)
    if len(set(groups)) < 3:
        with pytest.raises(DataError, match="groups cannot be cut"):
            grouped_splits(codes, 3, seed)
        return
    sizes = []
    for train, test in grouped_splits(codes, 3, seed):
        assert not set(codes[train]) & set(codes[test])
        sizes.append(len(set(codes[test])))
    assert max(sizes) - min(sizes) <= 1


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=20, max_size=60), st.integers(0, 99))
def test_stratified_folds_share_out_every_stratum(strata: list[int], seed: int) -> None:
    labels = np.array(strata)
    splits = stratified_splits(labels, 5, seed)
    assert np.array_equal(np.sort(np.concatenate([t for _, t in splits])), np.arange(len(labels)))
    for label in set(strata):
        counts = [int((labels[test] == label).sum()) for _, test in splits]
        assert max(counts) - min(counts) <= 1


def test_quantile_strata_are_even_and_keep_ties_together() -> None:
    values = np.arange(50.0)
    assert np.array_equal(np.bincount(quantile_strata(values)), [10] * 5)
    assert len(set(quantile_strata(np.zeros(10)))) == 1


def test_impossible_splits_are_refused() -> None:
    table = synthetic_pool(models=("a",))
    with pytest.raises(ConfigurationError, match="Did you mean 'grouped'"):
        protocol_splits(table, "group")
    with pytest.raises(DataError, match="only a is there"):
        protocol_splits(table, "leave-architecture-out")
    with pytest.raises(DataError, match="2 rows cannot be cut into 5 folds"):
        protocol_splits(table.iloc[:2], "published")
    with pytest.raises(DataError, match="at least 2"):
        row_splits(10, 1)
    with pytest.raises(DataError, match="largest of 3 strata has 2 rows"):
        stratified_splits(np.array([0, 0, 1, 1, 2, 2]), 5)
    with pytest.raises(DataError, match="lacks the column 'drop'"):
        protocol_splits(table.drop(columns="drop"), "stratified")
    with pytest.raises(DataError, match="lacks the column 'dataset'"):
        protocol_splits(pd.DataFrame(table.drop(columns="dataset")), "leave-dataset-out")
