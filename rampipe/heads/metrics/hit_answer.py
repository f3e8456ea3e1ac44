"""How often evidence is the one key that a row looks at most, while the answer is predicted.

Retrieval_Head counts such a row only when its key is the token generated next, over the tokens of the needle, and
generates rather than being given the answer; its copy score cannot be had from sums over regions.
"""

from __future__ import annotations

import polars as pl

from rampipe.types import QueryGroup

ID = "hit_answer"
MEANING = "Share of answer-predicting rows whose largest key is evidence"
SOURCE = "after Retrieval_Head, without its comparison of tokens"
QUERY: QueryGroup = "answer"
COUNTS: tuple[str, ...] = ()
UNDEFINED = "the sample has no evidence or no answer, or capture.backend was lse"


def expression() -> pl.Expr:
    """In [0, 1]."""
    return pl.col("hit").cast(pl.Float64)
