from __future__ import annotations

import os

import pytest

from espalier.errors import DataError
from espalier.jobs import job


@pytest.fixture(autouse=True)
def environment():
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def test_log_threads_and_duration(tmp_path, capsys):
    import sys

    log = tmp_path / "deep/a.log"
    with job(str(log), 1):
        print("epoch 1", file=sys.stderr)
        assert os.environ["OMP_NUM_THREADS"] == "1"
    assert "epoch 1\n" in log.read_text() and "done in" in log.read_text()
    assert capsys.readouterr().err == "epoch 1\n"


def test_an_expected_error_is_one_line(tmp_path):
    with pytest.raises(SystemExit) as stop, job(str(tmp_path / "a.log"), 1):
        raise DataError("images.npz is not readable; delete it")
    assert stop.value.code == 1
    assert (tmp_path / "a.log").read_text() == "error: images.npz is not readable; delete it\n"


def test_an_unexpected_error_leaves_its_traceback(tmp_path):
    with pytest.raises(SystemExit), job(str(tmp_path / "a.log"), 1):
        raise ZeroDivisionError("oh")
    assert "Traceback" in (tmp_path / "a.log").read_text()
