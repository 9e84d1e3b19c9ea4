"""How many jobs share a GPU reaches the jobs from the configuration, unless the machine says so."""

from __future__ import annotations

import pytest

WORKFLOW = """
include: "workflow/rules/common.smk"


rule ask:
    output:
        "slots.txt",
    script:
        "ask.py"
"""
SCRIPT = """
from pathlib import Path
from espalier.devices import _slots_per_gpu

Path(snakemake.output[0]).write_text(str(_slots_per_gpu(None)))
"""


@pytest.mark.parametrize(("variable", "slots"), [(None, "3"), ("2", "2")])
def test_the_key_reaches_jobs_and_the_variable_wins(fresh, monkeypatch, variable, slots):
    monkeypatch.delenv("ESPALIER_JOBS_PER_GPU", raising=False)
    if variable:
        monkeypatch.setenv("ESPALIER_JOBS_PER_GPU", variable)
    fresh.write_config({"jobs_per_gpu": 3})
    fresh.path("Snakefile").write_text(WORKFLOW)
    fresh.path("ask.py").write_text(SCRIPT)
    fresh.run("--cores", "1", "slots.txt")
    assert fresh.path("slots.txt").read_text() == slots
