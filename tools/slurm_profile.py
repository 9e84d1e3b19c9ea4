"""Bring `set-resources` of profiles/slurm/config.yaml up to date with the rules.

Every rule is listed with the memory that it asks for, times the attempt.
"""

from __future__ import annotations

import re
from pathlib import Path

from espalier.files import write_text

ROOT = Path(__file__).resolve().parent.parent
PROFILE = ROOT / "profiles/slurm/config.yaml"


def memory_of_rules(root: Path) -> dict[str, int]:
    """Return mem_mb of every rule by name; a rule that uses another one may inherit it."""
    memory: dict[str, int] = {}
    for path in sorted((root / "workflow/rules").glob("*.smk")):
        for part in re.split(r"^(?=rule |use rule )", path.read_text(), flags=re.MULTILINE)[1:]:
            used = re.match(r"use rule (\w+) as (\w+) with", part)
            own = re.search(r"mem_mb=(\d+),", part)
            if used:
                memory[used[2]] = int(own[1]) if own else memory[used[1]]
            elif name := re.match(r"rule (\w+):", part):
                if own is None:
                    raise SystemExit(f"{path}: the rule {name[1]} says no mem_mb")
                memory[name[1]] = int(own[1])
    return memory


def updated(profile: str, memory: dict[str, int]) -> str:
    """Return the text of the profile with the memory of every rule."""
    head = profile[: profile.index("\nset-resources:\n")]
    lines = [f"  {name}:\n    mem_mb: {megabytes} * attempt" for name, megabytes in memory.items()]
    return "\n".join([head, "set-resources:", *lines]) + "\n"


if __name__ == "__main__":
    write_text(PROFILE, updated(PROFILE.read_text(), memory_of_rules(ROOT)))
