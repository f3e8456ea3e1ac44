"""A sample to token ids, with the place of every part of the message among them.

In numpy, which takes two thirds of torch's time for so few numbers: a forward in another thread waits for the
interpreter meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float64, Int64

from rampipe.errors import ModelError, SampleError
from rampipe.models.features import VisualFeatures
from rampipe.models.rendering import MessagePart, Span, render
from rampipe.models.replica import Replica
from rampipe.types import Sample

Order = Literal["context_first", "question_first"]


@dataclass(frozen=True, slots=True)
class Layout:
    """The tokens of one prompt, and where everything lies among them."""

    input_ids: Int64[np.ndarray, " token"]
    offsets: Int64[np.ndarray, "token 2"]
    """Characters of the prompt's text that each token covers, half open; (0, 0) for tokens of the answer."""
    num_prompt_tokens: int
    question: slice
    """Tokens that overlap the question's characters."""
    context_spans: tuple[Span, ...]
    """Characters of the prompt's text that each part of the context takes."""
    trimmed: tuple[int, ...]
    """Characters that the chat template cut from the start of each part of the context."""
    visual_positions: Int64[np.ndarray, " visual"]
    token_boxes: Float64[np.ndarray, "visual 4"]
    """(x0, y0, x1, y1) of each visual token, in pixels of the stored image; NaN for a token without a place."""
    token_frames: Int64[np.ndarray, "visual frame"]
    """Index into `Sample.images` of what each visual token shows: one image, or frames of a video; else -1."""
    image_sizes: tuple[tuple[int, int], ...]
    """(width, height) of each of `Sample.images`."""
    flags: tuple[str, ...]
    """`question_merged`: the question's first token also holds characters before it, so the null prompt's context
    differs there. A line break at the end of the context avoids it."""

    def tokens_of(self, start: int, stop: int) -> Bool[np.ndarray, " token"]:
        """Tokens that overlap characters start to stop of the prompt's text."""
        return overlapping(self.offsets, (start, stop))


def overlapping(offsets: Int64[np.ndarray, "token 2"], span: Span) -> Bool[np.ndarray, " token"]:
    """Tokens that overlap a span of characters. Several tokens of one character (byte-level) all do."""
    starts, stops = offsets.T
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
    asked_span = rendered.spans[0 if is_first else -1]
    question_tokens = np.flatnonzero(overlapping(offsets, asked_span)).tolist()
    if not question_tokens:
        raise _error(sample, "the question has no tokens. Ask something", "question_empty")
    return Layout(
        input_ids=np.concatenate([prompt_ids, answer_ids]),
        offsets=np.concatenate([offsets, np.zeros((len(answer_ids), 2), dtype=np.int64)]),
        num_prompt_tokens=len(prompt_ids),
        question=slice(question_tokens[0], question_tokens[-1] + 1),
        context_spans=spans,
        trimmed=rendered.trimmed[of_context],
        visual_positions=positions,
        token_boxes=features.token_boxes,
        token_frames=features.token_frames,
        image_sizes=features.sizes,
        flags=("question_merged",) if int(offsets[question_tokens[0], 0]) < asked_span[0] else (),
    )


def _tokenise(
    replica: Replica, text: str, *, is_prompt: bool
) -> tuple[Int64[np.ndarray, " token"], Int64[np.ndarray, "token 2"]]:
    """Ids and characters. As processors do, and tokenizers do not, a prompt gets the start token if it has none."""
    tokenizer = replica.tokenizer
    is_bare = is_prompt and replica.vision is not None and not text.startswith(tokenizer.bos_token or "\0")
    encoding = tokenizer(text, add_special_tokens=is_bare, return_offsets_mapping=True, verbose=False)
    offsets = np.array(encoding["offset_mapping"], dtype=np.int64).reshape(-1, 2)
    return np.array(encoding["input_ids"], dtype=np.int64), offsets


def _visual_positions(
    replica: Replica,
    prompt_ids: Int64[np.ndarray, " token"],
    offsets: Int64[np.ndarray, "token 2"],
    *,
    spans: Sequence[Span],
    features: VisualFeatures,
) -> Int64[np.ndarray, " visual"]:
    """Positions of all visual tokens, part after part in the order of the context."""
    is_visual = (prompt_ids[:, None] == np.array(replica.visual_token_ids, dtype=np.int64)).any(axis=1)
    found = [np.flatnonzero(is_visual & overlapping(offsets, span)) for span in spans]
    counts, expected = [len(positions) for positions in found], [len(part.boxes) for part in features.parts]
    if counts != expected or sum(counts) != int(is_visual.sum()):
        raise ModelError(
            f"the tokenizer makes {counts} visual tokens for images and videos of {expected}, and "
            f"{int(is_visual.sum())} in all. Pass a checkpoint whose tokenizer, template and processor belong together."
        )
    return np.concatenate([np.zeros(0, dtype=np.int64), *found])


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
