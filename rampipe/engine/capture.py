"""One capture run, from a configuration to a finished run folder. Finished work is never done again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rampipe.config import RunConfig
from rampipe.data import open_source
from rampipe.engine.plan import Estimate, estimate, make_spec
from rampipe.engine.progress import Progress
from rampipe.errors import IncompleteError
from rampipe.tables.commit import CommitRecord, read_commits
from rampipe.tables.finish import finish_run
from rampipe.tables.run import Run, RunSpec, create_run
from rampipe.tables.storage import open_storage

Announce = Callable[[str], None]
MakeWorker = Callable[[], tuple[Callable[..., Any], dict[str, Any]]]
"""The class of the actors and its arguments; called only when there is work."""


@dataclass(frozen=True, slots=True)
class CaptureOutcome:
    """What a run came to. skipped: everything was there before. complete: every planned sample is accounted for."""

    run_uri: str
    run_id: str
    num_ok: int
    num_errors: int
    num_units: int
    skipped: bool
    complete: bool


def run_capture(
    config: RunConfig,
    *,
    plan_only: bool = False,
    announce: Announce = print,
    worker_class: Callable[..., Any] | None = None,
) -> CaptureOutcome:
    """Plan, run what is not committed yet, and finish. Ray is not started when nothing is left.

    plan_only: say what would be done, write nothing. worker_class: in place of `Worker`.
    Raises ClusterError when the work cannot be done, IncompleteError when more samples failed than
    `cluster.max_error_frac` allows; what is committed is kept in both cases.
    """
    spec = make_spec(config, open_source(config.data))
    if plan_only:
        return _announce_plan(config, spec, announce)
    run = create_run(config.out, spec)

    def worker() -> tuple[Callable[..., Any], dict[str, Any]]:
        from rampipe.engine.worker import Worker

        arguments = {"config": config, "run_uri": run.storage.uri, "fingerprint": run.fingerprint}
        return worker_class or Worker, arguments

    return complete_run(config, run, worker=worker, announce=announce)


def complete_run(
    config: RunConfig, run: Run, *, worker: MakeWorker, announce: Announce, fresh_actors: bool = False
) -> CaptureOutcome:
    """Run the units of a run of any kind that are not committed yet, and finish it.

    fresh_actors: a process of its own for every unit.
    """
    commits = read_commits(run.storage)
    todo = [unit for unit in run.units if unit.unit_id not in commits]
    announce(f"run {run.storage.uri}: {len(commits)} of {len(run.units)} units are done")
    if todo:
        _run_todo(config, run, commits, worker, fresh_actors=fresh_actors)
    success = finish_run(run)
    outcome = CaptureOutcome(
        run_uri=run.storage.uri,
        run_id=run.run_id,
        num_ok=success.num_ok,
        num_errors=success.num_errors,
        num_units=len(run.units),
        skipped=not todo,
        complete=True,
    )
    _check_errors(outcome, max_error_frac=config.cluster.max_error_frac)
    announce(f"run {run.storage.uri}: {outcome.num_ok} samples measured, {outcome.num_errors} error rows")
    return outcome


def _run_todo(
    config: RunConfig, run: Run, commits: Mapping[int, CommitRecord], worker: MakeWorker, *, fresh_actors: bool
) -> None:
    from rampipe.engine.cluster import run_units

    todo = [unit for unit in run.units if unit.unit_id not in commits]
    with Progress(num_units=len(todo), num_samples=sum(unit.num_samples for unit in todo)) as progress:
        run_units(config, todo, worker=worker, progress=progress, fresh_actors=fresh_actors)


def _check_errors(outcome: CaptureOutcome, *, max_error_frac: float) -> None:
    num_samples = outcome.num_ok + outcome.num_errors
    if outcome.num_errors > max_error_frac * num_samples:
        raise IncompleteError(
            f"run {outcome.run_uri}: {outcome.num_errors} of {num_samples} samples failed, "
            f"cluster.max_error_frac allows {max_error_frac:g}. Everything is committed: look at errors/*.parquet, "
            f"then repair the samples or raise cluster.max_error_frac."
        )


def _announce_plan(config: RunConfig, spec: RunSpec, announce: Announce) -> CaptureOutcome:
    storage = open_storage(config.out).child(spec.run_id)
    commits = read_commits(storage)
    num_replicas = config.cluster.replicas if isinstance(config.cluster.replicas, int) else None
    left = estimate(spec, commits, num_replicas=num_replicas or 1)
    announce(describe(spec, left, uri=storage.uri, num_replicas=num_replicas or 1))
    return CaptureOutcome(
        run_uri=storage.uri,
        run_id=spec.run_id,
        num_ok=sum(commit.num_ok for commit in commits.values()),
        num_errors=sum(commit.num_errors for commit in commits.values()),
        num_units=len(spec.units),
        skipped=not left.num_units,
        complete=not left.num_units,
    )


def describe(spec: RunSpec, left: Estimate, *, uri: str, num_replicas: int) -> str:
    """What `--plan` prints."""
    num_samples = sum(unit.num_samples for unit in spec.units)
    if left.seconds is None:
        time = "unknown until the first unit is done"
    else:
        time = f"about {left.seconds / 60:.1f} min on {num_replicas} replicas, by the units that are done"
    per_sample = f"{spec.num_heads} heads x {len(spec.queries)} query groups a sample"
    return "\n".join(
        [
            f"run:     {uri}",
            f"units:   {left.num_units} of {len(spec.units)} left",
            f"samples: {left.num_samples} of {num_samples} left",
            f"rows:    {left.num_rows} of head_stats ({per_sample})",
            f"bytes:   at most {left.num_bytes / 1e6:.1f} MB before compression",
            f"time:    {time}",
        ]
    )
