"""Evidence boxes drawn on their images, to look at: the quickest way to see boxes in a wrong order or scale."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

from PIL import Image, ImageDraw

from rampipe.errors import SampleError
from rampipe.types import Sample

INK = (220, 30, 30)
_SHARE_OF_SIDE = 300
"""A line is this part of the image's shorter side, but at least two pixels."""


def draw_evidence(sample: Sample, folder: Path, *, stem: str, max_images: int) -> list[Path]:
    """Write `<stem>-image-<n>.png` for the first images that hold evidence. Returns the paths, none without any.

    The sample id is no part of a path: it may hold anything. A whole image gets a frame.
    Raises SampleError (stage decode, `image_corrupt`) for an image that cannot be decoded.
    """
    paths: list[Path] = []
    for index in sorted({piece.image for piece in sample.evidence if piece.image is not None})[:max_images]:
        image = _decoded(sample, index)
        pen = ImageDraw.Draw(image)
        width = max(2, min(image.size) // _SHARE_OF_SIDE)
        for piece in sample.evidence:
            if piece.image == index:
                x0, y0, x1, y1 = piece.box or (0.0, 0.0, float(image.width), float(image.height))
                # Half open to the last pixel inside, as a frame that is seen.
                pen.rectangle((x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)), outline=INK, width=width)
        path = folder / f"{stem}-image-{index}.png"
        image.save(path, format="PNG")
        paths.append(path)
    return paths


def _decoded(sample: Sample, index: int) -> Image.Image:
    data = sample.images[index].bytes or b""
    with warnings.catch_warnings():
        # Pillow warns of large images and odd metadata; neither matters to a picture.
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(data)) as image:
                return image.convert("RGB")
        except Exception as error:
            message = f"sample {sample.sample_id}: image {index} cannot be decoded ({type(error).__name__})."
            raise SampleError(message, stage="decode", code="image_corrupt") from error
