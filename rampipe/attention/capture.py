"""Read the heads of any transformers decoder during one forward, which stays bit for bit what it was.

with capture_attention(model, rows=rows, regions=regions) as recorder:
    model(**inputs)
check_recorded(recorder, model)
recorder.layers[12].mass  # [head, row, region]
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Int8
from torch import Tensor
from transformers import PreTrainedModel

from rampipe.attention.interface import observe_attention
from rampipe.attention.layers import bad_rows, check_recorded, expected_layers
from rampipe.attention.recorder import Recorder
from rampipe.attention.rows import QueryRows, group_rows
from rampipe.attention.statistics import LayerStatistics
from rampipe.errors import ConfigError, ModelError

__all__ = [
    "LayerStatistics",
    "QueryRows",
    "Recorder",
    "bad_rows",
    "capture_attention",
    "check_recorded",
    "expected_layers",
]


@contextmanager
def capture_attention(
    model: PreTrainedModel,
    *,
    rows: QueryRows,
    regions: Int8[Tensor, "batch key"],
    sequences: Sequence[int] | None = None,
    key_chunk: int = 4096,
) -> Generator[Recorder]:
    """Record the statistics of `rows` in every softmax-attention layer of the decoder during the next forward.

    regions: index into REGIONS for every key, cached ones included; -1 for padding, which the model's own mask must
    hide. sequences: the sequence of the forward that each batch index of rows and regions reads, where several
    questions share one; by default its own. key_chunk: keys whose logits are held at once.
    The vision tower and other models of the process are not recorded. One forward per context; contexts do not nest.
    Raises SampleError for rows or regions out of range, ModelError for attention that cannot be repeated exactly.
    """
    if key_chunk < 1:
        raise ConfigError(f"key_chunk is {key_chunk}; allowed: 1 or more. Take the default, 4096.")
    if torch.get_float32_matmul_precision() != "highest":
        raise ModelError(
            f"torch's float32 matmul precision is {torch.get_float32_matmul_precision()!r}; needed: 'highest', as "
            "statistics are exact to 1e-4. Call torch.set_float32_matmul_precision('highest')."
        )
    recorder = Recorder(group_rows(rows, regions, device=model.device, sequences=sequences), key_chunk=key_chunk)
    with observe_attention(model.get_decoder(), recorder.observe):
        yield recorder
