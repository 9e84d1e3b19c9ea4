from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from espalier.data import PreparedDataset, prepare, read_dataset, write_dataset
from espalier.data.public import CIFAR20_CLASSES
from espalier.errors import ConfigurationError, DataError, MissingDependencyError
from espalier.files import write_npz


def tiny(classes: int = 3, size: int = 4, channels: int = 1) -> PreparedDataset:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (6 * classes, size, size, channels), dtype=np.uint8)
    labels = np.tile(np.arange(classes), 6).astype(np.int64)
    cut = 4 * classes
    names = tuple(f"class{k}" for k in range(classes))
    return PreparedDataset(images[:cut], labels[:cut], images[cut:], labels[cut:], names)


def real_mirror(root: Path) -> Path:
    places = [os.environ.get("ESPALIER_TEST_DATA"), root.parent / "shared" / "data"]
    for place in places:
        if place and (Path(place) / "FashionMNIST" / "raw").is_dir():
            return Path(place)
    pytest.skip("no folder with FashionMNIST/raw: set ESPALIER_TEST_DATA")


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise urllib.error.URLError("no network in this test")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)


def test_import_needs_no_torch() -> None:
    code = "import sys, espalier.data; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_digits_are_scaled_and_stratified() -> None:
    from sklearn.datasets import load_digits

    digits = prepare("digits")
    assert digits.input_shape == (1, 8, 8)
    assert len(digits.y_train) + len(digits.y_test) == 1797
    everything = np.concatenate([digits.x_train, digits.x_test])[..., 0]
    original = load_digits().images
    assert sorted(map(bytes, everything)) == sorted(
        map(bytes, np.rint(original * 255 / 16).astype(np.uint8))
    )
    share = np.bincount(digits.y_test) / (np.bincount(digits.y_train) + np.bincount(digits.y_test))
    assert np.all(np.abs(share - 0.2) < 0.005)
    again = prepare("digits")
    assert np.array_equal(digits.x_test, again.x_test)
    assert not np.array_equal(digits.y_test, prepare("digits", seed=1).y_test)


def test_write_then_read_gives_the_same_and_equal_bytes(tmp_path: Path) -> None:
    dataset = tiny()
    write_dataset(tmp_path / "a.npz", dataset, {"source": "test"})
    write_dataset(tmp_path / "b.npz", dataset, {"source": "test"})
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    back = prepare("mine", source="npz", path=tmp_path / "a.npz")
    assert back.class_names == dataset.class_names
    for name in ("x_train", "y_train", "x_test", "y_test"):
        assert np.array_equal(getattr(back, name), getattr(dataset, name))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x_train": np.zeros((12, 4, 4, 1), np.float32)}, r"x_train .* float32; expected uint8"),
        ({"x_train": np.zeros((12, 4, 4), np.uint8)}, r"shape \(12, 4, 4\)"),
        ({"y_train": np.zeros(11, np.int64)}, r"y_train has shape \(11,\).*\(12,\)"),
        ({"y_train": np.full(12, 3)}, r"labels from 3 to 3.*3 class names"),
        ({"y_test": np.full(6, -1)}, r"labels from -1"),
        ({"y_test": np.zeros(6)}, r"float64; expected integers"),
        ({"x_test": np.zeros((6, 5, 4, 1), np.uint8)}, r"\(4, 4, 1\).*\(5, 4, 1\)"),
        ({"class_names": np.array(["a", "b", "a"])}, "class names must differ"),
        ({"class_names": np.array([1, 2, 3])}, "class_names must be a vector of text"),
        ({"x_tran": np.zeros(1)}, "Did you mean 'x_train'"),
        ({"x_test": None}, r"lacks the arrays \['x_test'\]"),
    ],
)
def test_bad_npz_is_refused_with_the_reason(
    tmp_path: Path, change: dict[str, np.ndarray | None], message: str
) -> None:
    dataset = tiny()
    arrays = {name: getattr(dataset, name) for name in ("x_train", "y_train", "x_test", "y_test")}
    arrays["class_names"] = np.asarray(dataset.class_names)
    arrays.update(change)  # type: ignore[arg-type]
    path = tmp_path / "bad.npz"
    write_npz(path, {name: array for name, array in arrays.items() if array is not None})
    with pytest.raises(DataError, match=message) as caught:
        read_dataset(path)
    assert "bad.npz" in str(caught.value)


def test_small_integer_labels_are_taken(tmp_path: Path) -> None:
    dataset = tiny()
    arrays = {name: getattr(dataset, name) for name in ("x_train", "x_test")}
    labels = {name: getattr(dataset, name).astype(np.uint8) for name in ("y_train", "y_test")}
    names = np.asarray(dataset.class_names)
    write_npz(tmp_path / "small.npz", {**arrays, **labels, "class_names": names})
    assert read_dataset(tmp_path / "small.npz").y_train.dtype == np.int64


def test_npz_checksum(tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    write_dataset(path, tiny())
    good = hashlib.sha256(path.read_bytes()).hexdigest()
    prepare("mine", source="npz", path=path, checksum=good)
    with pytest.raises(DataError, match=rf"mine.npz is damaged.*{good}, expected {'0' * 64}"):
        prepare("mine", source="npz", path=path, checksum="0" * 64)
    with pytest.raises(ConfigurationError, match="MD5 has 32"):
        prepare("mine", source="npz", path=path, checksum="123")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "fashion_mnit"}, "Did you mean 'fashion_mnist'"),
        ({"name": "a", "source": "npz"}, "needs a path"),
        ({"name": "digits", "path": "x"}, "takes no path"),
        ({"name": "digits", "image_size": 8}, "only the source 'folder' resizes"),
    ],
)
def test_wrong_arguments(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        prepare(**arguments)  # type: ignore[arg-type]


def test_mirror_with_prepared_npz_comes_first(tmp_path: Path, no_network: None) -> None:
    write_dataset(tmp_path / "fashion_mnist.npz", tiny())
    found = prepare("fashion_mnist", mirrors=[tmp_path / "nothing", tmp_path])
    assert found.class_names == ("class0", "class1", "class2")


def test_cifar20_is_taken_from_cifar100(tmp_path: Path, no_network: None) -> None:
    names = sorted({*CIFAR20_CLASSES, "apple", "worm", "can"})
    full = tiny(len(names), channels=3)
    full = PreparedDataset(full.x_train, full.y_train, full.x_test, full.y_test, tuple(names))
    write_dataset(tmp_path / "cifar100.npz", full)
    part = prepare("cifar20", mirrors=[tmp_path])
    assert part.class_names == CIFAR20_CLASSES
    assert len(CIFAR20_CLASSES) == 20
    kept = [names[label] in CIFAR20_CLASSES for label in full.y_train]
    assert np.array_equal(part.x_train, full.x_train[kept])
    assert [part.class_names[k] for k in part.y_train] == [
        names[k] for k in full.y_train if names[k] in CIFAR20_CLASSES
    ]


def test_nothing_found_lists_every_place(tmp_path: Path, no_network: None) -> None:
    mirrors = [tmp_path / "absent", tmp_path, "https://mirror.invalid/data"]
    with pytest.raises(DataError) as caught:
        prepare("cifar10", mirrors=mirrors)
    text = str(caught.value)
    for part in ("absent: no such folder", "no cifar-10-python.tar.gz", "mirror.invalid",
                 "no network in this test", "official download", "mirrors"):  # fmt: skip
        assert part in text


def test_url_mirror_is_read_and_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_dataset(tmp_path / "mnist.npz", tiny())
    data = (tmp_path / "mnist.npz").read_bytes()

    def serve(address: str, timeout: float) -> io.BytesIO:
        if address.endswith("/mnist.npz"):
            return io.BytesIO(data)
        raise urllib.error.URLError("not there")

    monkeypatch.setattr(urllib.request, "urlopen", serve)
    good = hashlib.md5(data).hexdigest()
    assert len(prepare("mnist", mirrors=["https://host/a"], checksum=good).y_test) == 6
    with pytest.raises(DataError, match=r"https://host/a: mnist.npz is damaged"):
        prepare("mnist", mirrors=["https://host/a"], checksum="0" * 32)


def test_file_urls_are_mirrors(tmp_path: Path) -> None:
    write_dataset(tmp_path / "mnist.npz", tiny())
    assert len(prepare("mnist", mirrors=[tmp_path.as_uri()], download=False).y_test) == 6


def test_official_files_of_a_mirror(root: Path, no_network: None) -> None:
    mirror = real_mirror(root)
    before = sorted(path.name for path in (mirror / "FashionMNIST").rglob("*"))
    dataset = prepare("fashion_mnist", mirrors=[mirror], download=False)
    assert dataset.x_train.shape == (60000, 28, 28, 1)
    assert dataset.x_test.shape == (10000, 28, 28, 1)
    assert np.bincount(dataset.y_train).tolist() == [6000] * 10
    assert dataset.class_names[0] == "T-shirt/top"
    assert dataset.y_train[:5].tolist() == [9, 0, 0, 3, 0]  # as published
    assert sorted(path.name for path in (mirror / "FashionMNIST").rglob("*")) == before


def test_truncated_official_file_names_both_checksums(
    root: Path, tmp_path: Path, no_network: None
) -> None:
    source = real_mirror(root) / "FashionMNIST" / "raw"
    target = tmp_path / "FashionMNIST" / "raw"
    target.mkdir(parents=True)
    for path in source.glob("*.gz"):
        shutil.copyfile(path, target / path.name)
    damaged = target / "t10k-labels-idx1-ubyte.gz"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    found = hashlib.md5(damaged.read_bytes()).hexdigest()
    with pytest.raises(DataError, match=rf"t10k-labels.*{found}, expected bb300cfd") as caught:
        prepare("fashion_mnist", mirrors=[tmp_path], download=False)
    assert str(damaged) in str(caught.value)


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MissingDependencyError, match=r"install espalier\[train\]"):
        prepare("digits")


def save(folder: Path, name: str, array: np.ndarray) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(folder / name)


def image_folder(folder: Path, classes: list[str], count: int = 5, colour: bool = False) -> None:
    generator = np.random.default_rng(1)
    for label in classes:
        for number in range(count):
            shape = (6, 5, 3) if colour else (6, 5)
            pixels = generator.integers(0, 256, shape, dtype=np.uint8)
            save(folder / label, f"{number}.png", pixels)


def test_single_image_folder_is_split(tmp_path: Path) -> None:
    image_folder(tmp_path, ["dog", "cat"])
    dataset = prepare("pets", source="folder", path=tmp_path)
    assert dataset.class_names == ("cat", "dog")
    assert dataset.input_shape == (1, 6, 5)
    assert np.bincount(dataset.y_test).tolist() == [1, 1]
    assert np.bincount(dataset.y_train).tolist() == [4, 4]
    again = prepare("pets", source="folder", path=tmp_path)
    assert np.array_equal(dataset.x_test, again.x_test)


def test_divided_image_folder_keeps_pixels_and_parts(tmp_path: Path) -> None:
    image_folder(tmp_path / "train", ["a", "b"], colour=True)
    image_folder(tmp_path / "test", ["a", "b"], count=2, colour=True)
    dataset = prepare("mine", source="folder", path=tmp_path)
    assert dataset.x_train.shape == (10, 6, 5, 3)
    assert dataset.x_test.shape == (4, 6, 5, 3)
    with Image.open(tmp_path / "train" / "b" / "0.png") as image:
        assert np.array_equal(dataset.x_train[5], np.asarray(image))


def test_image_folder_errors_name_the_culprit(tmp_path: Path) -> None:
    def failing(match: str, **options: object) -> None:
        with pytest.raises(DataError, match=match):
            prepare("mine", source="folder", path=tmp_path, **options)  # type: ignore[arg-type]

    image_folder(tmp_path, ["a", "b"])
    save(tmp_path / "b", "odd.png", np.zeros((9, 9), np.uint8))
    failing(r"odd.png has 9x9 pixels, but .*0.png has 5x6; set image_size")
    resized = prepare("mine", source="folder", path=tmp_path, image_size=4)
    assert resized.input_shape == (1, 4, 4)
    (tmp_path / "b" / "odd.png").write_bytes(b"no image")
    failing(r"odd.png is not a readable image")
    (tmp_path / "c").mkdir()
    failing(r"c holds no image")
    shutil.rmtree(tmp_path / "b")
    shutil.rmtree(tmp_path / "c")
    failing(r"holds 1 class folders")
    with pytest.raises(DataError, match="is not a folder"):
        prepare("mine", source="folder", path=tmp_path / "nowhere")


def test_image_folder_needs_the_same_classes_in_both_parts(tmp_path: Path) -> None:
    image_folder(tmp_path / "train", ["a", "b"])
    image_folder(tmp_path / "test", ["a", "c"])
    with pytest.raises(DataError, match=r"differ in the classes \['b', 'c'\]"):
        prepare("mine", source="folder", path=tmp_path)


def test_mirrors_of_the_environment_come_first(monkeypatch):
    from espalier.data.prepare import all_mirrors

    monkeypatch.setenv("ESPALIER_MIRRORS", "/a/b, https://example.org/data ,")
    assert all_mirrors(["c"]) == ["/a/b", "https://example.org/data", "c"]
    monkeypatch.delenv("ESPALIER_MIRRORS")
    assert all_mirrors(["c"]) == ["c"]


def test_a_balanced_part(tmp_path: Path) -> None:
    write_dataset(tmp_path / "own.npz", tiny())
    part = prepare("own", "npz", tmp_path / "own.npz", per_class=2)
    assert np.bincount(part.y_train).tolist() == [2, 2, 2]
    assert np.bincount(part.y_test).tolist() == [2, 2, 2]
    again = prepare("own", "npz", tmp_path / "own.npz", per_class=2)
    assert np.array_equal(part.x_train, again.x_train)
    with pytest.raises(ConfigurationError, match="per_class is 0"):
        prepare("own", "npz", tmp_path / "own.npz", per_class=0)
