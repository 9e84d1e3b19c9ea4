"""Where networks run: threads, determinism, memory, and a GPU of one's own.

Call `prepare_device` once, at the start of a process, before anything runs on a GPU.
"""

from __future__ import annotations

import ctypes
import fcntl
import getpass
import itertools
import os
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

import torch

from espalier.errors import ConfigurationError

# The lock of a GPU lives as long as the file object, that is, as long as the process.
_held_locks: list[IO[str]] = []

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def prepare_device(name: str = "auto", threads: int | None = None) -> torch.device:
    """Choose a device and make torch deterministic on it.

    Args:
        name: "auto" (a GPU if there is one, else the CPU), "cpu" or "cuda".
        threads: CPU threads of torch; None leaves them as they are. A result depends on the
            number of threads, so a workflow fixes it per rule.

    Returns:
        The device. On a GPU, this process has locked it and sees no other (`lock_free_gpu`).

    Raises:
        ConfigurationError: an unknown name, or "cuda" where there is no GPU.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise ConfigurationError(f"device is {name!r}; use 'auto', 'cpu' or 'cuda'")
    if threads is not None:
        torch.set_num_threads(threads)
    make_deterministic()
    keep_freed_memory()
    if name == "cpu":
        return torch.device("cpu")
    lock_free_gpu()
    if torch.cuda.is_available():
        make_deterministic(strict=False)
        return torch.device("cuda")
    if name == "cuda":
        raise ConfigurationError(
            "device is 'cuda', but torch sees no GPU here; use 'auto', or install a CUDA build"
        )
    return torch.device("cpu")


def make_deterministic(strict: bool = True) -> None:
    """Make torch choose deterministic operations.

    Args:
        strict: refuse an operation that has no deterministic form, instead of warning. On a GPU
            one layer has none: the gradient of the adaptive average pool in conv6_thesis.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=not strict)
    # Filling fresh memory only helps to find reads of it, and costs a pass over every tensor.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False


def keep_freed_memory() -> None:
    """Tell the C library to keep freed memory for the next tensor. No effect beyond Linux's glibc.

    By default every tensor above some 32 MB is mapped anew, and the kernel zeroes each of its
    pages on first touch: about a third of the time of a training step on one core.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(_M_TOP_PAD, 64 * 2**20)


def lock_free_gpu(
    folder: str | os.PathLike[str] | None = None,
    patience: float = 1.0,
    jobs_per_gpu: int | None = None,
) -> int | None:
    """Take a slot of a GPU that no other espalier process of this user holds, and hide the rest.

    Does nothing where CUDA_VISIBLE_DEVICES is set (a scheduler has chosen) or there is no GPU.
    Every GPU has `jobs_per_gpu` slots; a second job goes to a GPU only when all have one. Waits
    while every slot is taken. The lock ends with the process, however it ends.

    Args:
        folder: holds one lock file per slot; by default a folder of this user in the temporary
            one.
        patience: mean seconds between two looks when all are taken.
        jobs_per_gpu: slots of each GPU; None reads the variable ESPALIER_JOBS_PER_GPU, which a
            workflow sets from its configuration; 1 where it is not set.

    Returns:
        The index of the GPU, or None where nothing was done.

    Raises:
        ConfigurationError: `jobs_per_gpu` is not a whole number above 0.
    """
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return None
    slots = _slots_per_gpu(jobs_per_gpu)
    count = torch.cuda.device_count()
    if count == 0:
        return None
    locks = Path(folder or Path(tempfile.gettempdir()) / f"espalier-gpus-{getpass.getuser()}")
    locks.mkdir(parents=True, exist_ok=True)
    announced = False
    while True:
        for slot, index in itertools.product(range(slots), range(count)):
            handle = _locked(locks / (f"gpu{index}.{slot}.lock" if slot else f"gpu{index}.lock"))
            if handle is not None:
                _held_locks.append(handle)
                os.environ["CUDA_VISIBLE_DEVICES"] = str(index)
                return index
        if not announced:
            jobs = f" ({slots} jobs each)" if slots > 1 else ""
            print(f"waiting: all {count} GPUs are taken{jobs}, locks in {locks}", file=sys.stderr)
            announced = True
        # Not in step with the other processes that wait.
        time.sleep(patience * random.uniform(0.5, 1.5))


def _slots_per_gpu(given: int | None) -> int:
    text = os.environ.get("ESPALIER_JOBS_PER_GPU", "1") if given is None else str(given)
    if not text.isdecimal() or int(text) < 1:
        name = "ESPALIER_JOBS_PER_GPU" if given is None else "jobs_per_gpu"
        raise ConfigurationError(f"{name} is {text!r}; give a whole number above 0")
    return int(text)


def _locked(path: Path) -> IO[str] | None:
    """Return the lock file, locked and with this process's number in it, or None if it is taken."""
    # Not truncated on opening: the number in it is that of the process that holds it.
    handle = open(path, "a")  # noqa: SIM115
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.close()
        return None
    handle.truncate(0)
    handle.write(f"{os.getpid()}\n")
    handle.flush()
    return handle
