from __future__ import annotations

from dataclasses import replace

import pytest

from rampipe.errors import ConfigError
from rampipe.tables.arms import Arm
from rampipe.tables.outcomes import SampleOutcomes
from rampipe.trials.ablation import ablate
from rampipe.trials.predict import greedy
from rampipe.trials.reference import reference_means
from rampipe.trials.trial import prepare
from rampipe.types import HeadId

BASE = Arm("base", "base", "ablate", "zero", "all", "query_head", "overall", 0.0, None, None, 0, 0.0, None, ())


def arm(name, *heads, mode="zero", positions="all"):
    chosen = tuple(HeadId(*head) for head in heads)
    return replace(
        BASE, arm_id=name, strategy="top", mode=mode, positions=positions, num_heads=len(heads), heads=chosen
    )


ARMS = [
    BASE,
    arm("one", (0, 0)),
    arm("layer", *((1, head) for head in range(4))),
    arm("late", (0, 1), (1, 0), positions="after_context"),
    arm("steps", *((0, head) for head in range(4)), positions="decode"),
    arm("mean", (0, 1), (1, 2), mode="mean"),
    arm("blind", (0, 0), (1, 1), mode="evidence_knockout"),
    arm("even", (1, 3), mode="uniform"),
]


@pytest.fixture(scope="module")
def trials(replica, config, samples):
    return [prepare(replica, sample, config=config) for sample in samples]


@pytest.fixture(scope="module")
def means(replica, trials):
    return reference_means(replica, trials, batch_tokens=64)


def run(replica, trials, arms, means, *, batch_tokens=4096):
    found = ablate(replica, trials, arms, max_new_tokens=3, batch_tokens=batch_tokens, means=means)
    assert all(isinstance(result, SampleOutcomes) for result in found)
    return {result.sample_id: {outcome.arm_id: outcome for outcome in result.arms} for result in found}


def test_arms_that_share_a_forward_give_what_each_gives_alone(replica, trials, means):
    together = run(replica, trials, ARMS, means)
    for one in ARMS:
        for trial in trials:  # a batch of one has no padding: stops count it right
            alone = run(replica, [trial], [one], means)[trial.sample.sample_id][one.arm_id]
            shared = together[trial.sample.sample_id][one.arm_id]
            assert shared.prediction == alone.prediction
            assert shared.answer_log_prob == pytest.approx(alone.answer_log_prob, abs=1e-5)


def test_the_base_is_the_model_as_it_is_and_the_arms_are_not(replica, trials, means):
    found = run(replica, trials, ARMS, means)
    predictions = greedy(replica, [trial.prompt for trial in trials], max_new_tokens=3)
    assert [outcomes["base"].prediction for outcomes in found.values()] == predictions
    for name in {one.arm_id for one in ARMS} - {"base"}:
        moved = [abs(of[name].answer_log_prob - of["base"].answer_log_prob) for of in found.values()]
        assert max(moved) > 1e-4, name


def test_the_order_of_arms_changes_no_bit(replica, trials, means):
    forward = run(replica, trials, ARMS, means, batch_tokens=256)
    assert run(replica, trials, ARMS[::-1], means, batch_tokens=256) == forward


def test_without_an_answer_nothing_is_right_or_likely(replica, config, samples):
    bare = replace(samples[0], answers=())
    queries = {"capture": config.capture.model_copy(update={"queries": ("last",)})}
    trial = prepare(replica, bare, config=config.model_copy(update=queries))
    for outcome in run(replica, [trial], ARMS[:2], None)[bare.sample_id].values():
        assert (outcome.correct, outcome.score, outcome.answer_log_prob) == (None, None, None)
        assert outcome.prediction is not None


def test_an_arm_that_keeps_heads_is_refused(replica, trials):
    keeps = replace(ARMS[1], kind="keep", mode="hybrid")
    with pytest.raises(ConfigError, match="keeps heads"):
        ablate(replica, trials, [BASE, keeps], max_new_tokens=1, batch_tokens=64)
