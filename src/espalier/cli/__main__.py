"""`python -m espalier.cli`."""

import sys

from espalier.cli import main

sys.exit(main())
