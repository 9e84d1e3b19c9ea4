"""One entry point for every source of images: `prepare("fashion_mnist", mirrors=[...])`."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from espalier.data.folder import read_image_folder
from espalier.data.prepared import PreparedDataset, read_dataset
from espalier.data.public import PUBLIC, fetch
from espalier.data.sampling import balanced, held_out
from espalier.data.verify import check_file
from espalier.errors import ConfigurationError, DataError, MissingDependencyError, unknown_name

SOURCES = ("digits", *PUBLIC, "folder", "npz")


def prepare(
    name: str,
    source: str | None = None,
    path: str | os.PathLike[str] | None = None,
    mirrors: Iterable[str | os.PathLike[str]] = (),
    checksum: str | None = None,
    image_size: int | None = None,
    download: bool = True,
    seed: int = 0,
    per_class: int | None = None,
) -> PreparedDataset:
    """Return a data set in the prepared form, from the first place that has it.

    Sources: `digits` (scikit-learn's 1,797 handwritten digits, no download), `fashion_mnist`,
    `mnist`, `cifar10`, `cifar100`, `cifar20` (see `espalier.data.public`), `folder` (images by
    class, see `espalier.data.folder`) and `npz` (a file of the prepared form).

    Args:
        name: the data set's name; also its source, unless `source` is given.
        source: one of `SOURCES`.
        path: the folder or file of the sources `folder` and `npz`.
        mirrors: directories and URLs (http, https, file), tried in this order before the official
            download. A mirror may hold torchvision's raw files or `<source>.npz`.
        checksum: expected MD5 (32 digits) or SHA-256 (64 digits) of the NPZ, at `path` or in a
            mirror. The official files are checked against their own checksums in any case.
        image_size: the images of a folder are resized to this many pixels a side.
        download: whether to try the official download after the mirrors.
        seed: draws the test images where a source has none of its own, and the balanced part.
        per_class: keep at most this many training and as many test images of every class.

    Raises:
        ConfigurationError: an unknown source, or arguments that the source does not take.
        DataError: nothing was found (the message lists every place and why), or a file is damaged.
        MissingDependencyError: the source needs a package that is not installed.
    """
    chosen = name if source is None else source
    if chosen not in SOURCES:
        raise unknown_name("data source", chosen, SOURCES)
    if (path is None) == (chosen in ("folder", "npz")):
        needs = "needs a path" if path is None else "takes no path; use source: folder or npz"
        raise ConfigurationError(f"data set {name!r}: the source {chosen!r} {needs}")
    if image_size is not None and chosen != "folder":
        raise ConfigurationError(
            f"data set {name!r}: only the source 'folder' resizes images (image_size)"
        )
    whole = _whole(name, chosen, path, mirrors, checksum, image_size, download, seed)
    return whole if per_class is None else _balanced_part(whole, per_class, seed)


def _whole(
    name: str,
    chosen: str,
    path: str | os.PathLike[str] | None,
    mirrors: Iterable[str | os.PathLike[str]],
    checksum: str | None,
    image_size: int | None,
    download: bool,
    seed: int,
) -> PreparedDataset:
    if chosen == "digits":
        return _digits(seed)
    if chosen == "folder":
        return read_image_folder(Path(path or ""), image_size, seed)
    if chosen == "npz":
        file = Path(path or "")
        if not file.exists():
            raise DataError(f"data set {name!r}: {file} does not exist; mend its path")
        if checksum is not None:
            check_file(file, checksum)
        return read_dataset(file)
    return fetch(chosen, [str(mirror) for mirror in mirrors], checksum, download)


def _balanced_part(whole: PreparedDataset, per_class: int, seed: int) -> PreparedDataset:
    if per_class < 1:
        raise ConfigurationError(f"per_class is {per_class}; keep at least one image of each class")
    train = balanced(whole.y_train, per_class, seed, "train")
    test = balanced(whole.y_test, per_class, seed, "test")
    return PreparedDataset(
        whole.x_train[train],
        whole.y_train[train],
        whole.x_test[test],
        whole.y_test[test],
        whole.class_names,
    )


def all_mirrors(configured: Iterable[str]) -> list[str]:
    """Return the mirrors of ESPALIER_MIRRORS (separated by commas), then `configured`."""
    named = os.environ.get("ESPALIER_MIRRORS", "").split(",")
    return [*(mirror.strip() for mirror in named if mirror.strip()), *configured]


def _digits(seed: int) -> PreparedDataset:
    """Scale the digits' 0..16 to 0..255 (v * 255 / 16, rounded) and hold out a fifth to test."""
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            "the data set 'digits' comes with scikit-learn; install espalier[train]"
        ) from error
    bunch: Any = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[..., np.newaxis]
    labels = bunch.target.astype(np.int64)
    test = held_out(labels, 0.2, seed)
    names = tuple(str(digit) for digit in range(10))
    return PreparedDataset(images[~test], labels[~test], images[test], labels[test], names)
