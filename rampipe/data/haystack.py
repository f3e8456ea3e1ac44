"""Any dataset of single images as a long-context one: the sample's image among others of the same dataset.

All images are numbered in the prompt and the question names the number of its own. Without that, "What is the total?"
over a stack of receipts would have as many right answers as receipts. What lies where follows from the seed and the
sample's id alone, so the same command writes the same bytes.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from rampipe.data.check import read_rows
from rampipe.data.source import Source
from rampipe.errors import DataError, SampleError
from rampipe.tables.shards import write_shards
from rampipe.types import ContextPart, Evidence, Sample, StoredImage

Pool = Mapping[bytes, StoredImage]
"""Distinct images by the SHA-256 of their bytes, in the order in which they were met."""

CountTokens = Callable[[Sample], int]
"""Tokens of a sample's prompt by a model's own processor and template."""


SHARD_ROWS = 8
"""Rows of a shard: a haystack of 128K tokens is tens of megabytes, and a shard is written at once."""

_SPARE_TOKENS = 16
"""Left free in a budget: the numbers in label and question grow with the place of the needle."""


class TokenBudget:
    """As many distractors as a model's prompt of so many tokens holds. `num_tokens` is never passed."""

    def __init__(self, num_tokens: int, count: CountTokens) -> None:
        self.num_tokens = num_tokens
        self.count = count
        self._costs: dict[bytes, int] = {}
        self._frame: int | None = None
        """Tokens of a prompt that shows nothing."""

    def cost(self, image: StoredImage) -> int:
        """Tokens that an image adds to a prompt, its number included; counted once for every distinct image."""
        digest = image_digest(image)
        if digest not in self._costs:
            probe = Sample("probe", "probe", _numbered(999, 0), (image,), "?", (), None, ())
            if self._frame is None:
                self._frame = self.count(replace(probe, context=(), images=()))
            self._costs[digest] = self.count(probe) - self._frame
        return self._costs[digest]

    def left_beside(self, sample: Sample) -> int:
        """Tokens left for distractors. Raises SampleError (stage read, `haystack_too_small`) where there are none."""
        alone = self.count(stack(sample, (), place=0, sample_id=sample.sample_id))
        left = self.num_tokens - _SPARE_TOKENS - alone
        if left < 0:
            raise SampleError(
                f"sample {sample.sample_id}: has {alone} tokens alone, {self.num_tokens} asked for. Sample skipped.",
                stage="read",
                code="haystack_too_small",
            )
        return left


def collect_pool(samples: Iterable[Sample], *, max_images: int) -> Pool:
    """The first distinct images of single-image samples; they stay in memory. Raises DataError when there is none."""
    pool: dict[bytes, StoredImage] = {}
    for sample in samples:
        if len(sample.images) == 1 and len(pool) < max_images:
            pool.setdefault(image_digest(sample.images[0]), sample.images[0])
    if not pool:
        raise DataError("no sample with one image: a haystack is made of such samples. Choose another dataset.")
    return pool


class HaystackMaker:
    """Makes haystacks of one size from one pool."""

    def __init__(self, pool: Pool, *, size: int | TokenBudget, seed: int) -> None:
        """size: distractors, or the tokens that they fill."""
        self._pool = pool
        self._size = size
        self._seed = seed

    def make(self, sample: Sample, *, depth: float) -> Sample:
        """The sample's image at a depth between 0 (before all distractors) and 1 (behind them).

        Raises SampleError (stage read): `not_single_image`, or `haystack_too_small` when its image alone has more
        tokens than asked for. Raises DataError when the pool holds too few other images.
        """
        check_single_image(sample)
        if not 0 <= depth <= 1:
            raise DataError(f"depth {depth:g}: not between 0 (first) and 1 (last).")
        hay = self._choose(sample)
        name = f"{sample.sample_id}@{len(hay)}-{depth:g}-{self._seed}"
        return stack(sample, hay, place=round(depth * len(hay)), sample_id=name)

    def _choose(self, sample: Sample) -> list[StoredImage]:
        """Distractors of one sample in an order that seed and sample id decide."""
        own = image_digest(sample.images[0])
        others = sorted(
            (digest for digest in self._pool if digest != own), key=lambda digest: self._rank(sample, digest)
        )
        if isinstance(self._size, TokenBudget):
            return self._fill(sample, [self._pool[digest] for digest in others], self._size)
        if len(others) < self._size:
            raise DataError(f"{self._size} distractors asked for, {len(others)} other images there. Ask for fewer.")
        return [self._pool[digest] for digest in others[: self._size]]

    def _rank(self, sample: Sample, digest: bytes) -> bytes:
        return hashlib.sha256(f"{self._seed}/{sample.sample_id}/".encode() + digest).digest()

    def _fill(self, sample: Sample, others: Sequence[StoredImage], budget: TokenBudget) -> list[StoredImage]:
        """As many of `others`, in order, as fit."""
        left = budget.left_beside(sample)
        chosen: list[StoredImage] = []
        for image in others:
            left -= budget.cost(image)
            if left < 0:
                return chosen
            chosen.append(image)
        raise DataError(
            f"{budget.num_tokens} tokens asked for: all {len(chosen)} other images leave {left} unfilled. Ask for "
            "fewer, or raise the number of images in the pool."
        )


def check_single_image(sample: Sample) -> None:
    """Raises SampleError (stage read, `not_single_image`)."""
    if len(sample.images) != 1 or any(part.kind == "video" for part in sample.context):
        raise SampleError(
            f"sample {sample.sample_id}: has {len(sample.images)} images, not one. Sample skipped.",
            stage="read",
            code="not_single_image",
        )


def stack(sample: Sample, hay: Sequence[StoredImage], *, place: int, sample_id: str) -> Sample:
    """The sample's own parts at one place among numbered distractors; its evidence moves with them."""
    context: list[ContextPart] = []
    for image in range(place):
        context += _numbered(image + 1, image)
    context.append(ContextPart("text", text=f"Image {place + 1}: "))
    first_part = len(context)
    context += [replace(part, image=None if part.image is None else place) for part in sample.context]
    for image in range(place + 1, len(hay) + 1):
        context += _numbered(image + 1, image)
    return replace(
        sample,
        sample_id=sample_id,
        context=tuple(context),
        images=(*hay[:place], sample.images[0], *hay[place:]),
        question=f"About image {place + 1}: {sample.question}",
        evidence=tuple(_moved(piece, image=place, parts=first_part) for piece in sample.evidence),
    )


def _moved(piece: Evidence, *, image: int, parts: int) -> Evidence:
    if piece.kind == "text":
        return replace(piece, part=None if piece.part is None else piece.part + parts)
    return replace(piece, image=image)


def _numbered(number: int, image: int) -> tuple[ContextPart, ContextPart]:
    return ContextPart("text", text=f"Image {number}: "), ContextPart("image", image=image)


def image_digest(image: StoredImage) -> bytes:
    """SHA-256 of the stored bytes: images with the same are one."""
    return hashlib.sha256(image.bytes or b"").digest()


@dataclass
class HaystackReport:
    """What `write_haystacks` did. skipped: samples by code of the reason."""

    num_images: int
    num_written: int = 0
    skipped: Counter[str] = field(default_factory=Counter[str])


def write_haystacks(  # noqa: PLR0913 - what to read, where to write, and four choices of the user
    source: Source,
    folder: str | Path,
    *,
    size: int | TokenBudget,
    depths: Sequence[float],
    seed: int,
    limit: int | None = None,
    max_images: int = 1024,
) -> HaystackReport:
    """Write `haystack-*.parquet`: every sample at every depth, in order. Distractors come from the whole split.

    limit: only the first so many samples become needles. max_images: the pool, which stays in memory.
    Raises DataError when the folder holds haystacks already, or as `HaystackMaker` does.
    """
    rows = (row.sample for row in read_rows(source, limit=None))
    pool = collect_pool((sample for sample in rows if isinstance(sample, Sample)), max_images=max_images)
    maker, report = HaystackMaker(pool, size=size, seed=seed), HaystackReport(num_images=len(pool))
    write_shards(_all(maker, source, report, depths, limit), folder, split="haystack", rows_per_shard=SHARD_ROWS)
    return report


def _all(
    maker: HaystackMaker, source: Source, report: HaystackReport, depths: Sequence[float], limit: int | None
) -> Iterator[Sample]:
    for row in read_rows(source, limit=limit):
        try:
            if isinstance(row.sample, SampleError):
                raise row.sample
            for depth in depths:
                made = maker.make(row.sample, depth=depth)
                report.num_written += 1
                yield made
        except SampleError as error:
            report.skipped[error.code] += 1
