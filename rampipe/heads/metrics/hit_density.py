"""How often evidence is looked at most while the answer is predicted, per token of it.

SparseMM adds 1 over the box's patches for such a row, when the token generated is part of one text region of the
image alone; here the answer is given and every one of its rows counts, as a mean in place of their sum.
"""

from __future__ import annotations

import polars as pl

from rampipe.types import QueryGroup

ID = "hit_density"
MEANING = "Share of answer-predicting rows whose largest key is evidence, per evidence token"
SOURCE = "after SparseMM, with the reference answer in place of text that was read"
QUERY: QueryGroup = "answer"
COUNTS: tuple[str, ...] = ("num_evidence",)
UNDEFINED = "the sample has no evidence or no answer, or capture.backend was lse"


def expression() -> pl.Expr:
    """In [0, 1], share of rows per token."""
    return pl.when(pl.col("num_evidence") > 0).then(pl.col("hit").cast(pl.Float64) / pl.col("num_evidence"))
