"""`python -m rampipe`: the same as the console script `rampipe`."""

from __future__ import annotations

import sys

from rampipe.cli import main

if __name__ == "__main__":
    sys.exit(main())
