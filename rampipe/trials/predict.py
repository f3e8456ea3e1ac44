"""Greedy answers through transformers' own `generate`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from rampipe.errors import SampleError
from rampipe.models.prompts import Batch, Prompt, collate
from rampipe.models.replica import Replica
from rampipe.trials.memory import run_in_halves


def greedy(replica: Replica, prompts: Sequence[Prompt], *, max_new_tokens: int) -> list[str | SampleError]:
    """The answer to each prompt: the likeliest token at each step, up to the end of the turn; stripped.

    Nothing is sampled, whatever generation_config.json says. A teacher-forced answer is cut off before. Code
    `out_of_memory` for a prompt that does not fit alone.
    """
    return run_in_halves(
        lambda some: generate_batch(
            replica, collate(replica, [without_answer(prompt) for prompt in some]), max_new_tokens=max_new_tokens
        ),
        prompts,
        name_of=lambda prompt: prompt.sample_id,
    )


def without_answer(prompt: Prompt) -> Prompt:
    """The prompt without teacher-forced tokens."""
    stop = prompt.num_prompt_tokens
    return replace(
        prompt,
        input_ids=prompt.input_ids[:stop],
        regions=prompt.regions[:stop],
        piece_tokens=prompt.piece_tokens[:stop],
        inputs={name: tensor[:stop] for name, tensor in prompt.inputs.items()},
    )


def generate_batch(
    replica: Replica, batch: Batch, *, max_new_tokens: int, extra: Mapping[str, Any] | None = None
) -> list[str]:
    """The greedy answers to a batch of prompts without teacher-forced tokens.

    extra: more arguments of `generate`, such as a cache.
    """
    inputs = batch.inputs
    pad_token_id = replica.tokenizer.pad_token_id
    with torch.inference_mode():
        sequences = replica.model.generate(
            **inputs,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            num_beams=1,
            repetition_penalty=1.0,
            temperature=None,
            top_p=None,
            top_k=None,
            pad_token_id=replica.tokenizer.eos_token_id if pad_token_id is None else pad_token_id,
            **(extra or {}),
        )
    answers = sequences[:, inputs["input_ids"].shape[1] :]
    texts = replica.tokenizer.batch_decode(answers.tolist(), skip_special_tokens=True)
    return [text.strip() for text in texts]
