"""How much of our ranking another list of heads shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from rampipe.heads.classes import num_core
from rampipe.heads.correlation import spearman
from rampipe.heads.lists.head_list import HeadList
from rampipe.types import HeadId


@dataclass(frozen=True, slots=True)
class Agreement:
    """size: of either top set. num_expected: heads that two random sets of that size share on average. num_both:
    heads that both score, over which the correlations go.
    """

    num_listed: int
    num_both: int
    size: int
    num_shared: int
    num_expected: float
    jaccard: float | None
    rank_biased_overlap: float | None
    spearman: float | None
    kendall: float | None


def agree(means: Mapping[HeadId, float | None], found: HeadList, *, k_frac: float) -> Agreement:
    """Compare the first `k_frac` heads, or as many as are listed where the list is shorter, and the order of all.

    means: of every head of the model; null is neither ranked nor correlated.
    """
    theirs, scores = found.ordered(), found.means
    known = {head: mean for head, mean in means.items() if mean is not None}
    ours = sorted(known, key=lambda head: (-known[head], head))
    size = min(num_core(k_frac, len(means)), len(theirs), len(ours))
    shared = {*ours[:size]} & {*theirs[:size]}
    both = [head for head in ours if head in scores]
    left, right = np.array([known[head] for head in both]), np.array([scores[head] for head in both])
    return Agreement(
        num_listed=len(theirs),
        num_both=len(both),
        size=size,
        num_shared=len(shared),
        num_expected=size * size / len(means),
        jaccard=len(shared) / (2 * size - len(shared)) if size else None,
        rank_biased_overlap=rank_biased_overlap(ours[:size], theirs[:size]),
        spearman=spearman(left, right),
        kendall=kendall(left, right),
    )


def rank_biased_overlap(left: Sequence[HeadId], right: Sequence[HeadId]) -> float | None:
    """Overlap of all prefixes, weighted p^depth with p = 1 - 1/length, extrapolated: 1 is the same order, [0, 1].
    Null for lists without a head.

    Source: Webber, Moffat, Zobel 2010, eq. 32, for two lists of one length without ties.
    """
    length = len(left)
    if length < 2:
        return float(list(left) == list(right)) if length else None
    p = 1.0 - 1.0 / length
    shared = [len({*left[:depth]} & {*right[:depth]}) / depth for depth in range(1, length + 1)]
    weighted = sum(part * p**depth for depth, part in enumerate(shared, start=1))
    return shared[-1] * p**length + (1.0 - p) / p * weighted


def kendall(left: Float64[np.ndarray, " head"], right: Float64[np.ndarray, " head"]) -> float | None:
    """Kendall's tau-b: pairs in one order less pairs in opposite ones, ties taken out; null as in `pearson`."""
    if len(left) < 3:
        return None
    pairs = np.triu_indices(len(left), 1)
    x, y = (np.sign(values[pairs[0]] - values[pairs[1]]) for values in (left, right))
    scale = float(np.sqrt(np.count_nonzero(x) * np.count_nonzero(y)))
    return float((x * y).sum()) / scale if scale > 0.0 else None
