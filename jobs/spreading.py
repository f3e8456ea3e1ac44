"""Jobs that may spread the reduction of a large run over a Ray cluster: the flag, and what does it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib.util import find_spec

from rampipe.config import RankConfig
from rampipe.errors import ConfigError
from rampipe.heads.blocks import Wanted
from rampipe.heads.layout import Part
from rampipe.heads.reduce import SumParts, sum_parts
from rampipe.heads.sums import PartialSums


def add_distributed_flag(made: argparse.ArgumentParser) -> None:
    """`--distributed` is `--set rank.distributed=true`."""
    made.add_argument(
        "--distributed",
        action="append_const",
        const="rank.distributed=true",
        dest="overrides",
        help="sum units as tasks on the Ray cluster of RAY_ADDRESS, or on all cores of this machine",
    )


def make_sum(config: RankConfig) -> SumParts:
    """What sums the parts of a run: this process, or tasks on Ray where that is asked for and more than one has work.

    Raises ConfigError when Ray is asked for and not installed.
    """
    if config.distributed and find_spec("ray") is None:
        raise ConfigError("rank.distributed needs Ray: pip install 'rampipe[model]', or leave it out.")

    def spread(parts: Sequence[Part], wanted: Wanted) -> PartialSums:
        if len(parts) <= config.task_units:
            return sum_parts(parts, wanted)
        from rampipe.engine.tree import reduce_on_cluster

        starts = range(0, len(parts), config.task_units)
        groups = [parts[start : start + config.task_units] for start in starts]
        return reduce_on_cluster(groups, wanted, leaf=_sum_with_one_core, merge=PartialSums.merge)

    return spread if config.distributed else sum_parts


def _sum_with_one_core(parts: Sequence[Part], wanted: Wanted) -> PartialSums:
    return sum_parts(parts, wanted, num_threads=1)
