"""Which evidence key a row attends to most, and what of its evidence mass lies on the row's largest keys.

Regions are sums; this is the little more that copying heads, and heads found by their largest keys, are told by.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rampipe.attention.rows import EVIDENCE
from rampipe.attention.statistics import RowRead


@dataclass(frozen=True, slots=True, eq=False)
class EvidenceTops:
    """Filled block by block.

    index: which of the sample's evidence keys, counted from 0 in the order of the sequence, has the largest share; the
    first of several; 0 where a row sees none. frac: share of the row's evidence mass on those evidence keys that are
    among its n largest keys, n being the sample's number of evidence keys; ties with the n-th count as among them.
    Rows that are not wanted have -1 and NaN.
    """

    index: Int[Tensor, "head row"]
    frac: Float[Tensor, "head row"]
    wanted: Bool[Tensor, " row"]
    num_top: int
    place: Int[Tensor, " evidence"]
    """`index` of the layout's evidence keys: those that no row sees are not in it."""

    @classmethod
    def of(cls, read: RowRead, *, num_heads: int) -> EvidenceTops | None:
        """For the rows of `read` that are wanted, of `num_heads` heads; None where none is."""
        sample, layout = read.sample, read.layout
        if sample.tops is None:
            return None
        device = read.query.device
        is_evidence = sample.regions == EVIDENCE
        count = is_evidence.cumsum(0)[len(is_evidence) - read.key.shape[1] :].to(device) - 1
        shape = (num_heads, len(sample.tops))
        return cls(
            index=torch.full(shape, -1, device=device),
            frac=torch.full(shape, torch.nan, device=device),
            wanted=sample.tops,
            num_top=int(is_evidence.sum()),
            place=count[layout.order[: layout.num_evidence]],
        )

    def read(self, logits: Float[Tensor, "head row key"], *, heads: slice, rows: slice) -> None:
        """One block. logits: over the keys of the layout, up to a constant of each row."""
        chosen = self.wanted[rows].nonzero().flatten().to(logits.device)
        if len(chosen) == 0:
            return
        logits, at = logits[:, chosen], chosen + rows.start
        evidence = logits[..., : len(self.place)]
        if len(self.place) == 0:
            self.index[heads, at], self.frac[heads, at] = 0, 0.0
            return
        smallest = logits.shape[-1] + 1 - min(self.num_top, logits.shape[-1])
        bound = logits.kthvalue(smallest, dim=-1, keepdim=True).values
        weights = (evidence - evidence.amax(dim=-1, keepdim=True)).exp()
        self.index[heads, at] = self.place[evidence.argmax(dim=-1)]
        self.frac[heads, at] = weights.masked_fill(evidence < bound, 0).sum(dim=-1) / weights.sum(dim=-1)
