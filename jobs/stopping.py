"""Jobs that capture may end when the top set of heads is certain: the flag, and what watches for it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from rampipe.config import RunConfig
from rampipe.heads.metrics import check_captured
from rampipe.heads.watch import StabilityWatch, checked_level
from rampipe.tables.requested import RequestedStop

if TYPE_CHECKING:  # ranking has the flag too, and needs nothing of the model half
    from rampipe.engine.capture import MakeWatch

END = "end when the top set of rank.metric is certain with this probability, e.g. 0.95 (docs/stopping.md)"


def add_stop_flag(made: argparse.ArgumentParser, *, about: str = END) -> None:
    """`--until-stable LEVEL` is `--set stop.level=LEVEL`."""
    made.add_argument(
        "--until-stable",
        metavar="LEVEL",
        action="append",
        dest="overrides",
        type="stop.level={}".format,
        help=about,
    )


def make_watch(config: RunConfig) -> MakeWatch | None:
    """What makes the watch of a run; None when all samples are to be read.

    Raises ConfigError for a metric that nothing can be certain about, or that is not captured.
    """
    if config.stop.level is None:
        return (lambda run: RequestedStop(run, seed=config.stop.seed)) if config.stop.on_request else None
    checked_level(config.rank, config.stop)
    check_captured(config.rank.metric, config.capture)
    return lambda run: StabilityWatch(run, config.rank, config.stop)
