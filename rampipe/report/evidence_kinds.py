"""Image needles and text needles: what the evidence of each domain is, and the mean of every head over each kind.

The ranking has means per domain, so a kind is made of whole domains. A domain whose rows do not say what its evidence
is, or say both, belongs to neither.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import polars as pl

from rampipe.heads.classes import top_heads
from rampipe.report.heatmap import HeadGrid, head_grid
from rampipe.report.ranked import Ranked
from rampipe.types import HeadId

Kind = Literal["image", "text"]
KINDS: tuple[Kind, ...] = ("image", "text")


@dataclass(frozen=True, slots=True)
class KindMeans:
    """Mean of every head over all samples of one kind. grid: `core` is the top set by these means, as large as the
    ranking's own. num_samples: that have evidence.
    """

    kind: Kind
    domains: tuple[str, ...]
    num_samples: int
    grid: HeadGrid


def kinds_of_domains(samples: pl.DataFrame) -> dict[str, frozenset[Kind]]:
    """By domain that has evidence, which kinds its rows name; none where boxes fill their images, and of text in runs
    whose rows are older than the flag.
    """
    is_image = (pl.col("num_evidence_image_rest") > 0) | pl.col("flags").list.contains("evidence_whole_image")
    found = (
        samples.filter(pl.col("num_evidence") > 0)
        .group_by("domain")
        .agg(is_image.any().alias("image"), pl.col("flags").list.contains("evidence_text").any().alias("text"))
        .sort("domain")
    )
    return {
        row["domain"]: frozenset(kind for kind in KINDS if row[kind])
        for row in found.select("domain", *KINDS).iter_rows(named=True)
    }


def kind_means(samples: pl.DataFrame, ranked: Ranked) -> dict[Kind, KindMeans]:
    """Of the kinds that some domain consists of. Domains weigh by their samples, as in the overall ranking."""
    known = kinds_of_domains(samples)
    size = len(ranked.overall.core)
    found = dict[Kind, KindMeans]()
    for kind in KINDS:
        scopes = [scope for scope in ranked.domains if known.get(scope.name) == frozenset({kind})]
        if scopes:
            names = tuple(scope.name for scope in scopes)
            grid = _means(pl.concat(scope.rows for scope in scopes), size)
            of_kind = samples.filter(pl.col("domain").is_in(names), pl.col("num_evidence") > 0)
            found[kind] = KindMeans(kind, names, of_kind.height, grid)
    return found


def _means(rows: pl.DataFrame, size: int) -> HeadGrid:
    weight = pl.col("num_samples").filter(pl.col("mean").is_not_null())
    pooled = (
        rows.group_by("layer", "head")
        .agg(((pl.col("mean") * pl.col("num_samples")).sum() / weight.sum()).fill_nan(None).alias("mean"))
        .sort("layer", "head")
    )
    heads = [HeadId(layer, head) for layer, head in pooled.select("layer", "head").iter_rows()]
    top = top_heads(pooled.get_column("mean").fill_null(float("nan")).to_numpy(), size)
    values = zip(heads, pooled.get_column("mean").to_list(), strict=True)
    return head_grid(values, core=[heads[index] for index in sorted(top)])
