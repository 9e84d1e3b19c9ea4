"""The training images that a pruner scores with, in batches."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from espalier.data.inputs import Normalisation, normalised_batches
from espalier.seeds import torch_generator


class ScoringBatches:
    """Batches of (inputs, labels) in a drawn order, a new one every time they are gone through.

    So an algorithm that scores step by step sees new images in each step, as the published codes
    do with a shuffled loader. A last batch that is smaller is left out, unless it is the only one.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        normalisation: Normalisation,
        batch_size: int,
        seed: int,
        device: torch.device | str = "cpu",
    ) -> None:
        """Hold the images; orders come from the streams (seed, "scoring batches", pass).

        Args:
            images: uint8 (n, height, width, channels).
            labels: (n,) class indices.
            normalisation: the one that the network is trained with.
            batch_size: images per batch.
            seed: root of the order.
            device: where the batches are wanted.
        """
        self._images, self._labels = images, labels
        self._normalisation = normalisation
        self._size = min(batch_size, len(images))
        self._seed = seed
        self._device = device
        self._passes = 0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch_generator(self._seed, "scoring batches", self._passes)
        self._passes += 1
        order = torch.randperm(len(self._images), generator=generator).numpy()
        for start in range(0, len(order) // self._size * self._size, self._size):
            chosen = order[start : start + self._size]
            yield from normalised_batches(
                self._images[chosen],
                self._labels[chosen],
                self._size,
                self._device,
                normalisation=self._normalisation,
            )

    def rewound(self) -> ScoringBatches:
        """Return the same batches from the first pass on."""
        return ScoringBatches(
            self._images,
            self._labels,
            self._normalisation,
            self._size,
            self._seed,
            self._device,
        )
