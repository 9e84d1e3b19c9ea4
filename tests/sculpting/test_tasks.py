from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from espalier.errors import ConfigurationError, DataError
from espalier.sculpting.function_families import published_function
from espalier.sculpting.tasks import (
    Task,
    available_digits,
    boolean_task,
    build_task,
    digit_of_input,
    digit_pool,
    digit_xor,
    two_digits,
)


def pool(side=4, copies=6):
    """Digits whose pixels say which digit and which row they are: 25 x digit + row."""
    labels = np.tile(np.arange(10), copies)
    rows = np.arange(side, dtype=np.uint8)[:, None] + np.zeros((side, side), dtype=np.uint8)
    images = (25 * labels[:, None, None] + rows).astype(np.uint8)
    return images, labels


def test_a_truth_table_is_its_own_data_set():
    task = boolean_task(published_function("6-3-3-3"))
    inputs, targets = published_function("6-3-3-3").truth_table
    assert np.array_equal(task.x_train, inputs)
    assert np.array_equal(task.y_validation, targets)
    assert (task.n_inputs, task.n_outputs, len(task.x_train)) == (6, 3, 64)
    assert (task.accuracy_threshold, task.input_noise) == (1.0, 0.1)
    assert (task.modularity_threshold, task.merge_threshold) == (0.2, 0.9)


def test_two_digits_lie_side_by_side():
    task = two_digits(*pool(), per_pair=10)
    assert task.x_train.shape == (800, 32)
    assert task.x_validation.shape == (200, 32)
    assert (task.accuracy_threshold, task.input_noise) == (0.99, 0.0)
    assert (task.modularity_threshold, task.merge_threshold) == (0.3, 0.6)
    for x, y in ((task.x_train, task.y_train), (task.x_validation, task.y_validation)):
        images = np.rint(x * 255).astype(int).reshape(-1, 4, 8)
        left, right = y[:, :10].argmax(axis=1), y[:, 10:].argmax(axis=1)
        assert (y.sum(axis=1) == 2).all()
        rows = np.arange(4)[None, :, None]
        assert (images[:, :, :4] == 25 * left[:, None, None] + rows).all()
        assert (images[:, :, 4:] == 25 * right[:, None, None] + rows).all()
        counts = np.bincount(10 * left + right, minlength=100)
        assert (counts == len(x) // 100).all()


def test_exclusive_or_of_digits():
    task = digit_xor(*pool(), per_pair=5)
    assert task.x_train.shape == (64 * 4, 32)
    assert task.accuracy_threshold == 0.98
    images = np.rint(task.x_train * 255).astype(int).reshape(-1, 4, 8)
    a, b = images[:, 0, 0] // 25, images[:, 0, 4] // 25
    assert a.max() == b.max() == 7
    expected = [[int(bit) for bit in f"{x ^ y:03b}"] for x, y in zip(a, b, strict=True)]
    assert task.y_train.tolist() == expected


def test_draws_repeat_by_seed_and_are_with_replacement():
    images, labels = digit_pool("digits")
    first, again = (digit_xor(images, labels, per_pair=10, seed=3) for _ in range(2))
    other = digit_xor(images, labels, per_pair=10, seed=4)
    assert np.array_equal(first.x_train, again.x_train)
    assert not np.array_equal(first.x_train, other.x_train)
    few = two_digits(*pool(copies=1), per_pair=20)  # one image per digit: only with replacement
    assert len(few.x_train) == 1600


def test_disjoint_digits_share_no_image():
    images, labels = pool(copies=10)
    images[:, 0, 0] = np.arange(len(images))  # a pixel that names the image
    task = two_digits(images, labels, per_pair=20, disjoint=True)
    seen = [set(np.rint(255 * x[:, 0]).astype(int)) for x in (task.x_train, task.x_validation)]
    assert seen[0] and seen[1] and not seen[0] & seen[1]
    shared = two_digits(images, labels, per_pair=20)
    seen = [set(np.rint(255 * x[:, 0]).astype(int)) for x in (shared.x_train, shared.x_validation)]
    assert seen[0] & seen[1]


def test_scikit_learns_digits_need_no_download(monkeypatch, tmp_path):
    monkeypatch.delenv("ESPALIER_MIRRORS", raising=False)
    images, labels = digit_pool("digits")
    assert images.shape == (1797, 8, 8)
    assert images.dtype == np.uint8
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    task = build_task("digit-xor-digits", per_pair=5)
    assert (task.name, task.n_inputs) == ("digit-xor-digits", 128)
    assert available_digits([tmp_path]) == "digits"
    (tmp_path / "MNIST").mkdir()
    assert available_digits([tmp_path]) == "mnist"


def test_real_mnist(root):
    places = [os.environ.get("ESPALIER_TEST_DATA"), root.parent / "shared" / "data"]
    mirrors = [place for place in places if place and (Path(place) / "MNIST").is_dir()]
    if not mirrors:
        pytest.skip("no folder with MNIST: set ESPALIER_TEST_DATA")
    images, labels = digit_pool("mnist", mirrors[:1])
    assert len(images) == len(labels) == 70_000
    task = two_digits(images, labels, per_pair=5)
    assert task.x_train.shape == (400, 1568)
    assert task.x_train.max() == 1
    # The training image of (0, 0) holds a real zero in its left half.
    left = np.rint(task.x_train[0].reshape(28, 56)[:, :28] * 255)
    assert (images[labels == 0] == left).all(axis=(1, 2)).any()


def test_which_digit_an_input_belongs_to():
    digits = digit_of_input(1568).reshape(28, 56)
    assert (digits[:, :28] == 0).all()
    assert (digits[:, 28:] == 1).all()
    for wrong in (0, 20, 1567, 784):
        with pytest.raises(DataError, match="not two square images"):
            digit_of_input(wrong)


def test_tasks_by_name(tmp_path):
    assert build_task("4-1-4").n_outputs == 4
    path = tmp_path / "both.yaml"
    path.write_text("inputs: 2\noutputs: {y1: {and: [x1, x2]}}\n")
    assert build_task(str(path)).y_train.tolist() == [[0], [0], [0], [1]]
    with pytest.raises(ConfigurationError, match="Did you mean 'two-digits-mnist'"):
        build_task("two-digit-mnist")
    with pytest.raises(ConfigurationError, match="unknown source of digits"):
        digit_pool("fashion_mnist")


def test_bad_pools_and_tasks_are_refused():
    images, labels = pool()
    with pytest.raises(DataError, match="digit 9"):
        two_digits(images[labels < 9], labels[labels < 9])
    with pytest.raises(DataError, match="expected uint8"):
        two_digits(images / 255, labels)
    with pytest.raises(DataError, match="one integer for each"):
        two_digits(images, labels[:-1])
    with pytest.raises(ConfigurationError, match="at least 5 images per pair"):
        two_digits(images, labels, per_pair=2)
    good = boolean_task(published_function("4-2-4"))
    with pytest.raises(ConfigurationError, match="merge_threshold is 90"):
        replace(good, merge_threshold=90)
    with pytest.raises(ConfigurationError, match="input_noise is -1"):
        replace(good, input_noise=-1)
    with pytest.raises(DataError, match="other than 0 and 1"):
        replace(good, y_train=good.y_train + 0.5)
    with pytest.raises(DataError, match="16 rows in x_train, 15 in y_train"):
        replace(good, y_train=good.y_train[:-1])
    with pytest.raises(DataError, match="x_train has 3 columns"):
        replace(good, x_train=good.x_train[:, :3])
    with pytest.raises(DataError, match="not finite"):
        replace(good, x_train=good.x_train * np.float32(np.nan))
    with pytest.raises(DataError, match="expected float32"):
        Task("none", *(np.empty((0, 2), dtype=np.float32) for _ in range(4)))
