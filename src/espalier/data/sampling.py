"""Test images for sources that have none of their own."""

from __future__ import annotations

import numpy as np

from espalier.seeds import numpy_generator


def held_out(labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Return a boolean vector that marks `share` of the images of each class, at least one each.

    Args:
        labels: (n,) class indices.
        share: part of each class to mark, rounded to whole images.
        seed: draws from the stream (seed, "test images", class).
    """
    marked = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = max(1, round(share * len(members)))
        order = numpy_generator(seed, "test images", int(label)).permutation(members)
        marked[order[:count]] = True
    return marked
