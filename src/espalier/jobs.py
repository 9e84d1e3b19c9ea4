"""What every workflow script does first: its log, its threads, and short errors.

Only the standard library is imported here, because the number of threads must be set before
NumPy and torch are loaded.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from espalier.errors import DamagedFileError, EspalierError

# Where Snakemake, started in the folder of the experiment, writes what it can make again.
_MADE_BY_THE_WORKFLOW = ("results/", "resources/datasets/")
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


def job_threads() -> int:
    """Return the threads that `job` gave to this process; 1 outside a job."""
    return int(os.environ.get("OMP_NUM_THREADS", "1"))


class _Tee:
    """A text stream that writes to the log and to the terminal.

    Where one of them cannot be written to, because the disk is full or the terminal is closed, the
    other still is.
    """

    def __init__(self, *streams: TextIO) -> None:
        self._streams = streams

    def write(self, text: str) -> int:
        for stream in self._streams:
            with suppress(OSError):
                stream.write(text)
                stream.flush()
        return len(text)

    def flush(self) -> None:
        for stream in self._streams:
            with suppress(OSError):
                stream.flush()

    def isatty(self) -> bool:
        return False


@contextmanager
def job(log: str, threads: int) -> Iterator[None]:
    """Run the body of a workflow script.

    Standard error goes to the log file and the terminal. The numerical libraries get `threads`
    threads, so that a result does not depend on the machine. An EspalierError ends the script
    with its message alone; any other exception leaves its traceback in the log too. A damaged
    result is moved aside, so that Snakemake makes it anew in its next run.

    Args:
        log: path of the log file.
        threads: number of threads of the rule.
    """
    for variable in _THREAD_VARIABLES:
        os.environ[variable] = str(threads)
    terminal = sys.stderr
    try:
        Path(log).parent.mkdir(parents=True, exist_ok=True)
        handle = open(log, "w", encoding="utf-8")  # noqa: SIM115
    except OSError as error:
        print(f"error: the log {log} cannot be written ({error.strerror})", file=terminal)
        raise SystemExit(1) from None
    sys.stderr = _Tee(handle, terminal)  # type: ignore[assignment]
    started = time.monotonic()
    try:
        yield
        _Tee(handle).write(f"done in {time.monotonic() - started:.1f} s\n")
    except EspalierError as error:
        print(f"error: {error}", file=sys.stderr)
        if isinstance(error, DamagedFileError):
            _move_aside(error.path)
        raise SystemExit(1) from None
    except Exception:
        traceback.print_exc(file=sys.stderr)
        raise SystemExit(1) from None
    finally:
        sys.stderr = terminal
        # What a full disk did not take is still in the buffer.
        with suppress(OSError):
            handle.close()


def _move_aside(path: str) -> None:
    if not path.startswith(_MADE_BY_THE_WORKFLOW):
        return
    aside = f"{path}.damaged"
    try:
        Path(path).replace(aside)
    except OSError as error:
        print(f"{path} could not be moved aside ({error.strerror})", file=sys.stderr)
    else:
        print(f"it was moved to {aside}; the next run makes it anew", file=sys.stderr)
