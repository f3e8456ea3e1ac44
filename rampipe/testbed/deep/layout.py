"""The layout of a context: which images and lists follow each other, how large, but not yet what they show.

All contexts of a training batch share one layout, so that tokens line up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

ENTRY_TOKENS = 4
"""Two digits, a key, a separator."""
MAX_SIDE_TOKENS = 16
BLOCKS = ((1, 1), (1, 2), (2, 1), (1, 3), (2, 2), (2, 3), (3, 2), (2, 4), (4, 2), (3, 3), (2, 5), (3, 4), (4, 3))
"""Rows and columns of visual tokens that one item can take."""


@dataclass(frozen=True, slots=True)
class ImageLayout:
    """A grid of items, each a block of equal visual tokens."""

    items: tuple[int, int]
    block: tuple[int, int]

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of visual tokens."""
        return (self.items[0] * self.block[0], self.items[1] * self.block[1])

    @property
    def num_slots(self) -> int:
        """Items of the image."""
        return self.items[0] * self.items[1]

    @property
    def num_tokens(self) -> int:
        """With the two tokens around the image."""
        return self.grid[0] * self.grid[1] + 2

    def slot_of_cells(self) -> Int[np.ndarray, "row column"]:
        """Which item each visual token belongs to."""
        slots = np.arange(self.num_slots).reshape(self.items)
        return slots.repeat(self.block[0], axis=0).repeat(self.block[1], axis=1)


@dataclass(frozen=True, slots=True)
class ListLayout:
    """A list of text entries."""

    num_slots: int

    @property
    def num_tokens(self) -> int:
        """Tokens of all entries."""
        return ENTRY_TOKENS * self.num_slots


Layout = tuple[ImageLayout | ListLayout, ...]


@dataclass(frozen=True, slots=True)
class Size:
    """How large contexts are. Ranges are inclusive. max_visual_tokens is for the whole context.

    min_tokens: a context with images has at least so many tokens; text alone may have fewer.
    """

    num_images: tuple[int, int]
    max_side_items: int
    block_tokens: tuple[int, int]
    max_visual_tokens: int
    num_entries: tuple[int, int]
    min_tokens: int = 0


def draw_image(size: Size, max_tokens: int, *, rng: np.random.Generator) -> ImageLayout:
    """An image of at least 2 x 2 items; half of the time as many columns as fit."""
    low, high = size.block_tokens
    blocks = [block for block in BLOCKS if low <= block[0] * block[1] <= high and 4 * block[0] * block[1] <= max_tokens]
    rows, columns = (
        blocks[int(rng.integers(len(blocks)))]
        if blocks
        else min((block for block in BLOCKS if low <= block[0] * block[1]), key=lambda block: block[0] * block[1])
    )
    side = size.max_side_items
    most_rows = min(side, MAX_SIDE_TOKENS // rows, max(2, max_tokens // (2 * rows * columns)))
    num_rows = int(rng.integers(2, most_rows + 1))
    most_columns = max(2, min(side, MAX_SIDE_TOKENS // columns, max_tokens // (num_rows * rows * columns)))
    num_columns = most_columns if rng.random() < 0.5 else int(rng.integers(2, most_columns + 1))
    return ImageLayout((num_rows, num_columns), (rows, columns))


def draw_layout(size: Size, *, rng: np.random.Generator, text_only: bool = False) -> Layout:
    """Images in a row, and between them up to two lists that share the entries. text_only: at least two entries."""
    layout = _draw_parts(size, rng=rng, text_only=text_only)
    while not text_only and sum(part.num_tokens for part in layout) < size.min_tokens:
        layout = _draw_parts(size, rng=rng, text_only=text_only)
    return layout


def _draw_parts(size: Size, *, rng: np.random.Generator, text_only: bool) -> Layout:
    num_images = 0 if text_only else int(rng.integers(size.num_images[0], size.num_images[1] + 1))
    max_tokens = size.max_visual_tokens // max(1, num_images)
    parts: list[ImageLayout | ListLayout] = [draw_image(size, max_tokens, rng=rng) for _ in range(num_images)]
    num_entries = max(2 * text_only, int(rng.integers(size.num_entries[0], size.num_entries[1] + 1)))
    num_lists = min(num_entries, int(rng.integers(1, 3)))
    for index in range(num_lists):
        share = num_entries // num_lists + (index < num_entries % num_lists)
        parts.insert(int(rng.integers(len(parts) + 1)), ListLayout(share))
    return tuple(parts)


def context_positions(layout: Layout, start: int) -> tuple[Int[Tensor, "3 token"], int]:
    """M-RoPE positions (time, row, column) of a context that begins at `start`, and where text goes on after it."""
    pieces: list[Int[Tensor, "3 token"]] = []
    for part in layout:
        if isinstance(part, ListLayout):
            pieces.append(torch.arange(start, start + part.num_tokens).expand(3, -1))
            start += part.num_tokens
            continue
        rows, columns = torch.meshgrid(torch.arange(part.grid[0]), torch.arange(part.grid[1]), indexing="ij")
        cells = torch.stack([torch.zeros_like(rows), rows, columns]).reshape(3, -1) + start + 1
        after = start + 1 + max(part.grid)
        pieces += [torch.full((3, 1), start), cells, torch.full((3, 1), after)]
        start = after + 1
    return torch.cat(pieces, dim=1), start
