"""The ranking as the sections use it: one scope at a time, sorted, with its curve and its CoRe heads."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import polars as pl

from rampipe.heads.metrics import METRICS
from rampipe.heads.scopes import OVERALL
from rampipe.report.curve import ConcentrationCurve
from rampipe.report.heatmap import HeadGrid, head_grid
from rampipe.types import HeadId


@dataclass(frozen=True)
class RankedScope:
    """Rows of one scope by rank; heads without a value come last and have no rank.

    num_heads_half: fewest heads that hold half of the positive mass; null when nothing is positive.
    """

    name: str
    rows: pl.DataFrame
    num_heads_half: int | None

    @cached_property
    def core(self) -> frozenset[HeadId]:
        """Heads of class core."""
        return frozenset(_heads(self.rows.filter(pl.col("class") == "core")))

    @cached_property
    def grid(self) -> HeadGrid:
        """Means by layer and head."""
        means = self.rows.get_column("mean").to_list()
        return head_grid(zip(_heads(self.rows), means, strict=True), core=self.core)

    @cached_property
    def curve(self) -> ConcentrationCurve | None:
        """Cumulative share of the positive mass; None when no head has a positive mean."""
        shares = self.rows.filter(pl.col("rank").is_not_null()).get_column("cumulative_share")
        if self.num_heads_half is None or shares.is_empty() or shares.null_count():
            return None
        return ConcentrationCurve(shares.to_numpy(), self.rows.height, self.num_heads_half)

    @property
    def first(self) -> tuple[HeadId, float] | None:
        """The head of rank 1 and its mean."""
        best = self.rows.filter(pl.col("rank") == 1)
        if best.is_empty():
            return None
        return HeadId(int(best["layer"][0]), int(best["head"][0])), float(best["mean"][0])


@dataclass(frozen=True, slots=True)
class Ranked:
    """All scopes of one ranking; `domains` sorted by name."""

    metric: str
    overall: RankedScope
    domains: tuple[RankedScope, ...]

    @property
    def definition(self) -> str:
        """What the metric is, as one clause with its source."""
        for metric in METRICS:
            if self.metric == metric.ID:
                meaning = metric.MEANING[0].lower() + metric.MEANING[1:]
                return f"{meaning} (source: {metric.SOURCE})."
        return "a metric that this version of rampipe does not know."


def ranked_scopes(ranking: pl.DataFrame, concentration: pl.DataFrame) -> Ranked | None:
    """Split a ranking by scope. None when it holds no row of the overall scope."""
    by_rank = ranking.sort("rank", "layer", "head", nulls_last=True)
    halves = dict(concentration.select("scope", "half_mass_heads").iter_rows())
    scopes = {
        name: RankedScope(name, by_rank.filter(pl.col("scope") == name), halves.get(name))
        for name in ranking.get_column("scope").unique().sort().to_list()
    }
    overall = scopes.pop(OVERALL, None)
    if overall is None:
        return None
    return Ranked(str(overall.rows["metric"][0]), overall, tuple(scopes.values()))


def _heads(rows: pl.DataFrame) -> list[HeadId]:
    return [HeadId(layer, head) for layer, head in rows.select("layer", "head").iter_rows()]
