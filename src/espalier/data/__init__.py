"""Data sets in one prepared form: uint8 images (n, height, width, channels) and int64 labels."""

from __future__ import annotations

from espalier.data.prepare import SOURCES, prepare
from espalier.data.prepared import PreparedDataset, read_dataset, write_dataset
from espalier.data.splits import Split, split_dataset, split_indices

__all__ = [
    "SOURCES",
    "PreparedDataset",
    "Split",
    "prepare",
    "read_dataset",
    "split_dataset",
    "split_indices",
    "write_dataset",
]
