"""Windows bound what is prepared at once, and never part the questions of a context."""

from __future__ import annotations

import torch

from rampipe.engine.windows import Prepared, batches_of, cut_windows
from rampipe.errors import SampleError
from rampipe.models.prompts import Prompt
from rampipe.trials.trial import Trial
from rampipe.types import Sample


def prepared(row: int, num_tokens: int, *, context: str = "", context_tokens: int = 0) -> Prepared:
    """A row whose question begins after `context_tokens`."""
    prompt = Prompt(
        sample_id=str(row),
        input_ids=torch.zeros(num_tokens, dtype=torch.int64),
        regions=torch.zeros(num_tokens, dtype=torch.int8),
        piece_tokens=torch.zeros(num_tokens, dtype=torch.int64),
        inputs={},
        images={},
        question=slice(context_tokens, num_tokens),
        num_prompt_tokens=num_tokens,
        visual_positions=torch.zeros(0, dtype=torch.int64),
        token_boxes=torch.zeros(0, 4),
        token_frames=torch.zeros(0, 1, dtype=torch.int64),
        flags=(),
    )
    sample = Sample(
        sample_id=str(row), domain="d", context=(), images=(), question="q", answers=(), choices=None, evidence=()
    )
    return Prepared(row, str(row), Trial(sample, context or str(row), prompt, None))


def cut(rows: list[Prepared], *, batch_tokens: int, shares_context: bool = True) -> list[list[int]]:
    windows = cut_windows(iter(rows), batch_tokens=batch_tokens, shares_context=shares_context)
    return [[row.row for row in window] for window in windows]


def test_four_batches_fill_a_window() -> None:
    rows = [prepared(row, 10) for row in range(10)]
    assert cut(rows, batch_tokens=10) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert cut(rows, batch_tokens=11) == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    assert cut([], batch_tokens=10) == []


def test_questions_on_one_context_stay_in_one_window_and_it_counts_once() -> None:
    rows = [prepared(row, 40, context="a", context_tokens=38) for row in range(8)]
    rows += [prepared(row, 40, context="b", context_tokens=38) for row in range(8, 12)]
    assert cut(rows, batch_tokens=10) == [list(range(8)), list(range(8, 12))]
    assert cut(rows, batch_tokens=13) == [list(range(8)), list(range(8, 12))]
    assert cut(rows, batch_tokens=14) == [list(range(12))]
    assert cut(rows, batch_tokens=10, shares_context=False) == [[row] for row in range(12)]


def test_a_row_that_cannot_be_measured_is_in_a_window_and_in_no_batch() -> None:
    error = Prepared(1, "1", SampleError("sample 1: broken. Sample skipped.", stage="decode", code="image_corrupt"))
    rows = [prepared(0, 10), error, prepared(2, 10)]
    (window,) = cut_windows(iter(rows), batch_tokens=10, shares_context=True)
    assert [row.row for row in window] == [0, 1, 2]
    batches = batches_of(window, batch_tokens=20, shares_context=True)
    assert [[row.row for row in batch] for batch in batches] == [[0, 2]]
