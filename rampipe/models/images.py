"""Stored bytes to RGB images. Every image is judged by its header before its pixels are decoded."""

from __future__ import annotations

import warnings
from io import BytesIO

from PIL import Image

from rampipe.errors import SampleError
from rampipe.types import Sample, StoredImage

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
"""Decoders that may run. Pillow has more, some of which start other programs (EPS)."""
MIN_SIDE_PX = 4
"""Smaller images are placeholders of broken downloads, not content."""


def decode_images(sample: Sample, *, max_pixels: int) -> list[Image.Image]:
    """All images of a sample as RGB, in the order of `Sample.images`.

    The EXIF orientation is not applied: evidence boxes are in pixels of the image as stored. Transparency is dropped
    and the first frame of animations taken, as the image processors of transformers do.
    Raises SampleError (stage decode): image_missing, image_empty, image_corrupt, image_too_large, image_too_small.
    """
    return [
        _decode(stored, name=f"sample {sample.sample_id}: image {index}", max_pixels=max_pixels)
        for index, stored in enumerate(sample.images)
    ]


def _decode(stored: StoredImage, *, name: str, max_pixels: int) -> Image.Image:
    if stored.bytes is None:
        raise _error(f"{name} has no bytes. Embed images in the shard; paths are not followed.", "image_missing")
    if not stored.bytes:
        raise _error(f"{name} has 0 bytes. Store the whole file.", "image_empty")
    with warnings.catch_warnings():
        # Pillow warns of large images and odd metadata; the size is checked here, the metadata is not used.
        warnings.simplefilter("ignore")
        try:
            with Image.open(BytesIO(stored.bytes), formats=FORMATS) as image:
                _check_size(image.size, name=name, max_pixels=max_pixels)
                return _to_rgb(image)
        except SampleError:
            raise
        except Image.DecompressionBombError:
            raise _error(f"{name} is over Pillow's own limit of pixels. Store it smaller.", "image_too_large") from None
        except Exception as error:
            raise _error(
                f"{name} of {len(stored.bytes)} bytes cannot be decoded ({type(error).__name__}). "
                f"Store a whole file in one of {', '.join(FORMATS)}.",
                "image_corrupt",
            ) from error


def _check_size(size: tuple[int, int], *, name: str, max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise _error(
            f"{name} is {width}x{height} px, over capture.max_pixels={max_pixels}. Raise it or store a smaller one.",
            "image_too_large",
        )
    if min(width, height) < MIN_SIDE_PX:
        raise _error(
            f"{name} is {width}x{height} px; both sides must be at least {MIN_SIDE_PX} px. Store a real image.",
            "image_too_small",
        )


def _to_rgb(image: Image.Image) -> Image.Image:
    image.load()
    rgb = image.copy() if image.mode == "RGB" else image.convert("RGB")
    rgb.info = {}  # an EXIF orientation left in here would be applied by some image processors, behind our boxes
    return rgb


def _error(message: str, code: str) -> SampleError:
    return SampleError(message, stage="decode", code=code)
