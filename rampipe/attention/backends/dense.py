"""Every statistic, at once: logits of the selected rows against all keys that they see, a block at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from rampipe.attention.backends.backend import Backend
from rampipe.attention.backends.blocks import LEAST_EXPONENT, NOTHING, Scratch, logit_blocks
from rampipe.attention.backends.tops import EvidenceTops
from rampipe.attention.call import AttentionCall
from rampipe.attention.rows import EVIDENCE, LEARNED_SINK, PADDING_SLOT, KeyLayout
from rampipe.attention.statistics import LayerStatistics, RowRead, in_order_of_rows, read_rows
from rampipe.attention.visibility import HIDDEN

NUM_SLOTS = PADDING_SLOT + 1


class Dense(Backend):
    """The reference: it runs within the forward and keeps nothing of it."""

    def observe(self, layer: int, call: AttentionCall) -> None:
        """Compute one layer."""
        parts = [all_statistics([read_rows(layer, call, sample)], self.scratch)[0] for sample in self.samples]
        self.layers[layer] = in_order_of_rows(self.samples, parts)


def all_statistics(reads: Sequence[RowRead], scratch: Scratch) -> list[LayerStatistics]:
    """Statistics of each of some reads with the same layout and shapes, such as layers of one model."""
    first = reads[0]
    num_heads, num_rows = len(reads) * first.num_heads, first.query.shape[2]
    sinks = None if first.sinks is None else torch.cat([read.sinks.float() for read in reads if read.sinks is not None])
    sums = _RowSums(num_heads, num_rows, device=first.query.device)
    tops = EvidenceTops.of(first, num_heads=num_heads)
    for heads, rows, logits in logit_blocks(reads, first.layout, scratch):
        sums.read(logits, first.layout, (heads, rows), weights=scratch.take("weights", logits.shape, like=logits))
        if tops is not None:
            tops.read(logits, heads=heads, rows=rows)
    whole = sums.statistics(None if sinks is None else sinks[:, None])
    if tops is not None:
        whole = replace(whole, evidence_index=tops.index, mass_evidence_top=tops.frac * whole.mass[..., EVIDENCE])
    return [whole.of_heads(slice(start, start + first.num_heads)) for start in range(0, num_heads, first.num_heads)]


class _RowSums:
    """What one look at the logits of whole rows leaves, filled block by block; weights are exp(logit - peak).

    table: their sum by slot, then largest logit of evidence, largest of the rest, sum of weight times logit - peak.
    """

    def __init__(self, num_heads: int, num_rows: int, *, device: torch.device) -> None:
        self.table: Float[Tensor, "head row column"] = torch.zeros(num_heads, num_rows, NUM_SLOTS + 3, device=device)
        self.table[..., NUM_SLOTS:] = HIDDEN

    def read(
        self, logits: Float[Tensor, "head row key"], layout: KeyLayout, at: tuple[slice, slice], *, weights: Tensor
    ) -> None:
        """One block, of the heads and rows `at`; `weights` is memory for it.

        Leaves in `logits` their distance from the row's largest, LEAST_EXPONENT at least.
        """
        *slots, evidence_peak, other_peak, weighted_logit = self.table[at].unbind(dim=-1)
        num_evidence = layout.num_evidence
        evidence, others = logits.split([num_evidence, logits.shape[-1] - num_evidence], dim=-1)
        for peak, part in ((evidence_peak, evidence), (other_peak, others)):
            if part.shape[-1]:
                torch.amax(part, dim=-1, out=peak)
        peak = torch.maximum(evidence_peak, other_peak)
        torch.exp(logits.sub_(peak[..., None]).clamp_(min=LEAST_EXPONENT), out=weights)
        of_spans = weights.split([span.stop - span.start for span in layout.spans], dim=-1)
        for span, of_span in zip(layout.spans, of_spans, strict=True):
            torch.sum(of_span, dim=-1, out=slots[span.slot])
        torch.sum(weights.mul_(logits), dim=-1, out=weighted_logit)

    def statistics(self, sinks: Float[Tensor, "head 1"] | None) -> LayerStatistics:
        """Of all rows, when all blocks were read."""
        weight = self.table[..., :NUM_SLOTS]
        weight = weight.masked_fill(weight < NOTHING, 0)
        evidence_peak, other_peak, weighted_logit = self.table[..., NUM_SLOTS:].unbind(dim=-1)
        peak = torch.maximum(evidence_peak, other_peak)
        total = weight.sum(dim=-1)
        log_total = peak + total.log()
        if sinks is not None:
            log_total = torch.logaddexp(log_total, sinks)
        share = (peak - log_total).exp()
        mass = (weight * share[..., None])[..., :PADDING_SLOT]
        if sinks is not None:
            mass[..., LEARNED_SINK] = (sinks - log_total).exp()
        unseen = peak < HIDDEN / 2
        return LayerStatistics(
            mass=mass.masked_fill(unseen[..., None], torch.nan),
            peak_evidence=(evidence_peak - log_total).exp().masked_fill(unseen, torch.nan),
            hit=(evidence_peak > other_peak) & ~unseen,
            entropy_nats=(((log_total - peak) * total - weighted_logit) * share).masked_fill(unseen, torch.nan),
        )
