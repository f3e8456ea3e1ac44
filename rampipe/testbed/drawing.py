"""Tiles of 16 x 16 pixels: how a key and a value look in each domain.

Every tile is drawn four times with small shifts, so that no pixel pattern repeats exactly. The font is the one that
ships with Pillow: no file of the system is read.
"""

from __future__ import annotations

from functools import cache
from math import cos, pi, sin

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from rampipe.testbed.domains import COLOURS, DOMAINS, NUM_ATTRIBUTE_VALUES, SHAPES, Domain

TILE_PX = 16
NUM_VARIANTS = 4
OVERSAMPLING = 4
SHIFTS_PX = ((0, 0), (1, 0), (0, 1), (-1, -1))

Rgb = tuple[int, int, int]
RGB: dict[str, Rgb] = {
    "red": (220, 40, 40),
    "green": (30, 160, 60),
    "blue": (50, 80, 225),
    "yellow": (225, 205, 30),
    "cyan": (40, 200, 215),
    "magenta": (200, 50, 205),
    "orange": (240, 135, 20),
    "black": (15, 15, 15),
}
BACKGROUND: dict[str, Rgb] = {
    "glyph": (235, 235, 230),
    "receipt": (250, 248, 240),
    "chart": (205, 215, 225),
    "table": (60, 65, 75),
}
INK: dict[str, Rgb] = {
    "glyph": (20, 20, 30),
    "receipt": (25, 25, 25),
    "chart": (30, 50, 90),
    "table": (240, 240, 235),
}

Box = tuple[float, float, float, float]


def draw_text(pen: ImageDraw.ImageDraw, box: Box, text: str, ink: Rgb, *, stroke_width: int = 0) -> None:
    """Draws text centred in a box of oversampled pixels. stroke_width: oversampled pixels added around the letters."""
    x0, y0, x1, y1 = box
    font = ImageFont.load_default(size=13 * OVERSAMPLING)
    pen.text(((x0 + x1) / 2, (y0 + y1) / 2), text, fill=ink, font=font, anchor="mm", stroke_width=stroke_width)


def draw_shape(pen: ImageDraw.ImageDraw, box: Box, shape: str, ink: Rgb) -> None:
    """Draws one of SHAPES so that it fills a box of oversampled pixels."""
    x0, y0, x1, y1 = box
    x, y, radius = (x0 + x1) / 2, (y0 + y1) / 2, (x1 - x0) / 2
    if shape == "disk":
        pen.ellipse(box, fill=ink)
    elif shape == "ring":
        pen.ellipse(box, outline=ink, width=round(radius * 0.45))
    elif shape == "square":
        pen.rectangle(box, fill=ink)
    elif shape == "triangle":
        pen.polygon([(x, y0), (x1, y1), (x0, y1)], fill=ink)
    elif shape == "star":
        pen.polygon(star_points(x, y, radius), fill=ink)
    elif shape == "cross":
        pen.rectangle((x - radius * 0.3, y0, x + radius * 0.3, y1), fill=ink)
        pen.rectangle((x0, y - radius * 0.3, x1, y + radius * 0.3), fill=ink)
    elif shape == "diamond":
        pen.polygon([(x, y0), (x1, y), (x, y1), (x0, y)], fill=ink)
    else:
        pen.rectangle((x0, y - radius * 0.35, x1, y + radius * 0.35), fill=ink)


def star_points(x: float, y: float, radius: float) -> list[tuple[float, float]]:
    """The ten corners of a five-pointed star with its tip up."""
    radii = [radius if corner % 2 == 0 else radius * 0.4 for corner in range(10)]
    angles = [pi * (corner / 5 - 0.5) for corner in range(10)]
    return [(x + r * cos(angle), y + r * sin(angle)) for r, angle in zip(radii, angles, strict=True)]


def draw_key(pen: ImageDraw.ImageDraw, domain: Domain, key: int) -> None:
    """Draws the two attributes of a key on a tile."""
    first, second = divmod(key, NUM_ATTRIBUTE_VALUES)
    side = float(TILE_PX * OVERSAMPLING)
    inset = 2.0 * OVERSAMPLING
    whole, left, right = (0.0, 0.0, side, side), (0.0, 0.0, side / 2, side), (side / 2, 0.0, side, side)
    ink = INK[domain.name]
    if domain.name == "glyph":
        draw_shape(pen, (inset, inset, side - inset, side - inset), SHAPES[second], RGB[COLOURS[first]])
    elif domain.name == "receipt":
        draw_text(pen, left, domain.first[first], ink)
        draw_text(pen, right, domain.second[second], ink)
    elif domain.name == "chart":
        draw_text(pen, whole, domain.second[second], RGB[COLOURS[first]], stroke_width=2)
    else:
        draw_text(pen, left, domain.first[first], ink)
        half = side / 2
        draw_shape(pen, (half + 2, half / 2 + 1, side - 2, half * 1.5 - 1), SHAPES[second], ink)


def draw_value(pen: ImageDraw.ImageDraw, domain: Domain, digits: tuple[int, int]) -> None:
    """Draws the two digits of a value on a tile: as numerals, or in charts as two bars, two pixels a step."""
    side = float(TILE_PX * OVERSAMPLING)
    ink = INK[domain.name]
    if domain.name != "chart":
        draw_text(pen, (0.0, 0.0, side / 2, side), str(digits[0]), ink)
        draw_text(pen, (side / 2, 0.0, side, side), str(digits[1]), ink)
        return
    for bar, digit in enumerate(digits):
        x0 = (1 + 8 * bar) * OVERSAMPLING
        y0 = side - (1 + 2 * digit) * OVERSAMPLING
        pen.rectangle((x0, y0, x0 + 6 * OVERSAMPLING - 1, side), fill=ink)


def tile_variants(domain: Domain, key: int | None, digits: tuple[int, int]) -> list[UInt8[np.ndarray, "16 16 3"]]:
    """The drawn variants of one tile: of the key, or of the digits when key is None."""
    side = TILE_PX * OVERSAMPLING
    image = Image.new("RGB", (side, side), BACKGROUND[domain.name])
    pen = ImageDraw.Draw(image)
    if key is None:
        draw_value(pen, domain, digits)
    else:
        draw_key(pen, domain, key)
    variants: list[UInt8[np.ndarray, "16 16 3"]] = []
    for shift_x, shift_y in SHIFTS_PX:
        canvas = Image.new("RGB", (side, side), BACKGROUND[domain.name])
        canvas.paste(image, (shift_x * OVERSAMPLING // 2, shift_y * OVERSAMPLING // 2))
        variants.append(np.asarray(canvas.resize((TILE_PX, TILE_PX), Image.Resampling.BOX)))
    return variants


@cache
def key_tiles(domain_index: int) -> UInt8[np.ndarray, "key variant 16 16 3"]:
    """All key tiles of a domain."""
    domain = DOMAINS[domain_index]
    return np.stack([tile_variants(domain, key, (0, 0)) for key in range(NUM_ATTRIBUTE_VALUES**2)])


@cache
def value_tiles(domain_index: int) -> UInt8[np.ndarray, "first second variant 16 16 3"]:
    """All value tiles of a domain, by their two digits."""
    domain = DOMAINS[domain_index]
    digits = range(domain.num_digits)
    return np.stack([np.stack([tile_variants(domain, None, (a, b)) for b in digits]) for a in digits])
