"""Where the published tables are; nothing heavy is imported, so that a workflow can ask."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

_INSIDE = ("graph_metrics", "ramanunjan_results")


def find_published(folder: str | os.PathLike[str], mirrors: Iterable[str] = ()) -> Path | None:
    """Return the first folder with the published tables, or None.

    Args:
        folder: a path, or the name of a folder inside a mirror.
        mirrors: folders; what is no folder (a URL) is passed over.
    """
    for place in (Path(folder), *(Path(mirror) / folder for mirror in mirrors)):
        if all((place / part).is_dir() for part in _INSIDE):
            return place
    return None


def published_files(
    folder: str | os.PathLike[str], mirrors: Iterable[str] = ()
) -> tuple[list[str], str]:
    """Return the CSV files of the published tables, sorted, and "".

    Where there are none the list is empty, and the string says what to do.
    """
    mirrors = list(mirrors)
    found = find_published(folder, mirrors)
    if found is None:
        places = ", ".join([str(folder), *(str(Path(mirror) / folder) for mirror in mirrors)])
        return [], (
            f"the published tables are in none of {places}. Take the repository named in the paper "
            f"(eliacunegatti/mge-snn), and put its folders {' and '.join(_INSIDE)} into one of "
            "these places, or set prediction.published to the folder that holds them"
        )
    paths = [path for part in _INSIDE for path in (found / part).rglob("*.csv*")]
    return sorted(str(path) for path in paths if path.is_file()), ""


def folder_of(files: Iterable[str | os.PathLike[str]]) -> Path:
    """Return the folder of the published tables from its files, as `published_files` lists them."""
    path = Path(next(iter(files)))
    return next(parent for parent in path.parents if parent.name in _INSIDE).parent
