"""Which samples go through the model together. It depends on the unit alone: padding changes floats a little."""

from __future__ import annotations

from collections.abc import Mapping


def compose_batches(
    num_tokens: Mapping[int, int], *, batch_tokens: int, context_of: Mapping[int, str] | None = None
) -> list[list[int]]:
    """Rows grouped by length, so that little is padding: at most `batch_tokens` a batch, padding included.

    num_tokens: by row of the shard. context_of: rows of one context stay together and count once, as they are read
    once; a row that is not in it is alone. Neither the order of the mappings nor anything outside of them matters. A
    prompt over the budget is a batch of its own. Every row is in exactly one batch.
    """
    groups: dict[str | int, list[int]] = {}
    for row in sorted(num_tokens):
        groups.setdefault((context_of or {}).get(row, row), []).append(row)
    longest = {rows[0]: max(num_tokens[row] for row in rows) for rows in groups.values()}
    batches: list[list[list[int]]] = []
    for rows in sorted(groups.values(), key=lambda rows: (longest[rows[0]], rows[0])):
        # Ascending lengths: this group is the longest of its batch, and all others are padded to it.
        if batches and (len(batches[-1]) + 1) * longest[rows[0]] <= batch_tokens:
            batches[-1].append(rows)
        else:
            batches.append([rows])
    return [[row for rows in batch for row in rows] for batch in batches]
