"""A sample to token ids, with the place of every part of the message among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rampipe.errors import ModelError, SampleError
from rampipe.models.features import ImageFeatures
from rampipe.models.rendering import Span, render
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
    token_boxes: Float[Tensor, "visual 5"]
    """(image, x0, y0, x1, y1) of each visual token: index into `Sample.images`, pixels of the stored image."""
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
    replica: Replica, sample: Sample, features: ImageFeatures, *, question: str, answer: str | None, order: Order
) -> Layout:
    """Renders and tokenises one user message: the context parts in order, and the question as its own text part.

    The answer is tokenised by itself, so the prompt's tokens are the same with and without it.
    Raises SampleError (stage encode): control_token, question_empty, answer_empty, template_unsupported,
    context_too_long.
    """
    _check_texts(replica, sample, question=question, answer=answer)
    context = [(part.text or "") if part.kind == "text" else None for part in sample.context]
    is_first = order == "question_first"
    parts = [question, *context] if is_first else [*context, question]
    rendered = render(
        replica.tokenizer,
        parts,
        image_token=replica.image_token,
        image_texts=features.texts,
        sample_id=sample.sample_id,
    )
    prompt_ids, offsets = _tokenise(replica, rendered.text)
    answer_ids = _tokenise(replica, answer)[0] if answer is not None else prompt_ids[:0]
    _check_counts(replica, sample, num_prompt_tokens=len(prompt_ids), num_answer_tokens=len(answer_ids), answer=answer)
    of_context = slice(1, None) if is_first else slice(0, -1)
    spans = rendered.spans[of_context]
    image_spans = [span for span, part in zip(spans, context, strict=True) if part is None]
    positions, boxes = _place_images(replica, prompt_ids, offsets, spans=image_spans, features=features)
    asked = rendered.spans[0 if is_first else -1]
    question_tokens = overlapping(offsets, asked).nonzero().flatten().tolist()
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
        image_sizes=features.sizes,
        flags=("question_merged",) if int(offsets[question_tokens[0], 0]) < asked[0] else (),
    )


def _tokenise(replica: Replica, text: str) -> tuple[Int[Tensor, " token"], Int[Tensor, "token 2"]]:
    encoding = replica.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    offsets = torch.tensor(encoding["offset_mapping"], dtype=torch.int64).reshape(-1, 2)
    return torch.tensor(encoding["input_ids"], dtype=torch.int64), offsets


def _place_images(
    replica: Replica,
    prompt_ids: Int[Tensor, " token"],
    offsets: Int[Tensor, "token 2"],
    *,
    spans: Sequence[Span],
    features: ImageFeatures,
) -> tuple[Int[Tensor, " visual"], Float[Tensor, "visual 5"]]:
    """Positions of all visual tokens in prompt order, and the image and box of each."""
    is_visual = prompt_ids == replica.image_token_id
    positions = [torch.zeros(0, dtype=torch.int64)]
    boxes = [torch.zeros(0, 5, dtype=torch.float64)]
    for span, image, image_boxes in zip(spans, features.shown, features.boxes, strict=True):
        found = (is_visual & overlapping(offsets, span)).nonzero().flatten()
        if len(found) != len(image_boxes):
            raise ModelError(
                f"the tokenizer makes {len(found)} image tokens for {len(image_boxes)} visual tokens of an image. "
                "Pass a checkpoint whose tokenizer and preprocessor belong together."
            )
        positions.append(found)
        boxes.append(torch.cat([torch.full((len(found), 1), float(image), dtype=torch.float64), image_boxes], dim=1))
    return torch.cat(positions), torch.cat(boxes)


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
