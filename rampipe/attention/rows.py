"""Which attention is read: query rows over the batch, and each sample's keys laid out by region."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Int, Int8
from torch import Tensor

from rampipe.errors import SampleError
from rampipe.types import REGIONS

PADDING_SLOT = len(REGIONS)
"""Where the mass of padding keys would be counted. It must stay empty: it is missing from the sum over regions."""

LEARNED_SINK = REGIONS.index("learned_sink")


@dataclass(frozen=True)
class QueryRows:
    """The rows of the attention matrix to read.

    batch: batch index of each selected row. position: its position in the (padded) sequence of queries.
    """

    batch: Int[Tensor, " row"]
    position: Int[Tensor, " row"]


@dataclass(frozen=True)
class Span:
    """Ordered keys of one region: `start` to `stop`, half open. slot: index into REGIONS or PADDING_SLOT."""

    slot: int
    start: int
    stop: int


@dataclass(frozen=True)
class KeyLayout:
    """Keys ordered by region, so that a region is one slice. spans cover `order` without gaps."""

    order: Int[Tensor, " key"]
    spans: tuple[Span, ...]


@dataclass(frozen=True, eq=False)
class SampleRows:
    """The selected rows of one batch element, and the regions of its keys.

    row: index of each row in `QueryRows`. layouts: one per number of keys, as a sliding cache holds only the last ones.
    """

    batch: int
    row: Int[Tensor, " row"]
    position: Int[Tensor, " row"]
    last_position: int
    regions: Int8[Tensor, " key"]
    layouts: dict[int, KeyLayout] = field(default_factory=dict[int, KeyLayout])

    def layout(self, num_keys: int) -> KeyLayout:
        """Layout of the last `num_keys` keys, counted from the first of them."""
        if num_keys not in self.layouts:
            order, spans = order_keys(self.regions[len(self.regions) - num_keys :])
            self.layouts[num_keys] = KeyLayout(order.to(self.position.device), tuple(spans))
        return self.layouts[num_keys]


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
    batch, position, regions = rows.batch.cpu(), rows.position.cpu(), regions.cpu()
    if len(batch) == 0 or bool(((batch < 0) | (batch >= len(regions)) | (position < 0)).any()):
        raise SampleError(
            f"query rows: {len(batch)} rows with batch indices {batch.unique().tolist()}; allowed: at least one row, "
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
    groups: list[SampleRows] = []
    for index in batch.unique().tolist():
        selected = (batch == index).nonzero().flatten()
        groups.append(
            SampleRows(
                batch=index if sequences is None else sequences[index],
                row=selected.to(device),
                position=position[selected].to(device),
                last_position=int(position[selected].max()),
                regions=regions[index],
            )
        )
    return groups


def order_keys(regions: Int8[Tensor, " key"]) -> tuple[Int[Tensor, " key"], list[Span]]:
    """Key positions sorted by region, and the slice of each region that occurs."""
    slots = regions.long()
    slots = torch.where(slots < 0, PADDING_SLOT, slots)
    order = torch.argsort(slots, stable=True)
    spans: list[Span] = []
    start = 0
    for slot, count in enumerate(torch.bincount(slots, minlength=PADDING_SLOT + 1).tolist()):
        if count:
            spans.append(Span(slot, start, start + count))
            start += count
    return order, spans


def cut_spans(spans: Sequence[Span], start: int, stop: int) -> list[Span]:
    """The parts of `spans` within `start` to `stop`, counted from `start`."""
    return [
        Span(span.slot, max(span.start, start) - start, min(span.stop, stop) - start)
        for span in spans
        if span.start < stop and span.stop > start
    ]
