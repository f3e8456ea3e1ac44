"""What a head gives to the needle with its largest keys, while the answer is produced.

HeadKV's retrieval-reasoning score R2 sums over the steps of generation the attention on those of the n largest keys
that lie in the needle, over n, the needle's length. Here the steps are those of the reference answer, which is given.
"""

from __future__ import annotations

import polars as pl

from rampipe.types import QueryGroup

ID = "r2_score"
MEANING = (
    "Attention of answer-predicting rows on evidence tokens among their n largest keys, over n, the number of evidence "
    "tokens, summed"
)
SOURCE = "HeadKV, arXiv 2410.19258, with the reference answer in place of a generated one"
QUERY: QueryGroup = "answer"
COUNTS: tuple[str, ...] = ("num_answer", "num_evidence")
UNDEFINED = "the sample has no evidence, or capture.peer_scores was off"


def expression() -> pl.Expr:
    """Share of attention per token, over all rows: 0 to the number of rows."""
    mass = pl.col("mass_evidence_top").cast(pl.Float64)
    return pl.when(pl.col("num_evidence") > 0).then(mass * pl.col("num_answer") / pl.col("num_evidence"))
