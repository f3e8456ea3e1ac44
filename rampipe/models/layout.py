"""A sample to token ids, with the place of every part of the message among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rampipe.errors import ModelError, SampleError
from rampipe.models.features import VisualFeatures
from rampipe.models.rendering import MessagePart, Span, render
from rampipe.models.replica import Replica
from rampipe.types import Sample

Order = Literal["context_first", "question_first"]


@dataclass(frozen=True, slots=True)
class Layout:
    """The tokens of one prompt, and where everything lies among them."""

    input_ids: Int[Tensor, " token"]
    offsets: Int[Tensor, "token 2"]
    """Characters of the prompt's text that each token covers, half open; (0, 0) for tokens of the answer."""
    num_prompt_tokens: int
    question: slice
    """Tokens that overlap the question's characters."""
    context_spans: tuple[Span, ...]
    """Characters of the prompt's text that each part of the context takes."""
    trimmed: tuple[int, ...]
    """Characters that the chat template cut from the start of each part of the context."""
    visual_positions: Int[Tensor, " visual"]
    token_boxes: Float[Tensor, "visual 4"]
    """(x0, y0, x1, y1) of each visual token, in pixels of the stored image; NaN for a token without a place."""
    token_frames: Int[Tensor, "visual frame"]
    """Index into `Sample.images` of what each visual token shows: one image, or frames of a video; else -1."""
    image_sizes: tuple[tuple[int, int], ...]
    """(width, height) of each of `Sample.images`."""
    flags: tuple[str, ...]
    """`question_merged`: the question's first token also holds characters before it, so the null prompt's context
    differs there. A line break at the end of the context avoids it."""

    def tokens_of(self, start: int, stop: int) -> Bool[Tensor, " token"]:
        """Tokens that overlap characters start to stop of the prompt's text."""
        return overlapping(self.offsets, (start, stop))


def overlapping(offsets: Int[Tensor, "token 2"], span: Span) -> Bool[Tensor, " token"]:
    """Tokens that overlap a span of characters. Several tokens of one character (byte-level) all do."""
    starts, stops = offsets.unbind(dim=1)
    return (starts < span[1]) & (stops > span[0]) & (stops > starts)


def lay_out(
    replica: Replica, sample: Sample, features: VisualFeatures, *, question: str, answer: str | None, order: Order
) -> Layout:
    """Renders and tokenises one user message: the context parts in order, and the question as its own text part.

    The answer is tokenised by itself, so the prompt's tokens are the same with and without it.
    Raises SampleError (stage encode): control_token, question_empty, answer_empty, template_unsupported,
    context_too_long.
    """
    _check_texts(replica, sample, question=question, answer=answer)
    visual = iter(features.parts)
    context = [
        MessagePart("text", part.text or "")
        if part.kind == "text"
        else MessagePart(part.kind, (shown := next(visual)).text, shown.placeholder)
        for part in sample.context
    ]
    is_first = order == "question_first"
    asked = MessagePart("text", question)
    rendered = render(
        replica.tokenizer,
        [asked, *context] if is_first else [*context, asked],
        joins_texts=replica.vision is None,
        sample_id=sample.sample_id,
    )
    prompt_ids, offsets = _tokenise(replica, rendered.text, is_prompt=True)
    answer_ids = _tokenise(replica, answer, is_prompt=False)[0] if answer is not None else prompt_ids[:0]
    _check_counts(replica, sample, num_prompt_tokens=len(prompt_ids), num_answer_tokens=len(answer_ids), answer=answer)
    of_context = slice(1, None) if is_first else slice(0, -1)
    spans = rendered.spans[of_context]
    visual_spans = [span for span, part in zip(spans, context, strict=True) if part.placeholder]
    positions = _visual_positions(replica, prompt_ids, offsets, spans=visual_spans, features=features)
    boxes, frames = _join_parts(features)
    asked_span = rendered.spans[0 if is_first else -1]
    question_tokens = overlapping(offsets, asked_span).nonzero().flatten().tolist()
    if not question_tokens:
        raise _error(sample, "the question has no tokens. Ask something", "question_empty")
    return Layout(
        input_ids=torch.cat([prompt_ids, answer_ids]),
        offsets=torch.cat([offsets, offsets.new_zeros(len(answer_ids), 2)]),
        num_prompt_tokens=len(prompt_ids),
        question=slice(question_tokens[0], question_tokens[-1] + 1),
        context_spans=spans,
        trimmed=rendered.trimmed[of_context],
        visual_positions=positions,
        token_boxes=boxes,
        token_frames=frames,
        image_sizes=features.sizes,
        flags=("question_merged",) if int(offsets[question_tokens[0], 0]) < asked_span[0] else (),
    )


def _tokenise(replica: Replica, text: str, *, is_prompt: bool) -> tuple[Int[Tensor, " token"], Int[Tensor, "token 2"]]:
    """Ids and characters. As processors do, and tokenizers do not, a prompt gets the start token if it has none."""
    tokenizer = replica.tokenizer
    is_bare = is_prompt and replica.vision is not None and not text.startswith(tokenizer.bos_token or "\0")
    encoding = tokenizer(text, add_special_tokens=is_bare, return_offsets_mapping=True, verbose=False)
    offsets = torch.tensor(encoding["offset_mapping"], dtype=torch.int64).reshape(-1, 2)
    return torch.tensor(encoding["input_ids"], dtype=torch.int64), offsets


def _visual_positions(
    replica: Replica,
    prompt_ids: Int[Tensor, " token"],
    offsets: Int[Tensor, "token 2"],
    *,
    spans: Sequence[Span],
    features: VisualFeatures,
) -> Int[Tensor, " visual"]:
    """Positions of all visual tokens, part after part in the order of the context."""
    is_visual = torch.isin(prompt_ids, torch.tensor(replica.visual_token_ids, dtype=torch.int64))
    found = [(is_visual & overlapping(offsets, span)).nonzero().flatten() for span in spans]
    counts, expected = [len(positions) for positions in found], [len(part.boxes) for part in features.parts]
    if counts != expected or sum(counts) != int(is_visual.sum()):
        raise ModelError(
            f"the tokenizer makes {counts} visual tokens for images and videos of {expected}, and "
            f"{int(is_visual.sum())} in all. Pass a checkpoint whose tokenizer, template and processor belong together."
        )
    return torch.cat([torch.zeros(0, dtype=torch.int64), *found])


def _join_parts(features: VisualFeatures) -> tuple[Float[Tensor, "visual 4"], Int[Tensor, "visual frame"]]:
    """Boxes and frames of all visual tokens; as wide as the token that shows the most frames."""
    boxes = torch.cat([torch.zeros(0, 4, dtype=torch.float64), *(part.boxes for part in features.parts)])
    width = max((part.frames.shape[1] for part in features.parts), default=1)
    empty = torch.zeros(0, width, dtype=torch.int64)
    frames = [
        torch.nn.functional.pad(part.frames, (0, width - part.frames.shape[1]), value=-1) for part in features.parts
    ]
    return boxes, torch.cat([empty, *frames])


def _check_texts(replica: Replica, sample: Sample, *, question: str, answer: str | None) -> None:
    """Markup in user text would end the message or add images that are not there."""
    texts = [question, answer or "", *(part.text or "" for part in sample.context)]
    for token in replica.control_tokens:
        if any(token in text for text in texts):
            raise _error(
                sample, f"a text holds {token!r}, which the tokenizer reads as markup. Escape it", "control_token"
            )


def _check_counts(
    replica: Replica, sample: Sample, *, num_prompt_tokens: int, num_answer_tokens: int, answer: str | None
) -> None:
    if answer is not None and not num_answer_tokens:
        raise _error(sample, "the reference answer has no tokens. Give one, or leave out answer rows", "answer_empty")
    if num_prompt_tokens + num_answer_tokens > replica.max_tokens:
        raise _error(
            sample,
            f"{num_prompt_tokens} prompt and {num_answer_tokens} answer tokens, the model takes {replica.max_tokens}. "
            "Shorten the context or store smaller images; nothing is cut silently",
            "context_too_long",
        )


def _error(sample: Sample, message: str, code: str) -> SampleError:
    return SampleError(f"sample {sample.sample_id}: {message}. Sample skipped.", stage="encode", code=code)
