"""Which samples go through the model together. It depends on the unit alone: padding changes floats a little."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence


def compose_batches(
    num_tokens: Mapping[int, int],
    *,
    batch_tokens: int,
    context_of: Mapping[int, str] | None = None,
    kind_of: Mapping[int, Hashable] | None = None,
) -> list[list[int]]:
    """Rows grouped by length, so that little is padding: at most `batch_tokens` a batch, padding included.

    num_tokens: by row of the shard. context_of: rows of one context stay together and count once, as they are read
    once; a row that is not in it is alone. kind_of: only rows of one kind can be stacked. Neither the order of the
    mappings nor anything outside of them matters. A prompt over the budget is a batch of its own. Every row is in
    exactly one batch.
    """
    kinds: dict[Hashable, list[int]] = {}
    for row in sorted(num_tokens):
        kinds.setdefault((kind_of or {}).get(row), []).append(row)
    return [
        batch
        for rows in kinds.values()
        for batch in _of_one_kind(rows, num_tokens, batch_tokens, context_of=context_of or {})
    ]


def _of_one_kind(
    rows: Sequence[int], num_tokens: Mapping[int, int], batch_tokens: int, *, context_of: Mapping[int, str]
) -> list[list[int]]:
    groups: dict[str | int, list[int]] = {}
    for row in rows:
        groups.setdefault(context_of.get(row, row), []).append(row)
    longest = {group[0]: max(num_tokens[row] for row in group) for group in groups.values()}
    batches: list[list[list[int]]] = []
    for group in sorted(groups.values(), key=lambda group: (longest[group[0]], group[0])):
        # Ascending lengths: this group is the longest of its batch, and all others are padded to it.
        if batches and (len(batches[-1]) + 1) * longest[group[0]] <= batch_tokens:
            batches[-1].append(group)
        else:
            batches.append([group])
    return [[row for group in batch for row in group] for batch in batches]
