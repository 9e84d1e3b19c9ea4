"""Bad inputs, each with a function that feeds it to the library.

docs/bad_input.md is made from this list by tools/bad_input_table.py: what is fed, and what is said.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from espalier import config, files, models
from espalier.data.prepare import prepare
from espalier.graphs.coactivation import read_coactivation
from espalier.graphs.exports import read_layer_graph
from espalier.graphs.graphml import read_graphml
from espalier.graphs.readout import read_readout
from espalier.hierarchy.trees import parse_newick
from espalier.hierarchy.truth import load_truth
from espalier.pruning.contract import prune
from espalier.pruning.masks import apply_masks, read_masks, write_masks
from espalier.training.checkpoints import read_checkpoint, read_tensors, write_checkpoint


@dataclass(frozen=True)
class BadInput:
    """One bad input.

    Attributes:
        group: config, data, models, masks, trees or files.
        what: what is wrong, in a few words.
        feed: gives it to the library, in a folder where it may write what it needs.
    """

    group: str
    what: str
    feed: Callable[[Path], Any]


CASES: list[BadInput] = []


def bad(group: str, what: str) -> Callable[[Callable[[Path], Any]], Callable[[Path], Any]]:
    def enter(feed: Callable[[Path], Any]) -> Callable[[Path], Any]:
        CASES.append(BadInput(group, what, feed))
        return feed

    return enter


# -- config ------------------------------------------------------------------------------------


def _settings(what: str, **change: Any) -> None:
    CASES.append(BadInput("config", what, lambda folder: config.load(change)))


_settings("`seed: [0]`", seed=[0])
_settings("`seeds: []`", seeds=[])
_settings("`seeds: [-1]`", seeds=[-1])
_settings("`seeds: [0, 0]`", seeds=[0, 0])
_settings("`seeds: [zero]`", seeds=["zero"])
_settings("`sparsities: [1.5]`", sparsities=[1.5])
_settings("`sparsities: [0]`", sparsities=[0])
_settings("`datasets: [fashion_mnst]`", datasets=["fashion_mnst"])
_settings("`datasets: []`", datasets=[])
_settings("`datasets: [../secret]`", datasets=["../secret"])
_settings("`models: [smal_cnn]`", models=["smal_cnn"])
_settings("`models: []`", models=[])
_settings("`pruners: [group_magnitud]`", pruners=["group_magnitud"])
_settings("`detectors: [leyden]`", detectors=["leyden"])
_settings("`detectors: []`", detectors=[])
_settings("`checkpoints: 1`", checkpoints=1)
_settings("`device: gpu`", device="gpu")
_settings("`training: {epochs: 0}`", training={"epochs": 0})
_settings("`training: {batch_size: -8}`", training={"batch_size": -8})
_settings("`training: {learning_rate: 0}`", training={"learning_rate": 0})
_settings("`training: {optimizer: adm}`", training={"optimizer": "adm"})
_settings("`training: {schedule: cosin}`", training={"schedule": "cosin"})
_settings("`training: fast`", training="fast")
_settings("`pruning: {epochs: 1}`, before the pruning", pruning={"epochs": 1})
_settings("`pruning: {options: {batchs: 3}}`", pruning={"options": {"batchs": 3}})
_settings("`dataset_options: {digts: {}}`", dataset_options={"digts": {}})
_settings(
    "a folder of images without its path",
    datasets=["mine"],
    dataset_options={"mine": {"source": "folder"}},
)
_settings("`training_overrides: {small_cn: ...}`", training_overrides={"small_cn": {"epochs": 3}})
_settings("`training_overrides: {digits: {epoch: 3}}`", training_overrides={"digits": {"epoch": 3}})
_settings("`detector_options: {leiden: {speed: 1}}`", detector_options={"leiden": {"speed": 1}})


@bad("config", "an alias of YAML that holds itself")
def _(folder: Path) -> None:
    endless: dict[str, Any] = {}
    endless["leiden"] = endless
    config.load({"detector_options": endless})


@bad("config", "aliases of YAML that write out to 10^20 values")
def _(folder: Path) -> None:
    bomb: list[Any] = ["x"]
    for _ in range(20):
        bomb = [bomb] * 10
    config.load({"seeds": bomb})


# -- data --------------------------------------------------------------------------------------

_CLASSES = ("circle", "square", "star")


def _images(**change: Any) -> dict[str, np.ndarray]:
    images = np.zeros((6, 8, 8, 1), np.uint8)
    labels = np.arange(6) % 3
    arrays = {"x_train": images, "y_train": labels, "x_test": images, "y_test": labels}
    return {**arrays, "class_names": np.array(_CLASSES), **change}


def _data(what: str, drop: str = "", **change: Any) -> None:
    def feed(folder: Path) -> None:
        arrays = {name: value for name, value in _images(**change).items() if name != drop}
        files.write_npz(folder / "shapes.npz", arrays)
        prepare("shapes", source="npz", path=folder / "shapes.npz")

    CASES.append(BadInput("data", what, feed))


_data("images of type float32", x_train=np.zeros((6, 8, 8, 1), np.float32))
_data("images with 2 channels", x_train=np.zeros((6, 8, 8, 2), np.uint8))
_data("images without a channel axis", x_train=np.zeros((6, 8, 8), np.uint8))
_data("test images of another size", x_test=np.zeros((6, 9, 9, 1), np.uint8))
_data("no images", x_train=np.zeros((0, 8, 8, 1), np.uint8), y_train=np.zeros(0, np.int64))
_data("fewer labels than images", y_train=np.zeros(5, np.int64))
_data("labels that are fractions", y_train=np.zeros(6))
_data("a label without a class name", y_test=np.array([0, 1, 2, 3, 0, 1]))
_data("a label below 0", y_train=np.array([0, 1, -1, 0, 1, 2]))
_data("class names that are numbers", class_names=np.arange(3))
_data("two classes of one name", class_names=np.array(["a", "a", "b"]))
_data("a misspelt array", drop="y_test", y_tst=np.zeros(6, np.int64))
_data("no class names", drop="class_names")


@bad("data", "an unknown source")
def _(folder: Path) -> None:
    prepare("cifar11")


@bad("data", "a path that does not exist")
def _(folder: Path) -> None:
    prepare("shapes", source="npz", path=folder / "shapes.npz")


@bad("data", "a folder of images that does not exist")
def _(folder: Path) -> None:
    prepare("shapes", source="folder", path=folder / "images")


@bad("data", "a folder with one class")
def _(folder: Path) -> None:
    (folder / "images/circle").mkdir(parents=True)
    prepare("shapes", source="folder", path=folder / "images")


@bad("data", "a class without images")
def _(folder: Path) -> None:
    for name in _CLASSES:
        (folder / "images" / name).mkdir(parents=True)
    prepare("shapes", source="folder", path=folder / "images")


@bad("data", "a text file called circle.png")
def _(folder: Path) -> None:
    for name in _CLASSES:
        (folder / "images" / name).mkdir(parents=True)
        for number in range(2):
            (folder / "images" / name / f"{number}.png").write_text("no image")
    prepare("shapes", source="folder", path=folder / "images")


@bad("data", "another check sum than the one expected")
def _(folder: Path) -> None:
    files.write_npz(folder / "shapes.npz", _images())
    prepare("shapes", source="npz", path=folder / "shapes.npz", checksum="0" * 64)


@bad("data", "a check sum of 10 digits")
def _(folder: Path) -> None:
    files.write_npz(folder / "shapes.npz", _images())
    prepare("shapes", source="npz", path=folder / "shapes.npz", checksum="0" * 10)


@bad("data", "an image size for an NPZ")
def _(folder: Path) -> None:
    prepare("shapes", source="npz", path=folder / "shapes.npz", image_size=32)


# -- models ------------------------------------------------------------------------------------


def _network() -> torch.nn.Module:
    return models.build("mlp-64-8-10", num_classes=10, input_shape=(1, 8, 8))


@bad("models", "an unknown model")
def _(folder: Path) -> None:
    models.build("resnet19", num_classes=10, input_shape=(3, 32, 32))


@bad("models", "images too small for the model")
def _(folder: Path) -> None:
    models.build("small_cnn", num_classes=10, input_shape=(1, 2, 2))


@bad("models", "an mlp whose input is not the image")
def _(folder: Path) -> None:
    models.build("mlp-100-8-10", num_classes=10, input_shape=(1, 8, 8))


@bad("models", "an mlp with another number of classes")
def _(folder: Path) -> None:
    models.build("mlp-64-8-9", num_classes=10, input_shape=(1, 8, 8))


@bad("models", "a checkpoint that does not exist")
def _(folder: Path) -> None:
    read_checkpoint(folder / "network.safetensors", _network())


@bad("models", "a checkpoint of another model")
def _(folder: Path) -> None:
    write_checkpoint(folder / "network.safetensors", torch.nn.Linear(2, 2))
    read_checkpoint(folder / "network.safetensors", _network())


@bad("models", "a checkpoint of another width")
def _(folder: Path) -> None:
    other = models.build("mlp-64-9-10", num_classes=10, input_shape=(1, 8, 8))
    write_checkpoint(folder / "network.safetensors", other)
    read_checkpoint(folder / "network.safetensors", _network())


@bad("models", "a pickle called network.safetensors")
def _(folder: Path) -> None:
    torch.save(_network().state_dict(), folder / "network.safetensors")
    read_checkpoint(folder / "network.safetensors", _network())


def _safetensors(what: str, header: bytes, content: bytes = b"", length: int | None = None) -> None:
    def feed(folder: Path) -> None:
        claimed = len(header) if length is None else length
        data = struct.pack("<Q", claimed) + header + content
        (folder / "network.safetensors").write_bytes(data)
        read_tensors(folder / "network.safetensors")

    CASES.append(BadInput("models", what, feed))


def _entry(name: str, shape: list[int], offsets: list[int], dtype: str = "F32") -> str:
    return f'"{name}":' + json.dumps({"dtype": dtype, "shape": shape, "data_offsets": offsets})


_safetensors("safetensors: a header of 2^62 bytes", b"{}", length=2**62)
_safetensors("safetensors: cut off in the header", b'{"a":', length=100)
_safetensors("safetensors: a header nested 100,000 deep", b"[" * 100_000)
_safetensors(
    "safetensors: tensors that overlap",
    f"{{{_entry('a', [2], [0, 8])},{_entry('b', [2], [4, 12])}}}".encode(),
    bytes(12),
)
_safetensors(
    "safetensors: a shape of 2^40 values in 8 bytes",
    f"{{{_entry('a', [2**40], [0, 8])}}}".encode(),
    bytes(8),
)
_safetensors(
    "safetensors: an unknown type", f"{{{_entry('a', [2], [0, 8], 'X9')}}}".encode(), bytes(8)
)


@bad("models", "safetensors: one bit flipped in a weight")
def _(folder: Path) -> None:
    path = folder / "network.safetensors"
    write_checkpoint(path, _network())
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    read_tensors(path)


# -- masks -------------------------------------------------------------------------------------


@bad("masks", "a mask of numbers")
def _(folder: Path) -> None:
    files.write_npz(folder / "masks.npz", {"fc.weight": np.ones((2, 2))})
    read_masks(folder / "masks.npz")


@bad("masks", "a mask file that does not exist")
def _(folder: Path) -> None:
    read_masks(folder / "masks.npz")


@bad("masks", "a mask file that lacks a parameter it lists")
def _(folder: Path) -> None:
    files.write_npz(folder / "masks.npz", {"a": np.ones(2, bool)}, {"parameters": ["a", "b"]})
    read_masks(folder / "masks.npz")


@bad("masks", "a mask of another shape")
def _(folder: Path) -> None:
    model = _network()
    name = next(name for name, _ in model.named_parameters() if name.endswith("weight"))
    apply_masks(model, {name: torch.ones(2, 2, dtype=torch.bool)})


@bad("masks", "a mask for a parameter that the model lacks")
def _(folder: Path) -> None:
    apply_masks(_network(), {"conv9.weight": torch.ones(2, 2, dtype=torch.bool)})


@bad("masks", "a mask file cut off")
def _(folder: Path) -> None:
    write_masks(folder / "masks.npz", {"a": torch.ones(9, 9, dtype=torch.bool)}, 0.5)
    data = (folder / "masks.npz").read_bytes()
    (folder / "masks.npz").write_bytes(data[: len(data) // 2])
    read_masks(folder / "masks.npz")


def _prune(what: str, name: str, sparsity: float, **options: Any) -> None:
    def feed(folder: Path) -> None:
        batches = [(torch.zeros(4, 1, 8, 8), torch.zeros(4, dtype=torch.int64))]
        prune(name, _network(), batches, sparsity, **options)

    CASES.append(BadInput("masks", what, feed))


_prune("an unknown pruner", "magnitud", 0.5)
_prune("a sparsity of 1", "magnitude", 1.0)
_prune("a sparsity below 0", "magnitude", -0.1)
_prune("a sparsity that is no number", "magnitude", float("nan"))
_prune("an option that the pruner lacks", "magnitude", 0.5, epochs=3)


# -- trees -------------------------------------------------------------------------------------


def _newick(what: str, text: str) -> None:
    CASES.append(BadInput("trees", what, lambda folder: parse_newick(text)))


_newick("`((a,b),c`", "((a,b),c")
_newick("`((a,b),c));`", "((a,b),c));")
_newick("`(a,a);`", "(a,a);")
_newick("`(a,);`", "(a,);")
_newick("`(a b,c);`", "(a b,c);")
_newick("`('a,b);`", "('a,b);")
_newick("`(a[note,b);`", "(a[note,b);")
_newick("`(a:long,b);`", "(a:long,b);")
_newick("`(a);`", "(a);")
_newick("an empty text", "")
_newick("two trees", "(a,b);(a,c);")
_newick("a million open brackets", "(" * 1_000_000)


@bad("trees", "a file that does not exist, its name misspelt")
def _(folder: Path) -> None:
    (folder / "shapes.nwk").write_text("(circle,(square,star));")
    load_truth(folder / "shaeps.nwk", _CLASSES)


@bad("trees", "leaves that are not the classes")
def _(folder: Path) -> None:
    (folder / "shapes.nwk").write_text("((circle,squares),star,oval);")
    load_truth(folder / "shapes.nwk", _CLASSES)


@bad("trees", "a tree file that is no text")
def _(folder: Path) -> None:
    (folder / "shapes.nwk").write_bytes(b"\xff\xfe\x00(")
    load_truth(folder / "shapes.nwk", _CLASSES)


# -- files -------------------------------------------------------------------------------------


def _npy(header: str, content: bytes = b"") -> bytes:
    text = header.encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + content


def _archive(path: Path, entries: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(f"{name}.npy", content)


def _npz(what: str, content: bytes) -> None:
    def feed(folder: Path) -> None:
        _archive(folder / "graph.npz", {"a": content})
        files.read_npz(folder / "graph.npz")

    CASES.append(BadInput("files", what, feed))


_F8 = "{'descr': '<f8', 'fortran_order': False, 'shape': %s, }"
_npz("NPZ: an array of 10^12 values in 8 bytes", _npy(_F8 % "(1000000000000,)", bytes(8)))
_npz("NPZ: a shape below 0", _npy(_F8 % "(-1,)", bytes(8)))
_npz("NPZ: more bytes than the shape has", _npy(_F8 % "(1,)", bytes(16)))
_npz("NPZ: code instead of a header", _npy("__import__('os').system('true')"))
_npz("NPZ: no array inside", b"hello")


@bad("files", "NPZ: pickled objects")
def _(folder: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    _archive(folder / "graph.npz", {"a": buffer.getvalue()})
    files.read_npz(folder / "graph.npz")


@bad("files", "NPZ: a bomb that claims a petabyte")
def _(folder: Path) -> None:
    path = folder / "graph.npz"
    _archive(path, {"a": _npy(_F8 % "(1,)", bytes(8))})
    data = bytearray(path.read_bytes())
    # The size in the central directory, in an extra field of ZIP's 64-bit extension.
    place = data.index(b"PK\x01\x02")
    extra = struct.pack("<HHQ", 1, 8, 10**15)
    data[place + 24 : place + 28] = b"\xff" * 4
    data[place + 30 : place + 32] = struct.pack("<H", len(extra))
    name = place + 46 + len("a.npy")
    data[name:name] = extra
    end = data.index(b"PK\x05\x06")
    size = struct.unpack("<I", data[end + 12 : end + 16])[0] + len(extra)
    data[end + 12 : end + 16] = struct.pack("<I", size)
    path.write_bytes(data)
    files.read_npz(path)


@bad("files", "NPZ: one bit flipped")
def _(folder: Path) -> None:
    path = folder / "graph.npz"
    files.write_npz(path, {"a": np.arange(1000.0)}, compress=False)
    data = bytearray(path.read_bytes())
    data[4000] ^= 1
    path.write_bytes(data)
    files.read_npz(path)


@bad("files", "NPZ: an empty file")
def _(folder: Path) -> None:
    (folder / "graph.npz").write_bytes(b"")
    files.read_npz(folder / "graph.npz")


@bad("files", "NPZ: a folder")
def _(folder: Path) -> None:
    (folder / "graph.npz").mkdir()
    files.read_npz(folder / "graph.npz")


@bad("files", "a co-activation graph without weights")
def _(folder: Path) -> None:
    files.write_npz(folder / "graph.npz", {"indptr": np.zeros(3)})
    read_coactivation(folder / "graph.npz")


@bad("files", "masks where a readout should be")
def _(folder: Path) -> None:
    write_masks(folder / "masks.npz", {"a": torch.ones(2, 2, dtype=torch.bool)}, 0.5)
    read_readout(folder / "masks.npz")


@bad("files", "masks where an encoded graph should be")
def _(folder: Path) -> None:
    write_masks(folder / "masks.npz", {"a": torch.ones(2, 2, dtype=torch.bool)}, 0.5)
    read_layer_graph(folder / "masks.npz")


def _graphml(what: str, text: str) -> None:
    def feed(folder: Path) -> None:
        (folder / "graph.graphml").write_text(text)
        read_graphml(folder / "graph.graphml")

    CASES.append(BadInput("files", what, feed))


_LAUGHS = "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 10))
_graphml(
    "GraphML: entities that expand a billion times",
    f'<!DOCTYPE g [<!ENTITY a0 "ha">{_LAUGHS}]><graphml>&a9;</graphml>',
)
_graphml(
    "GraphML: an entity that names a file",
    '<!DOCTYPE g [<!ENTITY a SYSTEM "file:///etc/passwd">]><graphml>&a;</graphml>',
)
_graphml("GraphML: not closed", "<graphml><graph>")
_graphml("GraphML: nested 100,000 deep", "<a>" * 100_000 + "</a>" * 100_000)
_graphml("GraphML: an unknown encoding", '<?xml version="1.0" encoding="foo-8"?><graphml/>')


def _json(what: str, text: str) -> None:
    def feed(folder: Path) -> None:
        (folder / "seed0.json").write_text(text)
        files.read_json(folder / "seed0.json")

    CASES.append(BadInput("files", what, feed))


_json("JSON: cut off", '{"accuracy": 0.')
_json("JSON: nested 100,000 deep", "[" * 100_000)


@bad("files", "JSON: a number changed by hand")
def _(folder: Path) -> None:
    path = folder / "seed0.json"
    files.write_json(path, {"accuracy": 0.91})
    path.write_text(path.read_text().replace("0.91", "0.99"))
    files.read_json(path)


@bad("files", "a table changed by hand")
def _(folder: Path) -> None:
    import pandas as pd

    path = folder / "rf.csv"
    files.write_table(path, pd.DataFrame({"rf": [4]}), {"seed": [0]})
    path.write_text(path.read_text().replace("4\n", "2\n"))
    files.read_table(path)


@bad("files", "a table that is empty")
def _(folder: Path) -> None:
    (folder / "rf.csv").write_text("")
    files.read_table(folder / "rf.csv")


@bad("files", "a table that does not exist")
def _(folder: Path) -> None:
    files.read_table(folder / "rf.csv")
