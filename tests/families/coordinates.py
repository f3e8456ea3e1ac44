"""Images whose red is x, whose green is y and whose blue is their number: what is read of their pixels tells its place.

The pixels are read back from what the model is given, so crops, tiles, padding and frames need not be known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

Placed = tuple[int, tuple[float, float, float, float]]
"""A box (x0, y0, x1, y1) in the image of a number."""
FIRST_BLUE, BLUE_STEP = 250, 15
"""Of the first image, and what each later one has less. Padding is black, or as grey as `image_mean` says."""
BLUE_TOLERANCE = 3 / 255


def coordinate_image(width: int, height: int, *, number: int) -> Image.Image:
    """255 in red is the right edge, 255 in green the lower one."""
    x, y = ((np.arange(side) + 0.5) / side * 255 for side in (width, height))
    red, green = np.meshgrid(x.round(), y.round())
    blue = np.full_like(red, FIRST_BLUE - BLUE_STEP * number)
    return Image.fromarray(np.stack([red, green, blue], axis=-1).astype(np.uint8))


def measure(
    pixels: Float[Tensor, "*pixel 3"], sizes: Sequence[tuple[int, int]], boxes: Sequence[Placed]
) -> Float[Tensor, "*pixel channel"]:
    """x, y, whether the pixel is of each image, and whether it is in each box; 0 at padding. `Places` takes the means.

    pixels: 0 to 1. sizes: (width, height) of each image.
    """
    red, green, blue = pixels.double().unbind(dim=-1)
    codes = (FIRST_BLUE - BLUE_STEP * torch.arange(len(sizes))) / 255
    is_of = (blue[..., None] - codes).abs() < BLUE_TOLERANCE
    width, height = (is_of.double() @ torch.tensor(sides, dtype=torch.float64) for sides in zip(*sizes, strict=True))
    x, y = red * width, green * height
    is_in = [is_of[..., image] & (x > x0) & (x < x1) & (y > y0) & (y < y1) for image, (x0, y0, x1, y1) in boxes]
    return torch.stack([x, y, *is_of.unbind(dim=-1), *is_in], dim=-1)


@dataclass(frozen=True)
class Places:
    """What each visual token truly shows."""

    centres: Float[Tensor, "visual 2"]
    """Mean (x, y) of its pixels, in pixels of the stored image; NaN for a token that shows none."""
    is_of: Bool[Tensor, "visual image"]
    """Whether it shows something of the image."""
    shares: Float[Tensor, "visual box"]
    """Share in each box of its pixels of the box's image; NaN for a token that shows no image."""


def find_places(means: Float[Tensor, "visual channel"], num_images: int, boxes: Sequence[Placed]) -> Places:
    """means: over the pixels of each token, of what `measure` gives; NaN for a token made of no pixels."""
    x_y, of_images, in_boxes = means.nan_to_num().split([2, num_images, len(boxes)], dim=1)
    centres = x_y / of_images.sum(dim=1, keepdim=True)
    shares = (in_boxes / of_images[:, [image for image, _ in boxes]]).nan_to_num()
    return Places(centres, of_images > 0, shares.masked_fill(centres.isnan().any(dim=1, keepdim=True), torch.nan))
