"""The page on pruners names every pruner, option and rule that there is, and its code runs."""

from __future__ import annotations

import ast
import dataclasses
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import yaml

from espalier.config import load as load_settings
from espalier.errors import ConfigurationError
from espalier.pruning import acts, names
from espalier.pruning.registry import load
from espalier.pruning.selection import RULES

Row = list[str]


def rows(text: str) -> list[Row]:
    """Return the cells of every row of every Markdown table, rulers left out."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if set(row[0]) - set("-:")]


def section(text: str, title: str) -> str:
    """Return what stands under a heading of second level."""
    parts = re.split(r"^## ", text, flags=re.MULTILINE)
    found = [part for part in parts if part.startswith(f"{title}\n")]
    assert len(found) == 1
    return found[0]


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def options_of(module: ModuleType) -> dict[str, Any]:
    return dataclasses.asdict(module.Options())


@pytest.fixture(scope="session")
def page(root: Path) -> str:
    return (root / "docs" / "pruners.md").read_text(encoding="utf-8")


def test_the_catalogue_has_every_pruner_once(page: str) -> None:
    catalogue = {row[0].strip("`"): row[1] for row in rows(section(page, "The catalogue"))[1:]}
    assert catalogue == {name: acts(name) for name in names()}


@pytest.mark.parametrize("when", ["before", "during", "after"])
def test_the_options_and_defaults_are_those_of_the_code(page: str, when: str) -> None:
    listed = {}
    for name, options, _ in rows(section(page, f"{when.capitalize()} training"))[1:]:
        tokens = re.findall(r"`(\w+)=([^`]*)`", options)
        listed[name.strip("`")] = dict(tokens)
    code = {
        name: {key: str(value) for key, value in options_of(load(name)).items()}
        for name in names()
        if acts(name) == when
    }
    assert listed == code


def test_the_published_calls_are_valid(page: str) -> None:
    title = "The published behaviour, by name"
    calls = [row[0].strip("`") for row in rows(section(page, title))[1:]]
    assert len(calls) > 30
    for call in calls:
        node = ast.parse(call, mode="eval").body
        assert isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        chosen = {word.arg: ast.literal_eval(word.value) for word in node.keywords}
        module = load(node.func.id)
        assert dataclasses.asdict(module.Options(**chosen)) != options_of(module), call


def test_option_values_in_the_text_are_valid(page: str) -> None:
    tokens = sorted(set(re.findall(r"`(\w+)=(\w+)`", page)))
    assert ("reinitialise", "xavier") in tokens
    for key, value in tokens:
        chosen = {key: yaml.safe_load({"None": "null"}.get(value, value))}
        assert any(_accepts(load(name), chosen) for name in names()), (key, value)


def _accepts(module: ModuleType, options: dict[str, Any]) -> bool:
    try:
        module.Options(**options)
    except (TypeError, ConfigurationError):
        return False
    return True


def test_the_counting_rules_keep_what_the_table_says(page: str) -> None:
    table = rows(section(page, "Counting rules"))
    cases = [
        (int(match[1].replace(",", "")), float(match[2]))
        for match in (re.fullmatch(r"([\d,]+) at ([\d.]+)", cell) for cell in table[0])
        if match
    ]
    assert len(cases) == 3
    listed = {row[0].strip("`"): [int(cell) for cell in row[-3:]] for row in table[1:]}
    generator = torch.Generator().manual_seed(0)
    scores = {n: torch.randperm(n, generator=generator).double() for n, _ in cases}
    assert listed == {
        name: [int(rule(scores[n], sparsity).sum()) for n, sparsity in cases]
        for name, rule in RULES.items()
    }


def test_the_sparsity_table_has_every_pruner_and_no_deviation(page: str) -> None:
    table = rows(section(page, "Requested and achieved, measured"))
    measured = {row[0].strip("`"): row[1:] for row in table[1:]}
    assert set(measured) == set(names()) - {"group_magnitude"}
    deviations = [
        re.fullmatch(r"(-?\d+) \(\d+\)", cell) for row in measured.values() for cell in row
    ]
    assert all(match and abs(int(match[1])) <= 1 for match in deviations)


def test_the_tool_prints_such_a_table(root: Path) -> None:
    tool = [sys.executable, root / "tools" / "sparsity_table.py"]
    chosen = ["--networks", "resnet8", "--width", "0.25", "--pruners", "erk", "magnitude"]
    printed = subprocess.run([*tool, *chosen], check=True, capture_output=True, text=True).stdout
    table = rows(printed)
    assert table[0] == ["pruner", "resnet8 (10 layers, 5,036 weights)"]
    assert [row[0] for row in table[1:]] == ["`erk`", "`magnitude`"]
    assert all(row[1].startswith("0 (") for row in table[1:])


def test_the_python_code_runs(page: str) -> None:
    namespace: dict[str, Any] = {"print": lambda *values: None}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for block in blocks(page, "python"):
            exec(compile(block, "docs/pruners.md", "exec"), namespace)
    before = sum(p.numel() for p in namespace["model"].parameters())
    assert 0 < sum(p.numel() for p in namespace["small"].parameters()) < before
    removed = {name: ~mask for name, mask in namespace["method"].masks.items()}
    assert all(not namespace["weights"][name][gone].any() for name, gone in removed.items())


@pytest.mark.parametrize("name", ["rigl", "snfs", "set", "dsr", "set_itop", "gradual_magnitude"])
def test_the_loop_of_ones_own_serves_every_method(page: str, name: str) -> None:
    first, *_ = blocks(page, "python")
    loop = next(block for block in blocks(page, "python") if "LiveTensors" in block)
    loop = loop.replace('"rigl"', f'"{name}"')
    loop = loop.replace("range(60)", "range(25)").replace("steps=60", "steps=25")
    namespace: dict[str, Any] = {"print": lambda *values: None}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        exec(first, namespace)
        exec(loop, namespace)
    masks = namespace["method"].masks
    kept = [sum(int(m.sum()) for m in some.values()) for some in (masks, namespace["masks"])]
    assert kept[0] == kept[1]
    for key, mask in masks.items():
        assert not namespace["weights"][key][~mask].any()
    changed = [(mask != namespace["masks"][key]).any() for key, mask in masks.items()]
    assert any(changed)


def test_the_configurations_are_valid(page: str, root: Path) -> None:
    published, example = blocks(page, "yaml")
    assert "samples_per_class" in published
    default = yaml.safe_load((root / "config" / "config.yaml").read_text(encoding="utf-8"))
    pool = yaml.safe_load(
        (root / "config" / "experiments" / "sparse_topology.yaml").read_text(encoding="utf-8")
    )
    for changes in (
        merged(pool, yaml.safe_load(published)),
        yaml.safe_load(example),
    ):
        settings = load_settings(merged(default, changes))
        for pruner in settings.pruners:
            pruning = settings.pruning_of(settings.datasets[0], settings.models[0], pruner)
            assert pruning.algorithm is not None
            load(pruning.algorithm).Options(**pruning.options)


def merged(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return values with changes, key by key, as Snakemake merges configuration files."""
    result = dict(values)
    for key, change in changes.items():
        both = isinstance(change, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], change) if both else change
    return result


def test_links_lead_somewhere(page: str, root: Path) -> None:
    headings = re.findall(r"^#+ (.*)$", page, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
    for target in re.findall(r"\]\(([^)]+)\)", page):
        if target.startswith("#"):
            assert target[1:] in anchors
        else:
            assert (root / "docs" / target).is_file(), target
    for path in re.findall(r"`(config/[\w./]+)`", page):
        assert (root / path).is_file(), path


def test_the_guide_for_new_pruners_keeps_its_promise_of_length(root: Path) -> None:
    guide = (root / "docs" / "adding_a_pruner.md").read_text(encoding="utf-8")
    complete = [block for block in blocks(guide, "python") if "WHEN =" in block]
    assert len(complete) == 1
    lines = [line for line in complete[0].splitlines() if line.strip()]
    assert len(lines) <= 35
