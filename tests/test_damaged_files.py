"""Any byte of a result may be wrong: a reader says so, or returns what was written."""

from __future__ import annotations

import json
import os
import random

import numpy as np
import pandas as pd
import pytest
import torch

from espalier import files
from espalier.errors import DamagedFileError, EspalierError
from espalier.jobs import job
from espalier.training.checkpoints import read_tensors, write_tensors

ARRAYS = {
    "weights": np.random.default_rng(0).normal(size=(20, 5)),
    "mask": np.random.default_rng(1).random((30, 30)) < 0.5,
    "names": np.array(["circle", "square"]),
    "order": np.asfortranarray(np.arange(12).reshape(3, 4)),
    "none": np.zeros((0, 3)),
    "one": np.float32(2.5),
}
TABLE = pd.DataFrame({"dataset": ["digits", "a,b"], "rf": [0.5, 4.0]})
VALUES = {"accuracy": 0.91, "epochs": [1, 2], "note": "é", "none": None}
TENSORS = {"conv.weight": torch.arange(24.0).reshape(2, 3, 4), "bias": torch.ones(3)}
METADATA = {"model": "small_cnn", "seed": "0"}


def same_arrays(read) -> bool:
    arrays, metadata = read
    return metadata == METADATA and all(
        arrays[name].dtype == np.asarray(value).dtype and np.array_equal(arrays[name], value)
        for name, value in ARRAYS.items()
    )


def same_tensors(read) -> bool:
    tensors, metadata = read
    return metadata == METADATA and all(
        torch.equal(tensors[name], value) for name, value in TENSORS.items()
    )


def same_table(read) -> bool:
    return read.equals(TABLE) and read.attrs["provenance"] == METADATA


FORMATS = {
    "compressed.npz": (
        lambda path: files.write_npz(path, ARRAYS, METADATA),
        files.read_npz,
        same_arrays,
    ),
    "stored.npz": (
        lambda path: files.write_npz(path, ARRAYS, METADATA, compress=False),
        files.read_npz,
        same_arrays,
    ),
    "network.safetensors": (
        lambda path: write_tensors(path, TENSORS, METADATA),
        read_tensors,
        same_tensors,
    ),
    "seed0.json": (
        lambda path: files.write_json(path, VALUES),
        files.read_json,
        lambda read: read == VALUES,
    ),
    "rf.csv": (
        lambda path: files.write_table(path, TABLE, METADATA),
        files.read_table,
        same_table,
    ),
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_changed_byte_is_noticed_or_makes_no_difference(tmp_path, name):
    write, read, same = FORMATS[name]
    path = tmp_path / name
    write(path)
    assert same(read(path))
    whole = path.read_bytes()
    rng = random.Random(0)
    noticed = 0
    # Without its name the digest is not found, and the file is read like one from elsewhere.
    name_of_digest = whole.find(b"content_digest")
    for _ in range(400):
        place = rng.randrange(len(whole))
        if name_of_digest <= place < name_of_digest + len("content_digest"):
            continue
        damaged = bytearray(whole)
        damaged[place] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        try:
            unharmed = same(read(path))
        except EspalierError as error:
            assert name in str(error)
            noticed += 1
        else:
            assert unharmed, f"byte {place} was changed unnoticed: {whole[place - 20 : place + 20]}"
    assert noticed > 200


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_cut_off_is_noticed(tmp_path, name):
    write, read, _ = FORMATS[name]
    path = tmp_path / name
    write(path)
    whole = path.read_bytes()
    for length in sorted({*range(0, len(whole) - 2, max(1, len(whole) // 100)), len(whole) - 2}):
        path.write_bytes(whole[:length])
        with pytest.raises(EspalierError, match=name):
            read(path)


def test_a_provenance_changed_by_hand_is_noticed(tmp_path):
    """The first line of a table counts as content."""
    files.write_table(tmp_path / "rf.csv", TABLE, {"seed": [0]})
    text = (tmp_path / "rf.csv").read_text()
    (tmp_path / "rf.csv").write_text(text.replace('"seed": [0]', '"seed": [1]'))
    with pytest.raises(DamagedFileError, match=r"rf\.csv is not as it was written"):
        files.read_table(tmp_path / "rf.csv")


def test_files_without_a_digest_are_read(tmp_path):
    """Those of an earlier version, or from elsewhere."""
    (tmp_path / "a.json").write_text(json.dumps({"b": 1}))
    assert files.read_json(tmp_path / "a.json") == {"b": 1}
    (tmp_path / "a.csv").write_text("b\n1\n")
    assert files.read_table(tmp_path / "a.csv")["b"].tolist() == [1]
    np.savez(tmp_path / "a.npz", b=np.arange(3))
    assert files.read_npz(tmp_path / "a.npz")[0]["b"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("path", ["results/masks/a.npz", "resources/datasets/a.npz"])
def test_a_job_moves_a_damaged_result_aside(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(variable, os.environ.get(variable, "1"))
    monkeypatch.setenv("NUMEXPR_NUM_THREADS", "1")
    for name in (path, "mine.npz"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"PK")
        with pytest.raises(SystemExit), job("logs/job.log", 1):
            files.read_npz(name)
        assert (tmp_path / "logs/job.log").read_text().startswith(f"error: {name} is not")
    log = (tmp_path / "logs/job.log").read_text()
    assert "moved" not in log and (tmp_path / "mine.npz").exists(), "a file of the user's stays"
    assert not (tmp_path / path).exists()
    assert (tmp_path / f"{path}.damaged").read_bytes() == b"PK"


def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path):
    dead = 2**22 + 1  # above the kernel's largest process number
    left = tmp_path / f".a.json.{dead}.tmp"
    other, running = tmp_path / f".b.json.{dead}.tmp", tmp_path / ".a.json.1.tmp"
    for path in (left, other, running):
        path.write_text("{")
    files.write_json(tmp_path / "a.json", {})
    assert not left.exists() and other.exists() and running.exists()
