"""Write docs/bad_input.md: every case of tests/workflow/bad_inputs.py and what is said to it.

With --print the page is printed instead.
"""

from __future__ import annotations

import importlib
import re
import sys
import tempfile
from collections import Counter
from pathlib import Path

from espalier.errors import EspalierError
from espalier.files import write_text

ROOT = Path(__file__).resolve().parent.parent
_LONGEST = 240

_HEAD = """\
# Bad input

What the library says to {total} bad inputs ({counts}).

Every message is that of an `EspalierError`, which a job of the workflow prints alone, without a
traceback. None of these inputs leaves a file in `results/`, and none runs code. The page is made by
`tools/bad_input_table.py` from `tests/workflow/bad_inputs.py`, and a test compares the two.
"""


def said(feed) -> str:
    """Return the message, with paths as seen from the folder of the input."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            feed(Path(folder))
        except EspalierError as error:
            text = str(error).replace(f"{folder}/", "")
        else:
            raise AssertionError("no error was raised")
    lines = [line.strip() for line in text.splitlines()]
    joined = " ".join(lines).replace("the configuration is not usable: ", "")
    # The list of known names grows with every new one.
    joined = re.sub(r" Known: .*", " Known: …", joined)
    return joined if len(joined) <= _LONGEST else joined[: _LONGEST - 1] + "…"


def cell(text: str) -> str:
    """Return text as it stands in a table of Markdown."""
    for mark in "\\|<>*_[]":
        text = text.replace(mark, f"\\{mark}")
    return text


def page() -> str:
    """Return the page; every case is fed to the library anew."""
    sys.path.insert(0, str(ROOT / "tests/workflow"))
    cases = importlib.import_module("bad_inputs").CASES
    counts = Counter(case.group for case in cases)
    shares = ", ".join(f"{count} {group}" for group, count in counts.items())
    lines = [_HEAD.format(total=len(cases), counts=shares)]
    for group in counts:
        lines += [f"## {group.capitalize()}", "", "| input | message |", "|---|---|"]
        for case in cases:
            if case.group == group:
                what = case.what if case.what.startswith("`") else cell(case.what)
                lines.append(f"| {what} | {cell(said(case.feed))} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    if sys.argv[1:] == ["--print"]:
        print(page(), end="")
    else:
        write_text(ROOT / "docs/bad_input.md", page())
