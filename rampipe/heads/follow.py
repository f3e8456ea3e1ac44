"""Follows a capture that another process runs, and asks it to end when the top set of heads is certain.

The capture has to read units in the random order of its plan: it says so with `stop.on_request`. Why a capture in the
order of its dataset is refused: docs/stopping.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from rampipe.config import CaptureConfig, RankConfig, StopConfig
from rampipe.errors import ConfigError, IncompleteError
from rampipe.heads.metrics import check_captured
from rampipe.heads.watch import StabilityWatch
from rampipe.tables.finish import read_success
from rampipe.tables.record import COMMITS_FOLDER, commit_path
from rampipe.tables.run import Run, open_run_dir
from rampipe.tables.stopped import REQUEST_PATH


@dataclass(frozen=True, slots=True)
class Patience:
    """poll_s: between two looks at the commits. limit_s: without a commit, and the capture is taken for dead: loading
    a large model, or one unit, may take a while.
    """

    poll_s: float = 5.0
    limit_s: float = 1800.0


def follow_run(
    uri: str,
    rank: RankConfig,
    stop: StopConfig,
    *,
    announce: Callable[[str], None] = print,
    patience: Patience | None = None,
) -> None:
    """Return when the run is finished: because it was asked to end, or because everything is read.

    Raises ConfigError for a capture that cannot be asked and a metric that nothing can be certain about,
    IncompleteError when nothing is committed any more.
    """
    run, patience = open_run_dir(uri), patience or Patience()
    if read_success(run.storage) is not None:
        return
    watch = _made_watch(run, rank, stop)
    paths = {commit_path(unit): unit.unit_id for unit in run.units}
    told, last_s = set[str](), time.monotonic()
    announce(f"run {uri}: following its capture until the top set by {rank.metric} is certain")
    while read_success(run.storage) is None:
        new = [path for path in run.storage.list(COMMITS_FOLDER) if path in paths and path not in told]
        if new:
            told.update(new)
            last_s = time.monotonic()
        elif time.monotonic() - last_s > patience.limit_s:
            raise IncompleteError(
                f"run {uri}: no unit was committed for {patience.limit_s:.0f} s, {len(told)} of {len(paths)} are: the "
                "capture does not run. Start it again; it goes on where it stopped, or ends if it was asked to."
            )
        if not watch.is_certain and run.storage.size(REQUEST_PATH) is None:
            for path in new:
                watch.add_unit(paths[path])
            _ask(run, watch, announce)
        time.sleep(patience.poll_s)


def _made_watch(run: Run, rank: RankConfig, stop: StopConfig) -> StabilityWatch:
    """With the order of the capture. Raises ConfigError for one that cannot be asked."""
    planned = run.inputs.get("stop", {})
    if planned.get("level") is not None:
        raise ConfigError(
            f"run {run.storage.uri}: its capture ends by itself, at stop.level = {planned['level']}. Leave out "
            "--until-stable, and rank it when it is finished."
        )
    if not planned.get("on_request"):
        raise ConfigError(
            f"run {run.storage.uri}: --until-stable needs a capture that reads units in random order, this one reads "
            "them in the order of the dataset: what is committed is its beginning, and says nothing certain about the "
            "rest. Capture with --set stop.on_request=true, or rank this run when it is finished (docs/stopping.md)."
        )
    settings = {name: value for name, value in run.inputs["capture"].items() if name in CaptureConfig.model_fields}
    check_captured(rank.metric, CaptureConfig.model_validate({**settings, "queries": run.queries}))
    return StabilityWatch(run, rank, stop.model_copy(update={"seed": planned["seed"]}))


def _ask(run: Run, watch: StabilityWatch, announce: Callable[[str], None]) -> None:
    """Publish the request once it is certain; the first one that anybody publishes counts."""
    stopped = watch.stopped()
    if stopped is not None and run.storage.publish(REQUEST_PATH, stopped.to_json()):
        announce(
            f"run {run.storage.uri}: certain after {stopped.num_samples} of {stopped.num_planned} samples; its capture "
            "was asked to end"
        )
