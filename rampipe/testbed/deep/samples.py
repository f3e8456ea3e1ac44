"""Samples of the deep testbed: several images and text lists, one question, the evidence in one place.

Domains are kinds of task: `glyph`, `receipt`, `chart`, `table` have the needle in an image of that look, `text` has it
in a list, and `echo` asks for nothing but the key's own name, over lists alone: the control, without any evidence.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rampipe.errors import ConfigError
from rampipe.testbed.deep.content import Content, draw_content, make_held_out, render_image
from rampipe.testbed.deep.layout import ImageLayout, Layout, Size, draw_layout
from rampipe.testbed.deep.words import ECHO, LENGTHS, LOOKUP, NUM_ALL_KEYS, QUESTIONS, SEPARATOR, key_word
from rampipe.testbed.domains import DOMAIN_NAMES, SPLITS
from rampipe.testbed.haystack import CELL_PX
from rampipe.testbed.samples import encode_png
from rampipe.types import ContextPart, Evidence, Sample, StoredImage

TASKS = (*DOMAIN_NAMES, "text", "echo")
SIZES: dict[str, Size] = {
    "short": Size((2, 4), 6, (2, 12), 224, (4, 12)),
    "medium": Size((2, 16), 8, (2, 12), 1000, (8, 32)),
    "long": Size((8, 16), 8, (2, 12), 3600, (16, 48), min_tokens=2000),
}
"""About 150 to 300, 400 to 1,100 and 2,000 to 3,800 tokens of context."""


def generate_deep_samples(*, task: str, split: str, count: int, seed: int, size: str = "medium") -> Iterator[Sample]:
    """Yields samples of one task. Sample i depends on the arguments but not on count.

    Needles of `train` are pairs that training may show, those of `select` and `eval` are held-out pairs.
    Raises ConfigError for an unknown task, split or size.
    """
    for name, value, allowed in (("task", task, TASKS), ("split", split, SPLITS), ("size", size, tuple(SIZES))):
        if value not in allowed:
            raise ConfigError(f"deep testbed {name} {value!r}: allowed are {', '.join(allowed)}. Name one of them.")
    for index in range(count):
        yield make_deep_sample(task=task, split=split, seed=seed, index=index, size=size)


def make_deep_sample(*, task: str, split: str, seed: int, index: int, size: str) -> Sample:
    """Makes one sample of the stream that `generate_deep_samples` yields."""
    rng = np.random.default_rng([seed, SPLITS.index(split), TASKS.index(task), list(SIZES).index(size), index])
    layout, content, slot = draw_needle(task, SIZES[size], rng=rng)
    if slot is not None and split != "train":
        make_held_out(content, slot, rng=rng)
    key = int(rng.integers(NUM_ALL_KEYS)) if slot is None else int(content.keys[slot])
    texts = QUESTIONS[int(rng.choice(LENGTHS))][ECHO if slot is None else LOOKUP]
    parts, images = show(layout, content, rng=rng)
    return Sample(
        sample_id=f"{task}-{split}-{size}-{seed}-{index:06d}",
        domain=task,
        context=parts,
        images=images,
        question=texts[int(rng.integers(len(texts)))].format(key=key_word(key)),
        answers=(key_word(key) if slot is None else " ".join(str(digit) for digit in content.digits[slot]),),
        choices=None,
        evidence=() if slot is None else (locate(layout, content, slot),),
    )


def draw_needle(task: str, size: Size, *, rng: np.random.Generator) -> tuple[Layout, Content, int | None]:
    """A context and the slot that is asked for; None for an echo."""
    while True:
        layout = draw_layout(size, rng=rng, text_only=task == "echo")
        domains = rng.integers(0, len(DOMAIN_NAMES), size=len(layout))
        if task == "echo":
            return layout, draw_content(layout, domains=domains, rng=rng), None
        is_image = np.array([isinstance(part, ImageLayout) for part in layout])
        holder = int(rng.choice(np.flatnonzero(is_image != (task == "text"))))
        if task in DOMAIN_NAMES:
            domains[holder] = DOMAIN_NAMES.index(task)
        content = draw_content(layout, domains=domains, rng=rng)
        slots = np.flatnonzero((content.parts == holder) & content.askable)
        if len(slots):
            return layout, content, int(rng.choice(slots))


def show(
    layout: Layout, content: Content, *, rng: np.random.Generator
) -> tuple[tuple[ContextPart, ...], tuple[StoredImage, ...]]:
    """The context's parts, and its images as PNG."""
    parts: list[ContextPart] = []
    images: list[StoredImage] = []
    for index, part in enumerate(layout):
        if isinstance(part, ImageLayout):
            parts.append(ContextPart(kind="image", image=len(images)))
            images.append(StoredImage(bytes=encode_png(render_image(layout, content, index, rng=rng)), path=None))
        else:
            entries = [
                f"{entry_text(content, slot)} {SEPARATOR}" for slot in np.flatnonzero(content.parts == index).tolist()
            ]
            parts.append(ContextPart(kind="text", text=" ".join(entries)))
    return tuple(parts), tuple(images)


def entry_text(content: Content, slot: int) -> str:
    """An entry of a list, without its separator: the value comes before the key."""
    first, second = content.digits[slot]
    return f"{first} {second} {key_word(int(content.keys[slot]))}"


def locate(layout: Layout, content: Content, slot: int) -> Evidence:
    """The item's box in its image, or the entry's characters in its list."""
    part = int(content.parts[slot])
    piece, first = layout[part], int(np.flatnonzero(content.parts == part)[0])
    if isinstance(piece, ImageLayout):
        row, column = divmod(slot - first, piece.items[1])
        height, width = piece.block[0] * CELL_PX, piece.block[1] * CELL_PX
        x0, y0 = float(column * width), float(row * height)
        image = sum(isinstance(before, ImageLayout) for before in layout[:part])
        return Evidence(kind="box", image=image, box=(x0, y0, x0 + width, y0 + height))
    before = "".join(f"{entry_text(content, entry)} {SEPARATOR} " for entry in range(first, slot))
    return Evidence(kind="text", part=part, start=len(before), stop=len(before) + len(entry_text(content, slot)))
