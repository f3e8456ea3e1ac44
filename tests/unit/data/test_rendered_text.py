"""A text as a picture: all of it in sight, the same bytes each time, other bytes for another text."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from rampipe.data.rendered_text import render_text


def test_long_texts_wrap_and_no_ink_touches_the_edge():
    short = render_text("The key is oak.", path="a.png")
    long = render_text("The key is oak and it was found late at night. " * 5, path="a.png")
    sizes = [Image.open(io.BytesIO(made.bytes)).size for made in (short, long)]
    assert sizes[1][1] > 2 * sizes[0][1]
    assert sizes[1][0] < 1000
    for made in (short, long):
        grey = np.asarray(Image.open(io.BytesIO(made.bytes)).convert("L"))
        assert grey.min() < 64
        edge = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
        assert edge.min() == 255


def test_bytes_follow_the_text_alone():
    first, again, other = (render_text(text, path="a.png") for text in ("oak", "oak", "elm"))
    assert first == again
    assert first.bytes != other.bytes
