"""Every statistic, at once: logits of the selected rows against all keys that they see, a block at a time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from rampipe.attention.backends.backend import Backend
from rampipe.attention.backends.blocks import LEAST_EXPONENT, NOTHING, Scratch, logit_blocks
from rampipe.attention.backends.tops import EvidenceTops
from rampipe.attention.call import AttentionCall
from rampipe.attention.rows import LEARNED_SINK, PADDING_SLOT, KeyLayout
from rampipe.attention.statistics import LayerStatistics, RowRead, in_order_of_rows, read_rows
from rampipe.attention.visibility import HIDDEN


class Dense(Backend):
    """The reference: it runs within the forward and keeps nothing of it."""

    def observe(self, layer: int, call: AttentionCall) -> None:
        """Compute one layer."""
        parts = [all_statistics([read_rows(layer, call, sample)], self.scratch)[0] for sample in self.samples]
        self.layers[layer] = in_order_of_rows(self.samples, parts)


def all_statistics(reads: Sequence[RowRead], scratch: Scratch) -> list[LayerStatistics]:
    """Statistics of each of some reads with the same layout and shapes, such as layers of one model."""
    first = reads[0]
    num_heads, num_rows, device = len(reads) * first.num_heads, first.query.shape[2], first.query.device
    sinks = None if first.sinks is None else torch.cat([read.sinks.float() for read in reads if read.sinks is not None])
    mass = torch.empty(num_heads, num_rows, PADDING_SLOT, device=device)
    peak_evidence, entropy = torch.empty(2, num_heads, num_rows, device=device)
    hit = torch.empty(num_heads, num_rows, dtype=torch.bool, device=device)
    tops = EvidenceTops.of(first, num_heads=num_heads)
    for heads, rows, logits in logit_blocks(reads, first.layout, scratch):
        weights = scratch.take("weights", logits.shape, like=logits)
        found = _summarise(logits, first.layout, None if sinks is None else sinks[heads], weights=weights)
        mass[heads, rows], peak_evidence[heads, rows], hit[heads, rows], entropy[heads, rows] = found
        if tops is not None:
            tops.read(logits, mass[heads, rows], heads=heads, rows=rows)
    parts = [slice(start, start + first.num_heads) for start in range(0, num_heads, first.num_heads)]
    if tops is None:
        return [LayerStatistics(mass[part], peak_evidence[part], hit[part], entropy[part]) for part in parts]
    return [
        LayerStatistics(mass[part], peak_evidence[part], hit[part], entropy[part], tops.index[part], tops.mass[part])
        for part in parts
    ]


def _summarise(
    logits: Float[Tensor, "head row key"],
    layout: KeyLayout,
    sinks: Float[Tensor, " head"] | None,
    *,
    weights: Float[Tensor, "head row key"],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """mass, peak_evidence, hit, entropy_nats of whole rows; `weights` is memory for it.

    Leaves in `logits` their distance from the row's largest, LEAST_EXPONENT at least.
    """
    evidence_peak = _largest(logits[..., : layout.num_evidence])
    other_peak = _largest(logits[..., layout.num_evidence :])
    peak = torch.maximum(evidence_peak, other_peak)
    torch.exp(logits.sub_(peak[..., None]).clamp_(min=LEAST_EXPONENT), out=weights)
    weight = weights.new_zeros(*weights.shape[:2], PADDING_SLOT + 1)
    for span in layout.spans:
        weight[..., span.slot] = weights[..., span.start : span.stop].sum(dim=-1)
    weight.masked_fill_(weight < NOTHING, 0)
    weighted_logit = weights.mul_(logits).sum(dim=-1)
    total = weight.sum(dim=-1)
    log_total = peak + total.log()
    if sinks is not None:
        log_total = torch.logaddexp(log_total, sinks[:, None])
    share = (peak - log_total).exp()
    mass = (weight * share[..., None])[..., :PADDING_SLOT]
    if sinks is not None:
        mass[..., LEARNED_SINK] = (sinks[:, None] - log_total).exp()
    entropy = ((log_total - peak) * total - weighted_logit) * share
    unseen = peak < HIDDEN / 2
    return (
        mass.masked_fill(unseen[..., None], torch.nan),
        (evidence_peak - log_total).exp().masked_fill(unseen, torch.nan),
        (evidence_peak > other_peak) & ~unseen,
        entropy.masked_fill(unseen, torch.nan),
    )


def _largest(logits: Float[Tensor, "head row key"]) -> Float[Tensor, "head row"]:
    return logits.amax(dim=-1) if logits.shape[-1] else logits.new_full(logits.shape[:-1], HIDDEN)
