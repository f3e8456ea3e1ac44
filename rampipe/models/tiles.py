"""Tiles: the image is distorted to a grid of square tiles, each encoded by itself, and shown once more as a thumbnail.

Source: InternVL 1.5, arXiv 2404.16821, §3.2 (dynamic high resolution).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from rampipe.models.axis import cross, patch_spans, place_spans


def tile_boxes(
    size: tuple[int, int], grid: tuple[int, int], *, tile_px: int, token_px: int, with_thumbnail: bool
) -> Float[Tensor, "token 4"]:
    """Tokens tile after tile, row by row within each, and those of the thumbnail last.

    size: (width, height) of the stored image. grid: (columns, rows) of tiles. token_px: side of a token in a tile.
    """
    columns, rows = (
        place_spans(patch_spans(count, tile_px, token_px), offset_px=0, shown_px=count * tile_px, stored_px=side)
        for count, side in zip(grid, size, strict=True)
    )
    per_tile = tile_px // token_px
    boxes = [cross(row, column) for row in rows.split(per_tile) for column in columns.split(per_tile)]
    if with_thumbnail:
        boxes.append(tile_boxes(size, (1, 1), tile_px=tile_px, token_px=token_px, with_thumbnail=False))
    return torch.cat(boxes)
