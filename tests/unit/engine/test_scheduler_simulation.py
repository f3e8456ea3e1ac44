from __future__ import annotations

from collections import Counter
from typing import ClassVar

import pytest

from rampipe.engine.events import Event, Task, TaskDone
from rampipe.engine.ledger import Ledger, Work
from rampipe.engine.scheduler import Scheduler
from tests.unit.engine.simulation import InvariantError, Simulation

NUM_SEEDS = 500


def test_all_seeds_keep_the_promises() -> None:
    ends = Counter[str]()
    for seed in range(NUM_SEEDS):
        try:
            simulation = Simulation(seed).run()
        except InvariantError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
        if simulation.given_up is not None:
            assert simulation.faults.all_starts_fail, f"seed {seed} gave up: {simulation.given_up}"
            assert "no such checkpoint" in simulation.given_up
        ends["gave up" if simulation.given_up is not None else "finished"] += 1
        ends["isolated"] += any(task.skip for task in simulation.committed.values())
    assert ends["finished"] > 0.9 * NUM_SEEDS
    assert ends["gave up"] > 0
    assert ends["isolated"] > 0.2 * NUM_SEEDS


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

    def handle(self, event: Event, now_s: float) -> list:
        if isinstance(event, TaskDone):
            self.ledger.complete(event.task.unit)
        return super().handle(event, now_s)


class RetriesForever(Scheduler):
    """Retries forever instead of isolating."""

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **options)  # type: ignore[arg-type]
        self.ledger.max_strikes = 10**9


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
