"""The public data sets: mirrors first, then the official download.

`cifar20` is the part of CIFAR-100 in the superclasses medium-sized mammals, large carnivores,
vehicles 1 and vehicles 2 (20 classes, in alphabetical order), the second data set of Petkov (2021).
"""

from __future__ import annotations

import shutil
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from espalier.data import tiny_imagenet
from espalier.data.prepared import PreparedDataset, read_dataset
from espalier.data.verify import check_file
from espalier.errors import DataError
from espalier.files import atomic_path


@dataclass(frozen=True)
class _Public:
    """A class of torchvision.datasets, and its names for the classes where we use others.

    `tiny_imagenet` has no such class: it is read from its own archive.
    """

    torchvision_class: str | None
    class_names: tuple[str, ...] | None = None


PUBLIC = {
    "fashion_mnist": _Public("FashionMNIST"),
    "mnist": _Public("MNIST", tuple("0123456789")),
    "cifar10": _Public("CIFAR10"),
    "cifar100": _Public("CIFAR100"),
    "cifar20": _Public("CIFAR100"),
    "tiny_imagenet": _Public(None),
}
CIFAR20_CLASSES = (
    "bear", "bicycle", "bus", "fox", "lawn_mower", "leopard", "lion", "motorcycle",
    "pickup_truck", "porcupine", "possum", "raccoon", "rocket", "skunk", "streetcar", "tank",
    "tiger", "tractor", "train", "wolf",
)  # fmt: skip

_TIMEOUT_SECONDS = 60


def fetch(
    source: str, mirrors: list[str], checksum: str | None = None, download: bool = True
) -> PreparedDataset:
    """Return a public data set from the first place that has it.

    A mirror is a directory or a URL. In it are looked for, in this order: `<source>.npz` (for
    cifar20 also `cifar100.npz`), then the official files, directly or in torchvision's layout
    (`FashionMNIST/raw/...`). Mirrors are only read.

    Args:
        source: a key of `PUBLIC`.
        mirrors: in the order in which they are tried.
        checksum: MD5 or SHA-256 that `<source>.npz` must have.
        download: whether torchvision's own download is tried last.

    Raises:
        DataError: a file is damaged, or no place has the data; the message lists every place.
    """
    tried: list[str] = []
    with tempfile.TemporaryDirectory(prefix="espalier-") as temporary:
        work = Path(temporary)
        for mirror in mirrors:
            location = _Location(mirror)
            found = location.missing() or _from_npz(source, location, work, checksum)
            if isinstance(found, PreparedDataset):
                return found
            tried.append(f"{mirror}: {found}")
            if location.missing():
                continue
            found = _from_official_files(source, location, work)
            if isinstance(found, PreparedDataset):
                return found
            tried[-1] += f"; {found}"
        if download:
            found = _from_download(source, work)
            if isinstance(found, PreparedDataset):
                return found
            tried.append(found)
    places = "".join(f"\n  - {line}" for line in tried) or "\n  - nowhere: no mirrors, no download"
    raise DataError(
        f"data set {source!r} was not found. Tried:{places}\n"
        f"Put its official files or {source}.npz into a folder and add that folder to `mirrors`, "
        "or allow the download on a machine with a network."
    )


class _Location:
    """A mirror: a directory, or a URL below which files are."""

    def __init__(self, mirror: str) -> None:
        self.mirror = mirror
        self.is_url = "://" in mirror
        self.folder = Path(mirror).expanduser()
        self.refusal = ""

    def missing(self) -> str | None:
        """Return why there is nothing to look into, or None."""
        return None if self.is_url or self.folder.is_dir() else "no such folder"

    def get(self, names: list[str], work: Path) -> Path | None:
        """Return a local path of the first of `names` that exists here, or None."""
        for name in names:
            if not self.is_url:
                path = self.folder / name
                if path.is_file():
                    return path
                continue
            address = f"{self.mirror.rstrip('/')}/{urllib.parse.quote(name)}"
            target = work / "fetched" / Path(name).name
            try:
                with (
                    urllib.request.urlopen(address, timeout=_TIMEOUT_SECONDS) as response,
                    atomic_path(target) as temporary,
                    open(temporary, "wb") as handle,
                ):
                    shutil.copyfileobj(response, handle)
            except (urllib.error.URLError, OSError, ValueError) as error:
                self.refusal = f" ({error})"
                continue
            return target
        return None


def _from_npz(
    source: str, location: _Location, work: Path, checksum: str | None
) -> PreparedDataset | str:
    path = location.get([f"{source}.npz"], work)
    if path is not None:
        if checksum is not None:
            check_file(path, checksum, f"{location.mirror}: {path.name}")
        return read_dataset(path)
    if source == "cifar20":
        path = location.get(["cifar100.npz"], work)
        if path is not None:
            return _cifar20(read_dataset(path))
    return f"no {source}.npz{location.refusal}"


def _from_tiny_imagenet(location: _Location, work: Path) -> PreparedDataset | str:
    path = location.get([tiny_imagenet.ARCHIVE], work)
    if path is None:
        return f"no {tiny_imagenet.ARCHIVE}{location.refusal}"
    return tiny_imagenet.read_archive(path)


def _official_files(source: str) -> tuple[list[tuple[str, str]], list[str]]:
    """Return (file name, MD5) of the official files, and the folders where a mirror has them."""
    dataset = _torchvision_class(source)
    if hasattr(dataset, "resources"):
        name = dataset.__name__
        return list(dataset.resources), [f"{name}/raw/", f"{name}/", f"{source}/", "raw/", ""]
    return [(dataset.filename, dataset.tgz_md5)], ["", f"{source}/"]


def _from_official_files(source: str, location: _Location, work: Path) -> PreparedDataset | str:
    if source == "tiny_imagenet":
        return _from_tiny_imagenet(location, work)
    files, folders = _official_files(source)
    dataset = _torchvision_class(source)
    staged = work / "staged"
    target = staged / dataset.__name__ / "raw" if hasattr(dataset, "resources") else staged
    target.mkdir(parents=True, exist_ok=True)
    for name, md5 in files:
        path = location.get([folder + name for folder in folders], work)
        if path is None:
            return f"no {name}{location.refusal}"
        check_file(path, md5, f"{location.mirror}: {name}" if location.is_url else None)
        link = target / name
        link.unlink(missing_ok=True)
        link.symlink_to(path.resolve())
    return _load(source, staged)


def _from_download(source: str, work: Path) -> PreparedDataset | str:
    if source == "tiny_imagenet":
        server = _Location(tiny_imagenet.ADDRESS.rpartition("/")[0])
        found = _from_tiny_imagenet(server, work)
        return f"{server.mirror}: {found}" if isinstance(found, str) else found
    root = work / "download"
    root.mkdir()
    try:
        return _load(source, root)
    except (RuntimeError, OSError) as error:  # torchvision raises either when no host answers
        reason = " ".join(str(error).split()) or type(error).__name__
        return f"official download through torchvision: {reason}"


def _load(source: str, root: Path) -> PreparedDataset:
    """Let torchvision unpack and read the official files below `root`, fetching what is missing."""
    dataset = _torchvision_class(source)
    train, test = (dataset(str(root), train=part, download=True) for part in (True, False))
    names = PUBLIC[source].class_names or tuple(train.classes)
    arrays = []
    for part in (train, test):
        images = np.asarray(part.data)
        arrays.append(images if images.ndim == 4 else images[..., np.newaxis])
        arrays.append(np.asarray(part.targets, dtype=np.int64))
    loaded = PreparedDataset(*arrays, class_names=names)
    return _cifar20(loaded) if source == "cifar20" else loaded


def _cifar20(cifar100: PreparedDataset) -> PreparedDataset:
    chosen = np.array([cifar100.class_names.index(name) for name in CIFAR20_CLASSES])
    parts = []
    for images, labels in (
        (cifar100.x_train, cifar100.y_train),
        (cifar100.x_test, cifar100.y_test),
    ):
        kept = np.isin(labels, chosen)
        # The chosen classes are in alphabetical order, as are those of CIFAR-100.
        parts += [images[kept], np.searchsorted(chosen, labels[kept]).astype(np.int64)]
    return PreparedDataset(*parts, class_names=CIFAR20_CLASSES)


def _torchvision_class(source: str) -> type:
    from espalier.data.torchvision_shim import import_torchvision

    name = PUBLIC[source].torchvision_class
    assert name is not None
    return getattr(import_torchvision().datasets, name)
