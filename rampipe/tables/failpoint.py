"""A test device: die at a named step of the commit protocol, as a power cut would.

RAMPIPE_FAILPOINT=<name> ends the process each time it comes to that step; <name>@<file> only while <file> does not
exist, and creates it first, so that a restarted process gets through. Unset, as always outside tests, it does nothing.
"""

from __future__ import annotations

import os
from pathlib import Path

FAILPOINTS = ("before_publish", "in_tmp", "after_errors", "after_samples", "after_head_stats", "after_commit")
EXIT_CODE = 77


def failpoint(name: str) -> None:
    """Exit at once, without cleaning up, when the environment asks for it at this step."""
    wanted, _, marker = os.environ.get("RAMPIPE_FAILPOINT", "").partition("@")
    if wanted != name or (marker and Path(marker).exists()):
        return
    if marker:
        Path(marker).touch()
    os._exit(EXIT_CODE)
