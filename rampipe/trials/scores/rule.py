"""What one scoring rule is: the shape that every file of this folder has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from rampipe.types import Sample


@dataclass(frozen=True, slots=True)
class Scored:
    """Verdict on one prediction. Both are None for a sample that the rule cannot judge: null, never wrong.

    score: in [0, 1].
    """

    correct: bool | None
    score: float | None


@runtime_checkable
class Rule(Protocol):
    """A rule that compares a prediction with what a sample accepts.

    Each rule is a module with these names. CORRECT_FROM: the lowest score that counts as correct.
    """

    @property
    def ID(self) -> str: ...  # noqa: D102, N802
    @property
    def MEANING(self) -> str: ...  # noqa: D102, N802
    @property
    def CORRECT_FROM(self) -> float: ...  # noqa: D102, N802

    def score(self, prediction: str, sample: Sample) -> float | None:
        """In [0, 1]; None when the sample holds nothing that this rule compares with. The order of answers has no
        effect, and an empty prediction scores 0.
        """
        ...
