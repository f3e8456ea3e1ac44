"""A cluster that exists only in numbers: virtual time, seeded faults, and what must hold after each step.

It knows nothing of how the scheduler decides; it sees actions and answers with events.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from dataclasses import dataclass, field

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
from rampipe.engine.scheduler import Limits, Scheduler

TICK_S = 5.0
MAX_STEPS = 4_000
MAX_STEPS_PER_ACTOR = 60
LIMITS = Limits(min_deadline_s=20.0, start_timeout_s=120.0, min_straggler_s=1.0)


class InvariantError(AssertionError):
    """The scheduler broke a promise."""


@dataclass
class Faults:
    """What goes wrong, all of it decided by the seed."""

    poison: dict[int, FailureKind] = field(default_factory=dict)
    """Rows that end (died), stop (hung) or raise in every attempt that touches them."""
    death_frac: float = 0.0
    hang_frac: float = 0.0
    straggler_frac: float = 0.0
    drain_frac: float = 0.0
    zombie_frac: float = 0.0
    duplicate_frac: float = 0.0
    start_failure_frac: float = 0.0
    all_starts_fail: bool = False
    budget: int = 0
    """Random deaths and hangs in all: chance must not look like a machine that always breaks."""
    actors_per_node: int = 1
    """So many ready actors die together."""

    @classmethod
    def of_seed(cls, rng: random.Random, num_rows: int) -> Faults:
        num_poison = rng.choice([0, 0, 1, 1, 2, 3])
        kinds: list[FailureKind] = ["died", "hung", "raised"]
        return cls(
            poison={rng.randrange(num_rows): rng.choice(kinds) for _ in range(num_poison)},
            death_frac=rng.choice([0.0, 0.05, 0.2]),
            hang_frac=rng.choice([0.0, 0.03]),
            straggler_frac=rng.choice([0.0, 0.1]),
            drain_frac=rng.choice([0.0, 0.05]),
            zombie_frac=rng.choice([0.0, 1.0]),
            duplicate_frac=rng.choice([0.0, 0.3]),
            start_failure_frac=rng.choice([0.0, 0.1]),
            all_starts_fail=rng.random() < 0.03,
            budget=rng.choice([0, 4, 12]),
        )


@dataclass
class SimulatedActor:
    """A process that commits its calls one by one, while it reads what the second one needs: that may end or stop it
    too. `epoch` makes events of an earlier call void.
    """

    ready: bool = False
    draining: bool = False
    alive: bool = True
    calls: list[Task] = field(default_factory=list)
    epoch: int = 0


class Simulation:
    """Runs one scheduler against one seed: 1 to 8 actors, or 100 to 1,000 on as many nodes when it is `large`."""

    def __init__(self, seed: int, scheduler_class: type[Scheduler] = Scheduler, *, large: bool = False) -> None:
        self.rng = random.Random(seed)
        if large:
            self.num_actors = self.rng.randint(100, 1000)
            num_units, unit_rows = self.rng.randint(self.num_actors // 2, 2 * self.num_actors), 2
        else:
            num_units, self.num_actors = self.rng.randint(1, 24), self.rng.randint(1, 8)
            unit_rows = self.rng.choice([1, 2, 7, 16])
        self.max_steps = max(MAX_STEPS, MAX_STEPS_PER_ACTOR * self.num_actors)
        self.steps_between_checks = 1 + self.num_actors // 100
        self.units = {unit: range(unit * unit_rows, (unit + 1) * unit_rows) for unit in range(num_units)}
        self.faults = Faults.of_seed(self.rng, num_units * unit_rows)
        if large:
            self.faults.actors_per_node, self.faults.budget = 8, self.rng.choice([0, 10, self.num_actors // 8])
        self.has_chance = self.faults.budget > 0 or self.faults.straggler_frac > 0 or large
        self.scheduler = scheduler_class(self.units, num_actors=self.num_actors, limits=LIMITS)
        self.now_s = 0.0
        self.actors: dict[int, SimulatedActor] = {}
        self.committed: dict[int, Task] = {}
        self.given_up: str | None = None
        self.num_steps = 0
        self.assignments = Counter[int]()
        self._queue: list[tuple[float, int, object]] = []
        self._num_queued = 0

    def run(self) -> Simulation:
        """Until the scheduler is finished or gives up. Raises InvariantError."""
        self._later(TICK_S, "tick")
        self._do(self.scheduler.start(self.now_s))
        for step in range(self.max_steps):
            self.num_steps = step
            if self.scheduler.finished or self.given_up is not None:
                self._check_end()
                return self
            self.now_s, _, happening = heapq.heappop(self._queue)
            self._do(self.scheduler.handle_all(self._events(happening), self.now_s))
            if step % self.steps_between_checks == 0:
                self._check_step()
        raise InvariantError(
            f"no end after {self.max_steps} steps: {len(self.committed)} of {len(self.units)} units done"
        )

    def _later(self, seconds: float, happening: object) -> None:
        self._num_queued += 1
        heapq.heappush(self._queue, (self.now_s + seconds, self._num_queued, happening))

    def _chance(self, frac: float) -> bool:
        return self.rng.random() < frac

    def _events(self, happening: object) -> list[Event]:
        match happening:
            case "tick":
                self._later(TICK_S, "tick")
                return [Tick()]
            case ("start", int(actor)):
                return self._finish_start(actor)
            case ("call", int(actor), int(epoch), str(outcome)):
                return self._finish_call(actor, epoch, outcome)
            case ("late", Task() as task):
                self._commit(task)
                return [TaskDone(task)]
            case _:
                raise AssertionError(happening)

    def _finish_start(self, actor: int) -> list[Event]:
        state = self.actors[actor]
        if not state.alive:
            return []
        if self.faults.all_starts_fail:
            state.alive = False
            return [ActorFailedToStart(actor, "ModelError: no such checkpoint")]
        if self._chance(self.faults.start_failure_frac):
            state.alive = False
            return [ActorFailedToStart(actor, f"node {actor} went away")]
        state.ready = True
        return [ActorReady(actor)]

    def _finish_call(self, actor: int, epoch: int, outcome: str) -> list[Event]:
        state = self.actors[actor]
        if not state.alive or state.epoch != epoch:
            return []
        task = state.calls[0]
        if outcome == "died":
            return self._node_dies(actor)
        if outcome == "drain":
            state.draining = True
            self._schedule_call(actor, may_fail=False)
            return [ActorDraining(actor)]
        state.calls.pop(0)
        if state.calls:
            self._schedule_call(actor)
        if outcome == "raised":
            return [TaskFailed(task, "RuntimeError: shape")]
        self._commit(task)
        return [TaskDone(task)] * (2 if self._chance(self.faults.duplicate_frac) else 1)

    def _node_dies(self, actor: int) -> list[Event]:
        size = self.faults.actors_per_node
        first = actor // size * size
        gone = [number for number in range(first, first + size) if number == actor or self._is_ready(number)]
        for number in gone:
            self.actors[number].alive = False
        return [ActorDied(number, "process gone") for number in gone]

    def _is_ready(self, actor: int) -> bool:
        """Without those that probe one row: three such deaths in a row are what condemns it, whoever is to blame."""
        state = self.actors.get(actor)
        if state is None or not (state.alive and state.ready):
            return False
        return not any(task.rows is not None and len(task.rows) == 1 for task in state.calls[:1])

    def _commit(self, task: Task) -> None:
        """First writer wins, as on disk."""
        if task.rows is None:
            self.committed.setdefault(task.unit, task)

    def _schedule_call(self, actor: int, *, may_fail: bool = True) -> None:
        state = self.actors[actor]
        state.epoch += 1
        task = state.calls[0]
        outcome = self._outcome(task, may_fail=may_fail)
        if outcome == "hung":
            return
        seconds = self.rng.uniform(0.5, 1.5) * (20.0 if self._chance(self.faults.straggler_frac) else 1.0)
        self._later(seconds, ("call", actor, state.epoch, outcome))

    def _outcome(self, task: Task, *, may_fail: bool) -> str:
        if task.rows is None and task.unit in self.committed:
            return "done"
        skipped = {skipped.row for skipped in task.skip}
        for row in task.rows if task.rows is not None else self.units[task.unit]:
            if row in self.faults.poison and row not in skipped:
                return self.faults.poison[row]
        alone = task.rows is not None and len(task.rows) == 1
        if may_fail and self._chance(self.faults.drain_frac):
            return "drain"
        if may_fail and self.faults.budget > 0 and not alone:
            for outcome, frac in (("died", self.faults.death_frac), ("hung", self.faults.hang_frac)):
                if self._chance(frac):
                    self.faults.budget -= 1
                    return outcome
        return "done"

    def _do(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case StartActor(actor):
                    self._expect(actor not in self.actors, f"actor number {actor} used twice")
                    self.actors[actor] = SimulatedActor()
                    self._later(self.rng.uniform(1.0, 10.0), ("start", actor))
                case KillActor(actor):
                    self._kill(actor)
                case Assign(task):
                    self._call(task)
                case GiveUp(cause):
                    self.given_up = cause

    def _kill(self, actor: int) -> None:
        state = self.actors[actor]
        state.alive = False
        if state.calls and self._chance(self.faults.zombie_frac):
            task = state.calls[0]
            if self._outcome(task, may_fail=False) == "done":
                self._later(30.0, ("late", task))

    def _call(self, task: Task) -> None:
        state = self.actors[task.actor]
        self._expect(state.ready, f"task {task.task_id} on actor {task.actor}, which is not ready")
        self._expect(not state.draining, f"task {task.task_id} on a draining actor")
        self.assignments[task.unit] += task.rows is None
        self._check_suspicion(task)
        state.calls.append(task)
        self._expect(len(state.calls) <= LIMITS.depth, f"actor {task.actor} holds {len(state.calls)} tasks")
        if len(state.calls) == 1:
            self._schedule_call(task.actor)
        elif self._chance(0.5) and (outcome := self._outcome(task, may_fail=False)) in ("died", "hung"):
            state.epoch += 1
            if outcome == "died":
                self._later(self.rng.uniform(0.1, 0.5), ("call", task.actor, state.epoch, outcome))

    def _expect(self, holds: bool, what: str) -> None:
        if not holds:
            raise InvariantError(what)

    def _check_suspicion(self, task: Task) -> None:
        """Where nothing happens by chance, only units with poison are searched."""
        if task.rows is not None and not self.has_chance:
            has_poison = any(row in self.faults.poison for row in self.units[task.unit])
            self._expect(has_poison, f"unit {task.unit} is searched and has no poison")

    def _check_step(self) -> None:
        """No ready actor idles while a unit has no attempt anywhere."""
        if self.scheduler.finished or self.given_up is not None:
            return
        held = {task.unit for state in self.actors.values() if state.alive for task in state.calls}
        waiting = set(self.units) - held - set(self.committed)
        idle = [a for a, s in self.actors.items() if s.alive and s.ready and not s.draining and not s.calls]
        self._expect(not (waiting and idle), f"actors {idle} idle while units {sorted(waiting)} wait")

    def _check_end(self) -> None:
        if self.given_up is not None:
            self._expect(bool(self.given_up.strip()), "gave up without a cause")
            self._expect(self.faults.all_starts_fail or bool(self._num_faults), f"gave up on nothing: {self.given_up}")
            return
        self._expect(set(self.committed) == set(self.units), "finished with units that nobody committed")
        for unit, task in self.committed.items():
            skipped = {skipped.row: skipped.kind for skipped in task.skip}
            expected = {row: kind for row, kind in self.faults.poison.items() if row in self.units[unit]}
            wanted = f"unit {unit} skipped {skipped}, poison is {expected}"
            self._expect(set(skipped) == set(expected), wanted)
            self._expect(skipped == expected or self.faults.straggler_frac > 0, wanted)
            bound = 3 * LIMITS.max_strikes + 2 * len(self.actors)
            self._expect(self.assignments[unit] <= bound, f"unit {unit}: {self.assignments[unit]} attempts")

    @property
    def _num_faults(self) -> float:
        faults = self.faults
        return faults.start_failure_frac + faults.death_frac + faults.hang_frac + len(faults.poison)
