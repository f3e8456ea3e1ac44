"""One row of a sample dataset as a `Sample`, with its parts checked against each other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rampipe.errors import SampleError
from rampipe.types import ContextPart, Evidence, Sample, StoredImage

Row = Mapping[str, Any]

_PART_FIELDS = {"text": "text", "image": "image", "video": "frames"}
_EVIDENCE_FIELDS = {"box": ("image", "box"), "image": ("image",), "text": ("part", "start", "stop")}


def parse_row(row: Row) -> Sample:
    """Sample of one row of `schemas/sample.v1.json`.

    Raises SampleError(stage="read", code="bad_row") when the parts contradict each other: an unknown kind, a field
    that its kind needs and that is null, an index that points at nothing. Geometry is left to the encoder, which knows
    the decoded size.
    """
    sample_id = row["sample_id"]
    images = tuple(StoredImage(bytes=image["bytes"], path=image["path"]) for image in _no_nulls(row, "images"))
    context = tuple(_part(part, index, len(images), sample_id) for index, part in enumerate(_no_nulls(row, "context")))
    if not row["question"].strip():
        raise bad_row(sample_id, "the question is empty: there is no token whose attention could be read")
    choices = row["choices"]
    return Sample(
        sample_id=sample_id,
        domain=row["domain"],
        context=context,
        images=images,
        question=row["question"],
        answers=tuple(_no_nulls(row, "answers")),
        choices=None if choices is None else tuple(_no_nulls(row, "choices")),
        evidence=tuple(
            _evidence(piece, f"evidence[{index}]", context, sample_id)
            for index, piece in enumerate(_no_nulls(row, "evidence"))
        ),
    )


def bad_row(sample_id: str, what: str) -> SampleError:
    """The error of a row whose parts contradict each other."""
    return SampleError(
        f"sample {sample_id}: {what}. Repair the row (see schemas/sample.v1.json). Sample skipped.",
        stage="read",
        code="bad_row",
    )


def _no_nulls(row: Row, column: str) -> Sequence[Any]:
    values = row[column]
    if any(value is None for value in values):
        raise bad_row(row["sample_id"], f"{column}[{list(values).index(None)}] is null")
    return values


def _part(part: Row, index: int, num_images: int, sample_id: str) -> ContextPart:
    kind, where = part["kind"], f"context[{index}]"
    if kind not in _PART_FIELDS:
        raise bad_row(sample_id, f"{where}.kind = {kind!r} is none of {sorted(_PART_FIELDS)}")
    for other, field in _PART_FIELDS.items():
        # Writers that have no null for lists and strings leave an empty one: the same as absent.
        is_set = part[field] is not None and part[field] != [] and not (kind != other and part[field] == "")
        if is_set != (kind == other):
            raise bad_row(sample_id, f"{where} of kind {kind!r} has {field} = {part[field]!r}")
    if kind == "text":
        return ContextPart(kind="text", text=part["text"])
    indices = [part["image"]] if kind == "image" else part["frames"]
    for image in indices:
        if image is None or not 0 <= image < num_images:
            raise bad_row(sample_id, f"{where} shows image {image} of {num_images}")
    if kind == "image":
        return ContextPart(kind="image", image=part["image"])
    return ContextPart(kind="video", frames=tuple(part["frames"]))


def _evidence(piece: Row, where: str, context: tuple[ContextPart, ...], sample_id: str) -> Evidence:
    kind = piece["kind"]
    if kind not in _EVIDENCE_FIELDS:
        raise bad_row(sample_id, f"{where}.kind = {kind!r} is none of {sorted(_EVIDENCE_FIELDS)}")
    for field in _EVIDENCE_FIELDS[kind]:
        if piece[field] is None:
            raise bad_row(sample_id, f"{where} of kind {kind!r} has no {field}")
    if kind == "text":
        return _text_evidence(piece, where, context, sample_id)
    if all(piece["image"] not in (part.image, *(part.frames or ())) for part in context):
        raise bad_row(sample_id, f"{where} lies in image {piece['image']}, which no part of the context shows")
    if kind == "image":
        return Evidence(kind="image", image=piece["image"])
    box = piece["box"]
    if len(box) != 4 or not all(value is not None and math.isfinite(value) for value in box):
        raise bad_row(sample_id, f"{where}.box = {list(box)} is not four finite numbers x0 y0 x1 y1")
    return Evidence(kind="box", image=piece["image"], box=(box[0], box[1], box[2], box[3]))


def _text_evidence(piece: Row, where: str, context: tuple[ContextPart, ...], sample_id: str) -> Evidence:
    part, start, stop = piece["part"], piece["start"], piece["stop"]
    text = context[part].text if 0 <= part < len(context) else None
    if text is None:
        raise bad_row(sample_id, f"{where} lies in part {part}, which is no text part of the context")
    if not 0 <= start < stop <= len(text):
        raise bad_row(sample_id, f"{where} is characters {start} to {stop} of a text of {len(text)}")
    return Evidence(kind="text", part=part, start=start, stop=stop)
