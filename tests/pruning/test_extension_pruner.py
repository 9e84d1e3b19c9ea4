"""The guide's pruner, taken from its page and used from outside the package."""

from __future__ import annotations

import os
import re
import textwrap
from pathlib import Path

import pytest
import torch
import yaml
from tiny_cnn import fixture_batch, tiny_cnn

from espalier import config
from espalier.errors import ConfigurationError
from espalier.pruning import acts, names, prune, scores
from espalier.pruning.registry import module_of, option_names
from espalier.pruning.selection import keep_count


@pytest.fixture(scope="session")
def page(root: Path) -> str:
    return (root / "docs" / "adding_a_pruner.md").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def code(page: str) -> str:
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


def test_the_page_s_library_call(
    page: str, pruner: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path(pruner).rename("folder/my_pruner.py")
    calls = [b for b in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "masks =" in b]
    names = {"model": tiny_cnn(), "batches": [fixture_batch()]}
    exec(calls[0], names)
    masks = names["masks"]
    assert isinstance(masks, dict)
    assert sum(int(mask.count_nonzero()) for mask in masks.values()) == keep_count(1448, 0.9)


def test_the_page_s_configuration(
    page: str, pruner: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path(pruner).rename("folder/my_pruner.py")
    [block] = re.findall(r"((?:^    .*\n)*^    pruners: .*\n(?:^    .*\n)*)", page, re.MULTILINE)
    values = yaml.safe_load(textwrap.dedent(block))
    settings = config.load(values)
    assert settings.algorithm("my_pruner") == "folder/my_pruner.py"
    assert settings.acts("my_pruner") == "before"
    section = settings.pruning_of(settings.datasets[0], settings.models[0], "my_pruner")
    assert section.options == {"noise": 0.2}
    values["pruning_overrides"]["my_pruner"]["options"] = {"nois": 0.2}
    with pytest.raises(ConfigurationError, match="Did you mean 'noise'"):
        config.load(values)


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
