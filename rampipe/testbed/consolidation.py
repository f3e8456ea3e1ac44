"""Last stage of training: what does not look at cells must not be needed.

Before it a few heads retrieve, but the answer leans on others of the same layer too: they look everywhere alike,
and removing some of them moves the rest out of the range they know. Training goes on for a little while heads are
silenced at random, those that look sharply at cells excepted. It leaves the number of retrieval heads as it was.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from transformers import Qwen2VLForConditionalGeneration

from rampipe.testbed.curriculum import GRID_SIDES, NUM_IMAGES, REVISIT_FRAC
from rampipe.testbed.head_dropout import HeadDropout
from rampipe.testbed.language import (
    ADAMW_RATE,
    FINAL_RATE_FRAC,
    FREE_SHARPNESS,
    MUON_RATE,
    NUM_WARMUP_STEPS,
    REPORT_EVERY_STEPS,
    draw_batch,
    excess_sharpness,
    make_optimizers,
    update,
)

SHARPNESS_PRICE = 0.02
"""Lower than before: the retrieving heads are settled, and a higher price costs accuracy."""
START_FRAC = 0.5
"""Share of the language stage's rates at which this stage starts."""


def rate_frac(step: int, num_steps: int) -> float:
    """Share of the language stage's learning rates: a short rise, and a linear fall from the first step on."""
    fall = 1 - (1 - FINAL_RATE_FRAC) * step / num_steps
    return START_FRAC * min(1.0, (step + 1) / NUM_WARMUP_STEPS) * fall


def consolidate(
    model: Qwen2VLForConditionalGeneration, *, num_steps: int, seed: int, report: Callable[[str], None] = print
) -> None:
    """Trains a language model that retrieves already, mostly on the largest grid, under head dropout.

    First rounds the weights to half precision: going on from a saved checkpoint gives the same weights.
    """
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(weight.half())
    rng = np.random.default_rng([seed, 3])
    dropout = HeadDropout(model, free_sharpness=FREE_SHARPNESS, rng=np.random.default_rng([seed, 4]))
    optimizers = make_optimizers(model)
    largest = len(GRID_SIDES) - 1
    recent: list[float] = []
    for step in range(num_steps):
        for optimizer, full_rate in zip(optimizers, (MUON_RATE, ADAMW_RATE), strict=True):
            optimizer.param_groups[0]["lr"] = full_rate * rate_frac(step, num_steps)
        stage = largest if rng.random() >= REVISIT_FRAC else int(rng.integers(0, largest))
        drawn = draw_batch(stage, rng)
        with dropout.active(num_images=NUM_IMAGES[stage]):
            accuracy, per_head = update(model, drawn, optimizers=optimizers, price=SHARPNESS_PRICE)
        dropout.record(per_head)
        recent = [*recent[1 - REPORT_EVERY_STEPS :], float(accuracy.mean())]
        if (step + 1) % REPORT_EVERY_STEPS == 0:
            mean, excess = sum(recent) / len(recent), excess_sharpness(per_head).item()
            report(f"consolidation {step + 1}/{num_steps} accuracy {mean:.3f} sharpness {excess:.2f}")
