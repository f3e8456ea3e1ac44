"""Rankings with given means, without a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from rampipe.config import RankConfig
from rampipe.heads.groups import HeadGrid, RankedGroups, rank_groups
from rampipe.heads.rank import Ranking
from rampipe.heads.ranking import to_frame, to_table
from rampipe.heads.scopes import OVERALL
from rampipe.tables.arms import ChosenPer
from rampipe.types import HeadId


def made_ranking(scopes: Mapping[str, np.ndarray], *, run_id: str = "run") -> Ranking:
    """scopes: mean per [layer, head] by name; NaN is a head without a mean."""
    rows = [row for scope, means in scopes.items() for row in _rows(scope, means)]
    empty = pl.DataFrame()
    table = to_frame(to_table(rows, "ranking.v1"))
    return Ranking(
        "memory", run_id, RankConfig(), table, empty, empty, empty, empty, num_errors=0, partial=None, stopped=None
    )


def random_means(*, num_layers: int = 6, num_heads: int = 16, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).gamma(1.0, 1.0, size=(num_layers, num_heads))


def ranked(means: np.ndarray, *, per: ChosenPer = "query_head", kv_heads: int | None = None) -> RankedGroups:
    rows = made_ranking({OVERALL: means}).ranking
    grid = HeadGrid((HeadId(int(layer), int(head)) for layer, head in np.ndindex(means.shape)), kv_heads=kv_heads)
    return rank_groups(rows, grid, per)


def _rows(scope: str, means: np.ndarray) -> Sequence[dict[str, object]]:
    flat = means.ravel()
    positive = np.maximum(np.nan_to_num(flat), 0.0)
    shares = positive / positive.sum() if positive.sum() > 0 else np.full(len(flat), np.nan)
    order = np.argsort(-flat, kind="stable")
    rows = list[dict[str, object]]()
    for place, index in enumerate(order.tolist(), start=1):
        layer, head = divmod(index, means.shape[1])
        known = not np.isnan(flat[index])
        rows.append(
            {
                "scope": scope, "metric": "ram", "layer": layer, "head": head, "num_samples": 8, "num_null": 0,
                "mean": float(flat[index]) if known else None, "low": None, "high": None,
                "rank": place if known else None, "selection_probability": None, "cumulative_share": None,
                "share_of_positive_mass": float(shares[index]) if known and not np.isnan(shares[index]) else None,
                "mass_elsewhere": None, "class": None,
            }
        )  # fmt: skip
    return rows
