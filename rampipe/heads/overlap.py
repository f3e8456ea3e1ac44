"""Do two domains, or two models of one shape, use the same heads?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Float64

from rampipe.config import RankConfig
from rampipe.errors import ConfigError
from rampipe.heads.classes import jaccard, num_core, top_heads
from rampipe.heads.correlation import spearman
from rampipe.heads.scopes import OVERALL
from rampipe.types import HeadId


@dataclass(frozen=True, slots=True)
class ScopeMeans:
    """Head means of one scope of one run; NaN where undefined."""

    run_id: str
    scope: str
    heads: tuple[HeadId, ...]
    means: Float64[np.ndarray, " head"]


@dataclass(frozen=True, slots=True)
class Overlap:
    """Two scopes compared: each unordered pair once, in order of run, then scope."""

    run_a: str
    scope_a: str
    run_b: str
    scope_b: str
    num_core: int
    num_shared: int
    jaccard: float | None
    spearman: float | None


def compare_scopes(scopes: Sequence[ScopeMeans], config: RankConfig) -> list[Overlap]:
    """Compare domains with domains, within a run and between runs, and the overall scopes of different runs.

    Overall is not compared with a domain: it contains most domains' samples.
    Raises ConfigError for runs whose heads are not the same.
    """
    pairs = combinations(scopes, 2)
    return [_compare(a, b, config) for a, b in pairs if (a.scope == OVERALL) == (b.scope == OVERALL)]


def _compare(a: ScopeMeans, b: ScopeMeans, config: RankConfig) -> Overlap:
    if a.heads != b.heads:
        raise ConfigError(
            f"runs {a.run_id} ({len(a.heads)} heads, last {a.heads[-1]}) and {b.run_id} ({len(b.heads)} heads, last "
            f"{b.heads[-1]}): overlap compares models with the same layers and heads. Rank them one at a time."
        )
    size = num_core(config.k_frac, len(a.heads))
    top_a, top_b = top_heads(a.means, size), top_heads(b.means, size)
    return Overlap(
        run_a=a.run_id,
        scope_a=a.scope,
        run_b=b.run_id,
        scope_b=b.scope,
        num_core=size,
        num_shared=len(top_a & top_b),
        jaccard=jaccard(top_a, top_b),
        spearman=spearman(a.means, b.means),
    )
