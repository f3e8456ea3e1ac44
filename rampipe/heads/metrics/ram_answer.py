"""Retrieval Attention Mass while the reference answer is produced, teacher-forced."""

from __future__ import annotations

import polars as pl

from rampipe.types import QueryGroup

ID = "ram_answer"
MEANING = "Evidence mass, mean over the rows that predict the reference answer"
SOURCE = "context-denoising-training; HeadKV"
QUERY: QueryGroup = "answer"
COUNTS: tuple[str, ...] = ()
UNDEFINED = "the sample has no evidence"


def expression() -> pl.Expr:
    """In [0, 1]."""
    return pl.col("mass_evidence").cast(pl.Float64)
