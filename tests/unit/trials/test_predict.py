"""Greedy answers against a plain loop, and what a capture makes of them."""

from __future__ import annotations

import torch

from rampipe.models.prompts import collate
from rampipe.tables.rows import SampleResult
from rampipe.trials.measure import measure
from rampipe.trials.predict import greedy, without_answer
from rampipe.trials.trial import prepare

NUM_TOKENS = 6


def plain_loop(replica, prompt):
    """Likeliest token after the whole sequence, again and again: no cache, no padding, no generate."""
    batch = collate(replica, [without_answer(prompt)]).inputs
    answer: list[int] = []
    end = replica.tokenizer.eos_token_id
    for _ in range(NUM_TOKENS):
        with torch.inference_mode():
            token = int(replica.model(**batch).logits[0, -1].argmax())
        if token == end:
            break
        answer.append(token)
        batch["input_ids"] = torch.cat([batch["input_ids"], torch.tensor([[token]])], dim=1)
        batch["attention_mask"] = torch.ones_like(batch["input_ids"])
        batch["mm_token_type_ids"] = torch.nn.functional.pad(batch["mm_token_type_ids"], (0, 1))
        batch["position_ids"] = torch.cat([batch["position_ids"], batch["position_ids"][..., -1:] + 1], dim=-1)
    return replica.tokenizer.decode(answer, skip_special_tokens=True).strip()


def test_batch_equals_plain_loop(replica, samples, config):
    prompts = [prepare(replica, sample, config=config).prompt for sample in samples]
    answers = greedy(replica, prompts, max_new_tokens=NUM_TOKENS)
    assert answers == [plain_loop(replica, prompt) for prompt in prompts]
    assert len(set(answers)) > 1, "prompts must lead to different answers for the comparison to mean anything"
    assert greedy(replica, prompts[::-1], max_new_tokens=NUM_TOKENS) == answers[::-1]


def test_sampling_defaults_of_a_checkpoint_are_ignored(replica, samples, config):
    prompts = [prepare(replica, sample, config=config).prompt for sample in samples]
    expected = greedy(replica, prompts, max_new_tokens=NUM_TOKENS)
    defaults = replica.model.generation_config
    before = defaults.to_dict()
    defaults.update(do_sample=True, temperature=9.0, top_k=50, top_p=0.9, repetition_penalty=3.0, num_beams=2)
    try:
        assert greedy(replica, prompts, max_new_tokens=NUM_TOKENS) == expected
    finally:
        defaults.update(**before)


def test_answer_ends_at_the_end_of_the_turn(replica, samples, config):
    prompt = prepare(replica, samples[0], config=config).prompt
    end = replica.tokenizer.eos_token_id
    head = replica.model.lm_head
    handle = head.register_forward_hook(lambda _module, _args, logits: logits.index_fill(-1, torch.tensor([end]), 1e4))
    try:
        assert greedy(replica, [prompt], max_new_tokens=NUM_TOKENS) == [""]
    finally:
        handle.remove()
    assert greedy(replica, [prompt], max_new_tokens=NUM_TOKENS) != [""]


def test_measure_adds_answers_only_when_asked(replica, samples, config):
    from dataclasses import replace

    first = prepare(replica, samples[0], config=config)
    capture = config.capture.model_copy(update={"predict_tokens": NUM_TOKENS})
    predicting = config.model_copy(update={"capture": capture})
    (answer,) = greedy(replica, [first.prompt], max_new_tokens=NUM_TOKENS)
    right = replace(first, sample=replace(first.sample, answers=(answer,)))
    unknown = replace(first, sample=replace(first.sample, answers=()))
    results = measure(replica, [first, right, unknown], config=predicting)
    assert all(isinstance(result, SampleResult) for result in results)
    assert [result.prediction for result in results] == [answer] * 3
    assert [result.correct for result in results] == [False, True, None]
    (plain,) = measure(replica, [first], config=config)
    assert (plain.prediction, plain.correct) == (None, None)
