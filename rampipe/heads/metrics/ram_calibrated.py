"""Retrieval Attention Mass that is due to the question: what the head does for any question is taken off."""

from __future__ import annotations

import polars as pl

from rampipe.types import QueryGroup

ID = "ram_calibrated"
MEANING = "ram minus the same with the question replaced by N/A"
SOURCE = "QRHead; arXiv 2605.27243 section 3.3"
QUERY: QueryGroup = "question"
COUNTS: tuple[str, ...] = ()
UNDEFINED = "the sample has no evidence, or capture.calibrate was off"


def expression() -> pl.Expr:
    """In [-1, 1]; below 0 the question turns the head away from the evidence."""
    return pl.col("mass_evidence").cast(pl.Float64) - pl.col("mass_evidence_null").cast(pl.Float64)
