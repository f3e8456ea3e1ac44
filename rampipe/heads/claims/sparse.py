"""Sparse: half of the retrieval mass sits in few heads."""

from __future__ import annotations

import polars as pl

from rampipe.heads.claims.claim import Claim, decide
from rampipe.heads.rank import Ranking
from rampipe.heads.scopes import OVERALL
from rampipe.heads.verdict.words import percent

FEW_FRAC = 0.10
"""Means that scatter like exponential noise put half of their sum into 19 % of heads; equal ones into 50 %."""


def sparse(ranking: Ranking) -> Claim:
    """From the concentration over all samples."""
    row = ranking.concentration.filter(pl.col("scope") == OVERALL).row(0, named=True)
    metric = row["metric"]
    if row["half_mass_frac"] is None:
        return Claim("sparse", None, "", (f"no head has a positive mean of {metric}",))
    told = (
        f"half of the {metric} mass sits in {percent(row['half_mass_frac'])} of heads "
        f"({row['half_mass_heads']} of {row['num_heads']})"
    )
    many = row["half_mass_frac"] > FEW_FRAC
    return decide("sparse", told, against=[f"few would be at most {percent(FEW_FRAC)}"] if many else [], unknown=[])
