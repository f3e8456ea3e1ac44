"""Boxes as datasets write them, to boxes as a sample holds them: x0, y0, x1, y1 in pixels of the stored image."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Sequence

from PIL import Image

from rampipe.errors import SampleError
from rampipe.types import Evidence, StoredImage

Corners = tuple[float, float, float, float]


def corners_of(box: Sequence[int | float], *, order: str = "xyxy") -> Corners:
    """Corners of a box that is written in another order.

    order: `xyxy`, `xywh` (left, top, width, height) or `whxy`. Raises ValueError unless there are four numbers.
    """
    first, second, third, fourth = (float(value) for value in box)
    if order == "xywh":
        return first, second, first + third, second + fourth
    if order == "whxy":
        return third, fourth, third + first, fourth + second
    return first, second, third, fourth


def scaled(corners: Corners, *, size: tuple[float, float], to: tuple[int, int]) -> Corners:
    """Corners on a page of `size` (points, thousandths) as pixels of an image of `to`, both width and height."""
    (width, height), (width_px, height_px) = size, to
    if not (width > 0 and height > 0):
        raise ValueError(f"a page of {width:g} x {height:g} has no scale")
    x, y = width_px / width, height_px / height
    return corners[0] * x, corners[1] * y, corners[2] * x, corners[3] * y


def image_size(stored: StoredImage, *, name: str) -> tuple[int, int]:
    """Width and height in pixels by the header alone, as stored: the EXIF orientation is not applied.

    Raises SampleError (stage read): `image_missing` or `image_corrupt`.
    """
    if not stored.bytes:
        raise SampleError(f"{name} has no bytes. Sample skipped.", stage="read", code="image_missing")
    with warnings.catch_warnings():
        # Pillow warns of large images and odd metadata; neither matters to the header.
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(stored.bytes)) as image:
                return image.size
        except Exception as error:
            message = f"{name} of {len(stored.bytes)} bytes is no image ({type(error).__name__}). Sample skipped."
            raise SampleError(message, stage="read", code="image_corrupt") from error


def box_evidence(image: int, corners: Corners, *, size: tuple[int, int], name: str) -> Evidence:
    """A box as evidence. Raises SampleError (`evidence_outside`) as `check_box` does."""
    check_box(corners, size=size, name=f"{name} in image {image}")
    return Evidence(kind="box", image=image, box=corners)


def check_box(corners: Sequence[float], *, size: tuple[int, int], name: str) -> None:
    """Raise SampleError (`evidence_outside`) for a box that is inverted, empty, or wholly outside its image.

    A box that leaves its image in part is fine: it is clipped, and flagged, when it becomes tokens.
    """
    x0, y0, x1, y1 = corners
    text = ", ".join(f"{value:g}" for value in corners)
    if not all(math.isfinite(value) for value in corners) or x0 >= x1 or y0 >= y1:
        message = f"{name} has the inverted or empty box ({text}). It needs x0 < x1 and y0 < y1. Sample skipped."
        raise SampleError(message, stage="read", code="evidence_outside")
    width, height = size
    if x1 <= 0 or y1 <= 0 or x0 >= width or y0 >= height:
        message = f"{name} has box ({text}), outside the image of {width}x{height} px. Sample skipped."
        raise SampleError(message, stage="read", code="evidence_outside")
