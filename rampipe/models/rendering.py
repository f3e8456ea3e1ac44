"""A sample to the text of its prompt, with the characters that every part of the message takes in it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rampipe.errors import SampleError

Span = tuple[int, int]
"""Characters of the prompt, half open."""

TRIMS: tuple[Callable[[str], str], ...] = (str, str.strip, str.rstrip, str.lstrip)
"""What templates do to the text of a part: usually nothing, sometimes `| trim`."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """The prompt's text. `spans[i]` are the characters of part i; an image's are those of all its tokens."""

    text: str
    spans: tuple[Span, ...]
    trimmed: tuple[int, ...]
    """Characters that the template cut from the start of each part."""


def render(
    tokenizer: Any, parts: Sequence[str | None], *, image_token: str, image_texts: Sequence[str], sample_id: str
) -> Rendered:
    """Applies the chat template to one user message and puts `image_texts` in place of the image tokens, in order.

    parts: of the message; None is an image. Spans are exact even where a part's text occurs elsewhere too: the template
    is rendered a second time with markers in place of the texts, and what lies between them is the template's own.
    Both renderings must agree.
    Raises SampleError (stage encode, code template_unsupported) when the template changes texts in other ways.
    """
    markers = [image_token if part is None else f"rampipePart{index}End" for index, part in enumerate(parts)]
    marked = [None if part is None else marker for part, marker in zip(parts, markers, strict=True)]
    pattern = "|".join(re.escape(marker) for marker in {*markers, image_token})
    pieces = re.split(f"({pattern})", _apply_template(tokenizer, marked))
    expected = _apply_template(tokenizer, parts)
    for trim in TRIMS if sorted(pieces[1::2]) == sorted(markers) else ():
        texts = [image_token if part is None else trim(part) for part in parts]
        if _fill(pieces, markers, texts)[0] == expected:
            filled = iter(image_texts)
            texts = [next(filled) if part is None else trim(part) for part in parts]
            text, spans = _fill(pieces, markers, texts)
            return Rendered(text, spans, tuple(0 if part is None else part.find(trim(part)) for part in parts))
    raise SampleError(
        f"sample {sample_id}: the chat template does not write each part of the message once and unchanged, "
        "so their tokens cannot be told. Use another chat_template.jinja. Sample skipped.",
        stage="encode",
        code="template_unsupported",
    )


def _apply_template(tokenizer: Any, parts: Sequence[str | None]) -> str:
    content = [{"type": "image"} if part is None else {"type": "text", "text": part} for part in parts]
    message = {"role": "user", "content": content}
    return str(tokenizer.apply_chat_template([message], tokenize=False, add_generation_prompt=True))


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
