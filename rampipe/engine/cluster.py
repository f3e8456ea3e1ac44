"""Starts or joins a Ray cluster, and carries out what the scheduler asks for.

Ray is told to retry nothing (`max_restarts=0, max_task_retries=0`): attempts are counted by the scheduler.
RAY_ADDRESS joins a running cluster, as `ray job submit` sets it; without it, a private one is started on loopback.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rampipe.config import RunConfig
from rampipe.engine.events import (
    Action,
    ActorDied,
    ActorDraining,
    ActorFailedToStart,
    ActorReady,
    Assign,
    Event,
    GiveUp,
    KillActor,
    StartActor,
    Task,
    TaskDone,
    TaskFailed,
    Tick,
)
from rampipe.engine.exposure import refuse_exposed
from rampipe.engine.failures import death_cause, failure_cause, is_job_level, raised_in_constructor, start_cause
from rampipe.engine.placement import Node, count_replicas
from rampipe.engine.progress import Progress
from rampipe.engine.scheduler import Limits, Scheduler
from rampipe.errors import ClusterError
from rampipe.types import Unit

TICK_S = 0.5
GONE_TIMEOUT_S = 10.0
DRAIN_POLL_S = 5.0
OBJECT_STORE_BYTES = 128 << 20
"""Of a private cluster: only descriptions of units and commit records pass through it."""

WorkerFactory = Callable[..., Any]
"""The class of the actors: `Worker`, or what tests make of it."""


def run_units(
    config: RunConfig,
    units: Sequence[Unit],
    *,
    worker: Callable[[], tuple[WorkerFactory, dict[str, Any]]],
    progress: Progress,
    fresh_actors: bool = False,
    enough: Callable[[int], bool] | None = None,
) -> None:
    """Run and commit every unit, or raise ClusterError with the cause; what was committed stays.

    worker: gives the actors' class and the arguments of its constructor. Called only when the resources are there.
    fresh_actors: a process of its own for every unit, and no unit twice at once.
    enough: asked with each unit when it is committed, whether the others may be left undone.
    """
    with joined_cluster():
        num_replicas = min(count_replicas(config.cluster, _nodes()), len(units))
        limits = Limits(
            min_deadline_s=config.cluster.min_deadline_s,
            start_timeout_s=config.cluster.start_timeout_s,
            fresh_actors=fresh_actors,
        )
        rows = {unit.unit_id: range(unit.row_start, unit.row_stop) for unit in units}
        scheduler = Scheduler(rows, num_actors=num_replicas, limits=limits)
        actors = _Actors(config, {unit.unit_id: unit for unit in units}, worker(), depth=scheduler.fleet.depth)
        try:
            _loop(scheduler, actors, progress, enough)
        finally:
            actors.close()


def run_on_replica(config: RunConfig, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function once, where a replica would live: with its GPUs and CPUs. Its exceptions arrive as they are."""
    with joined_cluster():
        import ray
        from ray.exceptions import RayTaskError

        count_replicas(config.cluster, _nodes())
        task: Any = ray.remote(function).options(  # pyright: ignore[reportCallIssue, reportArgumentType]
            num_cpus=config.cluster.cpus_per_replica, num_gpus=config.cluster.gpus_per_replica, max_retries=0
        )
        try:
            return ray.get(task.remote(*arguments))
        except RayTaskError as error:
            raise error.cause from error


def _loop(scheduler: Scheduler, actors: _Actors, progress: Progress, enough: Callable[[int], bool] | None) -> None:
    from ray.util.metrics import Gauge

    busy = Gauge("rampipe_device_busy_frac", description="Share of the devices' time in which they computed")
    actions = scheduler.start(time.monotonic())
    while True:
        for action in actions:
            if isinstance(action, GiveUp):
                raise ClusterError(f"{action.cause}. What is committed is kept; the same command goes on from there.")
            actors.do(action)
        if scheduler.finished:
            return
        events = actors.wait()
        tasks = [event.task for event in events if isinstance(event, TaskDone) and event.task.rows is None]
        answered = {task.unit: task for task in tasks if not scheduler.ledger.units[task.unit].done}
        actions = scheduler.handle_all([*events, Tick()], time.monotonic())
        for unit, task in answered.items():
            if scheduler.ledger.units[unit].done:
                _count(progress, actors.records[task.task_id])
                if enough is not None and enough(unit):
                    return
        actors.records.clear()
        progress.beat(num_replicas=scheduler.fleet.num_ready)
        if progress.device_busy_frac is not None:
            busy.set(progress.device_busy_frac)


def _count(progress: Progress, record: Mapping[str, Any]) -> None:
    """A commit record, which may be of an earlier job that timed nothing."""
    progress.add(
        num_ok=record["num_ok"],
        num_errors=record["num_errors"],
        forward_s=record.get("forward_s"),
        device_s=record.get("seconds"),
    )


class _Actors:
    """Handles of the actors, the calls in flight, and what came of them, in the scheduler's words."""

    def __init__(
        self, config: RunConfig, units: dict[int, Unit], worker: tuple[WorkerFactory, dict[str, Any]], *, depth: int
    ) -> None:
        import ray

        factory, self._arguments = worker
        self._class: Any = ray.remote(factory).options(  # pyright: ignore[reportCallIssue, reportArgumentType]
            num_cpus=config.cluster.cpus_per_replica,
            num_gpus=config.cluster.gpus_per_replica,
            max_restarts=0,
            max_task_retries=0,
            max_concurrency=depth,
        )
        self._units = units
        self._handles: dict[int, Any] = {}
        self._calls: dict[Any, Task | int] = {}
        """A task, or the number of an actor that is starting, by the reference of its answer."""
        self._nodes: dict[int, str] = {}
        self._next_drain_poll_s = 0.0
        self.records: dict[int, Any] = {}
        """Commit records of the calls that were answered last, by task."""

    def do(self, action: Action) -> None:
        """Carry out an action other than GiveUp."""
        match action:
            case StartActor(actor):
                self._handles[actor] = self._class.remote(**self._arguments)
                self._calls[self._handles[actor].__ray_ready__.remote()] = actor
            case KillActor(actor):
                self._drop(actor)
            case Assign(task):
                self._call(task)
            case _:
                raise AssertionError(action)

    def wait(self) -> list[Event]:
        """What happened within the next half second, answers before deaths: a unit that was answered is not blamed."""
        import ray

        if not self._calls:
            time.sleep(TICK_S)
            return []
        references = list(self._calls)
        ready, _ = ray.wait(references, num_returns=1, timeout=TICK_S)
        if ready:
            ready, _ = ray.wait(references, num_returns=len(references), timeout=0)
        events = [event for reference in ready for event in self._translate(reference)]
        return sorted([*events, *self._draining()], key=lambda event: isinstance(event, ActorDied))

    def close(self) -> None:
        """End all actors, and wait until those that were at work are gone: nothing is published from here on."""
        import ray

        at_work = list(self._calls)
        for actor in list(self._handles):
            self._drop(actor)
        if at_work:
            ray.wait(at_work, num_returns=len(at_work), timeout=GONE_TIMEOUT_S)

    def _call(self, task: Task) -> None:
        handle, unit = self._handles.get(task.actor), self._units[task.unit]
        if handle is None:  # died in the same round: its death is on its way to the scheduler
            return
        if task.rows is None:
            reference = handle.run_unit.remote(unit, attempt=task.attempt, skip=task.skip)
        else:
            reference = handle.probe.remote(unit, task.rows, skip=task.skip)
        self._calls[reference] = task

    def _translate(self, reference: Any) -> Iterator[Event]:
        import ray
        from ray.exceptions import RayError, RayTaskError

        call = self._calls.pop(reference, None)
        if call is None:  # of an actor whose death was reported by an earlier reference
            return
        actor = call if isinstance(call, int) else call.actor
        try:
            answer: Any = ray.get(reference)
        except RayTaskError as error:
            yield from self._task_error(call, error)
        except RayError as error:
            if getattr(error, "preempted", False):
                yield ActorDraining(actor)
            node = self._nodes.get(actor)
            self._drop(actor)
            yield from self._dead_neighbours(node)
            if isinstance(call, int):
                text = str(error)
                yield ActorFailedToStart(actor, start_cause(text), raised=raised_in_constructor(text))
            else:
                yield ActorDied(actor, death_cause(str(error)))
        else:
            if isinstance(call, int):
                self._nodes[call] = _node_of(self._handles[call])
                yield ActorReady(call)
            else:
                self.records[call.task_id] = answer
                yield TaskDone(call)

    def _dead_neighbours(self, node: str | None) -> Iterator[Event]:
        """Actors that went with their node: of one that has nothing to do, no call tells."""
        import ray

        neighbours = [actor for actor in self._handles if node is not None and self._nodes.get(actor) == node]
        if neighbours and node not in {alive["NodeID"] for alive in ray.nodes() if alive["Alive"]}:
            for actor in neighbours:
                self._drop(actor)
                yield ActorDied(actor, "its node is gone")

    def _task_error(self, call: Task | int, error: Any) -> Iterator[Event]:
        cause = failure_cause(error.cause, str(error))
        if isinstance(call, int):
            self._drop(call)
            yield ActorFailedToStart(call, cause)
        else:
            yield TaskFailed(call, cause, job_level=is_job_level(error.cause))

    def _drop(self, actor: int) -> None:
        """Forget an actor and its calls, and make sure that it is gone: one that is only unreachable may still run."""
        import ray

        handle = self._handles.pop(actor, None)
        if handle is not None:
            ray.kill(handle, no_restart=True)
        gone = [ref for ref, call in self._calls.items() if (call if isinstance(call, int) else call.actor) == actor]
        for reference in gone:
            del self._calls[reference]

    def _draining(self) -> list[Event]:
        """Actors on nodes that Ray is about to take away."""
        if time.monotonic() < self._next_drain_poll_s:
            return []
        self._next_drain_poll_s = time.monotonic() + DRAIN_POLL_S
        draining = set(_state().get_draining_nodes())
        return [ActorDraining(actor) for actor in self._handles if self._nodes.get(actor) in draining]


@contextmanager
def joined_cluster(*, object_store_bytes: int | None = OBJECT_STORE_BYTES) -> Generator[None]:
    """Use the cluster that this process is connected to, that of RAY_ADDRESS, or a private one that ends with us.

    object_store_bytes: of a private one; None takes Ray's share of the memory.
    """
    # Read when ray is imported: without it, a private cluster listens on all interfaces.
    if "RAY_ADDRESS" not in os.environ:
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    if ray.is_initialized():
        yield
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if "RAY_ADDRESS" in os.environ:
            context = ray.init(**quiet)
        else:
            context = ray.init("local", include_dashboard=False, object_store_memory=object_store_bytes, **quiet)
    except Exception as error:  # what a node that starts too slowly raises has no class of its own
        address, reason = os.environ.get("RAY_ADDRESS"), (str(error) or type(error).__name__).splitlines()[0][:300]
        if address is None:
            raise ClusterError(
                f"No private Ray cluster started: {reason} Start again: what is done is kept."
            ) from error
        raise ClusterError(
            f"Ray at RAY_ADDRESS={address} cannot be used: {reason} Name a cluster that `ray status` finds, or unset "
            "RAY_ADDRESS for a private one."
        ) from error
    try:
        if context.dashboard_url:
            refuse_exposed(context.dashboard_url, has_token=_has_token())
        yield
    finally:
        ray.shutdown()


def _has_token() -> bool:
    from ray._private.authentication.authentication_utils import is_token_auth_enabled

    return is_token_auth_enabled()


def _nodes() -> list[Node]:
    """Resources of the living nodes, or of all that an autoscaler may start when those are more."""
    import ray

    alive: list[Node] = [dict(node["Resources"]) for node in ray.nodes() if node["Alive"]]
    autoscaler = _state().get_cluster_config()
    groups = autoscaler.node_group_configs if autoscaler is not None else ()
    possible: list[Node] = [dict(group.resources) for group in groups for _ in range(max(0, group.max_count))]
    return possible if len(possible) > len(alive) else alive


def _node_of(handle: Any) -> str:
    return _state().actor_table(handle._actor_id.hex()).get("Address", {}).get("NodeID", "")


def _state() -> Any:
    """Ray's view of its cluster. Private, and the version of Ray is pinned: the public API lacks draining nodes."""
    import ray._private.state

    return ray._private.state.state
