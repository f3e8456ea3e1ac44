"""Samples with pixels and evidence, alike for all families."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

import numpy as np
from PIL import Image

from rampipe.types import ContextPart, Evidence, Sample, StoredImage

SIZES = ((200, 84), (60, 170), (40, 30))
"""(width, height): wide, tall, tiny."""


def noise(width: int, height: int, *, seed: int) -> Image.Image:
    """Coarse noise: pixels of a square of 4 agree, so that resizing leaves contrast."""
    rng = np.random.default_rng(seed)
    cells = rng.integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), dtype=np.uint8)
    return Image.fromarray(cells.repeat(4, axis=0).repeat(4, axis=1)[:height, :width])


def store(image: Image.Image) -> StoredImage:
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return StoredImage(buffer.getvalue(), None)


def make_sample(
    name: str,
    context: Sequence[ContextPart],
    images: Sequence[Image.Image] = (),
    *,
    evidence: Sequence[Evidence] = (),
    question: str = "What is it?",
) -> Sample:
    stored = tuple(store(image) for image in images)
    return Sample(name, "made", tuple(context), stored, question, ("Yes",), None, tuple(evidence))


def one_image(*, question: str = "What is it?") -> Sample:
    image = noise(*SIZES[0], seed=0)
    box = Evidence("box", image=0, box=(20.0, 10.0, 120.0, 60.0))
    parts = [ContextPart("text", text="Look at this. "), ContextPart("image", image=0)]
    return make_sample("one", parts, [image], evidence=[box], question=question)


def several_images() -> Sample:
    images = [noise(*size, seed=index) for index, size in enumerate(SIZES)]
    parts = [
        ContextPart("image", image=1),
        ContextPart("text", text="The first was tall, now the wide one: "),
        ContextPart("image", image=0),
        ContextPart("image", image=2),
    ]
    evidence = [Evidence("box", image=1, box=(5.0, 30.0, 55.0, 140.0)), Evidence("image", image=2)]
    return make_sample("several", parts, images, evidence=evidence)


def only_text(*, question: str = "Which code?") -> Sample:
    text = "The code of the door is 4711. The sun shines."
    start = text.index("4711")
    evidence = [Evidence("text", part=0, start=start, stop=start + 4)]
    return make_sample("text", [ContextPart("text", text=text)], evidence=evidence, question=question)


def one_video(*, num_frames: int = 3) -> Sample:
    """An odd number of frames, of which the second holds the evidence, between two texts."""
    frames = [noise(96, 64, seed=index) for index in range(num_frames)]
    parts = [
        ContextPart("text", text="Watch this. "),
        ContextPart("video", frames=tuple(range(num_frames))),
        ContextPart("text", text="That was all."),
    ]
    return make_sample("video", parts, frames, evidence=[Evidence("box", image=1, box=(10.0, 10.0, 60.0, 50.0))])
