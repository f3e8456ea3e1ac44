"""Head lists of others and our own: one file a format, each reads and writes. Adding one is a file and a line here."""

from __future__ import annotations

import difflib

from rampipe.errors import ConfigError
from rampipe.heads.lists import duo_attention, head_score, names, plain, qrhead
from rampipe.heads.lists.head_list import ListFormat

FORMATS: tuple[ListFormat, ...] = (head_score, duo_attention, qrhead, names, plain)


def format_by_id(format_id: str) -> ListFormat:
    """The format of that id. Raises ConfigError with the nearest known id."""
    known = {form.ID: form for form in FORMATS}
    if format_id in known:
        return known[format_id]
    near = difflib.get_close_matches(format_id, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {sorted(known)}"
    raise ConfigError(f"--format {format_id!r}: no such format: {hint}")
