"""The one reader and writer of each plain format: atomic, and equal bytes for equal content.

A file is written beside its final place and renamed into it, so that a run killed at any moment
leaves the old file or the new one, never a part. No time stamp enters a file.

JSON and CSV carry a digest of their content, NPZ the check sums of ZIP: a reader that finds another
content raises `DamagedFileError`. Files without a digest, from elsewhere, are read as they are.

A reader trusts nothing that a file says of itself: no code is run from data, and the sizes that an
NPZ claims are checked before memory is taken.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import math
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from espalier.errors import DamagedFileError, DataError, EspalierError

if TYPE_CHECKING:
    import pandas as pd

FilePath = str | os.PathLike[str]

_METADATA = "metadata"
_DIGEST = "content_digest"
_LONGEST_HEADER = 10_000
_END_RECORD = 22
_FIXED_DATE = (1980, 1, 1, 0, 0, 0)


@contextmanager
def atomic_path(path: FilePath) -> Iterator[Path]:
    """Yield a temporary path in the same folder; rename it to `path` when the block succeeds.

    On any error the temporary file is removed and `path` is left as it was.

    Raises:
        EspalierError: the disk is full, or the folder cannot be written to; the message names
            the file.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb+") as handle:
            os.fsync(handle.fileno())
        temporary.replace(path)
        _remove_leftovers(path)
    except OSError as error:
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise EspalierError(
                f"{path} cannot be written ({error.strerror}); nothing was. "
                "Make its folder writable and run the same command again."
            ) from error
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise EspalierError(
                f"{path}: no space left on the disk; nothing was written. "
                "Free some space and run the same command again."
            ) from error
        raise
    finally:
        # On a disk that cannot be written to there is nothing to remove.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _remove_leftovers(path: Path) -> None:
    """Remove the temporary files of processes that were killed while they wrote `path`."""
    prefix, suffix = f".{path.name}.", ".tmp"
    for entry in os.scandir(path.parent):
        if entry.name.startswith(prefix) and entry.name.endswith(suffix):
            process = entry.name[len(prefix) : -len(suffix)]
            if process.isdecimal() and not _is_running(int(process)):
                Path(entry.path).unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def write_text(path: FilePath, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def content_digest(content: str | bytes) -> str:
    """Return 16 hexadecimal digits that tell whether content is what was written."""
    data = content.encode() if isinstance(content, str) else content
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def write_json(path: FilePath, value: Any) -> None:
    """Write indented JSON with sorted keys; numbers that are not finite become null.

    A mapping gets a digest of its content, which `read_json` checks and leaves out.
    """
    plain = _plain(value)
    if isinstance(plain, dict):
        plain[_DIGEST] = content_digest(_json_text(plain))
    write_text(path, _json_text(plain))


def read_json(path: FilePath) -> Any:
    """Read JSON.

    Raises:
        DataError: the file is missing.
        DamagedFileError: it is not JSON, or its content is not what was written.
    """
    text = _read_text(path)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(path, f"is not valid JSON ({error})") from error
    if isinstance(value, dict) and _DIGEST in value:
        expected = value.pop(_DIGEST)
        if content_digest(_json_text(value)) != expected:
            raise _changed(path)
    return value


def _json_text(value: Any) -> str:
    return json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n"


def _read_text(path: FilePath) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except UnicodeDecodeError as error:
        raise DamagedFileError(path, f"is not text ({error})") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})") from error


def _changed(path: FilePath) -> DamagedFileError:
    return DamagedFileError(path, "is not as it was written: its digest does not fit its content")


def write_npz(
    path: FilePath,
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


def read_npz(path: FilePath) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the arrays and the metadata of an NPZ.

    Raises:
        DataError: the file is missing, or its arrays need more memory than the machine has.
        DamagedFileError: it is no NPZ archive, a check sum does not fit, an array holds Python
            objects, or its header does not fit its size.
    """
    try:
        # The handle is ours: zipfile leaves its own open when the archive is damaged.
        with open(path, "rb") as handle, zipfile.ZipFile(handle) as archive:
            entries = archive.infolist()
            _check_entries(path, entries)
            _check_count(handle, len(entries))
            arrays = {
                info.filename.removesuffix(".npy"): _read_array(archive, info) for info in entries
            }
        metadata = json.loads(str(arrays.pop(_METADATA))) if _METADATA in arrays else {}
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error})") from error
    except (
        zipfile.BadZipFile,
        zlib.error,
        ValueError,
        EOFError,
        RuntimeError,  # an encrypted entry, an unknown compression, a header nested too deep
    ) as error:
        raise DamagedFileError(path, f"is not a readable NPZ archive ({error})") from error
    return arrays, metadata


def _check_entries(path: FilePath, entries: list[zipfile.ZipInfo]) -> None:
    names = [info.filename for info in entries]
    if len(set(names)) < len(names):
        raise ValueError("two of its arrays have one name")
    claimed = sum(info.file_size for info in entries)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if claimed > memory:
        raise DataError(
            f"{path} claims to hold {claimed / 1e9:.1f} GB of arrays, more than this machine has "
            "memory; nothing was read"
        )


def _check_count(handle: IO[bytes], entries: int) -> None:
    """Compare the entries found with the number in ZIP's end record, which zipfile does not."""
    handle.seek(-_END_RECORD, os.SEEK_END)
    end = handle.read()
    # Behind a comment the record is not where it is in what NumPy and `write_npz` write.
    if end.startswith(b"PK\x05\x06"):
        (count,) = struct.unpack("<H", end[10:12])
        if count not in (entries, 0xFFFF):
            raise ValueError(f"{entries} arrays were found, its end record says {count}")


def _read_array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    """Return one array; its header must fit the size of its entry before memory is taken."""
    with archive.open(info) as entry:
        shape, fortran_order, dtype = _array_header(entry, info.filename)
        if dtype.hasobject:
            raise ValueError(f"{info.filename} holds Python objects, which could run code")
        claimed = math.prod(shape) * dtype.itemsize
        if min(shape, default=0) < 0 or entry.tell() + claimed != info.file_size:
            raise ValueError(
                f"{info.filename} claims the shape {shape} of {dtype}, which is not the "
                f"{info.file_size} bytes that it has"
            )
        # Read to the end, so that zipfile compares the check sum.
        data = bytearray(entry.read())
    array = np.frombuffer(data, dtype) if dtype.itemsize else np.zeros(math.prod(shape), dtype)
    return array.reshape(shape, order="F" if fortran_order else "C")


def _array_header(entry: Any, name: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    try:
        version = np.lib.format.read_magic(entry)
        return readers[version](entry, _LONGEST_HEADER)
    # What NumPy raises here, from its parser of Python literals, is not documented.
    except Exception as error:
        raise ValueError(f"the header of {name} is not one of NumPy") from error


def write_table(path: FilePath, table: pd.DataFrame, provenance: Mapping[str, Any]) -> None:
    """Write a tidy CSV; the first line is a comment with the provenance, and a digest, as JSON."""
    body = table.to_csv(index=False, lineterminator="\n")
    facts = _plain(provenance)
    facts[_DIGEST] = content_digest(_header_line(facts) + body)
    write_text(path, _header_line(facts) + body)


def read_table(path: FilePath) -> pd.DataFrame:
    """Read a CSV written by `write_table`; its provenance is in `.attrs["provenance"]`.

    Raises:
        DataError: the file is missing.
        DamagedFileError: it is no CSV, or its content is not what was written.
    """
    import pandas as pd

    text = _read_text(path)
    facts: dict[str, Any] = {}
    try:
        if text.startswith("#"):
            first, _, text = text.partition("\n")
            facts = dict(json.loads(first[1:]))
            expected = facts.pop(_DIGEST, None)
            if expected not in (None, content_digest(_header_line(facts) + text)):
                raise _changed(path)
        elif f'"{_DIGEST}"' in text.partition("\n")[0]:
            raise _changed(path)
        table = pd.read_csv(io.StringIO(text))
    except (ValueError, TypeError, RecursionError) as error:
        raise DamagedFileError(path, f"is not a readable table ({error})") from error
    if facts:
        table.attrs["provenance"] = facts
    return table


def _header_line(facts: Mapping[str, Any]) -> str:
    return "# " + json.dumps(facts, sort_keys=True, allow_nan=False) + "\n"


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
