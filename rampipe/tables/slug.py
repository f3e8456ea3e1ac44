"""Names that are safe in a path. Sample ids never enter a path at all."""

from __future__ import annotations

import hashlib
import re

MAX_LENGTH = 64


def slug(text: str) -> str:
    """`[a-z0-9._-]{1,64}` without `..`, starting and ending with a letter or digit.

    Text that is too long or has nothing usable gets a piece of its hash, so that two long names stay
    different.
    """
    made = re.sub(r"\.{2,}", ".", re.sub(r"[^a-z0-9._-]+", "-", text.lower())).strip("._-")
    if made and len(made) <= MAX_LENGTH:
        return made
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{made[: MAX_LENGTH - 9].rstrip('._-')}-{digest}" if made else digest
