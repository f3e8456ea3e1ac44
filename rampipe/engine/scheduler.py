"""Which actor does what: a state machine without I/O and without a clock. Time comes in with every event.

Promises, for any order of deaths, hangs and late answers: every unit is committed exactly once in effect, or the job
fails with a cause; nothing is tried without end; no ready actor idles while a unit waits. Of two units that an actor
had when it was lost either may be to blame: both run alone from then on, and only a loss alone counts. A unit that
ended three attempts is searched for the rows that do it (`isolation`), then run once more without them, so that a unit
is always committed at once. A unit that raises is treated the same; a failure that no sample can cause ends the job
after three.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rampipe.engine.durations import Durations
from rampipe.engine.events import (
    Action,
    ActorDied,
    ActorDraining,
    ActorFailedToStart,
    ActorReady,
    Assign,
    Event,
    FailureKind,
    GiveUp,
    KillActor,
    StartActor,
    Task,
    TaskDone,
    TaskFailed,
    Tick,
)
from rampipe.engine.fleet import Fleet, Member
from rampipe.engine.ledger import Ledger, Work


@dataclass(frozen=True, slots=True)
class Limits:
    """When patience ends. Until one unit is done, a unit may take `start_timeout_s`: no duration is known yet."""

    min_deadline_s: float = 60.0
    start_timeout_s: float = 600.0
    min_straggler_s: float = 1.0
    depth: int = 2
    """Tasks in flight per actor: one computes while the other reads, encodes, commits or waits for the driver."""
    max_strikes: int = 3
    max_identical_starts: int = 2
    """Constructor failures with one cause that end the job."""
    fresh_actors: bool = False
    """One task per actor, whatever `depth` says, and nothing run twice at once: for measurements that what ran before
    in the same process would change."""

    def max_barren_deaths(self, num_actors: int) -> int:
        """Dead actors without any finished task between them: a broken machine, not a bad sample."""
        return 4 * num_actors + 32


class Scheduler:
    """Feed it events, do what it returns. `units` maps a unit to its rows."""

    def __init__(self, units: Mapping[int, range], *, num_actors: int, limits: Limits = Limits()) -> None:
        self.limits = limits
        self.ledger = Ledger.of(units, max_strikes=limits.max_strikes)
        self.fleet = Fleet(depth=1 if limits.fresh_actors else limits.depth)
        self.durations = Durations()
        self._num_actors = num_actors
        self._num_tasks = 0
        self._start_failures = Counter[str]()
        self._num_start_failures = 0
        self._num_barren_deaths = 0
        self._alone_since_s = 0.0
        self._gave_up = False

    @property
    def finished(self) -> bool:
        """Every unit is done."""
        return self.ledger.num_open == 0

    @property
    def failure(self) -> str | None:
        """Why the job cannot be finished."""
        return self.ledger.failure

    def start(self, now_s: float) -> list[Action]:
        """The first actions."""
        self._alone_since_s = now_s
        return self._decide(now_s)

    def handle(self, event: Event, now_s: float) -> list[Action]:
        """Take in one event; returns what to do now. After the end of the job this is nothing."""
        return self.handle_all([event], now_s)

    def handle_all(self, events: Sequence[Event], now_s: float) -> list[Action]:
        """Take in what happened at once, then decide: nothing is given to an actor whose death is next in the list,
        and that would be blamed on what it never began.
        """
        actions = list[Action]()
        for event in events:
            if self.finished or self._gave_up:
                break
            actions += self._take_in(event, now_s)
        return [] if self._gave_up else actions + self._decide(now_s)

    def _take_in(self, event: Event, now_s: float) -> list[Action]:
        actions = list[Action]()
        match event:
            case ActorReady(actor):
                self._on_ready(actor, now_s)
            case ActorFailedToStart(actor, cause, raised):
                self._on_start_failure(actor, cause, raised=raised)
            case ActorDied(actor, cause):
                self._lose(actor, kind="died", cause=cause, now_s=now_s)
            case ActorDraining(actor):
                if (member := self.fleet.get(actor)) is not None:
                    member.draining = True
            case TaskDone(task):
                self._on_done(task, now_s)
                actions += self._retire(task)
            case TaskFailed(task, cause, job_level):
                self._on_failed(task, cause, now_s, job_level=job_level)
                actions += self._retire(task)
            case Tick():
                actions += self._on_tick(now_s)
        return actions

    def _on_ready(self, actor: int, now_s: float) -> None:
        member = self.fleet.get(actor)
        if member is not None and not member.ready:
            member.ready, member.running_since_s = True, now_s
            self._start_failures.clear()
            self._num_start_failures = 0

    def _on_start_failure(self, actor: int, cause: str, *, raised: bool) -> None:
        """Two equal exceptions will be three; processes that vanish together may have met one busy moment."""
        if self.fleet.remove(actor) is None:
            return
        self._start_failures[cause] += raised
        self._num_start_failures += 1
        if self._start_failures[cause] >= self.limits.max_identical_starts:
            self._fail(f"replicas fail to start in the same way {self._start_failures[cause]} times: {cause}")
        elif self._num_start_failures > self._num_actors + 8:
            self._fail(f"{self._num_start_failures} replicas failed to start one after another, last: {cause}")

    def _on_done(self, task: Task, now_s: float) -> None:
        """Also for answers of actors that were given up: what they committed is committed."""
        seconds = self.fleet.pop(task, now_s=now_s)
        self._num_barren_deaths = 0
        work = Work(task.unit, task.rows)
        if task.rows is not None:
            self.ledger.survived(work)
        elif self.ledger.complete(task.unit) and seconds is not None:
            self.durations.add(seconds)

    def _on_failed(self, task: Task, cause: str, now_s: float, *, job_level: bool) -> None:
        member = self.fleet.get(task.actor)
        if member is None or task not in member.tasks:
            return
        self.fleet.pop(task, now_s=now_s)
        if job_level:
            self.ledger.job_level_failure(task.unit, cause)
        else:
            self.ledger.strike(Work(task.unit, task.rows), kind="raised", cause=cause)
        self._put_back([task])

    def _retire(self, task: Task) -> list[Action]:
        """Where actors are fresh, the one that answered has done its work."""
        if not self.limits.fresh_actors or self.fleet.remove(task.actor) is None:
            return []
        return [KillActor(task.actor, "has answered")]

    def _on_tick(self, now_s: float) -> list[Action]:
        """Kill actors whose unit is overdue and drained ones; end the job when no replica comes up."""
        actions = list[Action]()
        for member in self.fleet:
            deadline_s = self._deadline_s(member)
            if member.running is not None and now_s - member.running_since_s > deadline_s:
                cause = f"no answer within {deadline_s:.0f} s"
                self._lose(member.actor, kind="hung", cause=cause, now_s=now_s)
                actions.append(KillActor(member.actor, cause))
            elif member.draining and not member.tasks:
                self.fleet.remove(member.actor)
                actions.append(KillActor(member.actor, "drained"))
        if self.fleet.num_ready:
            self._alone_since_s = now_s
        elif now_s - self._alone_since_s > self.limits.start_timeout_s:
            num_starting = self.fleet.num_staying
            self._fail(f"no replica was ready within {self.limits.start_timeout_s:.0f} s ({num_starting} starting)")
        return actions

    def _deadline_s(self, member: Member) -> float:
        """Doubled with every strike: a slow unit must not be taken for one that hangs."""
        task = member.running
        strikes = self.ledger.units[task.unit].strikes if task is not None and task.rows is None else 0
        base_s = self.durations.deadline_s(
            min_deadline_s=self.limits.min_deadline_s, first_deadline_s=self.limits.start_timeout_s
        )
        return base_s * 2**strikes

    def _lose(self, actor: int, *, kind: FailureKind, cause: str, now_s: float) -> None:
        """An actor is gone: blame what it was running, or suspect all of it, and requeue it."""
        member = self.fleet.remove(actor)
        if member is None:
            return
        self._num_barren_deaths += 1
        if self.fleet.num_ready == 0:
            self._alone_since_s = now_s
        if len(member.tasks) == 1 and not member.draining:
            self.ledger.strike(Work(member.tasks[0].unit, member.tasks[0].rows), kind=kind, cause=cause)
        elif not member.draining:
            for task in member.tasks:
                self.ledger.units[task.unit].suspect = True
        self._put_back(list(member.tasks))
        if self._num_barren_deaths > self.limits.max_barren_deaths(self._num_actors):
            self._fail(f"{self._num_barren_deaths} workers died without one finished task between them, last: {cause}")

    def _put_back(self, tasks: list[Task]) -> None:
        """Queue again what no other living actor has in flight; reversed, because each goes to the front."""
        for task in reversed(tasks):
            work = Work(task.unit, task.rows)
            if work not in self._in_flight():
                self.ledger.put_back(work)

    def _in_flight(self) -> Counter[Work]:
        return Counter(Work(task.unit, task.rows) for member in self.fleet for task in member.tasks)

    def _fail(self, cause: str) -> None:
        self.ledger.failure = self.ledger.failure or cause

    def _decide(self, now_s: float) -> list[Action]:
        """Everything that can be started now."""
        if self.finished:
            return []
        if self.ledger.failure is not None:
            self._gave_up = True
            return [GiveUp(self.ledger.failure)]
        actions: list[Action] = [*self._start_actors()]
        while (work := self.ledger.next()) is not None:
            member = self.fleet.with_room(alone=self.ledger.runs_alone(work))
            if member is None:
                break
            actions.append(self._assign(member, self.ledger.take(), now_s))
        if not self.ledger.waiting and not self.limits.fresh_actors:
            actions += self._copies(now_s)
        return actions

    def _start_actors(self) -> list[Action]:
        wanted = min(self._num_actors, self.ledger.num_open)
        return [StartActor(self.fleet.add().actor) for _ in range(wanted - self.fleet.num_staying)]

    def _assign(self, member: Member, work: Work, now_s: float) -> Assign:
        state = self.ledger.units[work.unit]
        state.attempts += work.rows is None
        skip = state.isolation.condemned if state.isolation is not None else state.skip
        task = Task(self._num_tasks, member.actor, work.unit, state.attempts, work.rows, skip)
        self._num_tasks += 1
        self.fleet.push(member, task, now_s=now_s, alone=self.ledger.runs_alone(work))
        return Assign(task)

    def _copies(self, now_s: float) -> list[Action]:
        """Idle actors take second copies: first of what waits behind another task, then of stragglers."""
        idle = self.fleet.idle()
        if not idle:
            return []
        candidates = self._copy_candidates(now_s)
        return [self._assign(member, work, now_s) for member, work in zip(idle, candidates, strict=False)]

    def _copy_candidates(self, now_s: float) -> list[Work]:
        """Work with one attempt in flight that an idle actor would finish sooner; never a suspect that runs."""
        straggler_s = self.durations.straggler_s(min_straggler_s=self.limits.min_straggler_s)
        queued, stragglers = list[Work](), list[Work]()
        in_flight = self._in_flight()
        for member in self.fleet:
            for position, task in enumerate(member.tasks):
                state = self.ledger.units[task.unit]
                work = Work(task.unit, task.rows)
                if state.done or in_flight[work] > 1 or state.strikes >= self.limits.max_strikes:
                    continue
                if position > 0:
                    queued.append(work)
                elif work.rows is None and state.strikes == 0 and now_s - member.running_since_s > straggler_s:
                    stragglers.append(work)
        return queued + stragglers
