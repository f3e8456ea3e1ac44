"""Looks through a sample dataset without a model: what is in it, and what would become an error row."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from rampipe.data.boxes import check_box, image_size
from rampipe.data.source import ReadResult, Source
from rampipe.errors import SampleError
from rampipe.types import Sample

Size = tuple[int, int]


@dataclass
class CheckReport:
    """Counts of one dataset. Images are judged by their headers; a file cut short is found when it is decoded."""

    num_samples: int = 0
    num_ok: int = 0
    errors: Counter[str] = field(default_factory=Counter[str])
    """Error rows by code."""
    first_messages: dict[str, str] = field(default_factory=dict[str, str])
    """Message of the first error row of each code."""
    domains: Counter[str] = field(default_factory=Counter[str])
    evidence: Counter[str] = field(default_factory=Counter[str])
    """Pieces of evidence by kind."""
    num_without_evidence: int = 0
    num_without_answers: int = 0
    num_images: list[int] = field(default_factory=list[int])
    """Images of each sample."""
    num_characters: list[int] = field(default_factory=list[int])
    """Characters of context and question of each sample."""
    sizes: list[Size] = field(default_factory=list[Size])
    """Width and height of each image in pixels."""
    box_fracs: list[float] = field(default_factory=list[float])
    """Share of its image that each evidence box covers, before clipping."""

    @property
    def num_errors(self) -> int:
        """Samples that would become error rows."""
        return sum(self.errors.values())


def read_rows(source: Source, *, limit: int | None) -> Iterator[ReadResult]:
    """Rows of all shards in order, at most `limit`. Raises DataError when the dataset as a whole is unusable."""
    left = limit
    for shard in source.shards():
        num_rows = shard.num_rows if left is None else min(shard.num_rows, left)
        yield from source.read(shard.path, 0, num_rows)
        left = None if left is None else left - num_rows


def check_row(report: CheckReport, row: ReadResult) -> Sample | None:
    """Add one row to the report. Returns the sample when nothing is wrong with it."""
    report.num_samples += 1
    if isinstance(row.sample, SampleError):
        _count_error(report, row.sample)
        return None
    sample = row.sample
    try:
        sizes = [
            image_size(stored, name=f"sample {sample.sample_id}: image {index}")
            for index, stored in enumerate(sample.images)
        ]
        fracs = list(_box_fracs(sample, sizes))
    except SampleError as error:
        _count_error(report, error)
        return None
    report.num_ok += 1
    report.domains[sample.domain] += 1
    report.evidence.update(piece.kind for piece in sample.evidence)
    report.num_without_evidence += not sample.evidence
    report.num_without_answers += not sample.answers
    report.num_images.append(len(sizes))
    report.num_characters.append(len(sample.question) + sum(len(part.text or "") for part in sample.context))
    report.sizes += sizes
    report.box_fracs += fracs
    return sample


def report_lines(report: CheckReport) -> Iterator[str]:
    """The report as lines for a terminal."""
    yield f"samples: {report.num_ok} ok, {report.num_errors} errors of {report.num_samples}"
    for code, count in report.errors.most_common():
        yield f"  {code}: {count}, the first: {report.first_messages[code]}"
    if not report.num_ok:
        return
    yield f"domains: {', '.join(f'{name} {count}' for name, count in sorted(report.domains.items()))}"
    pieces = ", ".join(f"{kind} {report.evidence[kind]}" for kind in ("box", "image", "text"))
    yield f"evidence: {pieces}; samples without evidence: {report.num_without_evidence}"
    yield f"samples without answers: {report.num_without_answers}"
    yield f"images a sample: {_spread(report.num_images)}"
    yield f"characters a sample: {_spread(report.num_characters)}"
    if report.sizes:
        yield f"image width: {_spread([size[0] for size in report.sizes])} px"
        yield f"image height: {_spread([size[1] for size in report.sizes])} px"
    if report.box_fracs:
        yield f"share of its image that a box covers: {statistics.median(report.box_fracs):.2%} in the median"


def _box_fracs(sample: Sample, sizes: Sequence[Size]) -> Iterator[float]:
    for index, piece in enumerate(sample.evidence):
        if piece.box is not None and piece.image is not None:
            size = sizes[piece.image]
            check_box(piece.box, size=size, name=f"sample {sample.sample_id}: evidence[{index}] in image {piece.image}")
            x0, y0, x1, y1 = piece.box
            yield (x1 - x0) * (y1 - y0) / (size[0] * size[1])


def _count_error(report: CheckReport, error: SampleError) -> None:
    report.errors[error.code] += 1
    report.first_messages.setdefault(error.code, str(error))


def _spread(values: Sequence[int]) -> str:
    return f"{min(values)} to {max(values)}, {statistics.median(values):g} in the median"
