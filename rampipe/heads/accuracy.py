"""How often the model answered right, per scope: context for a ranking, not a part of it."""

from __future__ import annotations

import polars as pl

from rampipe.heads.scopes import OVERALL


def accuracy(samples: pl.LazyFrame) -> pl.DataFrame:
    """scope, num_samples, num_predicted, num_correct, accuracy: overall first, then domains by name.

    accuracy: num_correct / num_predicted, null without a prediction; samples without one are counted, not wrong.
    """
    counts = (
        pl.len().cast(pl.Int64).alias("num_samples"),
        pl.col("correct").count().cast(pl.Int64).alias("num_predicted"),
        pl.col("correct").sum().cast(pl.Int64).alias("num_correct"),
    )
    every = samples.select(pl.lit(OVERALL).alias("scope"), *counts)
    domains = samples.group_by(pl.col("domain").alias("scope")).agg(*counts).sort("scope")
    share = pl.when(pl.col("num_predicted") > 0).then(pl.col("num_correct") / pl.col("num_predicted"))
    return pl.concat([every, domains]).with_columns(share.alias("accuracy")).collect()
