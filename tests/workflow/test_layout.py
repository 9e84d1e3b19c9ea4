"""The workflow's files keep the house rules."""

from __future__ import annotations

import ast
import itertools
import re
import tomllib

import pytest
import yaml

# Where conda-forge's name differs from PyPI's.
CONDA_NAMES = {
    "torch": "pytorch",
    "matplotlib": "matplotlib-base",
    "igraph": "python-igraph",
    "xgboost-cpu": "py-xgboost-cpu",
}


def rules(root):
    """(rule, its text, base rule or None) of every rule file."""
    for path in sorted((root / "workflow/rules").glob("*.smk")):
        parts = re.split(r"^(?=rule |use rule )", path.read_text(), flags=re.MULTILINE)
        for part in parts[1:]:
            used = re.match(r"use rule (\w+) as (\w+) with", part)
            name = used[2] if used else re.match(r"rule (\w+):", part)[1]
            yield name, part, used[1] if used else None


def test_rule_script_log_and_benchmark_share_their_name(root):
    for name, text, base in rules(root):
        if base is None:
            assert f'"../scripts/{name}.py"' in text, name
        assert f'"<logs>/{name}' in text, name
        assert "<benchmarks>" not in text or f'"<benchmarks>/{name}' in text, name
        if base is None:
            for directive in ("conda:", "threads: 1", "mem_mb=", "runtime=", "code=", "message:"):
                assert directive in text, f"{name} lacks {directive}"


def test_rule_files_hold_directives_only(root):
    for path in (root / "workflow/rules").glob("*.smk"):
        if path.name != "common.smk":
            assert not re.search(r"^(def|import|from|if|for) ", path.read_text(), re.MULTILINE)
            assert "lambda" not in path.read_text() and "run:" not in path.read_text()


def test_scripts_are_thin(root):
    scripts = sorted((root / "workflow/scripts").glob("*.py"))
    assert scripts
    for path in scripts:
        text = path.read_text()
        assert len(text.splitlines()) < 25, path.name
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom):
                assert node.module.startswith("espalier."), path.name
            if isinstance(node, ast.Import):
                assert {alias.name for alias in node.names} <= {"os", "pathlib"}, path.name


def test_the_library_never_imports_snakemake(root):
    for path in (root / "src").rglob("*.py"):
        assert not re.search(r"^\s*(import|from) snakemake", path.read_text(), re.MULTILINE), path


def pinned(root):
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    lines = [*project["dependencies"], *itertools.chain.from_iterable(extras)]
    return dict(line.split("==") for line in lines)


def test_conda_requirements_parse_and_agree_with_pyproject(root):
    rattler = pytest.importorskip("rattler")
    versions = {CONDA_NAMES.get(name, name): version for name, version in pinned(root).items()}
    files = sorted((root / "envs").glob("*.yaml"))
    assert [path.stem for path in files] == [
        "figures",
        "hierarchy",
        "prediction",
        "sbm",
        "topology",
        "train",
    ]
    for path in files:
        for requirement in yaml.safe_load(path.read_text())["dependencies"]:
            spec = rattler.MatchSpec(requirement, strict=True)
            name = spec.name.normalized
            if name in versions:
                assert spec.version.removesuffix(".*") == versions[name], f"{path.name}: {name}"
            else:
                assert name in ("python", "graph-tool-base"), f"{path.name}: {requirement}"


def test_the_lock_agrees_with_pyproject(root):
    lines = (root / "requirements.txt").read_text().splitlines()
    locked = dict(line.lower().split("==") for line in lines if not line.startswith("#"))
    for name, version in pinned(root).items():
        assert locked[name.lower()] == version


def test_every_rule_has_its_environment_file(root):
    for name, text, base in rules(root):
        for environment in re.findall(r'"\.\./\.\./(envs/\w+\.yaml)"', text):
            assert (root / environment).exists(), name
        assert base or "envs/" in text, name


def test_text_names_no_machine_and_no_registry(root):
    suspicious = re.compile(r"/work/|/root/|/home/\w|pypi\.org|files\.pythonhosted|npmjs\.org")
    kept = [".py", ".smk", ".md", ".yaml", ".toml", ".sh", ".rst", ".txt", ".cff"]
    for folder in ("src", "tests", "docs", "workflow", "config", "envs", "tools", "benchmarks"):
        for path in (root / folder).rglob("*"):
            if path.suffix in kept and path.name != "test_layout.py":
                assert not suspicious.search(path.read_text()), path
