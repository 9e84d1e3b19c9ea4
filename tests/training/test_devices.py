from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from espalier import devices
from espalier.errors import ConfigurationError


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(devices, "_held_locks", [])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    yield
    for handle in devices._held_locks:
        handle.close()
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)


def test_each_process_gets_its_own_gpu(two_gpus: None, tmp_path: Path) -> None:
    assert devices.lock_free_gpu(tmp_path) == 0
    assert os.environ.pop("CUDA_VISIBLE_DEVICES") == "0"
    assert devices.lock_free_gpu(tmp_path) == 1
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "1"


def test_a_scheduler_s_choice_is_kept(
    two_gpus: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
    assert devices.lock_free_gpu(tmp_path) is None
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "5"
    assert list(tmp_path.iterdir()) == []


def test_waits_for_a_gpu_whose_process_ends(
    two_gpus: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    holder = (
        "import fcntl, sys, time\n"
        "handles = [open(path, 'w') for path in sys.argv[1:]]\n"
        "[fcntl.flock(handle, fcntl.LOCK_EX) for handle in handles]\n"
        "print('locked', flush=True)\n"
        "time.sleep(60)\n"
    )
    paths = [str(tmp_path / f"gpu{index}.lock") for index in range(2)]
    process = subprocess.Popen(
        [sys.executable, "-c", holder, *paths], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    killer = threading.Timer(0.3, process.kill)
    killer.start()
    began = time.monotonic()
    assert devices.lock_free_gpu(tmp_path, patience=0.05) == 0
    assert time.monotonic() - began >= 0.25
    process.wait()
    process.stdout.close()
    assert "all 2 GPUs are taken" in capsys.readouterr().err


def test_cpu_and_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    try:
        assert devices.prepare_device("cpu", threads=1) == torch.device("cpu")
        assert torch.get_num_threads() == 1
        assert torch.are_deterministic_algorithms_enabled()
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        assert devices.prepare_device("auto") == torch.device("cpu")
        with pytest.raises(ConfigurationError, match="torch sees no GPU"):
            devices.prepare_device("cuda")
        with pytest.raises(ConfigurationError, match="'auto', 'cpu' or 'cuda'"):
            devices.prepare_device("gpu")
    finally:
        torch.use_deterministic_algorithms(deterministic)
        torch.set_num_threads(threads)
