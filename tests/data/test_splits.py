from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from espalier.data import PreparedDataset, split_dataset, split_indices
from espalier.errors import ConfigurationError, DataError


@pytest.mark.parametrize(
    ("train", "test", "held_out"),
    [(60000, 10000, 10000), (10000, 2000, 2000), (50000, 10000, 10000), (1438, 359, 287)],
)
def test_text_split_sizes(train: int, test: int, held_out: int) -> None:
    split = split_indices(train, test)
    assert (len(split.train), len(split.validation), len(split.test)) == (
        train - held_out, held_out, test,
    )  # fmt: skip
    assert split.validation_from == "train"


@given(st.integers(5, 500), st.integers(1, 100), st.integers(0, 5))
def test_text_split_is_a_partition(train: int, test: int, seed: int) -> None:
    split = split_indices(train, test, seed=seed)
    both = np.concatenate([split.train, split.validation])
    assert np.array_equal(np.sort(both), np.arange(train))
    assert np.array_equal(split.test, np.arange(test))
    assert 1 <= len(split.validation) <= train // 5


def test_published_split_is_that_of_random_split() -> None:
    import torch

    halves = torch.utils.data.random_split(
        range(10000), [5000, 5000], generator=torch.Generator().manual_seed(27)
    )
    split = split_indices(60000, 10000, "published", seed=3)
    assert np.array_equal(split.train, np.arange(60000))
    assert split.validation.tolist() == list(halves[0].indices)
    assert split.test.tolist() == list(halves[1].indices)
    assert split.validation_from == "test"


def test_seed_chooses_the_validation_images() -> None:
    first, second = split_indices(100, 20, seed=0), split_indices(100, 20, seed=1)
    assert not np.array_equal(first.validation, second.validation)
    assert np.array_equal(first.validation, split_indices(100, 20, seed=0).validation)


@pytest.mark.parametrize("scheme", ["text", "published"])
def test_split_dataset_takes_the_images(scheme: str) -> None:
    images = np.arange(40, dtype=np.uint8).reshape(40, 1, 1, 1)
    labels = np.arange(40) % 2
    dataset = PreparedDataset(images[:30], labels[:30], images[30:], labels[30:], ("a", "b"))
    parts = split_dataset(dataset, scheme)
    seen = np.concatenate([part[0].ravel() for part in parts])
    assert sorted(seen.tolist()) == list(range(40))
    for pixels, targets in parts:
        assert np.array_equal(pixels.ravel() % 2, targets)


def test_bad_input() -> None:
    with pytest.raises(ConfigurationError, match="'text', 'full' or 'published'"):
        split_indices(10, 10, "thesis")
    with pytest.raises(DataError, match="4 training and 10 test images are too few"):
        split_indices(4, 10)
    with pytest.raises(DataError, match="too few"):
        split_indices(10, 1, "published")


def test_the_full_scheme_holds_nothing_out() -> None:
    split = split_indices(6, 4, "full")
    assert split.train.tolist() == list(range(6)) and split.test.tolist() == list(range(4))
    assert len(split.validation) == 0
