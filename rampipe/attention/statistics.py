"""The second pass: exact softmax statistics of selected query rows, without ever holding their attention matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rampipe.attention.call import AttentionCall
from rampipe.attention.rows import LEARNED_SINK, PADDING_SLOT, SampleRows, Span, cut_spans
from rampipe.attention.visibility import HIDDEN, row_bias
from rampipe.errors import SampleError
from rampipe.types import REGIONS

EVIDENCE = REGIONS.index("evidence")


@dataclass(frozen=True)
class LayerStatistics:
    """What each head of one layer attends to, per selected row; float32, on the layer's device.

    mass: share of attention per region, in the order of REGIONS; sums to 1. A region without keys has mass 0: whether
    that is a measurement or an absence (a prompt without evidence) is for the caller to say.
    peak_evidence: largest share on one evidence key. hit: the largest share of all keys is on evidence; a tie with
    another key is no hit, so a head that attends uniformly never hits.
    entropy_nats: minus the sum of p ln p over the keys; p is not renormalised when a learned sink takes a share.
    A row that sees no key at all is NaN.
    """

    mass: Float[Tensor, "head row region"]
    peak_evidence: Float[Tensor, "head row"]
    hit: Bool[Tensor, "head row"]
    entropy_nats: Float[Tensor, "head row"]


@dataclass
class _Running:
    """Sums over the keys seen so far, relative to the largest logit so far (online softmax, arXiv 1805.02867)."""

    peak: Float[Tensor, "head row"]
    evidence_peak: Float[Tensor, "head row"]
    other_peak: Float[Tensor, "head row"]
    weight: Float[Tensor, "head row slot"]
    weighted_logit: Float[Tensor, "head row"]

    @classmethod
    def start(cls, num_heads: int, num_rows: int, device: torch.device) -> _Running:
        nothing = torch.full((num_heads, num_rows), HIDDEN, device=device)
        weight = torch.zeros(num_heads, num_rows, PADDING_SLOT + 1, device=device)
        return cls(nothing, nothing, nothing, weight, torch.zeros_like(nothing))

    def add(self, logits: Float[Tensor, "head row key"], spans: Sequence[Span]) -> None:
        """Take in one chunk of keys. Overwrites `logits`."""
        for span in spans:
            span_peak = logits[..., span.start : span.stop].amax(dim=-1)
            if span.slot == EVIDENCE:
                self.evidence_peak = torch.maximum(self.evidence_peak, span_peak)
            else:
                self.other_peak = torch.maximum(self.other_peak, span_peak)
        before, self.peak = self.peak, torch.maximum(self.evidence_peak, self.other_peak)
        change = before - self.peak
        self.weighted_logit = (self.weighted_logit + self.weight.sum(dim=-1) * change) * change.exp()
        self.weight *= change.exp()[..., None]
        weights = logits.sub_(self.peak[..., None]).exp()
        for span in spans:
            self.weight[..., span.slot] += weights[..., span.start : span.stop].sum(dim=-1)
        self.weighted_logit += weights.mul_(logits).sum(dim=-1)

    def finish(self, sinks: Float[Tensor, " head"] | None) -> LayerStatistics:
        total = self.weight.sum(dim=-1)
        log_total = self.peak + total.log()
        sink_mass = torch.zeros_like(total)
        if sinks is not None:
            sink_logit = sinks.float()[:, None]
            log_total = torch.logaddexp(log_total, sink_logit)
            sink_mass = (sink_logit - log_total).exp()
        share = (self.peak - log_total).exp()
        mass = self.weight * share[..., None]
        mass[..., LEARNED_SINK] = sink_mass
        entropy = (log_total - self.peak) * total * share - self.weighted_logit * share
        unseen = self.peak < HIDDEN / 2
        return LayerStatistics(
            mass=mass[..., :PADDING_SLOT].masked_fill(unseen[..., None], torch.nan),
            peak_evidence=(self.evidence_peak - log_total).exp().masked_fill(unseen, torch.nan),
            hit=(self.evidence_peak > self.other_peak) & ~unseen,
            entropy_nats=entropy.masked_fill(unseen, torch.nan),
        )


@torch.no_grad()
def row_statistics(call: AttentionCall, samples: Sequence[SampleRows], *, key_chunk: int) -> LayerStatistics:
    """Statistics of all rows of all samples, in the order of `QueryRows`; float32 whatever the model's type.

    Memory is O(heads x rows x key_chunk). Raises SampleError when a row or the keys lie outside of this call.
    """
    with torch.autocast(call.query.device.type, enabled=False):
        parts = [_sample_statistics(call, sample, key_chunk=key_chunk) for sample in samples]
    inverse = torch.argsort(torch.cat([sample.row for sample in samples])).to(call.query.device)
    return LayerStatistics(
        mass=torch.cat([part.mass for part in parts], dim=1)[:, inverse],
        peak_evidence=torch.cat([part.peak_evidence for part in parts], dim=1)[:, inverse],
        hit=torch.cat([part.hit for part in parts], dim=1)[:, inverse],
        entropy_nats=torch.cat([part.entropy_nats for part in parts], dim=1)[:, inverse],
    )


def _sample_statistics(call: AttentionCall, sample: SampleRows, *, key_chunk: int) -> LayerStatistics:
    _check_extent(call, sample)
    num_heads, num_keys = call.query.shape[1], call.key.shape[2]
    num_kv_heads, num_rows, dim = call.key.shape[1], len(sample.position), call.query.shape[3]
    position = sample.position.to(call.query.device)
    layout = sample.layout(num_keys)
    order = layout.order.to(call.query.device)
    query = call.query[sample.batch].index_select(1, position).float() * call.scaling
    # The query heads of one kv head are neighbours: a view puts them beside the rows, and no key is repeated.
    query = query.view(num_kv_heads, num_heads // num_kv_heads * num_rows, dim)
    running = _Running.start(num_heads, num_rows, call.query.device)
    for start in range(0, num_keys, key_chunk):
        chosen = order[start : start + key_chunk]
        key = call.key[sample.batch].index_select(1, chosen).float()
        logits = torch.matmul(query, key.transpose(1, 2)).view(num_heads, num_rows, len(chosen))
        if call.softcap is not None:
            logits = logits.div_(call.softcap).tanh_().mul_(call.softcap)
        logits += row_bias(call, sample.batch, position=position, key=chosen)
        running.add(logits, cut_spans(layout.spans, start, start + len(chosen)))
    return running.finish(call.sinks)


def _check_extent(call: AttentionCall, sample: SampleRows) -> None:
    num_batch, _, num_queries, _ = call.query.shape
    num_keys, num_regions = call.key.shape[2], len(sample.regions)
    if sample.last_position >= num_queries or sample.batch >= num_batch:
        raise SampleError(
            f"query row at batch {sample.batch}, position {sample.last_position}: the forward has {num_batch} "
            f"sequences of {num_queries} queries. Positions count from the first query of this forward; without a "
            "cache that is the first token.",
            stage="statistics",
            code="rows_out_of_range",
        )
    if num_keys > num_regions:
        raise SampleError(
            f"batch element {sample.batch}: attention over {num_keys} keys, but regions name {num_regions}. Give a "
            "region to every key, cached ones included; static caches are not supported.",
            stage="statistics",
            code="regions_too_short",
        )
