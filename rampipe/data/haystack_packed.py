"""Any dataset of single images as few long contexts, each asked about every image that it holds.

A context is read once for all questions about it (`capture.share_context`), so hundreds of needles cost a few long
prompts. A needle's depth is its image's place: depths are spread evenly instead of chosen.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rampipe.data.check import read_rows
from rampipe.data.haystack import HaystackReport, TokenBudget, check_single_image, image_digest, stack
from rampipe.data.source import Source
from rampipe.errors import DataError, SampleError
from rampipe.tables.shards import write_chunks
from rampipe.types import Sample, StoredImage


@dataclass
class _Needle:
    """An image with all that is asked about it."""

    image: StoredImage
    cost: int
    """Of the image, in what contexts are measured by: images or tokens."""
    room: int
    """What all images of its context may cost together, so that its longest question still fits."""
    samples: list[Sample] = field(default_factory=list[Sample])


def pack(
    samples: Sequence[Sample], *, size: int | TokenBudget, seed: int, report: HaystackReport
) -> Iterator[list[Sample]]:
    """The samples of each context, every sample once. Seed and images decide what lies together.

    size: images of a context beside the one that is asked about, or the tokens that all of them fill. The last context
    is filled up with images that were asked about before. report: receives what was skipped.
    Raises DataError when all images together are fewer than one context takes.
    """
    by_image: dict[bytes, _Needle] = {}
    for sample in samples:
        try:
            check_single_image(sample)
            cost, room = _measure(sample, size)
        except SampleError as error:
            report.skipped[error.code] += 1
            continue
        needle = by_image.setdefault(image_digest(sample.images[0]), _Needle(sample.images[0], cost, room))
        needle.room = min(needle.room, room)
        needle.samples.append(sample)
    order = sorted(by_image, key=lambda digest: hashlib.sha256(f"{seed}/".encode() + digest).digest())
    needles = [by_image[digest] for digest in order]
    start = 0
    while start < len(needles):
        chosen = _fill([*needles[start:], *needles[:start]])
        yield list(_ask(chosen, num_new=len(needles) - start, seed=seed))
        start += len(chosen)


def _ask(needles: Sequence[_Needle], *, num_new: int, seed: int) -> Iterator[Sample]:
    """Nothing is asked about images that come round again."""
    for place, needle in enumerate(needles[:num_new]):
        hay = [other.image for other in needles if other is not needle]
        for sample in needle.samples:
            yield stack(sample, hay, place=place, sample_id=f"{sample.sample_id}@{len(hay)}-packed-{seed}")


def _measure(sample: Sample, size: int | TokenBudget) -> tuple[int, int]:
    if not isinstance(size, TokenBudget):
        return 1, size + 1
    cost = size.cost(sample.images[0])
    return cost, cost + size.left_beside(sample)


def _fill(needles: Sequence[_Needle]) -> list[_Needle]:
    """The first of them that fit into one context."""
    total, room = 0, needles[0].room
    for count, needle in enumerate(needles):
        room = min(room, needle.room)
        total += needle.cost
        if total > room:
            return list(needles[:count])
    if total < room:
        raise DataError(f"all {len(needles)} images together do not fill one context. Ask for a smaller one.")
    return list(needles)


def write_packed(
    source: Source, folder: str | Path, *, size: int | TokenBudget, seed: int, limit: int | None = None
) -> HaystackReport:
    """Write `haystack-*.parquet`, a shard for each context: only questions of one unit share what was read of theirs.

    limit: only the first so many samples. All images stay in memory.

    Raises DataError when the folder holds haystacks already, or as `pack` does.
    """
    samples: list[Sample] = []
    report = HaystackReport(num_images=0)
    for row in read_rows(source, limit=limit):
        if isinstance(row.sample, SampleError):
            report.skipped[row.sample.code] += 1
        else:
            samples.append(row.sample)
    report.num_images = len({image_digest(sample.images[0]) for sample in samples if len(sample.images) == 1})
    write_chunks(_counted(pack(samples, size=size, seed=seed, report=report), report), folder, split="haystack")
    return report


def _counted(contexts: Iterator[list[Sample]], report: HaystackReport) -> Iterator[list[Sample]]:
    for samples in contexts:
        report.num_written += len(samples)
        yield samples
