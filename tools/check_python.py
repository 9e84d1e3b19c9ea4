"""Stop set-up early, with what to do, where Python is too old."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - this file runs before the version is known
    found = ".".join(map(str, sys.version_info[:3]))
    sys.exit(
        "espalier needs Python 3.11 or newer; {} is {}. Install a newer one and run "  # noqa: UP032
        "`make PYTHON=python3.11 ...`.".format(sys.executable, found)
    )
