"""Known vulnerabilities of the pinned packages, by pip-audit where its service answers: `python -m tests.audit`.

Without the service nothing is known, which is said; with RAMPIPE_AUDIT=required it is an error. A service that does not
know our version of one package is a mirror or an old copy: the other packages are then not asked for at all.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS = ROOT / "constraints.txt"
SERVICE = "https://pypi.org/pypi"
PROBED = "numpy"
TIMEOUT_S = 10.0


def probe(service: str, constraints: Path) -> str:
    """The address of what the service knows of one of our packages."""
    lines = constraints.read_text(encoding="utf-8").splitlines()
    (version,) = (line.partition("==")[2] for line in lines if line.startswith(f"{PROBED}=="))
    return f"{service}/{PROBED}/{version}/json"


def why_silent(url: str) -> str | None:
    """Why this address tells nothing of vulnerabilities; None when it does."""
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:
            content = json.load(answer)
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        return str(error)
    except ValueError:
        return "its answer is not JSON"
    if not isinstance(content, dict) or "vulnerabilities" not in content:
        return "its answer says nothing of vulnerabilities (a mirror?)"
    return None


def audit(constraints: Path) -> int:
    """pip-audit's exit code for exactly the pinned versions: nothing resolved, nothing installed, nothing left out."""
    with tempfile.TemporaryDirectory() as cache:
        flags = ["--strict", "--no-deps", "--disable-pip", "--progress-spinner=off", "--cache-dir", cache]
        return subprocess.run(
            [sys.executable, "-m", "pip_audit", *flags, "-r", str(constraints)], check=False
        ).returncode


def main(argv: Sequence[str]) -> int:
    url = probe(argv[0] if argv else SERVICE, CONSTRAINTS)
    reason = why_silent(url)
    if reason is None:
        return audit(CONSTRAINTS)
    print(f"pip-audit did not run: {url} cannot be used: {reason}. Nothing is known of vulnerabilities.")
    return 1 if os.environ.get("RAMPIPE_AUDIT") == "required" else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
