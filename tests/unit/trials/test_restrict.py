from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from rampipe.attention.hybrid import hybrid_attention
from rampipe.errors import ConfigError
from rampipe.models.prompts import collate
from rampipe.tables.arms import Arm, ArmPlan
from rampipe.tables.outcomes import SampleOutcomes
from rampipe.trials.ablation import ablate
from rampipe.trials.forced import step_by_step
from rampipe.trials.predict import without_answer
from rampipe.trials.restrict import hybrid_plan_of, restricted_answers, text_keys
from rampipe.trials.trial import prepare
from rampipe.types import HeadId

BASE = Arm("base", "base", "ablate", "zero", "all", "query_head", "overall", 0.0, None, None, 0, 0.0, None, ())
NARROW = {"sink_tokens": 1, "window_tokens": 2, "keep_text": True, "dense_below_tokens": 0}
NUM_NEW = 3


def keep(name, heads):
    return replace(
        BASE, arm_id=name, strategy="top", kind="keep", mode="hybrid", num_heads=len(heads), heads=tuple(sorted(heads))
    )


@pytest.fixture(scope="module")
def arms(replica):
    text = replica.model.config.get_text_config()
    every = [HeadId(layer, head) for layer in range(2) for head in range(text.num_attention_heads)]
    return [BASE, keep("none", ()), keep("some", every[:3]), keep("all", every)]


@pytest.fixture(scope="module")
def trials(replica, config, samples):
    return [prepare(replica, sample, config=config) for sample in samples]


@pytest.fixture(scope="module")
def run(replica, config, trials):
    limits = config.capture.model_copy(update={"predict_tokens": NUM_NEW})

    def outcomes(arms, *, some=None, **changes):
        plan = ArmPlan("run", "ram", "0" * 64, 32, None, NARROW | changes, tuple(arms))
        found = ablate(replica, some or trials, plan, config=config.model_copy(update={"capture": limits}))
        assert all(isinstance(result, SampleOutcomes) for result in found)
        return {result.sample_id: {outcome.arm_id: outcome for outcome in result.arms} for result in found}

    return outcomes


def moved(outcomes, arm_id):
    """By how much an arm differs from the base, at most; 0 to the last bit, predictions included."""
    if any(of[arm_id].prediction != of["base"].prediction for of in outcomes.values()):
        return 1.0
    return max(abs(of[arm_id].answer_log_prob - of["base"].answer_log_prob) for of in outcomes.values())


@pytest.mark.parametrize("dense_below_tokens", [0, 4096])
def test_every_head_kept_is_the_base_bit_for_bit_and_fewer_are_not(run, arms, dense_below_tokens):
    found = run(arms, dense_below_tokens=dense_below_tokens)
    assert moved(found, "all") == 0.0
    assert moved(found, "none") > 1e-4
    assert moved(found, "some") > 1e-4


def test_a_window_over_everything_is_the_base(run, arms):
    assert moved(run(arms, window_tokens=4096), "none") == 0.0


def test_the_order_of_arms_changes_no_bit(run, arms):
    assert run(arms[::-1]) == run(arms)


def test_neighbours_in_the_batch_change_nothing(run, arms, trials):
    together = run(arms)
    for trial in trials:
        for arm_id, alone in run(arms, some=[trial])[trial.sample.sample_id].items():
            shared = together[trial.sample.sample_id][arm_id]
            assert shared.prediction == alone.prediction
            assert shared.answer_log_prob == pytest.approx(alone.answer_log_prob, abs=1e-5)


def test_a_short_prompt_is_dense_and_its_answer_is_not(run, arms):
    """The first answer token comes from a dense prompt, the second from a restricted step."""
    restricted, short = run(arms), run(arms, dense_below_tokens=4096)
    for name, of in short.items():
        assert of["none"].prediction.split()[:1] == of["base"].prediction.split()[:1]
        assert of["none"].answer_log_prob != pytest.approx(of["base"].answer_log_prob, abs=1e-5)
        assert of["none"].answer_log_prob != pytest.approx(restricted[name]["none"].answer_log_prob, abs=1e-5)


def test_one_forward_and_the_steps_of_generate_agree_about_the_answer(replica, trials, arms):
    prompts = [trial.prompt for trial in trials]
    batch = collate(replica, [without_answer(prompt) for prompt in prompts])
    width = batch.inputs["input_ids"].shape[1]
    plan = hybrid_plan_of(arms[2], NARROW)
    _, forced = restricted_answers(replica, prompts, plan, max_new_tokens=NUM_NEW)
    with torch.inference_mode(), hybrid_attention(replica.model, plan, text_keys=text_keys(batch, prompts)) as hybrid:
        cache = hybrid.new_cache(capacity_tokens=width + 8)
        assert step_by_step(replica, prompts, batch, cache=cache) == pytest.approx(forced, abs=1e-5)
    dense = restricted_answers(replica, prompts, hybrid_plan_of(arms[3], NARROW), max_new_tokens=NUM_NEW).log_probs
    assert dense != pytest.approx(forced, abs=1e-5)


def test_text_is_what_is_neither_image_nor_padding_nor_answer(replica, trials):
    prompts = [trial.prompt for trial in trials]
    forced = collate(replica, prompts)
    keys, ids = text_keys(forced, prompts), forced.inputs["input_ids"]
    for row, (start, prompt) in enumerate(zip(forced.offsets, prompts, strict=True)):
        assert not keys[row, :start].any()
        assert not keys[row, start + prompt.num_prompt_tokens :].any()
        assert int(keys[row].sum()) == prompt.num_prompt_tokens - len(prompt.visual_positions) > 0
        assert not (ids[row][keys[row]] == replica.visual_token_ids[0]).any()
    assert len({int(count) for count in keys.sum(dim=1)}) > 1 or len(set(forced.offsets)) > 1


def test_text_kept_is_another_restriction_than_text_lost(run, arms):
    kept, lost = run(arms), run(arms, keep_text=False)
    assert any(kept[name]["none"].answer_log_prob != lost[name]["none"].answer_log_prob for name in kept)


def test_settings_become_the_plan(arms):
    settings = {"sink_tokens": 3, "window_tokens": 5, "keep_text": False, "dense_below_tokens": 7, "seeds": 2}
    plan = hybrid_plan_of(arms[2], settings)
    assert plan.full_heads == frozenset(arms[2].heads)
    assert (plan.sink_tokens, plan.window_tokens, plan.keep_text, plan.dense_below_tokens) == (3, 5, False, 7)


def test_what_no_plan_can_be_made_of_is_refused(arms):
    with pytest.raises(ConfigError, match=r"lack \['dense_below_tokens'\]"):
        hybrid_plan_of(arms[1], {name: NARROW[name] for name in NARROW if name != "dense_below_tokens"})
    with pytest.raises(ConfigError, match="allowed: 'keep' and 'hybrid'"):
        hybrid_plan_of(BASE, NARROW)
