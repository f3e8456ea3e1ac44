"""Places along one side of an image: image processors treat width and height separately, so boxes are made of both."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

WEIGHTLESS = 1e-3
"""A neighbour that interpolation weighs less than this is not what a token shows."""


def patch_spans(num_tiles: int, tile_px: int, patch_px: int) -> Float[Tensor, "patch 2"]:
    """First and last edge of every patch along a row of tiles, in pixels of that row.

    Pixels of a tile behind its last whole patch are in no patch: 384 px are 27 patches of 14 px, and 6 px are lost.
    """
    inside = torch.arange(tile_px // patch_px, dtype=torch.float64) * patch_px
    start = (torch.arange(num_tiles, dtype=torch.float64)[:, None] * tile_px + inside).flatten()
    return torch.stack([start, start + patch_px], dim=1)


def blend_spans(spans: Float[Tensor, "patch 2"], num_tokens: int) -> Float[Tensor, "token 2"]:
    """Spans of the patches that each token is blended from by bilinear interpolation without antialiasing.

    Each token reads the two patches around its centre; what lies further away is in no token. Neighbours overlap.
    """
    num_patches = len(spans)
    centre = ((torch.arange(num_tokens, dtype=torch.float64) + 0.5) * num_patches / num_tokens - 0.5).clamp(min=0)
    first = (centre + WEIGHTLESS).floor()
    second = (centre - WEIGHTLESS).ceil().clamp(min=first)
    last = torch.full_like(first, num_patches - 1)
    start, stop = first.minimum(last).long(), second.minimum(last).long()
    return torch.stack([spans[start, 0], spans[stop, 1]], dim=1)


def place_spans(
    spans: Float[Tensor, "span 2"], *, offset_px: int | float, shown_px: int | float, stored_px: int
) -> Float[Tensor, "span 2"]:
    """Spans on the stored image, whose side of `stored_px` was drawn `shown_px` long from `offset_px` on.

    Clipped to the image; NaN for a span of padding alone.
    """
    placed = ((spans - offset_px) * (stored_px / shown_px)).clamp(0, stored_px)
    return placed.masked_fill((placed[:, 1] <= placed[:, 0])[:, None], torch.nan)


def cross(rows: Float[Tensor, "row 2"], columns: Float[Tensor, "column 2"]) -> Float[Tensor, "row*column 4"]:
    """(x0, y0, x1, y1) of each cell, row by row. NaN where the row or the column has no place."""
    top, left = torch.meshgrid(rows[:, 0], columns[:, 0], indexing="ij")
    bottom, right = torch.meshgrid(rows[:, 1], columns[:, 1], indexing="ij")
    boxes = torch.stack([left, top, right, bottom], dim=-1).reshape(-1, 4)
    return boxes.masked_fill(boxes.isnan().any(dim=1, keepdim=True), torch.nan)
