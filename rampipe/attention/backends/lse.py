"""Masses alone, from the kernel's own log-sum: only keys of the smaller regions are touched again.

A share is exp(logit - log_total), so a region's mass needs the logits of its own keys. That of the region with the most
keys is what the others leave of 1: where the other backends measure that the masses sum to 1, here it is presumed, and
only a sum of the others above 1 is found out. What would need every key, `hit` and `entropy_nats`, is None. Computed
after the forward, as by `Deferred`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from rampipe.attention.backends.blocks import LEAST_EXPONENT, NOTHING, Scratch, logit_blocks
from rampipe.attention.backends.deferred import Deferred
from rampipe.attention.backends.dense import all_statistics
from rampipe.attention.rows import EVIDENCE, PADDING_SLOT, KeyLayout, SampleRows, Span
from rampipe.attention.statistics import LayerStatistics, RowRead
from rampipe.attention.visibility import HIDDEN


class LogSum(Deferred):
    """Reads the log-sum that the kernel leaves; a layer whose kernel leaves none is read densely."""

    NEEDS_LOG_TOTAL = True

    def __init__(self, samples: Sequence[SampleRows]) -> None:
        super().__init__(samples)
        self._smaller: dict[KeyLayout, tuple[KeyLayout, int | None]] = {}

    def layout(self, read: RowRead) -> KeyLayout:
        """Without the keys of the largest region."""
        return self._without_largest(read.layout)[0]

    def compute(self, reads: Sequence[RowRead]) -> list[LayerStatistics]:
        """Masses and peaks of each of some reads of one kind."""
        if reads[0].log_total is None or reads[0].softcap is not None or reads[0].sinks is not None:
            return [replace(found, hit=None, entropy_nats=None) for found in all_statistics(reads, self.scratch)]
        layout, rest = self._without_largest(reads[0].layout)
        return _masses(reads, layout, rest, self.scratch)

    def _without_largest(self, layout: KeyLayout) -> tuple[KeyLayout, int | None]:
        if layout not in self._smaller:
            self._smaller[layout] = _without_largest(layout)
        return self._smaller[layout]


def _masses(reads: Sequence[RowRead], layout: KeyLayout, rest: int | None, scratch: Scratch) -> list[LayerStatistics]:
    """layout: of the keys that are touched. rest: slot of the region whose keys are not."""
    log_total = torch.cat([read.log_total for read in reads if read.log_total is not None])
    mass = log_total.new_zeros(*log_total.shape, PADDING_SLOT + 1)
    peak_evidence = torch.zeros_like(log_total)
    for heads, rows, logits in logit_blocks(reads, layout, scratch):
        shares = logits.sub_(log_total[heads, rows, None]).clamp_(min=LEAST_EXPONENT).exp_()
        for span in layout.spans:
            part = shares[..., span.start : span.stop]
            mass[heads, rows, span.slot] = part.sum(dim=-1)
            if span.slot == EVIDENCE:
                peak_evidence[heads, rows] = part.amax(dim=-1)
    mass.masked_fill_(mass < NOTHING, 0)
    if rest is not None:
        # A little below 0 is rounding of the kernel's sum; well below, the masses miss 1 and the row is reported.
        mass[..., rest] = (1 - mass.sum(dim=-1)).clamp_(min=0)
    unseen = ~(log_total > HIDDEN / 2)
    mass = mass[..., :PADDING_SLOT].masked_fill(unseen[..., None], torch.nan)
    peak_evidence = peak_evidence.masked_fill(unseen, torch.nan)
    whole, num_heads = LayerStatistics(mass, peak_evidence, None, None), reads[0].num_heads
    return [whole.of_heads(slice(start, start + num_heads)) for start in range(0, len(mass), num_heads)]


def _without_largest(layout: KeyLayout) -> tuple[KeyLayout, int | None]:
    """The keys of all regions but the largest, and the slot of that one; None where only evidence is seen."""
    others = [span for span in layout.spans if span.slot not in (EVIDENCE, PADDING_SLOT)]
    if not others:
        return layout, None
    largest = max(others, key=lambda span: span.stop - span.start)
    is_kept = torch.ones(len(layout.order), dtype=torch.bool, device=layout.order.device)
    is_kept[largest.start : largest.stop] = False
    gap = largest.stop - largest.start
    spans = tuple(
        Span(span.slot, span.start - gap, span.stop - gap) if span.start >= largest.stop else span
        for span in layout.spans
        if span is not largest
    )
    bias, start = layout.bias, int(is_kept[: layout.bias_start].sum())
    if bias is not None:
        bias = bias[..., is_kept[layout.bias_start :]]
    return KeyLayout(layout.order[is_kept], spans, bias, start), largest.slot
