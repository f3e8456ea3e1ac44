"""Any resolution: the whole image small, then the image again on a canvas of tiles, stitched and cut to the image.

Source: LLaVA-NeXT (llava-vl.github.io/blog/2024-01-30-llava-next), LLaVA-OneVision (arXiv 2408.03326, §3.2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from rampipe.models.axis import blend_spans, cross, patch_spans, place_spans

SHRINK_ABOVE = 1.1
"""The stitched view is shrunk where its side is this many times too long."""
ROUNDED_DIGITS = 7
"""The models round a side to these digits before they drop its fraction."""


@dataclass(frozen=True, slots=True)
class Tiling:
    """What of a configuration decides the tokens of an image."""

    canvases: Sequence[Sequence[int]]
    """(height, width) in pixels of each canvas that may be chosen."""
    tile_px: int
    patch_px: int
    max_tiles: int | None = None
    """The stitched view is shrunk to about the tokens of so many tiles; None leaves it."""


def count_tiles(size: tuple[int, int], tiling: Tiling) -> int:
    """Tiles of an image of (width, height), with the base view."""
    height, width = _choose_canvas(size, tiling)
    return 1 + math.ceil(height / tiling.tile_px) * math.ceil(width / tiling.tile_px)


def base_boxes(size: tuple[int, int], tiling: Tiling) -> Float[Tensor, "token 4"]:
    """Tokens of the view that shows the whole image, distorted to one tile."""
    spans = patch_spans(1, tiling.tile_px, tiling.patch_px)
    columns, rows = (place_spans(spans, offset_px=0, shown_px=tiling.tile_px, stored_px=side) for side in size)
    return cross(rows, columns)


def stitched_boxes(size: tuple[int, int], tiling: Tiling) -> Float[Tensor, "token 4"]:
    """Tokens of the tiles as one picture, row by row; each row ends in a newline, which has no place (NaN).

    The image lies in the middle of its canvas with its aspect kept. The model drops tokens of the padding, by whole
    patches; one that shows some image and some padding stays, with the box of its image.
    """
    canvas_height, canvas_width = _choose_canvas(size, tiling)
    columns, rows = (
        patch_spans(canvas_px // tiling.tile_px, tiling.tile_px, tiling.patch_px)
        for canvas_px in (canvas_width, canvas_height)
    )
    columns, rows = _unpad(columns, rows, size)
    if tiling.max_tiles is not None:
        per_tile = (tiling.tile_px // tiling.patch_px) ** 2
        ratio = math.sqrt(len(rows) * len(columns) / (tiling.max_tiles * per_tile))
        if ratio > SHRINK_ABOVE:
            columns, rows = (blend_spans(spans, int(len(spans) // ratio)) for spans in (columns, rows))
    scale = min(canvas_width / size[0], canvas_height / size[1])
    columns = _place(columns, size[0], canvas_width, scale)
    rows = _place(rows, size[1], canvas_height, scale)
    cells = cross(rows, columns).reshape(len(rows), len(columns), 4)
    newline = torch.full((len(rows), 1, 4), torch.nan, dtype=torch.float64)
    return torch.cat([cells, newline], dim=1).reshape(-1, 4)


def _choose_canvas(size: tuple[int, int], tiling: Tiling) -> tuple[int, int]:
    """(height, width) of the canvas, by the rule that processor and model share."""
    from transformers.image_processing_utils import select_best_resolution

    height, width = select_best_resolution((size[1], size[0]), list(tiling.canvases))
    return int(height), int(width)


def _place(spans: Float[Tensor, "span 2"], stored_px: int, canvas_px: int, scale: float) -> Float[Tensor, "span 2"]:
    """Spans of one side of the canvas, in pixels of the stored image in its middle."""
    shown_px = min(math.ceil(stored_px * scale), canvas_px)
    return place_spans(spans, offset_px=(canvas_px - shown_px) // 2, shown_px=shown_px, stored_px=stored_px)


def _unpad(
    columns: Float[Tensor, "column 2"], rows: Float[Tensor, "row 2"], size: tuple[int, int]
) -> tuple[Float[Tensor, "_ 2"], Float[Tensor, "_ 2"]]:
    """Patches that the model keeps: it computes the padding again, in patches, and cuts it on both sides."""
    width, height = size
    if width / height > len(columns) / len(rows):
        kept = int(round(height * (len(columns) / width), ROUNDED_DIGITS))
        padding = (len(rows) - kept) // 2
        return columns, rows[padding : len(rows) - padding]
    kept = int(round(width * (len(rows) / height), ROUNDED_DIGITS))
    padding = (len(columns) - kept) // 2
    return columns[padding : len(columns) - padding], rows
