"""The workflow on a real Slurm: a GPU asked for, and a job that is cancelled and comes back."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import slurm_cluster
import yaml
from result_contents import result_contents

pytest.importorskip("snakemake_executor_plugin_slurm", reason="the slurm executor is not installed")

TARGET = "results/tables/accuracy.csv"
LONG_TRAINING = {
    "analyses": ["accuracy"],
    "detectors": ["confusion"],
    "shuffled": False,
    "seeds": [0],
    "training": {"epochs": 20, "batch_size": 32, "learning_rate": 0.003},
    "pruning": {"epochs": 16},
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    reason = slurm_cluster.missing()
    if reason:
        pytest.skip(reason)
    with slurm_cluster.running_cluster(tmp_path_factory.mktemp("slurm")) as running:
        yield running


def write_profile(folder: Path) -> None:
    """profiles/slurm, filled in for this cluster as its comments tell a user to."""
    path = folder / "profiles/slurm/config.yaml"
    profile = yaml.safe_load(path.read_text())
    profile |= {
        "slurm-no-account": True,
        "slurm-status-command": "squeue",
        "slurm-init-seconds-before-status-checks": 2,
        "default-resources": {"slurm_partition": "trial"},
    }
    profile["set-resources"]["train_dense"]["gpu"] = 1
    path.write_text(yaml.safe_dump(profile))


def jobs_of(cluster, rule: str) -> list[dict[str, str]]:
    return [job for job in cluster.jobs() if job["comment"].startswith(f"rule_{rule}_wildcards")]


def cancel_once_it_trains(cluster, workflow, snakemake) -> str:
    """Cancel the training of the dense network after its fifth epoch; return the job's id."""
    log = workflow.path("logs/train_dense/digits/small_cnn/seed0.log")
    deadline = time.monotonic() + 240
    while not (log.exists() and "epoch 5/" in log.read_text()):
        assert snakemake.poll() is None, "the workflow ended before the moment to cancel"
        assert time.monotonic() < deadline, "training never began"
        time.sleep(0.05)
    (job,) = jobs_of(cluster, "train_dense")
    cluster.call("scancel", job["id"])
    return job["id"]


@pytest.mark.long
def test_the_workflow_on_slurm(cluster, make_workflow, toy_settings, tmp_path):
    settings = {**toy_settings, **LONG_TRAINING}
    undisturbed = make_workflow("undisturbed", settings)
    undisturbed.run("--cores", "2", TARGET)

    workflow = type(undisturbed)(tmp_path, undisturbed.folder, settings)
    write_profile(workflow.folder)
    path = os.pathsep.join([str(Path(sys.executable).parent), cluster.environment["PATH"]])
    with open(workflow.path("output.txt"), "w") as output:
        snakemake = subprocess.Popen(
            workflow.command("--profile", "profiles/slurm", TARGET),
            cwd=workflow.folder,
            env={**workflow.environment, **cluster.environment, "PATH": path},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        cancelled = cancel_once_it_trains(cluster, workflow, snakemake)
        assert snakemake.wait(timeout=400) == 0, workflow.path("output.txt").read_text()[-4000:]
    finally:
        snakemake.kill()
        snakemake.wait()

    first, second = sorted(jobs_of(cluster, "train_dense"), key=lambda job: int(job["id"]))
    assert (first["id"], first["state"]) == (cancelled, "CANCELLED")
    assert second["state"] == "COMPLETED"
    assert (first["memory"], second["memory"]) == ("6000M", "12000M"), "a retry gets more memory"
    assert (first["limit"], second["limit"]) == ("1-00:00:00", "2-00:00:00"), "and more time"
    described = cluster.call("scontrol", "show", "job", second["id"])
    assert "TresPerJob=gres:gpu:1" in described, described
    others = [job for job in cluster.jobs() if job not in (first, second)]
    assert {job["state"] for job in others} == {"COMPLETED"}
    assert "gres" not in cluster.call("scontrol", "show", "job", others[0]["id"])

    assert result_contents(workflow.folder) == result_contents(undisturbed.folder)
