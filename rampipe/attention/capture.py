"""Read the heads of any transformers decoder during one forward, which stays bit for bit what it was.

with capture_attention(model, rows=rows, regions=regions) as recorder:
    model(**inputs)
check_recorded(recorder, model)
recorder.layers[12].mass  # [head, row, region]
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Sequence
from contextlib import contextmanager, suppress

import torch
from jaxtyping import Int8
from torch import Tensor
from transformers import PreTrainedModel

from rampipe.attention.backends import BackendName, choose_backend
from rampipe.attention.interface import observe_attention
from rampipe.attention.layers import bad_rows, check_recorded, expected_layers
from rampipe.attention.recorder import Recorder
from rampipe.attention.rows import QueryRows, group_rows
from rampipe.attention.statistics import LayerStatistics
from rampipe.attention.stopping import ForwardStopped
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
def capture_attention(  # noqa: PLR0913 - what is read, where it lies, and how
    model: PreTrainedModel,
    *,
    rows: QueryRows,
    regions: Int8[Tensor, "batch key"],
    sequences: Sequence[int] | None = None,
    backend: BackendName = "auto",
    layers: Collection[int] | None = None,
    stop: bool = False,
) -> Generator[Recorder]:
    """Record the statistics of `rows` in softmax-attention layers of the decoder during the next forward.

    regions: index into REGIONS for every key, cached ones included; -1 for padding, which the model's own mask must
    hide. sequences: the sequence of the forward that each batch index of rows and regions reads, where several
    questions share one; by default its own. layers: their indices, by default all. stop: end the forward, and with it
    the body of the context, once the attention of the last of them has run; no output comes back.
    The vision tower and other models of the process are not recorded. One forward per context; contexts do not nest.
    `Recorder.layers` is whole once the context has been left.
    Raises SampleError for rows or regions out of range, ModelError for attention that cannot be repeated exactly and
    for layers that the model does not have, ConfigError for `rows.tops` with backend lse.
    """
    if rows.tops is not None and backend == "lse":
        raise ConfigError("backend 'lse' does not touch every key, so it finds no tops; allowed: dense, deferred, auto")
    if torch.get_float32_matmul_precision() != "highest":
        raise ModelError(
            f"torch's float32 matmul precision is {torch.get_float32_matmul_precision()!r}; needed: 'highest', as "
            "statistics are exact to 1e-4. Call torch.set_float32_matmul_precision('highest')."
        )
    samples = group_rows(rows, regions, device=model.device, sequences=sequences)
    chosen = choose_backend(backend, num_keys=regions.shape[1])(samples)
    wanted = expected_layers(model, layers)
    recorder = Recorder(chosen, wanted=wanted, last=wanted[-1] if stop else None)
    needs_log_total = chosen.NEEDS_LOG_TOTAL
    with (
        suppress(ForwardStopped),
        observe_attention(model.get_decoder(), recorder.observe, needs_log_total=needs_log_total),
    ):
        yield recorder
    recorder.finish()
