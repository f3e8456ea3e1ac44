"""Documents of text with slots for images."""

from __future__ import annotations

from rampipe.data.interleaved import find_images, find_texts, interleave, name_images, name_slots
from rampipe.types import ContextPart, Evidence


def text(content: str) -> ContextPart:
    return ContextPart(kind="text", text=content)


def image(index: int) -> ContextPart:
    return ContextPart(kind="image", image=index)


def test_slots_become_images_in_order_and_no_text_is_no_part() -> None:
    assert list(interleave("<image><image>a<image>")) == [image(0), image(1), text("a"), image(2)]
    assert list(interleave("a")) == [text("a")]


def test_names_stand_before_their_images_and_in_the_slots_of_the_question() -> None:
    assert list(name_images(range(3, 4), "Option", "A")) == [text("\nOption A: "), image(3)]
    assert name_slots("<image> or <image>?") == "Image 1 or Image 2?"


def test_needles_are_found_wherever_they_stand() -> None:
    document = [text("oak, oak"), image(0), text("elm")]
    found = list(find_texts(document, ["oak", "elm", "ash", "", 3]))
    assert [(piece.part, piece.start, piece.stop) for piece in found] == [(0, 0, 3), (0, 5, 8), (2, 0, 3)]
    assert list(find_images(["a.png", "b.png"], ["b.png", "c.png", None])) == [Evidence(kind="image", image=1)]
