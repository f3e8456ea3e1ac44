from __future__ import annotations

from dataclasses import replace

import pytest

from rampipe.errors import ConfigError
from rampipe.tables.arms import Arm, ArmPlan
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


def plan_of(arms):
    return ArmPlan("run", "ram", "0" * 64, 64, None, {}, tuple(arms))


@pytest.fixture(scope="module")
def trials(replica, config, samples):
    return [prepare(replica, sample, config=config) for sample in samples]


@pytest.fixture(scope="module")
def means(replica, trials):
    return reference_means(replica, trials, batch_tokens=64)


@pytest.fixture(scope="module")
def run(replica, config, means):
    def outcomes(trials, arms, *, batch_tokens=4096):
        limits = config.capture.model_copy(update={"predict_tokens": 3, "batch_tokens": batch_tokens})
        found = ablate(
            replica, trials, plan_of(arms), config=config.model_copy(update={"capture": limits}), means=means
        )
        assert all(isinstance(result, SampleOutcomes) for result in found)
        return {result.sample_id: {outcome.arm_id: outcome for outcome in result.arms} for result in found}

    return outcomes


def test_arms_that_share_a_forward_give_what_each_gives_alone(run, trials):
    together = run(trials, ARMS)
    for one in ARMS:
        for trial in trials:  # a batch of one has no padding: stops count it right
            alone = run([trial], [BASE, one] if one != BASE else [BASE])[trial.sample.sample_id][one.arm_id]
            shared = together[trial.sample.sample_id][one.arm_id]
            assert shared.prediction == alone.prediction
            assert shared.answer_log_prob == pytest.approx(alone.answer_log_prob, abs=1e-5)


def test_the_base_is_the_model_as_it_is_and_the_arms_are_not(run, replica, trials):
    found = run(trials, ARMS)
    predictions = greedy(replica, [trial.prompt for trial in trials], max_new_tokens=3)
    assert [outcomes["base"].prediction for outcomes in found.values()] == predictions
    for name in {one.arm_id for one in ARMS} - {"base"}:
        moved = [abs(of[name].answer_log_prob - of["base"].answer_log_prob) for of in found.values()]
        assert max(moved) > 1e-4, name


def test_the_order_of_arms_changes_no_bit(run, trials):
    forward = run(trials, ARMS, batch_tokens=256)
    assert run(trials, ARMS[::-1], batch_tokens=256) == forward


def test_without_an_answer_nothing_is_right_or_likely(run, replica, config, samples):
    bare = replace(samples[0], answers=())
    queries = {"capture": config.capture.model_copy(update={"queries": ("last",)})}
    trial = prepare(replica, bare, config=config.model_copy(update=queries))
    for outcome in run([trial], ARMS[:2])[bare.sample_id].values():
        assert (outcome.correct, outcome.score, outcome.answer_log_prob) == (None, None, None)
        assert outcome.prediction is not None


@pytest.mark.parametrize(("rule", "is_right"), [("containment", True), ("exact_match", False), ("auto", False)])
def test_answers_are_judged_by_the_rule_of_the_configuration(replica, config, trials, rule, is_right):
    (predicted,) = greedy(replica, [trials[0].prompt], max_new_tokens=3)
    assert len(predicted.split()) > 1
    sample = replace(trials[0].sample, answers=(predicted.split()[0],))
    changes = {
        "data": config.data.model_copy(update={"score": rule}),
        "capture": config.capture.model_copy(update={"predict_tokens": 3}),
    }
    trial = replace(trials[0], sample=sample)
    (result,) = ablate(replica, [trial], plan_of([BASE]), config=config.model_copy(update=changes))
    assert (result.arms[0].correct, result.arms[0].score) == (is_right, float(is_right))


@pytest.mark.parametrize(("kind", "mode"), [("keep", "zero"), ("ablate", "hybrid")])
def test_keeping_and_silencing_are_not_mixed_up(replica, config, trials, kind, mode):
    wrong = replace(ARMS[1], kind=kind, mode=mode)
    with pytest.raises(ConfigError, match="'keep' goes with 'hybrid'"):
        ablate(replica, trials, plan_of([BASE, wrong]), config=config)
