"""The profiles agree with the rules."""

from __future__ import annotations

import importlib.util

import pytest
import yaml
from snakemake.resources import Resource


@pytest.fixture
def slurm(root):
    return yaml.safe_load((root / "profiles/slurm/config.yaml").read_text())


@pytest.fixture
def tool(root):
    spec = importlib.util.spec_from_file_location("slurm_profile", root / "tools/slurm_profile.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_retry_on_slurm_starts_from_what_the_rule_asks_for(root, slurm, tool):
    expected = {
        name: {key: f"{value} * attempt" for key, value in needs.items()}
        for name, needs in tool.needs_of_rules(root).items()
    }
    assert slurm["set-resources"] == expected, "run `python tools/slurm_profile.py`"
    assert slurm["retries"] >= 1


def test_snakemake_gives_a_third_attempt_three_times_as_much(slurm):
    for key, first in (("mem_mb", 6000), ("runtime", 24 * 60)):
        resource = Resource.from_cli_expression(key, slurm["set-resources"]["train_dense"][key])
        facts = {"wildcards": {}, "input": [], "threads": 1, "rulename": "", "async_run": None}
        asked = [resource.evaluate(**facts, attempt=attempt).value for attempt in (1, 2, 3)]
        assert asked == [first, 2 * first, 3 * first]


def test_what_a_rule_asks_for_is_read_from_its_text(tmp_path, tool):
    rules = tmp_path / "workflow/rules"
    rules.mkdir(parents=True)
    text = "rule a:\n    resources:\n        mem_mb=500,\n        runtime=2 * 24 * 60,\n\n\n"
    (rules / "some.smk").write_text(
        f"{text}use rule a as b with:\n    resources:\n        runtime=5,\n"
    )
    assert tool.needs_of_rules(tmp_path) == {
        "a": {"mem_mb": 500, "runtime": 2880},
        "b": {"mem_mb": 500, "runtime": 5},
    }
    (rules / "some.smk").write_text(text.replace("        runtime=2 * 24 * 60,\n", ""))
    with pytest.raises(SystemExit, match="the rule a says no runtime"):
        tool.needs_of_rules(tmp_path)


def test_the_slurm_profile_names_no_site(slurm):
    """Partition, account and accounting are the user's to set, so they are comments."""
    assert not {"default-resources", "slurm-no-account", "slurm-status-command"} & set(slurm)


def test_snakemake_knows_every_option_of_the_profile(slurm, fresh):
    pytest.importorskip("snakemake_executor_plugin_slurm")
    known = fresh.run("--help")
    for option in slurm:
        assert f"--{option}" in known, option
