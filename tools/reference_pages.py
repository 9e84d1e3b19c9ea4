"""A hook of mkdocs: one reference page per package, made from the docstrings of its modules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

SOURCE = Path(__file__).resolve().parent.parent / "src/espalier"
# Modules without a package of their own, on one page.
TOP = "core"


def packages() -> dict[str, list[str]]:
    """Return the public modules of each package, as dotted names."""
    found: dict[str, list[str]] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        if any(part.startswith("_") for part in parts):
            continue
        found.setdefault(parts[0] if len(parts) > 1 else TOP, []).append(".".join(parts))
    return found


def page(package: str, modules: list[str]) -> str:
    """Return the text of one reference page."""
    name = "espalier" if package == TOP else f"espalier.{package}"
    lines = [f"# {name}", ""]
    if package != TOP:
        options = "    options: {members: false, show_root_heading: false, heading_level: 2}"
        lines += [f"::: {name}", options, ""]
    for module in modules:
        lines += [f"## {module}", "", f"::: espalier.{module}"]
        lines += ["    options: {show_root_heading: false, heading_level: 3}", ""]
    return "\n".join(lines)


def on_files(files: Files, config: Any) -> Files:
    """Add the reference pages to the site."""
    for package, modules in packages().items():
        uri = f"reference/{package}.md"
        files.append(File.generated(config, uri, content=page(package, modules)))
    return files
