"""Retrieval Attention Mass beyond what uniform attention to the context would give."""

from __future__ import annotations

import polars as pl

from rampipe.heads.metrics.context import num_context
from rampipe.types import QueryGroup

ID = "excess"
MEANING = "Evidence mass minus the share of evidence in the context"
SOURCE = "SparseMM; HeadKV"
QUERY: QueryGroup = "question"
COUNTS: tuple[str, ...] = ("num_evidence", "num_tokens", "num_question")
UNDEFINED = "the sample has no evidence"


def expression() -> pl.Expr:
    """In [-1, 1]; 0 is uniform."""
    mass = pl.col("mass_evidence").cast(pl.Float64)
    return pl.when(pl.col("num_evidence") > 0).then(mass - pl.col("num_evidence") / num_context())
