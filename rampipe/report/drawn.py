"""A figure of the page: drawn in both themes, embedded in the page, and the light one published beside it."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass

from rampipe.report.style import DARK, DOTS_PER_INCH, LIGHT, Theme

CSS_PIXELS_PER_INCH = 96


@dataclass(frozen=True, slots=True)
class Drawn:
    """`name`: file stem of the PNG. `light`, `dark`: data URIs, so that the page needs no other file.

    width_px: on the page, where the images are sharp on screens with up to DOTS_PER_INCH / CSS_PIXELS_PER_INCH.
    """

    name: str
    alt: str
    caption: str
    png: bytes
    width_px: int
    light: str
    dark: str


def drawn(name: str, draw: Callable[[Theme], bytes], *, alt: str, caption: str = "") -> Drawn:
    """Draw once per theme. alt: what the figure shows, for who cannot see it."""
    png = draw(LIGHT)
    # The width of a PNG is the big-endian word after its signature and the head of its first chunk.
    width_px = round(int.from_bytes(png[16:20], "big") * CSS_PIXELS_PER_INCH / DOTS_PER_INCH)
    return Drawn(name, alt, caption, png, width_px, _data_uri(png), _data_uri(draw(DARK)))


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
