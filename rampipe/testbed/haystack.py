"""Renders a haystack: a grid of cells of 32 x 32 pixels, each with a key tile beside a value tile.

One cell is one merged visual token of the testbed's model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, UInt8

from rampipe.testbed.domains import DOMAINS, NUM_ATTRIBUTE_VALUES, NUM_KEYS, Domain
from rampipe.testbed.drawing import BACKGROUND, INK, NUM_VARIANTS, TILE_PX, key_tiles, value_tiles

CELL_PX = 32
NOISE_SIGMA = 18.0
BRIGHTNESS = (0.8, 1.1)
STRIP_TOP_PX = 8


@dataclass(frozen=True, slots=True)
class Haystack:
    """What the cells of one image show, row by row."""

    keys: Int[np.ndarray, " cell"]
    digits: Int[np.ndarray, "cell 2"]
    pixels: UInt8[np.ndarray, "height width 3"]


def held_out_mask(domain: Domain, keys: Int[np.ndarray, " cell"], digits: Int[np.ndarray, "cell 2"]) -> np.ndarray:
    """`is_held_out` for many cells at once."""
    total = keys // NUM_ATTRIBUTE_VALUES + 3 * (keys % NUM_ATTRIBUTE_VALUES) + digits[:, 0] + 2 * digits[:, 1]
    return total % domain.held_out_modulus == 0


def draw_digits(
    domain: Domain, keys: Int[np.ndarray, " cell"], *, held_out: bool, rng: np.random.Generator
) -> Int[np.ndarray, "cell 2"]:
    """Draws values for keys, all held out or none, by rejection: about m draws a held-out cell."""
    digits = rng.integers(0, domain.num_digits, size=(len(keys), 2))
    while (wrong := held_out_mask(domain, keys, digits) != held_out).any():
        digits[wrong] = rng.integers(0, domain.num_digits, size=(int(wrong.sum()), 2))
    return digits


def make_haystack(
    domain_index: int, grid: tuple[int, int], *, needle: int | None, rng: np.random.Generator
) -> Haystack:
    """Makes one image. needle: the cell that shows a held-out pair; None makes all cells fit for training.

    The keys of an image differ from each other, so a full 8 x 8 grid shows all 64 keys of the domain.
    """
    domain = DOMAINS[domain_index]
    num_cells = grid[0] * grid[1]
    keys = rng.permutation(NUM_KEYS)[:num_cells]
    digits = draw_digits(domain, keys, held_out=False, rng=rng)
    if needle is not None:
        digits[needle] = draw_digits(domain, keys[needle : needle + 1], held_out=True, rng=rng)[0]
    return Haystack(keys, digits, render(domain_index, grid, keys=keys, digits=digits, rng=rng))


def render(
    domain_index: int,
    grid: tuple[int, int],
    *,
    keys: Int[np.ndarray, " cell"],
    digits: Int[np.ndarray, "cell 2"],
    rng: np.random.Generator,
) -> UInt8[np.ndarray, "height width 3"]:
    """Draws the cells, a clutter line in each, then brightness and noise of the whole image."""
    name = DOMAINS[domain_index].name
    cells = np.empty((len(keys), CELL_PX, CELL_PX, 3), np.float32)
    cells[:] = BACKGROUND[name]
    strip = slice(STRIP_TOP_PX, STRIP_TOP_PX + TILE_PX)
    variants = rng.integers(0, NUM_VARIANTS, size=(2, len(keys)))
    cells[:, strip, :TILE_PX] = key_tiles(domain_index)[keys, variants[0]]
    cells[:, strip, TILE_PX:] = value_tiles(domain_index)[digits[:, 0], digits[:, 1], variants[1]]
    line_row = rng.integers(2, STRIP_TOP_PX, size=len(keys))
    line_row += np.where(rng.random(len(keys)) < 0.5, 0, CELL_PX - STRIP_TOP_PX - 2)
    cells[np.arange(len(keys)), line_row] = rng.integers(40, 220, size=(len(keys), 1, 3))
    if name == "table":
        cells[:, 0], cells[:, :, 0] = INK[name], INK[name]
    rows, columns = grid
    pixels = cells.reshape(rows, columns, CELL_PX, CELL_PX, 3).swapaxes(1, 2)
    pixels = pixels.reshape(rows * CELL_PX, columns * CELL_PX, 3)
    pixels = pixels * np.float32(rng.uniform(*BRIGHTNESS))
    pixels = pixels + NOISE_SIGMA * rng.standard_normal(pixels.shape, dtype=np.float32)
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
