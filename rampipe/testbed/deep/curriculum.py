"""How large the next training context is: one small image first, at last 16 images with lists between them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from rampipe.testbed.deep.layout import Size
from rampipe.testbed.deep.packing import Sight
from rampipe.testbed.deep.samples import SIZES

ADVANCE_ACCURACY = 0.75
REVISIT_FRAC = 0.3
SMOOTHING = 0.9


@dataclass(frozen=True, slots=True)
class Level:
    """Contexts of one size, so many of them a step, each asked so many questions."""

    size: Size
    num_contexts: int
    num_questions: int
    by_parts_frac: float
    """Share of steps in which the rows of a part do not see all other parts."""
    sight_of_parts: Sight = "nothing"
    """What they see of them in those steps."""

    def with_entries(self, count: int) -> Level:
        """The level with so many list entries more."""
        low, high = self.size.num_entries
        return replace(self, size=replace(self.size, num_entries=(low + count, high + count)))

    def with_questions(self, factor: int) -> Level:
        """The level with so many times the questions: they cost little where contexts are long."""
        return replace(self, num_questions=factor * self.num_questions)


LEVELS = (
    Level(Size((1, 1), 2, (1, 2), 8, (0, 0)), 16, 8, 0.0),
    Level(Size((1, 1), 3, (1, 4), 36, (0, 2)), 12, 8, 0.0),
    Level(Size((1, 2), 4, (1, 6), 64, (0, 4)), 12, 8, 0.3),
    Level(Size((1, 3), 6, (1, 12), 128, (0, 8)), 8, 8, 0.5),
    Level(Size((2, 4), 8, (2, 12), 256, (0, 16)), 6, 8, 0.7),
    Level(Size((2, 8), 8, (2, 12), 512, (0, 24)), 4, 10, 0.9),
    Level(Size((2, 16), 8, (2, 12), 1200, (0, 32)), 2, 12, 1.0),
    Level(Size((4, 16), 8, (2, 12), 3600, (8, 48)), 1, 16, 1.0),
    Level(SIZES["long"], 1, 64, 1.0),
)
"""The last is for evaluation alone: long samples, each asked many questions."""


class Curriculum:
    """The level of training. It depends on steps and accuracies only, never on the clock."""

    def __init__(self, *, last: int, level: int = 0, revisit_frac: float = REVISIT_FRAC) -> None:
        self.last = last
        self.level = level
        self.revisit_frac = revisit_frac
        self.accuracy = 0.0

    def draw_level(self, rng: np.random.Generator) -> int:
        """The level of the next batch: the current one, or at times a smaller one."""
        if self.level > 0 and rng.random() < self.revisit_frac:
            return int(rng.integers(0, self.level))
        return self.level

    def record(self, level: int, accuracy: float) -> bool:
        """Takes the image accuracy of one batch. Returns whether the curriculum advanced."""
        if level != self.level:
            return False
        self.accuracy = SMOOTHING * self.accuracy + (1 - SMOOTHING) * accuracy
        if self.level == self.last or self.accuracy <= ADVANCE_ACCURACY:
            return False
        self.level += 1
        self.accuracy = 0.0
        return True
