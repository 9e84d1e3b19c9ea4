"""The one reader and writer of each plain format: atomic, and equal bytes for equal content.

A file is written beside its final place and renamed into it, so that a run killed at any moment
leaves the old file or the new one, never a part. No time stamp enters a file.
"""

from __future__ import annotations

import errno
import io
import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from espalier.errors import DataError, EspalierError

if TYPE_CHECKING:
    import pandas as pd

_METADATA = "metadata"
_FIXED_DATE = (1980, 1, 1, 0, 0, 0)


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path in the same folder; rename it to `path` when the block succeeds.

    On any error the temporary file is removed and `path` is left as it was. A full disk is
    reported as an EspalierError that names the file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb+") as handle:
            os.fsync(handle.fileno())
        temporary.replace(path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise EspalierError(
                f"{path}: no space left on the disk; nothing was written. "
                "Free some space and run the same command again."
            ) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write indented JSON with sorted keys; numbers that are not finite become null."""
    write_text(path, json.dumps(_plain(value), indent=1, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read JSON; a damaged file is a DataError with its path."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is not valid JSON ({error}); delete it and run again") from error


def write_npz(
    path: str | os.PathLike[str],
    arrays: Mapping[str, np.ndarray],
    metadata: Mapping[str, Any] | None = None,
    compress: bool = True,
) -> None:
    """Write arrays and JSON metadata as an NPZ whose bytes depend on the content alone."""
    entries = {name: np.asarray(value) for name, value in arrays.items()}
    if _METADATA in entries:
        raise EspalierError(f"the array name {_METADATA!r} is reserved; pass it as metadata=")
    text = json.dumps(_plain(metadata or {}), sort_keys=True, allow_nan=False)
    entries[_METADATA] = np.asarray(text)
    method = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with (
        atomic_path(path) as temporary,
        zipfile.ZipFile(temporary, "w", method, compresslevel=1 if compress else None) as archive,
    ):
        for name, value in entries.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.asarray(value, order="C"), allow_pickle=False)
            info = zipfile.ZipInfo(f"{name}.npy", _FIXED_DATE)
            info.compress_type = method
            archive.writestr(info, buffer.getbuffer())


def read_npz(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the arrays and the metadata of an NPZ; a damaged file is a DataError with its path."""
    if not Path(path).exists():
        raise DataError(f"{path} does not exist")
    try:
        # The handle is ours: NumPy leaves its own open when the archive is damaged.
        with open(path, "rb") as handle, np.load(handle, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (zipfile.BadZipFile, OSError, ValueError, EOFError, KeyError) as error:
        raise DataError(f"{path} is not a readable NPZ archive ({error})") from error
    metadata = json.loads(str(arrays.pop(_METADATA))) if _METADATA in arrays else {}
    return arrays, metadata


def write_table(
    path: str | os.PathLike[str], table: pd.DataFrame, provenance: Mapping[str, Any]
) -> None:
    """Write a tidy CSV; the first line is a comment with the provenance as JSON."""
    header = "# " + json.dumps(_plain(provenance), sort_keys=True, allow_nan=False) + "\n"
    write_text(path, header + table.to_csv(index=False, lineterminator="\n"))


def read_table(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read a CSV written by `write_table`; its provenance is in `.attrs["provenance"]`."""
    import pandas as pd

    with open(path, encoding="utf-8") as handle:
        first = handle.readline()
    annotated = first.startswith("# ")
    table = pd.read_csv(path, skiprows=1 if annotated else 0)
    if annotated:
        table.attrs["provenance"] = json.loads(first[2:])
    return table


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    if isinstance(value, Path):
        return str(value)
    return value
