"""The guide's pruner, taken from its page and used from outside the package."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import torch
from tiny_cnn import fixture_batch, tiny_cnn

from espalier.errors import ConfigurationError
from espalier.pruning import acts, names, prune, scores
from espalier.pruning.registry import module_of, option_names
from espalier.pruning.selection import keep_count


@pytest.fixture(scope="session")
def code(root: Path) -> str:
    page = (root / "docs" / "adding_a_pruner.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    complete = [block for block in blocks if "WHEN =" in block]
    assert len(complete) == 1
    return complete[0]


@pytest.fixture
def pruner(tmp_path: Path, code: str) -> str:
    path = tmp_path / "my_pruner.py"
    path.write_text(code, encoding="utf-8")
    return str(path)


def test_the_page_keeps_its_promise_of_length(code: str) -> None:
    assert len([line for line in code.splitlines() if line.strip()]) <= 35


@pytest.mark.parametrize("sparsity", [0.0, 0.6, 0.9, 0.98])
def test_it_prunes_exactly(pruner: str, sparsity: float) -> None:
    masks = prune(pruner, tiny_cnn(), [fixture_batch()], sparsity, seed=1)
    assert list(masks) == ["conv1.weight", "conv2.weight", "fc.weight"]
    assert sum(int(mask.count_nonzero()) for mask in masks.values()) == keep_count(1448, sparsity)
    again = prune(pruner, tiny_cnn(), [fixture_batch()], sparsity, seed=1)
    assert all(torch.equal(masks[name], again[name]) for name in masks)
    other = prune(pruner, tiny_cnn(), [fixture_batch()], sparsity, seed=2)
    assert sparsity == 0 or any(not torch.equal(masks[name], other[name]) for name in masks)


def test_its_option_does_what_the_page_says(pruner: str) -> None:
    plain = scores(pruner, tiny_cnn(), (), noise=0.0)["conv2.weight"]
    channels = tiny_cnn().conv2.weight.detach().abs().mean(dim=(0, 2, 3))
    torch.testing.assert_close(plain[3, :, 1, 2], channels)
    masks = [prune(pruner, tiny_cnn(), (), 0.5, seed=seed, noise=0.0) for seed in (1, 2)]
    assert all(torch.equal(masks[0][name], masks[1][name]) for name in masks[0])
    with pytest.raises(ConfigurationError, match="noise is -1"):
        prune(pruner, tiny_cnn(), (), 0.5, noise=-1.0)


def test_the_registry_knows_it_by_its_file(pruner: str) -> None:
    assert acts(pruner) == "before"
    assert option_names(pruner) == ("noise",)
    assert module_of(pruner) == str(Path(pruner).resolve())
    assert pruner not in names()
    with pytest.raises(ConfigurationError, match=r"option of pruner .*Did you mean 'noise'"):
        prune(pruner, tiny_cnn(), (), 0.5, nois=0.1)


def test_by_import_path_too(pruner: str, monkeypatch: pytest.MonkeyPatch) -> None:
    package = Path(pruner).parent / "my_pruners"
    package.mkdir()
    (package / "__init__.py").touch()
    os.link(pruner, package / "random_channels.py")
    monkeypatch.syspath_prepend(package.parent)
    by_path = prune("my_pruners.random_channels", tiny_cnn(), (), 0.9, seed=3)
    by_file = prune(pruner, tiny_cnn(), (), 0.9, seed=3)
    assert all(torch.equal(by_path[name], by_file[name]) for name in by_file)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('WHEN = "before"', "", r"my_pruner.py is not a pruner: it must define WHEN, a dataclass"),
        ('"before"', '"earlier"', r"WHEN is 'earlier'; use 'before', 'during' or 'after'"),
        ("class Options", "class Settings", r"is not a pruner: it must define .* Options"),
        ("def prune(", "def cut(", r"is not a pruner: .* function prune\(request, sparsity"),
    ],
)
def test_what_is_missing_is_named(
    tmp_path: Path, code: str, old: str, new: str, message: str
) -> None:
    path = tmp_path / "my_pruner.py"
    assert old in code
    path.write_text(code.replace(old, new), encoding="utf-8")
    with pytest.raises(ConfigurationError, match=message):
        acts(str(path))
    with pytest.raises(ConfigurationError, match=message):
        prune(str(path), tiny_cnn(), (), 0.5)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"my_prunner.py does not exist"):
        prune(str(tmp_path / "my_prunner.py"), tiny_cnn(), (), 0.5)
