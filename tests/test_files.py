from __future__ import annotations

import errno
import hashlib
import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from espalier import files
from espalier.errors import DataError, EspalierError


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_npz_returns_what_was_written(tmp_path):
    arrays = {
        "x": np.arange(6).reshape(2, 3),
        "names": np.array(["a", "bé"]),
        "m": np.eye(2, dtype=bool),
    }
    files.write_npz(tmp_path / "a.npz", arrays, {"seed": 3, "share": np.float64(0.5), "none": None})
    read, metadata = files.read_npz(tmp_path / "a.npz")
    assert metadata == {"seed": 3, "share": 0.5, "none": None}
    assert read.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name], array)
        assert read[name].dtype == array.dtype


@pytest.mark.parametrize("compress", [True, False])
def test_equal_content_is_equal_bytes(tmp_path, monkeypatch, compress):
    arrays = {"x": np.linspace(0, 1, 1000)}
    files.write_npz(tmp_path / "a.npz", arrays, {"b": 1, "a": 2}, compress)
    monkeypatch.setattr(time, "time", lambda: 2e9)
    files.write_npz(tmp_path / "b.npz", arrays, {"a": 2, "b": 1}, compress)
    assert sha256(tmp_path / "a.npz") == sha256(tmp_path / "b.npz")


def test_a_damaged_npz_names_its_path(tmp_path):
    path = tmp_path / "graph.npz"
    files.write_npz(path, {"x": np.arange(1000)})
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match=r"graph\.npz is not a readable NPZ"):
        files.read_npz(path)
    with pytest.raises(DataError, match="does not exist"):
        files.read_npz(tmp_path / "other.npz")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "table.csv"
    files.write_text(path, "old")
    with pytest.raises(RuntimeError), files.atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]


def test_a_full_disk_names_the_file_and_leaves_nothing(tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(EspalierError, match=r"rf\.csv: no space left on the disk"):
        files.write_text(tmp_path / "rf.csv", "x")
    assert list(tmp_path.iterdir()) == []


def test_a_truly_full_disk(tmp_path):
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    target = tmp_path / "x.txt"
    with (
        pytest.raises(EspalierError, match="no space left"),
        files.atomic_path(target) as temporary,
    ):
        temporary.symlink_to("/dev/full")
        temporary.write_text("x")
    assert not target.exists()


def test_tables_carry_their_provenance(tmp_path):
    table = pd.DataFrame({"dataset": ["a#b", "c"], "rf": [1.5, np.nan]})
    files.write_table(tmp_path / "t.csv", table, {"seed": [0, 1]})
    read = files.read_table(tmp_path / "t.csv")
    pd.testing.assert_frame_equal(read, table, check_like=True)
    assert read.attrs["provenance"] == {"seed": [0, 1]}
    first = (tmp_path / "t.csv").read_text().splitlines()[0]
    assert json.loads(first.removeprefix("# "))["seed"] == [0, 1]


def test_json_has_no_nan(tmp_path):
    files.write_json(tmp_path / "a.json", {"x": float("nan"), "y": np.arange(2), "z": np.int64(1)})
    assert files.read_json(tmp_path / "a.json") == {"x": None, "y": [0, 1], "z": 1}
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(DataError, match=r"a\.json is not valid JSON"):
        files.read_json(tmp_path / "a.json")
