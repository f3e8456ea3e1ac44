"""The rows of the derived tables of one scope."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from jaxtyping import Float64

from rampipe.config import RankConfig
from rampipe.heads.bootstrap import bootstrap
from rampipe.heads.classes import head_class, num_core, rank_order
from rampipe.heads.concentration import concentrate
from rampipe.heads.scopes import Scope
from rampipe.heads.stability import split_half
from rampipe.tables.schema import load_schema

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ScopeRows:
    """What one scope adds to each table."""

    ranking: list[Row]
    concentration: Row
    stability: Row


def rank_scope(scope: Scope, metric: str, config: RankConfig) -> ScopeRows:
    """Rank the heads of one scope. Rows of `ranking` are sorted by rank, heads without a mean last."""
    means = scope.means
    label = {"scope": scope.name, "metric": metric}
    rows = _ranking_rows(scope, means, config)
    classes = [row["class"] for row in rows]
    found = concentrate(means)
    concentration = {
        "num_samples": scope.num_samples,
        "num_null": scope.num_null,
        "num_clusters": scope.num_contexts,
        "num_heads": len(scope.heads),
        "num_core": classes.count("core"),
        "num_contextual": classes.count("contextual"),
        "positive_mass": found.positive,
        "half_mass_heads": found.half_heads,
        "half_mass_frac": None if found.half_heads is None else found.half_heads / len(scope.heads),
        "gini": found.gini,
    }
    stability = {"num_clusters": scope.num_contexts, **asdict(split_half(scope, config))}
    return ScopeRows([label | row for row in rows], label | concentration, label | stability)


def _ranking_rows(scope: Scope, means: Float64[np.ndarray, " head"], config: RankConfig) -> list[Row]:
    size = num_core(config.k_frac, len(scope.heads))
    resampled = bootstrap(scope, config)
    order = rank_order(means)
    columns = (means, resampled.low, resampled.high, resampled.selection, scope.elsewhere)
    numbers = zip(*([_null(value) for value in column[order].tolist()] for column in columns), strict=True)
    counts = scope.num_defined[order].tolist()
    shares = zip(*_shares(means[order]), strict=True)
    rows = list[Row]()
    for place, (index, count) in enumerate(zip(order.tolist(), counts, strict=True), start=1):
        mean, low, high, selection, elsewhere = next(numbers)
        share, cumulative = next(shares)
        rank = None if mean is None else place
        rows.append(
            {
                "layer": scope.heads[index].layer,
                "head": scope.heads[index].head,
                "num_samples": count,
                "num_null": scope.num_samples - count,
                "mean": mean,
                "low": low,
                "high": high,
                "rank": rank,
                "selection_probability": selection,
                "share_of_positive_mass": share,
                "cumulative_share": cumulative,
                "mass_elsewhere": elsewhere,
                "class": head_class(rank, elsewhere, size=size),
            }
        )
    return rows


def _shares(ordered: Float64[np.ndarray, " head"]) -> tuple[list[float | None], list[float | None]]:
    """Share and cumulative share of the positive mass, for means from high to low; null where there is none."""
    positive = np.maximum(np.nan_to_num(ordered), 0.0)
    cumulative = np.cumsum(positive)
    if cumulative[-1] == 0.0:
        return [None] * len(ordered), [None] * len(ordered)
    undefined = np.where(np.isnan(ordered), np.nan, cumulative[-1])
    single, summed = (positive / undefined).tolist(), (cumulative / undefined).tolist()
    return [_null(value) for value in single], [_null(value) for value in summed]


def to_table(rows: Iterable[Mapping[str, Any]], schema_id: str) -> pa.Table:
    """Rows as a table of a versioned schema, columns in its order."""
    return pa.Table.from_pylist(list(rows), schema=load_schema(schema_id).arrow_schema)


def to_frame(table: pa.Table) -> pl.DataFrame:
    """An Arrow table for Polars."""
    return pl.DataFrame(table)


def _null(value: float) -> float | None:
    """NaN is null in tables."""
    return None if math.isnan(value) else float(value)
