"""A Slurm cluster of one node on this machine: real daemons, in a folder of their own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = (
    "munged",
    "slurmctld",
    "slurmd",
    "sbatch",
    "srun",
    "squeue",
    "scancel",
    "scontrol",
    "sinfo",
)
_SYSTEM_FOLDERS = os.pathsep.join(["/usr/sbin", "/usr/local/sbin", "/sbin"])

# No cgroups, no task binding, no accounting: what a container without privileges can hold. The
# memory is what the node claims to have, so that requests of a real experiment fit; nothing
# enforces it.
_SLURM = """\
ClusterName=trial
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmctldPort={controller_port}
SlurmdPort={node_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
GresTypes=gpu
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
JobAcctGatherType=jobacct_gather/none
MinJobAge=3600
MpiDefault=none
ReturnToService=2
SchedulerParameters=sched_interval=1,sched_min_interval=100000,batch_sched_delay=0
SlurmdParameters=config_overrides
KillWait=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=64000 Gres=gpu:1 State=UNKNOWN
PartitionName=trial Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


@dataclass(frozen=True)
class Cluster:
    """A running cluster.

    Attributes:
        environment: variables that let Slurm's programs find it.
    """

    environment: dict[str, str]

    def call(self, *command: str) -> str:
        done = subprocess.run(
            command,
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def jobs(self) -> list[dict[str, str]]:
        """Return every job that the controller remembers, memory and time limit included."""
        lines = self.call("squeue", "--states=all", "--noheader", "--format=%i|%T|%k|%b|%m|%l")
        keys = ("id", "state", "comment", "gres", "memory", "limit")
        return [dict(zip(keys, line.split("|"), strict=True)) for line in lines.splitlines()]


def missing() -> str | None:
    """Return why no cluster can be started here, or None."""
    if os.geteuid() != 0:
        return "a Slurm cluster of one's own needs root here, for slurmd"
    absent = [name for name in PROGRAMS if not shutil.which(name, path=_search_path())]
    if absent:
        return f"Slurm is not installed ({', '.join(absent)}): apt-get install slurm-wlm munge"
    return None


@contextmanager
def running_cluster(folder: Path, cpus: int = 2) -> Iterator[Cluster]:
    """Start munged, slurmctld and slurmd; stop them at the end, whatever happened."""
    host = socket.gethostname().split(".")[0]
    controller_port, node_port = _free_ports(2)
    for name in ("munge", "state", "spool", "etc", "bin"):
        (folder / name).mkdir(parents=True)
    # munged refuses folders that others may write to, and a socket that others cannot reach.
    folder.chmod(0o755)
    (folder / "munge").chmod(0o755)
    key = folder / "munge" / "key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    configuration = folder / "etc" / "slurm.conf"
    configuration.write_text(
        _SLURM.format(
            host=host,
            folder=folder,
            cpus=cpus,
            controller_port=controller_port,
            node_port=node_port,
        )
    )
    (folder / "etc" / "gres.conf").write_text(f"NodeName={host} Name=gpu Count=1 File=/dev/null\n")
    (folder / "etc" / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
    environment = {"SLURM_CONF": str(configuration), "PATH": _search_path(folder / "bin")}
    # A job drops every variable of Slurm before it starts its step, SLURM_CONF included.
    srun = folder / "bin" / "srun"
    srun.write_text(f'#!/bin/sh\nSLURM_CONF={configuration} exec {shutil.which("srun")} "$@"\n')
    srun.chmod(0o755)
    cluster = Cluster(environment)
    munge = [
        "munged",
        "--foreground",
        "--force",
        f"--key-file={key}",
        f"--socket={folder}/munge/socket",
        f"--pid-file={folder}/munge/pid",
        f"--log-file={folder}/munge/log",
        f"--seed-file={folder}/munge/seed",
    ]
    daemons: list[subprocess.Popen[bytes]] = []
    try:
        for command in (munge, ["slurmctld", "-D", "-c"], ["slurmd", "-D", "-N", host, "-c"]):
            with open(folder / f"{command[0]}.out", "wb") as output:
                daemons.append(
                    subprocess.Popen(
                        command,
                        env={**os.environ, **environment},
                        stdin=subprocess.DEVNULL,
                        stdout=output,
                        stderr=subprocess.STDOUT,
                    )
                )
            if command is munge:
                _wait_until((folder / "munge" / "socket").exists, folder)
        _wait_until(lambda: _idle(cluster), folder)
        yield cluster
    finally:
        if len(daemons) == 3:
            _quietly(cluster, "scancel", "--user=root")
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline and _quietly(cluster, "squeue", "--noheader"):
                time.sleep(0.2)
        for daemon in reversed(daemons):
            daemon.terminate()
        for daemon in reversed(daemons):
            try:
                daemon.wait(15)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()


def _search_path(*first: Path) -> str:
    return os.pathsep.join([*map(str, first), os.environ["PATH"], _SYSTEM_FOLDERS])


def _free_ports(count: int) -> list[int]:
    listeners = [socket.socket() for _ in range(count)]
    try:
        for listener in listeners:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in listeners]
    finally:
        for listener in listeners:
            listener.close()


def _idle(cluster: Cluster) -> bool:
    return _quietly(cluster, "sinfo", "--noheader", "--format=%T").strip() == "idle"


def _quietly(cluster: Cluster, *command: str) -> str:
    try:
        return cluster.call(*command)
    except (AssertionError, subprocess.TimeoutExpired):
        return ""


def _wait_until(condition, folder: Path, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            logs = [*folder.glob("*.out"), *folder.glob("*.log"), folder / "munge" / "log"]
            tails = [f"{log}:\n{log.read_text()[-1500:]}" for log in logs if log.exists()]
            raise AssertionError("the cluster did not come up\n" + "\n".join(tails))
        time.sleep(0.2)
