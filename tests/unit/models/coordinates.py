"""Images that hold their own coordinates, and what the model gets to see of them."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

SIZES = [(230, 90), (60, 250), (255, 255), (36, 22), (200, 210)]
"""Wide, tall, square, tiny, nearly square; at most 255, so that a colour is a pixel."""


CLOSE_PX = 0.75
"""Error allowed: colours are whole numbers."""


def coordinate_image(width: int, height: int) -> Image.Image:
    """Red is x, green is y, in pixels; blue is full, so that padding can be told."""
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([x, y, np.full_like(x, 255)], axis=-1).astype(np.uint8))


def read_cells(processor, pixel_values: Tensor, cell_px: int, *, padding: float = 0.0) -> Tensor:
    """(x, y, share of image) [view, cell, 3] of the cells of each view, row by row; pixels behind the last are left.

    padding: blue of the padding, 0 to 1.
    """
    colours = pixel_values.double() * torch.tensor(processor.image_std)[:, None, None]
    cells = torch.nn.functional.avg_pool2d(colours + torch.tensor(processor.image_mean)[:, None, None], cell_px)
    places, share = cells[:, :2] * 255 + 0.5, (cells[:, 2:] - padding) / (1 - padding)
    return torch.cat([places, share], dim=1).flatten(2).transpose(1, 2)


def mean_blue(processor) -> float:
    """Blue of padding in the mean colour."""
    return int(processor.image_mean[2] * 255) / 255


def largest_error(boxes: Tensor, cells: Tensor) -> float:
    """Largest distance in pixels between the middle of a box and where its pixels came from.

    Tokens that show padding too are left out; one that shows a tenth of image or more must have a place.
    """
    assert len(boxes) == len(cells)
    assert bool(boxes[cells[:, 2] > 0.1].isfinite().all())
    whole = cells[:, 2] > 0.995
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    return float((middle - cells[:, :2])[whole].abs().max())
