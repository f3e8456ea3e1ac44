"""How many tokens the context has, for metrics that compare with uniform attention."""

from __future__ import annotations

import polars as pl


def num_context() -> pl.Expr:
    """Prompt tokens without the question: evidence, haystack, template and sink. Float64, at least 1 with evidence."""
    return (pl.col("num_tokens") - pl.col("num_question")).cast(pl.Float64)
