"""Images on disk, one folder per class."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from espalier.data.prepared import PreparedDataset
from espalier.data.sampling import held_out
from espalier.errors import DataError

_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
_GREY_MODES = {"1", "L", "LA"}


def read_image_folder(path: Path, image_size: int | None = None, seed: int = 0) -> PreparedDataset:
    """Read a folder of images by class.

    Two layouts: `train/<class>/<image>` with `test/<class>/<image>`, or `<class>/<image>` alone,
    of which a fifth of each class is held out to test. Classes are numbered in alphabetical order.
    If every image is grey the result has one channel, else three.

    Args:
        path: the folder.
        image_size: resize (bilinear) to this many pixels a side; else all images must have one
            size.
        seed: draws the test images where there is no `test` folder.

    Raises:
        DataError: a folder is missing or empty, the classes of `train` and `test` differ, an image
            cannot be read, or sizes differ; the message names the folder or the images.
    """
    if not path.is_dir():
        raise DataError(f"{path} is not a folder; give one that holds a folder per class")
    divided = (path / "train").is_dir() and (path / "test").is_dir()
    roots = [path / "train", path / "test"] if divided else [path]
    classes = [_classes(root) for root in roots]
    if divided and classes[0] != classes[1]:
        odd = sorted(set(classes[0]) ^ set(classes[1]))
        raise DataError(f"{path}: train and test differ in the classes {odd}")
    files = [[_images(root / name) for name in classes[0]] for root in roots]
    arrays = _read_all([file for part in files for group in part for file in group], image_size)
    labels = [
        np.repeat(np.arange(len(part)), [len(group) for group in part]).astype(np.int64)
        for part in files
    ]
    names = tuple(classes[0])
    if divided:
        border = len(labels[0])
        return PreparedDataset(arrays[:border], labels[0], arrays[border:], labels[1], names)
    for name, group in zip(names, files[0], strict=True):
        if len(group) < 2:
            raise DataError(
                f"{path / name} holds one image; a class needs two, one to train and one to test"
            )
    test = held_out(labels[0], 0.2, seed)
    return PreparedDataset(arrays[~test], labels[0][~test], arrays[test], labels[0][test], names)


def _classes(root: Path) -> list[str]:
    names = sorted(entry.name for entry in root.iterdir() if entry.is_dir())
    if len(names) < 2:
        raise DataError(f"{root} holds {len(names)} class folders; it needs two or more")
    return names


def _images(folder: Path) -> list[Path]:
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in _SUFFIXES)
    if not files:
        raise DataError(f"{folder} holds no image ({', '.join(sorted(_SUFFIXES))})")
    return files


def _read_all(files: list[Path], image_size: int | None) -> np.ndarray:
    from PIL import Image, UnidentifiedImageError

    images = []
    for file in files:
        try:
            with Image.open(file) as opened:
                image = opened.convert("L" if opened.mode in _GREY_MODES else "RGB")
        except (UnidentifiedImageError, OSError, SyntaxError) as error:
            raise DataError(f"{file} is not a readable image ({error})") from error
        if image_size is not None:
            image = image.resize((image_size, image_size), Image.Resampling.BILINEAR)
        elif images and image.size != images[0].size:
            raise DataError(
                f"{file} has {image.width}x{image.height} pixels, but {files[0]} has "
                f"{images[0].width}x{images[0].height}; set image_size to resize all of them"
            )
        images.append(image)
    if all(image.mode == "L" for image in images):
        return np.stack([np.asarray(image) for image in images])[..., np.newaxis]
    return np.stack([np.asarray(image.convert("RGB")) for image in images])
