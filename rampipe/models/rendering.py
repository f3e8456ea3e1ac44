"""A sample to the text of its prompt, with the characters that every part of the message takes in it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from rampipe.errors import SampleError

PartKind = Literal["text", "image", "video"]
Span = tuple[int, int]
"""Characters of the prompt, half open."""

TRIMS: tuple[Callable[[str], str], ...] = (str, str.strip, str.rstrip, str.lstrip)
"""What templates do to the text of a part, or of the message: usually nothing, sometimes `| trim`."""


@dataclass(frozen=True, slots=True)
class MessagePart:
    """A text, or what takes the place of the `placeholder` that the template writes for an image or a video."""

    kind: PartKind
    text: str
    placeholder: str = ""


@dataclass(frozen=True, slots=True)
class Rendered:
    """The prompt's text. `spans[i]` are the characters of part i; an image's are those of all its tokens."""

    text: str
    spans: tuple[Span, ...]
    trimmed: tuple[int, ...]
    """Characters that the template cut from the start of each part."""


def render(tokenizer: Any, parts: Sequence[MessagePart], *, joins_texts: bool, sample_id: str) -> Rendered:
    """Applies the chat template to one user message and puts images' texts in place of their placeholders, in order.

    Spans are exact even where a part's text occurs elsewhere too: the template is rendered with markers in place of
    the texts too, and what lies between them is the template's own. Both renderings must agree.
    joins_texts: the message is one string, as templates of models without vision expect.
    Raises SampleError (stage encode, code template_unsupported) when the template changes texts in other ways.
    """
    kinds: tuple[PartKind, ...] = tuple(part.kind for part in parts)
    markers = [part.placeholder or f"rampipePart{index}End" for index, part in enumerate(parts)]
    written = [part.placeholder or part.text for part in parts]
    expected = _apply_template(tokenizer, kinds, written, joins_texts=joins_texts)
    for _ in range(2):
        pieces = _pieces(tokenizer, tokenizer.chat_template, kinds, tuple(markers), joins_texts)
        for trim in TRIMS if sorted(pieces[1::2]) == sorted(markers) else ():
            kept = _trim_ends(written, trim) if joins_texts else [trim(text) for text in written]
            kept = [part.placeholder or text for part, text in zip(parts, kept, strict=True)]
            if _fill(pieces, markers, kept)[0] == expected:
                shown = [part.text if part.placeholder else text for part, text in zip(parts, kept, strict=True)]
                text, spans = _fill(pieces, markers, shown)
                cut = [0 if part.placeholder else part.text.find(own) for part, own in zip(parts, kept, strict=True)]
                return Rendered(text, spans, tuple(cut))
        _pieces.cache_clear()  # a template may write today's date
    raise SampleError(
        f"sample {sample_id}: the chat template does not write each part of the message once and unchanged, "
        "so their tokens cannot be told. Use another chat_template.jinja. Sample skipped.",
        stage="encode",
        code="template_unsupported",
    )


@lru_cache(maxsize=64)
def _pieces(
    tokenizer: Any, template: str, kinds: tuple[PartKind, ...], markers: tuple[str, ...], joins_texts: bool
) -> tuple[str, ...]:
    """What the template writes around the parts, and between the pieces of it the markers. The same for all samples
    whose messages are built alike, so it is kept, by the template too, which a tokenizer may be given anew.
    """
    pattern = "|".join(re.escape(marker) for marker in dict.fromkeys(markers))
    return tuple(re.split(f"({pattern})", _apply_template(tokenizer, kinds, markers, joins_texts=joins_texts)))


def _apply_template(tokenizer: Any, kinds: Sequence[PartKind], texts: Sequence[str], *, joins_texts: bool) -> str:
    """The template over these texts of parts. Images have none: the template writes placeholders."""
    content: Any = "".join(texts)
    if not joins_texts:
        content = [
            {"type": "text", "text": text} if kind == "text" else {"type": kind}
            for kind, text in zip(kinds, texts, strict=True)
        ]
    message = {"role": "user", "content": content}
    return str(tokenizer.apply_chat_template([message], tokenize=False, add_generation_prompt=True))


def _trim_ends(texts: Sequence[str], trim: Callable[[str], str]) -> list[str]:
    """Texts whose join is the trimmed join of these, where the first and the last are not blank."""
    whole = "".join(texts)
    num_first = whole.find(trim(whole))
    num_last = len(whole) - num_first - len(trim(whole))
    if len(texts) == 1:
        return [trim(whole)]
    return [texts[0][num_first:], *texts[1:-1], texts[-1][: len(texts[-1]) - num_last]]


def _fill(pieces: Sequence[str], markers: Sequence[str], texts: Sequence[str]) -> tuple[str, tuple[Span, ...]]:
    """Puts texts in place of the markers. Images share one marker: the first one written is the first image."""
    waiting = list(range(len(markers)))
    spans: dict[int, Span] = {}
    written: list[str] = []
    position = 0
    for number, piece in enumerate(pieces):
        content = piece
        if number % 2:
            part = next(index for index in waiting if markers[index] == piece)
            waiting.remove(part)
            content = texts[part]
            spans[part] = (position, position + len(content))
        written.append(content)
        position += len(content)
    return "".join(written), tuple(spans[index] for index in range(len(markers)))
