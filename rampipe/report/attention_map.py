"""One head's attention over one image: where it looked, and where the evidence is."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageColor, ImageDraw

from rampipe.errors import DataError
from rampipe.types import HeadId

WIDTH_PX = 544
MAX_HEIGHT_PX = 800
NUM_COLOURS = 160
DARKEST = 77
"""Grey that black becomes, of 255: the tint must stand out."""
OUTLINE_PX = 3
MAX_PIXELS = 40_000_000
"""Larger images are refused before decoding: examples come from a file that anyone could have written."""
HEAT = "#d55e00"
OUTLINE = "#0072b2"
"""Heat and outline do not follow the theme: they lie on the image, which does not either."""


@dataclass(frozen=True, slots=True)
class Example:
    """One image of one sample as one head saw it; a row of `examples.v1`.

    evidence_boxes, token_boxes: (x0, y0, x1, y1) in pixels of the image, half open.
    weights: the head's attention to each token, mean over query rows.
    mass_evidence: the head's mass on all evidence of the sample, from `head_stats`; null when it is not there.
    """

    sample_id: str
    domain: str
    question: str
    answer: str | None
    prediction: str | None
    head: HeadId
    query: str
    image: int
    image_png: bytes
    evidence_boxes: Float[np.ndarray, "box edge"]
    token_boxes: Float[np.ndarray, "token side"]
    weights: Float[np.ndarray, " weight"]
    mass_evidence: float | None

    @property
    def title(self) -> str:
        """The head and what it gives to the evidence."""
        if self.mass_evidence is None:
            return f"head {self.head} · {self.weights.sum():.1%} on this image"
        return f"head {self.head} · {self.mass_evidence:.1%} on the evidence"


def attention_map(example: Example) -> bytes:
    """PNG of the greyed image, tokens tinted by weight (largest opaque), evidence boxes outlined.

    It lies on the image alone, so one file fits every page background. Raises DataError when the image cannot be
    decoded or boxes and weights do not fit each other.
    """
    _check(example)
    grey, scale = _scaled(_decode(example, "L"))  # hue means attention only
    pale = DARKEST + np.asarray(grey, np.float32) * (1 - DARKEST / 255)
    pixels = np.repeat(pale[..., np.newaxis], 3, axis=2)
    _tint(pixels, example, scale=scale)
    picture = Image.fromarray(np.rint(pixels).astype(np.uint8), "RGB")
    return _outlined(picture, example, scale=scale)


def evidence_picture(example: Example) -> bytes:
    """PNG of the image in its own colours, evidence boxes outlined. Raises as `attention_map` does."""
    _check(example)
    picture, scale = _scaled(_decode(example, "RGB"))
    return _outlined(picture, example, scale=scale)


def _scaled(image: Image.Image) -> tuple[Image.Image, float]:
    scale = min(WIDTH_PX / image.width, MAX_HEIGHT_PX / image.height)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS), scale


def _outlined(picture: Image.Image, example: Example, *, scale: float) -> bytes:
    for box in example.evidence_boxes:
        _outline(picture, box, scale=scale)
    return _to_png(picture)


def _decode(example: Example, mode: str) -> Image.Image:
    place = f"examples: sample {example.sample_id}, image {example.image}"
    try:
        with Image.open(io.BytesIO(example.image_png)) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise DataError(f"{place}: {opened.width}x{opened.height} pixels; at most {MAX_PIXELS:,} are drawn.")
            return opened.convert(mode)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{place}: cannot be decoded ({type(error).__name__}). Run the examples stage again.") from None


def _check(example: Example) -> None:
    """Boxes and weights fit each other: the type of the column cannot say so."""
    shapes = (example.weights.shape, example.token_boxes.shape, example.evidence_boxes.shape)
    fits = shapes[1] == (len(example.weights), 4) and shapes[2][1] == 4
    numbers = (example.weights, example.token_boxes, example.evidence_boxes)
    if not fits or not all(np.isfinite(array).all() for array in numbers):
        raise DataError(
            f"examples: sample {example.sample_id}, head {example.head}: weights, token boxes and evidence boxes of "
            f"shapes {shapes}; wanted one finite weight per (x0, y0, x1, y1). Run the examples stage again."
        )


def _tint(pixels: Float[np.ndarray, "y x colour"], example: Example, *, scale: float) -> None:
    """Opacity is weight over the largest weight: a flat map looks flat, a peak stands out."""
    weights = example.weights
    if not len(weights) or weights.max() <= 0:
        return
    heat = np.array(ImageColor.getrgb(HEAT), np.float32)
    opacities = 0.85 * np.clip(weights / weights.max(), 0, 1)
    # Edges that two tokens share round to the same pixel, so there are no seams.
    edges = np.clip(np.rint(example.token_boxes * scale), 0, max(pixels.shape)).astype(int)
    for (x0, y0, x1, y1), opacity in zip(edges.tolist(), opacities.tolist(), strict=True):
        token = pixels[y0:y1, x0:x1]
        token += opacity * (heat - token)


def _outline(picture: Image.Image, box: Float[np.ndarray, " 4"], *, scale: float) -> None:
    x0, y0, x1, y1 = np.clip(np.rint(box * scale), -OUTLINE_PX, max(picture.size) + OUTLINE_PX).astype(int).tolist()
    drawing = ImageDraw.Draw(picture)
    for colour, outset, line in (("#ffffff", OUTLINE_PX, OUTLINE_PX + 3), (OUTLINE, OUTLINE_PX - 1, OUTLINE_PX)):
        corners = (x0 - outset, y0 - outset, max(x0, x1 - 1) + outset, max(y0, y1 - 1) + outset)
        drawing.rectangle(corners, outline=colour, width=line)


def _to_png(picture: Image.Image) -> bytes:
    """With a palette of the colours that are farthest apart: few bytes, and rare colours such as the heat survive."""
    buffer = io.BytesIO()
    paletted = picture.quantize(NUM_COLOURS, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    paletted.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
