from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from espalier.data import prepare
from espalier.errors import DataError

CLASSES = ("n02", "n01")


def image_bytes(level: int) -> bytes:
    pixels = np.full((64, 64, 3), level, dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=100)
    return buffer.getvalue()


def write_archive(folder, annotations="val_0.JPEG\tn01\t0\t0\t1\t1\nval_1.JPEG\tn02\t0\t0\t1\t1\n"):
    root = "tiny-imagenet-200"
    with zipfile.ZipFile(folder / f"{root}.zip", "w") as archive:
        archive.writestr(f"{root}/wnids.txt", "\n".join(CLASSES) + "\n")
        for number, name in enumerate(CLASSES):
            for copy in range(2):
                member = f"{root}/train/{name}/images/{name}_{copy}.JPEG"
                archive.writestr(member, image_bytes(100 * number + 20))
        archive.writestr(f"{root}/val/val_annotations.txt", annotations)
        for number in range(2):
            archive.writestr(f"{root}/val/images/val_{number}.JPEG", image_bytes(200))


def test_the_official_archive_in_a_mirror(tmp_path):
    write_archive(tmp_path)
    data = prepare("tiny_imagenet", mirrors=[tmp_path], download=False)
    assert data.class_names == ("n01", "n02")
    assert data.x_train.shape == (4, 32, 32, 3) and data.x_test.shape == (2, 32, 32, 3)
    assert data.y_test.tolist() == [0, 1]
    levels = data.x_train.mean(axis=(1, 2, 3))
    # The class that the archive lists first, n02, holds the darker images.
    assert np.allclose(levels[data.y_train == 1], 20, atol=2)
    assert np.allclose(levels[data.y_train == 0], 120, atol=2)


def test_a_damaged_archive_is_named(tmp_path):
    (tmp_path / "tiny-imagenet-200.zip").write_bytes(b"PK not an archive")
    with pytest.raises(DataError, match=r"not a whole tiny-imagenet-200\.zip"):
        prepare("tiny_imagenet", mirrors=[tmp_path], download=False)
    write_archive(tmp_path, "val_9.JPEG\tn01\t0\t0\t1\t1\n")
    with pytest.raises(DataError, match=r"val_9\.JPEG"):
        prepare("tiny_imagenet", mirrors=[tmp_path], download=False)


def test_no_archive_anywhere(tmp_path):
    with pytest.raises(DataError, match=r"no tiny-imagenet-200\.zip"):
        prepare("tiny_imagenet", mirrors=[tmp_path], download=False)
