"""Which attention is read: query rows over the batch, and each sample's keys laid out by region."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Int8, Int64
from torch import Tensor

from rampipe.errors import SampleError
from rampipe.types import REGIONS

PADDING_SLOT = len(REGIONS)
"""Where the mass of padding keys is counted. It must stay empty: it is missing from the sum over regions."""

EVIDENCE, LEARNED_SINK = REGIONS.index("evidence"), REGIONS.index("learned_sink")


@dataclass(frozen=True)
class QueryRows:
    """The rows of the attention matrix to read.

    batch: batch index of each selected row. position: its position in the (padded) sequence of queries. tops: rows
    that also get what `evidence_tops` finds; None for none.
    """

    batch: Int[Tensor, " row"]
    position: Int[Tensor, " row"]
    tops: Bool[Tensor, " row"] | None = None


@dataclass(frozen=True, slots=True)
class Span:
    """Keys of one region: `start` to `stop` of the ordered ones, half open. slot: into REGIONS, or PADDING_SLOT."""

    slot: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True, eq=False)
class KeyLayout:
    """Keys that at least one row sees, evidence first. spans cover them without gaps.

    order: index into the keys of the call. bias: added to the logits from the ordered key `bias_start` on; every row
    sees all keys before it. None when nothing is hidden.
    """

    order: Int[Tensor, " key"]
    spans: tuple[Span, ...]
    bias: Float[Tensor, "head_or_one row biased"] | None
    bias_start: int

    @property
    def num_evidence(self) -> int:
        """Keys before this one are evidence."""
        return self.spans[0].stop if self.spans[0].slot == EVIDENCE else 0


@dataclass(frozen=True, eq=False)
class SampleRows:
    """The selected rows of one batch element, and the regions of its keys.

    row: index of each row in `QueryRows`. run: the positions as a slice, which is copied five times as fast; None where
    they have gaps. tops: of these rows, on the CPU. layouts: what `lay_out_keys` has worked out, by mask, with that
    mask.
    """

    batch: int
    row: Int[Tensor, " row"]
    position: Int[Tensor, " row"]
    last_position: int
    regions: Int8[Tensor, " key"]
    run: slice | None = None
    tops: Bool[Tensor, " row"] | None = None
    layouts: dict[tuple[object, ...], tuple[Tensor | None, KeyLayout]] = field(
        default_factory=dict[tuple[object, ...], tuple[Tensor | None, KeyLayout]]
    )


def group_rows(
    rows: QueryRows,
    regions: Int8[Tensor, "batch key"],
    *,
    device: torch.device,
    sequences: Sequence[int] | None = None,
) -> list[SampleRows]:
    """One entry per batch index that has rows. Raises SampleError for rows or regions out of range.

    sequences: for each batch index of `rows` and `regions`, the sequence of the forward that it reads; by default its
    own. Several may read one sequence, each with regions of its own.
    """
    batch, position, regions = rows.batch.cpu().numpy(), rows.position.cpu().numpy(), regions.cpu()
    present = np.unique(batch).tolist()
    if len(batch) == 0 or ((batch < 0) | (batch >= len(regions)) | (position < 0)).any():
        raise SampleError(
            f"query rows: {len(batch)} rows with batch indices {present}; allowed: at least one row, "
            f"batch 0 to {len(regions) - 1}, position from 0. Select rows of the prompts in the batch.",
            stage="statistics",
            code="rows_out_of_range",
        )
    if int(regions.min()) < -1 or int(regions.max()) >= LEARNED_SINK:
        raise SampleError(
            f"regions of keys: values {int(regions.min())} to {int(regions.max())}; allowed: -1 (padding) to "
            f"{LEARNED_SINK - 1} ({REGIONS[LEARNED_SINK - 1]}). A key cannot be in {REGIONS[LEARNED_SINK]}.",
            stage="statistics",
            code="regions_out_of_range",
        )
    chosen = {index: np.flatnonzero(batch == index) for index in present}
    return [
        SampleRows(
            batch=index if sequences is None else sequences[index],
            row=torch.from_numpy(selected).to(device),
            position=torch.from_numpy(position[selected]).to(device),
            last_position=int(position[selected].max()),
            regions=regions[index],
            run=_run(position[selected]),
            tops=None if rows.tops is None else rows.tops.cpu()[selected],
        )
        for index, selected in chosen.items()
    ]


def _run(position: Int64[np.ndarray, " row"]) -> slice | None:
    first, is_run = int(position[0]), (np.diff(position) == 1).all()
    return slice(first, first + len(position)) if is_run else None
