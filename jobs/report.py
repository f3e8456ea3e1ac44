"""All tables of a run to one page; needs neither torch nor Ray: `python -m jobs.report RUN`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from jobs.command import parser, run
from rampipe.report.page import write_report

EXAMPLES = ("python -m jobs.report runs/demo/<run_id>",)


def report(arguments: argparse.Namespace) -> int:
    print(f"report: {write_report(arguments.run)}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    made = parser("report", about="Write one self-contained HTML page and its PNG figures.", examples=EXAMPLES)
    made.add_argument("run", metavar="RUN", help="run folder or s3:// prefix")
    return run(report, made, argv)


if __name__ == "__main__":
    sys.exit(main())
