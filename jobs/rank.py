"""Head statistics to a ranking; needs neither torch nor Ray: `python -m jobs.rank RUN`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from jobs.command import parser, run
from rampipe.config import load_rank_config
from rampipe.heads.rank import rank_run
from rampipe.heads.summary import print_summary

EXAMPLES = (
    "python -m jobs.rank runs/demo/<run_id>",
    "python -m jobs.rank runs/demo/<run_id> --set rank.metric=ram_last --set rank.k_frac=0.1",
    "python -m jobs.rank runs/first runs/second    # ranks both and compares them",
)


def rank(arguments: argparse.Namespace) -> int:
    overrides = [*arguments.overrides, *(["rank.allow_partial=true"] if arguments.allow_partial else [])]
    print_summary(rank_run(arguments.runs, load_rank_config(arguments.config, overrides)))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    made = parser("rank", about="Rank the heads of captured runs.", examples=EXAMPLES)
    made.add_argument("runs", nargs="+", metavar="RUN", help="run folder or s3:// prefix")
    made.add_argument("--allow-partial", action="store_true", help="rank a run that is not complete, and say so")
    return run(rank, made, argv)


if __name__ == "__main__":
    sys.exit(main())
