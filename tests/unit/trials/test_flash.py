"""Contexts read by a flash kernel, questions behind them under a mask of their own: the same numbers as by sdpa."""

from __future__ import annotations

import numpy as np
import pytest

from rampipe.tables.arms import Arm
from rampipe.trials.observe import observe
from rampipe.trials.shared import find_contexts
from rampipe.trials.silenced import silenced_answers
from rampipe.trials.trial import prepare
from rampipe.types import HeadId
from tests.unit.attention.flash_stand_in import NAME, on_flash


@pytest.fixture(scope="module")
def trials(replica, samples, config):
    return [prepare(replica, sample, config=config) for sample in samples]


def test_shared_contexts_are_read_by_it(replica, trials, config):
    expected = observe(replica, trials, config=config.capture)
    with on_flash(replica.model) as ran:
        assert len(find_contexts(replica, trials)) == len(trials)
        found = observe(replica, trials, config=config.capture)
        assert replica.model.get_decoder().config._attn_implementation == NAME
    assert ran == [0, 1]  # the beginnings; what follows them is no kernel's that knows causal masks alone
    for one, other in zip(found, expected, strict=True):
        for query, group in one.groups.items():
            assert np.abs(group.mass - other.groups[query].mass).max() < 1e-5


@pytest.mark.parametrize("mode", ["zero", "evidence_knockout", "uniform"])
@pytest.mark.parametrize("positions", ["all", "after_context"])
def test_silenced_heads_answer_alike(replica, trials, mode, positions):
    heads = (HeadId(0, 1), HeadId(1, 2))
    arm = Arm("a", "top", "ablate", mode, positions, "query_head", "overall", 0.1, None, None, 2, 0.1, None, heads)
    prompts, arms = [trial.prompt for trial in trials], [arm] * len(trials)
    expected = silenced_answers(replica, prompts, arms, max_new_tokens=3, means=None)
    with on_flash(replica.model) as ran:
        found = silenced_answers(replica, prompts, arms, max_new_tokens=3, means=None)
    assert ran
    assert found.texts == expected.texts
    assert found.log_probs == pytest.approx(expected.log_probs, abs=1e-4)
