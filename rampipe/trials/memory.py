"""A batch that does not fit is cut in halves; a sample that does not fit alone is an error row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from rampipe.errors import SampleError

Item = TypeVar("Item")
Result = TypeVar("Result")


def run_in_halves(
    run: Callable[[Sequence[Item]], list[Result]], items: Sequence[Item], *, name_of: Callable[[Item], str]
) -> list[Result | SampleError]:
    """`run(items)`, or of both halves when the device runs out of memory, and so on; results in the order of `items`.

    Halves are padded less than the whole, which may take SDPA to another kernel: statistics then differ by rounding, up
    to 1e-5 in float32. Code `out_of_memory` for a sample that does not fit alone.
    """
    try:
        return list(run(items))
    except torch.OutOfMemoryError as error:
        message = str(error).split(". ", 1)[0][:200]
    # Out of the handler: the exception's traceback holds the tensors that filled the device.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if len(items) == 1:
        return [
            SampleError(
                f"sample {name_of(items[0])}: does not fit on the device alone ({message}). Use a larger device, "
                "bfloat16, or fewer and smaller images. Sample skipped.",
                stage="forward",
                code="out_of_memory",
            )
        ]
    middle = len(items) // 2
    return [
        *run_in_halves(run, items[:middle], name_of=name_of),
        *run_in_halves(run, items[middle:], name_of=name_of),
    ]
