"""Which samples go through the model together. It depends on the unit alone: padding changes floats a little."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple


class Context(NamedTuple):
    """What some rows have in common before their questions: it is read once for all of them."""

    key: str
    num_tokens: int


def compose_batches(
    num_tokens: Mapping[int, int],
    *,
    batch_tokens: int,
    contexts: Mapping[int, Context] | None = None,
    kind_of: Mapping[int, Hashable] | None = None,
) -> list[list[int]]:
    """Rows grouped by length, so that little is padding: at most `batch_tokens` a batch, padding included.

    num_tokens: by row of the shard. contexts: rows of one context stay together, one behind the other after it; a row
    that is not in it is alone. kind_of: only rows of one kind can be stacked. Neither the order of the mappings nor
    anything outside of them matters. A prompt, or a context with its questions, over the budget is a batch of its own.
    Every row is in exactly one batch.
    """
    kinds: dict[Hashable, list[int]] = {}
    for row in sorted(num_tokens):
        kinds.setdefault((kind_of or {}).get(row), []).append(row)
    return [
        batch
        for rows in kinds.values()
        for batch in _of_one_kind(rows, num_tokens, batch_tokens, contexts=contexts or {})
    ]


def _of_one_kind(
    rows: Sequence[int], num_tokens: Mapping[int, int], batch_tokens: int, *, contexts: Mapping[int, Context]
) -> list[list[int]]:
    groups: dict[str | int, list[int]] = {}
    for row in rows:
        groups.setdefault(contexts[row].key if row in contexts else row, []).append(row)
    lengths = {group[0]: _length(group, num_tokens, contexts) for group in groups.values()}
    batches: list[list[list[int]]] = []
    for group in sorted(groups.values(), key=lambda group: (lengths[group[0]], group[0])):
        # Ascending lengths: this group is the longest of its batch, and all others are padded to it.
        if batches and (len(batches[-1]) + 1) * lengths[group[0]] <= batch_tokens:
            batches[-1].append(group)
        else:
            batches.append([group])
    return [[row for group in batch for row in group] for batch in batches]


def _length(rows: Sequence[int], num_tokens: Mapping[int, int], contexts: Mapping[int, Context]) -> int:
    """Tokens of one sequence: a context once, and what follows it in each row."""
    if len(rows) == 1:
        return num_tokens[rows[0]]
    behind = sum(num_tokens[row] - contexts[row].num_tokens for row in rows)
    return behind + max(contexts[row].num_tokens for row in rows)
