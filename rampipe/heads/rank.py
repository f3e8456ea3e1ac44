"""Rank the heads of a run, and publish the ranking beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from rampipe.config import RankConfig
from rampipe.errors import ConfigError
from rampipe.heads.accuracy import accuracy
from rampipe.heads.metrics import METRICS_VERSION, check_columns, metric_by_id
from rampipe.heads.overlap import ScopeMeans, compare_scopes
from rampipe.heads.ranking import rank_scope, to_frame, to_table
from rampipe.heads.reduce import SumParts, find_wanted, sum_parts
from rampipe.heads.scopes import OVERALL, iterate_scopes
from rampipe.heads.source import RankSource, open_source
from rampipe.tables.derived import publish_stage, read_stage, stage_is_current
from rampipe.types import HeadId

STAGE = "ranking"


@dataclass(frozen=True, slots=True)
class Ranking:
    """The published ranking of one run. Frames have the schemas of their names; `accuracy` is not published.

    partial: null for a finished run, else its numbers and problems. stopped: why a finished run has fewer samples than
    were planned.
    """

    uri: str
    run_id: str
    config: RankConfig
    ranking: pl.DataFrame
    concentration: pl.DataFrame
    stability: pl.DataFrame
    overlap: pl.DataFrame
    accuracy: pl.DataFrame
    num_errors: int
    partial: dict[str, Any] | None
    stopped: str | None

    def core_heads(self, scope: str = OVERALL) -> list[HeadId]:
        """CoRe heads of a scope, the highest first."""
        rows = self.ranking.filter(pl.col("scope") == scope, pl.col("class") == "core").sort("rank")
        return [HeadId(layer, head) for layer, head in rows.select("layer", "head").iter_rows()]

    def scope_means(self) -> list[ScopeMeans]:
        """Head means of every scope, for comparing runs."""
        found = list[ScopeMeans]()
        for scope in self.concentration.get_column("scope"):
            rows = self.ranking.filter(pl.col("scope") == scope).sort("layer", "head")
            heads = tuple(HeadId(layer, head) for layer, head in rows.select("layer", "head").iter_rows())
            means = rows.get_column("mean").fill_null(np.nan).to_numpy()
            found.append(ScopeMeans(self.run_id, scope, heads, means))
        return found


def rank_run(path: str | Sequence[str], config: RankConfig, *, sum_up: SumParts = sum_parts) -> Ranking:
    """Rank one or more runs and publish `ranking/` into each; a ranking that is current is not made again.

    Every run is ranked on its own. With several, the first one's overlap table also compares all of them, scope by
    scope, and the first one's ranking is returned. sum_up: in place of one pass in this process, for the same bytes.
    Raises ConfigError for an unknown metric, one whose query group was not captured, and runs that cannot be compared;
    IncompleteError for a run that is not finished, unless `config.allow_partial`; DataError for duplicated rows.
    """
    metric_by_id(config.metric)
    uris = [path] if isinstance(path, str) else list(path)
    if not uris:
        raise ConfigError("rank: no run was given. Pass the folder <out>/<run_id> of at least one.")
    sources = [open_source(uri, allow_partial=config.allow_partial) for uri in uris]
    names = [source.run_id for source in sources]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"rank: run {twice[0]!r} was given {names.count(twice[0])} times. Pass each run once.")
    others = [_rank_one(source, config, [], sum_up) for source in sources[1:]]
    compared = list(zip(sources[1:], others, strict=True))
    return _rank_one(sources[0], config, compared, sum_up)


def current_ranking(uri: str, config: RankConfig) -> Ranking | None:
    """The ranking of one run when it is published and current; writes nothing. Raises what `rank_run` raises."""
    source = open_source(uri, allow_partial=config.allow_partial)
    storage = source.opened.run.storage
    if not stage_is_current(storage, STAGE, _made_from(source, config, [])):
        return None
    return _describe(source, config, read_stage(storage, STAGE))


def _made_from(
    source: RankSource, config: RankConfig, compared: Sequence[tuple[RankSource, Ranking]]
) -> dict[str, Any]:
    return {
        "commits_sha256": source.commits_sha256,
        "rank": config.model_dump(mode="json", exclude={"allow_partial", "distributed", "task_units"}),
        "metrics_version": METRICS_VERSION,
        "compared": {other.run_id: other.commits_sha256 for other, _ in compared},
        "partial": source.partial,
    }


def _rank_one(
    source: RankSource, config: RankConfig, compared: Sequence[tuple[RankSource, Ranking]], sum_up: SumParts
) -> Ranking:
    storage, made_from = source.opened.run.storage, _made_from(source, config, compared)
    if stage_is_current(storage, STAGE, made_from):
        return _describe(source, config, read_stage(storage, STAGE))
    tables = _rank_scopes(source, config, sum_up)
    ranking = _describe(source, config, tables)
    means = [found for one in (ranking, *(other for _, other in compared)) for found in one.scope_means()]
    overlaps = [{"metric": config.metric, **asdict(pair)} for pair in compare_scopes(means, config)]
    tables["overlap"] = to_table(overlaps, "overlap.v1")
    publish_stage(storage, STAGE, tables, made_from)
    return _describe(source, config, tables)


def _rank_scopes(source: RankSource, config: RankConfig, sum_up: SumParts) -> dict[str, pa.Table]:
    """All tables; overlap is still empty."""
    opened = source.opened
    columns = [name for table in ("head_stats", "samples") for name in opened.run.columns_of(table)]
    check_columns(config.metric, columns, run_id=source.run_id)
    parts = opened.head_stats_files
    sums = sum_up(parts, find_wanted(parts, opened.samples, metric_by_id(config.metric))).finished()
    found = [rank_scope(scope, config.metric, config) for scope in iterate_scopes(sums)]
    return {
        "ranking": to_table((row for rows in found for row in rows.ranking), "ranking.v1"),
        "concentration": to_table((rows.concentration for rows in found), "concentration.v1"),
        "stability": to_table((rows.stability for rows in found), "stability.v1"),
        "overlap": to_table([], "overlap.v1"),
    }


def _describe(source: RankSource, config: RankConfig, tables: dict[str, pa.Table]) -> Ranking:
    return Ranking(
        uri=source.opened.run.storage.uri,
        run_id=source.run_id,
        config=config,
        ranking=to_frame(tables["ranking"]),
        concentration=to_frame(tables["concentration"]),
        stability=to_frame(tables["stability"]),
        overlap=to_frame(tables["overlap"]),
        accuracy=accuracy(source.opened.samples),
        num_errors=source.opened.balance.num_errors,
        partial=source.partial,
        stopped=None if source.opened.run.stopped is None else source.opened.run.stopped.sentence,
    )
