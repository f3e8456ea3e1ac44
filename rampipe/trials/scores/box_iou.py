"""Box IoU: overlap of the first box that the prediction prints with the nearest box of the evidence.

The form says the unit, as nothing else in the text does:
- four numbers in one bracket, `[x0, y0, x1, y1]`, alone or in JSON (`"bbox_2d": [...]`): pixels of the stored image,
  or shares of its sides when no number is over 1;
- two points, `(x0,y0),(x1,y1)`, with or without `<|box_start|>`: thousandths of the image's sides, as Qwen-VL and
  Qwen2-VL print them.
Models that print pixels of their resized image, or thousandths in one bracket, are not understood and score too low.
"""

from __future__ import annotations

import io
import re
from typing import NamedTuple

from PIL import Image

from rampipe.types import Evidence, Sample

ID = "box_iou"
MEANING = "Intersection over union of the predicted box and the nearest box of the evidence"
CORRECT_FROM = 0.5

_NUMBER = r"\s*(-?(?:\d+\.?\d*|\.\d+))\s*"
_BOX = re.compile(rf"[\[(]{_NUMBER},{_NUMBER}(,|[\])]\s*,?\s*[\[(]){_NUMBER},{_NUMBER}[\])]")

_Corners = tuple[float, float, float, float]


class _Printed(NamedTuple):
    corners: _Corners
    points: bool
    """Printed as two points."""


def score(prediction: str, sample: Sample) -> float | None:
    """In [0, 1]; 0 for a prediction that is no box, None for a sample whose evidence has no box."""
    boxes = [evidence for evidence in sample.evidence if evidence.kind == "box"]
    if not boxes:
        return None
    printed = _first_box(prediction)
    if printed is None:
        return 0.0
    return max(_overlap(printed, evidence, sample) for evidence in boxes)


def _first_box(text: str) -> _Printed | None:
    found = _BOX.search(text)
    if found is None:
        return None
    x0, y0, between, x1, y1 = found.groups()
    return _Printed((float(x0), float(y0), float(x1), float(y1)), points=between != ",")


def _overlap(printed: _Printed, evidence: Evidence, sample: Sample) -> float:
    assert evidence.box is not None and evidence.image is not None  # noqa: S101 - checked when the sample was read
    return iou(_in_pixels(printed, sample, evidence.image), evidence.box)


def _in_pixels(printed: _Printed, sample: Sample, image: int) -> _Corners:
    if not printed.points and max(printed.corners) > 1.0:
        return printed.corners
    width, height = _stored_size(sample, image)
    unit = 1000.0 if printed.points else 1.0
    x0, y0, x1, y1 = (value / unit for value in printed.corners)
    return x0 * width, y0 * height, x1 * width, y1 * height


def _stored_size(sample: Sample, image: int) -> tuple[int, int]:
    """Width and height in pixels, from the header. The image was decoded before there was a prediction."""
    stored = sample.images[image].bytes
    assert stored is not None  # noqa: S101
    with Image.open(io.BytesIO(stored)) as opened:
        return opened.size


def iou(first: _Corners, second: _Corners) -> float:
    """Area of the intersection over that of the union, of (x0, y0, x1, y1); 0 when a box has no area."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0.0 or height <= 0.0:
        return 0.0
    return min(1.0, width * height / (_area(first) + _area(second) - width * height))


def _area(corners: _Corners) -> float:
    return (corners[2] - corners[0]) * (corners[3] - corners[1])
