"""A finished run of timings without Ray: the worker itself, arm by arm, in this process."""

from __future__ import annotations

from rampipe.config import RunConfig
from rampipe.engine.speed import create_timings
from rampipe.engine.speed_plan import speed_config
from rampipe.engine.speed_worker import SpeedWorker
from rampipe.tables.arms import ArmPlan
from rampipe.tables.commit import find_commit
from rampipe.tables.finish import finish_run
from rampipe.tables.run import Run


def finished_timings(config: RunConfig, run_uri: str, plan: ArmPlan) -> Run:
    """Time and finish; arms that are committed are left alone."""
    run = create_timings(config, run_uri, plan)
    worker: SpeedWorker | None = None
    for unit in run.units:
        if find_commit(run.storage, fingerprint=run.fingerprint, unit=unit) is None:
            worker = worker or SpeedWorker(speed_config(config), run_uri=run.storage.uri, fingerprint=run.fingerprint)
            worker.run_unit(unit, attempt=1)
    finish_run(run)
    return run
