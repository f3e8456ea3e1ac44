"""One capture run, from a configuration to a finished run folder. Finished work is never done again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from rampipe.config import RunConfig
from rampipe.data import open_source
from rampipe.engine.plan import Estimate, estimate, make_spec
from rampipe.engine.progress import Progress
from rampipe.errors import IncompleteError
from rampipe.tables.commit import read_commits
from rampipe.tables.finish import finish_run
from rampipe.tables.run import Run, RunSpec, create_run
from rampipe.tables.stop import stop_run
from rampipe.tables.stopped import Stopped, read_stopped
from rampipe.tables.storage import open_storage
from rampipe.types import Unit

Announce = Callable[[str], None]
MakeWorker = Callable[[], tuple[Callable[..., Any], dict[str, Any]]]
"""The class of the actors and its arguments; called only when there is work."""


@runtime_checkable
class Watch(Protocol):
    """Says when a capture has seen enough. order: ids of the planned units as they are to be worked on."""

    @property
    def order(self) -> Sequence[int]: ...  # noqa: D102
    @property
    def is_certain(self) -> bool: ...  # noqa: D102

    def add_unit(self, unit_id: int) -> None:
        """A unit is committed."""
        ...

    def stopped(self) -> Stopped | None:
        """What the run is cut to; None while every unit is needed."""
        ...


MakeWatch = Callable[[Run], Watch]


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
    make_watch: MakeWatch | None = None,
) -> CaptureOutcome:
    """Plan, run what is not committed yet, and finish. Ray is not started when nothing is left.

    plan_only: say what would be done, write nothing. worker_class: in place of `Worker`. make_watch: of what ends the
    capture early.
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

    watch = None if make_watch is None or run.stopped is not None else make_watch(run)
    return complete_run(config, run, worker=worker, announce=announce, watch=watch)


def complete_run(
    config: RunConfig,
    run: Run,
    *,
    worker: MakeWorker,
    announce: Announce,
    fresh_actors: bool = False,
    watch: Watch | None = None,
) -> CaptureOutcome:
    """Run the units of a run of any kind that are not committed yet, and finish it.

    fresh_actors: a process of its own for every unit. watch: ends it with fewer units, which then are the run.
    """
    commits = read_commits(run.storage)
    todo = [unit for unit in run.units if unit.unit_id not in commits]
    announce(f"run {run.storage.uri}: {len(commits)} of {len(run.units)} units are done")
    if todo and watch is None:
        _run_todo(config, todo, worker, announce=announce, fresh_actors=fresh_actors)
    elif todo and watch is not None:
        run = _run_until_certain(config, run, {*commits}, worker, watch, announce)
    if run.stopped is not None:
        announce(f"run {run.storage.uri}: {run.stopped.sentence}")
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
    config: RunConfig,
    todo: Sequence[Unit],
    worker: MakeWorker,
    *,
    announce: Announce,
    fresh_actors: bool = False,
    enough: Callable[[int], bool] | None = None,
) -> None:
    from rampipe.engine.cluster import run_units

    with Progress(num_units=len(todo), num_samples=sum(unit.num_samples for unit in todo)) as progress:
        run_units(config, todo, worker=worker, progress=progress, fresh_actors=fresh_actors, enough=enough)
    if progress.device_busy_frac is not None:
        announce(f"devices busy {progress.device_busy_frac:.0%} of the time in which units had them")


def _run_until_certain(
    config: RunConfig, run: Run, committed: set[int], worker: MakeWorker, watch: Watch, announce: Announce
) -> Run:
    """Run units in the watch's order; returns the run, cut to what was needed."""
    units = {unit.unit_id: unit for unit in run.units}

    def enough(unit_id: int) -> bool:
        watch.add_unit(unit_id)
        return watch.is_certain

    todo = [units[unit_id] for unit_id in watch.order if unit_id not in committed]
    for unit_id in committed:
        watch.add_unit(unit_id)
    if not watch.is_certain:
        _run_todo(config, todo, worker, announce=announce, enough=enough)
    stopped = watch.stopped()
    return run if stopped is None else stop_run(run, stopped)


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
    stopped = read_stopped(storage)
    text = describe(spec, left, uri=storage.uri, num_replicas=num_replicas or 1)
    announce(text if stopped is None else f"run:     {storage.uri}\nunits:   {stopped.sentence}")
    is_done = not left.num_units or stopped is not None
    return CaptureOutcome(
        run_uri=storage.uri,
        run_id=spec.run_id,
        num_ok=sum(commit.num_ok for commit in commits.values()),
        num_errors=sum(commit.num_errors for commit in commits.values()),
        num_units=len(spec.units),
        skipped=is_done,
        complete=is_done,
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
