"""How many times more an evidence token receives than a context token under uniform attention."""

from __future__ import annotations

import polars as pl

from rampipe.heads.metrics.context import num_context
from rampipe.types import QueryGroup

ID = "lift"
MEANING = "Density over that of uniform attention to the context"
SOURCE = "SparseMM; HeadKV"
QUERY: QueryGroup = "question"
COUNTS: tuple[str, ...] = ("num_evidence", "num_tokens", "num_question")
UNDEFINED = "the sample has no evidence"


def expression() -> pl.Expr:
    """0 or more; 1 is uniform."""
    mass = pl.col("mass_evidence").cast(pl.Float64)
    return pl.when(pl.col("num_evidence") > 0).then(mass * num_context() / pl.col("num_evidence"))
