"""From a ranking to arms: which heads are touched, and which random draws they are held against."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from itertools import product

import polars as pl
import pyarrow as pa

from rampipe.config import AblateConfig, SpeedConfig
from rampipe.errors import ConfigError
from rampipe.heads.grid import Grid, ablate_grid, speed_grid
from rampipe.heads.groups import HeadGrid, HeadGroup, RankedGroups, rank_groups
from rampipe.heads.rank import Ranking
from rampipe.heads.ranking import to_table
from rampipe.heads.scopes import OVERALL
from rampipe.heads.strategies.strategy import Refused, Request
from rampipe.tables.arms import BASE, Arm, ArmPlan, SkippedArm
from rampipe.tables.fingerprint import fingerprint
from rampipe.tables.slug import slug
from rampipe.types import HeadId

_NOT_OF_THE_ARMS = {
    *("bootstrap_samples", "confidence", "seed", "allow_partial"),
    *("timed_seeds", "context_tokens", "new_tokens", "warmups", "repeats"),
    "screen_split",
}
"""How outcomes are judged, what is timed, and where idle heads were found: other answers do not come of it."""


@dataclass(frozen=True, slots=True)
class _Choice:
    """What one request gave. name: without what all arms of one head set share. target: name of what it controls."""

    name: str
    strategy: str
    request: Request
    chosen: tuple[HeadGroup, ...] | Refused
    target: str | None = None


def make_plan(
    ranking: Ranking,
    config: AblateConfig | SpeedConfig,
    *,
    kv_heads: int | None = None,
    idle: frozenset[HeadId] | None = None,
) -> ArmPlan:
    """All arms of an ablation, or for a SpeedConfig of heads that keep full attention; the base first.

    kv_heads: per layer of the model; null when unknown. idle: heads that a screen found idle, for `bottom_idle`. The
    same ranking, configuration and idle heads give the same plan, byte for byte. An arm that cannot be had is in
    `skipped` with the reason, never smaller than asked.
    Raises ConfigError for what the configuration asks and the ranking or the model does not have.
    """
    grid = ablate_grid(config) if isinstance(config, AblateConfig) else speed_grid(config)
    grid = replace(grid, idle=idle)
    first = ranking.ranking.filter(pl.col("scope") == OVERALL)
    heads = HeadGrid((HeadId(*pair) for pair in first.select("layer", "head").iter_rows()), kv_heads=kv_heads)
    base = _base(heads)
    made = list[Arm | SkippedArm]()
    for scope in grid.scopes:
        rows = _rows_of(ranking, scope)
        for per in grid.per:
            choices = list(_choices(grid, rank_groups(rows, heads, per)))
            template = replace(base, kind=grid.kind, per=per, scope=scope)
            for mode, positions in product(grid.modes, grid.positions):
                varied = replace(template, mode=mode, positions=positions)
                made += [_arm(choice, varied, heads) for choice in choices]
    return ArmPlan(
        run_id=ranking.run_id,
        metric=ranking.config.metric,
        ranking_sha256=ranking_sha256(ranking),
        num_heads=len(heads.heads),
        kv_heads=kv_heads,
        settings=config.model_dump(mode="json", exclude=_NOT_OF_THE_ARMS),
        arms=(base, *(arm for arm in made if isinstance(arm, Arm))),
        skipped=tuple(arm for arm in made if isinstance(arm, SkippedArm)),
    )


def ranking_sha256(ranking: Ranking) -> str:
    """Identity of a ranking by its rows: the same wherever and whenever it was made."""
    rows = ranking.ranking.sort("scope", "layer", "head").to_dicts()
    return fingerprint({"run_id": ranking.run_id, "rows": rows})


def check_disjoint_samples(
    ranked_ids: Collection[str], evaluated_ids: Collection[str], *, allow: bool = False, key: str = "ablate.split"
) -> int:
    """Number of evaluated samples that made the ranking. Raises ConfigError when there are any, unless `allow`.

    key: of the configuration, names the evaluated split.
    """
    evaluated = set(evaluated_ids)
    shared = sorted(evaluated.intersection(ranked_ids))
    if shared and not allow:
        raise ConfigError(
            f"{len(shared)} of {len(evaluated)} evaluated samples made the ranking (of {len(set(ranked_ids))}), "
            f"first {shared[0]!r}: the heads would be judged on what they were chosen by. "
            f"Evaluate another split ({key}), or set ablate.allow_same_samples = true."
        )
    return len(shared)


def arms_table(plan: ArmPlan) -> pa.Table:
    """The arms as a table of schema arms.v1."""
    columns = to_table([], "arms.v1").column_names
    rows = [{name: getattr(arm, name) for name in columns} for arm in plan.arms]
    for row in rows:
        row["heads"] = [{"layer": head.layer, "head": head.head} for head in row["heads"]]
    return to_table(rows, "arms.v1")


def _rows_of(ranking: Ranking, scope: str) -> pl.DataFrame:
    rows = ranking.ranking.filter(pl.col("scope") == scope)
    if rows.is_empty():
        known = sorted(ranking.ranking.get_column("scope").unique().to_list())
        raise ConfigError(f"scopes names {scope!r}: run {ranking.run_id} has rankings of {known}.")
    return rows


def _choices(grid: Grid, ranked: RankedGroups) -> Iterator[_Choice]:
    """Each target, followed by its controls."""
    for strategy in grid.targets:
        for name, request in grid.requests(strategy, ranked):
            target = _Choice(name, strategy.ID, request, strategy.choose(request))
            yield target
            if strategy.CONTROLLED and _can_differ(target.chosen, grid, ranked):
                # The usual controls keep the short name: random-0.05-s3 is that of top-0.05.
                stem = name.removeprefix("top-")
                yield from _controls(grid, target, stem)


def _can_differ(chosen: tuple[HeadGroup, ...] | Refused, grid: Grid, ranked: RankedGroups) -> bool:
    """Whether a control means anything: no other heads are as many as none, nor, to be kept, as many as all."""
    if isinstance(chosen, Refused):
        return True
    return bool(chosen) and (grid.kind == "ablate" or len(chosen) < ranked.num_groups)


def _controls(grid: Grid, target: _Choice, stem: str) -> Iterator[_Choice]:
    for strategy in grid.controls:
        seen = dict[frozenset[HeadGroup], int]()
        for seed in grid.seeds:
            name = f"{strategy.ID}-{stem}-s{seed}"
            if isinstance(target.chosen, Refused):
                refused = Refused(f"{target.name}, which it controls, is skipped")
                yield _Choice(name, strategy.ID, replace(target.request, seed=seed), refused, target.name)
                continue
            request = replace(target.request, target=target.chosen, seed=seed)
            chosen = strategy.choose(request)
            if not isinstance(chosen, Refused):
                first = seen.setdefault(frozenset(chosen), seed)
                chosen = chosen if first == seed else Refused(f"the same heads as seed {first}")
            yield _Choice(name, strategy.ID, request, chosen, target.name)


def _arm(choice: _Choice, template: Arm, grid: HeadGrid) -> Arm | SkippedArm:
    tail = "-".join([*(() if template.per == "query_head" else ("kv",)), template.mode, template.positions])
    tail += "" if template.scope == OVERALL else f"-from-{slug(template.scope)}"
    arm_id = f"{choice.name}-{tail}"
    if isinstance(choice.chosen, Refused):
        return SkippedArm(arm_id, choice.chosen.reason)
    heads = tuple(sorted(head for group in choice.chosen for head in group.heads))
    return replace(
        template,
        arm_id=arm_id,
        strategy=choice.strategy,
        frac=choice.request.frac,
        seed=choice.request.seed,
        control_of=None if choice.target is None else f"{choice.target}-{tail}",
        num_heads=len(heads),
        query_head_frac=len(heads) / len(grid.heads),
        kv_head_frac=grid.kv_head_frac(heads),
        heads=heads,
    )


def _base(grid: HeadGrid) -> Arm:
    """The model as it is: it ablates no head, so mode and positions have no effect."""
    return Arm(
        arm_id=BASE,
        strategy=BASE,
        kind="ablate",
        mode="zero",
        positions="all",
        per="query_head",
        scope=OVERALL,
        frac=0.0,
        seed=None,
        control_of=None,
        num_heads=0,
        query_head_frac=0.0,
        kv_head_frac=grid.kv_head_frac(()),
        heads=(),
    )
