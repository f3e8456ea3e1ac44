"""A real prompt stretched to any length: the timed model sees text and visual tokens where it would see them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from rampipe.errors import SampleError
from rampipe.models.prompts import Prompt


@dataclass(frozen=True, slots=True)
class LongPrompt:
    """Tokens of one timed prompt, on the CPU. text_keys: what is not visual."""

    input_ids: Int[Tensor, " token"]
    text_keys: Bool[Tensor, " token"]

    @property
    def context_tokens(self) -> int:
        """Its length."""
        return len(self.input_ids)


def stretch(prompt: Prompt, *, context_tokens: int) -> LongPrompt:
    """Exactly `context_tokens` tokens: everything from the first to the last visual token is repeated or cut, what
    stands before (the system's and user's header) and behind (the question) stays in place.

    A prompt without visual tokens is repeated as a whole. A teacher-forced answer is left out.
    Raises SampleError of code `context_too_short` when header and question alone are longer.
    """
    stop = prompt.num_prompt_tokens
    is_visual = torch.zeros(stop, dtype=torch.bool)
    is_visual[prompt.visual_positions.cpu()] = True
    visual = is_visual.nonzero()[:, 0].tolist()
    first, last = (visual[0], visual[-1] + 1) if visual else (0, stop)
    num_middle = context_tokens - first - (stop - last)
    if num_middle < 1:
        raise SampleError(
            f"prompt of sample {prompt.sample_id}: header and question are {first + stop - last} tokens, the context "
            f"to be timed is {context_tokens}; needed: one more at least. Raise speed.context_tokens.",
            stage="encode",
            code="context_too_short",
        )
    middle = first + torch.arange(num_middle) % (last - first)
    order = torch.cat([torch.arange(first), middle, torch.arange(last, stop)])
    return LongPrompt(prompt.input_ids.cpu()[order], ~is_visual[order])
