"""A model that accelerate carries about in parts is measured and silenced like one that stays in its place."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageTextToText

from rampipe.models.device_map import plan_device_map
from rampipe.tables.arms import Arm
from rampipe.trials.observe import observe
from rampipe.trials.silenced import silenced_answers
from rampipe.trials.trial import prepare
from rampipe.types import HeadId


@pytest.fixture(scope="module")
def dispatched(replica, checkpoint):
    """What a second GPU would hold is on disk: each of these modules has its weights in memory while it runs."""
    planned = plan_device_map(replica.model, memory_bytes=[10**9, 10**9])
    places = {name: ("cpu", "disk")[gpu] for name, gpu in planned.items()}
    model = AutoModelForImageTextToText.from_pretrained(
        checkpoint, dtype=torch.float32, attn_implementation="sdpa", device_map=places
    )
    assert {parameter.device.type for parameter in model.parameters()} == {"cpu", "meta"}
    return replace(replica, model=model.eval().requires_grad_(False))


@pytest.fixture(scope="module")
def trials(replica, samples, config):
    return [prepare(replica, sample, config=config) for sample in samples]


def test_statistics_are_the_same(replica, dispatched, trials, config):
    expected, found = (observe(each, trials, config=config.capture) for each in (replica, dispatched))
    for one, other in zip(found, expected, strict=True):
        for query, group in one.groups.items():
            assert np.array_equal(group.mass, other.groups[query].mass)


@pytest.mark.parametrize("mode", ["zero", "evidence_knockout"])
@pytest.mark.parametrize("positions", ["all", "after_context"])
def test_silenced_heads_answer_the_same(replica, dispatched, trials, mode, positions):
    heads = (HeadId(0, 1), HeadId(1, 2))
    arm = Arm("a", "top", "ablate", mode, positions, "query_head", "overall", 0.1, None, None, 2, 0.1, None, heads)
    prompts, arms = [trial.prompt for trial in trials], [arm] * len(trials)
    expected, found = (
        silenced_answers(each, prompts, arms, max_new_tokens=2, means=None) for each in (replica, dispatched)
    )
    assert found == expected
