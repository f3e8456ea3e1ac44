from __future__ import annotations

from collections import Counter
from typing import ClassVar

import pytest

from rampipe.engine.events import Event, FailureKind, Task, TaskDone
from rampipe.engine.ledger import Ledger, Work
from rampipe.engine.scheduler import Scheduler
from tests.unit.engine.simulation import InvariantError, Simulation

NUM_SEEDS = 300
SEEDS_PER_LARGE_ONE = 300
"""A simulation of hundreds of nodes takes seconds; one of a few nodes milliseconds."""


@pytest.mark.fault("F1", "F4", "F10", "F13", "F20")
def test_all_seeds_keep_the_promises(pytestconfig: pytest.Config) -> None:
    ends, num_seeds = Counter[str](), pytestconfig.getoption("seeds") or NUM_SEEDS
    for seed in range(num_seeds):
        try:
            simulation = Simulation(seed).run()
        except InvariantError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
        if simulation.given_up is not None:
            assert simulation.faults.all_starts_fail, f"seed {seed} gave up: {simulation.given_up}"
            assert "no such checkpoint" in simulation.given_up
        ends["gave up" if simulation.given_up is not None else "finished"] += 1
        ends["isolated"] += any(task.skip for task in simulation.committed.values())
    assert ends["finished"] > 0.9 * num_seeds
    assert ends["gave up"] > 0
    assert ends["isolated"] > 0.2 * num_seeds


@pytest.mark.fault("F3", "F20")
def test_hundreds_of_nodes_keep_the_promises(pytestconfig: pytest.Config) -> None:
    num_actors = list[int]()
    num_seeds = (pytestconfig.getoption("seeds") or NUM_SEEDS) // SEEDS_PER_LARGE_ONE
    for seed in range(1, 1 + num_seeds):  # seed 0 has 964 actors, seed 1 only 237
        try:
            simulation = Simulation(seed, large=True).run()
        except InvariantError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
        assert simulation.given_up is None or simulation.faults.all_starts_fail
        num_actors.append(simulation.num_actors)
    assert all(100 <= count <= 1000 for count in num_actors)


class ForgetsQueuedTasks(Scheduler):
    """Requeues what a dead actor was running, not what waited behind it."""

    def _put_back(self, tasks: list[Task]) -> None:
        super()._put_back(tasks[:1])


class NeverLosesPatience(Scheduler):
    """No deadline."""

    def _deadline_s(self, member: object) -> float:
        return 1e9


class IgnoresProbes(Scheduler):
    """Ends every search at its first answer, whatever it found."""

    def _on_done(self, task: Task, now_s: float) -> None:
        super()._on_done(task, now_s)
        isolation = self.ledger.units[task.unit].isolation
        if isolation is not None:
            for rows in isolation.open_ranges:
                isolation.survived(rows)


class CountsProbesAsDone(Scheduler):
    """Takes a probe that survived for a committed unit."""

    def _take_in(self, event: Event, now_s: float) -> list:
        if isinstance(event, TaskDone):
            self.ledger.complete(event.task.unit)
        return super()._take_in(event, now_s)


class RetriesForever(Scheduler):
    """Retries forever instead of isolating."""

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **options)  # type: ignore[arg-type]
        self.ledger.max_strikes = 10**9


class BlamesTheFirst(Scheduler):
    """Of two units that an actor had when it was lost, blames the one that came first."""

    def _lose(self, actor: int, *, kind: FailureKind, cause: str, now_s: float) -> None:
        member = self.fleet.get(actor)
        if member is not None and len(member.tasks) > 1 and not member.draining:
            self.ledger.strike(Work(member.tasks[0].unit, member.tasks[0].rows), kind=kind, cause=cause)
            member.draining = True
        super()._lose(actor, kind=kind, cause=cause, now_s=now_s)


class LeavesActorsIdle(Scheduler):
    """Leaves work in the queue although an actor is idle."""

    calls: ClassVar[int] = 0

    def _decide(self, now_s: float) -> list:
        LeavesActorsIdle.calls += 1
        return [] if LeavesActorsIdle.calls % 7 == 0 else super()._decide(now_s)


BUGS = [
    ForgetsQueuedTasks,
    NeverLosesPatience,
    IgnoresProbes,
    CountsProbesAsDone,
    RetriesForever,
    BlamesTheFirst,
    LeavesActorsIdle,
]


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__)
def test_a_planted_bug_is_found_by_the_same_promises(bug: type[Scheduler]) -> None:
    for seed in range(NUM_SEEDS):
        simulation = Simulation(seed, bug)
        try:
            simulation.run()
        except InvariantError:
            return
        if simulation.given_up is not None and not simulation.faults.all_starts_fail:
            return
    pytest.fail(f"{bug.__name__} kept every promise")


def test_work_is_queued_once() -> None:
    ledger = Ledger.of({0: range(4)}, max_strikes=3)
    ledger.take()
    ledger.put_back(Work(0))
    ledger.put_back(Work(0))
    assert list(ledger.waiting) == [Work(0)]
    assert ledger.next() == Work(0)
    ledger.complete(0)
    assert ledger.next() is None


def search(ledger: Ledger, *, killers: set[int]) -> None:
    """The unit ends an attempt, and each of its rows is probed alone."""
    ledger.strike(Work(0), kind="died", cause="gone")
    ledger.put_back(Work(0))
    isolation = ledger.units[0].isolation
    for rows in isolation.open_ranges if isolation is not None else ():
        if rows.start in killers:
            ledger.strike(Work(0, rows), kind="died", cause="gone")
        else:
            ledger.survived(Work(0, rows))


@pytest.mark.parametrize("found_first", [True, False])
def test_only_searches_that_find_nothing_are_held_against_a_unit(found_first: bool) -> None:
    ledger = Ledger.of({0: range(2)}, max_strikes=1)
    for killers in [{0}] * found_first + [set(), set()]:
        search(ledger, killers=killers)
        assert ledger.failure is None
    search(ledger, killers=set())
    assert "no single sample of it does" in str(ledger.failure)
