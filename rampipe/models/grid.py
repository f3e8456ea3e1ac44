"""Boxes of a regular grid over an image, or over a part of it."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def grid_boxes(
    num_rows: int,
    num_columns: int,
    size: tuple[int, int],
    *,
    region: tuple[float, float, float, float] | None = None,
) -> Float[Tensor, "cell 4"]:
    """(x0, y0, x1, y1) of every cell, row by row, in pixels.

    size: (width, height) of the image. region: the part of it that the grid covers, all of it when None.
    """
    left, top, right, bottom = region or (0.0, 0.0, *size)
    y = top + torch.arange(num_rows + 1, dtype=torch.float64) * (bottom - top) / num_rows
    x = left + torch.arange(num_columns + 1, dtype=torch.float64) * (right - left) / num_columns
    y0, x0 = torch.meshgrid(y[:-1], x[:-1], indexing="ij")
    y1, x1 = torch.meshgrid(y[1:], x[1:], indexing="ij")
    return torch.stack([x0, y0, x1, y1], dim=-1).reshape(-1, 4)
