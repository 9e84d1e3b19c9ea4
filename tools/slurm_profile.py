"""Bring `set-resources` of profiles/slurm/config.yaml up to date with the rules.

Every rule is listed with the memory and the time that it asks for, times the attempt.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

from espalier.files import write_text

ROOT = Path(__file__).resolve().parent.parent
PROFILE = ROOT / "profiles/slurm/config.yaml"
# MB and minutes: what a job that was killed for may have more of when it is submitted again.
KEYS = ("mem_mb", "runtime")


def needs_of_rules(root: Path) -> dict[str, dict[str, int]]:
    """Return mem_mb and runtime of every rule by name.

    A rule that uses another one has those of that one where it does not say them itself.
    """
    needs: dict[str, dict[str, int]] = {}
    for path in sorted((root / "workflow/rules").glob("*.smk")):
        for part in re.split(r"^(?=rule |use rule )", path.read_text(), flags=re.MULTILINE)[1:]:
            used = re.match(r"use rule (\w+) as (\w+) with", part)
            named = re.match(r"rule (\w+):", part)
            if used:
                needs[used[2]] = {**needs[used[1]], **_said(part)}
            elif named:
                said = needs[named[1]] = _said(part)
                for key in KEYS:
                    if key not in said:
                        raise SystemExit(f"{path}: the rule {named[1]} says no {key}")
    return needs


def _said(rule: str) -> dict[str, int]:
    """Return what the text of a rule says: a whole number, or a product such as 24 * 60."""
    found = {key: re.search(rf"\b{key}=(\d+(?: \* \d+)*),", rule) for key in KEYS}
    return {
        key: math.prod(int(factor) for factor in match[1].split(" * "))
        for key, match in found.items()
        if match
    }


def updated(profile: str, needs: dict[str, dict[str, int]]) -> str:
    """Return the text of the profile with the memory and the time of every rule."""
    lines = [profile[: profile.index("\nset-resources:\n")], "set-resources:"]
    for name, said in needs.items():
        lines.append(f"  {name}:")
        lines += [f"    {key}: {said[key]} * attempt" for key in KEYS]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    write_text(PROFILE, updated(PROFILE.read_text(), needs_of_rules(ROOT)))
