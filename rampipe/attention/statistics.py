"""What a backend of the second pass reads, and what it gives: exact softmax statistics of selected query rows."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from jaxtyping import Bool, Float, Int
from torch import Tensor

from rampipe.attention.call import AttentionCall
from rampipe.attention.key_layout import lay_out_keys
from rampipe.attention.rows import KeyLayout, SampleRows


@dataclass(frozen=True)
class LayerStatistics:
    """What each head of one layer attends to, per selected row; float32, on the layer's device.

    mass: share of attention per region, in the order of REGIONS; sums to 1. A region without keys has mass 0: whether
    that is a measurement or an absence (a prompt without evidence) is for the caller to say.
    peak_evidence: largest share on one evidence key. hit: the largest share of all keys is on evidence; a tie with
    another key is no hit, so a head that attends uniformly never hits.
    entropy_nats: minus the sum of p ln p over the keys; p is not renormalised when a learned sink takes a share.
    hit and entropy_nats are None where the backend does not touch every key.
    evidence_index, mass_evidence_top: of the rows that `QueryRows.tops` names, see `evidence_tops`; -1 and NaN for
    others, None where it names none.
    A row that sees no key at all is NaN.
    """

    mass: Float[Tensor, "head row region"]
    peak_evidence: Float[Tensor, "head row"]
    hit: Bool[Tensor, "head row"] | None
    entropy_nats: Float[Tensor, "head row"] | None
    evidence_index: Int[Tensor, "head row"] | None = None
    mass_evidence_top: Float[Tensor, "head row"] | None = None

    def at(self, heads: slice, rows: Int[Tensor, " row"] | slice = slice(None)) -> LayerStatistics:
        """Those of some heads and rows."""
        values: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        values = {name: None if value is None else value[heads, rows] for name, value in values.items()}
        return LayerStatistics(**values)


@dataclass(frozen=True, slots=True, eq=False)
class RowRead:
    """Rows of one sample in one layer, with all that their statistics depend on: they can be computed at any time.

    query: the query heads of one kv_head stand beside each other, so no key is repeated. key: all of the sequence.
    log_total: of the kernel, where it was asked for.
    """

    sample: SampleRows
    query: Float[Tensor, "kv_head group row dim"]
    key: Float[Tensor, "kv_head key dim"]
    layout: KeyLayout
    scaling: float
    softcap: float | None
    sinks: Float[Tensor, " head"] | None
    log_total: Float[Tensor, "head row"] | None

    @property
    def num_heads(self) -> int:
        """Query heads."""
        return self.query.shape[0] * self.query.shape[1]

    @property
    def num_rows(self) -> int:
        """Rows of the sample."""
        return self.query.shape[2]


def read_rows(call: AttentionCall, sample: SampleRows) -> RowRead:
    """Raises SampleError when a row or the keys lie outside of this call."""
    layout = lay_out_keys(call, sample)
    at = sample.position.to(call.query.device) if sample.run is None else sample.run
    # index_select would copy all of a query that is a transposed view.
    rows = call.query[sample.batch][:, at].contiguous()
    return RowRead(
        sample=sample,
        query=rows.view(call.key.shape[1], -1, *rows.shape[1:]),
        key=call.key[sample.batch],
        layout=layout,
        scaling=call.scaling,
        softcap=call.softcap,
        sinks=call.sinks,
        log_total=None if call.log_total is None else call.log_total[sample.batch][:, at],
    )
