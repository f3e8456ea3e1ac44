"""What a sample asked, where a table of the run has it: the samples that were drawn for it, and the examples."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import polars as pl

from rampipe.errors import DataError
from rampipe.report.attention_map import evidence_picture
from rampipe.report.drawn import Drawn, pictured
from rampipe.report.examples import read_example
from rampipe.report.sources import Sources


@dataclass(frozen=True, slots=True)
class Asked:
    """reference: first accepted answer; null when the sample has none. picture: null when it cannot be decoded."""

    question: str
    reference: str | None
    picture: Drawn | None


def asked(sources: Sources, sample_ids: Collection[str]) -> dict[str, Asked]:
    """Question, reference answer and first image with evidence by sample; those that are in no table are left out."""
    drawn = [table for stage in ("asked", "examples") if (table := sources.table(stage, "examples")) is not None]
    if not drawn:
        return {}
    table = pl.concat(drawn)
    has_box = pl.col("evidence_boxes").list.len() > 0
    rows = table.filter(pl.col("sample_id").is_in(sorted(sample_ids))).sort(has_box, descending=True)
    first = rows.unique("sample_id", keep="first", maintain_order=True)
    return {row["sample_id"]: _read(row, index) for index, row in enumerate(first.iter_rows(named=True), start=1)}


def _read(row: dict[str, object], index: int) -> Asked:
    example = read_example(row, {})
    try:
        png = evidence_picture(example)
    except DataError:
        return Asked(example.question, example.answer, None)
    alt = f"Image of sample {example.sample_id}, evidence outlined"
    return Asked(example.question, example.answer, pictured(f"answer-{index}", png, alt=alt, caption=""))
