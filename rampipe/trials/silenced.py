"""Answers while heads are silenced: each row of a batch lacks its own."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

from rampipe.attention.mask import silence_heads
from rampipe.attention.prefix_cache import PrefixCache, can_continue
from rampipe.attention.silence import HeadMeans, Silence, SilenceMode
from rampipe.errors import ConfigError
from rampipe.models.prompts import Batch, Prompt, collate
from rampipe.models.replica import Replica
from rampipe.tables.arms import Arm
from rampipe.trials.continued import read_beginnings
from rampipe.trials.forced import Answers, answer_lengths, teacher_forced
from rampipe.trials.predict import generate_batch, without_answer
from rampipe.types import REGIONS

_EVIDENCE = REGIONS.index("evidence")


def silenced_answers(
    replica: Replica,
    prompts: Sequence[Prompt],
    arms: Sequence[Arm],
    *,
    max_new_tokens: int,
    means: HeadMeans | None,
) -> Answers:
    """One forward over the prompts with their answers, one generation from the prompts alone.

    Where no head is touched before the question, the context of a prompt is read once for all arms.
    arms: one a prompt, of one mode and one choice of positions. Without heads, the model runs without any hook.
    means: for mode `mean`.
    """
    beginnings = read_beginnings(replica, prompts) if _share_contexts(replica, prompts, arms) else None

    def batch_of(chosen: Sequence[Prompt], *, num_more_tokens: int = 0) -> tuple[Batch, PrefixCache | None]:
        if beginnings is None:
            return collate(replica, chosen), None
        return beginnings.behind(chosen, num_more_tokens=num_more_tokens)

    log_probs: list[float | None] = [None] * len(prompts)
    if any(answer_lengths(prompts)):
        forced, cache = batch_of(prompts)
        with _silenced(replica, prompts, arms, batch=forced, means=means):
            log_probs = teacher_forced(replica, prompts, forced, cache=cache)
    batch, cache = batch_of([without_answer(prompt) for prompt in prompts], num_more_tokens=max_new_tokens)
    extra = {} if cache is None else {"past_key_values": cache}
    with _silenced(replica, prompts, arms, batch=batch, means=means):
        texts = generate_batch(replica, batch, max_new_tokens=max_new_tokens, extra=extra)
    return Answers(texts, log_probs)


def _share_contexts(replica: Replica, prompts: Sequence[Prompt], arms: Sequence[Arm]) -> bool:
    return (
        arms[0].positions != "all"
        and any(arm.heads for arm in arms)
        and can_continue(replica.model)
        and all(prompt.begins_with_context for prompt in prompts)
    )


def _silenced(
    replica: Replica, prompts: Sequence[Prompt], arms: Sequence[Arm], *, batch: Batch, means: HeadMeans | None
) -> AbstractContextManager[None]:
    """Stops are positions of the padded batch."""
    if not any(arm.heads for arm in arms):
        return nullcontext()
    mode = _mode(arms[0])
    silence = Silence(
        heads=[frozenset(arm.heads) for arm in arms],
        mode=mode,
        positions=arms[0].positions,
        context_stop=[at + prompt.question.start for at, prompt in zip(batch.offsets, prompts, strict=True)],
        prompt_stop=[at + prompt.num_prompt_tokens for at, prompt in zip(batch.offsets, prompts, strict=True)],
        evidence=batch.regions == _EVIDENCE if mode == "evidence_knockout" else None,
        means=means,
    )
    return silence_heads(replica.model, silence)


def _mode(arm: Arm) -> SilenceMode:
    if arm.mode == "hybrid":
        raise ConfigError(f"arm {arm.arm_id!r}: mode 'hybrid' silences nothing. Make its kind 'keep'.")
    return arm.mode
