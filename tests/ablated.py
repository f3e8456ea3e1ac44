"""A finished ablation without Ray: the worker itself, unit by unit, in this process."""

from __future__ import annotations

from rampipe.config import RunConfig
from rampipe.engine.ablate import FOLDER, ablation_config, create_ablation
from rampipe.engine.ablation_worker import AblationWorker
from rampipe.tables.arms import ArmPlan
from rampipe.tables.commit import find_commit
from rampipe.tables.finish import finish_run
from rampipe.tables.run import Run


def finished_ablation(
    config: RunConfig, run_uri: str, plan: ArmPlan, *, folder: str = FOLDER, split: str | None = None
) -> Run:
    """Silence or restrict, and finish; units that are committed are left alone."""
    config = ablation_config(config, split=split)
    run = create_ablation(config, run_uri, plan, folder=folder)
    worker: AblationWorker | None = None
    for unit in run.units:
        if find_commit(run.storage, fingerprint=run.fingerprint, unit=unit) is None:
            worker = worker or AblationWorker(config, run_uri=run.storage.uri, fingerprint=run.fingerprint)
            worker.run_unit(unit, attempt=1)
    finish_run(run)
    return run
