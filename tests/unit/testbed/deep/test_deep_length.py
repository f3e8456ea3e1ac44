"""The deep testbed's rotary base: with the one of the stages before the last, far evidence is missed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

from rampipe.testbed.deep.architecture import set_rope_base
from rampipe.testbed.deep.checkpoint import deep_weights_path
from rampipe.testbed.deep.curriculum import LEVELS
from rampipe.testbed.deep.language import Step, accuracy_by_kind, answer_logits, draw_step
from rampipe.testbed.deep.train import LONG_ROPE_BASE, LONGER_ROPE_BASE, STAGES
from rampipe.testbed.parts import text_config

LONG = LEVELS[8]
"""Long contexts whose parts do not see each other: they are read in a tenth of the time, and answered as well."""


@pytest.fixture(scope="module")
def step(model: Qwen2VLForConditionalGeneration) -> Step:
    return draw_step(model, LONG, rng=np.random.default_rng(0), order="context_first", held_out=True)


@torch.no_grad()
def image_accuracy(model: Qwen2VLForConditionalGeneration, step: Step, base: float) -> float:
    set_rope_base(model, base)
    step.packed.plan.seen.clear()
    return accuracy_by_kind(answer_logits(model, step), step.packed)["image"]


def test_evidence_far_away_is_found_with_the_last_base_and_missed_with_the_one_before(
    model: Qwen2VLForConditionalGeneration, step: Step
) -> None:
    assert step.packed.context.stop > 2000
    last, before = (image_accuracy(model, step, base) for base in (LONGER_ROPE_BASE, LONG_ROPE_BASE))
    assert last >= 0.9
    assert before <= last - 0.05


def test_the_shipped_checkpoint_has_the_base_of_the_last_stage() -> None:
    config: Any = text_config(Qwen2VLConfig.from_pretrained(deep_weights_path()))
    assert config.rope_parameters["rope_theta"] == STAGES[-1].rope_base
