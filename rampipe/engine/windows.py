"""The rows of a unit, prepared and cut into windows: what is composed by length and measured together.

Where a window ends depends on the rows alone, never on who prepared them or how fast.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from rampipe.errors import SampleError
from rampipe.trials.batches import Context, compose_batches
from rampipe.trials.trial import Trial

WINDOW_BATCHES = 4
"""A window fills so many batches. More means less padding and more memory."""


class Prepared(NamedTuple):
    """One row, ready for the replica, or why it is not."""

    row: int
    sample_id: str
    trial: Trial | SampleError


Window = list[Prepared]


def cut_windows(rows: Iterator[Prepared], *, batch_tokens: int, shares_context: bool) -> Iterator[Window]:
    """All rows in order. A window ends when it is full and the next row is about a context that is not in it.

    shares_context: rows of one context are measured together and their context counts once.
    """
    window, contexts, num_tokens = Window(), set[str](), 0
    for row in rows:
        context = _context(row.trial, shares_context=shares_context)
        if num_tokens >= WINDOW_BATCHES * batch_tokens and not (context and context.key in contexts):
            yield window
            window, contexts, num_tokens = Window(), set[str](), 0
        window.append(row)
        if isinstance(row.trial, Trial):
            num_tokens += row.trial.num_tokens
        if context is not None:
            num_tokens -= context.num_tokens if context.key in contexts else 0
            contexts.add(context.key)
    if window:
        yield window


def batches_of(window: Window, *, batch_tokens: int, shares_context: bool) -> list[list[Prepared]]:
    """The rows of a window that go through the model together; rows with an error are in none."""
    by_row = {row.row: row for row in window}
    lengths = {row.row: row.trial.num_tokens for row in window if isinstance(row.trial, Trial)}
    contexts = {
        row.row: context
        for row in window
        if (context := _context(row.trial, shares_context=shares_context)) is not None
    }
    kinds = {row.row: row.trial.prompt.stack_kind for row in window if isinstance(row.trial, Trial)}
    batches = compose_batches(lengths, batch_tokens=batch_tokens, contexts=contexts, kind_of=kinds)
    return [[by_row[row] for row in batch] for batch in batches]


def _context(trial: Trial | SampleError, *, shares_context: bool) -> Context | None:
    if not shares_context or isinstance(trial, SampleError) or not trial.prompt.begins_with_context:
        return None
    return Context(trial.context_key, trial.prompt.question.start)
