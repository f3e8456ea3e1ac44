"""Retrieval Attention Mass: what the question's tokens give to the evidence."""

from __future__ import annotations

import polars as pl

from rampipe.types import QueryGroup

ID = "ram"
MEANING = "Evidence mass, mean over the question rows"
SOURCE = "arXiv 2606.05843; 2605.27243 eq. 1; QRHead"
QUERY: QueryGroup = "question"
COUNTS: tuple[str, ...] = ()
UNDEFINED = "the sample has no evidence"


def expression() -> pl.Expr:
    """In [0, 1]."""
    return pl.col("mass_evidence").cast(pl.Float64)
