"""How often a head looks at the box that is read, while it is read.

SparseMM adds 1 / patches of the box for each step whose largest key lies in the box of the one text region that holds
the produced token. A sample here names the boxes that hold its answer and not what is written in each, so any of them
will do; the reference answer is given, not generated.
"""

from __future__ import annotations

import polars as pl

from rampipe.types import QueryGroup

ID = "ocr_hit"
MEANING = "Answer-predicting rows whose largest key is visual evidence, each 1 over the tokens of that box, summed"
SOURCE = "SparseMM, arXiv 2506.05344, with the reference answer in place of a generated one"
QUERY: QueryGroup = "answer"
COUNTS: tuple[str, ...] = ("num_answer",)
UNDEFINED = "the sample has no visual evidence, or capture.peer_scores was off"


def expression() -> pl.Expr:
    """Rows per token: 0 to the number of rows."""
    return pl.col("hit_per_patch").cast(pl.Float64) * pl.col("num_answer")
