"""Parts of a data set: held-out test images, and as many images of every class."""

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


def balanced(labels: np.ndarray, per_class: int, seed: int, part: str) -> np.ndarray:
    """Return sorted indices of at most `per_class` images of each class.

    Args:
        labels: (n,) class indices.
        per_class: images to keep of each class; a class with fewer keeps all.
        seed: draws from the stream (seed, "balanced part", part, class).
        part: "train" or "test".
    """
    kept = []
    for label in np.unique(labels):
        generator = numpy_generator(seed, "balanced part", part, int(label))
        kept.append(generator.permutation(np.flatnonzero(labels == label))[:per_class])
    return np.sort(np.concatenate(kept))
