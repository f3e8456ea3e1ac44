"""Random draws that depend on names, not on order: the same seed and groups give the same draw anywhere."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from rampipe.heads.groups import HeadGroup


def draw(pool: Iterable[HeadGroup], size: int, *, label: str) -> tuple[HeadGroup, ...]:
    """The `size` groups with the smallest hash of label and name: every subset is as likely as every other."""
    return tuple(sorted(pool, key=lambda group: (_hash(f"{label}/{group}"), group))[:size])


def _hash(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=8).digest()
