"""Random draws that depend on names, not on order: hash(seed, purpose, draw) mixed with hash(cluster key)."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from jaxtyping import Float64, UInt64

_POISSON_CDF = np.cumsum([math.exp(-1.0) / math.factorial(count) for count in range(18)])
"""Poisson(1) up to 17; the rest has probability 6e-17, below the 53 bits of a draw."""


def poisson_weights(keys: Sequence[str], draws: range, *, seed: int) -> Float64[np.ndarray, "draw cluster"]:
    """How often each cluster counts in each bootstrap replicate: Poisson(1), independent per (draw, cluster)."""
    uniform = (_mixed(keys, draws, label=f"bootstrap/{seed}") >> np.uint64(11)) * 2.0**-53
    return np.searchsorted(_POISSON_CDF, uniform, side="right").astype(np.float64)


def half_split(keys: Sequence[str], draws: range, *, seed: int) -> Float64[np.ndarray, "draw cluster"]:
    """1 for the clusters of the first half of each random split (num_clusters // 2 of them), 0 for the others."""
    order = np.argsort(_mixed(keys, draws, label=f"split/{seed}"), axis=1, kind="stable")
    weights = np.zeros(order.shape)
    np.put_along_axis(weights, order[:, : len(keys) // 2], 1.0, axis=1)
    return weights


def _mixed(keys: Sequence[str], draws: range, *, label: str) -> UInt64[np.ndarray, "draw cluster"]:
    """64 well-mixed bits per (draw, key): the finalizer of splitmix64 over the xor of two hashes."""
    columns = _hashes(tuple(keys))
    rows = np.array([_hash(f"{label}/{draw}") for draw in draws], dtype=np.uint64)
    bits = rows[:, None] ^ columns[None, :]
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


@lru_cache(maxsize=4)
def _hashes(keys: tuple[str, ...]) -> UInt64[np.ndarray, " cluster"]:
    """Kept, as draws are made a few at a time."""
    return np.array([_hash(key) for key in keys], dtype=np.uint64)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
