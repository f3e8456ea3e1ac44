"""What the scheduler hears and what it asks for. Plain data: the simulator and Ray speak the same language.

An *actor* is one process with a model replica. A *task* is one call on it: a whole unit, which is committed, or a probe
of some of its rows, which is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FailureKind = Literal["died", "hung", "raised"]


@dataclass(frozen=True, slots=True)
class SkippedRow:
    """A row that ends every worker that touches it: becomes an error row of its unit."""

    row: int
    kind: FailureKind
    cause: str


@dataclass(frozen=True, slots=True)
class Task:
    """One call on one actor. `rows` is None for the whole unit."""

    task_id: int
    actor: int
    unit: int
    attempt: int
    rows: range | None = None
    skip: tuple[SkippedRow, ...] = ()


@dataclass(frozen=True, slots=True)
class ActorReady:
    """The replica is loaded."""

    actor: int


@dataclass(frozen=True, slots=True)
class ActorFailedToStart:
    """The constructor raised, or the process vanished in it (`raised` is False: a machine may be to blame).

    Equal causes are equal texts.
    """

    actor: int
    cause: str
    raised: bool = True


@dataclass(frozen=True, slots=True)
class ActorDied:
    """The process is gone, with everything that it had in flight."""

    actor: int
    cause: str


@dataclass(frozen=True, slots=True)
class ActorDraining:
    """Its node goes away soon: what runs may finish, nothing new is assigned."""

    actor: int


@dataclass(frozen=True, slots=True)
class TaskDone:
    """The call returned: a whole unit is committed, or a probe survived."""

    task: Task


@dataclass(frozen=True, slots=True)
class TaskFailed:
    """The call raised and the actor lives. `job_level`: not the fault of a sample, e.g. the output is not writable."""

    task: Task
    cause: str
    job_level: bool = False


@dataclass(frozen=True, slots=True)
class Tick:
    """Time went by."""


Event = ActorReady | ActorFailedToStart | ActorDied | ActorDraining | TaskDone | TaskFailed | Tick


@dataclass(frozen=True, slots=True)
class StartActor:
    """Create an actor under this number."""

    actor: int


@dataclass(frozen=True, slots=True)
class KillActor:
    """End this actor now; nothing that it still says is waited for."""

    actor: int
    cause: str


@dataclass(frozen=True, slots=True)
class Assign:
    """Call the task on its actor."""

    task: Task


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The job has failed."""

    cause: str


Action = StartActor | KillActor | Assign | GiveUp
