"""Documents of text with a slot for each image, and needles in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rampipe.types import ContextPart, Evidence

SLOT = "<image>"


def interleave(text: str) -> Iterator[ContextPart]:
    """Text and images of a document in order; image n is the n-th slot."""
    for index, piece in enumerate(text.split(SLOT)):
        if index:
            yield ContextPart(kind="image", image=index - 1)
        if piece:
            yield ContextPart(kind="text", text=piece)


def name_images(images: range, word: str, names: Sequence[str]) -> Iterator[ContextPart]:
    """Each image behind a line with its name."""
    for image, name in zip(images, names, strict=True):
        yield ContextPart(kind="text", text=f"\n{word} {name}: ")
        yield ContextPart(kind="image", image=image)


def name_slots(question: str) -> str:
    """The question with `Image 1`, `Image 2` in its slots: a question has no place for images."""
    for index in range(question.count(SLOT)):
        question = question.replace(SLOT, f"Image {index + 1}", 1)
    return question


def find_texts(document: Sequence[ContextPart], needles: Iterable[object]) -> Iterator[Evidence]:
    """The characters of each text needle, wherever they stand; what is not text is passed over."""
    for needle in needles:
        for index, part in enumerate(document):
            start = part.text.find(needle) if part.text and isinstance(needle, str) and needle else -1
            while part.text and isinstance(needle, str) and start >= 0:
                yield Evidence(kind="text", part=index, start=start, stop=start + len(needle))
                start = part.text.find(needle, start + len(needle))


def find_images(shown: Sequence[str], needles: Iterable[object]) -> Iterator[Evidence]:
    """The whole of each image of a document whose name is a needle."""
    wanted = {needle for needle in needles if isinstance(needle, str)}
    for index, name in enumerate(shown):
        if name in wanted:
            yield Evidence(kind="image", image=index)
