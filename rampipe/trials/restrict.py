"""Answers while only some heads see everything: the arms that keep heads, in prefill and in decoding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from rampipe.attention.hybrid import HybridAttention, hybrid_attention
from rampipe.attention.hybrid_plan import HybridPlan
from rampipe.errors import ConfigError
from rampipe.models.prompts import Batch, Prompt, collate
from rampipe.models.replica import Replica
from rampipe.tables.arms import Arm
from rampipe.trials.forced import Answers, answer_lengths, step_by_step, teacher_forced
from rampipe.trials.predict import generate_batch, without_answer

SETTINGS = ("sink_tokens", "window_tokens", "keep_text", "dense_below_tokens")
"""Keys of a plan's settings that say what the other heads see."""


def hybrid_plan_of(arm: Arm, settings: Mapping[str, Any]) -> HybridPlan:
    """The arm's heads see everything, the others what the settings of its plan say.

    Raises ConfigError for an arm that does not keep heads, and for settings that lack a key.
    """
    if arm.kind != "keep" or arm.mode != "hybrid":
        raise ConfigError(
            f"arm {arm.arm_id!r}: kind {arm.kind!r} and mode {arm.mode!r}; allowed: 'keep' and 'hybrid'. Only such "
            "arms have heads with full attention."
        )
    missing = [name for name in SETTINGS if name not in settings]
    if missing:
        raise ConfigError(
            f"arm {arm.arm_id!r}: the settings of its plan lack {missing}; needed: {list(SETTINGS)}. Make the plan "
            "from the speed section of the configuration."
        )
    return HybridPlan(frozenset(arm.heads), **{name: settings[name] for name in SETTINGS})


def restricted_answers(
    replica: Replica, prompts: Sequence[Prompt], plan: HybridPlan, *, max_new_tokens: int
) -> Answers:
    """Greedy answers from the memory of hybrid attention, and the reference answers under the same restriction.

    Raises ConfigError for heads that the model lacks, ModelError for a model that cannot be restricted.
    """
    bare = [without_answer(prompt) for prompt in prompts]
    batch = collate(replica, bare)
    num_tokens, num_answer = batch.inputs["input_ids"].shape[1], max(answer_lengths(prompts))
    log_probs: list[float | None] = [None] * len(prompts)
    with hybrid_attention(replica.model, plan, text_keys=text_keys(batch, prompts)) as hybrid:
        is_dense_prompt = num_tokens < plan.dense_below_tokens and _restricts(hybrid)
        if num_answer and is_dense_prompt:
            cache = hybrid.new_cache(capacity_tokens=num_tokens + num_answer)
            log_probs = step_by_step(replica, prompts, batch, cache=cache)
        cache = hybrid.new_cache(capacity_tokens=num_tokens + max_new_tokens)
        texts = generate_batch(replica, batch, max_new_tokens=max_new_tokens, extra={"past_key_values": cache})
    if num_answer and not is_dense_prompt:
        forced = collate(replica, prompts)
        with hybrid_attention(replica.model, plan, text_keys=text_keys(forced, prompts)):
            log_probs = teacher_forced(replica, prompts, forced)
    return Answers(texts, log_probs)


def text_keys(batch: Batch, prompts: Sequence[Prompt]) -> Bool[Tensor, "batch key"]:
    """Which keys of the batch are text of a prompt. Visual tokens, padding and the answer are not: an answer is seen
    through the window alone, teacher-forced or generated.
    """
    keys = torch.zeros(len(prompts), batch.inputs["input_ids"].shape[1], dtype=torch.bool)
    for row, (start, prompt) in enumerate(zip(batch.offsets, prompts, strict=True)):
        keys[row, start : start + prompt.num_prompt_tokens] = True
        keys[row, start + prompt.visual_positions.cpu()] = False
    return keys


def _restricts(hybrid: HybridAttention) -> bool:
    return any(hybrid.plan.layer(layer, hybrid.shape).restricted for layer in hybrid.layers)
