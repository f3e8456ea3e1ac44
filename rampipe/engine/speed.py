"""One run of timings: every arm of a plan beside dense attention, in `<run>/speed/timings/<fingerprint>/`.

A run of its own kind, committed, resumed and finished like a capture. What is committed is never timed again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rampipe.config import RunConfig
from rampipe.engine.capture import Announce, CaptureOutcome, complete_run
from rampipe.engine.speed_plan import make_speed_spec, speed_config
from rampipe.errors import ConfigError
from rampipe.models.identity import model_identity
from rampipe.tables.arms import ArmPlan, plan_to_json
from rampipe.tables.fingerprint import differing_keys
from rampipe.tables.run import Run, create_run, open_run_dir

FOLDER = "speed/timings"
PLAN_PATH = "plan.json"


def run_timings(
    config: RunConfig,
    run_uri: str,
    plan: ArmPlan,
    *,
    announce: Announce = print,
    worker_class: Callable[..., Any] | None = None,
) -> CaptureOutcome:
    """Time what is not committed yet and finish; Ray is not started when nothing is left. `run_uri` of the outcome is
    the folder of the timings; its samples are arms at one length each.

    Every arm has a fresh actor with a whole device to itself. Raises what `make_speed_spec` raises, ClusterError when
    the work cannot be done, IncompleteError for more errors than `cluster.max_error_frac` allows.
    """
    run = create_timings(config, run_uri, plan)
    config = speed_config(config)

    def worker() -> tuple[Callable[..., Any], dict[str, Any]]:
        arguments = {"config": config, "run_uri": run.storage.uri, "fingerprint": run.fingerprint}
        if worker_class is not None:
            return worker_class, arguments
        from rampipe.engine.speed_worker import SpeedWorker

        return SpeedWorker, arguments

    return complete_run(config, run, worker=worker, announce=announce, fresh_actors=True)


def create_timings(config: RunConfig, run_uri: str, plan: ArmPlan) -> Run:
    """The folder of the timings below their run, created or opened, with plan.json in it."""
    parent = open_run_dir(run_uri)
    differing = differing_keys(parent.inputs["model"], model_identity(config.model, on_gpu=config.cluster.on_gpu))
    if differing:
        raise ConfigError(
            f"model.path {config.model.path}: not the checkpoint of run {parent.run_id} "
            f"({', '.join(list(differing)[:5])} differ). Time the model whose heads were ranked."
        )
    spec = make_speed_spec(config, plan)
    run = create_run(parent.storage.child(FOLDER), spec, run_id=spec.fingerprint[:12])
    run.storage.publish(PLAN_PATH, plan_to_json(plan))
    return run
