"""A stage depends only on the stages to its left: the arrows of the architecture."""

from __future__ import annotations

import ast
import importlib
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


def lazy_packages(root):
    source = root / "src/espalier"
    for path in sorted(source.glob("*/__init__.py")):
        text = path.read_text()
        if "= lazily(" in text and "if TYPE_CHECKING" in text:
            yield f"espalier.{path.parent.name}", ast.parse(text)


def homes_for_type_checkers(package, tree):
    """Return public names and modules of the imports under `if TYPE_CHECKING`."""
    blocks = [node for node in tree.body if isinstance(node, ast.If)]
    return {
        alias.asname or alias.name: node.module.removeprefix(f"{package}.")
        for block in blocks
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def test_names_looked_up_late_are_those_that_type_checkers_see(root):
    packages = dict(lazy_packages(root))
    assert {"espalier.hubs", "espalier.sculpting"} <= set(packages)
    for package, tree in packages.items():
        module = importlib.import_module(package)
        typed = homes_for_type_checkers(package, tree)
        assert typed == module._HOMES, package
        assert set(module._HOMES) <= set(module.__all__), package
        assert len(set(module.__all__)) == len(module.__all__), package
