from __future__ import annotations

import subprocess
import sys
import types

import pytest

from espalier.data.torchvision_shim import import_torchvision
from espalier.errors import MissingDependencyError


def test_import_works_in_a_fresh_process_twice() -> None:
    code = (
        "from espalier.data.torchvision_shim import import_torchvision as get\n"
        "first, second = get(), get()\n"
        "assert first is second\n"
        "first.datasets.FashionMNIST, first.transforms.Compose, first.models.resnet18\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_a_working_torchvision_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    working = types.ModuleType("torchvision")
    monkeypatch.setitem(sys.modules, "torchvision", working)
    assert import_torchvision() is working


def test_a_missing_torchvision_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(MissingDependencyError, match=r"torchvision.*install espalier\[train\]"):
        import_torchvision()
