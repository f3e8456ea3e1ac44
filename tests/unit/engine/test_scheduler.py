"""Single rules, one at a time. Whether they hold together is the simulation's business."""

from __future__ import annotations

import pytest

from rampipe.engine.events import (
    ActorDied,
    ActorDraining,
    ActorFailedToStart,
    ActorReady,
    Assign,
    GiveUp,
    KillActor,
    StartActor,
    Task,
    TaskDone,
    TaskFailed,
    Tick,
)
from rampipe.engine.scheduler import Limits, Scheduler

LIMITS = Limits(min_deadline_s=60.0, start_timeout_s=600.0)


def started(num_units: int, num_actors: int) -> tuple[Scheduler, list[Task]]:
    scheduler = Scheduler(
        {unit: range(unit * 4, unit * 4 + 4) for unit in range(num_units)}, num_actors=num_actors, limits=LIMITS
    )
    assert scheduler.start(0.0) == [StartActor(actor) for actor in range(min(num_units, num_actors))]
    tasks = list[Task]()
    for actor in range(min(num_units, num_actors)):
        tasks += assigned(scheduler.handle(ActorReady(actor), 0.0))
    return scheduler, tasks


def assigned(actions: list) -> list[Task]:
    return [action.task for action in actions if isinstance(action, Assign)]


def test_two_tasks_in_flight_and_the_next_one_when_one_is_done() -> None:
    scheduler, tasks = started(4, 1)
    assert [task.unit for task in tasks] == [0, 1]
    assert [task.unit for task in assigned(scheduler.handle(TaskDone(tasks[0]), 1.0))] == [2]


def strikes(scheduler: Scheduler) -> list[int]:
    return [state.strikes for state in scheduler.ledger.units.values()]


def test_a_dead_actor_is_replaced_and_of_two_units_neither_is_blamed() -> None:
    scheduler, _ = started(3, 1)
    assert scheduler.handle(ActorDied(0, "killed"), 1.0) == [StartActor(1)]
    (alone,) = assigned(scheduler.handle(ActorReady(1), 2.0))
    assert alone.unit == 0, "a suspect, and nothing beside it"
    assert strikes(scheduler) == [0, 0, 0]
    (other,) = assigned(scheduler.handle(TaskDone(alone), 3.0))
    assert other.unit == 1
    scheduler.handle(ActorDied(1, "killed"), 4.0)
    assert strikes(scheduler) == [0, 1, 0], "alone, there is no doubt"
    (again,) = assigned(scheduler.handle(ActorReady(2), 5.0))
    assert [task.unit for task in assigned(scheduler.handle(TaskDone(again), 6.0))] == [2]


def test_a_suspect_goes_to_an_idle_actor_while_others_stay_busy() -> None:
    scheduler, tasks = started(6, 2)
    assert [(task.actor, task.unit) for task in tasks] == [(0, 0), (0, 1), (1, 2), (1, 3)]
    scheduler.handle(ActorDied(0, "killed"), 1.0)
    assert assigned(scheduler.handle(TaskDone(tasks[2]), 2.0)) == [], "a suspect waits for an actor of its own"
    (first,) = assigned(scheduler.handle(ActorReady(2), 3.0))
    assert (first.actor, first.unit) == (2, 0)
    (second,) = assigned(scheduler.handle(TaskDone(tasks[3]), 4.0))
    assert (second.actor, second.unit) == (1, 1)
    assert [task.unit for task in assigned(scheduler.handle(TaskDone(second), 5.0))] == [4, 5]


def test_no_deadline_below_the_minimum_and_five_p95_above_it() -> None:
    scheduler, tasks = started(3, 1)
    scheduler.handle(TaskDone(tasks[0]), 20.0)
    assert not any(isinstance(action, KillActor) for action in scheduler.handle(Tick(), 20.0 + 99.0))
    assert any(isinstance(action, KillActor) for action in scheduler.handle(Tick(), 20.0 + 101.0))


def test_before_anything_is_done_the_start_timeout_is_the_deadline() -> None:
    scheduler, _ = started(1, 1)
    assert scheduler.handle(Tick(), 599.0) == []
    assert scheduler.handle(Tick(), 601.0) == [KillActor(0, "no answer within 600 s"), StartActor(1)]


def test_an_idle_actor_copies_a_straggler_and_the_first_answer_wins() -> None:
    scheduler, tasks = started(3, 2)
    assert [(task.actor, task.unit) for task in tasks] == [(0, 0), (0, 1), (1, 2)]
    assert scheduler.handle(TaskDone(tasks[0]), 10.0) == []
    assert scheduler.handle(TaskDone(tasks[1]), 20.0) == []
    (copy,) = assigned(scheduler.handle(Tick(), 20.1))
    assert (copy.unit, copy.actor, copy.attempt) == (2, 0, 2)
    assert scheduler.handle(TaskDone(copy), 22.0) == []
    assert scheduler.finished
    assert scheduler.handle(TaskDone(tasks[2]), 23.0) == []


def test_what_waits_behind_another_task_is_copied_at_once() -> None:
    scheduler = Scheduler({0: range(1), 1: range(1)}, num_actors=2, limits=LIMITS)
    scheduler.start(0.0)
    assert [task.unit for task in assigned(scheduler.handle(ActorReady(0), 0.0))] == [0, 1]
    assert [task.unit for task in assigned(scheduler.handle(ActorReady(1), 0.0))] == [1]


def test_two_identical_constructor_failures_end_the_job_with_the_cause() -> None:
    scheduler = Scheduler({0: range(1)}, num_actors=1, limits=LIMITS)
    scheduler.start(0.0)
    assert scheduler.handle(ActorFailedToStart(0, "ModelError: x"), 1.0) == [StartActor(1)]
    (give_up,) = scheduler.handle(ActorFailedToStart(1, "ModelError: x"), 2.0)
    assert isinstance(give_up, GiveUp)
    assert "ModelError: x" in give_up.cause


def test_two_different_constructor_failures_do_not() -> None:
    scheduler = Scheduler({0: range(1)}, num_actors=1, limits=LIMITS)
    scheduler.start(0.0)
    scheduler.handle(ActorFailedToStart(0, "node a left"), 1.0)
    assert scheduler.handle(ActorFailedToStart(1, "node b left"), 2.0) == [StartActor(2)]


def test_two_processes_that_vanish_while_starting_are_replaced_but_not_forever() -> None:
    scheduler = Scheduler({0: range(1)}, num_actors=1, limits=LIMITS)
    scheduler.start(0.0)
    for actor in range(9):
        assert scheduler.handle(ActorFailedToStart(actor, "vanished", raised=False), 1.0) == [StartActor(actor + 1)]
    (give_up,) = scheduler.handle(ActorFailedToStart(9, "vanished", raised=False), 1.0)
    assert isinstance(give_up, GiveUp)
    assert "vanished" in give_up.cause


def test_a_draining_actor_gets_nothing_new_and_goes_without_blame() -> None:
    scheduler, tasks = started(4, 1)
    assert scheduler.handle(ActorDraining(0), 1.0) == [StartActor(1)]
    assert scheduler.handle(TaskDone(tasks[0]), 2.0) == []
    scheduler.handle(ActorDied(0, "node gone"), 3.0)
    assert all(state.strikes == 0 for state in scheduler.ledger.units.values())
    assert [task.unit for task in assigned(scheduler.handle(ActorReady(1), 4.0))] == [1, 2]


def test_no_replica_in_time_ends_the_job() -> None:
    scheduler = Scheduler({0: range(1)}, num_actors=1, limits=LIMITS)
    scheduler.start(0.0)
    assert scheduler.handle(Tick(), 600.0) == []
    (give_up,) = scheduler.handle(Tick(), 601.0)
    assert isinstance(give_up, GiveUp)


def test_a_failure_that_no_sample_can_cause_ends_the_job_without_a_search() -> None:
    scheduler, tasks = started(1, 1)
    task = tasks[0]
    for _ in range(2):
        (task,) = assigned(scheduler.handle(TaskFailed(task, "StorageError: read-only", job_level=True), 1.0))
        assert task.rows is None
    (give_up,) = scheduler.handle(TaskFailed(task, "StorageError: read-only", job_level=True), 2.0)
    assert isinstance(give_up, GiveUp)
    assert "StorageError: read-only" in give_up.cause


def test_a_unit_that_kills_three_actors_is_searched_without_committing() -> None:
    scheduler, (task,) = started(1, 1)
    for actor in range(3):
        assert task.rows is None
        scheduler.handle(ActorDied(actor, "killed"), 1.0)
        tasks = assigned(scheduler.handle(ActorReady(actor + 1), 2.0))
        task = tasks[0]
    assert [probe.rows for probe in tasks] == [range(0, 2)], "a probe has its actor for itself"
    assert [probe.rows for probe in assigned(scheduler.handle(TaskDone(task), 3.0))] == [range(2, 4)]
    assert not scheduler.finished


@pytest.mark.fault("F3")
@pytest.mark.parametrize(("at_once", "strikes"), [(True, 1), (False, 2)])
def test_actors_that_die_at_once_are_not_given_each_others_work(at_once: bool, strikes: int) -> None:
    """A node goes with an actor at work and an idle one. Told one by one, the second is blamed for what it never began:
    three such deaths would make an error row of a good sample.
    """
    scheduler, tasks = started(4, 2)
    done = [TaskDone(task) for task in tasks if task.unit != 0]
    scheduler.handle_all(done, 1.0)
    events = [ActorDied(0, "node gone"), ActorDied(1, "node gone")]
    for part in [events] if at_once else [[event] for event in events]:
        scheduler.handle_all(part, 1.0)
    assert scheduler.ledger.units[0].strikes == strikes
