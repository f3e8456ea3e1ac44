"""Which samples go through the model together. It depends on the unit alone: padding changes floats a little."""

from __future__ import annotations

from collections.abc import Mapping


def compose_batches(num_tokens: Mapping[int, int], *, batch_tokens: int) -> list[list[int]]:
    """Rows grouped by length, so that little is padding: at most `batch_tokens` a batch, padding included.

    num_tokens: by row of the shard. Neither the order of the mapping nor anything outside of it matters. A prompt over
    the budget is a batch of its own. Every row is in exactly one batch.
    """
    batches: list[list[int]] = []
    for row in sorted(num_tokens, key=lambda row: (num_tokens[row], row)):
        # Ascending lengths: this row is the longest of its batch, and all others are padded to it.
        if batches and (len(batches[-1]) + 1) * num_tokens[row] <= batch_tokens:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches
