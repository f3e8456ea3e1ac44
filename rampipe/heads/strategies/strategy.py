"""What one strategy is: the shape that every file of this folder has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from rampipe.heads.classes import num_core
from rampipe.heads.groups import HeadGroup, RankedGroups
from rampipe.types import HeadId

Levels = Literal["fracs", "bands", "masses", "heads", "target"]
"""What a strategy makes an arm for each of; a `target` strategy makes one per seed and per arm that it controls."""


@dataclass(frozen=True, slots=True)
class Request:
    """What one arm asks of a strategy; each uses its own part.

    frac: share of the groups, or for `cumulative_mass` of the positive mass. start_frac: share ranked above a band,
    which is `frac` wide. listed: the user's heads. target, seed: of a random control. idle: heads that the text-only
    control does not need; null when that was not screened.
    """

    ranked: RankedGroups
    frac: float | None = None
    start_frac: float = 0.0
    listed: tuple[HeadId, ...] = ()
    target: tuple[HeadGroup, ...] = ()
    seed: int | None = None
    idle: frozenset[HeadId] | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a choice cannot be had. Never a smaller one instead: arms of other sizes compare with nothing."""

    reason: str


@runtime_checkable
class Strategy(Protocol):
    """A rule that chooses groups of heads from a ranking.

    Each strategy is a module with these names. CONTROLLED: whether random arms of the same size are held against it.
    """

    @property
    def ID(self) -> str: ...  # noqa: D102, N802
    @property
    def MEANING(self) -> str: ...  # noqa: D102, N802
    @property
    def LEVELS(self) -> Levels: ...  # noqa: D102, N802
    @property
    def CONTROLLED(self) -> bool: ...  # noqa: D102, N802

    def choose(self, request: Request) -> tuple[HeadGroup, ...] | Refused:
        """The groups, without repetition; the same for the same request."""
        ...


def count_of(frac: float, num_groups: int) -> int:
    """Size of a share, as of the CoRe heads: rounded half up and at least 1; 0 only for 0."""
    return num_core(frac, num_groups) if frac > 0.0 else 0


def has_means(ranked: RankedGroups, size: int) -> Refused | None:
    """Refuse a size that needs groups whose place in the ranking is unknown."""
    if size <= len(ranked.ordered):
        return None
    return Refused(f"{size} of {ranked.num_groups} asked for, {len(ranked.ordered)} have a mean")
