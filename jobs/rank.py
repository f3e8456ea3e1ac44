"""Head statistics to a ranking; needs neither torch nor Ray: `python -m jobs.rank RUN`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from jobs.command import parser, run
from jobs.spreading import add_distributed_flag, make_sum
from jobs.stopping import add_stop_flag
from rampipe.config import RankConfig, load_rank_config, load_stop_config
from rampipe.errors import ConfigError
from rampipe.heads.follow import follow_run
from rampipe.heads.rank import rank_run
from rampipe.heads.summary import print_summary

EXAMPLES = (
    "python -m jobs.rank runs/demo/<run_id>",
    "python -m jobs.rank runs/demo/<run_id> --set rank.metric=ram_last --set rank.k_frac=0.1",
    "python -m jobs.rank runs/first runs/second    # ranks both and compares them",
    "python -m jobs.rank s3://bucket/runs/<run_id> --distributed    # a run of many machines, summed by them",
    "python -m jobs.rank runs/demo/<run_id> --until-stable 0.95    # while its capture runs",
)
FOLLOW = (
    "wait for the running capture, and ask it to end when the top set is certain with this probability, e.g. 0.95; "
    "it must have been started with --set stop.on_request=true (docs/stopping.md)"
)


def rank(arguments: argparse.Namespace) -> int:
    overrides = [*arguments.overrides, *(["rank.allow_partial=true"] if arguments.allow_partial else [])]
    of_stop = [override for override in overrides if override.strip().startswith("stop.")]
    config = load_rank_config(arguments.config, [override for override in overrides if override not in of_stop])
    if of_stop:
        follow(arguments, config, of_stop)
    print_summary(rank_run(arguments.runs, config, sum_up=make_sum(config)))
    return 0


def follow(arguments: argparse.Namespace, config: RankConfig, overrides: Sequence[str]) -> None:
    """Wait until the one run is finished. Raises ConfigError for several, and for stop.* keys without a level."""
    stop = load_stop_config(arguments.config, overrides)
    if stop.level is None:
        raise ConfigError(f"--set {overrides[0]!r}: ranking reads stop.* keys only with --until-stable.")
    if len(arguments.runs) > 1:
        raise ConfigError(f"--until-stable follows one capture, {len(arguments.runs)} runs were given.")
    follow_run(arguments.runs[0], config, stop)


def main(argv: Sequence[str] | None = None) -> int:
    made = parser("rank", about="Rank the heads of captured runs.", examples=EXAMPLES)
    made.add_argument("runs", nargs="+", metavar="RUN", help="run folder or s3:// prefix")
    made.add_argument("--allow-partial", action="store_true", help="rank a run that is not complete, and say so")
    add_stop_flag(made, about=FOLLOW)
    add_distributed_flag(made)
    return run(rank, made, argv)


if __name__ == "__main__":
    sys.exit(main())
