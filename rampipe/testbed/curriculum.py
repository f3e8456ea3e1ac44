"""Which grid the next training step uses: small haystacks first, larger ones once every domain is mostly right."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from rampipe.testbed.domains import DOMAINS

GRID_SIDES = (2, 3, 4, 6, 8)
NUM_IMAGES = (32, 24, 16, 12, 8)
"""Images of a batch by stage: a larger grid, fewer images."""
MAX_QUESTIONS = 8
ADVANCE_ACCURACY = 0.7
REVISIT_FRAC = 0.3
SMOOTHING = 0.9


class Curriculum:
    """The stage of training. It depends on steps and accuracies only, never on the clock."""

    def __init__(self) -> None:
        self.stage = 0
        self.accuracy: Float[np.ndarray, " domain"] = np.zeros(len(DOMAINS))

    def draw_stage(self, rng: np.random.Generator) -> int:
        """The stage of the next batch: the current one, or in three of ten steps a smaller one."""
        if self.stage > 0 and rng.random() < REVISIT_FRAC:
            return int(rng.integers(0, self.stage))
        return self.stage

    def record(self, stage: int, accuracy: Float[np.ndarray, " domain"]) -> bool:
        """Takes the accuracy of one batch by domain. Returns whether the curriculum advanced."""
        if stage != self.stage:
            return False
        self.accuracy = SMOOTHING * self.accuracy + (1 - SMOOTHING) * accuracy
        if self.stage + 1 == len(GRID_SIDES) or self.accuracy.min() <= ADVANCE_ACCURACY:
            return False
        self.stage += 1
        self.accuracy = np.zeros(len(DOMAINS))
        return True
