"""A figure of the page: embedded in it, and published beside it, in its light theme where it has two."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass

from rampipe.report.style import DARK, DOTS_PER_INCH, LIGHT, Theme

CSS_PIXELS_PER_INCH = 96


@dataclass(frozen=True, slots=True)
class Drawn:
    """`name`: file stem of the PNG. `light`, `dark`: data URIs, so that the page needs no other file; `dark` is
    null for a picture that fits both backgrounds.

    width_px: on the page, where the images are sharp on screens with up to DOTS_PER_INCH / CSS_PIXELS_PER_INCH.
    """

    name: str
    alt: str
    caption: str
    png: bytes
    width_px: int
    light: str
    dark: str | None


def drawn(name: str, draw: Callable[[Theme], bytes], *, alt: str, caption: str = "") -> Drawn:
    """Draw once per theme. alt: what the figure shows, for who cannot see it."""
    png = draw(LIGHT)
    return Drawn(name, alt, caption, png, _width_px(png), _data_uri(png), _data_uri(draw(DARK)))


def pictured(name: str, png: bytes, *, alt: str, caption: str) -> Drawn:
    """A picture without a background of its own, so without themes."""
    return Drawn(name, alt, caption, png, _width_px(png), _data_uri(png), None)


def _width_px(png: bytes) -> int:
    """The width of a PNG is the big-endian word after its signature and the head of its first chunk."""
    return round(int.from_bytes(png[16:20], "big") * CSS_PIXELS_PER_INCH / DOTS_PER_INCH)


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
