"""Checksums of files."""

from __future__ import annotations

import hashlib
from pathlib import Path

from espalier.errors import ConfigurationError, DataError

_ALGORITHMS = {32: "md5", 64: "sha256"}


def check_file(path: Path, checksum: str, origin: str | None = None) -> None:
    """Compare a file with its checksum.

    Args:
        path: the file.
        checksum: MD5 or SHA-256 in hexadecimal digits; the length says which.
        origin: where the file came from, for the message; by default the path.

    Raises:
        ConfigurationError: the checksum has the length of neither.
        DataError: the file is damaged; the message has both checksums.
    """
    expected = checksum.lower()
    if len(expected) not in _ALGORITHMS:
        raise ConfigurationError(
            f"checksum {checksum!r} has {len(checksum)} digits; MD5 has 32, SHA-256 has 64"
        )
    algorithm = _ALGORITHMS[len(expected)]
    with open(path, "rb") as handle:
        found = hashlib.file_digest(handle, algorithm).hexdigest()
    if found != expected:
        raise DataError(
            f"{origin or path} is damaged: its {algorithm} is {found}, expected {expected} "
            f"({path.stat().st_size:,} bytes found). Fetch the file again, or remove that mirror"
        )
