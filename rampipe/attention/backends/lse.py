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

from rampipe.attention.backends.blocks import LEAST_EXPONENT, NOTHING, logit_blocks
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

    def compute(self, samples: Sequence[Sequence[RowRead]]) -> LayerStatistics:
        """Masses and peaks, as `all_statistics` has them."""
        first = samples[0][0]
        if first.log_total is None or first.softcap is not None or first.sinks is not None:
            return replace(all_statistics(samples, self.scratch), hit=None, entropy_nats=None)
        return self._masses(samples)

    def _masses(self, samples: Sequence[Sequence[RowRead]]) -> LayerStatistics:
        log_totals = [torch.cat([read.log_total for read in reads if read.log_total is not None]) for reads in samples]
        log_total = torch.cat(log_totals, dim=1)
        mass = log_total.new_zeros(*log_total.shape, PADDING_SLOT + 1)
        peak_evidence = torch.zeros_like(log_total)
        rests, start = list[tuple[slice, int]](), 0
        for reads in samples:
            layout, rest = self._without_largest(reads[0].layout)
            own = slice(start, start + reads[0].num_rows)
            for heads, rows, logits in logit_blocks(reads, layout, self.scratch):
                at = (heads, slice(start + rows.start, start + rows.stop))
                shares = logits.sub_(log_total[at][..., None]).clamp_(min=LEAST_EXPONENT).exp_()
                for span in layout.spans:
                    part = shares[..., span.start : span.stop]
                    mass[at][..., span.slot] = part.sum(dim=-1)
                    if span.slot == EVIDENCE:
                        peak_evidence[at] = part.amax(dim=-1)
            rests += [] if rest is None else [(own, rest)]
            start = own.stop
        mass.masked_fill_(mass < NOTHING, 0)
        # A little below 0 is rounding of the kernel's sum; well below, the masses miss 1 and the row is reported.
        missing = (1 - mass.sum(dim=-1)).clamp_(min=0)
        for own, rest in rests:
            mass[:, own, rest] = missing[:, own]
        unseen = ~(log_total > HIDDEN / 2)
        mass = mass[..., :PADDING_SLOT].masked_fill_(unseen[..., None], torch.nan)
        return LayerStatistics(mass, peak_evidence.masked_fill(unseen, torch.nan), None, None)

    def _without_largest(self, layout: KeyLayout) -> tuple[KeyLayout, int | None]:
        if layout not in self._smaller:
            self._smaller[layout] = _without_largest(layout)
        return self._smaller[layout]


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
