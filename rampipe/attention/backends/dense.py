"""Every statistic, at once: logits of the selected rows against all keys that they see, a block at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from rampipe.attention.backends.backend import Backend
from rampipe.attention.backends.blocks import LEAST_EXPONENT, NOTHING, Scratch, logit_blocks
from rampipe.attention.backends.tops import EvidenceTops
from rampipe.attention.call import AttentionCall
from rampipe.attention.rows import EVIDENCE, LEARNED_SINK, PADDING_SLOT, KeyLayout
from rampipe.attention.statistics import LayerStatistics, RowRead, read_rows
from rampipe.attention.visibility import HIDDEN


class Dense(Backend):
    """The reference: it runs within the forward and keeps nothing of it."""

    def observe(self, layer: int, call: AttentionCall) -> None:
        """Compute one layer."""
        reads = [[read_rows(call, sample)] for sample in self.samples]
        self.keep([layer], all_statistics(reads, self.scratch))


def all_statistics(samples: Sequence[Sequence[RowRead]], scratch: Scratch) -> LayerStatistics:
    """Statistics of several samples, rows one sample behind the other, heads one read behind the other.

    samples: of each, reads with the same layout and shapes, such as layers of one model; the same layers of all.
    """
    reads = samples[0]
    num_heads, num_rows = len(reads) * reads[0].num_heads, sum(of_sample[0].num_rows for of_sample in samples)
    sums, tops = _RowSums.empty(num_heads, num_rows, device=reads[0].query.device), list[EvidenceTops]()
    start = 0
    for of_sample in samples:
        first = of_sample[0]
        own_tops = EvidenceTops.of(first, num_heads=num_heads)
        for heads, rows, logits in logit_blocks(of_sample, first.layout, scratch):
            at = (heads, slice(start + rows.start, start + rows.stop))
            sums.read(logits, first.layout, at, weights=scratch.take("weights", logits.shape, like=logits))
            if own_tops is not None:
                own_tops.read(logits, heads=heads, rows=rows)
        start += first.num_rows
        tops += [] if own_tops is None else [own_tops]
    sinks = [read.sinks.float() for read in reads if read.sinks is not None]
    whole = sums.statistics(torch.cat(sinks)[:, None] if sinks else None)
    if tops:
        frac = torch.cat([own.frac for own in tops], dim=1)
        index = torch.cat([own.index for own in tops], dim=1)
        whole = replace(whole, evidence_index=index, mass_evidence_top=frac * whole.mass[..., EVIDENCE])
    return whole


@dataclass(frozen=True, slots=True, eq=False)
class _RowSums:
    """What one look at the logits of whole rows leaves, filled block by block; weights are exp(logit - peak)."""

    evidence_peak: Float[Tensor, "head row"]
    other_peak: Float[Tensor, "head row"]
    weight: Float[Tensor, "head row slot"]
    weighted_logit: Float[Tensor, "head row"]

    @classmethod
    def empty(cls, num_heads: int, num_rows: int, *, device: torch.device) -> _RowSums:
        """Of so many rows, none of them read."""
        evidence_peak, other_peak, weighted_logit = torch.full((3, num_heads, num_rows), HIDDEN, device=device)
        weight = torch.zeros(num_heads, num_rows, PADDING_SLOT + 1, device=device)
        return cls(evidence_peak, other_peak, weight, weighted_logit)

    def read(
        self, logits: Float[Tensor, "head row key"], layout: KeyLayout, at: tuple[slice, slice], *, weights: Tensor
    ) -> None:
        """One block, of the heads and rows `at`; `weights` is memory for it.

        Leaves in `logits` their distance from the row's largest, LEAST_EXPONENT at least.
        """
        evidence_peak, other_peak, weight = self.evidence_peak[at], self.other_peak[at], self.weight[at]
        for peak, part in (
            (evidence_peak, logits[..., : layout.num_evidence]),
            (other_peak, logits[..., layout.num_evidence :]),
        ):
            if part.shape[-1]:
                torch.amax(part, dim=-1, out=peak)
        peak = torch.maximum(evidence_peak, other_peak)
        torch.exp(logits.sub_(peak[..., None]).clamp_(min=LEAST_EXPONENT), out=weights)
        for span in layout.spans:
            torch.sum(weights[..., span.start : span.stop], dim=-1, out=weight[..., span.slot])
        torch.sum(weights.mul_(logits), dim=-1, out=self.weighted_logit[at])

    def statistics(self, sinks: Float[Tensor, "head 1"] | None) -> LayerStatistics:
        """Of all rows, when all blocks were read, in the memory of the sums."""
        peak = torch.maximum(self.evidence_peak, self.other_peak)
        weight = self.weight.masked_fill_(self.weight < NOTHING, 0)
        total = weight.sum(dim=-1)
        log_total = peak + total.log()
        if sinks is not None:
            log_total = torch.logaddexp(log_total, sinks)
        share = (peak - log_total).exp()
        mass = weight.mul_(share[..., None])[..., :PADDING_SLOT]
        if sinks is not None:
            mass[..., LEARNED_SINK] = (sinks - log_total).exp()
        unseen = peak < HIDDEN / 2
        return LayerStatistics(
            mass=mass.masked_fill_(unseen[..., None], torch.nan),
            peak_evidence=(self.evidence_peak - log_total).exp().masked_fill(unseen, torch.nan),
            hit=(self.evidence_peak > self.other_peak) & ~unseen,
            entropy_nats=(((log_total - peak) * total - self.weighted_logit) * share).masked_fill(unseen, torch.nan),
        )
