from __future__ import annotations

import numpy as np
import torch

from espalier.data.inputs import Normalisation
from espalier.pruning.batches import ScoringBatches


def numbered(count: int) -> tuple[np.ndarray, np.ndarray]:
    images = np.arange(count, dtype=np.uint8).reshape(count, 1, 1, 1)
    return np.broadcast_to(images, (count, 2, 2, 1)).copy(), np.arange(count) % 3


def seen(batches: ScoringBatches) -> list[list[int]]:
    return [[round((float(image.mean()) + 1) * 127.5) for image in inputs] for inputs, _ in batches]


def test_batches_are_whole_shuffled_and_repeatable():
    batches = ScoringBatches(*numbered(10), Normalisation(), 4, seed=5)
    first, second = seen(batches), seen(batches)
    assert [len(part) for part in first] == [4, 4]
    assert first != second, "every pass has an order of its own"
    assert seen(batches.rewound()) == first
    assert len({number for part in first for number in part}) == 8


def test_labels_go_with_their_images():
    for inputs, labels in ScoringBatches(*numbered(9), Normalisation(), 3, seed=0):
        numbers = torch.round((inputs.mean(dim=(1, 2, 3)) + 1) * 127.5).long()
        assert torch.equal(numbers % 3, labels)


def test_fewer_images_than_a_batch_make_one():
    assert [len(part) for part in seen(ScoringBatches(*numbered(3), Normalisation(), 8, 0))] == [3]
