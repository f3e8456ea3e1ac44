"""An auxiliary loss for list entries: `4 7 red-star` shall look, at its key, like an item of an image that shows it.

The trained blocks know such items. As in the vision warm-up the target is what a row holds, never where a head looks:
that the key must fetch the two words before it is for the fresh blocks to find.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional
from transformers import Qwen2VLForConditionalGeneration

from rampipe.testbed.deep.content import Content
from rampipe.testbed.deep.layout import ENTRY_TOKENS, Layout, ListLayout
from rampipe.testbed.domains import DOMAINS, NUM_KEYS
from rampipe.testbed.haystack import draw_digits, render
from rampipe.testbed.parts import vision_tower
from rampipe.testbed.vision import cell_features

NUM_CANDIDATES = 4
"""Items that an entry is told from: the one that shows its value, and others of the same key."""
MAX_ENTRIES = 8
"""Entries of each list that are looked at."""
LIKENESS_SCALE = 16.0


def entry_rows(layout: Layout) -> list[Int[Tensor, " entry"]]:
    """For each list, where in the context the keys of its first entries are."""
    rows: list[Int[Tensor, " entry"]] = []
    start = 0
    for part in layout:
        if isinstance(part, ListLayout):
            rows.append(start + ENTRY_TOKENS * torch.arange(min(MAX_ENTRIES, part.num_slots)) + ENTRY_TOKENS - 2)
        start += part.num_tokens
    return rows


def draw_items(
    model: Qwen2VLForConditionalGeneration, content: Content, part: int, *, rng: np.random.Generator
) -> Float[Tensor, "candidate entry hidden"]:
    """What the tower sees of items with an entry's key: the first candidate shows its value too."""
    slots = np.flatnonzero(content.parts == part)[:MAX_ENTRIES]
    domain = int(content.domains[part])
    keys = np.tile(content.keys[slots] % NUM_KEYS, NUM_CANDIDATES)
    digits = draw_digits(DOMAINS[domain], keys, held_out=False, rng=rng)
    digits[: len(slots)] = content.digits[slots]
    pixels = render(domain, (NUM_CANDIDATES, len(slots)), keys=keys, digits=digits, rng=rng)
    return cell_features(vision_tower(model), pixels[None])[0].unflatten(0, (NUM_CANDIDATES, -1)).float()


def binding_loss(
    model: Qwen2VLForConditionalGeneration,
    context: Float[Tensor, "context token hidden"],
    *,
    layout: Layout,
    contents: Sequence[Content],
    rng: np.random.Generator,
) -> tuple[Float[Tensor, ""], float] | None:
    """The loss over all entries and the share of them whose value is told right. None without lists.

    context: what the context's rows hold after the fresh blocks.
    """
    parts = [index for index, part in enumerate(layout) if isinstance(part, ListLayout)]
    if not parts:
        return None
    losses: list[Tensor] = []
    right: list[Tensor] = []
    for part, rows in zip(parts, entry_rows(layout), strict=True):
        with torch.no_grad():
            items = torch.stack([draw_items(model, content, part, rng=rng) for content in contents])
        entries = functional.normalize(context[:, rows].float(), dim=-1)
        likeness = torch.einsum("beh,bceh->bec", entries, functional.normalize(items, dim=-1))
        told = functional.log_softmax(LIKENESS_SCALE * likeness, dim=-1)[..., 0]
        losses.append((1 - likeness[..., 0] - told).flatten())
        right.append((likeness.argmax(-1) == 0).flatten())
    return torch.cat(losses).mean(), float(torch.cat(right).float().mean())
