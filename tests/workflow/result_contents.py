"""What an experiment made, for comparing two runs of it byte by byte."""

from __future__ import annotations

import json
from pathlib import Path


def result_contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file below results/ and resources/.

    Of the metrics of training, `seconds` is left out: it is the one thing that two equal runs may
    differ in, and no table but the log shows it.
    """
    return {
        str(path.relative_to(folder)): _content(path)
        for part in ("results", "resources")
        for path in sorted((folder / part).rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def _content(path: Path) -> bytes:
    if "metrics" not in path.parts:
        return path.read_bytes()
    values = json.loads(path.read_text())
    kept = {name: value for name, value in values.items() if name not in _OF_THE_RUN}
    return json.dumps(kept, sort_keys=True).encode()


_OF_THE_RUN = ("seconds", "content_digest")
