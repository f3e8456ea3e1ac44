"""Retrieval Attention Mass of the one row that predicts the first answer token."""

from __future__ import annotations

import polars as pl

from rampipe.types import QueryGroup

ID = "ram_last"
MEANING = "Evidence mass of the last prompt row"
SOURCE = "Elastic-Attention eq. 9"
QUERY: QueryGroup = "last"
COUNTS: tuple[str, ...] = ()
UNDEFINED = "the sample has no evidence"


def expression() -> pl.Expr:
    """In [0, 1]."""
    return pl.col("mass_evidence").cast(pl.Float64)
