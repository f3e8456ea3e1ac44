"""The section of the examples: a few samples with the attention of the first CoRe heads over their images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from rampipe.errors import DataError
from rampipe.report.attention_map import Example, attention_map
from rampipe.report.drawn import Drawn, pictured
from rampipe.report.sources import Sources
from rampipe.types import HeadId

MAX_SAMPLES = 3
MAX_MAPS = 3


@dataclass(frozen=True, slots=True)
class ExampleSample:
    """One sample with its maps; `problems` are maps that could not be drawn, in words."""

    sample_id: str
    domain: str
    question: str
    answer: str
    prediction: str
    figures: tuple[Drawn, ...]
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Examples:
    """`missing`: why there are none, or empty."""

    missing: str = ""
    samples: tuple[ExampleSample, ...] = ()


def examples_section(sources: Sources) -> Examples:
    """The first samples of the examples table, in its order, each with its first heads."""
    table = sources.table("examples", "examples")
    if table is None:
        return Examples(
            "No examples: examples/examples.parquet was not made. It needs the model: "
            "run `python -m jobs.pipeline --config FILE.toml` with report.examples above 0."
        )
    if table.is_empty():
        return Examples("The examples table is empty: report.examples was 0, or no sample with evidence was left.")
    sample_ids = table.get_column("sample_id").unique(maintain_order=True).head(MAX_SAMPLES).to_list()
    masses = sources.evidence_masses(sample_ids)
    samples = [
        _sample(table.filter(pl.col("sample_id") == sample_id), masses, index)
        for index, sample_id in enumerate(sample_ids, start=1)
    ]
    return Examples("", tuple(samples))


def _sample(rows: pl.DataFrame, masses: dict[tuple[str, str, HeadId], float], index: int) -> ExampleSample:
    chosen = [read_example(row, masses) for row in _first_heads(rows).iter_rows(named=True)]
    shown, problems = list[Drawn](), list[str]()
    for example in chosen:
        name = f"example-{index}-head-{example.head.layer}-{example.head.head}"
        try:
            png = attention_map(example)
        except DataError as error:
            problems.append(str(error))
        else:
            shown.append(pictured(name, png, alt=f"Attention map of {example.title}", caption=example.title))
    first = chosen[0]
    return ExampleSample(
        sample_id=first.sample_id,
        domain=first.domain,
        question=first.question,
        answer=first.answer or "not given",
        prediction="not predicted" if first.prediction is None else first.prediction,
        figures=tuple(shown),
        problems=tuple(problems),
    )


def _first_heads(rows: pl.DataFrame) -> pl.DataFrame:
    """One row per head, in the order of the table: of several images the one that holds evidence, else the first."""
    has_box = pl.col("evidence_boxes").list.len() > 0
    ordered = rows.with_row_index("place").sort(has_box, "place", descending=[True, False])
    return ordered.unique(["layer", "head"], keep="first", maintain_order=True).sort("place").head(MAX_MAPS)


def read_example(row: dict[str, Any], masses: dict[tuple[str, str, HeadId], float]) -> Example:
    """A row of the examples table; masses: on the evidence by sample, query and head, as far as they are known."""
    head = HeadId(row["layer"], row["head"])
    return Example(
        sample_id=row["sample_id"],
        domain=row["domain"],
        question=row["question"],
        answer=row["answer"],
        prediction=row["prediction"],
        head=head,
        query=row["query"],
        image=row["image"],
        image_png=row["image_png"],
        evidence_boxes=_boxes(row["evidence_boxes"]),
        token_boxes=_boxes(row["token_boxes"]),
        weights=np.array(row["weights"], dtype=np.float64),
        mass_evidence=masses.get((row["sample_id"], row["query"], head)),
    )


def _boxes(rows: list[list[float]]) -> np.ndarray:
    """Boxes as an array; a ragged list gives a shape that `attention_map` refuses."""
    if not rows:
        return np.zeros((0, 4))
    return np.array(rows, dtype=np.float64) if {len(row) for row in rows} == {4} else np.zeros((0, 0))
