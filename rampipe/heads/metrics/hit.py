"""How often the one key that a row looks at most is evidence."""

from __future__ import annotations

import polars as pl

from rampipe.types import QueryGroup

ID = "hit"
MEANING = "Share of question rows whose largest key is evidence"
SOURCE = "Retrieval_Head; SparseMM"
QUERY: QueryGroup = "question"
COUNTS: tuple[str, ...] = ()
UNDEFINED = "the sample has no evidence"


def expression() -> pl.Expr:
    """In [0, 1]."""
    return pl.col("hit").cast(pl.Float64)
