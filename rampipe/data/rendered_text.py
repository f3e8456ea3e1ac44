"""A sentence as a picture of it, for needles that a model has to read from an image."""

from __future__ import annotations

import io
import textwrap

from PIL import Image, ImageDraw, ImageFont

from rampipe.types import StoredImage

_LINE_CHARACTERS = 48
_FONT_PX = 28
_MARGIN_PX = 16


def render_text(text: str, *, path: str) -> StoredImage:
    """Black on white, wrapped, in Pillow's own font: the same bytes with the same Pillow. path: what it is named."""
    lines = "\n".join(textwrap.wrap(text, _LINE_CHARACTERS))
    font = ImageFont.load_default(size=_FONT_PX)
    _, _, right, bottom = ImageDraw.Draw(Image.new("RGB", (1, 1))).multiline_textbbox((0, 0), lines, font=font)
    page = Image.new("RGB", (round(right) + 2 * _MARGIN_PX, round(bottom) + 2 * _MARGIN_PX), "white")
    ImageDraw.Draw(page).multiline_text((_MARGIN_PX, _MARGIN_PX), lines, fill="black", font=font)
    buffer = io.BytesIO()
    page.save(buffer, format="PNG")
    return StoredImage(bytes=buffer.getvalue(), path=path)
