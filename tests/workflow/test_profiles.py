"""The profiles agree with the rules."""

from __future__ import annotations

import importlib.util

import pytest
import yaml


@pytest.fixture
def slurm(root):
    return yaml.safe_load((root / "profiles/slurm/config.yaml").read_text())


def test_a_retry_on_slurm_starts_from_the_memory_of_the_rule(root, slurm):
    spec = importlib.util.spec_from_file_location("slurm_profile", root / "tools/slurm_profile.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    memory = tool.memory_of_rules(root)
    listed = {name: resources["mem_mb"] for name, resources in slurm["set-resources"].items()}
    assert listed == {name: f"{megabytes} * attempt" for name, megabytes in memory.items()}, (
        "run `python tools/slurm_profile.py`"
    )
    assert slurm["retries"] >= 1


def test_the_slurm_profile_names_no_site(slurm):
    """Partition, account and accounting are the user's to set, so they are comments."""
    assert not {"default-resources", "slurm-no-account", "slurm-status-command"} & set(slurm)


def test_snakemake_knows_every_option_of_the_profile(slurm, fresh):
    pytest.importorskip("snakemake_executor_plugin_slurm")
    known = fresh.run("--help")
    for option in slurm:
        assert f"--{option}" in known, option
