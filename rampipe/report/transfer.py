"""Heads ranked on one domain and silenced on another: does each domain need its own?"""

from __future__ import annotations

from typing import Any

import polars as pl

from rampipe.heads.scopes import OVERALL
from rampipe.heads.verdict.outcomes import CONTROL
from rampipe.report.arm_rows import WAY, cell

Row = dict[str, Any]
Texts = tuple[str, ...]


def transfer_rows(accuracy: pl.DataFrame, main: list[Row]) -> tuple[Texts, tuple[Texts, ...]]:
    """Columns and rows of a matrix: whose ranking gave the top heads, by what was asked; nothing without two rankings.

    main: arms of the first way; of its first arm of `top` come size and way.
    """
    top = next((row for row in main if row["strategy"] == "top"), None)
    if top is None:
        return (), ()
    shared = [name for name in (*WAY, "strategy", "frac") if name != "ranking_scope"]
    arms = accuracy.filter(*(pl.col(name) == top[name] for name in shared))
    rankings = arms.get_column("ranking_scope").unique(maintain_order=True).to_list()
    if len(rankings) < 2:
        return (), ()
    found = arms.get_column("scope").unique().to_list()
    scopes = [OVERALL, *sorted(set(found) - {OVERALL, CONTROL}), *({CONTROL} & set(found))]
    rows = list[Texts]()
    for ranking in sorted(rankings, key=lambda name: (name != OVERALL, name)):
        of_ranking = arms.filter(pl.col("ranking_scope") == ranking)
        cells = (cell(of_ranking.filter(pl.col("scope") == scope)) for scope in scopes)
        rows.append((_title(ranking), *cells))
    return (f"top {top['frac'] * 100:.4g} % ranked on", *(f"asked: {_title(scope)}" for scope in scopes)), tuple(rows)


def _title(scope: str) -> str:
    return {OVERALL: "all domains", CONTROL: "text-only control"}.get(scope, scope)
