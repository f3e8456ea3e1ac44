"""What a context shows: a key and a value for every item of its images and every entry of its lists."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int, UInt8

from rampipe.testbed.deep.layout import ImageLayout, Layout
from rampipe.testbed.domains import DOMAINS, NUM_KEYS
from rampipe.testbed.haystack import draw_digits, render


@dataclass(frozen=True, slots=True)
class Content:
    """One context. Slots are the items and entries, part by part. keys: counted over all domains."""

    domains: Int[np.ndarray, " part"]
    keys: Int[np.ndarray, " slot"]
    digits: Int[np.ndarray, "slot 2"]
    parts: Int[np.ndarray, " slot"]
    """The part that each slot belongs to."""

    @property
    def askable(self) -> Bool[np.ndarray, " slot"]:
        """Slots whose key occurs once: large contexts repeat keys, and those must not be asked for."""
        _, inverse, counts = np.unique(self.keys, return_inverse=True, return_counts=True)
        return counts[inverse] == 1


def draw_content(
    layout: Layout,
    *,
    rng: np.random.Generator,
    domains: Int[np.ndarray, " part"] | None = None,
    held_out: bool = False,
) -> Content:
    """Every part is of one domain, by default a random one. All pairs of key and value may be shown in training.

    held_out: pairs that training never shows, in every slot.
    """
    if domains is None:
        domains = rng.integers(0, len(DOMAINS), size=len(layout))
    parts = np.repeat(np.arange(len(layout)), [part.num_slots for part in layout])
    keys = np.empty(len(parts), np.int64)
    digits = np.empty((len(parts), 2), np.int64)
    for index, domain in enumerate(DOMAINS):
        slots = np.flatnonzero(domains[parts] == index)
        unique = rng.permutation(NUM_KEYS)
        if len(slots) <= NUM_KEYS:
            drawn = unique[: len(slots)]
        else:
            drawn = np.concatenate([unique[: NUM_KEYS // 2], rng.choice(unique[NUM_KEYS // 2 :], len(slots) - 32)])
            drawn = rng.permutation(drawn)
        keys[slots] = drawn + NUM_KEYS * index
        digits[slots] = draw_digits(domain, drawn, held_out=held_out, rng=rng)
    return Content(domains, keys, digits, parts)


def make_held_out(content: Content, slot: int, *, rng: np.random.Generator) -> None:
    """Gives a slot a value that training never shows with its key."""
    domain = DOMAINS[int(content.domains[content.parts[slot]])]
    key = content.keys[slot : slot + 1] % NUM_KEYS
    content.digits[slot] = draw_digits(domain, key, held_out=True, rng=rng)[0]


def render_image(
    layout: Layout, content: Content, part: int, *, rng: np.random.Generator
) -> UInt8[np.ndarray, "height width 3"]:
    """Draws one image: every visual token of an item shows its key and its value, each with its own noise."""
    image = layout[part]
    if not isinstance(image, ImageLayout):
        raise TypeError(f"part {part} of a layout is a list: only images are drawn")
    cells = image.slot_of_cells().ravel() + int(np.flatnonzero(content.parts == part)[0])
    return render(
        int(content.domains[part]),
        image.grid,
        keys=content.keys[cells] % NUM_KEYS,
        digits=content.digits[cells],
        rng=rng,
    )
