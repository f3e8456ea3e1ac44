"""The actors as the scheduler knows them: who is ready, what each one has in flight, since when it runs."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from rampipe.engine.events import Task


@dataclass(slots=True)
class Member:
    """One actor. It works on its tasks in order: the first one computes or commits, the second one is prepared.

    alone: it takes nothing beside the task that it has.
    """

    actor: int
    ready: bool = False
    draining: bool = False
    alone: bool = False
    tasks: deque[Task] = field(default_factory=deque[Task])
    running_since_s: float = 0.0

    @property
    def running(self) -> Task | None:
        """The task that occupies the actor: the one to blame when it hangs or dies, if it is the only one."""
        return self.tasks[0] if self.tasks else None


class Fleet:
    """All living actors. Numbers are never used twice."""

    def __init__(self, *, depth: int) -> None:
        self.depth = depth
        """Tasks that an actor may have at once."""
        self._members: dict[int, Member] = {}
        self._num_started = 0

    def __iter__(self) -> Iterator[Member]:
        return iter(list(self._members.values()))

    def get(self, actor: int) -> Member | None:
        """The actor, or None when it is gone."""
        return self._members.get(actor)

    def add(self) -> Member:
        """A new actor that is starting."""
        member = Member(self._num_started)
        self._num_started += 1
        self._members[member.actor] = member
        return member

    def remove(self, actor: int) -> Member | None:
        """Forget an actor. Returns it as it was."""
        return self._members.pop(actor, None)

    @property
    def num_ready(self) -> int:
        """Actors with a loaded replica, draining ones included."""
        return sum(member.ready for member in self._members.values())

    @property
    def num_staying(self) -> int:
        """Actors that are starting or ready and not about to go."""
        return sum(not member.draining for member in self._members.values())

    def with_room(self, *, alone: bool = False) -> Member | None:
        """The ready actor with the fewest tasks that can take one more. alone: only one that has none."""
        num_beside = 1 if alone else self.depth
        open_members = [
            member
            for member in self._members.values()
            if member.ready
            and not member.draining
            and len(member.tasks) < num_beside
            and not (member.tasks and member.alone)
        ]
        return min(open_members, key=lambda member: (len(member.tasks), member.actor), default=None)

    def idle(self) -> list[Member]:
        """Ready actors with nothing in flight."""
        return [m for m in self._members.values() if m.ready and not m.draining and not m.tasks]

    def push(self, member: Member, task: Task, *, now_s: float, alone: bool) -> None:
        """Put a task behind those that the actor has."""
        if not member.tasks:
            member.running_since_s = now_s
            member.alone = alone
        member.tasks.append(task)

    def pop(self, task: Task, *, now_s: float) -> float | None:
        """Take a finished task off its actor. Returns the seconds that it ran, None when it was not there."""
        member = self._members.get(task.actor)
        if member is None or task not in member.tasks:
            return None
        was_running = member.tasks[0] == task
        member.tasks.remove(task)
        seconds = now_s - member.running_since_s if was_running else None
        if was_running:
            member.running_since_s = now_s
        return seconds
