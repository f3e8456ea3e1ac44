"""Query heads and the kv_heads that serve them: what a strategy chooses from, in the order of the ranking."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl

from rampipe.errors import ConfigError
from rampipe.tables.arms import ChosenPer
from rampipe.types import HeadId


@dataclass(frozen=True, slots=True, order=True)
class HeadGroup:
    """What is chosen as one: a single query head, or all query heads of one kv_head. index: of either, in its layer."""

    layer: int
    index: int
    heads: tuple[HeadId, ...]

    def __str__(self) -> str:
        return f"{self.layer}.{self.index}"


@dataclass(frozen=True, slots=True)
class RankedGroups:
    """Groups of one scope's ranking.

    ordered: the highest mean first; without groups that have a head without a mean, which are only counted.
    shares: of the positive mass, in that order; null when there is no positive mass. num_groups: all of the model.
    """

    per: ChosenPer
    ordered: tuple[HeadGroup, ...]
    shares: tuple[float, ...] | None
    num_groups: int


class HeadGrid:
    """All query heads of a model, and which kv_head serves which.

    kv_heads: per layer; null when unknown. Raises ConfigError when it does not divide a layer's query heads.
    """

    def __init__(self, heads: Iterable[HeadId], *, kv_heads: int | None) -> None:
        self.heads = tuple(sorted(heads))
        self.kv_heads = kv_heads
        self._in_layer = Counter(head.layer for head in self.heads)
        if kv_heads is None:
            return
        for layer, num_heads in self._in_layer.items():
            if kv_heads < 1 or num_heads % kv_heads:
                raise ConfigError(
                    f"kv_heads = {kv_heads}: layer {layer} has {num_heads} query heads, which is no multiple of it. "
                    "Pass num_key_value_heads of the model's configuration."
                )

    def groups(self, per: ChosenPer) -> list[HeadGroup]:
        """All groups, sorted. Raises ConfigError for kv_heads of a model whose grouping is unknown."""
        if per == "query_head":
            return [HeadGroup(head.layer, head.head, (head,)) for head in self.heads]
        members: dict[tuple[int, int], list[HeadId]] = {}
        for head in self.heads:
            members.setdefault((head.layer, self._kv_head(head)), []).append(head)
        return [HeadGroup(layer, index, tuple(heads)) for (layer, index), heads in members.items()]

    def kv_head_frac(self, heads: Iterable[HeadId]) -> float | None:
        """Share of kv_heads that serve at least one of these heads; null when the grouping is unknown."""
        if self.kv_heads is None:
            return None
        touched = {(head.layer, self._kv_head(head)) for head in heads}
        return len(touched) / (self.kv_heads * len(self._in_layer))

    def _kv_head(self, head: HeadId) -> int:
        if self.kv_heads is None:
            raise ConfigError("per = 'kv_head': the number of kv_heads is unknown. Pass kv_heads, or choose per head.")
        return head.head // (self._in_layer[head.layer] // self.kv_heads)


def rank_groups(rows: pl.DataFrame, grid: HeadGrid, per: ChosenPer) -> RankedGroups:
    """Order groups by the mean over their heads; ties by layer, then index.

    rows: of one scope of the ranking. The share of a group is the sum over its heads.
    """
    columns = ("layer", "head", "mean", "share_of_positive_mass")
    values = {HeadId(layer, head): (mean, share) for layer, head, mean, share in rows.select(columns).iter_rows()}
    groups = grid.groups(per)
    means = {group: _mean([values[head][0] for head in group.heads]) for group in groups}
    defined = [(-mean, group) for group, mean in means.items() if mean is not None]
    ordered = tuple(group for _, group in sorted(defined))
    shares = [[values[head][1] for head in group.heads] for group in ordered]
    known = all(share is not None for group in shares for share in group)
    summed = tuple(math.fsum(group) for group in shares) if known else None
    return RankedGroups(per, ordered, summed, len(groups))


def _mean(values: list[float | None]) -> float | None:
    """Null when one is: a group with an unknown head is unknown."""
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if len(known) == len(values) else None
