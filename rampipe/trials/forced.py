"""How likely a replica finds the reference answer: one forward over prompt and answer, or the steps of `generate`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import Cache, LogitsProcessor, LogitsProcessorList

from rampipe.models.prompts import Batch, Prompt
from rampipe.models.replica import Replica
from rampipe.trials.predict import generate_batch


class Answers(NamedTuple):
    """What a forward gives for each of its rows: the greedy answer, and the reference answer's log-probability.

    log_probs: mean over the answer's tokens, nats per token; None without an answer.
    """

    texts: list[str]
    log_probs: list[float | None]


def teacher_forced(
    replica: Replica, prompts: Sequence[Prompt], batch: Batch, *, cache: Cache | None = None
) -> list[float | None]:
    """Log-probabilities from one forward of the prompts with their answers; `batch` is their collation.

    cache: holds what comes before the tokens of the batch.
    """
    lengths = answer_lengths(prompts)
    longest = max(lengths)
    # Padded on the left: the answers are the last tokens, each predicted one position earlier.
    logits: Float[Tensor, "row token vocabulary"] = replica.model(
        **batch.inputs, use_cache=cache is not None, past_key_values=cache, logits_to_keep=longest + 1
    ).logits
    targets = batch.inputs["input_ids"][:, -longest:]
    chosen = logits[:, :-1].float().log_softmax(dim=-1).gather(-1, targets[:, :, None])[:, :, 0].double().cpu()
    return [float(row[-length:].mean()) if length else None for row, length in zip(chosen, lengths, strict=True)]


def step_by_step(replica: Replica, prompts: Sequence[Prompt], batch: Batch, *, cache: Cache) -> list[float | None]:
    """Log-probabilities from generating the answers: where prefill and decoding see different keys, a single forward
    would be neither.

    batch: of the prompts without their answers. cache: with room for the longest answer.
    """
    lengths = answer_lengths(prompts)
    answers = [prompt.input_ids[prompt.num_prompt_tokens :] for prompt in prompts]
    processor = _ForcedTokens(torch.nn.utils.rnn.pad_sequence(answers, batch_first=True).to(replica.device))
    extra = {"past_key_values": cache, "logits_processor": LogitsProcessorList([processor])}
    generate_batch(replica, batch, max_new_tokens=max(lengths), extra=extra)
    chosen = torch.stack(processor.log_probs, dim=1)
    return [float(row[:length].mean()) if length else None for row, length in zip(chosen, lengths, strict=True)]


def answer_lengths(prompts: Sequence[Prompt]) -> list[int]:
    """Teacher-forced tokens of each prompt."""
    return [len(prompt.input_ids) - prompt.num_prompt_tokens for prompt in prompts]


class _ForcedTokens(LogitsProcessor):
    """Leaves only the given token in each step, and notes how likely it was."""

    def __init__(self, targets: Int[Tensor, "row step"]) -> None:
        self.targets = targets
        self.log_probs: list[Float[Tensor, " row"]] = []

    def __call__(
        self, input_ids: Int[Tensor, "row token"], scores: Float[Tensor, "row vocabulary"]
    ) -> Float[Tensor, "row vocabulary"]:
        target = self.targets[:, len(self.log_probs), None]
        self.log_probs.append(scores.float().log_softmax(dim=-1).gather(-1, target)[:, 0].double().cpu())
        return torch.full_like(scores, -torch.inf).scatter(1, target, 0.0)
