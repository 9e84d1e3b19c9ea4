"""A stage depends only on the stages to its left: the arrows of the architecture."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

# From left to right; a package imports from those before it.
ORDER = [
    ("errors", "lazy", "seeds", "networks", "files", "extensions", "provenance", "devices", "jobs"),
    ("data",),
    ("models",),
    ("pruning",),
    ("training",),
    ("graphs",),
    ("topology",),
    ("hierarchy",),
    ("sculpting",),
    ("hubs",),
    ("prediction",),
    ("config",),
    ("figures",),
    ("cli", "__main__"),
]
RANK = {name: rank for rank, names in enumerate(ORDER) for name in names}
# Job functions read and write files of any stage before their own, training included.
JOBS = "stages.py"
HEAVY = ("torch", "sklearn", "matplotlib", "numba", "xgboost", "shap", "igraph", "graph_tool")


def imported(path):
    """Packages of espalier that a file imports, imports inside functions included."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "espalier":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("espalier."):
            yield node.module.split(".")[1]
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("espalier."):
                    yield alias.name.split(".")[1]


def arrows(root):
    source = root / "src/espalier"
    for path in sorted(source.rglob("*.py")):
        package = path.relative_to(source).parts[0].removesuffix(".py")
        if package != "__init__":
            for name in imported(path):
                if name in RANK:
                    yield path, package, name


def test_every_package_has_its_place(root):
    found = {
        path.stem for path in (root / "src/espalier").iterdir() if not path.name.startswith("_")
    }
    assert found - {"py"} <= set(RANK), "put the new package into ORDER"


def test_arrows_point_to_the_left(root):
    wrong = [
        f"{path.relative_to(root)} imports espalier.{name}"
        for path, package, name in arrows(root)
        if path.name != JOBS and RANK[name] > RANK[package]
    ]
    assert not wrong


def test_job_functions_import_neither_configuration_nor_figures(root):
    wrong = [
        f"{path.relative_to(root)} imports espalier.{name}"
        for path, _, name in arrows(root)
        if path.name == JOBS and RANK[name] >= RANK["config"]
    ]
    assert not wrong


def test_only_job_functions_and_the_command_line_import_job_functions(root):
    allowed = {JOBS, "cli.py"}
    for path in (root / "src/espalier").rglob("*.py"):
        if path.name not in allowed and "cli" not in path.parts:
            text = path.read_text()
            assert ".stages import" not in text, path


@pytest.mark.parametrize("package", sorted(set(RANK) - {"__main__", "devices"}))
def test_importing_a_package_loads_nothing_heavy(package):
    code = f"import sys, espalier.{package}; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert not {name.split(".")[0] for name in loaded.stdout.split()} & set(HEAVY)
