"""Every unit in a process of its own: nothing is measured where something else was."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from rampipe.engine.events import (
    Action,
    ActorDied,
    ActorReady,
    Assign,
    KillActor,
    StartActor,
    Task,
    TaskDone,
    TaskFailed,
    Tick,
)
from rampipe.engine.scheduler import Limits, Scheduler
from tests.unit.engine.simulation import LIMITS, InvariantError, Simulation

FRESH = Limits(min_deadline_s=60.0, start_timeout_s=600.0, fresh_actors=True)


def assigned(actions: list[Action]) -> list[Task]:
    return [action.task for action in actions if isinstance(action, Assign)]


def started(num_units: int, num_actors: int = 1, limits: Limits = FRESH) -> tuple[Scheduler, list[Task]]:
    scheduler = Scheduler({unit: range(2) for unit in range(num_units)}, num_actors=num_actors, limits=limits)
    starts = scheduler.start(0.0)
    return scheduler, [task for start in starts for task in assigned(scheduler.handle(ActorReady(start.actor), 0.0))]


def test_an_actor_that_answered_is_ended_and_another_takes_the_next_unit() -> None:
    scheduler, (first,) = started(3)
    assert scheduler.handle(TaskDone(first), 1.0) == [KillActor(0, "has answered"), StartActor(1)]
    (second,) = assigned(scheduler.handle(ActorReady(1), 2.0))
    assert (second.unit, second.actor) == (1, 1)


def test_without_fresh_actors_the_same_one_goes_on() -> None:
    scheduler, tasks = started(3, limits=Limits())
    assert [task.unit for task in tasks] == [0, 1]
    assert not any(isinstance(action, KillActor) for action in scheduler.handle(TaskDone(tasks[0]), 1.0))


def test_the_last_answer_starts_nobody() -> None:
    scheduler, tasks = started(2, num_actors=2)
    assert [(task.unit, task.actor) for task in tasks] == [(0, 0), (1, 1)]
    assert scheduler.handle(TaskDone(tasks[0]), 1.0) == [KillActor(0, "has answered")]
    scheduler.handle(TaskDone(tasks[1]), 2.0)
    assert scheduler.finished


def test_an_actor_that_raised_is_replaced_too() -> None:
    scheduler, (task,) = started(1)
    assert scheduler.handle(TaskFailed(task, "KeyError: x"), 1.0) == [KillActor(0, "has answered"), StartActor(1)]
    (again,) = assigned(scheduler.handle(ActorReady(1), 2.0))
    assert (again.unit, again.attempt) == (0, 2)


def test_nothing_runs_twice_at_once() -> None:
    scheduler, tasks = started(2, num_actors=2)
    assert [task.unit for task in tasks] == [0, 1]
    assert assigned([*scheduler.handle(TaskDone(tasks[0]), 1.0), *scheduler.handle(Tick(), 50.0)]) == []
    _, tasks = started(2, num_actors=2, limits=Limits())
    assert [task.unit for task in tasks] == [0, 1, 1]


def test_a_unit_that_kills_three_actors_is_searched_with_a_fresh_one_for_each_probe() -> None:
    scheduler, (task,) = started(1)
    for actor in range(3):
        scheduler.handle(ActorDied(actor, "killed"), 1.0)
        (task,) = assigned(scheduler.handle(ActorReady(actor + 1), 2.0))
    assert (task.actor, task.rows) == (3, range(0, 1))
    scheduler.handle(TaskDone(task), 3.0)
    (probe,) = assigned(scheduler.handle(ActorReady(4), 4.0))
    assert (probe.actor, probe.rows) == (4, range(1, 2))


class FreshScheduler(Scheduler):
    """The simulation's units, each in an actor of its own."""

    def __init__(self, units: Mapping[int, range], *, num_actors: int, limits: Limits) -> None:
        fresh = Limits(min_deadline_s=limits.min_deadline_s, start_timeout_s=limits.start_timeout_s, fresh_actors=True)
        super().__init__(units, num_actors=num_actors, limits=fresh)


class ReusesActors(FreshScheduler):
    """Keeps an actor that has answered."""

    def _retire(self, task: Task) -> list[Action]:
        return []


class Speculates(FreshScheduler):
    """Copies what still runs."""

    def _decide(self, now_s: float) -> list[Action]:
        actions = super()._decide(now_s)
        return actions + ([] if self.finished or self.ledger.waiting else self._copies(now_s))


class FreshSimulation(Simulation):
    """Counts who did what."""

    def _call(self, task: Task) -> None:
        state = self.actors[task.actor]
        self._expect(not getattr(state, "used", False), f"actor {task.actor} is used twice")
        state.used = True  # type: ignore[attr-defined]
        running = [call for other in self.actors.values() if other.alive for call in other.calls]
        same = [call for call in running if (call.unit, call.rows) == (task.unit, task.rows)]
        self._expect(not same, f"unit {task.unit} runs twice at once")
        super()._call(task)


def test_all_seeds_keep_the_promises() -> None:
    num_finished = 0
    for seed in range(200):
        try:
            simulation = FreshSimulation(seed, FreshScheduler).run()
        except InvariantError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
        assert simulation.given_up is None or simulation.faults.all_starts_fail, f"seed {seed}: {simulation.given_up}"
        num_finished += simulation.given_up is None
    assert num_finished > 180
    assert LIMITS.fresh_actors is False


@pytest.mark.parametrize("bug", [ReusesActors, Speculates], ids=lambda bug: bug.__name__)
def test_a_planted_bug_is_found_by_the_same_promises(bug: type[Scheduler]) -> None:
    for seed in range(200):
        try:
            FreshSimulation(seed, bug).run()
        except InvariantError:
            return
    pytest.fail(f"{bug.__name__} kept every promise")
