"""Logits of selected rows, some heads and some rows at a time, each row whole: no more than fits beside the model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from rampipe.attention.logits import as_factor, scaled_logits
from rampipe.attention.rows import KeyLayout
from rampipe.attention.statistics import RowRead

BLOCK_LOGITS = {"cpu": 2**20, "cuda": 2**26}
"""Logits of a block: what caches of a core hold, or what keeps a GPU busy. Statistics take as much again."""

LEAST_EXPONENT = -80.0
"""Smaller exponents are raised to it before `exp`, which is many times slower where its result is below the normal
float32 numbers; what they add, 2e-35 of the largest share, is lost in rounding anyway."""

NOTHING = 1e-30
"""Sums of shares below it are 0: those of keys that a mask hides."""


def logit_blocks(
    reads: Sequence[RowRead], layout: KeyLayout
) -> Iterator[tuple[slice, slice, Float[Tensor, "head row key"]]]:
    """(heads, rows, logits) over the keys of `layout`, soft-capped and masked, float32; the caller may overwrite them.

    reads: with the same layout and shapes, such as layers of one model; heads count through all of them.
    """
    first = reads[0]
    query = torch.cat([read.query for read in reads])
    key = torch.cat([read.key.index_select(1, layout.order) for read in reads])
    num_kv_heads, group, num_rows, _ = query.shape
    num_logits, most = group * max(1, len(layout.order)), BLOCK_LOGITS.get(query.device.type, 2**20)
    for kv_heads in _slices(num_kv_heads, most // (num_logits * num_rows)):
        keys = as_factor(key[kv_heads])
        heads = slice(kv_heads.start * group, kv_heads.stop * group)
        for rows in _slices(num_rows, most // num_logits):
            queries = as_factor(query[kv_heads, :, rows].flatten(1, 2))
            logits = scaled_logits(queries, keys, scaling=first.scaling, holds_bfloat16=key.dtype == torch.bfloat16)
            logits = logits.view(heads.stop - heads.start, rows.stop - rows.start, len(layout.order))
            if first.softcap is not None:
                logits.div_(first.softcap).tanh_().mul_(first.softcap)
            if layout.bias is not None:
                logits[..., layout.bias_start :] += _bias_of(layout.bias, heads, first.num_heads)[:, rows]
            yield heads, rows, logits


def _bias_of(bias: Tensor, heads: slice, num_heads: int) -> Tensor:
    """Of these heads, which count through several layers."""
    return bias[torch.arange(heads.start, heads.stop) % num_heads] if len(bias) > 1 else bias


def _slices(count: int, size: int) -> list[slice]:
    """0 to `count` in pieces of `size`, of 1 at least."""
    return [slice(start, min(start + max(1, size), count)) for start in range(0, count, max(1, size))]
