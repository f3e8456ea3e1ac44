"""What a replica answers when heads are touched: all arms of an experiment on one batch of samples."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch

from rampipe.attention.silence import HeadMeans
from rampipe.config import DataConfig, RunConfig
from rampipe.errors import ConfigError, SampleError
from rampipe.models.replica import Replica
from rampipe.tables.arms import Arm, ArmPlan
from rampipe.tables.outcomes import ArmOutcome, SampleOutcomes
from rampipe.trials.memory import run_in_halves
from rampipe.trials.restrict import hybrid_plan_of, restricted_answers
from rampipe.trials.scores import score_sample
from rampipe.trials.silenced import silenced_answers
from rampipe.trials.trial import Trial


class _Row(NamedTuple):
    """One row of a forward: a sample in an arm."""

    trial: Trial
    arm: Arm


def ablate(
    replica: Replica, trials: Sequence[Trial], plan: ArmPlan, *, config: RunConfig, means: HeadMeans | None = None
) -> list[SampleOutcomes | SampleError]:
    """Answers of every trial in every arm, aligned with `trials`; a trial that fails in one arm fails as a whole.

    Arms that silence share forwards where mode and positions are the same, up to `capture.batch_tokens` padded tokens:
    each row has its own heads. An arm that keeps heads has a forward of its own, restricted as the plan's settings
    say. The base runs without any hook. The order of arms has no effect, to the last bit. Answers are judged by the
    rule of `data.score`.
    means: for mode `mean`. Raises ConfigError for an arm that the model or the settings do not fit, and ModelError for
    a model that cannot be silenced or restricted.
    """
    found: dict[tuple[str, str], ArmOutcome | SampleError] = {}
    for rows in _forwards(trials, plan.arms, batch_tokens=config.capture.batch_tokens):
        outcomes = run_in_halves(
            lambda some: _run(replica, some, plan, config=config, means=means),
            rows,
            name_of=lambda row: row.trial.sample.sample_id,
        )
        keys = [(row.trial.sample.sample_id, row.arm.arm_id) for row in rows]
        found.update(zip(keys, outcomes, strict=True))
    return [_joined(trial, [found[trial.sample.sample_id, arm.arm_id] for arm in plan.arms]) for trial in trials]


def _forwards(trials: Sequence[Trial], arms: Sequence[Arm], *, batch_tokens: int) -> Iterator[list[_Row]]:
    """Rows of each forward: all trials in as many arms as fit, arms by name so that their order does not matter."""
    num_tokens = len(trials) * max((trial.num_tokens for trial in trials), default=1)
    size = max(1, batch_tokens // max(1, num_tokens))
    groups: dict[tuple[str, ...], list[Arm]] = {}
    for arm in sorted(arms, key=lambda arm: arm.arm_id):
        if (arm.kind == "keep") != (arm.mode == "hybrid"):
            raise ConfigError(f"arm {arm.arm_id!r}: {arm.kind!r} with mode {arm.mode!r}; 'keep' goes with 'hybrid'.")
        shared = ("base",) if not arm.heads else (arm.mode, arm.positions)
        groups.setdefault(("keep", arm.arm_id) if arm.kind == "keep" else shared, []).append(arm)
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
        context_key=trial.context_key,
        control=not sample.evidence and not sample.images,
        arms=tuple(outcome for outcome in outcomes if isinstance(outcome, ArmOutcome)),
    )


@torch.inference_mode()
def _run(
    replica: Replica, rows: Sequence[_Row], plan: ArmPlan, *, config: RunConfig, means: HeadMeans | None
) -> list[ArmOutcome | SampleError]:
    prompts, arms = [row.trial.prompt for row in rows], [row.arm for row in rows]
    max_new_tokens = config.capture.predict_tokens
    if arms[0].kind == "keep":
        hybrid = hybrid_plan_of(arms[0], plan.settings)
        answers = restricted_answers(replica, prompts, hybrid, max_new_tokens=max_new_tokens)
    else:
        answers = silenced_answers(replica, prompts, arms, max_new_tokens=max_new_tokens, means=means)
    return [_outcome(*row, data=config.data) for row in zip(rows, *answers, strict=True)]


def _outcome(row: _Row, answer: str, log_prob: float | None, *, data: DataConfig) -> ArmOutcome | SampleError:
    sample = row.trial.sample
    if log_prob is not None and not math.isfinite(log_prob):
        return SampleError(
            f"sample {sample.sample_id}, arm {row.arm.arm_id}: the log-probability of its answer is {log_prob}; "
            "allowed: finite. Run the model in float32 or bfloat16. Sample skipped.",
            stage="forward",
            code="nonfinite",
        )
    scored = score_sample(answer, sample, data=data)
    return ArmOutcome(row.arm.arm_id, answer, scored.correct, scored.score, log_prob)
