"""What the heads of a replica attend to, averaged as rows: each context is read once, where prompts share it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from rampipe.attention.capture import capture_attention
from rampipe.config import CaptureConfig
from rampipe.errors import SampleError
from rampipe.models.prompts import Prompt, collate
from rampipe.models.replica import Replica
from rampipe.tables.rows import SampleResult
from rampipe.trials.memory import run_in_halves
from rampipe.trials.null_question import EvidenceMass, evidence_mass
from rampipe.trials.shared import find_contexts, observe_shared
from rampipe.trials.statistics import Groups, plan_rows, read_groups
from rampipe.trials.trial import Trial
from rampipe.trials.vision_once import see_images_once
from rampipe.types import REGIONS, QueryGroup


def observe(replica: Replica, trials: Sequence[Trial], *, config: CaptureConfig) -> list[SampleResult | SampleError]:
    """Statistics of every head for every trial, aligned with `trials`; one batch, cut in halves if memory runs out.

    Without predictions: see `measure`. A trial that fails (nonfinite, mass_sum, out_of_memory) leaves the others alone.
    Raises ModelError when the model's attention cannot be read exactly.
    """
    return run_in_halves(
        lambda some: _observe_batch(replica, some, config=config),
        trials,
        name_of=lambda trial: trial.sample.sample_id,
    )


def _observe_batch(
    replica: Replica, trials: Sequence[Trial], *, config: CaptureConfig
) -> list[SampleResult | SampleError]:
    contexts = find_contexts(replica, trials) if config.share_context else []
    measured: dict[int, Groups | SampleError] = {}
    if contexts:
        shared = observe_shared(replica, contexts, config=config)
        for index, (groups, null) in shared.items():
            measured[index] = groups if null is None else _with_null(groups, null)
    alone = [index for index in range(len(trials)) if index not in measured]
    if alone:
        measured |= zip(alone, _observe_alone(replica, [trials[index] for index in alone], config=config), strict=True)
    return [
        groups if isinstance(groups := measured[index], SampleError) else _result(trial, groups)
        for index, trial in enumerate(trials)
    ]


def _observe_alone(replica: Replica, trials: Sequence[Trial], *, config: CaptureConfig) -> list[Groups | SampleError]:
    """Each prompt as a whole, the null prompts in a forward of their own, which shares the images of the first."""
    with see_images_once(replica.model):
        return _observe_both(replica, trials, config=config)


def _observe_both(replica: Replica, trials: Sequence[Trial], *, config: CaptureConfig) -> list[Groups | SampleError]:
    measured = _capture(replica, [trial.prompt for trial in trials], config.queries, config=config)
    calibrated = [index for index, trial in enumerate(trials) if trial.null_prompt is not None]
    if calibrated:
        null_prompts = [prompt for trial in trials if (prompt := trial.null_prompt) is not None]
        null_measured = _capture(replica, null_prompts, ("question",), config=config)
        for index, null in zip(calibrated, null_measured, strict=True):
            measured[index] = _with_null(measured[index], evidence_mass(null))
    return measured


def _capture(
    replica: Replica, prompts: Sequence[Prompt], groups: tuple[QueryGroup, ...], *, config: CaptureConfig
) -> list[Groups | SampleError]:
    """One forward that ends with the last attention that is read: without the rest of its layer, those above and the
    language-model head, whose logits alone are 10 GB at 32k tokens.
    """
    batch = collate(replica, prompts)
    plan = plan_rows(prompts, [groups] * len(prompts), batch.offsets, peer_scores=config.peer_scores)
    with (
        torch.inference_mode(),
        capture_attention(
            replica.model,
            rows=plan.rows,
            regions=batch.regions,
            backend=config.backend,
            layers=config.layers,
            stop=True,
        ) as recorder,
    ):
        replica.model.base_model(**batch.inputs, use_cache=False)
    return read_groups(recorder, plan, prompts, model=replica.model, layers=config.layers)


def _with_null(measured: Groups | SampleError, null: EvidenceMass | SampleError) -> Groups | SampleError:
    """Evidence mass under the null question, beside the one under the real question: `question` rows only."""
    if isinstance(measured, SampleError):
        return measured
    if isinstance(null, SampleError):
        return null
    return {**measured, "question": replace(measured["question"], mass_evidence_null=null)}


def _result(trial: Trial, groups: Groups) -> SampleResult:
    prompt = trial.prompt
    counts = np.bincount(prompt.regions.numpy()[: prompt.num_prompt_tokens], minlength=len(REGIONS)).tolist()
    return SampleResult(
        sample_id=trial.sample.sample_id,
        domain=trial.sample.domain,
        context_key=trial.context_key,
        num_tokens=prompt.num_prompt_tokens,
        region_counts=dict(zip(REGIONS, counts, strict=True)),
        groups=groups,
        num_answer=len(prompt.input_ids) - prompt.num_prompt_tokens,
        flags=prompt.flags,
    )
