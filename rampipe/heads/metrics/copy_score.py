"""How much of the needle a head copies while the answer is produced.

Retrieval_Head's retrieval score, |g & k| / |k|: k are the needle's tokens, g those that were, at some step, both the
head's largest key and the token that was produced. Here the reference answer is given, not generated, and every sample
counts, as no generated answer can miss the needle. Their code counts steps over the needle's length, which is the same
as long as no token repeats.
"""

from __future__ import annotations

import polars as pl

from rampipe.types import QueryGroup

ID = "copy_score"
MEANING = "Share of the distinct tokens of the text evidence that the head copies into the reference answer"
SOURCE = "Retrieval_Head, arXiv 2404.15574, with the reference answer in place of a generated one"
QUERY: QueryGroup = "answer"
COUNTS: tuple[str, ...] = ()
UNDEFINED = "the sample has no text evidence, or capture.peer_scores was off"


def expression() -> pl.Expr:
    """In [0, 1]; at most the answer's share of the evidence."""
    return pl.col("copied").cast(pl.Float64)
