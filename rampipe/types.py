"""The words of the project as types. No I/O, no torch, no Polars: both halves import this.

Glossary: *head* is always a query head, zero-based. *Evidence* is the part of the context that answers the question.
A *region* is one class of key positions; the regions of a prompt are a partition of its keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Region = Literal[
    "evidence",
    "evidence_image_rest",
    "other_visual",
    "question",
    "sink",
    "answer",
    "other_text",
    "learned_sink",
]
REGIONS: tuple[Region, ...] = (
    "evidence",
    "evidence_image_rest",
    "other_visual",
    "question",
    "sink",
    "answer",
    "other_text",
    "learned_sink",
)
"""Column order of the mass columns. `learned_sink` has no key: it is the extra softmax logit of some models."""

QueryGroup = Literal["question", "last", "answer"]
QUERY_GROUPS: tuple[QueryGroup, ...] = ("question", "last", "answer")

NUM_SINK_TOKENS = 4
"""The first tokens of a prompt are the `sink` region, unless they are evidence (arXiv 2309.17453)."""


@dataclass(frozen=True, slots=True, order=True)
class HeadId:
    """One query head: layer by the model's own index, both zero-based."""

    layer: int
    head: int

    def __str__(self) -> str:
        return f"{self.layer}.{self.head}"


@dataclass(frozen=True, slots=True)
class ContextPart:
    """One part of the interleaved context: exactly the field that belongs to `kind` is set."""

    kind: Literal["text", "image", "video"]
    text: str | None = None
    image: int | None = None
    """Index into `Sample.images`."""
    frames: tuple[int, ...] | None = None
    """Indices into `Sample.images`, in time order."""


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An undecoded image, in the layout of the Hugging Face `Image` feature with `decode=False`."""

    bytes: bytes | None
    path: str | None


@dataclass(frozen=True, slots=True)
class Evidence:
    """One piece of evidence: a pixel box of an image, a whole image, or characters of a text part.

    box: (x0, y0, x1, y1) in pixels of the stored image, half open. part: index into `Sample.context`.
    start, stop: characters of that part's text, half open.
    """

    kind: Literal["box", "image", "text"]
    image: int | None = None
    box: tuple[float, float, float, float] | None = None
    part: int | None = None
    start: int | None = None
    stop: int | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """One row of a sample dataset, `schemas/sample.v1.json`."""

    sample_id: str
    domain: str
    context: tuple[ContextPart, ...]
    images: tuple[StoredImage, ...]
    question: str
    answers: tuple[str, ...]
    choices: tuple[str, ...] | None
    evidence: tuple[Evidence, ...]


@dataclass(frozen=True, slots=True)
class Unit:
    """A run of rows of one shard: what one actor call processes and what is committed at once."""

    unit_id: int
    shard: str
    """Path of the shard, relative to the dataset root."""
    row_start: int
    row_stop: int

    @property
    def num_samples(self) -> int:
        """Planned samples: rows of the shard."""
        return self.row_stop - self.row_start

    @property
    def name(self) -> str:
        """File stem of everything that this unit writes."""
        return f"unit-{self.unit_id:06d}"
