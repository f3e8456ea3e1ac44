"""Trials that begin with the same tokens: the context is read once, all questions about it in one short forward.

The real and the null question share a context, and so do all questions about one. They stand side by side behind it,
each blind to the others, so a row sees what it would see alone, and its statistics are the same up to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int8
from torch import Tensor

from rampipe.attention.capture import capture_attention, expected_layers
from rampipe.attention.interface import masked_kernel
from rampipe.attention.prefix_cache import PrefixCache, can_continue, continuation_mask
from rampipe.attention.stopping import stop_after
from rampipe.config import CaptureConfig
from rampipe.errors import SampleError
from rampipe.models.prompts import PADDING_REGION, Batch, Prompt, collate, first_tokens, text_positions
from rampipe.models.replica import Replica
from rampipe.trials.null_question import EvidenceMass, NullReading, share_null_question
from rampipe.trials.statistics import Groups, plan_rows, read_groups
from rampipe.trials.trial import Trial
from rampipe.types import QueryGroup


@dataclass(frozen=True, slots=True)
class Context:
    """Prompts with the same first `num_tokens` tokens, none of them of a question. trials: index of each prompt's."""

    num_tokens: int
    trials: tuple[int, ...]
    prompts: tuple[Prompt, ...]
    null_prompts: tuple[Prompt | None, ...]


@dataclass(frozen=True, slots=True)
class _Reading:
    """Whose rows are read: a trial's prompt or a null question. start: where its continuation begins among the new
    tokens of its sequence.
    """

    asked: int | NullReading
    prompt: Prompt
    context: Context
    sequence: int
    start: int

    @property
    def num_new(self) -> int:
        """Tokens behind the context."""
        return len(self.prompt.input_ids) - self.context.num_tokens


def find_contexts(replica: Replica, trials: Sequence[Trial]) -> list[Context]:
    """Contexts that are worth sharing, as more than one prompt has them.

    A trial is left out where the question comes first, or a question runs into the context's last token.
    """
    if not can_continue(replica.model):
        return []
    by_key: dict[str, list[int]] = {}
    for index, trial in enumerate(trials):
        if trial.prompt.begins_with_context:
            by_key.setdefault(trial.context_key, []).append(index)
    return [context for indices in by_key.values() if (context := _context(trials, indices)) is not None]


def _context(trials: Sequence[Trial], indices: Sequence[int]) -> Context | None:
    prompts = [trials[index].prompt for index in indices]
    nulls = [trials[index].null_prompt for index in indices]
    asked_nothing = [null for null in nulls if null is not None]
    every = [*prompts, *asked_nothing]
    num_tokens = min(prompt.question.start for prompt in every)
    beginning = prompts[0].input_ids[:num_tokens]
    is_shared = all(torch.equal(prompt.input_ids[:num_tokens], beginning) for prompt in every)
    is_one_null = all(torch.equal(null.input_ids, asked_nothing[0].input_ids) for null in asked_nothing)
    if len(every) < 2 or not is_shared or not is_one_null:
        return None
    return Context(num_tokens, tuple(indices), tuple(prompts), tuple(nulls))


def observe_shared(
    replica: Replica, contexts: Sequence[Context], *, config: CaptureConfig
) -> dict[int, tuple[Groups | SampleError, EvidenceMass | SampleError | None]]:
    """Of every trial of the contexts, by its index: statistics, and evidence mass under the null question."""
    beginnings = collate(replica, [first_tokens(context.prompts[0], context.num_tokens) for context in contexts])
    readings = [reading for place, context in enumerate(contexts) for reading in _readings(context, place)]
    num_new = max(reading.start + reading.num_new for reading in readings)
    width = beginnings.regions.shape[1]
    cache = PrefixCache(replica.model.config.get_text_config(decoder=True), capacity_tokens=width + num_new)
    prompts = [reading.prompt for reading in readings]
    wanted: list[tuple[QueryGroup, ...]] = [
        config.queries if isinstance(reading.asked, int) else ("question",) for reading in readings
    ]
    offsets = [reading.start - reading.context.num_tokens for reading in readings]
    plan = plan_rows(prompts, wanted, offsets, peer_scores=config.peer_scores)
    inputs = _continuations(replica, beginnings, readings, num_new=num_new)
    regions = _regions(readings, width=width, num_new=num_new).to(replica.device)
    last = expected_layers(replica.model, config.layers)[-1]
    with torch.inference_mode():
        with stop_after(replica.model, last):
            replica.model.base_model(**beginnings.inputs, use_cache=True, past_key_values=cache)
        with (
            masked_kernel(replica.model),
            capture_attention(
                replica.model,
                rows=plan.rows,
                regions=regions,
                sequences=[reading.sequence for reading in readings],
                backend=config.backend,
                layers=config.layers,
                stop=True,
            ) as recorder,
        ):
            replica.model.base_model(**inputs, use_cache=True, past_key_values=cache)
    measured = read_groups(recorder, plan, prompts, model=replica.model, layers=config.layers)
    null_masses: dict[int, EvidenceMass | SampleError] = {}
    for reading, found in zip(readings, measured, strict=True):
        if isinstance(reading.asked, NullReading):
            null_masses |= reading.asked.evidence_masses(found)
    return {
        reading.asked: (found, null_masses.get(reading.asked))
        for reading, found in zip(readings, measured, strict=True)
        if isinstance(reading.asked, int)
    }


def _readings(context: Context, sequence: int) -> Iterator[_Reading]:
    """Questions one behind the other; the null question, the same for all of them, once at the end."""
    start = 0
    for trial, prompt in zip(context.trials, context.prompts, strict=True):
        yield (reading := _Reading(trial, prompt, context, sequence, start))
        start += reading.num_new
    calibrated = [
        (trial, prompt)
        for trial, prompt in zip(context.trials, context.null_prompts, strict=True)
        if prompt is not None
    ]
    trials, null_prompts = [trial for trial, _ in calibrated], [prompt for _, prompt in calibrated]
    for null in share_null_question(trials, null_prompts):
        yield _Reading(null, null.prompt, context, sequence, start)


def _continuations(
    replica: Replica, beginnings: Batch, readings: Sequence[_Reading], *, num_new: int
) -> dict[str, Tensor]:
    """Inputs of the new tokens. Positions go on from the context for each continuation anew."""
    num_contexts, width = beginnings.regions.shape
    names = ("input_ids", "offset", *readings[0].prompt.inputs)
    new = {name: np.zeros((num_contexts, num_new), dtype=np.int64) for name in names}
    segments = np.full((num_contexts, num_new), -1)
    for reading in readings:
        at = (reading.sequence, slice(reading.start, reading.start + reading.num_new))
        segments[at] = reading.start
        new["offset"][at] = np.arange(reading.num_new)
        for name, values in {"input_ids": reading.prompt.input_ids, **reading.prompt.inputs}.items():
            new[name][at] = values.numpy()[reading.context.num_tokens :]
    inputs = {name: torch.from_numpy(values).to(replica.device) for name, values in new.items()}
    offset, segment = inputs.pop("offset"), torch.from_numpy(segments).to(replica.device)
    key_position = torch.cat([torch.arange(width, device=replica.device).expand(num_contexts, -1), offset + width], 1)
    is_token = torch.cat([beginnings.inputs["attention_mask"].bool(), segment >= 0], dim=1)
    mask = continuation_mask(replica.model, is_token=is_token, segment=segment, position=key_position)
    position_ids = text_positions(beginnings, offset)
    return {**inputs, "position_ids": position_ids, "attention_mask": mask}  # pyright: ignore[reportReturnType]


def _regions(readings: Sequence[_Reading], *, width: int, num_new: int) -> Int8[Tensor, "reading key"]:
    """Each reading's own; what it cannot see counts as padding."""
    regions = np.full((len(readings), width + num_new), PADDING_REGION, dtype=np.int8)
    for row, reading in zip(regions, readings, strict=True):
        num_tokens, own = reading.context.num_tokens, reading.prompt.regions.numpy()
        row[width - num_tokens : width] = own[:num_tokens]
        row[width + reading.start : width + reading.start + reading.num_new] = own[num_tokens:]
    return torch.from_numpy(regions)
