"""One head's attention over one image: where it looked, and where the evidence is."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.colors import to_rgba
from matplotlib.patches import Rectangle
from PIL import Image

from rampipe.errors import DataError
from rampipe.report.style import FONT, Theme, drawable, new_figure, to_png
from rampipe.types import HeadId

WIDTH_IN = 3.4
MAX_HEIGHT_IN = 5.0
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


def attention_map(example: Example, *, theme: Theme) -> bytes:
    """PNG of the greyed image, tokens tinted by weight (largest opaque), evidence boxes outlined.

    Raises DataError when the image cannot be decoded or boxes and weights do not fit each other.
    """
    _check(example)
    grey = _decode(example)
    height, width = grey.shape
    height_in = float(np.clip(WIDTH_IN * height / width, 0.7, MAX_HEIGHT_IN))
    figure = new_figure(WIDTH_IN, height_in + 0.3, theme=theme)
    axes = figure.add_subplot()
    axes.imshow(grey, cmap="gray", vmin=-110, vmax=255, interpolation="lanczos")
    _tint(axes, example)
    for box in example.evidence_boxes:
        _outline(axes, box, width=width)
    title = drawable(example.title)
    axes.set_title(title, loc="left", fontsize=8.5, color=theme.ink, family=FONT, pad=5, parse_math=False)
    axes.set_xlim(-0.5, width - 0.5)
    axes.set_ylim(height - 0.5, -0.5)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set(color=theme.rule, linewidth=0.8)
    return to_png(figure)


def _decode(example: Example) -> np.ndarray:
    """The image in grey, so that hue means attention only."""
    place = f"examples: sample {example.sample_id}, image {example.image}"
    try:
        with Image.open(io.BytesIO(example.image_png)) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise DataError(f"{place}: {opened.width}x{opened.height} pixels; at most {MAX_PIXELS:,} are drawn.")
            return np.asarray(opened.convert("L"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{place}: cannot be decoded ({type(error).__name__}). Run the examples stage again.") from None


def _check(example: Example) -> None:
    """Boxes and weights fit each other: the type of the column cannot say so."""
    shapes = (example.weights.shape, example.token_boxes.shape, example.evidence_boxes.shape)
    fits = shapes[1] == (len(example.weights), 4) and shapes[2][1] == 4
    if not fits or not all(np.isfinite(array).all() for array in (example.weights, example.token_boxes)):
        raise DataError(
            f"examples: sample {example.sample_id}, head {example.head}: weights, token boxes and evidence boxes of "
            f"shapes {shapes}; wanted one finite weight per (x0, y0, x1, y1). Run the examples stage again."
        )


def _tint(axes: Axes, example: Example) -> None:
    """Opacity is weight over the largest weight: a flat map looks flat, a peak stands out."""
    weights, boxes = example.weights, example.token_boxes
    if not len(weights) or weights.max() <= 0:
        return
    colours = np.tile(np.array(to_rgba(HEAT)), (len(weights), 1))
    colours[:, 3] = 0.85 * np.clip(weights / weights.max(), 0, 1)
    rectangles: Sequence[Rectangle] = [
        Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0) for x0, y0, x1, y1 in boxes.tolist()
    ]
    # Antialiased neighbours would show seams between tokens.
    axes.add_collection(PatchCollection(rectangles, facecolors=colours, edgecolors="none", antialiased=False))


def _outline(axes: Axes, box: Float[np.ndarray, " 4"], *, width: int) -> None:
    x0, y0, x1, y1 = (float(value) for value in box)
    margin = width / 300
    corner = (x0 - 0.5 - margin, y0 - 0.5 - margin)
    size = (x1 - x0 + 2 * margin, y1 - y0 + 2 * margin)
    for colour, line in (("#ffffff", 3.2), (OUTLINE, 1.6)):
        axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor=colour, linewidth=line))
