"""A random order of units that is known before any of them is read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def random_order(unit_ids: Iterable[int], *, seed: int) -> tuple[int, ...]:
    """The same for the same seed and units, whatever order they come in."""
    return tuple(sorted(unit_ids, key=lambda unit_id: _hash(unit_id, seed)))


def _hash(unit_id: int, seed: int) -> bytes:
    return hashlib.blake2b(f"stop/{seed}/{unit_id}".encode(), digest_size=16).digest()
