"""How the random controls of each arm scatter: what any so many heads do."""

from __future__ import annotations

import math
import statistics
from typing import Any

import polars as pl

from rampipe.heads.ranking import to_frame, to_table


def spread_of_controls(accuracy: pl.DataFrame) -> pl.DataFrame:
    """Table of schema spread.v1: a row per scope, controlled arm and kind of draw, in the order of `accuracy`."""
    draws = accuracy.filter(pl.col("control_of").is_not_null())
    rows = list[dict[str, Any]]()
    for key, part in draws.group_by("scope", "control_of", "strategy", maintain_order=True):
        values = part.get_column("difference").drop_nulls().to_list()
        rows.append(
            {
                **dict(zip(("scope", "arm_id", "strategy"), key, strict=True)),
                "num_arms": len(values),
                "difference_mean": math.fsum(values) / len(values) if values else None,
                "difference_min": min(values, default=None),
                "difference_max": max(values, default=None),
                "difference_sd": statistics.stdev(values) if len(values) > 1 else None,
            }
        )
    return to_frame(to_table(rows, "spread.v1"))
