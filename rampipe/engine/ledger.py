"""The book about units: waiting, in flight, under isolation or done; strikes and attempts are counted here."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from rampipe.engine.events import FailureKind, SkippedRow
from rampipe.engine.isolation import Isolation

MAX_VAIN_SEARCHES = 2
"""A unit that still fails after so many searches that found no sample does not fail because of single samples."""


@dataclass(slots=True)
class UnitState:
    """One unit. `strikes`: attempts since the last isolation that ended badly, for certain because of the unit.

    suspect: was there when an actor was lost that also had another unit. It runs alone from then on, so that the next
    loss tells.
    """

    rows: range
    done: bool = False
    attempts: int = 0
    strikes: int = 0
    suspect: bool = False
    job_level_failures: int = 0
    num_vain_searches: int = 0
    skip: tuple[SkippedRow, ...] = ()
    isolation: Isolation | None = None
    last_cause: str = ""


@dataclass(frozen=True, slots=True)
class Work:
    """A task that has no actor yet."""

    unit: int
    rows: range | None = None


@dataclass(slots=True)
class Ledger:
    """All units and the queue of work. `failure` is set when the job cannot be finished."""

    units: dict[int, UnitState]
    max_strikes: int
    waiting: deque[Work] = field(default_factory=deque[Work])
    num_done: int = 0
    failure: str | None = None

    @classmethod
    def of(cls, units: Mapping[int, range], *, max_strikes: int) -> Ledger:
        """A book in which every unit waits."""
        book = cls({unit: UnitState(rows) for unit, rows in units.items()}, max_strikes)
        book.waiting.extend(Work(unit) for unit in units)
        return book

    @property
    def num_open(self) -> int:
        """Units that are not done."""
        return len(self.units) - self.num_done

    def next(self) -> Work | None:
        """The next piece of work that still matters; it goes on waiting until it is taken."""
        while self.waiting and self.units[self.waiting[0].unit].done:
            self.waiting.popleft()
        return self.waiting[0] if self.waiting else None

    def take(self) -> Work:
        """What `next` gave."""
        return self.waiting.popleft()

    def runs_alone(self, work: Work) -> bool:
        """Whether an actor may have nothing else: probes and suspects, whose losses must be theirs."""
        return work.rows is not None or self.units[work.unit].suspect

    def complete(self, unit: int) -> bool:
        """A whole unit is committed. False when it was before: the first one wins."""
        state = self.units[unit]
        if state.done:
            return False
        state.done, state.isolation = True, None
        self.num_done += 1
        return True

    def strike(self, work: Work, *, kind: FailureKind, cause: str) -> None:
        """This work was running when its attempt ended badly."""
        state = self.units[work.unit]
        state.last_cause = cause
        if work.rows is None:
            state.strikes += 1
        elif state.isolation is not None:
            probes = state.isolation.failed(work.rows, kind=kind, cause=cause)
            self.waiting.extendleft(Work(work.unit, rows) for rows in reversed(probes))
            if state.isolation.hopeless:
                self._fail(work.unit, f"more than {len(state.isolation.condemned) - 1} of its samples end a worker")
            self._close_isolation(work.unit)

    def survived(self, work: Work) -> None:
        """A probe came back."""
        state = self.units[work.unit]
        if work.rows is not None and state.isolation is not None:
            state.isolation.survived(work.rows)
            self._close_isolation(work.unit)

    def job_level_failure(self, unit: int, cause: str) -> None:
        """An attempt failed for a reason that no sample can have, e.g. an output that cannot be written."""
        state = self.units[unit]
        state.last_cause = cause
        state.job_level_failures += 1
        if state.job_level_failures >= self.max_strikes:
            self._fail(unit, f"failed {state.job_level_failures} times")

    def put_back(self, work: Work) -> None:
        """No living attempt of this work is left: queue it again, or look for the row that ends its workers."""
        state = self.units[work.unit]
        if state.done or self.failure is not None:
            return
        if work.rows is not None:
            if state.isolation is not None and work.rows in state.isolation.open_ranges:
                self._enqueue(work)
        elif state.isolation is None and state.strikes < self.max_strikes:
            self._enqueue(work)
        elif state.isolation is None:
            self._isolate(work.unit)

    def _enqueue(self, work: Work) -> None:
        if work not in self.waiting:
            self.waiting.appendleft(work)

    def _isolate(self, unit: int) -> None:
        state = self.units[unit]
        if state.num_vain_searches >= MAX_VAIN_SEARCHES:
            self._fail(unit, f"failed {state.attempts} attempts, and no single sample of it does")
            return
        state.isolation = Isolation(state.rows, max_strikes=self.max_strikes, known=state.skip)
        self.waiting.extendleft(Work(unit, rows) for rows in reversed(state.isolation.open_ranges))

    def _close_isolation(self, unit: int) -> None:
        state = self.units[unit]
        if state.isolation is not None and state.isolation.finished and self.failure is None:
            state.num_vain_searches += state.isolation.condemned == state.skip
            state.skip = state.isolation.condemned
            state.isolation, state.strikes = None, 0
            self._enqueue(Work(unit))

    def _fail(self, unit: int, what: str) -> None:
        cause = self.units[unit].last_cause
        self.failure = self.failure or f"unit {unit}: {what}. Last cause: {cause}"
