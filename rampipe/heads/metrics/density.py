"""Retrieval Attention Mass per token of evidence: comparable between small and large evidence."""

from __future__ import annotations

import polars as pl

from rampipe.types import QueryGroup

ID = "density"
MEANING = "Evidence mass per evidence token"
SOURCE = "SparseMM; HeadKV"
QUERY: QueryGroup = "question"
COUNTS: tuple[str, ...] = ("num_evidence",)
UNDEFINED = "the sample has no evidence"


def expression() -> pl.Expr:
    """In [0, 1], share of attention per token."""
    return pl.when(pl.col("num_evidence") > 0).then(pl.col("mass_evidence").cast(pl.Float64) / pl.col("num_evidence"))
