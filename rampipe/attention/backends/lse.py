"""Masses alone, from the kernel's own log-sum: only keys of the smaller regions are touched again.

A share is exp(logit - log_total), so a region's mass needs the logits of its own keys. That of the region with the most
keys is what the others leave of 1: where the other backends measure that the masses sum to 1, here it is presumed, and
only a sum of the others above 1 is found out. What would need every key, `hit` and `entropy_nats`, is None.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rampipe.attention.backends.backend import Backend
from rampipe.attention.backends.blocks import LEAST_EXPONENT, NOTHING, logit_blocks
from rampipe.attention.backends.dense import all_statistics
from rampipe.attention.call import AttentionCall
from rampipe.attention.rows import EVIDENCE, PADDING_SLOT, KeyLayout, SampleRows, Span
from rampipe.attention.statistics import LayerStatistics, RowRead, in_order_of_rows, read_rows
from rampipe.attention.visibility import HIDDEN


@dataclass(frozen=True, slots=True, eq=False)
class _Touched:
    """The keys of all regions but the largest. rest: slot of that one; None where only evidence is seen."""

    whole: KeyLayout
    layout: KeyLayout
    rest: int | None


class LogSum(Backend):
    """Reads the log-sum that the kernel leaves; a layer whose kernel leaves none is read densely."""

    NEEDS_LOG_TOTAL = True

    def __init__(self, samples: Sequence[SampleRows]) -> None:
        super().__init__(samples)
        self._touched: dict[int, _Touched] = {}

    def observe(self, layer: int, call: AttentionCall) -> None:
        """Compute one layer."""
        parts = [self._masses(read_rows(layer, call, sample)) for sample in self.samples]
        self.layers[layer] = in_order_of_rows(self.samples, parts)

    def finish(self) -> None:
        """Let go of the layouts."""
        self._touched = {}

    def _masses(self, read: RowRead) -> LayerStatistics:
        if read.log_total is None or read.softcap is not None or read.sinks is not None:
            return replace(all_statistics([read])[0], hit=None, entropy_nats=None)
        if id(read.layout) not in self._touched:
            self._touched[id(read.layout)] = _without_largest(read.layout)
        return _masses(read, read.log_total, self._touched[id(read.layout)])


def _masses(read: RowRead, log_total: Tensor, touched: _Touched) -> LayerStatistics:
    mass = log_total.new_zeros(*log_total.shape, PADDING_SLOT + 1)
    peak_evidence = torch.zeros_like(log_total)
    for heads, rows, logits in logit_blocks([read], touched.layout):
        shares = logits.sub_(log_total[heads, rows, None]).clamp_(min=LEAST_EXPONENT).exp_()
        for span in touched.layout.spans:
            part = shares[..., span.start : span.stop]
            mass[heads, rows, span.slot] = part.sum(dim=-1)
            if span.slot == EVIDENCE:
                peak_evidence[heads, rows] = part.amax(dim=-1)
    mass.masked_fill_(mass < NOTHING, 0)
    if touched.rest is not None:
        # A little below 0 is rounding of the kernel's sum; well below, the masses miss 1 and the row is reported.
        mass[..., touched.rest] = (1 - mass.sum(dim=-1)).clamp_(min=0)
    unseen = ~(log_total > HIDDEN / 2)
    return LayerStatistics(
        mass=mass[..., :PADDING_SLOT].masked_fill(unseen[..., None], torch.nan),
        peak_evidence=peak_evidence.masked_fill(unseen, torch.nan),
        hit=None,
        entropy_nats=None,
    )


def _without_largest(layout: KeyLayout) -> _Touched:
    others = [span for span in layout.spans if span.slot not in (EVIDENCE, PADDING_SLOT)]
    if not others:
        return _Touched(layout, layout, None)
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
    return _Touched(layout, KeyLayout(layout.order[is_kept], spans, bias, start), largest.slot)
