"""Arms that touch nothing before the question share the reading of the context, and answer as without sharing."""

from __future__ import annotations

import pytest
import torch

from rampipe.attention.mask import silence_heads
from rampipe.attention.silence import Silence
from rampipe.models.prompts import collate
from rampipe.trials.forced import teacher_forced
from rampipe.trials.predict import generate_batch, without_answer
from rampipe.trials.silenced import silenced_answers
from rampipe.trials.trial import prepare
from rampipe.types import REGIONS
from tests.unit.trials.test_ablation import arm

EVIDENCE = REGIONS.index("evidence")


@pytest.fixture(scope="module")
def rows(replica, config, samples):
    """Three arms on four prompts of different lengths."""
    trials = [prepare(replica, sample, config=config) for sample in samples]
    chosen = [((0, 1), (1, 0)), tuple((0, head) for head in range(8)), tuple((1, head) for head in range(16))]
    return [(trial.prompt, heads) for heads in chosen for trial in trials]


def unshared(replica, rows, *, mode, positions):
    """As `silence_heads` does it on whole prompts."""
    prompts = [prompt for prompt, _ in rows]

    def silence(batch):
        stops = list(zip(batch.offsets, prompts, strict=True))
        return silence_heads(
            replica.model,
            Silence(
                heads=[frozenset(arm("", *heads).heads) for _, heads in rows],
                mode=mode,
                positions=positions,
                context_stop=[at + prompt.question.start for at, prompt in stops],
                prompt_stop=[at + prompt.num_prompt_tokens for at, prompt in stops],
                evidence=batch.regions == EVIDENCE if mode == "evidence_knockout" else None,
            ),
        )

    forced = collate(replica, prompts)
    with torch.inference_mode(), silence(forced):
        log_probs = teacher_forced(replica, prompts, forced)
    batch = collate(replica, [without_answer(prompt) for prompt in prompts])
    with silence(batch):
        return generate_batch(replica, batch, max_new_tokens=3), log_probs


def shared(replica, rows, *, mode, positions):
    arms = [arm("", *heads, mode=mode, positions=positions) for _, heads in rows]
    with torch.inference_mode():
        return silenced_answers(replica, [prompt for prompt, _ in rows], arms, max_new_tokens=3, means=None)


@pytest.mark.parametrize("positions", ["after_context", "decode"])
@pytest.mark.parametrize("mode", ["zero", "evidence_knockout", "uniform"])
def test_answers_are_those_of_whole_prompts(replica, rows, mode, positions):
    texts, log_probs = unshared(replica, rows, mode=mode, positions=positions)
    found = shared(replica, rows, mode=mode, positions=positions)
    assert found.texts == texts
    assert found.log_probs == pytest.approx(log_probs, abs=1e-4)


def test_twin_other_heads_and_positions_answer_otherwise(replica, rows):
    after = shared(replica, rows, mode="zero", positions="after_context").log_probs
    everywhere = shared(replica, rows, mode="zero", positions="all").log_probs
    others = shared(
        replica, [(prompt, ((0, 3),)) for prompt, _ in rows], mode="zero", positions="after_context"
    ).log_probs
    for values in (everywhere, others):
        assert max(abs(one - other) for one, other in zip(after, values, strict=True)) > 1e-2


def test_each_context_is_read_once_for_all_arms(replica, rows):
    seen = []
    handle = replica.model.get_decoder().register_forward_pre_hook(
        lambda _module, _args, kwargs: seen.append(tuple(kwargs["inputs_embeds"].shape[:2])), with_kwargs=True
    )
    try:
        shared(replica, rows, mode="zero", positions="after_context")
        after, seen[:] = list(seen), []
        shared(replica, rows, mode="zero", positions="all")
    finally:
        handle.remove()
    longest = max(prompt.question.start for prompt, _ in rows)
    rest = max(len(prompt.input_ids) - prompt.question.start for prompt, _ in rows)
    assert after[0] == (4, longest)
    assert all(count == 12 and width <= rest for count, width in after[1:])
    assert seen[0][0] == 12  # twin: every arm reads every context
    assert seen[0][1] > longest
