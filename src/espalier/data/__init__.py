"""Data sets in one prepared form: uint8 images (n, height, width, channels) and int64 labels."""

from __future__ import annotations

from espalier.data.prepare import SOURCES, prepare
from espalier.data.prepared import PreparedDataset, read_dataset, write_dataset
from espalier.data.splits import Split, split_dataset, split_indices
from espalier.lazy import lazily

# Tensors need torch, which preparing data does not.
_HOMES = {"Normalisation": "inputs", "normalised_batches": "inputs"}

__all__ = [
    "SOURCES",
    "Normalisation",
    "PreparedDataset",
    "Split",
    "normalised_batches",
    "prepare",
    "read_dataset",
    "split_dataset",
    "split_indices",
    "write_dataset",
]

__getattr__, __dir__ = lazily(__name__, _HOMES)
