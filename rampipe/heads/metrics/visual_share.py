"""Of what a head gives to visual tokens, the share on the evidence.

Meant for visual evidence: text evidence counts as if it were visual.
"""

from __future__ import annotations

import polars as pl

from rampipe.types import QueryGroup

ID = "visual_share"
MEANING = "Evidence mass as a share of all visual mass"
SOURCE = "VERA"
QUERY: QueryGroup = "question"
COUNTS: tuple[str, ...] = ()
UNDEFINED = "the sample has no evidence, or the head gives nothing to visual tokens"


def expression() -> pl.Expr:
    """In [0, 1]."""
    evidence = pl.col("mass_evidence").cast(pl.Float64)
    visual = (
        evidence + pl.col("mass_evidence_image_rest").cast(pl.Float64) + pl.col("mass_other_visual").cast(pl.Float64)
    )
    return pl.when(visual > 0).then(evidence / visual)
