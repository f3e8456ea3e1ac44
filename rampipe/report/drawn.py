"""A figure of the page: drawn in both themes, embedded in the page, and the light one published beside it."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass

from rampipe.report.style import DARK, LIGHT, Theme


@dataclass(frozen=True, slots=True)
class Drawn:
    """`name`: file stem of the PNG. `light`, `dark`: data URIs, so that the page needs no other file."""

    name: str
    alt: str
    caption: str
    png: bytes
    light: str
    dark: str


def drawn(name: str, draw: Callable[[Theme], bytes], *, alt: str, caption: str = "") -> Drawn:
    """Draw once per theme. alt: what the figure shows, for who cannot see it."""
    png = draw(LIGHT)
    return Drawn(name, alt, caption, png, _data_uri(png), _data_uri(draw(DARK)))


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
