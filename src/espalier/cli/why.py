"""`espalier why`: what would make the workflow run again for a target, and what follows from it."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from espalier.cli.command import Command
from espalier.errors import ConfigurationError

_JOB = re.compile(r"^(?:Job \d+|localrule \w+|rule \w+): ?(?P<message>.*)$")
_REASON = re.compile(r"^\s*[Rr]eason: (?P<reason>.*)$")
_PARAMS = re.compile(r"before: (?P<before>.*?) now: (?P<now>.*?)\s*$")
_FAULT = re.compile(r"Exception|Error|error:")
_DIGEST = re.compile(r"'([0-9a-f]{16})'")


_SHOWN = 5
_FOLLOWS = "Input files updated by another job"
_MISSING = "Missing output files"
_PART = re.compile(r"; (?=[A-Z])")


@dataclass(frozen=True)
class Planned:
    """A job of a dry run: what it would do, and why."""

    message: str
    reasons: tuple[str, ...]

    @property
    def follows(self) -> bool:
        """Whether another job of the same plan is the only cause."""
        return all(reason.startswith(_FOLLOWS) for reason in self.reasons)


def planned_jobs(text: str) -> list[Planned]:
    """Return the jobs of a dry run's output."""
    jobs, message = [], ""
    for line in text.splitlines():
        if found := _JOB.match(line):
            message = found["message"]
        elif found := _REASON.match(line):
            jobs.append(Planned(message, tuple(_PART.split(found["reason"].strip()))))
    return jobs


def explained(reason: str, folder: Path) -> list[str]:
    """Return a reason in sentences, with the modules behind a change of a code digest.

    Args:
        reason: as Snakemake says it.
        folder: of the workflow, where `provenance.remember_code` keeps what digests stand for.
    """
    from espalier.provenance import changed_modules

    if reason.startswith(_FOLLOWS):
        return []
    if reason.startswith(_MISSING):
        return ["not made yet"]
    parts = _PARAMS.search(reason)
    if not parts:
        return [reason]
    before, now = parts["before"], parts["now"]
    old, new = _DIGEST.search(before), _DIGEST.search(now)
    if not old or not new:
        return [f"a parameter changed: was {before}, is {now}"]
    modules = changed_modules(old[1], new[1], folder)
    said = (
        f"its code changed: {', '.join(modules)}"
        if modules
        else f"its code changed: digest {old[1]} is now {new[1]}"
    )
    left = [_DIGEST.sub("", side, count=1).strip(" ,") for side in (before, now)]
    return [said, f"a parameter changed: was {left[0]}, is {left[1]}"] if any(left) else [said]


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", nargs="?", help="file to make; by default all of them")
    parser.add_argument("--directory", default=".", help="of the workflow")
    parser.add_argument("--configfile", help="experiment")
    parser.add_argument("--config", action="append", default=[], help="KEY=VALUE; repeatable")


def _run(options: argparse.Namespace) -> None:
    folder = Path(options.directory)
    if not (folder / "Snakefile").is_file():
        raise ConfigurationError(
            f"{folder.resolve()} holds no Snakefile; run this in the workflow's folder, or name "
            "it by --directory"
        )
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--nocolor"]
    command += [options.target] if options.target else []
    command += ["--configfile", options.configfile] if options.configfile else []
    command += ["--config", *options.config] if options.config else []
    found = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if found.returncode:
        said = [line for line in (found.stdout + found.stderr).splitlines() if line.strip()]
        fault = next((n for n, line in enumerate(said) if _FAULT.search(line)), -12)
        raise ConfigurationError("the dry run failed:\n" + "\n".join(said[fault:][:12]))
    _say(planned_jobs(found.stdout + found.stderr), options.target or "all", folder)


def _say(jobs: list[Planned], target: str, folder: Path) -> None:
    if not jobs:
        print(f"{target}: nothing would run; all of it is there and up to date")
        return
    causes = [job for job in jobs if not job.follows]
    print(f"{target}: {len(jobs)} jobs would run, {len(causes)} for causes of their own")
    by_reason: dict[str, list[str]] = {}
    for job in causes:
        sentences = [said for reason in job.reasons for said in explained(reason, folder)]
        by_reason.setdefault("; ".join(sentences), []).append(job.message)
    for reason, messages in by_reason.items():
        print(f"- {reason}")
        for message in messages[:_SHOWN]:
            print(f"    {message}")
        if len(messages) > _SHOWN:
            print(f"    and {len(messages) - _SHOWN} more")
    followers = Counter(job.message.split(" of ")[0] for job in jobs if job.follows)
    if followers:
        said = ", ".join(f"{kind} ({count})" for kind, count in followers.most_common(8))
        print(f"- what follows from them: {said}")


COMMAND = Command(
    "why",
    "Say what would run again for a target of the workflow, and which code, parameter or input "
    "is the cause.",
    "espalier why results/tables/rf.csv",
    _add_arguments,
    _run,
)
