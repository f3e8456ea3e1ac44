"""Correlations that are null when they are undefined."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float64


def pearson(left: Float64[np.ndarray, " head"], right: Float64[np.ndarray, " head"]) -> float | None:
    """Linear correlation over heads that both define; null with fewer than 3 of them or when one side is constant."""
    both = ~(np.isnan(left) | np.isnan(right))
    if both.sum() < 3:
        return None
    x, y = left[both] - left[both].mean(), right[both] - right[both].mean()
    scale = math.sqrt(float((x * x).sum()) * float((y * y).sum()))
    return max(-1.0, min(1.0, float((x * y).sum()) / scale)) if scale > 0.0 else None


def spearman(left: Float64[np.ndarray, " head"], right: Float64[np.ndarray, " head"]) -> float | None:
    """Rank correlation, ties at their average rank; null as in `pearson`."""
    both = ~(np.isnan(left) | np.isnan(right))
    return pearson(_ranks(left[both]), _ranks(right[both]))


def spearman_brown(half: float | None) -> float | None:
    """Reliability of the whole from the correlation of its halves; null for a negative one, where it has no meaning."""
    return None if half is None or half < 0.0 else 2.0 * half / (1.0 + half)


def _ranks(values: Float64[np.ndarray, " head"]) -> Float64[np.ndarray, " head"]:
    """From 1, equal values at the mean of their ranks."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2.0)[place]
