"""The generator: needle samples of a domain, the same arguments always giving the same bytes."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from rampipe.errors import ConfigError
from rampipe.testbed.domains import DOMAIN_NAMES, DOMAINS, QUESTION_TEMPLATES, SPLITS
from rampipe.testbed.haystack import CELL_PX, make_haystack
from rampipe.types import ContextPart, Evidence, Sample, StoredImage

FULL_GRID = (8, 8)
MAX_CELLS = 64


def generate_samples(
    *, domain: str, split: str, count: int, seed: int, grid: tuple[int, int] | None = None
) -> Iterator[Sample]:
    """Yields needle samples: one image, a question that names one cell, that cell as evidence.

    domain: a name of DOMAINS. split: one of SPLITS. grid: rows and columns, None for 8 x 8.
    Sample i depends on the arguments but not on count. Needles of `train` are pairs that training may show, needles of
    `select` and `eval` are held-out pairs; the other cells are always pairs that training may show.
    Raises ConfigError for an unknown domain or split, or a grid of more than 64 cells (a domain has 64 keys).
    """
    rows, columns = grid or FULL_GRID
    if domain not in DOMAIN_NAMES:
        raise ConfigError(f"testbed domain {domain!r}: allowed are {', '.join(DOMAIN_NAMES)}. Name one of them.")
    if split not in SPLITS:
        raise ConfigError(f"testbed split {split!r}: allowed are {', '.join(SPLITS)}. Name one of them.")
    if min(rows, columns) < 2 or rows * columns > MAX_CELLS:
        raise ConfigError(f"testbed grid {rows} x {columns}: allowed are 2 x 2 up to 64 cells. Ask for fewer cells.")
    for index in range(count):
        yield make_sample(domain=domain, split=split, seed=seed, index=index, grid=(rows, columns))


def make_sample(*, domain: str, split: str, seed: int, index: int, grid: tuple[int, int]) -> Sample:
    """Makes one sample of the stream that `generate_samples` yields."""
    domain_index = DOMAIN_NAMES.index(domain)
    rng = np.random.default_rng([seed, SPLITS.index(split), domain_index, index])
    needle = int(rng.integers(grid[0] * grid[1]))
    template = QUESTION_TEMPLATES[int(rng.integers(len(QUESTION_TEMPLATES)))]
    haystack = make_haystack(domain_index, grid, needle=None if split == "train" else needle, rng=rng)
    word = DOMAINS[domain_index].key_words[int(haystack.keys[needle])]
    first, second = haystack.digits[needle]
    return Sample(
        sample_id=f"{domain}-{split}-{grid[0]}x{grid[1]}-{seed}-{index:06d}",
        domain=domain,
        context=(ContextPart(kind="image", image=0),),
        images=(StoredImage(bytes=encode_png(haystack.pixels), path=None),),
        question=template.format(key=word),
        answers=(f"{first} {second}",),
        choices=None,
        evidence=(Evidence(kind="box", image=0, box=cell_box(needle, num_columns=grid[1])),),
    )


def cell_box(cell: int, *, num_columns: int) -> tuple[float, float, float, float]:
    """The pixels of a cell, half open, as (x0, y0, x1, y1)."""
    row, column = divmod(cell, num_columns)
    x0, y0 = column * CELL_PX, row * CELL_PX
    return (float(x0), float(y0), float(x0 + CELL_PX), float(y0 + CELL_PX))


def encode_png(pixels: UInt8[np.ndarray, "height width 3"]) -> bytes:
    """Encodes an image without loss. Light compression: noise does not compress, and this takes most of the time."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()
