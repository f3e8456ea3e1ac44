"""Boxes of a regular grid over an image, or over a part of it."""

from __future__ import annotations

import numpy as np
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
    x = left + np.arange(num_columns + 1) * (right - left) / num_columns
    y = top + np.arange(num_rows + 1) * (bottom - top) / num_rows
    boxes = np.empty((num_rows, num_columns, 4))
    boxes[:, :, 0], boxes[:, :, 2] = x[:-1], x[1:]
    boxes[:, :, 1], boxes[:, :, 3] = y[:-1, None], y[1:, None]
    return torch.from_numpy(boxes.reshape(-1, 4))
