"""The deep testbed's rotary base after training: with the one that it was trained with, far evidence is missed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

from rampipe.testbed.deep.architecture import set_rope_base
from rampipe.testbed.deep.checkpoint import deep_weights_path
from rampipe.testbed.deep.curriculum import LEVELS
from rampipe.testbed.deep.evaluate import load_deep
from rampipe.testbed.deep.language import Step, accuracy_by_kind, answer_logits, draw_step
from rampipe.testbed.deep.samples import SIZES
from rampipe.testbed.deep.train import FINAL_ROPE_BASE, LONG_ROPE_BASE, train_deep
from rampipe.testbed.parts import text_config

APART = replace(LEVELS[7], size=SIZES["long"], num_questions=64, by_parts_frac=1.0)
"""Long contexts whose parts do not see each other: they are read in a tenth of the time, and answered as well."""


@pytest.fixture(scope="module")
def model() -> Iterator[Qwen2VLForConditionalGeneration]:
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield load_deep(deep_weights_path())
    torch.set_num_threads(num_threads)


@pytest.fixture(scope="module")
def step(model: Qwen2VLForConditionalGeneration) -> Step:
    return draw_step(model, APART, rng=np.random.default_rng(0), order="context_first", held_out=True)


@torch.no_grad()
def image_accuracy(model: Qwen2VLForConditionalGeneration, step: Step, base: float) -> float:
    set_rope_base(model, base)
    step.packed.plan.seen.clear()
    return accuracy_by_kind(answer_logits(model, step), step.packed)["image"]


def test_evidence_far_away_is_found_with_the_final_base_and_missed_with_the_one_trained_with(
    model: Qwen2VLForConditionalGeneration, step: Step
) -> None:
    assert step.packed.context.stop > 2000
    final, trained = (image_accuracy(model, step, base) for base in (FINAL_ROPE_BASE, LONG_ROPE_BASE))
    assert final >= 0.9
    assert trained <= final - 0.05


def test_training_ends_with_the_base_of_the_shipped_checkpoint(tmp_path: Path) -> None:
    train_deep(tmp_path, stages=(), report=lambda _line: None)
    for folder in (tmp_path / "checkpoint", deep_weights_path()):
        config: Any = text_config(Qwen2VLConfig.from_pretrained(folder))
        assert config.rope_parameters["rope_theta"] == FINAL_ROPE_BASE
