"""Jobs that capture may end when the top set of heads is certain: the flag, and what watches for it."""

from __future__ import annotations

import argparse

from rampipe.config import RunConfig
from rampipe.engine.capture import MakeWatch
from rampipe.heads.metrics import check_captured
from rampipe.heads.watch import StabilityWatch, checked_level


def add_stop_flag(made: argparse.ArgumentParser) -> None:
    """`--until-stable LEVEL` is `--set stop.level=LEVEL`."""
    made.add_argument(
        "--until-stable",
        metavar="LEVEL",
        action="append",
        dest="overrides",
        type="stop.level={}".format,
        help="end when the top set of rank.metric is certain with this probability, e.g. 0.95 (docs/stopping.md)",
    )


def make_watch(config: RunConfig) -> MakeWatch | None:
    """What makes the watch of a run; None when all samples are to be read.

    Raises ConfigError for a metric that nothing can be certain about, or that is not captured.
    """
    if config.stop.level is None:
        return None
    checked_level(config.rank, config.stop)
    check_captured(config.rank.metric, config.capture)
    return lambda run: StabilityWatch(run, config.rank, config.stop)
