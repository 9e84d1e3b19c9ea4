"""Tiny-ImageNet from its official archive, reduced to 32x32 pixels."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np

from espalier.data.prepared import PreparedDataset
from espalier.errors import DataError

ARCHIVE = "tiny-imagenet-200.zip"
ADDRESS = f"http://cs231n.stanford.edu/{ARCHIVE}"
_ROOT = "tiny-imagenet-200"
_SIDE = 32


def read_archive(path: Path) -> PreparedDataset:
    """Return the images of `tiny-imagenet-200.zip`, each 2x2 pixels averaged to one.

    Training images are those of `train`; the labelled validation images of `val` test, since the
    official test images have no labels. Classes are WordNet ids in alphabetical order.

    Args:
        path: the archive.

    Raises:
        DataError: not the archive, or an image or annotation is missing or damaged.

    Source: the 32x32 form of Cunegatti et al. (2024); images from Le and Yang (2015).
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = _lines(archive, f"{_ROOT}/wnids.txt")
            classes = tuple(sorted(name.strip() for name in names))
            number = {name: label for label, name in enumerate(classes)}
            members = sorted(archive.namelist())
            train = [
                (member, number[member.split("/")[2]])
                for member in members
                if member.startswith(f"{_ROOT}/train/") and member.endswith(".JPEG")
            ]
            annotations = (
                line.split("\t") for line in _lines(archive, f"{_ROOT}/val/val_annotations.txt")
            )
            test = [(f"{_ROOT}/val/images/{row[0]}", number[row[1]]) for row in annotations]
            arrays = [_read(archive, part) for part in (train, test)]
    except (zipfile.BadZipFile, KeyError, IndexError) as error:
        raise DataError(
            f"{path} is not a whole {ARCHIVE} ({error}); fetch it again from {ADDRESS}"
        ) from error
    labels = [np.array([label for _, label in part], dtype=np.int64) for part in (train, test)]
    return PreparedDataset(arrays[0], labels[0], arrays[1], labels[1], classes)


def _lines(archive: zipfile.ZipFile, member: str) -> list[str]:
    return [line for line in archive.read(member).decode().splitlines() if line.strip()]


def _read(archive: zipfile.ZipFile, part: list[tuple[str, int]]) -> np.ndarray:
    from PIL import Image, UnidentifiedImageError

    images = np.empty((len(part), _SIDE, _SIDE, 3), dtype=np.uint8)
    for position, (member, _) in enumerate(part):
        try:
            with Image.open(io.BytesIO(archive.read(member))) as opened:
                image = opened.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.BOX)
        except (UnidentifiedImageError, OSError) as error:
            raise DataError(f"{member} is not a readable image ({error})") from error
        images[position] = np.asarray(image)
    return images
