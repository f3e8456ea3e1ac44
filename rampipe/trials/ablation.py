"""What a replica answers when heads are silenced: all arms of an experiment on one batch of samples."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from rampipe.attention.mask import silence_heads
from rampipe.attention.silence import HeadMeans, Silence, SilenceMode
from rampipe.errors import ConfigError, SampleError
from rampipe.models.prompts import Batch, Prompt, collate
from rampipe.models.replica import Replica
from rampipe.tables.arms import Arm
from rampipe.tables.outcomes import ArmOutcome, SampleOutcomes
from rampipe.trials.context import context_key
from rampipe.trials.memory import run_in_halves
from rampipe.trials.predict import generate_batch, without_answer
from rampipe.trials.score import is_correct
from rampipe.trials.trial import Trial
from rampipe.types import REGIONS

_EVIDENCE = REGIONS.index("evidence")


class _Row(NamedTuple):
    """One row of a forward: a sample in an arm."""

    trial: Trial
    arm: Arm


def ablate(
    replica: Replica,
    trials: Sequence[Trial],
    arms: Sequence[Arm],
    *,
    max_new_tokens: int,
    batch_tokens: int,
    means: HeadMeans | None = None,
) -> list[SampleOutcomes | SampleError]:
    """Answers of every trial in every arm, aligned with `trials`; a trial that fails in one arm fails as a whole.

    Arms of one mode and one choice of positions share forwards, up to `batch_tokens` padded tokens: each row has its
    own heads. The base runs without any hook. The order of `arms` has no effect, to the last bit.
    means: for mode `mean`. Raises ConfigError for an arm that keeps heads, and ModelError for a model that cannot be
    silenced.
    """
    found: dict[tuple[str, str], ArmOutcome | SampleError] = {}
    for rows in _forwards(trials, arms, batch_tokens=batch_tokens):
        outcomes = run_in_halves(
            lambda some: _run(replica, some, max_new_tokens=max_new_tokens, means=means),
            rows,
            name_of=lambda row: row.trial.sample.sample_id,
        )
        keys = [(row.trial.sample.sample_id, row.arm.arm_id) for row in rows]
        found.update(zip(keys, outcomes, strict=True))
    return [_joined(trial, [found[trial.sample.sample_id, arm.arm_id] for arm in arms]) for trial in trials]


def _forwards(trials: Sequence[Trial], arms: Sequence[Arm], *, batch_tokens: int) -> Iterator[list[_Row]]:
    """Rows of each forward: all trials in as many arms as fit, arms by name so that their order does not matter."""
    num_tokens = len(trials) * max((trial.num_tokens for trial in trials), default=1)
    size = max(1, batch_tokens // max(1, num_tokens))
    groups: dict[tuple[str, ...], list[Arm]] = {}
    for arm in sorted(arms, key=lambda arm: arm.arm_id):
        if arm.kind != "ablate" or arm.mode == "hybrid":
            raise ConfigError(f"arm {arm.arm_id!r}: keeps heads; ablate takes arms that silence them. Use jobs.speed.")
        groups.setdefault(("base",) if not arm.heads else (arm.mode, arm.positions), []).append(arm)
    for _, group in sorted(groups.items()):
        for start in range(0, len(group), size):
            yield [_Row(trial, arm) for arm in group[start : start + size] for trial in trials]


def _joined(trial: Trial, outcomes: Sequence[ArmOutcome | SampleError]) -> SampleOutcomes | SampleError:
    errors = [outcome for outcome in outcomes if isinstance(outcome, SampleError)]
    if errors:
        return errors[0]
    sample = trial.sample
    return SampleOutcomes(
        sample_id=sample.sample_id,
        domain=sample.domain,
        context_key=context_key(sample),
        control=not sample.evidence and not sample.images,
        arms=tuple(outcome for outcome in outcomes if isinstance(outcome, ArmOutcome)),
    )


@torch.inference_mode()
def _run(
    replica: Replica, rows: Sequence[_Row], *, max_new_tokens: int, means: HeadMeans | None
) -> list[ArmOutcome | SampleError]:
    """One forward over prompts with their answers, one generation from the prompts alone."""
    forced = [row.trial.prompt for row in rows]
    log_probs = _answer_log_probs(replica, rows, forced, means)
    prompts = [without_answer(prompt) for prompt in forced]
    batch = collate(replica, prompts)
    with _silenced(replica, rows, batch, means):
        answers = generate_batch(replica, batch, max_new_tokens=max_new_tokens)
    return [_outcome(row, answer, value) for row, answer, value in zip(rows, answers, log_probs, strict=True)]


def _outcome(row: _Row, answer: str, log_prob: float | None) -> ArmOutcome | SampleError:
    sample = row.trial.sample
    if log_prob is not None and not math.isfinite(log_prob):
        return SampleError(
            f"sample {sample.sample_id}, arm {row.arm.arm_id}: the log-probability of its answer is {log_prob}; "
            "allowed: finite. Run the model in float32 or bfloat16. Sample skipped.",
            stage="forward",
            code="nonfinite",
        )
    correct = is_correct(answer, sample) if sample.answers else None
    score = None if correct is None else float(correct)
    return ArmOutcome(row.arm.arm_id, answer, correct, score, log_prob)


def _silenced(
    replica: Replica, rows: Sequence[_Row], batch: Batch, means: HeadMeans | None
) -> AbstractContextManager[None]:
    """Each row without its arm's heads. Stops are positions of the padded batch."""
    if not any(row.arm.heads for row in rows):
        return nullcontext()
    prompts = [row.trial.prompt for row in rows]
    mode: SilenceMode = "zero" if rows[0].arm.mode == "hybrid" else rows[0].arm.mode
    silence = Silence(
        heads=[frozenset(row.arm.heads) for row in rows],
        mode=mode,
        positions=rows[0].arm.positions,
        context_stop=[at + prompt.question.start for at, prompt in zip(batch.offsets, prompts, strict=True)],
        prompt_stop=[at + prompt.num_prompt_tokens for at, prompt in zip(batch.offsets, prompts, strict=True)],
        evidence=batch.regions == _EVIDENCE if mode == "evidence_knockout" else None,
        means=means,
    )
    return silence_heads(replica.model, silence)


def _answer_log_probs(
    replica: Replica, rows: Sequence[_Row], prompts: Sequence[Prompt], means: HeadMeans | None
) -> list[float | None]:
    """Mean log-probability of the teacher-forced answer's tokens, nats per token; None without an answer."""
    lengths = [len(prompt.input_ids) - prompt.num_prompt_tokens for prompt in prompts]
    longest = max(lengths)
    if not longest:
        return [None] * len(rows)
    batch = collate(replica, prompts)
    with _silenced(replica, rows, batch, means):
        # Padded on the left: the answers are the last tokens, each predicted one position earlier.
        logits: Float[Tensor, "row token vocabulary"] = replica.model(
            **batch.inputs, use_cache=False, logits_to_keep=longest + 1
        ).logits
    targets = batch.inputs["input_ids"][:, -longest:]
    chosen = logits[:, :-1].float().log_softmax(dim=-1).gather(-1, targets[:, :, None])[:, :, 0].double().cpu()
    return [float(row[-length:].mean()) if length else None for row, length in zip(chosen, lengths, strict=True)]
